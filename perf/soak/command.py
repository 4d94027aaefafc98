"""Everything at once for a long time: does anything grow, fail, or come out wrong?

One server takes single texts, lists and bulk over gRPC and HTTP, token vectors, malformed requests, and a second
family that is loaded and unloaded. Every vector is compared with the one the same server gave before. Meanwhile are
sampled: memory of each process, shared memory and its files, file descriptors and threads of the server.

The exit status is 1 if something grows after the warm-up (by the rule of `python -m perf memory`; a count, by more
than 5 %), if a good request fails, if a vector is wrong, or if a malformed request gets no answer.

Examples:
  python -m perf soak                    half an hour
  python -m perf soak --minutes 2        a glance: warm-up still shows
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
import time
from pathlib import Path

import psutil

import client_sdk
from perf import machine, numbers, plots, report
from perf.memory.samples import Samples, Trend, look, trend
from perf.processes import server_processes, shared_files
from perf.soak.families import copy_family
from perf.soak.malformed import FAMILY
from perf.soak.plot import draw
from perf.soak.traffic import FAILED, REFUSED, SERVED, UNANSWERED, WRONG, SoakTraffic
from perf.texts import MAX_TOKENS, benchmark_texts, load_tokenizer

SERVED_AS = FAMILY[0]
"""The name of the family in the soak's own repository: that which malformed requests are for."""
VISITOR = "visitor"
TEXTS = 2000
COUNT_SHARE = 0.05
COUNTS = ("file descriptors", "shared-memory files", "threads")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("--model", default="bert", help="family to serve (default: %(default)s)")
    parser.add_argument("--repository", type=Path, default=Path("model_repository"), metavar="DIR")
    report.add_output(parser)
    parser.add_argument("--minutes", type=numbers.above_zero, default=30.0, help="of the run (default: %(default)s)")
    parser.add_argument(
        "--warm-up",
        type=numbers.part,
        default=0.2,
        metavar="SHARE",
        help="of the run that is not judged (default: 0.2)",
    )
    parser.add_argument(
        "--interval", type=numbers.above_zero, default=2.0, help="seconds between samples (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the traffic (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Run, print, draw and write; 1 if something is not as it should be."""
    plots.require()
    here = machine.describe()
    texts = benchmark_texts(load_tokenizer(args.repository, args.model), MAX_TOKENS)[:TEXTS]
    with tempfile.TemporaryDirectory() as folder:
        copy_family(args.repository, args.model, Path(folder), SERVED_AS)
        visitors = copy_family(args.repository, args.model, Path(folder), VISITOR)
        steps_first = [*visitors[2:], *visitors[:2][::-1]]
        print("starting tritonserver ...", flush=True)
        with client_sdk.LocalServer(folder, open_endpoints=["model-repository"]) as server:
            traffic = SoakTraffic(server, SERVED_AS, texts, steps_first, args.seed)
            print(f"mixed traffic for {args.minutes:g} minutes ...", flush=True)
            with traffic:
                samples, counts = _sampled(traffic, args)
            ran = server.is_running
    warm = args.warm_up * samples.seconds[-1]
    trends = {name: trend(samples.seconds, series, warm) for name, series in samples.mib.items()}
    count_trends = {name: trend(samples.seconds, counts.mib[name], warm) for name in COUNTS}
    complaints = _complaints(traffic, trends, count_trends)
    if not ran:
        complaints.append("the server ended")
    _report(args, here, traffic, samples, counts, trends, count_trends, warm, complaints)
    return 1 if complaints else 0


def _sampled(traffic: SoakTraffic, args: argparse.Namespace) -> tuple[Samples, Samples]:
    """Memory in MiB; and counts, with those of calls so far."""
    memory, counts = Samples(), Samples()
    started = time.monotonic()
    while (second := time.monotonic() - started) < 60 * args.minutes:
        processes = {pid: name for pid, name in server_processes(os.getpid()).items() if VISITOR not in name}
        memory.add(second, look(processes))
        counts.add(second, _counts(processes, traffic))
        time.sleep(args.interval)
    return memory, counts


def _counts(processes: dict[int, str], traffic: SoakTraffic) -> dict[str, float]:
    found = dict.fromkeys(COUNTS, 0.0)
    tritonserver = next((pid for pid, name in processes.items() if name == "tritonserver"), None)
    with contextlib.suppress(psutil.NoSuchProcess):  # it has ended, which is told at the end
        found["file descriptors"] = psutil.Process(tritonserver).num_fds()
        found["threads"] = psutil.Process(tritonserver).num_threads()
        found["shared-memory files"] = shared_files(list(processes))
    for (_, outcome), number in list(traffic.counts.items()):
        found[outcome] = found.get(outcome, 0.0) + number
    return found


def _complaints(traffic: SoakTraffic, trends: dict[str, Trend], count_trends: dict[str, Trend]) -> list[str]:
    found = [f"memory of {name} grows" for name, line in trends.items() if not line.is_flat]
    for name, line in count_trends.items():
        if line.per_minute * line.minutes > max(2.0, COUNT_SHARE * line.level):
            found.append(f"the number of {name} grows")
    for (kind, outcome), number in sorted(traffic.counts.items()):
        if outcome in (WRONG, FAILED, UNANSWERED):
            why = f", the first with {traffic.first_errors[kind]}" if kind in traffic.first_errors else ""
            found.append(f"{kind}: {number} {outcome}{why}")
    return found


def _report(
    args: argparse.Namespace,
    here: dict[str, str | int | float],
    traffic: SoakTraffic,
    samples: Samples,
    counts: Samples,
    trends: dict[str, Trend],
    count_trends: dict[str, Trend],
    warm: float,
    complaints: list[str],
) -> None:
    kinds = sorted({kind for kind, _ in traffic.counts})
    outcomes = (SERVED, REFUSED, FAILED, WRONG, UNANSWERED)
    calls: list[list[report.Cell]] = [[kind, *(traffic.counts[kind, name] for name in outcomes)] for kind in kinds]
    print(f"\n{machine.summary(here)}\n\n{report.table(['calls', *outcomes], calls)}\n")
    shown = {**trends, **count_trends}
    levels: list[list[report.Cell]] = [
        [name, line.first, line.last, f"{line.per_minute:+.2f}"] for name, line in shown.items()
    ]
    print(report.table(["MiB, or number", "at first", "at last", "a minute"], levels))
    print("\n" + ("\n".join(complaints) if complaints else "nothing grows, nothing failed, no vector is wrong"))
    name = args.output / f"soak-{args.model}"
    rows: list[dict[str, report.Cell]] = [
        {
            "second": round(second, 1),
            **{series: round(values[i], 2) for series, values in samples.mib.items()},
            **{series: values[i] for series, values in counts.mib.items()},
        }
        for i, second in enumerate(samples.seconds)
    ]
    written = [
        report.write_csv(name.with_suffix(".csv"), rows),
        report.write_json(
            name.with_suffix(".json"),
            here,
            minutes=samples.seconds[-1] / 60,
            warm_up_seconds=warm,
            calls={kind: {outcome: traffic.counts[kind, outcome] for outcome in outcomes} for kind in kinds},
            trends={series: vars(line) for series, line in shown.items()},
            complaints=complaints,
        ),
    ]
    with plots.style():
        written += plots.save(draw(samples, counts, COUNTS, warm, args.model), name, here)
    report.print_written(written)
