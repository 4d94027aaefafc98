"""Throughput and latency under load, by Triton's own perf_analyzer, with real texts of real lengths.

Closed loop: so many requests are on their way at any time, each with its own texts. perf_analyzer is the one on PATH,
else one is fetched that runs here; its command is printed, so that every figure can be had again by hand.

With --rate an open loop, by the client and without perf_analyzer: requests come at random, so many a second, and
latency counts from when each was to start.

Examples:
  python -m perf load                                        starts a server; about ten minutes
  python -m perf load --quick                                less than a minute, to see that it works
  python -m perf load --model minilm --url localhost:8001 --url http://localhost:8000
  python -m perf load --protocols grpc --batch-sizes 1 --concurrency 1 2 4 8 16 32 64
  python -m perf load --rate --gateway                       rates up to what it can, the gateway beside the server
  python -m perf load --rate 20 50 100 --url localhost:8001 --gateway http://localhost:8080
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import client_sdk
from perf import machine, numbers, plots, report, serving
from perf.failure import Failure
from perf.load import rates
from perf.load.analyzer_report import Measurement, measurements, read_csv
from perf.load.perf_analyzer import PerfAnalyzer, cache_directory, find_or_fetch
from perf.load.plot import draw
from perf.load.points import Point, plan
from perf.texts import MAX_TOKENS, benchmark_texts, load_tokenizer, token_counts

WINDOWS = 3
"""Measurement windows of a point; perf_analyzer reports all of them together."""
MOST_TEXTS_IN_FLIGHT = 256
WINDOW_DOUBLINGS = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    serving.add_arguments(parser)
    parser.add_argument(
        "--concurrency",
        type=numbers.count,
        nargs="+",
        metavar="N",
        help="requests on their way at a time (default: 1 2 4 8 16 32 64)",
    )
    parser.add_argument(
        "--batch-sizes", type=numbers.count, nargs="+", metavar="N", help="texts in a request (default: 1 8 64)"
    )
    parser.add_argument(
        "--protocols",
        nargs="+",
        choices=list(serving.PORTS),
        help="default: those that --url gives, or both",
    )
    parser.add_argument(
        "--window",
        type=numbers.count,
        metavar="MS",
        help="of measurement, three a point (default: 5000); with --rate one (default: 20000)",
    )
    rates.add_arguments(parser)
    parser.add_argument("--quick", action="store_true", help="1 4 16 at a time, one text each, windows of 1000 ms")
    parser.add_argument(
        "--most-in-flight",
        type=numbers.count,
        default=MOST_TEXTS_IN_FLIGHT,
        metavar="N",
        help="leave out points with more texts on their way than this (default: %(default)s)",
    )
    parser.add_argument(
        "--max-tokens",
        type=numbers.count,
        default=MAX_TOKENS,
        help="where texts are cut, in tokens (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Measures, prints, draws and writes."""
    plots.require()
    if args.rate is not None or args.gateway is not None:
        return rates.run(args)
    analyzer = find_or_fetch()
    here = machine.describe() | {"perf_analyzer": ".".join(map(str, analyzer.version))}
    machine.warn_if_busy(here)
    window = args.window or (1000 if args.quick else 5000)
    tokenizer = load_tokenizer(args.repository, args.model)
    texts = benchmark_texts(tokenizer, args.max_tokens)
    input_file = cache_directory() / f"texts-{args.model}-{args.max_tokens}.json"
    write_input(input_file, texts)
    counts = token_counts(texts, tokenizer)
    print(f"perf_analyzer: {report.shown_path(analyzer.path)}, version {here['perf_analyzer']}")
    print(f"texts: {len(texts):,} of {min(counts)} to {max(counts)} tokens, {sum(counts) / len(counts):.1f} on average")
    if analyzer.note:
        print(f"note: {analyzer.note}")
    found: list[tuple[Point, Measurement]] = []
    rows: list[dict[str, report.Cell]] = []
    with serving.serving(args) as target:
        protocol, address = next(iter(target.addresses.items()))
        with client_sdk.Client(f"{protocol}://{address}", args.model) as client:
            here["tritonserver"] = client.info().server_version
        points, left_out = plan(args, list(target.addresses))
        if left_out:
            print(f"left out: {left_out} points of more than {args.most_in_flight} texts at a time (--most-in-flight)")
        for point in points:
            measurement, row = _measure(
                analyzer, point, args.model, target.addresses[point.protocol], input_file, window
            )
            found.append((point, measurement))
            rows.append(row)
            print(f"  {measurement.texts_per_second:,.1f} texts/s, p95 {measurement.latency[95]:,.1f} ms", flush=True)
    print(f"\n{machine.summary(here)}; texts cut at {args.max_tokens} tokens")
    print("\nthroughput in texts/s, latency of a request in ms; spread: of the windows, (most - least) / mean")
    print(report.table(*_throughput_table(found)))
    print("\nwhere a request's time went, in ms; in brackets the texts computed together")
    print(report.table(*_steps_table(found, args.model)))
    name = args.output / f"load-{args.model}"
    results = [{**asdict(point), **asdict(measurement)} for point, measurement in found]
    written = [
        report.write_csv(name.with_suffix(".csv"), rows),
        report.write_json(
            name.with_suffix(".json"), here, window_ms=window, max_tokens=args.max_tokens, points=results
        ),
    ]
    with plots.style():
        written += plots.save(draw(found, args.model, args.max_tokens), name, here)
    report.print_written(written)
    return 0


