"""Where the time of one request goes: client, network, and each step of the server with its queue and its phases.

A lone text and a batch, one request at a time, so that nothing overlaps and the parts add up. The client's own times
are taken inside the client, the server's are Triton's statistics of the same requests; what neither accounts for is
the network. Each figure is of the median round.

Examples:
  python -m perf profile                            starts a server; about a minute
  python -m perf profile --url localhost:8001 --rounds 21
  python -m perf profile --batch-size 16
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import client_sdk
from perf import machine, numbers, plots, report, serving
from perf.failure import Failure
from perf.profile.client_times import CallTimes, watching
from perf.profile.plot import draw
from perf.profile.server_statistics import StatisticsEndpoint, between
from perf.profile.spans import Span, request_span
from perf.texts import MAX_TOKENS, benchmark_texts, load_tokenizer, take, token_counts

WARM_UPS = 10
ROUNDS_IN_BATCHES = 4  # a call with a batch takes as long as many with one text


@dataclass(frozen=True)
class Case:
    """One kind of request."""

    name: str
    requests: list[list[str]]
    """The texts of each request of a round."""
    tokens: float
    """Mean of a text."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    serving.add_arguments(parser)
    parser.add_argument(
        "--rounds", type=numbers.count, default=9, help="of which the median counts (default: %(default)s)"
    )
    parser.add_argument(
        "--calls",
        type=numbers.count,
        default=40,
        help="with a lone text in a round; a quarter with a batch (default: %(default)s)",
    )
    parser.add_argument("--batch-size", type=numbers.count, default=64, help="texts in a batch (default: %(default)s)")
    parser.add_argument(
        "--bulk", type=numbers.count, default=2000, help="texts for the client's processor time (default: %(default)s)"
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
    here = machine.describe()
    machine.warn_if_busy(here)
    tokenizer = load_tokenizer(args.repository, args.model)
    texts = benchmark_texts(tokenizer, args.max_tokens)
    lone = [[text] for text in take(texts, args.calls)]
    batches = _chunks(take(texts, max(1, args.calls // ROUNDS_IN_BATCHES) * args.batch_size), args.batch_size)
    cases = [
        Case(name, requests, _mean(token_counts([text for request in requests for text in request], tokenizer)))
        for name, requests in (("a lone text", lone), (f"a batch of {args.batch_size}", batches))
    ]
    with serving.serving(args) as target, client_sdk.Client(target.grpc_url, args.model, timeout=600) as client:
        info = client.info()
        here["tritonserver"] = info.server_version
        if args.batch_size > info.max_batch_size:
            raise Failure(
                f"--batch-size {args.batch_size}: a request of {args.model} takes {info.max_batch_size} texts"
            )
        statistics = StatisticsEndpoint(target.addresses["grpc"])
        spans, cpu = {}, {}
        for case in cases:
            spans[case.name], cpu[case.name] = _profile(case, client, statistics, args.model, args.rounds)
        bulk = take(texts, args.bulk)
        cpu[f"{args.bulk:,} texts in one call"] = _processor_time(lambda: client.encode(bulk)) / args.bulk
    print(f"\n{machine.summary(here)}; texts cut at {args.max_tokens} tokens")
    for case in cases:
        print(f"{case.name}: {case.tokens:.1f} tokens a text on average, {len(case.requests)} requests a round")
    print()
    print(report.table(*_span_table(list(spans.values()))))
    print("\nprocessor time of the client, its threads and gRPC included")
    headers = ("", "µs a text", "of a core at 1,000 texts/s")
    print(report.table(headers, [[name, 1e6 * each, f"{1e3 * each:.1%}"] for name, each in cpu.items()]))
    name = args.output / f"profile-{args.model}"
    written = [
        report.write_json(
            name.with_suffix(".json"),
            here,
            max_tokens=args.max_tokens,
            spans={case: asdict(span) for case, span in spans.items()},
            client_cpu_seconds_per_text=cpu,
        )
    ]
    with plots.style():
        written += plots.save(draw(spans, args.model), name, here)
    report.print_written(written)
    return 0


def _profile(
    case: Case, client: client_sdk.Client, statistics: StatisticsEndpoint, model: str, rounds: int
) -> tuple[Span, float]:
    """The median round's tree, and seconds of the client's processor time a text."""
    steps = statistics.steps(model)
    encoder = f"{model}_encoder"
    late = encoder if statistics.backend(encoder) == "python" else None
    found: list[tuple[float, Span, CallTimes]] = []
    before = statistics.counters()
    with watching() as watch:
        warm_ups = case.requests[:WARM_UPS]
        for request in warm_ups:
            watch.call(lambda request=request: client.encode(request))  # type: ignore[misc]
        before = statistics.after(before, model, len(warm_ups))
        for _ in range(rounds):
            watch.times = CallTimes()
            for request in case.requests:
                watch.call(lambda request=request: client.encode(request))  # type: ignore[misc]
            after = statistics.after(before, model, len(case.requests))
            span = request_span(
                case.name,
                watch.times,
                watch.serialisation(),
                between(before, after, model),
                [between(before, after, step) for step in steps],
                late,
            )
            found.append((span.milliseconds, span, watch.times))
            before = after
    _, span, times = sorted(found, key=lambda entry: entry[0])[len(found) // 2]
    return span, sum(times.cpu) / sum(len(request) for request in case.requests)


def _span_table(cases: Sequence[Span]) -> tuple[Sequence[str], list[list[report.Cell]]]:
    headers = ["", *(header for span in cases for header in (f"{span.name}: ms", "%"))]
    walks = [list(span.walk()) for span in cases]
    rows: list[list[report.Cell]] = []
    for entries in zip(*walks, strict=True):
        depth = entries[0][0]
        names = list(dict.fromkeys(span.name for _, span in entries)) if depth else ["request"]
        row: list[report.Cell] = ["  " * depth + " / ".join(names)]
        for (_, span), whole in zip(entries, cases, strict=True):
            row += [round(span.milliseconds, 3), round(100 * span.milliseconds / whole.milliseconds, 1)]
        rows.append(row)
    return headers, rows


def _processor_time(function: Callable[[], object]) -> float:
    started = time.process_time()
    function()
    return time.process_time() - started


def _chunks(texts: Sequence[str], size: int) -> list[list[str]]:
    return [list(texts[start : start + size]) for start in range(0, len(texts), size)]


def _mean(values: Sequence[int]) -> float:
    return sum(values) / max(1, len(values))
