"""Compares an exported tokenizer with transformers' AutoTokenizer of the same checkpoint, on odd texts."""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import Encoding, Tokenizer

from export.errors import ExportError

_ODD = (
    "",
    " \t\r\n ",
    "The quick brown FOX jumped over 13 lazy dogs, didn't it? E-mail: a.b@example.org #1 $2.50 50% C++",
    "café naïve Ünïcödé ﬁne ÅNGSTRÖM crème brûlée İstanbul ıI ß ẞ Ǆ ŉ",
    "e\u0301 a\u0308 combining \u0301 alone, Straße, ΟΔΟΣ ΛΟΓΟΣ Σας ς σ, Приве́т МИР ё",
    "中文字 mixed中with國latin 日本語カタカナひらがな 한국어 ｆｕｌｌ width 𠀀𪚥 、。！？",
    "हिन्दी ไทย عربي العَرَبِيَّة עברית தமிழ் ქართული ᏣᎳᎩ",
    "control\x00\x01\x1fchars\x7f\ufffd and\u200bzero\u200dwidth\ufeff no\xa0break\u2028line\u2029par\u3000wide\u00ad",
    "emoji 🙂🥱🥰 👩\u200d👩\u200d👧 🇩🇪 ❤\ufe0f ☃ 10² ½ Ⅷ ﷺ ™ € ₿",
    "x" * 100 + " " + "y" * 101 + " " + "ab" * 500 + " " + "1" * 300,
    "punct!?...-_'\"()[]{}<>@#$%^&*+=|\\/~` «»…“”—–· a/b a_b a-b",
    "1 12 123 1234 3.14 1,000,000 2026-11-25 0x1F 1e-5 ١٢٣ 四五",
    "[CLS] [SEP] [MASK] [UNK] [PAD] [cls] [Mask] [ MASK ] x[SEP]y <s> </s> <mask> <pad> <unk> <|endoftext|>",
)
_CHARACTERS = 48  # in a text that walks through Unicode
_WALKS = ((0x20, 0x2E80), (0x3000, 0x3400), (0xA700, 0xAC00), (0xF900, 0x10000), (0x1F300, 0x1FB00))
_WORDS = 24  # in a text made of the vocabulary
_FROM_VOCABULARY = 1200  # tokens, spread evenly
_OWN_TOKENS = 48  # added tokens at most, special ones among them, that are tried one by one


class _Row(NamedTuple):
    ids: list[int]
    type_ids: list[int]
    special: list[int]


def compare(folder: Path, ours: Tokenizer, theirs: Any, max_seq_len: int, truncation_side: str = "right") -> None:
    """Encode some hundred texts and pairs with both, cut as a server and as sentence-transformers cut them.

    Args:
        folder: The checkpoint, for the message.
        ours: What will be served; its truncation is changed.
        theirs: AutoTokenizer of the checkpoint; it cuts at its model_max_length.
        max_seq_len: Where the server cuts, in tokens.
        truncation_side: Where a text that is too long loses tokens.

    Raises:
        ExportError: ids, token types or special tokens differ.
    """
    texts, pairs = odd_inputs(ours, max_seq_len)
    ours.enable_truncation(max_seq_len, direction=truncation_side)
    inputs: list[Any] = [*texts, *pairs]
    expected = [*_their_rows(theirs(texts, truncation=True, return_special_tokens_mask=True))]
    if pairs:
        first, second = map(list, zip(*pairs, strict=True))
        expected += _their_rows(theirs(first, second, truncation=True, return_special_tokens_mask=True))
    for text, encoding, row in zip(inputs, ours.encode_batch(inputs), expected, strict=True):
        found = _Row(encoding.ids, encoding.type_ids, encoding.special_tokens_mask)
        if found != row:
            raise ExportError(f"{folder}: {_difference(text, encoding, found, row, theirs)}")


def odd_inputs(tokenizer: Tokenizer, max_seq_len: int) -> tuple[list[str], list[tuple[str, str]]]:
    """Some hundred texts, two of which are blank, and pairs of them; some are longer than `max_seq_len` tokens.

    Args:
        tokenizer: Without truncation.
        max_seq_len: Where they will be cut, in tokens.
    """
    texts = list(dict.fromkeys(_texts(tokenizer, max_seq_len)))
    # Each text of a pair has a token.
    if max_seq_len < tokenizer.num_special_tokens_to_add(is_pair=True) + 2:
        return texts, []
    # The library cuts both texts of a pair into parts, and makes a row of every two of them.
    most = 2 * max_seq_len
    unframed = tokenizer.encode_batch(texts, add_special_tokens=False)
    short = [_some_tokens(*one, most) for one in zip(texts, unframed, strict=True)]
    return texts, [*zip(short[2::3], short[3::3], strict=False), (short[-1], short[-1])]


def _some_tokens(text: str, encoding: Encoding, most: int) -> str:
    """The first tokens of a text, or the last ones where those are blank."""
    if len(encoding) <= most:
        return text
    start = text[: encoding.offsets[most - 1][1]]
    return start if start.strip() else text[encoding.offsets[-most][0] :]


def _texts(tokenizer: Tokenizer, max_seq_len: int) -> Iterable[str]:
    yield from _ODD
    yield from (text.upper() for text in _ODD)
    for first, last in _WALKS:
        for start in range(first, last, _CHARACTERS):
            yield " ".join(map(chr, range(start, min(start + _CHARACTERS, last)))) + " end"
    for token in islice(dict.fromkeys(t.content for t in tokenizer.get_added_tokens_decoder().values()), _OWN_TOKENS):
        yield f"a {token} b"
        yield f"The{token}fox {token.upper()} {token.lower()} {token}{token}s"
    vocabulary = [token for token, _ in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])]
    chosen = vocabulary[:: max(1, len(vocabulary) // _FROM_VOCABULARY)]
    for start in range(0, len(chosen), _WORDS):
        words = chosen[start : start + _WORDS]
        yield " ".join(words)
        yield "".join(word.removeprefix("##").removeprefix("▁").title() for word in words)
    # Longer than any limit, and no two places in it are alike.
    yield " ".join(f"{number} {chosen[number % len(chosen)]}" for number in range(max_seq_len + 2))


def _their_rows(batch: Any) -> Iterable[_Row]:
    # The network takes 0 where there are no token types.
    types = batch.get("token_type_ids") or [[0] * len(ids) for ids in batch["input_ids"]]
    return map(_Row, batch["input_ids"], types, batch["special_tokens_mask"])


def _difference(text: Any, encoding: Encoding, found: _Row, expected: _Row, theirs: Any) -> str:
    if found.ids == expected.ids:
        name, here, there = "token types", found.type_ids, expected.type_ids
        if here == there:
            name, here, there = "special tokens", found.special, expected.special
        return f"the {name} of {_short(text)} are {_short(here)} as exported and {_short(there)} in transformers"
    at = next(
        (i for i, (a, b) in enumerate(zip(found.ids, expected.ids, strict=False)) if a != b),
        min(len(found.ids), len(expected.ids)),
    )
    start = max(0, at - 2)
    tokens, wanted = encoding.tokens, theirs.convert_ids_to_tokens(expected.ids)
    return (
        f"{_short(text)} becomes {len(tokens)} tokens as exported and {len(wanted)} in transformers (AutoTokenizer); "
        f"from token {start} on, {_short(tokens[start : at + 4])} and {_short(wanted[start : at + 4])}"
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:120]}..."
