"""Reads requests into jobs, or says what is wrong with them; what a request costs is bounded here."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import triton_python_backend_utils as pb_utils
from jobs import INPUTS, OF_TOKENS, Job, Refused

# Rows are padded to the longest of a request, which has `max_position_embeddings` tokens at most, and perhaps to the
# next multiple of up to 64. What is wider costs memory for nothing.
MOST_PADDING = 63

# The queue's timeout is for texts of USUAL_TOKENS at most. A request may wait longer for what it has beyond: for three
# others like it, as a client keeps four on their way, where a thousand tokens take ten seconds or more.
USUAL_TOKENS = 512
SECONDS_PER_TOKEN = 0.04


class Reader:
    """Knows what the network takes and gives."""

    def __init__(self, session: Any, settings: dict[str, str], identity: str | None) -> None:
        limits = session.get_modelmeta().custom_metadata_map
        self.limits = {
            "input_ids": int(limits["vocab_size"]),
            "attention_mask": 2,
            "token_type_ids": int(limits["type_vocab_size"]),
            "pooling_mask": int(limits.get("pooling_values", 2)),
        }
        self.takes_gaps = "adjacent" not in limits
        self.max_positions = int(limits["max_position_embeddings"])
        self.widest = self.max_positions + MOST_PADDING
        self.shapes: dict[str, list[int]] = {  # where there is a name for a number of words, one to begin with
            output.name: [size if isinstance(size, int) else 1 for size in output.shape[1:]]
            for output in session.get_outputs()
        }
        self.patience = float(settings["queue_timeout"])
        self.identity = identity

    def read(self, request: pb_utils.InferenceRequest) -> Job:
        """Return the request as a Job.

        Raises:
            Refused: it is wrong.
        """
        parameters = _parameters(request)
        self._check_identity(parameters)
        tensors = [pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in INPUTS]
        shape = tensors[0].shape
        for name, tensor in zip(INPUTS, tensors, strict=True):
            if tensor.shape != shape:
                raise _invalid(f"{name} has shape {list(tensor.shape)}, input_ids {list(shape)}; they must be equal")
        count, width = shape
        if width > self.widest:
            raise _invalid(
                f"the rows are {width} wide; they may be {self.widest}: "
                f"{self.max_positions} tokens, and what pads them to a multiple of 64"
            )
        inputs = np.array(tensors)
        greatest = inputs.view(np.uint32).max(axis=(1, 2), initial=0)  # unsigned, a negative value is a large one
        for name, value in zip(INPUTS, greatest.tolist(), strict=True):
            if value >= self.limits[name]:
                raise _invalid(f"{name} has values outside 0 to {self.limits[name] - 1}")
        if not self.takes_gaps:
            _check_gaps(tensors[INPUTS.index("attention_mask")])
        wanted = request.requested_output_names()
        shapes = {
            name: (count, width, *shape) if name in OF_TOKENS else (count, *shape)
            for name, shape in self.shapes.items()
            if name in wanted
        }
        bulk = parameters.get("bulk")
        job = Job(
            inputs,
            shapes,
            request=request,
            bulk=bulk if isinstance(bulk, bool) else None,
            patience=self.patience,
        )
        job.patience += SECONDS_PER_TOKEN * sum(max(0, length - USUAL_TOKENS) for length in job.lengths)
        if timeout := request.timeout():  # Triton's own, in microseconds
            job.patience = min(timeout / 1e6, job.patience)
        longest = max(job.lengths, default=0)
        if longest > self.max_positions:
            raise _invalid(f"a row has {longest} tokens; the network takes {self.max_positions} at most")
        return job

    def _check_identity(self, parameters: dict[str, Any]) -> None:
        wanted = parameters.get("identity", self.identity)
        if self.identity is not None and wanted != self.identity:
            raise Refused(
                f"identity: the request is for {str(wanted)[:64]}, and this is {self.identity}: "
                "the model has been replaced",
                "NOT_FOUND",
            )


def _parameters(request: pb_utils.InferenceRequest) -> Any:
    try:
        return json.loads(request.parameters() or "{}")
    except ValueError as error:  # of bytes that are no UTF-8 too
        raise _invalid(f"the parameters of the request cannot be read: {error}") from None


def _check_gaps(mask: npt.NDArray[np.int32]) -> None:
    """Refuse rows whose tokens do not stand side by side, where distances between them count."""
    begins = (np.diff(mask, axis=1, prepend=0) > 0).sum(axis=1)
    if (begins > 1).any():
        raise _invalid(
            f"attention_mask has a gap in row {begins.argmax()}; the network takes rows whose tokens stand side by side"
        )


def _invalid(message: str) -> Refused:
    return Refused(message, "INVALID_ARG")
