"""What every system of the comparison is given, the same for all: texts, and how they are asked for."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer

from perf.compare.systems.system import LOADS
from perf.texts import cut, sentences, token_counts

BLOCK = 500
"""So many texts, from a multiple of it on, have the lengths of all of them, so that a part measures like the whole."""

_LATENCY_TEXTS = 100
_LOAD_TEXTS = {"16x1": 2000, "2x64": 4096}
_CHECKED = 192
_CHECKED_LONG = 64


@dataclass(frozen=True)
class Workload:
    """The texts of one comparison.

    Attributes:
        bulk: Of the bulk call, all different: a system that remembers, or computes equal texts once, gains nothing.
        calls: The calls of each other load, which clients send in turn.
        checked: What vectors are compared on: some of all lengths, and the longest.
        mean_tokens: Of the texts, special tokens included.
        longest: In tokens.
    """

    bulk: list[str]
    calls: dict[str, list[list[str]]]
    checked: list[str]
    mean_tokens: float
    longest: int


def workload(tokenizer: Tokenizer, count: int, max_tokens: int) -> Workload:
    """`count` real sentences, cut at `max_tokens` tokens."""
    texts = cut(distinct(sentences(), count), tokenizer, max_tokens)
    tokens = dict(zip(texts, token_counts(texts, tokenizer), strict=True))
    texts = balanced(texts, [tokens[text] for text in texts])
    by_length = sorted(texts, key=tokens.__getitem__)
    calls = {"1x1": [[text] for text in evenly(by_length, _LATENCY_TEXTS)]}
    for load, total in _LOAD_TEXTS.items():
        calls[load] = in_calls(texts[:total], LOADS[load][1])
    return Workload(
        bulk=texts,
        calls=calls,
        checked=list(dict.fromkeys(texts[:_CHECKED] + by_length[-_CHECKED_LONG:])),
        mean_tokens=sum(map(tokens.__getitem__, texts)) / len(texts),
        longest=tokens[by_length[-1]],
    )


def distinct(texts: Sequence[str], count: int) -> list[str]:
    """The first `count` of the texts; where there are too few, again with their words turned round by one, two, ..."""
    found = dict.fromkeys(texts[:count])
    turn = 0
    while len(found) < count:
        turn += 1
        for text in texts:
            words = text.split()
            at = turn % len(words)
            found.setdefault(" ".join(words[at:] + words[:at]))
            if len(found) == count:
                break
        if turn > count:
            raise ValueError(f"{count} different texts are wanted: too many for {len(texts)} texts")
    return list(found)


def balanced(texts: Sequence[str], tokens: Sequence[int], seed: int = 0) -> list[str]:
    """The texts in an order in which every BLOCK has the same mix of lengths, and no order within it."""
    chance = random.Random(seed)
    order = sorted(range(len(texts)), key=lambda index: tokens[index])
    count = max(1, len(texts) // BLOCK)
    blocks: list[list[int]] = [[] for _ in range(count)]
    for start in range(0, len(order), count):
        alike = order[start : start + count]
        # Where they do not suffice for all blocks, the first ones get them.
        places = chance.sample(range(len(alike)), len(alike))
        for place, index in zip(places, alike, strict=True):
            blocks[place].append(index)
    for block in blocks:
        chance.shuffle(block)
    return [texts[index] for block in blocks for index in block]


def evenly(texts: Sequence[str], count: int, seed: int = 0) -> list[str]:
    """`count` of the texts at even distances, or all, in any order."""
    count = min(count, len(texts))
    found = [texts[int((i + 0.5) * len(texts) / count)] for i in range(count)]
    random.Random(seed).shuffle(found)
    return found


def in_calls(texts: Sequence[str], size: int) -> list[list[str]]:
    """Calls of `size` texts; what is left over is left out, unless there is no more."""
    whole = max(size, len(texts) // size * size)
    return [list(texts[i : i + size]) for i in range(0, min(whole, len(texts)), size)]


def bulk_texts(rate: float, total: int, seconds: float) -> int:
    """How many texts a bulk call is given so that it takes about `seconds` at most: all, or a round number of them.

    Args:
        rate: Texts a second, about.
        total: All texts.
        seconds: Limit.
    """
    steps = [BLOCK * n for n in (1, 2, 4, 10, 20, 40, 100, 200)]
    return max((n for n in [*steps, total] if n <= min(total, rate * seconds)), default=min(BLOCK, total))
