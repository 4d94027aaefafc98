"""Documents ranked for a query, beside sentence-transformers' CrossEncoder and infinity's /rerank, in one run.

The checkpoint is all-MiniLM-L6-v2 with a head of random weights: a cross-encoder of one label. Each system in turn is
started, its scores are compared with CrossEncoder's on PyTorch, and it is measured and stopped, then the next; then all
again. `unlike`: documents of one to eight sentences; `alike`: as many of their mean length, which shows what unlike
lengths cost. The systems are set up by `python -m perf compare --setup`.

Examples:
  python -m perf rerank                            all systems, three rounds; a quarter of an hour
  python -m perf rerank --systems ours sentence-transformers --repeats 1
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
from pathlib import Path
from typing import Any

import numpy as np

from perf import machine, numbers, report
from perf.compare import checkpoints
from perf.compare.comparison import Figure
from perf.compare.running.session import Session, running
from perf.compare.systems.environment import PeerAbsent
from perf.compare.systems.system import Peer
from perf.failure import Failure
from perf.rerank.cross_encoder import CrossEncoderTorch
from perf.rerank.cross_encoder_onnx import CrossEncoderOnnx
from perf.rerank.documents import QUERY, alike, unlike
from perf.rerank.infinity import InfinityOnnx, InfinityTorch
from perf.rerank.ours import Ours
from perf.texts import load_tokenizer, token_counts

SYSTEMS: tuple[Peer, ...] = (Ours(), CrossEncoderTorch(), CrossEncoderOnnx(), InfinityTorch(), InfinityOnnx())
REFERENCE = CrossEncoderTorch()
MAX_DIFFERENCE = 1e-4
FEW = 100
"""Documents in the call whose latency is measured."""
CHECKED = 200
"""So many pairs are compared."""

_HEADERS = ["system", "pairs/s, unlike", "pairs/s, alike", f"p50 of {FEW}, ms", "unlike / alike", "difference"]
_RATIOS = ["ours against", "unlike", "alike", f"p50 of {FEW}"]

Measured = dict[str, list[float]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the options."""
    names = [system.name for system in SYSTEMS]
    parser.add_argument("--systems", nargs="+", choices=names, default=names, help="to compare (default: all)")
    parser.add_argument(
        "--documents", type=numbers.count, default=1000, help="in the large call (default: %(default)s)"
    )
    parser.add_argument("--repeats", type=numbers.count, default=3, help="rounds (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=numbers.above_zero, default=10.0, help=f"of calls with {FEW} (default: %(default)s)"
    )
    report.add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Measures, prints and writes after each round."""
    if args.documents < FEW:
        raise Failure(f"--documents {args.documents}: at least {FEW}")
    here = machine.describe()
    machine.warn_if_busy(here)
    model = checkpoints.cross_encoder()
    tokenizer = load_tokenizer(model.repository, model.family)
    documents = unlike(tokenizer, args.documents)
    calls = {"unlike": documents, "alike": alike(tokenizer, documents)}
    pairs = {name: [(QUERY, text) for text in texts] for name, texts in calls.items()}
    tokens = {name: token_counts(texts, tokenizer) for name, texts in calls.items()}
    print(f"tokens of a document: {', '.join(f'{name} {_range(found)}' for name, found in tokens.items())}")
    REFERENCE.environments[0].require()
    with running(REFERENCE, model) as session:
        expected = session.vectors(pairs["unlike"][:CHECKED], FEW, 1)
    print(f"scores: {expected.min():.3f} to {expected.max():.3f}, standard deviation {expected.std():.3f}")
    measured: dict[str, Measured] = {}
    absent: dict[str, str] = {}
    written: list[Path] = []
    with contextlib.suppress(KeyboardInterrupt):
        for number in range(1, args.repeats + 1):
            for peer in (system for system in SYSTEMS if system.name in args.systems and system.name not in absent):
                print(f"round {number}, {peer.title}", flush=True)
                try:
                    for environment in peer.environments:
                        environment.require()
                    peer.prepare(model)
                    with running(peer, model) as session:
                        difference = _difference(session, pairs["unlike"][:CHECKED], expected)
                        found = {**_measure(session, pairs, args.seconds), "difference": difference}
                except PeerAbsent as error:
                    absent[peer.name] = str(error)
                    print(f"  ABSENT: {error}", flush=True)
                    continue
                for name, value in found.items():
                    measured.setdefault(peer.name, {}).setdefault(name, []).append(value)
                print("  " + ", ".join(f"{name} {value:.4g}" for name, value in found.items()), flush=True)
            written = [
                report.write_json(
                    args.output / "rerank.json",
                    here,
                    documents={name: _range(found) for name, found in tokens.items()},
                    settings={system.name: system.settings for system in SYSTEMS},
                    measured=measured,
                    absent=absent,
                )
            ]
    titles = {system.name: system.title for system in SYSTEMS}
    print("\n" + report.table(_HEADERS, [_row(titles[name], found) for name, found in measured.items()]))
    print("\n" + report.table(_RATIOS, against(measured, Ours.name, titles)))
    for name, reason in absent.items():
        print(f"absent: {titles[name]}: {reason}")
    if written:  # else it was stopped in the first round
        report.print_written(written)
    return 0


def _difference(session: Session, pairs: list[tuple[str, str]], expected: np.ndarray) -> float:
    """How far the scores are from the reference, in calls of two sizes. Raises PeerAbsent if that is too far."""
    found = [session.vectors(pairs, FEW, 1), session.vectors(pairs[: FEW // 4], 1, 4)]
    difference = float(np.max([np.abs(scores - expected[: len(scores)]).max() for scores in found]))
    if not difference <= MAX_DIFFERENCE:
        raise PeerAbsent(f"not timed: its scores differ from CrossEncoder's by {difference:.1e}")
    return difference


def _measure(session: Session, pairs: dict[str, list[tuple[str, str]]], seconds: float) -> dict[str, float]:
    rates = {}
    for name, call in pairs.items():
        session.order(do="bulk", texts=call[:FEW])
        rates[name] = session.order(do="bulk", texts=call)["texts_per_second"]
    few = [pairs["unlike"][i : i + FEW] for i in range(0, len(pairs["unlike"]) - FEW + 1, FEW)]
    found: dict[str, Any] = session.order(do="load", calls=few, clients=1, seconds=seconds)
    return {**rates, "p50": statistics.median(found["latency_ms"])}


def _row(title: str, found: Measured) -> list[report.Cell]:
    cost = statistics.median(a / b for a, b in zip(found["unlike"], found["alike"], strict=True))
    figures = [str(Figure.of(found[name])) for name in ("unlike", "alike", "p50")]
    return [title, *figures, cost, f"{max(found['difference']):.1e}"]


def against(measured: dict[str, Measured], ours: str, titles: dict[str, str]) -> list[list[report.Cell]]:
    """How many times as good ours is as each other: the median of the rounds' ratios, the p50 the other way round."""
    rows: list[list[report.Cell]] = []
    for name, its in measured.items():
        if name == ours or ours not in measured:
            continue
        row: list[report.Cell] = [titles[name]]
        for what in ("unlike", "alike", "p50"):
            each = [a / b for a, b in zip(measured[ours][what], its[what], strict=False)]
            row.append(statistics.median([1 / ratio for ratio in each] if what == "p50" else each))
        rows.append(row)
    return rows


def _range(tokens: list[int]) -> str:
    return f"{np.mean(tokens):.1f} ({min(tokens)}-{max(tokens)})"
