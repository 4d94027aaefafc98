"""Cost with size: throughput against texts in a call, length of the texts, share of long texts, and their order.

Four measurements through the Python client. Each point is repeated until its time is used up, and its median and
spread shown; a call that would take longer is given no more texts when its time is over, and what was done counts.

Examples:
  python -m perf size                              starts a server; about ten minutes
  python -m perf size --seconds 2                  two or three minutes, to see that it works
  python -m perf size --only length mixture        some of: texts, length, mixture, order
  python -m perf size --only texts --counts 100000 --seconds 3600      to the end
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from dataclasses import asdict

from tokenizers import Tokenizer

import client_sdk
from perf import machine, numbers, plots, report, serving
from perf.failure import Failure
from perf.size.plot import draw
from perf.size.rates import Rate, in_order, one_long_call, repeated, timed
from perf.texts import MAX_TOKENS, benchmark_texts, load_tokenizer, take, texts_of_length, token_counts

COUNTS = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)
LENGTHS = (8, 16, 32, 64, 128, 256, 512)
SHARES = (0, 1, 5, 10, 25, 50, 75, 100)
MEASUREMENTS = ("texts", "length", "mixture", "order")

TEXTS_IN_CALL = 256
"""Where their number is not what is measured."""
SHORT = 16
"""Tokens of a short text; a long one has as many as the benchmark's longest."""
ORDER_TEXTS = 2048
ORDER_REPEATS = 3
REQUEST_TEXTS = 64
REQUESTS_AT_A_TIME = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    serving.add_arguments(parser)
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, default=MEASUREMENTS, help="default: all")
    parser.add_argument(
        "--seconds", type=numbers.above_zero, default=10.0, help="for each point (default: %(default)s)"
    )
    parser.add_argument("--counts", type=numbers.count, nargs="+", default=COUNTS, metavar="N", help="texts in a call")
    parser.add_argument(
        "--lengths", type=numbers.count, nargs="+", default=LENGTHS, metavar="N", help="tokens of a text"
    )
    parser.add_argument(
        "--shares", type=numbers.percent, nargs="+", default=SHARES, metavar="PERCENT", help="of long texts"
    )


def run(args: argparse.Namespace) -> int:
    """Measures, prints, draws and writes."""
    plots.require()
    here = machine.describe()
    machine.warn_if_busy(here)
    tokenizer = load_tokenizer(args.repository, args.model)
    found: dict[str, list[Rate]] = {}
    with (
        serving.serving(args) as target,
        client_sdk.Client(target.grpc_url, args.model, timeout=24 * 3600) as client,
    ):
        info = client.info()
        here["tritonserver"], longest = info.server_version, info.max_seq_len
        texts = benchmark_texts(tokenizer, min(MAX_TOKENS, longest))
        client.encode(texts[:TEXTS_IN_CALL])
        for measurement in args.only:
            print(f"{measurement} ...", flush=True)
            if measurement == "texts":
                rates = by_count(client, texts, args.counts, args.seconds)
            elif measurement == "length":
                lengths = [length for length in args.lengths if length <= longest]
                if not lengths:
                    raise Failure(
                        f"--lengths {min(args.lengths)}: {args.model} reads {longest} tokens of a text at most"
                    )
                rates = by_length(client, tokenizer, lengths, args.seconds)
            elif measurement == "mixture":
                rates = by_share(client, tokenizer, min(MAX_TOKENS, longest), args.shares, args.seconds)
            else:
                rates = by_order(client, texts[:ORDER_TEXTS], tokenizer)
            found[measurement] = rates
    print(f"\n{machine.summary(here)}")
    for measurement, rates in found.items():
        print(f"\n{TITLES[measurement]}")
        print(report.table(*TABLES[measurement](rates)))
    if "order" in found:
        for way, ratio in order_ratios(found["order"]).items():
            print(f"shuffled / sorted, {way}: {ratio:.2f}")
    name = args.output / f"size-{args.model}"
    points = {measurement: [asdict(rate) for rate in rates] for measurement, rates in found.items()}
    written = [report.write_json(name.with_suffix(".json"), here, seconds_a_point=args.seconds, points=points)]
    with plots.style():
        written += plots.save(draw(found, args.model), name, here)
    report.print_written(written)
    return 0


def by_count(client: client_sdk.Client, texts: Sequence[str], counts: Sequence[int], budget: float) -> list[Rate]:
    """One call with each number of texts, fewest first; from the beginning again where there are not as many."""
    rates: list[Rate] = []
    for count in sorted(counts):
        expected = count / rates[-1].texts_per_second if rates else 0.0
        if expected <= budget:
            seconds = repeated(client.encode, take(texts, count), budget)
            rates.append(Rate(count, 0.0, count, seconds))
        else:
            done, taken = one_long_call(client.encode, texts, count, budget)
            rates.append(Rate(count, 0.0, done, (taken,), cut_off=done < count))
    return rates


def by_length(client: client_sdk.Client, tokenizer: Tokenizer, lengths: Sequence[int], budget: float) -> list[Rate]:
    """Call with texts that all have the same length."""
    rates = []
    for length in lengths:
        texts = texts_of_length(tokenizer, length, TEXTS_IN_CALL)
        rates.append(Rate(length, length, len(texts), repeated(client.encode, texts, budget)))
    return rates


