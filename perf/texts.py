"""The texts that everything is measured with: real sentences, in an order that never changes, cut at N tokens."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import cycle, islice
from pathlib import Path

from tokenizers import Tokenizer

from export.sentences import docstring_sentences
from perf.failure import Failure

MAX_TOKENS = 128
"""Where texts are cut unless a command says otherwise, special tokens included."""

_CHUNK = 1024  # texts tokenized at a time: an encoding holds far more than its ids


def sentences(seed: int = 0) -> list[str]:
    """The sentences of the standard library's docstrings, shuffled; the same list for the same seed and Python."""
    shuffled = list(_in_order())
    random.Random(seed).shuffle(shuffled)
    return shuffled


def load_tokenizer(repository: Path, model: str = "bert") -> Tokenizer:
    """The tokenizer of an exported family, without padding or truncation.

    Raises:
        Failure: the repository does not hold the family.
    """
    path = repository / f"{model}_tokenizer/1/tokenizer.json"
    if not path.is_file():
        raise Failure(
            f"{path} is missing: export the family {model!r} (python -m export CHECKPOINT --name {model}), "
            "or say where it is with --repository"
        )
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def benchmark_texts(tokenizer: Tokenizer, max_tokens: int = MAX_TOKENS, seed: int = 0) -> list[str]:
    """All sentences, shuffled, each cut at `max_tokens` tokens, special tokens included."""
    return cut(sentences(seed), tokenizer, max_tokens)


def cut(texts: Sequence[str], tokenizer: Tokenizer, max_tokens: int) -> list[str]:
    """Shortens the texts that have more than `max_tokens` tokens; the others are returned as they are.

    The text itself is cut, so that systems whose own limits differ are given the same work.
    """
    result = []
    for start in range(0, len(texts), _CHUNK):
        chunk = texts[start : start + _CHUNK]
        for text, encoding in zip(chunk, tokenizer.encode_batch(chunk), strict=True):
            result.append(text if len(encoding.ids) <= max_tokens else _cut_one(text, encoding, tokenizer, max_tokens))
    return result


def token_counts(texts: Sequence[str], tokenizer: Tokenizer) -> list[int]:
    """Tokens of each text, special tokens included."""
    counts: list[int] = []
    for start in range(0, len(texts), _CHUNK):
        counts += [len(encoding.ids) for encoding in tokenizer.encode_batch(texts[start : start + _CHUNK])]
    return counts


def texts_of_length(tokenizer: Tokenizer, tokens: int, count: int, seed: int = 0) -> list[str]:
    """`count` different texts of exactly `tokens` tokens each: running text, the sentences one after the other."""
    source = sentences(seed)
    found: dict[str, None] = {}
    for text in _running(source, tokenizer, tokens):
        shortened = cut([text], tokenizer, tokens)[0]
        if len(tokenizer.encode(shortened).ids) == tokens:
            found[shortened] = None
            if len(found) == count:
                break
    return list(islice(cycle(found), count))


def take(texts: Sequence[str], count: int) -> list[str]:
    """The first `count` texts, from the beginning again where there are fewer."""
    return list(islice(cycle(texts), count))


def _cut_one(text: str, encoding: object, tokenizer: Tokenizer, max_tokens: int) -> str:
    ends = [
        end for (_, end), special in zip(encoding.offsets, encoding.special_tokens_mask, strict=True) if not special
    ]  # type: ignore[attr-defined]
    kept = max_tokens - tokenizer.num_special_tokens_to_add(False)
    while kept > 0:
        shortened = text[: ends[kept - 1]]
        # A word cut in two may fall into more tokens than it had.
        if len(tokenizer.encode(shortened).ids) <= max_tokens:
            return shortened
        kept -= 1
    raise Failure(f"max_tokens is {max_tokens}: a text of one token does not fit beside the special tokens")


def _running(source: Sequence[str], tokenizer: Tokenizer, tokens: int) -> Iterator[str]:
    """Texts of at least `tokens` tokens, made of whole sentences, each of which is used once."""
    special = tokenizer.num_special_tokens_to_add(False)
    parts: list[str] = []
    total = 0
    for start in range(0, len(source), _CHUNK):
        chunk = source[start : start + _CHUNK]
        for sentence, count in zip(chunk, token_counts(chunk, tokenizer), strict=True):
            parts.append(sentence)
            total += count - special
            if total >= tokens:
                yield " ".join(parts)
                parts, total = [], 0


@cache
def _in_order() -> tuple[str, ...]:
    return tuple(docstring_sentences())
