"""`python -m perf load --rate`: latency against the rate of requests, of the server and of its gateway."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http.client import HTTPException
from typing import Any

import client_sdk
from client_sdk._transport.address import Address
from perf import machine, numbers, plots, report, serving
from perf.compare.running.closed_loop import Send, closed_loop
from perf.compare.systems import openai_form, server
from perf.compare.systems.http_client import Refused
from perf.failure import Failure
from perf.load.open_loop import KNEE, PERCENTILES, Outcome, arrivals, knee, outcome, send_at
from perf.load.rate_plot import draw
from perf.texts import benchmark_texts, load_tokenizer, take

SHARES = (0.1, 0.25, 0.4, 0.55, 0.7, 0.8, 0.9, 1.0, 1.1)
"""Of what a closed loop of CAPACITY_CALLERS gets, where no rates are given."""
CAPACITY_CALLERS = 32

DIRECT, THROUGH = "Triton, by the client", "the gateway, OpenAI's form"


@dataclass(frozen=True)
class Asked:
    """What is measured: `connect` and `requests` as `send_at` takes them; and what ends the connections."""

    connect: Callable[[], Send]
    requests: list[Any]
    close: Callable[[], None] = lambda: None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of an open loop."""
    parser.add_argument(
        "--rate",
        type=numbers.above_zero,
        nargs="*",
        metavar="N",
        help="requests a second, in an open loop (none: from a tenth of what the server can to more than that)",
    )
    parser.add_argument(
        "--gateway",
        nargs="?",
        const="",
        metavar="URL",
        help="with --rate: this gateway too, in OpenAI's form (no URL: one is started for the measurement)",
    )


def run(args: argparse.Namespace) -> int:
    """Measures, prints, draws and writes."""
    size = checked(args)
    window = (args.window or (2000 if args.quick else 20_000)) / 1e3
    here = machine.describe()
    machine.warn_if_busy(here)
    texts = benchmark_texts(load_tokenizer(args.repository, args.model), args.max_tokens)
    batches = [take(texts[start:] + texts, size) for start in range(0, len(texts), size)]
    found: dict[str, list[Outcome]] = {}
    with serving.serving(args) as target, client_sdk.Client(target.grpc_url, args.model) as client:
        here["tritonserver"] = client.info().server_version
        asked = {DIRECT: Asked(lambda: client.encode, batches)}
        with _gateway(args, target.grpc_url) as url:
            if url is not None:
                asked[THROUGH] = _through(url, args.model, batches)
            for name, one in asked.items():
                _answers(name, one)
            for rate in args.rate or _rates(asked[DIRECT], 1.0 if args.quick else 5.0):
                for name, one in asked.items():
                    sent = send_at(arrivals(rate, window), one.connect, one.requests)
                    one.close()
                    found.setdefault(name, []).append(outcome(rate, sent))
                    print(f"  {rate:,.1f} requests/s, {name}: {_line(found[name][-1])}", flush=True)
    knees = {name: knee(outcomes) for name, outcomes in found.items()}
    print(f"\n{machine.summary(here)}; texts cut at {args.max_tokens} tokens, {size} a request")
    print("\nlatency in ms, from when a request was to start; late: its sending, the 99th percentile")
    print(report.table(*_table(found)))
    for name, rate in knees.items():
        print(f"\nknee, {name}: {'none' if rate is None else f'{rate:,.1f} requests/s'}", end="")
    print(f" (p99 at most {KNEE:g} times that of the lowest rate, and no error)")
    name = args.output / f"rate-{args.model}"
    results = {name: [asdict(one) for one in outcomes] for name, outcomes in found.items()}
    written = [
        report.write_json(
            name.with_suffix(".json"),
            here,
            window_ms=round(1e3 * window),
            max_tokens=args.max_tokens,
            texts_a_request=size,
            knees=knees,
            rates=results,
        )
    ]
    with plots.style():
        written += plots.save(draw(found, knees, args.model, size), name, here)
    report.print_written(written)
    return 0


def checked(args: argparse.Namespace) -> int:
    """The texts of a request. Raises Failure for options that do not go together."""
    if args.rate is None:
        raise Failure("--gateway is for an open loop: give --rate too")
    if args.gateway and not args.url:
        raise Failure("--gateway URL needs the address of the server behind it: --url grpc://host:port")
    if args.gateway:
        _gateway_address(args.gateway)
    if args.concurrency or args.protocols:
        raise Failure("--rate says how many requests come; --concurrency and --protocols are for a closed loop")
    sizes = args.batch_sizes or [1]
    if len(sizes) != 1:
        raise Failure("--rate takes one of --batch-sizes")
    return int(sizes[0])


def _answers(name: str, asked: Asked) -> None:
    """Send one request. Raises Failure, or ClientError, where none is answered."""
    try:
        asked.connect()(asked.requests[0])
    except (OSError, HTTPException, Refused) as error:
        raise Failure(f"{name}: {type(error).__name__}: {error}") from None
    asked.close()


def _rates(asked: Asked, seconds: float) -> list[float]:
    """From a tenth of what it can, to more than that."""
    can = closed_loop(asked.connect, asked.requests, CAPACITY_CALLERS, seconds).calls_per_second
    print(f"a closed loop of {CAPACITY_CALLERS} callers gets {can:,.1f} requests/s", flush=True)
    return [share * can for share in SHARES]


@contextmanager
def _gateway(args: argparse.Namespace, triton: str) -> Iterator[str | None]:
    """The address of the gateway that is to be measured, which may be started for that; None: none is."""
    if args.gateway != "":
        yield args.gateway
        return
    port = server.free_port()
    command = (
        *(sys.executable, "-m", "client_sdk", "gateway", "--triton", triton, "--no-access-log"),
        *("--listen", f"127.0.0.1:{port}"),
    )
    with server.serving(command, lambda log: server.answers(port, "/health/live")):
        yield f"http://127.0.0.1:{port}"


def _gateway_address(url: str) -> Address:
    return serving.read_address("--gateway", url, {"http": 80})


def _through(url: str, model: str, batches: list[list[str]]) -> Asked:
    address = _gateway_address(url)
    config = {"host": address.host, "port": address.port, "path": "/v1/embeddings", "model": model}
    client = openai_form.Client(config)
    return Asked(client.connect, [client.prepare(batch) for batch in batches], client.close)


def _line(one: Outcome) -> str:
    errors = f", {sum(one.errors.values())} errors" if one.errors else ""
    return ", ".join(f"p{p} {latency:,.1f} ms" for p, latency in one.latency.items()) + errors


def _table(found: dict[str, list[Outcome]]) -> tuple[tuple[str, ...], list[list[report.Cell]]]:
    headers = ("asked", "requests/s", "answers/s", "p50", "p95", "p99", "worst", "late", "requests", "errors")
    rows: list[list[report.Cell]] = [
        [
            name,
            one.rate,
            one.answered_per_second,
            *map(one.latency.get, PERCENTILES),
            one.worst,
            one.late,
            one.requests,
            ", ".join(f"{count} {error}" for error, count in one.errors.items()),
        ]
        for name, outcomes in found.items()
        for one in outcomes
    ]
    return headers, rows
