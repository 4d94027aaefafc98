"""Texts a second and latency where texts come again (Zipf), with `export --cache` and without, in turn.

Callers with one text a call draw from --distinct texts, the n-th most frequent 1/n as often as the first; the cache has
room for --kept of them. `again` is one text over and over, `new` texts that never come again: what a miss costs. A
round measures both servers, one after the other.

Examples:
  python -m perf cache                       three rounds; ten minutes
  python -m perf cache --repeats 1 --seconds 5
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import client_sdk
from perf import machine, report
from perf.compare.comparison import Figure
from perf.texts import MAX_TOKENS, benchmark_texts, load_tokenizer

ENTRY = 9000
"""Bytes that a text of MiniLM takes in the cache, about."""

WITH, WITHOUT = "with a cache", "without"

Next = Callable[[np.random.Generator], str]
"""The text that a caller asks for next."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("--repository", type=Path, default=Path("model_repository"), metavar="DIR", help="with bert")
    parser.add_argument("--distinct", type=int, default=100_000, help="texts (default: %(default)s)")
    parser.add_argument("--kept", type=int, default=10_000, help="that the cache has room for (default: %(default)s)")
    parser.add_argument("--callers", type=int, default=16, help="at once (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="rounds (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=15.0, help="of each load (default: %(default)s)")
    report.add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Measures, prints and writes."""
    here = machine.describe()
    machine.warn_if_busy(here)
    loads = _loads(args)
    measured: dict[str, dict[str, list[float]]] = {WITHOUT: {}, WITH: {}}
    with tempfile.TemporaryDirectory(prefix="cache-") as folder:
        repository = _with_cache(args, Path(folder))
        for number in range(1, args.repeats + 1):
            for name, path in ((WITHOUT, args.repository), (WITH, repository)):
                with client_sdk.LocalServer(path) as server, client_sdk.Client(server.grpc_url) as client:
                    here["tritonserver"] = client.info().server_version
                    for load, following in loads.items():
                        _ask(client, following, args.callers, args.seconds, seed=0)  # until the cache is as it will be
                        latencies = _ask(client, following, args.callers, args.seconds, seed=number)
                        found = {"rate": len(latencies) / args.seconds, "p50": 1000 * statistics.median(latencies)}
                        for what, value in found.items():
                            measured[name].setdefault(f"{load} {what}", []).append(value)
                        print(f"round {number}, {name}, {load}: {found['rate']:,.0f} texts/s, {found['p50']:.2f} ms")
    print(f"\n{machine.summary(here)}\n")
    headers = ["", *(f"{load} {what}" for load in loads for what in ("texts/s", "p50 ms"))]
    print(
        report.table(
            headers, [[name, *(str(Figure.of(found[key])) for key in found)] for name, found in measured.items()]
        )
    )
    path = report.write_json(
        args.output / "cache.json",
        here,
        distinct=args.distinct,
        kept=args.kept,
        callers=args.callers,
        measured=measured,
    )
    report.print_written([path])
    return 0


def _loads(args: argparse.Namespace) -> dict[str, Next]:
    some = benchmark_texts(load_tokenizer(args.repository, "bert"), MAX_TOKENS)

    def text(number: int) -> str:
        """The n-th of any number of texts, all different and about as long as the others."""
        return f"{number} {some[number % len(some)]}"

    shares = 1 / np.arange(1, args.distinct + 1)
    bounds = np.cumsum(shares / shares.sum())
    return {
        "zipf": lambda chance: text(int(np.searchsorted(bounds, chance.random()))),
        "again": lambda chance: text(0),
        "new": lambda chance: text(int(chance.integers(args.distinct, 1 << 60))),
    }


def _with_cache(args: argparse.Namespace, folder: Path) -> Path:
    """The same repository, as `--cache` would have written it."""
    repository = folder / "models"
    shutil.copytree(args.repository, repository, ignore=shutil.ignore_patterns("__pycache__"))
    with (repository / "bert_encoder" / "config.pbtxt").open("a") as config:
        config.write(f'parameters {{ key: "cache_bytes" value {{ string_value: "{args.kept * ENTRY}" }} }}\n')
    return repository


def _ask(client: client_sdk.Client, following: Next, callers: int, seconds: float, seed: int) -> list[float]:
    """The seconds that each call took."""
    taken: list[float] = []
    until = time.monotonic() + seconds

    def call(number: int) -> None:
        chance = np.random.default_rng([seed, number])
        while (started := time.monotonic()) < until:
            client.encode(following(chance))
            taken.append(time.monotonic() - started)

    threads: list[Any] = [threading.Thread(target=call, args=(number,)) for number in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return taken
