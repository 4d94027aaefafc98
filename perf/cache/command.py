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
import itertools
import shutil
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

import client_sdk
from perf import machine, numbers, report
from perf.compare.comparison import Figure
from perf.compare.running.closed_loop import Measured, Send, closed_loop
from perf.failure import Failure
from perf.texts import MAX_TOKENS, benchmark_texts, load_tokenizer

ENTRY = 9000
"""Bytes that a text of MiniLM takes in the cache, about."""

WITH, WITHOUT = "with a cache", "without"

Next = Callable[[np.random.Generator], str]
"""The text that a caller asks for next."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("--repository", type=Path, default=Path("model_repository"), metavar="DIR", help="with bert")
    parser.add_argument("--distinct", type=numbers.count, default=100_000, help="texts (default: %(default)s)")
    parser.add_argument(
        "--kept", type=numbers.count, default=10_000, help="that the cache has room for (default: %(default)s)"
    )
    parser.add_argument("--callers", type=numbers.count, default=16, help="at once (default: %(default)s)")
    parser.add_argument("--repeats", type=numbers.count, default=3, help="rounds (default: %(default)s)")
    parser.add_argument("--seconds", type=numbers.above_zero, default=15.0, help="of each load (default: %(default)s)")
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
                        _ask(client, following, args.callers, args.seconds, seed=0)  # the cache fills
                        asked = _ask(client, following, args.callers, args.seconds, seed=number)
                        found = {"rate": asked.calls_per_second, "p50": 1000 * statistics.median(asked.latencies)}
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
    """The same repository, as `--cache` would have written it. Raises Failure where it has a cache."""
    settings = args.repository / "bert_encoder" / "config.pbtxt"
    if "cache_bytes" in settings.read_text("utf-8"):
        raise Failure(f"{settings}: the family has a cache already; export it without --cache")
    repository = folder / "models"
    shutil.copytree(args.repository, repository, ignore=shutil.ignore_patterns("__pycache__"))
    with (repository / "bert_encoder" / "config.pbtxt").open("a") as config:
        config.write(f'parameters {{ key: "cache_bytes" value {{ string_value: "{args.kept * ENTRY}" }} }}\n')
    return repository


def _ask(client: client_sdk.Client, following: Next, callers: int, seconds: float, seed: int) -> Measured:
    """Callers that each draw their texts; raises ClientError if one is not answered."""
    callers_so_far = itertools.count()

    def connect() -> Send:
        chance = np.random.default_rng([seed, next(callers_so_far)])
        return lambda _: client.encode(following(chance))

    return closed_loop(connect, [None], callers, seconds)
