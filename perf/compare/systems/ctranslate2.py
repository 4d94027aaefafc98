"""CTranslate2 in process, on ids made before the clock."""

from __future__ import annotations

from typing import Any

import numpy as np

from perf.compare.systems.environment import Environment, run
from perf.compare.systems.on_ids import OnIds, Rows, Run
from perf.compare.systems.system import BULK, InProcess, Model

_SETTINGS = "no server and no tokenizer in the figures, as bare ONNX Runtime; sorted by length, slices of 384 tokens"


class CTranslate2(InProcess):
    """An encoder with kernels of its own."""

    name = "ctranslate2"
    title = "bare CTranslate2"
    settings = f"fp32; {_SETTINGS}; bulk: as many slices at once as cores (inter_threads), one text: all cores"
    loads = ("1x1", BULK)
    on_ids = True
    compute_type = "float32"
    environments = (
        Environment(
            "ctranslate2",
            ("ctranslate2==4.8.5", "transformers==4.57.6", "torch==2.13.0", "tokenizers==0.22.2", "numpy==1.26.4"),
        ),
    )

    def prepare(self, model: Model) -> None:
        """Convert it, in FP32: weights are made smaller when they are loaded."""
        folder = model.folder / "ctranslate2"
        if folder.exists():
            return
        code = (
            "import sys; from ctranslate2.converters import TransformersConverter as Converter; "
            "Converter(sys.argv[1]).convert(sys.argv[2])"
        )
        beside = folder.with_name(f"{folder.name}.part")
        run([self.environments[0].python, "-c", code, model.checkpoint, beside])
        beside.rename(folder)

    def config(self, model: Model) -> dict[str, Any]:
        """Where it is, and what it computes in."""
        return {
            "tokenizer": str(model.checkpoint / "tokenizer.json"),
            "network": str(model.folder / "ctranslate2"),
            "compute_type": self.compute_type,
        }


class CTranslate2Int8(CTranslate2):
    """All products of weights in INT8."""

    name = "ctranslate2-int8"
    title = "bare CTranslate2, INT8"
    settings = f"int8; {_SETTINGS}"
    compute_type = "int8"
    precision = "int8"


class Client(OnIds):
    """`Encoder.forward_batch`, and the mean."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._compute_type = config["compute_type"]
        super().__init__(config)

    def on_all_cores(self, network: str) -> Run:
        """One batch at a time."""
        return self._encoder(network, 1, self.cores)

    def on_each_core(self, network: str) -> Run:
        """A batch a core."""
        return self._encoder(network, self.cores, 1)

    def _encoder(self, network: str, inter_threads: int, intra_threads: int) -> Run:
        from ctranslate2 import Encoder

        encoder = Encoder(
            network,
            device="cpu",
            compute_type=self._compute_type,
            inter_threads=inter_threads,
            intra_threads=intra_threads,
        )

        def means(rows: Rows) -> np.ndarray:
            states = np.array(encoder.forward_batch(rows).last_hidden_state)
            lengths = np.array([len(row) for row in rows])
            mask = np.arange(states.shape[1]) < lengths[:, None]
            found: np.ndarray = np.einsum("nsd,ns->nd", states, mask.astype(np.float32)) / lengths[:, None]
            return found

        return means
