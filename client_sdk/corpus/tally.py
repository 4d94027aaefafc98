"""What all workers of a job have done, counted in one place."""

from __future__ import annotations

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


class _Counting:
    def __init__(self) -> None:
        self._counts = Counts()
        self._failure: ClientError | None = None

    def __getstate__(self) -> dict[str, Any]:
        """By the actor's name: one that holds a reference could not be handed to a worker that is started again."""
        return {name: value for name, value in vars(self).items() if name != "_counter"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _counter=ray.get_actor(state["_name"]))

    def add(self, counts: Counts) -> Counts:
        self._counts += counts
        return self._counts

    def counts(self) -> Counts:
        return self._counts

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

    def add(self, counts: Counts) -> None:
        """Count what a worker has done. Raises TooManyErrors."""
        total: Counts = ray.get(self._counter.add.remote(counts))
        refused = self._refused + total.refused
        if self._max_errors is not None and refused > self._max_errors:
            raise TooManyErrors(
                f"{refused:,} rows cannot be encoded, and --max-errors allows {self._max_errors:,}; errors/ says which "
                "and why, of those in files that are whole"
            )

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

    def counts(self) -> Counts:
        """So far, of this run."""
        found: Counts = ray.get(self._counter.counts.remote())
        return found
