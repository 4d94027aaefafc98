"""What the encoder works on: jobs, which are requests that have been read, and their rows."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

# Outputs of which a row has as many numbers as there are, and what stands behind them where another row has more.
RAGGED = {"indices": np.full(1, -1, np.int32), "weights": np.zeros(1, np.float32)}

# Outputs that have something for each token.
OF_TOKENS = {"token_embeddings", "token_vectors", "token_weights"}

INPUTS = ("input_ids", "attention_mask", "token_type_ids", "pooling_mask")

Ids = npt.NDArray[np.int32]
Vectors = npt.NDArray[np.float32]


class Refused(Exception):
    """Why a request is not served, for the one who sent it; `code` names one of Triton's error codes."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class Job:
    """A request that has been read.

    Its rows are computed in slices, by several threads. Each is crossed off `uncomputed` when its result is in the
    outputs, and is counted down from `missing` once, whatever happened to it: the job is then answered, with its
    outputs if nothing is uncomputed, else with `failure`.
    """

    def __init__(
        self,
        inputs: Ids,
        shapes: dict[str, tuple[int, ...]],
        *,
        request: Any = None,
        bulk: bool | None = None,
        patience: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.inputs = inputs  # INT32 [4, N, S], in the order of INPUTS
        self.shapes = shapes  # of the outputs that are asked for, by name
        self.request = request  # Triton's
        self.bulk = bulk  # whether the others go first; None: if it is long
        self.patience = patience  # seconds that it may wait for its first row to be computed
        mask = inputs[INPUTS.index("attention_mask")]
        self.lengths: list[int] = (mask * np.arange(1, mask.shape[1] + 1)).max(axis=1, initial=0).tolist()
        self.uncomputed = {index for index, length in enumerate(self.lengths) if length}
        self.missing = len(self.uncomputed)
        # Of the outputs; where they grow, `Backlog.settle` says so when they are whole.
        self.bytes = sum(4 * int(np.prod(shape)) for shape in shapes.values())
        self.outputs: dict[str, npt.NDArray[Any]] = {}  # none until `make_outputs`
        self.failure: BaseException | None = None
        self.lock = threading.Lock()
        self.arrived = clock()
        self.started = False

    @property
    def deadline(self) -> float:
        """When its patience ends, by the clock that it came by."""
        return self.arrived + self.patience

    @property
    def size(self) -> int:
        """Of the outputs as they are, in bytes."""
        return sum(output.nbytes for output in self.outputs.values()) or self.bytes

    @property
    def wants_tokens(self) -> bool:
        """Whether something is asked for of each token."""
        return not OF_TOKENS.isdisjoint(self.shapes)

    def rows(self) -> list[Row]:
        """Those to compute, in order; not kept, since each holds its job, and both would wait for the collector."""
        return [Row(self, index, self.lengths[index]) for index in sorted(self.uncomputed)]

    def make_outputs(self) -> None:
        """Make the outputs, zero until rows are put into them; late, since many jobs may wait."""
        with self.lock:  # its rows may be in several slices
            if not self.outputs:
                self.outputs = {
                    name: np.zeros(shape, np.float32) if name not in RAGGED else np.tile(RAGGED[name], shape)
                    for name, shape in self.shapes.items()
                }

    def put(self, name: str, index: int, values: npt.NDArray[Any]) -> None:
        """Put a row's numbers into one of the outputs that grow with the longest of their rows."""
        with self.lock:
            output = self.outputs[name]
            missing = len(values) - output.shape[1]
            if missing > 0:
                behind = np.tile(RAGGED[name], (len(output), missing))
                output = self.outputs[name] = np.concatenate([output, behind], axis=1)
            output[index, : len(values)] = values


class Row(NamedTuple):
    """One row that holds a token."""

    job: Job
    index: int  # type: ignore[assignment]  # not the method of a tuple
    length: int  # without the padding on its right

    @property
    def inputs(self) -> Ids:
        """What the row has in each of INPUTS: INT32 [4, length]."""
        return self.job.inputs[:, self.index, : self.length]
