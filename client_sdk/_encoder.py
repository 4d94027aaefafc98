"""Vectors for the batches of other engines: Ray Data, Hugging Face datasets, Dask, pandas, polars, pyarrow."""

from __future__ import annotations

from collections.abc import Sized
from typing import Any, TypeVar

from client_sdk._call.argument_names import as_in
from client_sdk._client import Client
from client_sdk._errors import InvalidArgument, InvalidType
from client_sdk._frames import column as column_of
from client_sdk._frames import with_vectors
from client_sdk._one_model import EncoderOptions, OneModel
from client_sdk._reconnecting import Reconnecting
from client_sdk._transport.address import Url
from client_sdk._typing import Unpack

B = TypeVar("B")


class Encoder(Reconnecting):
    """Adds a column of vectors to batches of rows, wherever an engine runs it.

    An instance is a function from a batch to a batch, for `map_batches` of Ray Data, `Dataset.map(batched=True)` of
    Hugging Face, `map_partitions` of Dask, `map_batches` of polars, or for frames and tables by hand. It is pickled by
    its settings, its key and headers included, and connects anew where it lands. Threads may share one.

    All vectors of an Encoder are of one model: that which answered its first batch, or that of `identity`. It is
    pickled with it. Encoders that start without it, each in a worker of its own, take whichever model they find: give
    `identity`, and a corpus that several workers fill, or one that is gone on with, is of one model.

    Args:
        url: As in `Client`: one server or several.
        model: As in `Client`.
        column: The name of the column of texts.
        output: The name of the column of vectors; one of that name is replaced.
        identity: Of the model that is to answer, see `ModelInfo.identity`. Default: whichever answers first.
        input_type: `query` or `document`: the model's prompt for it is put before each text, as `encode_query` and
            `encode_document` do. Default: as `encode`.
        **options: The others of `Client` and those of `Client.encode`, but that `priority` is `bulk` by default, and
            `timeout` is that of a batch.

    Raises:
        InvalidArgument: An option that is not allowed.
        InvalidType: An option of the wrong type, or one that is not known.
    """

    @as_in(Client, Client.encode)
    def __init__(
        self,
        url: Url | None = None,
        model: str | None = None,
        *,
        column: str = "text",
        output: str = "vector",
        identity: str | None = None,
        input_type: str | None = None,
        **options: Unpack[EncoderOptions],
    ) -> None:
        self.column = _name("column", column)
        self.output = _name("output", output)
        given = {**options, "input_type": input_type}
        if given.get("priority") is None:
            given["priority"] = "bulk"
        self._vectors = OneModel("Encoder", url, model, identity, given)

    @property
    def identity(self) -> str | None:
        """Of the model whose vectors it gives: None before the first batch, empty if an older export has none."""
        return self._vectors.identity

    def __call__(self, batch: B) -> B:
        """Add a vector for each row's text; rows keep their order.

        Args:
            batch: A mapping of columns (lists or arrays), a DataFrame of pandas or polars, a Table or RecordBatch of
                pyarrow. It may be empty: one text is then encoded, if none has been, to learn how long vectors are.

        Returns:
            The same kind of thing with the column `output`: of a mapping [N, D] float32 (or what `precision` says),
            of pandas arrays [D], of polars Array(D), of pyarrow FixedSizeList[D]. Data of other columns is shared.

        Raises:
            InvalidArgument: A text that cannot be encoded, such as a missing or a blank one; `text_index` is its row.
                Or there is no such column, or several of its name or of that of `output`.
            InvalidType: No batch, or what is no text in it.
            VersionChanged: The model is not the one of the batches before.
            ClientError: What `Client.encode` raises.
        """
        texts = column_of(batch, self.column, self.output)
        if isinstance(texts, str) or not isinstance(texts, Sized) or getattr(texts, "ndim", 1) == 0:
            raise InvalidType(
                f"column {self.column!r} is {type(texts).__name__}, as in one row, and a batch has a list or an array "
                "there: give whole batches, as map_batches() and map(..., batched=True) do"
            )
        try:
            # What has a length is a collection; whether it is one of texts, encode says.
            vectors = self._vectors.encode(texts) if len(texts) else self._vectors.no_vectors()  # type: ignore[arg-type]
        except InvalidArgument as error:
            raise _of_row(error, self.column) from None
        return with_vectors(batch, self.output, vectors)

    def __repr__(self) -> str:
        """Addresses and model."""
        return repr(self._vectors)


def _name(argument: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidType(f"{argument} must be a str, not {type(value).__name__}")
    if not value:
        raise InvalidArgument(f"{argument} is empty")
    return value


def _of_row(error: InvalidArgument, column: str) -> InvalidArgument:
    """An error about a text as one about a row; another as it is."""
    if error.text_index is None:
        return error
    found = type(error)(f"row {error.text_index} of column {column!r}{error.reason}")
    found.text_index, found.reason = error.text_index, error.reason
    return found
