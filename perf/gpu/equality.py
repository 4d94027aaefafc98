"""Whether every network computes on this machine what PyTorch does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from perf.gpu.networks import Arrays, Small
from perf.gpu.results import Comparison
from perf.gpu.runners import Runner


def compare(networks: Sequence[Small], runner: Runner, seconds: float, int8: bool) -> Iterator[Comparison]:
    """Run each network in each form that a runner has, as many as there is time for.

    Args:
        networks: What to run.
        runner: What to run it with.
        seconds: Where they are over, what is left is not tried.
        int8: Whether INT8 forms can be made here.
    """
    end = time.monotonic() + seconds
    for network in networks:
        if runner.name == "TensorRT" and not network.in_tensorrt:
            continue
        for layout, precision in runner.forms:
            if (layout, precision) not in network.forms or (precision == "int8" and not int8):
                continue
            if time.monotonic() > end:
                yield Comparison(network.name, runner.name, layout, precision, None, "no time was left", tried=False)
                continue
            found = _tried(network, precision, partial(_computed, network, runner, layout, precision))
            yield Comparison(network.name, runner.name, layout, precision, *found)


def compare_pytorch(networks: Sequence[Small], device: str, seconds: float) -> Iterator[Comparison]:
    """The same of transformers' own models on this device, for a measure of what its arithmetic does to them."""
    from tests.support.architecture_vectors import compute

    end = time.monotonic() + seconds
    for network in networks:
        if network.head is None and time.monotonic() < end:
            for precision in ("fp32", "fp16") if device == "cuda" else ("fp32",):
                found = _tried(network, precision, partial(compute, network.name, device, precision == "fp16"))
                yield Comparison(network.name, f"transformers on PyTorch, {device}", "", precision, *found)


def _computed(network: Small, runner: Runner, layout: str, precision: str) -> Arrays:
    rows, longest = network.feed["input_ids"].shape
    run = runner.load(network.model(layout, precision), rows, longest)
    return network.compared(run(network.given(layout)))


def _tried(network: Small, precision: str, compute: Callable[[], Arrays]) -> tuple[float | None, str]:
    """A gap, or None and why there is none."""
    try:
        found = compute()
    except Exception as error:  # whatever a runtime raises is the answer to whether it can
        return None, f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"[:300]
    measure = _lowest_cosine if precision == "int8" else _largest_gap
    gap = float(np.max([measure(found[name], expected) for name, expected in network.expected.items()]))
    return (gap, "") if np.isfinite(gap) else (None, "the outputs are not finite")


def _largest_gap(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max()))


def _lowest_cosine(found: np.ndarray, expected: np.ndarray) -> float:
    products = (found * expected).sum(-1)
    lengths = np.linalg.norm(found, axis=-1) * np.linalg.norm(expected, axis=-1)
    return float(1 - (products / lengths).min())
