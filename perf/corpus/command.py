"""Rows a second of the job `corpus`, beside Client.encode over the same texts in the same run, and the job's memory.

Each round has one call of Client.encode and one job, of as many rows. The job's rate is from the first texts sent to
the last file written; what comes before, Ray's start and that of its workers, stands apart. Every row is looked for in
the output. Memory is what each process of the job holds by itself, all of them together (what they share counted once),
and what the server's do, if it is the measurement's own.

Examples:
  python -m perf corpus                                    20,000 rows, two rounds; ten minutes
  python -m perf corpus --rows 200000 --repeats 1
  python -m perf corpus --url localhost:8001 --model stand-in --short --rows 1000000 --repeats 1
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import client_sdk
from perf import machine, numbers, plots, report, serving
from perf.corpus.plot import draw
from perf.corpus.watch import Watch, while_encoding
from perf.failure import Failure
from perf.memory.samples import Samples, trend
from perf.texts import MAX_TOKENS, benchmark_texts, load_tokenizer

_PART = 2000  # texts of a row group, as a user's files may have
_ROWS_OF_A_FILE = 50_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    serving.add_arguments(parser)
    parser.add_argument("--rows", type=numbers.count, default=20_000, help="of the input (default: %(default)s)")
    parser.add_argument("--repeats", type=numbers.count, default=2, help="rounds (default: %(default)s)")
    parser.add_argument("--short", action="store_true", help="texts of a few words, for a model that takes no time")
    parser.add_argument(
        "--interval",
        type=numbers.above_zero,
        default=10.0,
        help="seconds between samples, each of which takes 0.1 s of a processor from the job (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Measures, prints, draws and writes; 1 if a row is missing or doubled."""
    plots.require()
    here = machine.describe()
    machine.warn_if_busy(here)
    texts = _texts(args)
    rounds: list[dict[str, Any]] = []
    samples = Samples()
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
            found, samples = _job(source, output, target.grpc_url, args)
            found["encode"] = rate
            _check(output, len(texts))
            print(
                f"round {number}: Client.encode {rate:,.0f} texts/s, the job {found['job']:,.0f} rows/s, "
                f"{found['job'] / rate:.2f} of it, after {found['start_seconds']:.1f} s to start",
                flush=True,
            )
            rounds.append(found)
    print(f"\n{machine.summary(here)}\n")
    ratio = statistics.median(found["job"] / found["encode"] for found in rounds)
    print(f"{len(texts):,} rows: {ratio:.2f} of Client.encode; lost 0, doubled 0")
    steady = while_encoding(samples)
    lines = {series: trend(steady.seconds, values, 0.0) for series, values in steady.mib.items()}
    shown: list[list[report.Cell]] = [
        [series, max(samples.mib[series]), line.last, f"{line.per_minute:+.2f}", rounds[-1]["processor"].get(series)]
        for series, line in lines.items()
    ]
    print(report.table(["MiB", "at most", "at last", "a minute", "processor, s"], shown))
    name = args.output / f"corpus-{args.model}"
    rows: list[dict[str, report.Cell]] = [
        {"second": round(second, 1), **{series: round(values[i], 1) for series, values in samples.mib.items()}}
        for i, second in enumerate(samples.seconds)
    ]
    written = [
        report.write_csv(name.with_suffix(".csv"), rows),
        report.write_json(
            name.with_suffix(".json"),
            here,
            rows=len(texts),
            rounds=rounds,
            ratio=ratio,
            lost=0,
            doubled=0,
            mib_at_most={series: max(values) for series, values in samples.mib.items()},
            trends={series: vars(line) for series, line in lines.items()},
        ),
    ]
    with plots.style():
        written += plots.save(draw(samples, len(texts), args.model), name, here)
    report.print_written(written)
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


def _job(source: Path, output: Path, url: str, args: argparse.Namespace) -> tuple[dict[str, Any], Samples]:
    """One job, as a user starts it; its memory is looked at meanwhile."""
    command = [sys.executable, "-m", "client_sdk", "corpus", str(source), "--output", str(output), "--id-column", "id"]
    started = time.monotonic()
    # In a session of its own Ctrl-C does not reach it, so that what ends it is one signal, whoever sent which to whom.
    job = subprocess.Popen(
        [*command, "--triton", url, "--model", args.model], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    with Watch(job.pid, args.interval) as watch:
        try:
            said, _ = job.communicate()
        finally:
            if job.poll() is None:
                job.terminate()
                job.wait()
    whole = time.monotonic() - started
    if job.returncode:
        raise Failure(f"the job ended with {job.returncode}")
    print(said.strip(), flush=True)
    summary = _summary(output)
    working = summary["seconds"] - summary["start_seconds"]
    found = {
        "job": summary["new_rows"] / working,
        "start_seconds": whole - working,
        "whole_seconds": whole,
        "processor": watch.processor_seconds(),
    }
    return found, watch.samples()


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
