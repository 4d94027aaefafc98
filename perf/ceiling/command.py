"""What the server costs beside bare ONNX Runtime, in one run on this machine: one text at a time, and one bulk call.

Servers are in huge pages (docs/operations.md), bare ONNX Runtime where this process is told to be: the second example.

Examples:
  python -m perf ceiling                          a minute or two
  GLIBC_TUNABLES=glibc.malloc.hugetlb=1 python -m perf ceiling
  python -m perf ceiling --texts 1000 --repeats 1 a glance
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

import client_sdk
from perf import machine, numbers, report, serving
from perf.ceiling.ceiling import Bare
from perf.texts import MAX_TOKENS, sentences, take

WARM_UPS = 30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    serving.add_arguments(parser)
    parser.add_argument("--texts", type=numbers.count, default=4000, help="in the bulk call (default: %(default)s)")
    parser.add_argument("--calls", type=numbers.count, default=300, help="with one text (default: %(default)s)")
    parser.add_argument("--repeats", type=numbers.count, default=3, help="of all, interleaved (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Measures, prints and writes."""
    here = machine.describe()
    machine.warn_if_busy(here)
    source = sentences()
    texts = take(source, args.texts)
    one = next(text for text in source if 90 < len(text) < 100)
    bare = Bare(args.repository, args.model, MAX_TOKENS)
    with serving.serving(args) as target, client_sdk.Client(target.grpc_url, args.model, timeout=3600) as client:
        latency = {"bare": bare.one(one), "server": lambda: client.encode(one, max_seq_len=MAX_TOKENS)}
        bulk = {f"bare, {name}": call for name, call in bare.bulk(texts).items()}
        bulk["server"] = lambda: client.encode(texts, max_seq_len=MAX_TOKENS)
        for _ in range(WARM_UPS):
            for call in latency.values():
                call()
        seconds = _interleaved(latency, args.repeats, args.calls)
        rates = {name: [args.texts / t for t in times] for name, times in _interleaved(bulk, args.repeats, 1).items()}
    milliseconds = {name: [t * 1e3 for t in times] for name, times in seconds.items()}
    ceiling = max(statistics.median(found) for name, found in rates.items() if name != "server")
    one_text = _latency_rows(milliseconds)
    in_bulk = [
        [name, statistics.median(found), min(found), max(found), statistics.median(found) / ceiling]
        for name, found in rates.items()
    ]
    print(f"\n{machine.summary(here)}; texts cut at {MAX_TOKENS} tokens")
    print(f"\none text of {len(one)} characters, {args.repeats} x {args.calls} calls")
    print(report.table(("", "p50 ms", "p95 ms"), one_text))
    print(f"\n{args.texts} texts in one call, {args.repeats} times: texts/s")
    print(report.table(("", "median", "least", "most", "of the ceiling"), in_bulk))
    results = {"one_text_ms": milliseconds, "bulk_texts_per_second": rates}
    report.print_written([report.write_json(args.output / f"ceiling-{args.model}.json", here, **results)])
    return 0


def _latency_rows(milliseconds: Mapping[str, Sequence[float]]) -> list[list[report.Cell]]:
    return [[name, *map(float, np.percentile(times, (50, 95)))] for name, times in milliseconds.items()]


def _interleaved(calls: dict[str, Callable[[], object]], repeats: int, count: int) -> dict[str, list[float]]:
    """Seconds of each call, `repeats` rounds in each of which every one is called `count` times in a row."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            for _ in range(count):
                started = time.perf_counter()
                call()
                seconds[name].append(time.perf_counter() - started)
    return seconds
