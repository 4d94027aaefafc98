"""What the encoder works on: jobs, which are requests that have been read, and their rows."""

import threading
import time
from typing import NamedTuple

import numpy as np

INPUTS = ("input_ids", "attention_mask", "token_type_ids", "pooling_mask")


class Refused(Exception):
    """Why a request is not served, for the one who sent it; `code` names one of Triton's error codes."""

    def __init__(self, message, code):
        super().__init__(message)
        self.code = code


class Job:
    """A request that has been read.

    Its rows are computed in slices, by several threads. Each is crossed off `uncomputed` when its result is in the
    outputs, and is counted down from `missing` once, whatever happened to it: the job is then answered, with its
    outputs if nothing is uncomputed, else with `failure`.
    """

    def __init__(self, inputs, shapes, *, request=None, bulk=None, patience=30.0, clock=time.monotonic):
        self.inputs = inputs  # INT32 [4, N, S], in the order of INPUTS
        self.shapes = shapes  # of the outputs that are asked for, by name
        self.request = request
        self.bulk = bulk  # whether the others go first; None: if it is long
        self.patience = patience  # seconds that it may wait for its first row to be computed
        mask = inputs[INPUTS.index("attention_mask")]
        self.lengths = (mask * np.arange(1, mask.shape[1] + 1)).max(axis=1, initial=0).tolist()
        self.uncomputed = {index for index, length in enumerate(self.lengths) if length}
        self.missing = len(self.uncomputed)
        self.bytes = sum(4 * int(np.prod(shape)) for shape in shapes.values())  # of the outputs
        self.outputs = None
        self.failure = None  # an exception
        self.lock = threading.Lock()
        self.arrived = clock()
        self.started = False

    @property
    def deadline(self):
        """When its patience ends, by the clock that it came by."""
        return self.arrived + self.patience

    @property
    def wants_tokens(self):
        """Whether token_embeddings are asked for."""
        return "token_embeddings" in self.shapes

    def rows(self):
        """The rows that hold a token; not kept, since each holds its job, and both would wait for the collector."""
        return [Row(self, index, length) for index, length in enumerate(self.lengths) if length]

    def make_outputs(self):
        """Makes the outputs, zero until rows are put into them; late, since many jobs may wait."""
        with self.lock:  # its rows may be in several slices
            if self.outputs is None:
                self.outputs = {name: np.zeros(shape, np.float32) for name, shape in self.shapes.items()}


class Row(NamedTuple):
    """One row that holds a token."""

    job: Job
    index: int
    length: int  # without the padding on its right

    @property
    def inputs(self):
        """What the row has in each of INPUTS: INT32 [4, length]."""
        return self.job.inputs[:, self.index, : self.length]
