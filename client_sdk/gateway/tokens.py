"""The tokens of texts, as a family's own tokenizer gives them, and the texts of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from client_sdk._call.collect import Rows
from client_sdk._call.kinds import AnswerKind
from client_sdk._transport.base import Arrays
from client_sdk.gateway.families import Target


class Token(NamedTuple):
    """One of a text.

    Attributes:
        id: In the family's vocabulary.
        text: As it is there.
        special: Whether it stands around a text, as [CLS] and [SEP] do.
    """

    id: int
    text: str
    special: bool


class TokenRow(NamedTuple):
    """A text's tokens, and how many there were before it was cut."""

    tokens: list[Token]
    counted: int


class _TokenRows:
    """Of requests in which special tokens are not pooled (`mask_cls_sep`)."""

    def __init__(self, max_seq_len: int) -> None:
        self._max_seq_len = max_seq_len
        self._rows: dict[int, TokenRow] = {}

    def take(self, positions: Sequence[int], reply: Arrays) -> None:
        """Keep the rows of a reply."""
        outputs = (reply[name] for name in ("input_ids", "TOKENS", "pooling_mask", "TOKEN_COUNT"))
        for position, ids, texts, mask, (count,) in zip(positions, *outputs, strict=True):
            length = min(int(count), self._max_seq_len)
            tokens = zip(ids[:length].tolist(), texts[:length], np.equal(mask[:length], 0).tolist(), strict=True)
            self._rows[position] = TokenRow([Token(one, text.decode(), mark) for one, text, mark in tokens], int(count))

    def result(self) -> list[TokenRow]:
        """In the caller's order."""
        return [self._rows[position] for position in range(len(self._rows))]

    def only(self) -> TokenRow:
        """That of a single text."""
        return self._rows[0]


async def tokens_of(target: Target, texts: Sequence[str], prompt_name: str | None = None) -> list[TokenRow]:
    """The tokens of each text, as far as the family reads it. Raises as `Target.answer`."""
    limit = target.family.info.max_seq_len
    kind = AnswerKind("_tokenizer", ("input_ids", "TOKENS", "pooling_mask", "TOKEN_COUNT"), lambda _: _TokenRows(limit))
    return await target.answer(kind, texts, {"mask_cls_sep": True, "prompt_name": prompt_name})


async def texts_of(target: Target, rows: Sequence[list[int]], skip_special_tokens: bool = True) -> list[str]:
    """The text that each row of the family's own token ids is read back as; none is cut. Raises as `Target.answer`."""
    name = "DECODED_TEXT"
    kind = AnswerKind("_tokenizer", (name,), lambda count: Rows(name, object, count))
    options = {"is_tokenized": True, "add_special_tokens": False, "truncate": False}
    found = await target.answer(kind, rows, {**options, "skip_special_tokens": skip_special_tokens})
    return [text.decode() for (text,) in found]
