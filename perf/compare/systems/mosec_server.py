"""Dynamic batching by mosec, the network by ONNX Runtime. Runs in its peer's environment.

MODEL_FOLDER=... python -m perf.compare.systems.mosec_server --address 127.0.0.1 --port PORT
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnxruntime
from mosec import Server, Worker
from tokenizers import Tokenizer

from perf.compare.systems.openai_form import answer, texts_of

MAX_REQUESTS = 32
MAX_WAIT_MS = 5
SLICE = 16  # texts that are padded to a common length
MAX_TOKENS = 256


class Encoder(Worker):
    """One thread and one process a core: requests run side by side."""

    def __init__(self) -> None:
        folder = Path(os.environ["MODEL_FOLDER"])
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            folder / "onnx" / "model.onnx", options, providers=["CPUExecutionProvider"]
        )
        self._inputs = [value.name for value in self._session.get_inputs()]

    def deserialize(self, data: bytes) -> list[str]:
        """OpenAI's form."""
        return texts_of(data)

    def serialize(self, data: np.ndarray) -> bytes:
        """OpenAI's form, in base64."""
        return answer(data)

    def forward(self, data: list[list[str]]) -> list[np.ndarray]:
        """All the texts of a batch of requests, sorted by length, a slice at a time."""
        rows = [row.ids for row in self._tokenizer.encode_batch([text for texts in data for text in texts])]
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
        parts = [order[i : i + SLICE] for i in range(0, len(order), SLICE)]
        found = np.concatenate([self._encode([rows[index] for index in part]) for part in parts])
        vectors = np.empty_like(found)
        vectors[order] = found
        return np.split(vectors, np.cumsum([len(texts) for texts in data])[:-1])

    def _encode(self, rows: list[list[int]]) -> np.ndarray:
        lengths = np.array([len(row) for row in rows])
        mask = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
        ids = np.zeros_like(mask)
        ids[mask == 1] = np.concatenate(rows)
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        states = self._session.run(None, {name: feed[name] for name in self._inputs})[0]
        means = (states * mask[:, :, None]).sum(1) / lengths[:, None]
        vectors: np.ndarray = (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)
        return vectors


if __name__ == "__main__":
    server = Server()
    server.append_worker(
        Encoder, num=len(os.sched_getaffinity(0)), max_batch_size=MAX_REQUESTS, max_wait_time=MAX_WAIT_MS, timeout=300
    )
    server.run()
