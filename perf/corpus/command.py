"""Rows a second of the job `corpus`, beside Client.encode over the same texts in the same run, and the job's memory.

Each round has one call of Client.encode and one job, of as many rows; the job's seconds are from the first row read to
the last file written, Ray's own start apart. Every row is looked for in the output. Memory is what the job's processes
hold together (what they share counted once), and what the server does, each second.

Examples:
  python -m perf corpus                                    20,000 rows, two rounds; ten minutes
  python -m perf corpus --rows 200000 --repeats 1
  python -m perf corpus --url localhost:8001 --model stand-in --rows 1000000 --repeats 1
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import client_sdk
from perf import machine, report, serving
from perf.failure import Failure
from perf.processes import MIB, descendants, own_bytes, proportional_bytes
from perf.texts import MAX_TOKENS, benchmark_texts, load_tokenizer

_PART = 2000  # texts of a row group, as a user's files may have
_ROWS_OF_A_FILE = 50_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    serving.add_arguments(parser)
    parser.add_argument("--rows", type=int, default=20_000, help="of the input (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=2, help="rounds (default: %(default)s)")
    parser.add_argument("--short", action="store_true", help="texts of a few words, for a model that takes no time")


def run(args: argparse.Namespace) -> int:
    """Measures, prints and writes; 1 if a row is missing or doubled."""
    here = machine.describe()
    machine.warn_if_busy(here)
    texts = _texts(args)
    rounds: list[dict[str, Any]] = []
    with (
        serving.serving(args) as target,
        tempfile.TemporaryDirectory(prefix="corpus-") as folder,
        client_sdk.Client(target.grpc_url, args.model) as client,
    ):
        here["tritonserver"] = client.info().server_version
        source = Path(folder) / "in"
        _write(source, texts)
        client.encode(texts[:500])
        for number in range(1, args.repeats + 1):
            started = time.monotonic()
            client.encode(texts)
            rate = len(texts) / (time.monotonic() - started)
            output = Path(folder) / f"out{number}"
            found = {"encode": rate, **_job(source, output, target.grpc_url, args.model)}
            _check(output, len(texts))
            print(
                f"round {number}: Client.encode {rate:,.0f} texts/s, the job {found['job']:,.0f} rows/s, "
                f"{found['job'] / rate:.2f} of it",
                flush=True,
            )
            rounds.append(found)
    print(f"\n{machine.summary(here)}\n")
    ratio = statistics.median(found["job"] / found["encode"] for found in rounds)
    last = rounds[-1]
    print(f"{len(texts):,} rows: {ratio:.2f} of Client.encode; lost 0, doubled 0")
    print(f"the job's processes: {_range(last['job_mib'])} MiB; started in {last['start_seconds']:.1f} s")
    path = report.write_json(
        args.output / f"corpus-{args.model}.json", here, rows=len(texts), rounds=rounds, ratio=ratio
    )
    report.print_written([path])
    return 0


def _texts(args: argparse.Namespace) -> list[str]:
    if args.short:
        return [f"text {number}" for number in range(args.rows)]
    some = benchmark_texts(load_tokenizer(args.repository, args.model), MAX_TOKENS)
    return [some[number % len(some)] for number in range(args.rows)]


def _write(folder: Path, texts: list[str]) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise Failure("this needs pip install 'bert-on-triton[corpus]'") from None
    folder.mkdir()
    for start in range(0, len(texts), _ROWS_OF_A_FILE):
        part = texts[start : start + _ROWS_OF_A_FILE]
        table = pa.table({"id": range(start, start + len(part)), "text": part})
        pq.write_table(table, folder / f"{start:09}.parquet", row_group_size=_PART)


def _job(source: Path, output: Path, url: str, model: str) -> dict[str, Any]:
    """One job, as a user starts it; its memory is looked at meanwhile."""
    command = [sys.executable, "-m", "client_sdk", "corpus", str(source), "--output", str(output), "--id-column", "id"]
    started = time.monotonic()
    job = subprocess.Popen([*command, "--triton", url, "--model", model], stdout=subprocess.PIPE, text=True)
    mib: list[float] = []
    largest: dict[str, float] = {}
    over = threading.Event()

    def watch() -> None:
        while not over.wait(1.0):
            mib.append(proportional_bytes(job.pid) / MIB)
            for process in [job.pid, *descendants(job.pid)]:
                name = _name(process)
                largest[name] = max(largest.get(name, 0.0), own_bytes(process) / MIB)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        said, _ = job.communicate()
    finally:
        over.set()
        watcher.join()
    whole = time.monotonic() - started
    if job.returncode:
        raise Failure(f"the job ended with {job.returncode}")
    print(said.strip(), flush=True)
    summary = _summary(output)
    return {
        "job": summary["new_rows"] / summary["seconds"],
        "start_seconds": whole - summary["seconds"],
        "job_mib": mib,
        "largest_mib": largest,
    }


def _summary(output: Path) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((output / "corpus.json").read_text())
    summary: dict[str, Any] = state["summary"]
    return summary


def _check(output: Path, rows: int) -> None:
    """Each row once. Raises Failure."""
    import numpy as np
    import pyarrow.parquet as pq

    ids = np.sort(pq.read_table(output / "vectors", columns=["id"])["id"].to_numpy())
    if not np.array_equal(ids, np.arange(rows)):
        raise Failure(f"{rows:,} rows went in, and {len(ids):,} came out, {len(np.unique(ids)):,} of them different")


def _name(process: int) -> str:
    """Of a process of Ray, as it calls itself, without its number."""
    try:
        words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return "ended"
    first = words[0].decode(errors="replace")
    return first.split("(")[0].strip() if first.startswith("ray::") else os.path.basename(first)


def _range(values: list[float]) -> str:
    """After a quarter of the run and at its end: whether it grows."""
    if not values:
        return "unknown"
    return f"{values[len(values) // 4]:,.0f} after a quarter, {values[-1]:,.0f} at the end, {max(values):,.0f} at most"
