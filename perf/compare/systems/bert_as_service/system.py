"""bert-as-service 1.10.0, the original, on TensorFlow 1.15."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from perf.compare.systems.environment import Environment, PeerAbsent, run
from perf.compare.systems.server import free_port, serving
from perf.compare.systems.system import Model, Peer, Serving

_SERVER = Environment(
    "bert-as-service",
    (
        "tensorflow==1.15.5",
        "protobuf==3.20.3",
        "numpy==1.18.5",
        "h5py==2.10.0",
        "pyzmq==26.2.0",
        "bert-serving-server==1.10.0",
        "bert-serving-client==1.10.0",
    ),
    version="3.7",
)
_CLIENT = Environment("bert-as-service-client", ("bert-serving-client==1.10.0", "numpy==1.26.4", "pyzmq==26.2.0"))

_TIMEOUT_MS = 3_600_000


class BertAsService(Peer):
    """A worker a core: each runs TensorFlow with all cores, and spends much of its time in Python."""

    name = "bert-as-service"
    title = "bert-as-service 1.10"
    settings = (
        "TensorFlow 1.15.5, -cpu -num_worker CORES -max_seq_len NONE (dynamic) -pooling_layer -1 -max_batch_size 4 "
        "(faster here than its 256); bert-serving-client; vectors not scaled: compared by direction"
    )
    environments = (_SERVER, _CLIENT)
    contract = "directions"
    # Texts that a worker gets at once, all padded to the longest, in arrival order; larger requests are spread over the
    # workers. The best of 4, 8, 16, 32, 64 and 256 with many texts on 2 cores.
    max_batch_size = 4

    @property
    def client_python(self) -> Path:
        """Its client runs on a Python of today."""
        return _CLIENT.python

    def prepare(self, model: Model) -> None:
        """Write a checkpoint in Google's format."""
        kind = json.loads((model.checkpoint / "config.json").read_text("utf-8")).get("model_type", "bert")
        if kind != "bert":
            raise PeerAbsent(f"it serves BERT, and this is a {kind}")
        _google_checkpoint(model)

    @contextmanager
    def serve(self, model: Model) -> Iterator[Serving]:
        """Run bert-serving-start; `bert-serving-terminate` hangs, so it is stopped by its process."""
        port, port_out = free_port(), free_port()
        workers = len(os.sched_getaffinity(0))
        with tempfile.TemporaryDirectory(prefix="bert-as-service-") as folder:
            command = [
                *(_SERVER.folder / "bin" / "bert-serving-start", "-cpu", "-model_dir", _google_checkpoint(model)),
                *("-num_worker", str(workers), "-max_seq_len", "NONE", "-pooling_layer", "-1"),
                *("-max_batch_size", str(self.max_batch_size), "-port", str(port), "-port_out", str(port_out)),
                *("-graph_tmp_dir", folder),
            ]
            variables = {"ZEROMQ_SOCK_TMP_DIR": folder, "PYTHONUNBUFFERED": "1"}
            with serving(command, lambda log: "ready to serve request" in log, variables=variables) as pid:
                yield Serving({"port": port, "port_out": port_out}, pid)


class BertAsServiceByDefault(BertAsService):
    """As its documentation starts it."""

    name = "bert-as-service-default"
    title = "bert-as-service 1.10, its own batch size"
    settings = "the same with its own -max_batch_size, 256"
    max_batch_size = 256


class Client:
    """bert-serving-client."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._config = config

    def prepare(self, texts: list[str]) -> list[str]:
        """As they are: the client makes its messages in the call."""
        return texts

    def connect(self) -> Callable[[list[str]], np.ndarray]:
        """A client of its own, for this thread alone."""
        from bert_serving.client import BertClient

        client = BertClient(**self._config, check_length=False, check_token_info=False, timeout=_TIMEOUT_MS)
        return lambda texts: client.encode(texts)

    def vectors(self, answer: np.ndarray) -> np.ndarray:
        """Scaled to length 1."""
        vectors: np.ndarray = answer / np.linalg.norm(answer, axis=1, keepdims=True)
        return vectors

    def bulk(self, texts: list[str]) -> Callable[[], np.ndarray]:
        """One call; the server cuts it into batches for its workers."""
        encode = self.connect()
        encode(texts[:1])
        return lambda: encode(texts)


def _google_checkpoint(model: Model) -> Path:
    """The folder of the checkpoint as Google's BERT has it, made when it is first asked for."""
    folder = model.folder / "google"
    if not folder.exists():
        from safetensors.numpy import load_file

        _SERVER.require()
        beside = folder.with_name("google.part")
        beside.mkdir(parents=True, exist_ok=True)
        arrays = beside / "arrays.npz"
        np.savez(arrays, **load_file(model.checkpoint / "model.safetensors"))
        run([_SERVER.python, Path(__file__).with_name("google_checkpoint.py"), arrays, beside / "bert_model.ckpt"])
        arrays.unlink()
        config = json.loads((model.checkpoint / "config.json").read_text())
        (beside / "bert_config.json").write_text(json.dumps({k: config[k] for k in _CONFIG}, indent=2))
        (beside / "vocab.txt").write_bytes((model.checkpoint / "vocab.txt").read_bytes())
        beside.rename(folder)
    return folder


_CONFIG = (
    "attention_probs_dropout_prob",
    "hidden_act",
    "hidden_dropout_prob",
    "hidden_size",
    "initializer_range",
    "intermediate_size",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "type_vocab_size",
    "vocab_size",
)
