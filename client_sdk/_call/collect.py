"""Replies, put together in the caller's order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from client_sdk._errors import ServerError
from client_sdk._transport.base import Arrays

R = TypeVar("R")
S = TypeVar("S")
R_co = TypeVar("R_co", covariant=True)


class TokenVectors(NamedTuple):
    """One text's tokens and their vectors, T of each, special tokens included."""

    tokens: list[str]
    vectors: npt.NDArray[np.float32]
    """[T, D] float32."""


class Collector(Protocol, Generic[R_co]):
    """Takes replies in any order; then gives the result."""

    def take(self, positions: Sequence[int], reply: Arrays) -> None:
        """Keep the rows of a reply; row i belongs to the text at `positions[i]`."""
        ...

    def result(self) -> R_co:
        """Everything taken, in the caller's order."""
        ...

    def only(self) -> Any:
        """The one item of a call with a single text."""
        ...


class Rows:
    """Rows of one output, written straight into one array: [N, ...].

    With a known number of texts the array is made once; with a stream it grows by doubling, in place. What is kept of
    each reply is what `convert` makes of it. The first row is that of the text at `start`.
    """

    def __init__(
        self,
        output: str,
        dtype: npt.DTypeLike,
        count: int | None,
        convert: Callable[[npt.NDArray[Any]], npt.NDArray[Any]] | None = None,
        start: int = 0,
    ) -> None:
        self._output = output
        self._dtype = dtype
        self._count = count
        self._convert = convert
        self._start = start
        self._array: npt.NDArray[Any] | None = None
        self._end = 0

    def take(self, positions: Sequence[int], reply: Arrays) -> None:
        """Keep the rows of a reply."""
        rows = _expected(reply, self._output, len(positions))
        if rows.dtype.kind == "f":
            _check_finite(rows, positions)
        if self._convert is not None:
            rows = self._convert(rows)
        indices = [position - self._start for position in positions]
        end = max(indices) + 1
        if self._array is None:
            self._array = np.empty((self._count or end, *rows.shape[1:]), self._dtype)
        if rows.shape[1:] != self._array.shape[1:]:
            raise ServerError(
                f"{self._output} changed from {self._array.shape[1:]} to {rows.shape[1:]} values a text "
                "within one call: was the model replaced? Try again"
            )
        if end > len(self._array):
            # Nothing else refers to the memory; refcheck would count debuggers and profilers.
            self._array.resize((max(end, 2 * len(self._array)), *rows.shape[1:]), refcheck=False)
        self._array[indices] = rows
        self._end = max(self._end, end)

    def result(self) -> npt.NDArray[Any]:
        """[N, ...], in the caller's order."""
        assert self._array is not None, "there is no call without texts"
        if len(self._array) != self._end:
            self._array.resize((self._end, *self._array.shape[1:]), refcheck=False)
        return self._array

    def only(self) -> Any:
        """The row of a single text."""
        return self.result()[0]


class Counts(Rows):
    """Token counts: [N] int64."""

    def __init__(self, count: int | None) -> None:
        super().__init__("TOKEN_COUNT", np.int64, count)

    def result(self) -> npt.NDArray[np.int64]:
        """[N] int64, in the caller's order."""
        return super().result()[:, 0]

    def only(self) -> int:
        """The count of a single text."""
        return int(self.result()[0])


class TokenItems:
    """TokenVectors of each text, without padding.

    With `blank_unpooled`, vectors of tokens that are not pooled (`mask_cls_sep`) are zero.
    """

    def __init__(self, *, blank_unpooled: bool = False) -> None:
        self._blank_unpooled = blank_unpooled
        self._items: dict[int, TokenVectors] = {}

    def take(self, positions: Sequence[int], reply: Arrays) -> None:
        """Cut the texts of a reply out of their padding."""
        vectors = _expected(reply, "TOKEN_EMBEDDING", len(positions))
        if self._blank_unpooled:
            vectors = vectors * (_expected(reply, "POOLING_MASK", len(positions)) == 1)[:, :, np.newaxis].astype(
                np.float32
            )
        kept = _kept(reply, positions)
        found = _kept_rows(vectors, kept, positions)
        for position, tokens, rows in zip(positions, _tokens(reply, kept), found, strict=True):
            self._items[position] = TokenVectors(tokens, rows)

    def result(self) -> list[TokenVectors]:
        """One item a text, in the caller's order."""
        return _in_order(self._items)

    def only(self) -> TokenVectors:
        """The item of a single text."""
        return self._items[0]


