"""Memory of client and server over a long bulk run: one call after the other, all processes sampled meanwhile.

Resident memory of each process without what is shared, and the shared memory of Triton's Python steps counted once.
After the warm-up a straight line is laid through the samples: memory is flat if what the line rises in the measured
time is less than 2 % of the level, or 4 MiB. The exit status is 1 if something grows.

Examples:
  python -m perf memory                            starts a server; ten minutes
  python -m perf memory --minutes 1                a glance: warm-up still shows
  python -m perf memory --url localhost:8001 --server-pid 1234      a server that runs already, on this machine
"""

from __future__ import annotations

import argparse
import threading
import time

import client_sdk
from perf import machine, numbers, plots, report, serving
from perf.memory.plot import draw
from perf.memory.samples import Samples, Trend, look, trend
from perf.processes import measured_processes
from perf.texts import MAX_TOKENS, benchmark_texts, load_tokenizer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    serving.add_arguments(parser)
    parser.add_argument("--minutes", type=numbers.above_zero, default=10.0, help="of the run (default: %(default)s)")
    parser.add_argument(
        "--warm-up",
        type=numbers.part,
        default=0.2,
        metavar="SHARE",
        help="of the run that is not judged (default: %(default)s)",
    )
    parser.add_argument("--texts", type=numbers.count, default=2000, help="in a call (default: %(default)s)")
    parser.add_argument(
        "--interval", type=numbers.above_zero, default=1.0, help="seconds between samples (default: %(default)s)"
    )
    serving.add_server_pid(parser)


def run(args: argparse.Namespace) -> int:
    """Measures, prints, draws and writes; 1 if something grows."""
    plots.require()
    serving.check_server_pid(args)
    here = machine.describe()
    texts = benchmark_texts(load_tokenizer(args.repository, args.model), MAX_TOKENS)
    with (
        serving.serving(args) as target,
        client_sdk.Client(target.grpc_url, args.model, timeout=3600) as client,
    ):
        here["tritonserver"] = client.info().server_version
        processes = measured_processes(args.server_pid)
        print(f"encoding for {args.minutes:g} minutes, {args.texts} texts a call ...", flush=True)
        samples, done = _sampled_run(client, texts, processes, args)
    warm = args.warm_up * samples.seconds[-1]
    trends = {name: trend(samples.seconds, series, warm) for name, series in samples.mib.items()}
    print(f"\n{machine.summary(here)}")
    print(f"{done:,} texts in {samples.seconds[-1] / 60:.1f} minutes; judged from {warm / 60:.1f} minutes on\n")
    print(report.table(*_table(samples, trends)))
    growing = [name for name, found in trends.items() if not found.is_flat]
    print(f"\nmemory grows: {', '.join(growing)}" if growing else "\nmemory is flat")
    name = args.output / f"memory-{args.model}"
    rows: list[dict[str, report.Cell]] = [
        {"second": round(second, 1), **{series: round(values[i], 2) for series, values in samples.mib.items()}}
        for i, second in enumerate(samples.seconds)
    ]
    summary = {series: {**vars(found), "is_flat": found.is_flat} for series, found in trends.items()}
    written = [
        report.write_csv(name.with_suffix(".csv"), rows),
        report.write_json(name.with_suffix(".json"), here, texts=done, warm_up_seconds=warm, trends_mib=summary),
    ]
    with plots.style():
        written += plots.save(draw(samples, trends, warm, args.model), name, here)
    report.print_written(written)
    return 1 if growing else 0


def _sampled_run(
    client: client_sdk.Client, texts: list[str], processes: dict[int, str], args: argparse.Namespace
) -> tuple[Samples, int]:
    """Encode until the time is over, while another thread looks at the processes."""
    samples = Samples()
    started = time.monotonic()
    over = threading.Event()

    def watch() -> None:
        while True:
            samples.add(time.monotonic() - started, look(processes))
            if over.wait(args.interval):
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    done = 0
    try:
        while time.monotonic() - started < 60 * args.minutes:
            start = done % len(texts)
            batch = texts[start : start + args.texts]
            client.encode(batch)
            done += len(batch)
    finally:
        over.set()
        watcher.join()
    return samples, done


def _table(samples: Samples, trends: dict[str, Trend]) -> tuple[list[str], list[list[report.Cell]]]:
    headers = ["MiB", "at first", "at last", "most", "a minute", ""]
    rows: list[list[report.Cell]] = [
        [
            name,
            found.first,
            found.last,
            max(samples.mib[name]),
            f"{found.per_minute:+.2f}",
            "flat" if found.is_flat else "grows",
        ]
        for name, found in trends.items()
    ]
    return headers, rows
