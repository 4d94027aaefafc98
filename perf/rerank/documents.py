"""What is ranked: a query with documents, and what comes back."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Pairs = Sequence[Sequence[str]]
"""(query, document), the query the same in all; JSON makes lists of them."""

QUERY = "how do I read a file line by line and close it when an error happens?"
MAX_TOKENS = 256
_SENTENCES = (1, 8)


def parts(pairs: Pairs) -> tuple[str, list[str]]:
    """The query, and the documents."""
    return pairs[0][0], [document for _, document in pairs]


def scores(ranked: Iterable[tuple[int, float]]) -> np.ndarray:
    """[N] float32, of (place among those given, score) in any order."""
    return np.array([score for _, score in sorted((int(index), float(score)) for index, score in ranked)], np.float32)


def unlike(tokenizer: Tokenizer, count: int, seed: int = 0) -> list[str]:
    """Documents of one to eight sentences each, cut at MAX_TOKENS tokens."""
    from perf.texts import cut, sentences, take

    chance = random.Random(seed)
    sizes = [chance.randint(*_SENTENCES) for _ in range(count)]
    source = iter(take(sentences(seed), sum(sizes)))
    return cut([" ".join(next(source) for _ in range(size)) for size in sizes], tokenizer, MAX_TOKENS)


def alike(tokenizer: Tokenizer, documents: Sequence[str]) -> list[str]:
    """As many, each of their mean length in tokens."""
    from perf.texts import texts_of_length, token_counts

    return texts_of_length(tokenizer, round(float(np.mean(token_counts(documents, tokenizer)))), len(documents))