class LateItems:
    """The vectors of each text's tokens that count in late interaction: [T, D]."""

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension
        self._items: dict[int, npt.NDArray[np.float32]] = {}

    def take(self, positions: Sequence[int], reply: Arrays) -> None:
        """Keep the rows of a reply."""
        self._items.update(zip(positions, read_late(reply, positions, self._dimension), strict=True))

    def result(self) -> list[npt.NDArray[np.float32]]:
        """One array a text, in the caller's order."""
        return _in_order(self._items)

    def only(self) -> npt.NDArray[np.float32]:
        """The array of a single text."""
        return self._items[0]


class TokenLists:
    """The tokens of each text, without padding, as the tokenizer's own model gives them."""

    def __init__(self) -> None:
        self._items: dict[int, list[str]] = {}

    def take(self, positions: Sequence[int], reply: Arrays) -> None:
        """Keep the tokens of a reply."""
        kept = _expected(reply, "attention_mask", len(positions)) == 1
        self._items.update(zip(positions, _tokens(reply, kept), strict=True))

    def result(self) -> list[list[str]]:
        """One list a text, in the caller's order."""
        return _in_order(self._items)

    def only(self) -> list[str]:
        """The tokens of a single text."""
        return self._items[0]


class Both(Generic[R, S]):
    """What two collectors make of the same replies, as a tuple."""

    def __init__(self, one: Collector[R], other: Collector[S]) -> None:
        self._one = one
        self._other = other

    def take(self, positions: Sequence[int], reply: Arrays) -> None:
        """Give the reply to both."""
        self._one.take(positions, reply)
        self._other.take(positions, reply)

    def result(self) -> tuple[R, S]:
        """Both results."""
        return self._one.result(), self._other.result()

    def only(self) -> Any:
        """Both items of a single text."""
        return self._one.only(), self._other.only()


def finite_rows(reply: Arrays, output: str, positions: Sequence[int]) -> npt.NDArray[Any]:
    """The rows of an output, which belong to the texts at `positions`. Raises ServerError if one is not finite."""
    rows = _expected(reply, output, len(positions))
    _check_finite(rows, positions)
    return rows


def read_late(reply: Arrays, positions: Sequence[int], dimension: int) -> list[npt.NDArray[np.float32]]:
    """The vectors of each text's tokens that count, of the texts at `positions`: [T, dimension] each.

    Raises:
        ServerError: They are no such vectors, or one is not finite.
    """
    vectors = _expected(reply, "TOKEN_EMBEDDING", len(positions))
    if vectors.shape[2:] != (dimension,):
        raise ServerError(f"expected TOKEN_EMBEDDING of {dimension} values a token, and found shape {vectors.shape}")
    return _kept_rows(vectors, _kept(reply, positions), positions)


def _kept(reply: Arrays, positions: Sequence[int]) -> npt.NDArray[np.bool_]:
    kept: npt.NDArray[np.bool_] = _expected(reply, "ATTENTION_MASK", len(positions)) == 1
    return kept


def _kept_rows(
    vectors: npt.NDArray[np.float32], kept: npt.NDArray[np.bool_], positions: Sequence[int]
) -> list[npt.NDArray[np.float32]]:
    """The vectors of each text that are kept: copies, so that the padded batch can go."""
    if not np.isfinite(vectors).all():  # of one that is cut off it would not matter
        _check_finite(np.where(kept[:, :, np.newaxis], vectors, 0.0), positions)
    return [row[real] for row, real in zip(vectors, kept, strict=True)]


def _check_finite(vectors: npt.NDArray[Any], positions: Sequence[int]) -> None:
    finite = np.isfinite(vectors)
    if not finite.all():
        row = int(np.argmin(finite.reshape(len(vectors), -1).all(axis=1)))
        raise ServerError(
            f"text {positions[row]}: the server answered a vector that is not finite (NaN or infinity), which means "
            "nothing: are the model's weights damaged, or its numbers too large for its precision?"
        )


def _tokens(reply: Arrays, kept: npt.NDArray[np.bool_]) -> list[list[str]]:
    tokens = _expected(reply, "TOKENS", len(kept))
    return [[token.decode() for token in row[real]] for row, real in zip(tokens, kept, strict=True)]


def _in_order(items: dict[int, R]) -> list[R]:
    return [items[position] for position in range(len(items))]


def _expected(reply: Arrays, output: str, rows: int) -> npt.NDArray[Any]:
    array = reply.get(output)
    if array is None or array.ndim < 2 or len(array) != rows:
        found = "nothing" if array is None else f"shape {array.shape}"
        raise ServerError(f"expected {output} with {rows} rows in the reply, and found {found}")
    return array
