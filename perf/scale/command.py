"""What much at once costs: texts in one call, connections to one server, families in one server.

`call`: one call of different texts, and what client and server hold at most meanwhile beyond what they held before.
`connections`: so many clients, each with a connection of its own that stays open; callers take them in turn.
`families`: the family under so many names in a server of its own, which starts with nothing else, and answers a text
of each.

Examples:
  python -m perf scale                                   100,000 texts, 1,000 connections, up to 64 families
  python -m perf scale --only call --texts 10000         a part of it
  python -m perf scale --only families --families 1 8
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import client_sdk
from perf import machine, numbers, report, serving
from perf.compare.running.closed_loop import closed_loop
from perf.compare.workload import distinct
from perf.memory.samples import ALL, CLIENT, SHARED, look
from perf.processes import measured_processes
from perf.soak.families import copy_family
from perf.texts import MAX_TOKENS, benchmark_texts, load_tokenizer

MEASUREMENTS = ("call", "connections", "families")
CALLERS = 16
_SAMPLE_SECONDS = 0.5
_START_SECONDS = 1800.0
_SOME_TEXTS = 512


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    serving.add_arguments(parser)
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, default=MEASUREMENTS, help="default: all")
    serving.add_server_pid(parser)
    parser.add_argument("--texts", type=numbers.count, default=100_000, help="of the call (default: %(default)s)")
    parser.add_argument("--connections", type=numbers.count, default=1000, metavar="N", help="(default: %(default)s)")
    parser.add_argument(
        "--seconds", type=numbers.above_zero, default=10.0, help="that connections are used (default: %(default)s)"
    )
    parser.add_argument(
        "--families",
        type=numbers.count,
        nargs="+",
        default=(1, 4, 16, 64),
        metavar="N",
        help="at once (default: 1 4 16 64)",
    )


def run(args: argparse.Namespace) -> int:
    """Measures, prints and writes."""
    here = machine.describe()
    machine.warn_if_busy(here)
    found: dict[str, list[dict[str, Any]]] = {}
    if {"call", "connections"} & {*args.only}:
        serving.check_server_pid(args)
        texts = benchmark_texts(load_tokenizer(args.repository, args.model), MAX_TOKENS)
        with serving.serving(args) as target, client_sdk.Client(target.grpc_url, args.model, timeout=86400) as client:
            here["tritonserver"] = client.info().server_version
            client.encode(texts[:_SOME_TEXTS])
            processes = measured_processes(args.server_pid)
            if "call" in args.only:
                found["call"] = [one_call(client, distinct(texts, args.texts), processes)]
            if "connections" in args.only:
                found["connections"] = [
                    connected(target.grpc_url, args.model, count, texts, args.seconds, processes)
                    for count in (CALLERS, args.connections)
                ]
    if "families" in args.only:
        found["families"] = [loaded(args.repository, args.model, count, args.output) for count in args.families]
    print(f"\n{machine.summary(here)}")
    for measurement, rows in found.items():
        print(f"\n{measurement}")
        print(report.table([*rows[0]], [[*row.values()] for row in rows]))
    name = args.output / f"scale-{args.model}.json"
    report.print_written([report.write_json(name, here, **found)])
    return 0


def one_call(client: client_sdk.Client, texts: list[str], processes: dict[int, str]) -> dict[str, Any]:
    """One call with all texts."""
    before = look(processes)
    with _watched(processes) as most:
        started = time.monotonic()
        vectors = client.encode(texts)
        seconds = time.monotonic() - started
    return {
        "texts": len(texts),
        "texts/s": round(len(texts) / seconds, 1),
        "MiB of the result": round(vectors.nbytes / 2**20, 1),
        "MiB client": round(most[CLIENT] - before[CLIENT], 1),
        "MiB server before": round(before[ALL], 1),
        "MiB server": round(most[ALL] - before[ALL], 1),
    }


def connected(
    url: str, model: str, count: int, texts: Sequence[str], seconds: float, processes: dict[int, str]
) -> dict[str, Any]:
    """As many clients as connections, of which callers take one after the other for a text.

    Raises:
        ClientError: one was not answered.
    """
    before = look(processes)
    with ExitStack() as stack:
        clients = [stack.enter_context(client_sdk.Client(url, model)) for _ in range(count)]
        started = time.monotonic()
        with ThreadPoolExecutor(CALLERS) as pool:
            list(pool.map(lambda client: client.encode(texts[0]), clients))
        opened = time.monotonic() - started
        turns = itertools.count()
        found = closed_loop(lambda: lambda text: clients[next(turns) % count].encode(text), texts, CALLERS, seconds)
        after = look(processes)
    p50, p99 = np.percentile(found.latencies, (50, 99))
    return {
        "connections": count,
        "callers": CALLERS,
        "s to open": round(opened, 2),
        "texts/s": round(found.calls_per_second, 1),
        "p50 ms": round(1e3 * float(p50), 1),
        "p99 ms": round(1e3 * float(p99), 1),
        "MiB client": round(after[CLIENT] - before[CLIENT], 1),
        "MiB server": round(after[ALL] - before[ALL], 1),
    }


def loaded(repository: Path, model: str, count: int, beside: Path) -> dict[str, Any]:
    """A server with so many families, in a folder in `beside`; files are links where they can be."""
    with tempfile.TemporaryDirectory(prefix="scale-", dir=beside) as folder:
        names = [f"family{number}" for number in range(count)]
        for name in names:
            copy_family(repository, model, Path(folder), name)
        started = time.monotonic()
        with client_sdk.LocalServer(folder, startup_timeout=_START_SECONDS) as server:
            seconds = time.monotonic() - started
            for name in names:
                with client_sdk.Client(server.grpc_url, name) as client:
                    client.encode("First do it, then do it right.")
            processes = measured_processes(None)
            held = look(processes)
    print(f"{count} families: {seconds:.0f} s, {held[ALL]:,.0f} MiB", flush=True)
    return {
        "families": count,
        "processes": len(processes),
        "s to start": round(seconds, 1),
        "s a family": round(seconds / count, 2),
        "MiB": round(held[ALL]),
        "MiB a family": round(held[ALL] / count),
        "MiB shared": round(held[SHARED], 1),
    }


@contextmanager
def _watched(processes: dict[int, str]) -> Iterator[dict[str, float]]:
    """The most that is seen of each series of `samples.look` within the block."""
    most: dict[str, float] = {}
    over = threading.Event()

    def watch() -> None:
        while True:
            for name, value in look(processes).items():
                most[name] = max(value, most.get(name, 0.0))
            if over.wait(_SAMPLE_SECONDS):
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield most
    finally:
        over.set()
        watcher.join()
