"""An exported network that runs, in ONNX Runtime or elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime
from tokenizers import Encoding, Tokenizer

from export.errors import ExportError
from export.network.batches import Arrays, laid_end_to_end, padded, without_padding
from export.network.layout import INPUTS, OF_TOKENS, shape_of


class Runner(Protocol):
    """Something that runs an exported network.

    Attributes:
        outputs: Names of the network's outputs.
    """

    outputs: list[str]

    def run(self, encodings: Iterable[Encoding]) -> Arrays:
        """Run texts: token_embeddings [sum of their tokens, D], pooled [texts, 4 or more, D], and so on."""


class Network:
    """An exported network of either layout in ONNX Runtime, on CPU; a `Runner`."""

    def __init__(self, path: Path) -> None:
        """Load `path`.

        Raises:
            ExportError: ONNX Runtime refuses it.
        """
        try:
            self._session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's own classes share no base but this
            raise ExportError(f"ONNX Runtime cannot load the network: {error}") from error
        self.outputs = [output.name for output in self._session.get_outputs()]
        self._is_padded = all(tensor.name != shape_of(INPUTS[0]) for tensor in self._session.get_inputs())

    def run(self, encodings: Iterable[Encoding]) -> Arrays:
        """Run texts in one batch."""
        encodings = list(encodings)
        feed = padded(encodings) if self._is_padded else laid_end_to_end(encodings)
        outputs = dict(zip(self.outputs, self._session.run(None, feed), strict=True))
        return without_padding(outputs, encodings) if self._is_padded else outputs


def runs(network: Runner, tokenizer_json: str, max_seq_len: int, outputs: Mapping[str, Sequence[int]]) -> None:
    """Run a text, cut at `max_seq_len` tokens, through a network that has been written.

    Args:
        network: What runs it.
        tokenizer_json: Of the checkpoint.
        max_seq_len: Tokens.
        outputs: What the network is to put out for a row: shapes by name, -1 for as many as there are.

    Raises:
        ExportError: an output has another shape, or is not finite.
    """
    tokenizer = Tokenizer.from_str(tokenizer_json)
    tokenizer.enable_truncation(max_seq_len)
    encoding = tokenizer.encode("First do it, then do it right.")
    found = network.run([encoding])
    for name, dims in outputs.items():
        array = found[name]
        shape = (len(encoding), *dims[1:]) if name in OF_TOKENS else (1, *dims)
        if len(array.shape) != len(shape) or any(
            -1 != size != there for size, there in zip(shape, array.shape, strict=True)
        ):
            raise ExportError(f"the network's {name} has shape {array.shape}, expected {shape}")
        if not np.isfinite(array).all():
            raise ExportError(
                f"the network's {name} is not finite for an ordinary text; are the weights damaged, or too large for "
                "FP16 where that was asked for?"
            )
