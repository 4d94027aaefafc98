"""Texts a second and latency of one network, by length and batch, beside transformers' model on PyTorch."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from export.network import architectures, network
from export.network.architectures.config import Config
from export.network.batches import laid_end_to_end, padded
from perf.gpu.results import MIXED, Measured, Point
from perf.gpu.runners import Row, Runner
from perf.gpu.timing import peak_memory, timed

Rows = Sequence[Sequence[int]]
Pooled = Callable[[Rows], np.ndarray]

_MINILM = {
    "model_type": "bert",
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
    "max_position_embeddings": 512,
    "vocab_size": 30522,
}
SIZES: dict[str, dict[str, Any]] = {
    "minilm": _MINILM,
    "base": {**_MINILM, "hidden_size": 768, "num_hidden_layers": 12, "intermediate_size": 3072},
}
"""Settings of BERT, of random weights: the size of all-MiniLM-L6-v2, and BERT-base."""

LONGEST_MIXED = 128

_TOLERANCE = {"fp32": 1e-3, "fp16": 2e-2}  # of the mean's largest value, FP16 on both sides


@dataclass(frozen=True)
class System:
    """What is measured: `start` makes the call that computes the means of texts, in numpy, from their ids."""

    name: str
    precision: str
    start: Callable[[], Pooled]


def systems(size: str, device: str, runners: Sequence[Runner], longest: int, largest: int) -> list[System]:
    """PyTorch's first, which the others are compared with."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    settings = {key: value for key, value in SIZES[size].items() if key != "model_type"}
    config = BertConfig(**settings, attn_implementation="sdpa")
    reference = BertModel(config, add_pooling_layer=False).eval()
    precisions = ("fp32", "fp16") if device == "cuda" else ("fp32",)

    def pytorch(precision: str, compiled: bool) -> Pooled:
        model = copy.deepcopy(reference).to(device, torch.float16 if precision == "fp16" else torch.float32)
        return _pytorch(torch.compile(model, dynamic=True) if compiled else model, device)

    arrays = {name: value.numpy().copy() for name, value in reference.state_dict().items()}
    encoder = architectures.READERS["bert"](Config(Path("config.json"), SIZES[size]))

    def graph(runner: Runner, layout: str, precision: str) -> Pooled:
        is_padded = layout == "padded"
        model = network.build(encoder, _Arrays(arrays), is_padded=is_padded, half=precision == "fp16")
        run = runner.load(model, largest, longest)
        lay = padded if is_padded else laid_end_to_end
        return lambda rows: run(lay([Row(list(ids), [0] * len(ids)) for ids in rows]))["pooled"][:, 0]  # type: ignore[misc]

    found = [System(f"PyTorch sdpa, {p}", p, lambda p=p: pytorch(p, False)) for p in precisions]  # type: ignore[misc]
    if device == "cuda":
        found.append(System("PyTorch compiled, fp16", "fp16", lambda: pytorch("fp16", True)))
    for runner in runners:
        # Of what can run both, the layout that is exported for it.
        layout = "padding-free" if ("padding-free", "fp32") in runner.forms else "padded"
        for precision in precisions:
            start = lambda r=runner, form=(layout, precision): graph(r, *form)  # noqa: E731
            found.append(System(f"{runner.name}, {precision}", precision, start))
    return found


def measure(systems: Sequence[System], shapes: Sequence[tuple[int, int]], seconds: float) -> Iterator[Measured]:
    """Measure each after it was compared with the first, which is PyTorch in FP32.

    Args:
        systems: What to measure.
        shapes: Lengths and batch sizes.
        seconds: For each shape.
    """
    batches = {shape: rows(*shape) for shape in shapes}
    expected: np.ndarray | None = None
    sample = rows(MIXED, 8)
    for system in systems:
        result = Measured(system.name)
        try:
            with peak_memory(result):
                call = system.start()
                found = call(sample)
                expected = found if expected is None else expected
                gap = float(np.abs(found - expected).max() / np.abs(expected).max())
                if not gap <= _TOLERANCE[system.precision]:
                    result.absent = (
                        f"its vectors differ from those of {systems[0].name} by {gap:.1e} of the largest value"
                    )
                else:
                    result.points = [Point(*shape, *timed(call, batch, seconds)) for shape, batch in batches.items()]
                del call
        except Exception as error:  # whatever a runtime raises is why it was not measured
            result.absent = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"[:300]
        gc.collect()
        _give_back()
        yield result


def rows(length: int, count: int) -> list[list[int]]:
    """So many texts of a length, the same ones every time."""
    chosen = np.random.default_rng([length, count])
    if length == MIXED:
        lengths = np.clip(chosen.lognormal(2.9, 0.65, count), 4, LONGEST_MIXED).astype(int).tolist()
    else:
        lengths = [length] * count
    return [chosen.integers(1000, SIZES["minilm"]["vocab_size"], size).tolist() for size in lengths]


def _give_back() -> None:
    """The memory of the GPU that PyTorch keeps for itself."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class _Arrays:
    """The weights of a model, as `export.network.weights.Weights` has them."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._arrays = arrays

    def has(self, name: str) -> bool:
        return name in self._arrays

    def take(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        return self._arrays[name].reshape(shape)

    def skipped(self) -> list[str]:
        return []


def _pytorch(model: Any, device: str) -> Pooled:
    """Means of padded rows; without a mask where nothing is padded, which lets PyTorch choose flash attention."""
    import torch

    def pooled(rows: Rows) -> np.ndarray:
        longest = max(map(len, rows))
        ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows]).to(device)
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows]).to(device)
        given = {} if min(map(len, rows)) == longest else {"attention_mask": mask}
        with torch.inference_mode():
            states = model(input_ids=ids, **given).last_hidden_state.float()
            weights = mask[:, :, None].float()
            means = (states * weights).sum(1) / weights.sum(1)
            return means.cpu().numpy()  # type: ignore[no-any-return]

    return pooled
