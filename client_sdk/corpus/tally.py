"""What all workers of a job have done, counted in one place."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import ray

from client_sdk._errors import ClientError, InvalidArgument


class TooManyErrors(InvalidArgument):
    """More rows cannot be encoded than the job was told to put up with."""


@dataclass(frozen=True)
class Counts:
    """Of rows that have been read."""

    texts: int = 0
    refused: int = 0
    tokens: int = 0
    cut: int = 0
    servers: Counter[str] = field(default_factory=Counter)
    """Texts that each of several servers has answered."""

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(one + another for one, another in zip(vars(self).values(), vars(other).values(), strict=True)))


@dataclass(frozen=True)
class Standing:
    """How far a run is."""

    counts: Counts
    """Of blocks that are done, and the texts of others that have been answered."""
    seconds: float
    """Since the first block was begun; 0 before."""


class _Counting:
    def __init__(self) -> None:
        self._counts = Counts()
        self._under_way: dict[int, int] = {}
        self._since: float | None = None
        self._failure: ClientError | None = None

    def under_way(self, block: int, texts: int) -> None:
        self._since = self._since or time.monotonic()
        self._under_way[block] = texts

    def add(self, counts: Counts, block: int) -> Counts:
        self._under_way.pop(block, None)
        self._counts += counts
        return self._counts

    def standing(self) -> Standing:
        seconds = 0.0 if self._since is None else time.monotonic() - self._since
        return Standing(self._counts + Counts(texts=sum(self._under_way.values())), seconds)

    def fail(self, error: ClientError) -> None:
        self._failure = self._failure or error

    def failure(self) -> ClientError | None:
        return self._failure


class Tally:
    """A counter that lives in an actor; workers and the driver hold it.

    Args:
        refused: Rows that earlier runs of the job could not encode.
        max_errors: How many may be refused; None: any number.
    """

    def __init__(self, refused: int, max_errors: int | None) -> None:
        self._name = f"corpus-{uuid.uuid4().hex}"
        self._counter: Any = ray.remote(num_cpus=0)(_Counting).options(name=self._name).remote()
        self._refused = refused
        self._max_errors = max_errors

    def __getstate__(self) -> dict[str, Any]:
        """By the actor's name: one that holds a reference could not be handed to a worker that is started again."""
        return {name: value for name, value in vars(self).items() if name != "_counter"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _counter=ray.get_actor(state["_name"]))

    def under_way(self, block: int, texts: int) -> None:
        """So many of a block's texts have been answered, whoever has begun it before; nobody waits for this.

        Args:
            block: The key of its first row.
            texts: Of those that it has.
        """
        self._counter.under_way.remote(block, texts)

    def add(self, counts: Counts, block: int, example: str = "") -> None:
        """Count a block that is done, of whose refused rows there is an example. Raises TooManyErrors."""
        total: Counts = ray.get(self._counter.add.remote(counts, block))
        refused = self._refused + total.refused
        if self._max_errors is not None and refused > self._max_errors:
            said = f"{refused:,} rows cannot be encoded, and --max-errors allows {self._max_errors:,}"
            said += f": {example}" if example else ""
            raise TooManyErrors(f"{said}; errors/ says which and why, of those in files that are whole")

    def fail(self, error: ClientError) -> None:
        """Say why the job ends: Ray gives the driver the words of an error, and not the error."""
        ray.get(self._counter.fail.remote(error))

    def failure(self) -> ClientError | None:
        """Why, if a worker has said so."""
        found: ClientError | None = ray.get(self._counter.failure.remote())
        return found

    def close(self) -> None:
        """End the actor, which is the driver's to do."""
        ray.kill(self._counter)

    def standing(self) -> Standing:
        """So far, of this run."""
        found: Standing = ray.get(self._counter.standing.remote())
        return found