def by_share(
    client: client_sdk.Client, tokenizer: Tokenizer, long: int, shares: Sequence[float], budget: float
) -> list[Rate]:
    """Call with short and long texts, shuffled."""
    short_texts = texts_of_length(tokenizer, SHORT, TEXTS_IN_CALL)
    long_texts = texts_of_length(tokenizer, long, TEXTS_IN_CALL)
    rates = []
    for share in sorted(shares):
        count = round(TEXTS_IN_CALL * share / 100)
        texts = long_texts[:count] + short_texts[: TEXTS_IN_CALL - count]
        random.Random(0).shuffle(texts)
        tokens = (count * long + (TEXTS_IN_CALL - count) * SHORT) / TEXTS_IN_CALL
        rates.append(Rate(share, tokens, len(texts), repeated(client.encode, texts, budget)))
    return rates


def by_order(client: client_sdk.Client, texts: Sequence[str], tokenizer: Tokenizer) -> list[Rate]:
    """The same texts shuffled and sorted by length, in turn: in one call, and in requests sent in the given order."""
    counts = dict(zip(texts, token_counts(texts, tokenizer), strict=True))
    orders = {"shuffled": list(texts), "sorted": sorted(texts, key=counts.__getitem__)}
    seconds: dict[tuple[str, str], list[float]] = {}
    for _ in range(ORDER_REPEATS):
        for order, these in orders.items():
            ways = {
                "one call": lambda these=these: client.encode(these),
                "requests in order": lambda these=these: in_order(
                    client.encode, these, REQUEST_TEXTS, REQUESTS_AT_A_TIME
                ),
            }
            for way, call in ways.items():
                seconds.setdefault((way, order), []).append(timed(call))
    tokens = sum(counts.values()) / len(counts)
    return [Rate(0, tokens, len(texts), tuple(times), f"{way}, {order}") for (way, order), times in seconds.items()]


def order_ratios(rates: Sequence[Rate]) -> dict[str, float]:
    """For each way of sending, texts per second shuffled over sorted."""
    by_name = {rate.name: rate.texts_per_second for rate in rates}
    ways = dict.fromkeys(name.rpartition(", ")[0] for name in by_name)
    return {way: by_name[f"{way}, shuffled"] / by_name[f"{way}, sorted"] for way in ways}


def linear_mixture(rates: Sequence[Rate]) -> list[float]:
    """Texts per second that each mixture would have if its texts took as long as they do among their like.

    The first rate is of short texts only, the last of long ones; else there is nothing to compare with.
    """
    if not rates or rates[0].value != 0 or rates[-1].value != 100:
        return []
    short, long = 1 / rates[0].texts_per_second, 1 / rates[-1].texts_per_second
    return [1 / (short + (long - short) * rate.value / 100) for rate in rates]


Table = tuple[Sequence[str], list[list[report.Cell]]]

TITLES = {
    "texts": "texts in one call; sentences, cut at 128 tokens",
    "length": f"length of the texts, {TEXTS_IN_CALL} in a call",
    "mixture": f"share of long texts among short ones of {SHORT} tokens, {TEXTS_IN_CALL} in a call, shuffled\n"
    "ideal: as if each text took as long as among its like",
    "order": f"{ORDER_TEXTS} sentences, shuffled and sorted by length: in one call, which the client sorts,\n"
    f"and as they stand, in requests of {REQUEST_TEXTS}, {REQUESTS_AT_A_TIME} at a time",
}


def _spread(rate: Rate) -> list[report.Cell]:
    return [round(rate.texts_per_second, 1), round(rate.least, 1), round(rate.most, 1), len(rate.seconds)]


def _count_table(rates: Sequence[Rate]) -> Table:
    headers = ("texts", "done", "texts/s", "least", "most", "calls", "ms a call")
    return headers, [
        [int(rate.value), rate.texts, *_spread(rate), 1e3 * rate.texts / rate.texts_per_second] for rate in rates
    ]


def _length_table(rates: Sequence[Rate]) -> Table:
    headers = ("tokens", "texts/s", "least", "most", "calls", "tokens/s")
    return headers, [[int(rate.value), *_spread(rate), rate.texts_per_second * rate.tokens] for rate in rates]


def _share_table(rates: Sequence[Rate]) -> Table:
    headers = ("% long", "tokens each", "texts/s", "least", "most", "calls", "tokens/s", "of the ideal")
    ideal = linear_mixture(rates) or [None] * len(rates)
    return headers, [
        [
            float(rate.value),
            rate.tokens,
            *_spread(rate),
            rate.texts_per_second * rate.tokens,
            rate.texts_per_second / best if best else None,
        ]
        for rate, best in zip(rates, ideal, strict=True)
    ]


def _order_table(rates: Sequence[Rate]) -> Table:
    return ("", "texts/s", "least", "most", "calls"), [[rate.name, *_spread(rate)] for rate in rates]


TABLES = {"texts": _count_table, "length": _length_table, "mixture": _share_table, "order": _order_table}
