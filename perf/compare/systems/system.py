"""What every system of the comparison is described by."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from perf.compare.systems.environment import Environment

LOADS = {"1x1": (1, 1), "16x1": (16, 1), "2x64": (2, 64)}
"""Of each load but the bulk call: how many clients, and how many texts in a call."""

BULK = "bulk"


@dataclass(frozen=True)
class Model:
    """A checkpoint, in the forms that the systems take.

    Attributes:
        name: Of it.
        checkpoint: A sentence-transformers folder.
        repository: The model repository that holds its export.
        family: Its name there.
        folder: Where systems keep what they make of it.
    """

    name: str
    checkpoint: Path
    repository: Path
    family: str
    folder: Path


@dataclass(frozen=True)
class Serving:
    """A system that is up.

    Attributes:
        config: For its client, see `worker`.
        pid: The process that all of its server's descend from; None if it computes in the client's process.
    """

    config: dict[str, Any]
    pid: int | None = None


class Peer(ABC):
    """One system: how it is set up and started. Its client is the class `Client` of the same module.

    Attributes:
        name: On the command line.
        title: In tables.
        settings: How it is run here, in words, for the results.
        loads: That it takes part in.
        environments: That it needs.
        contract: How its vectors are compared: "vectors" (the greatest difference) or "directions" (the cosine),
            where the peer does not scale them to length 1; in INT8 it is the cosine that is compared, and a lower one.
        precision: What it computes in, "fp32" or "int8": ratios are between systems of the same.
        variables: Of the environment of its client, beside those that all have.
        on_ids: Whether it is an engine that is fed ids made before the clock, to which ratios are not to be had.
    """

    name: str
    title: str
    settings: str
    loads: tuple[str, ...] = (*LOADS, BULK)
    environments: tuple[Environment, ...] = ()
    contract = "vectors"
    precision = "fp32"
    variables: Mapping[str, str] = MappingProxyType({})
    on_ids = False

    @property
    def client_python(self) -> Path:
        """The interpreter that its client runs in."""
        return Path(sys.executable)

    def prepare(self, model: Model) -> None:  # noqa: B027  (most need nothing)
        """Make what it needs of a checkpoint, once. Raises PeerAbsent."""

    @abstractmethod
    @contextmanager
    def serve(self, model: Model) -> Iterator[Serving]:
        """Start it, and stop it at the end of the block. Raises PeerAbsent."""


class InProcess(Peer):
    """A peer that computes in the process that asks."""

    @property
    def client_python(self) -> Path:
        """Its environment's."""
        return self.environments[0].python if self.environments else Path(sys.executable)

    @contextmanager
    def serve(self, model: Model) -> Iterator[Serving]:
        """Nothing to start: the client does it all."""
        yield Serving(self.config(model))

    @abstractmethod
    def config(self, model: Model) -> dict[str, Any]:
        """For the client."""