def write_input(path: Path, texts: Sequence[str]) -> None:
    """Write perf_analyzer's `--input-data`: one text a step; a request of N texts takes N steps."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = [{"TEXT": {"content": [text], "shape": [1]}} for text in texts]
    path.write_text(json.dumps({"data": data}, ensure_ascii=False), encoding="utf-8")


def arguments(point: Point, model: str, address: str, input_file: Path, window: int, csv_file: Path) -> list[str]:
    """perf_analyzer's arguments for one point."""
    return [
        *("-m", model, "-i", point.protocol, "-u", address),
        *("-b", str(point.batch_size), "--concurrency-range", str(point.concurrency)),
        *("--input-data", report.shown_path(input_file)),
        # It would discard what it does not find stable and stop; the spread of the windows is reported instead.
        *("--measurement-interval", str(window), "--max-trials", str(WINDOWS), "--stability-percentage", "1000000"),
        *("-v", "--verbose-csv", "-f", str(csv_file)),
    ]


def _measure(
    analyzer: PerfAnalyzer, point: Point, model: str, address: str, input_file: Path, window: int
) -> tuple[Measurement, dict[str, report.Cell]]:
    print(f"\n{point}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        csv_file = Path(folder) / "report.csv"
        for doubling in range(WINDOW_DOUBLINGS + 1):
            this_window = window * 2**doubling
            words = arguments(point, model, address, input_file, this_window, csv_file)
            print(f"  {analyzer.command([*words[:-1], 'report.csv'])}", flush=True)
            try:
                done = analyzer.run(words, timeout=120 + 20 * this_window / 1e3)
            except subprocess.TimeoutExpired as error:
                raise Failure(f"perf_analyzer did not end within {error.timeout:.0f} s ({point})") from None
            if done.returncode == 0 and csv_file.exists():
                row = read_csv(csv_file)[0]
                measurement = measurements([row], done.stdout)[0]
                return measurement, {"Protocol": point.protocol, "Batch size": point.batch_size, **row}
            if "use a larger time window" not in done.stdout:
                break
            print("  no request began and ended within a window: again with twice the window")
    last = "\n  ".join(done.stdout.strip().splitlines()[-8:])
    raise Failure(f"perf_analyzer failed (status {done.returncode}) at {point}:\n  {last}")


def _throughput_table(found: Sequence[tuple[Point, Measurement]]) -> tuple[Sequence[str], list[list[report.Cell]]]:
    headers = ("protocol", "texts each", "at a time", "texts/s", "spread", "p50", "p95", "p99", "requests")
    rows: list[list[report.Cell]] = [
        [
            point.protocol,
            point.batch_size,
            point.concurrency,
            m.texts_per_second,
            f"{m.spread:.0%}",
            *(m.latency[p] for p in (50, 95, 99)),
            m.requests,
        ]
        for point, m in found
    ]
    return headers, rows


def _steps_table(
    found: Sequence[tuple[Point, Measurement]], model: str
) -> tuple[Sequence[str], list[list[report.Cell]]]:
    """Queues together, then each step, then what is left: network, ensemble, perf_analyzer itself."""
    names = list(dict.fromkeys(step.model for _, m in found for step in m.steps))
    names.sort(key=lambda name: STEP_ORDER.get(name.removeprefix(f"{model}_"), len(STEP_ORDER)))
    headers = ("protocol", "texts each", "at a time", "mean", "queues", *names, "rest")
    rows: list[list[report.Cell]] = []
    for point, m in found:
        steps = {step.model: step for step in m.steps}
        inside = sum(step.queue + step.compute for step in m.steps)
        rows.append(
            [
                point.protocol,
                point.batch_size,
                point.concurrency,
                m.mean_latency,
                sum(step.queue for step in m.steps),
                *(
                    f"{steps[name].compute:.2f} ({steps[name].texts_per_execution:.1f})" if name in steps else ""
                    for name in names
                ),
                m.mean_latency - inside,
            ]
        )
    return headers, rows


STEP_ORDER = {"tokenizer": 0, "encoder": 1, "pooling": 2}
