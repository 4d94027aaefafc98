"""`python -m perf`: what the server costs beside bare ONNX Runtime, in one run on this machine."""

from __future__ import annotations

import argparse
import platform
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import client_sdk
from export.sentences import docstring_sentences

from .ceiling import Bare

MAX_SEQ_LEN = 128
WARM_UPS = 30


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m perf", description=__doc__)
    parser.add_argument("--repository", type=Path, default=Path("model_repository"), help="default: %(default)s")
    parser.add_argument("--model", default="bert", help="family to measure (default: %(default)s)")
    parser.add_argument("--texts", type=int, default=4000, help="in the bulk call (default: %(default)s)")
    parser.add_argument("--calls", type=int, default=300, help="with one text (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="of all, interleaved (default: %(default)s)")
    args = parser.parse_args()

    sentences = docstring_sentences()
    random.Random(0).shuffle(sentences)
    texts = (sentences * (args.texts // len(sentences) + 1))[: args.texts]
    one = next(text for text in sentences if 90 < len(text) < 100)
    bare = Bare(args.repository, args.model, MAX_SEQ_LEN)
    with client_sdk.LocalServer(args.repository) as server, client_sdk.Client(server.grpc_url, args.model) as client:
        latency = {
            "bare": bare.one(one),
            "server": lambda: client.encode(one, max_seq_len=MAX_SEQ_LEN),
        }
        bulk = {f"bare, {name}": call for name, call in bare.bulk(texts).items()}
        bulk["server"] = lambda: client.encode(texts, max_seq_len=MAX_SEQ_LEN)
        for _ in range(WARM_UPS):
            for call in latency.values():
                call()
        milliseconds = {
            name: [t * 1e3 for t in times] for name, times in _interleaved(latency, args.repeats, args.calls).items()
        }
        rates = {name: [args.texts / t for t in times] for name, times in _interleaved(bulk, args.repeats, 1).items()}
    print(f"{platform.processor() or platform.machine()}, {bare.cores} cores, texts cut at {MAX_SEQ_LEN} tokens")
    print(f"one text of {len(one)} characters, {args.repeats} x {args.calls} calls: p50, p95 in ms")
    for name, times in milliseconds.items():
        print(f"  {name:28} {statistics.median(times):7.2f} {statistics.quantiles(times, n=20)[-1]:7.2f}")
    print(f"{args.texts} texts in one call, {args.repeats} times: texts/s, median (least to most)")
    for name, found in rates.items():
        print(f"  {name:28} {statistics.median(found):7.1f} ({min(found):.1f} to {max(found):.1f})")
    ceiling = max(statistics.median(found) for name, found in rates.items() if name != "server")
    print(f"  server / ceiling             {statistics.median(rates['server']) / ceiling:7.2f}")


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


if __name__ == "__main__":
    main()
