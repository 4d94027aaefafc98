"""OpenVINO in process, on ids made before the clock."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np

from perf.compare.systems.environment import Environment, run
from perf.compare.systems.on_ids import OnIds, Rows, Run, padded
from perf.compare.systems.server import environment_variables
from perf.compare.systems.system import BULK, InProcess, Model
from perf.texts import sentences

_SETTINGS = (
    "the exported network with padded rows, no server and no tokenizer in the figures, as bare ONNX Runtime; sorted by "
    "length, slices of 384 tokens; bulk: a stream a core (NUM_STREAMS), one text: PERFORMANCE_HINT LATENCY"
)
_CALIBRATION_TEXTS = 300


class OpenVINO(InProcess):
    """Of the padded form of the export, whose operators it has kernels for."""

    name = "openvino"
    title = "bare OpenVINO"
    settings = f"fp32; {_SETTINGS}"
    loads = ("1x1", BULK)
    on_ids = True
    network = "model.onnx"
    environments = (
        Environment("openvino", ("openvino==2026.4.1", "nncf==3.4.0", "tokenizers==0.22.2", "numpy==1.26.4")),
    )

    def prepare(self, model: Model) -> None:
        """Write the padded network."""
        from export.checkpoint import checkpoint
        from export.network import network
        from export.pipeline import save

        path = model.folder / "padded" / "model.onnx"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            source = checkpoint.load(str(model.checkpoint))
            beside = path.with_name("part.onnx")
            save(network.build(source.encoder, source.weights, is_padded=True), beside)
            beside.rename(path)

    def config(self, model: Model) -> dict[str, Any]:
        """Where it is."""
        return {
            "tokenizer": str(model.checkpoint / "tokenizer.json"),
            "network": str(model.folder / "padded" / self.network),
        }


class OpenVINOInt8(OpenVINO):
    """Quantised by NNCF, whose ranges of activations are those of some texts."""

    name = "openvino-int8"
    title = "bare OpenVINO, INT8"
    settings = f"int8, by NNCF for transformers, calibrated on {_CALIBRATION_TEXTS} texts; {_SETTINGS}"
    network = "int8.xml"
    precision = "int8"

    def prepare(self, model: Model) -> None:
        """Quantise it."""
        super().prepare(model)
        folder = model.folder / "padded"
        if not (folder / self.network).exists():
            texts = folder / "texts.json"
            texts.write_text(json.dumps(sentences()[:_CALIBRATION_TEXTS]), encoding="utf-8")
            command = (self.environments[0].python, "-m", "perf.compare.systems.openvino_model")
            tokenizer = model.checkpoint / "tokenizer.json"
            run(
                [*command, folder / "model.onnx", tokenizer, texts, folder / self.network],
                env=environment_variables(),
            )


class Client(OnIds):
    """The network, of whose `pooled` the mean stands first."""

    def on_all_cores(self, network: str) -> Run:
        """One request at a time."""
        return _compiled(Path(network), {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": str(self.cores)})

    def on_each_core(self, network: str) -> Run:
        """A stream a core."""
        return _compiled(Path(network), {"NUM_STREAMS": str(self.cores), "INFERENCE_NUM_THREADS": str(self.cores)})


def feed(rows: Rows) -> dict[str, np.ndarray]:
    """What the padded network takes."""
    ids, mask = padded(rows)
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids), "pooling_mask": mask}


def _compiled(network: Path, options: dict[str, str]) -> Run:
    from openvino import Core

    core = Core()
    model = core.read_model(network)
    compiled = core.compile_model(model, "CPU", options)
    own = threading.local()

    def means(rows: Rows) -> np.ndarray:
        if not hasattr(own, "request"):
            own.request = compiled.create_infer_request()
        own.request.infer(feed(rows), share_inputs=True)
        found: np.ndarray = own.request.get_tensor("pooled").data[:, 0].copy()
        return found

    return means
