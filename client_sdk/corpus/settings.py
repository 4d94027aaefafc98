"""What a job is asked to do."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from types import NoneType
from typing import Any

import numpy as np

from client_sdk._call.options import VectorOptions, request_parameters
from client_sdk._call.precision import WITH_RANGES, Converter, converter
from client_sdk._checks import positive_int, seconds
from client_sdk._client import Client
from client_sdk._errors import InvalidArgument, InvalidType
from client_sdk._settings import Settings
from client_sdk._transport.connection import FilePath
from client_sdk.corpus.inputs import KEY, PROBLEM, TEXT, TOKENS

VECTOR = "vector"
"""The column of vectors in the output."""

_ROWS_PER_FILE = 16_384
_WORKERS_PER_SERVER = 2
_PATIENCE = 600.0
_ON_THE_WAY = (KEY, TEXT, PROBLEM, TOKENS)
_OWN = ("file", "row")
"""Columns that say where a row comes from, where there is no column of ids."""

_OPTIONS = (VectorOptions.__optional_keys__ | {"input_type"}) - {
    *("priority", "show_progress", "timeout"),  # a job has its own
    *("is_tokenized", "add_special_tokens"),  # a row has a text
}


@dataclass(frozen=True)
class CorpusSettings:
    """A job; the defaults are the command line's.

    Attributes:
        inputs: Files and folders of Parquet, JSON lines, CSV or text, local or as URI (`s3://`, `gs://`).
        output: The folder that vectors are written to, local or as URI.
        client: Of the servers and the family; each worker has one like it.
        text_column: Of the texts; a text file has one.
        id_column: Copied to the output; integers or strings. None: each row gets a number, with its file and row.
        columns: Further ones to copy to the output.
        options: Of `Client.encode` and, as `input_type`, what makes `encode_query` or `encode_document` of it; but none
            of `priority`, `show_progress`, `timeout`, `is_tokenized` and `add_special_tokens`.
        max_errors: The job stops when more rows than this cannot be encoded. None: it does not.
        rows_per_file: Rows of an output file at most, and what is lost of a kill by each worker.
        workers: Processes that talk to servers. None: two for each server.
        patience: Seconds that a worker waits for a server which is away, before the job fails.
        ray_address: Of a Ray cluster to run on. None: Ray runs within the process, on this machine.
    """

    inputs: Sequence[FilePath]
    output: FilePath
    client: Client | Settings = field(repr=False)
    text_column: str = "text"
    id_column: str | None = None
    columns: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    max_errors: int | None = None
    rows_per_file: int = _ROWS_PER_FILE
    workers: int | None = None
    patience: float = _PATIENCE
    ray_address: str | None = None

    def __post_init__(self) -> None:
        """Raise InvalidArgument for what can be seen to be wrong."""
        _check_list("inputs", self.inputs, (str, os.PathLike), "a str or a path")
        if not self.inputs:
            raise InvalidArgument("no input was given: name files or folders")
        _check("output", self.output, (str, os.PathLike), "a str or a path")
        _check("client", self.client, (Client, Settings), "a Client")
        _check("text_column", self.text_column, str, "a str")
        _check("id_column", self.id_column, (str, NoneType), "a str or None")
        _check_list("columns", self.columns, str, "a str")
        _check("options", self.options, Mapping, "a mapping")
        if unknown := [name for name in self.options if name not in _OPTIONS]:
            raise InvalidType(f"a corpus has no option {unknown[0]!r}; it has {', '.join(sorted(_OPTIONS))}")
        for name in ("batch_size", "model_version"):
            if self.options.get(name) is not None:
                positive_int(name, self.options[name])
        positive_int("rows_per_file", self.rows_per_file)
        if self.workers is not None:
            positive_int("workers", self.workers)
        _check("max_errors", self.max_errors, (Integral, NoneType), "an int or None")
        if self.max_errors is not None and self.max_errors < 0:
            raise InvalidArgument(f"max_errors must be at least 0, not {self.max_errors}")
        seconds("patience", self.patience)
        kept = [*([] if self.id_column is None else [self.id_column]), *self.columns]
        reserved = {VECTOR, *_ON_THE_WAY, *(("id", *_OWN) if self.id_column is None else ())}
        if taken := sorted(reserved & {*kept}):
            raise InvalidArgument(f"the output has a column {taken[0]!r} of its own: leave that of the input out")
        if doubled := sorted({name for name in kept if kept.count(name) > 1}):
            raise InvalidArgument(f"column {doubled[0]!r} is asked for twice")
        self.parameters()
        self.converter()

    @property
    def servers(self) -> Settings:
        """How they are reached, and the family."""
        return self.client._session.settings if isinstance(self.client, Client) else self.client

    @property
    def kept(self) -> tuple[str, ...]:
        """The columns that are copied, the ids first."""
        return (*(() if self.id_column is None else (self.id_column,)), *self.columns)

    @property
    def id_name(self) -> str:
        """The output's column of ids."""
        return "id" if self.id_column is None else self.id_column

    @property
    def precision(self) -> str:
        """Of the vectors."""
        return str(self.options.get("precision") or "float32")

    @property
    def worker_count(self) -> int:
        """Processes that talk to servers."""
        return self.workers or _WORKERS_PER_SERVER * len(self.servers.connections)

    def parameters(self) -> dict[str, bool | int | str]:
        """What is asked of each text. Everybody else's texts go first."""
        rest = {name: value for name, value in self.options.items() if name not in ("precision", "ranges")}
        for name in ("batch_size", "model_version"):
            rest.pop(name, None)
        if not rest.get("prompt") is rest.get("prompt_name") is None:  # which takes the place of the input type's
            rest.pop("input_type", None)
        return request_parameters(**rest, priority="bulk")

    def converter(self) -> Converter:
        """What makes vectors of the precision that is asked for."""
        return converter(self.precision, self.options.get("ranges"), learns=True)

    @property
    def needs_ranges(self) -> bool:
        """Whether those that the export has measured are to be asked for."""
        return self.precision in WITH_RANGES and self.options.get("ranges") is None

    def fingerprint(self, identity: str) -> dict[str, Any]:
        """All that decides about vectors and rows: rows of another are not put beside those of this one."""
        ranges = self.options.get("ranges")
        return {
            "identity": identity,
            "model": self.servers.model,
            "text_column": self.text_column,
            "id_column": self.id_column,
            "columns": list(self.columns),
            "precision": self.precision,
            "ranges": None if ranges is None else np.asarray(ranges, np.float32).tolist(),
            **{name: value for name, value in self.parameters().items() if name != "bulk"},
        }


def _check(name: str, value: Any, allowed: type | tuple[type, ...], said: str) -> None:
    if not isinstance(value, allowed):
        raise InvalidType(f"{name} must be {said}, not {type(value).__name__}")


def _check_list(name: str, value: Any, allowed: type | tuple[type, ...], said: str) -> None:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise InvalidType(f"{name} must be a list, also where there is one alone, not {type(value).__name__}")
    for index, item in enumerate(value):
        _check(f"{name}[{index}]", item, allowed, said)
