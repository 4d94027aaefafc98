"""`python -m perf compare`: this project, the bare network and its peers, in one run on one machine, round by round."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from perf import numbers
from perf.compare import checkpoints
from perf.compare.comparison import (
    AGAINST_HEADERS,
    HEADERS,
    LATENCY,
    System,
    against_each,
    cost_rows,
    markdown,
    rows,
    summary_lines,
)
from perf.compare.running.session import Session, running
from perf.compare.systems.environment import PeerAbsent
from perf.compare.systems.registry import CEILINGS, OURS, SYSTEMS, chosen, environments
from perf.compare.systems.sentence_transformers.torch import SentenceTransformersTorch
from perf.compare.systems.system import BULK, LOADS, InProcess, Model, Peer
from perf.compare.workload import BLOCK, bulk_texts, workload
from perf.failure import Failure
from perf.machine import describe, warn_if_busy
from perf.plots import PlotsMissing
from perf.report import add_output, print_written, table, write_json
from perf.texts import MAX_TOKENS, load_tokenizer

MAX_DIFFERENCE = 1e-4
MIN_COSINE = 0.9999
MIN_COSINE_INT8 = 0.95

_SHOWN_VERSIONS = (
    "infinity-emb",
    "fastembed",
    "ctranslate2",
    "openvino",
    "nncf",
    "sentence-transformers",
    "mosec",
    "bert-serving-server",
    "fastapi",
    "transformers",
    "torch",
    "tensorflow",
    "onnxruntime",
    "optimum-onnx",
    "tokenizers",
    "numpy",
)
_NOTES = (
    "Texts: sentences of Python's standard library, all different, cut at {max_tokens} tokens as text before anything "
    "is sent (mean {mean:.1f}, longest {longest}); every system gets the same ones in the same order.",
    "Rounds: each system in turn is started, checked, warmed up, measured and stopped, then the next; then all again. "
    "Nothing else of the comparison runs meanwhile, so no idle server takes a core from another.",
    "Checked in every round before the clock: {checked} texts, one at a time from 16 clients and 64 at a time, against "
    "sentence-transformers on PyTorch: no number differs by more than {difference:g} (cosine at least {cosine:g} where "
    "vectors are not scaled, {int8:g} in INT8).",
    "Load: clients that each send the next call when the last is answered, {seconds:g} s after the rate has settled "
    "(two windows within 10 %). Calls that lie partly in that time count in part.",
    "Clients: threads of one process. Requests are made before the clock where the protocol allows it (HTTP bodies); "
    "HTTP connections stay open and answers are read but not parsed. All servers are asked in OpenAI's form (base64), "
    "bert-on-triton through its gateway. bert-as-service, which has no such form, and bert-on-triton itself are timed "
    "with their own clients, with all that they do.",
    "Ratios are between systems of one precision. Engines that are fed ids made before the clock (bare) have neither "
    "texts to read nor callers, and are not counted among libraries.",
    "A bulk call follows one with {block} texts, and has fewer where all would take more than {bulk_seconds:g} s.",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the options."""
    names = ", ".join(system.name for system in SYSTEMS)
    parser.add_argument("--setup", nargs="*", metavar="NAME", help="only set up these systems, or all, in .venv-peers")
    parser.add_argument(
        "--systems", nargs="+", default=[], metavar="NAME", help=f"to compare, of {names} (default: all)"
    )
    parser.add_argument(
        "--model",
        nargs="+",
        default=["minilm"],
        help=f"{', '.join(checkpoints.MODELS)}, or a folder of sentence-transformers; several take turns "
        "(default: minilm)",
    )
    parser.add_argument(
        "--repository", type=Path, default=Path("model_repository"), help="of the default model (default: %(default)s)"
    )
    parser.add_argument("--texts", type=numbers.count, default=20_000, help="in the bulk call (default: %(default)s)")
    parser.add_argument("--loads", nargs="+", choices=[*LOADS, BULK], default=[*LOADS, BULK], help="(default: all)")
    parser.add_argument("--repeats", type=numbers.count, default=3, help="rounds (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=numbers.above_zero, default=10.0, help="measured for each load (default: %(default)s)"
    )
    parser.add_argument(
        "--bulk-seconds",
        type=numbers.above_zero,
        default=120.0,
        help="for a bulk call, about at most (default: %(default)s)",
    )
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Set up, or compare; return the exit status."""
    try:
        if args.setup is not None:
            return _set_up(chosen(args.setup))
        systems = chosen(args.systems)
        machine = describe()
        warn_if_busy(machine)
        models = [checkpoints.get(name, args.repository) for name in dict.fromkeys(args.model)]
        _run([_Comparison(args, systems, model, machine) for model in models], args.repeats)
    except (ValueError, FileNotFoundError) as error:
        raise Failure(str(error)) from None
    return 0


def _set_up(systems: Sequence[Peer]) -> int:
    failed = False
    for environment in environments(systems):
        if environment.is_ready:
            print(f"{environment.name}: ready")
            continue
        started = time.monotonic()
        print(f"{environment.name}: installing ...", end=" ", flush=True)
        try:
            environment.set_up()
            print(f"{time.monotonic() - started:.0f} s")
        except PeerAbsent as error:
            failed = True
            print(f"failed: {error}")
    return int(failed)


def _run(comparisons: Sequence[_Comparison], rounds: int) -> None:
    """Measure round by round, all systems on each model in turn, and write after each what there is."""
    for comparison in comparisons:
        comparison.prepare()
    with contextlib.suppress(KeyboardInterrupt):
        for number in range(1, rounds + 1):
            for comparison in comparisons:
                comparison.measure(number)
    for comparison in comparisons:
        comparison.show()


class _Comparison:
    """All systems on one model."""

    def __init__(self, args: argparse.Namespace, peers: Sequence[Peer], model: Model, machine: dict[str, Any]) -> None:
        self._args, self._peers, self._model, self._machine = args, peers, model, machine
        self._texts = workload(load_tokenizer(model.repository, model.family), args.texts, MAX_TOKENS)
        self._systems = {
            peer.name: System(
                peer.name, peer.title, peer.settings, isinstance(peer, InProcess), peer.on_ids, peer.precision
            )
            for peer in peers
        }
        self._bulk_texts: dict[str, int] = {}

    def prepare(self) -> None:
        """Compute what vectors are compared with, and make what systems need."""
        self._expected = self._reference()
        for peer in self._peers:
            with self._may_be_absent(peer):
                for environment in peer.environments:
                    environment.require()
                peer.prepare(self._model)
                found = peer.environments[0].packages() if peer.environments else {}
                self._systems[peer.name].versions = {n: found[n] for n in _SHOWN_VERSIONS if n in found}

    def measure(self, number: int) -> None:
        """Measure a round, and write what there is."""
        for peer in self._peers:
            if not self._systems[peer.name].absent:
                with self._may_be_absent(peer):
                    self._measure(peer, number)
        self._write(number)

    def _reference(self) -> np.ndarray:
        peer = SentenceTransformersTorch()
        peer.environments[0].require()
        print(f"computing what vectors of {self._model.name} are compared with ...", flush=True)
        with running(peer, self._model) as session:
            return session.vectors(self._texts.checked, 64, 1)

    @contextlib.contextmanager
    def _may_be_absent(self, peer: Peer) -> Iterator[None]:
        try:
            yield
        except PeerAbsent as error:
            self._systems[peer.name].absent = str(error)
            print(f"  {peer.title}: ABSENT: {error}", flush=True)

    def _measure(self, peer: Peer, number: int) -> None:
        system = self._systems[peer.name]
        print(f"round {number}, {self._model.name}, {peer.title}", flush=True)
        started = time.monotonic()
        with running(peer, self._model) as session:
            system.add_cost("start_seconds", time.monotonic() - started)
            contract = peer.contract if peer.precision == "fp32" else "near"
            system.difference = check(session, self._texts.checked, self._expected, contract)
            for load in self._args.loads:
                if load in peer.loads:
                    system.add(load, found := self._load(session, peer, load))
                    print(f"  {load:5} {_said(load, found)}", flush=True)
            system.add_cost("memory_mb", session.memory_mb())
            system.add_cost("idle_cores", session.order(do="idle")["cores"])

    def _load(self, session: Session, peer: Peer, load: str) -> dict[str, Any]:
        if load != BULK:
            clients, _ = LOADS[load]
            return session.order(do="load", calls=self._texts.calls[load], clients=clients, seconds=self._args.seconds)
        warm_up = session.order(do="bulk", texts=self._texts.bulk[:BLOCK])
        if peer.name not in self._bulk_texts:  # the same in every round
            self._bulk_texts[peer.name] = bulk_texts(
                warm_up["texts_per_second"], len(self._texts.bulk), self._args.bulk_seconds
            )
        return session.order(do="bulk", texts=self._texts.bulk[: self._bulk_texts[peer.name]])

    def _write(self, rounds: int) -> list[Path]:
        name = "compare" if self._model.name == "minilm" else f"compare-{self._model.name}"
        path: Path = self._args.output / name
        systems = list(self._systems.values())
        how = {
            "model": self._model.name,
            "repeats": rounds,
            "texts": len(self._texts.bulk),
            "notes": [note.format(**self._facts()) for note in _NOTES],
        }
        written = [
            write_json(
                path.with_name(f"{path.name}.json"),
                self._machine,
                how=how,
                ratios=summary_lines(systems, OURS, CEILINGS),
                systems=[system.as_json() for system in systems],
            )
        ]
        page = path.with_name(f"{path.name}.md")
        page.write_text(markdown(systems, self._machine, how, OURS, CEILINGS), encoding="utf-8")
        written.append(page)
        try:
            from perf.compare.plot import draw

            written += draw(systems, OURS, CEILINGS, self._machine, path)
        except PlotsMissing as error:
            print(f"note: {error}", file=sys.stderr)
        self._written = written
        return written

    def _facts(self) -> dict[str, Any]:
        return {
            "max_tokens": MAX_TOKENS,
            "mean": self._texts.mean_tokens,
            "longest": self._texts.longest,
            "checked": len(self._texts.checked),
            "difference": MAX_DIFFERENCE,
            "cosine": MIN_COSINE,
            "int8": MIN_COSINE_INT8,
            "seconds": self._args.seconds,
            "block": BLOCK,
            "bulk_seconds": self._args.bulk_seconds,
        }

    def show(self) -> None:
        """Print what was found."""
        systems = list(self._systems.values())
        print(f"\n{self._model.name}")
        print("\n" + table(HEADERS, rows(systems, OURS, CEILINGS)))
        print("\n" + table(["system", "client cores", "idle", "MB", "start s", "difference"], cost_rows(systems)))
        print("\n" + table(AGAINST_HEADERS, against_each(systems, OURS, CEILINGS)))
        print("\n" + "\n".join(summary_lines(systems, OURS, CEILINGS)))
        for system in systems:
            if system.absent:
                print(f"absent: {system.title}: {system.absent}")
        if getattr(self, "_written", None):
            print_written(self._written)


def check(session: Session, texts: Sequence[str], reference: np.ndarray, contract: str) -> str:
    """Compare a system's vectors with the reference, asked for as the loads ask.

    Returns:
        How far apart they are, in words.

    Raises:
        PeerAbsent: too far, or not the right shape.
    """
    some = 64
    found = [(session.vectors(texts, 64, 2), reference), (session.vectors(texts[:some], 1, 16), reference[:some])]
    for vectors, expected in found:
        if vectors.shape != expected.shape:
            raise PeerAbsent(f"not timed: its vectors have the shape {vectors.shape}, not {expected.shape}")
    if contract != "vectors":
        least = MIN_COSINE if contract == "directions" else MIN_COSINE_INT8
        cosines = np.concatenate([_cosines(vectors, expected) for vectors, expected in found])
        if not (cosine := float(cosines.min())) >= least:
            raise PeerAbsent(f"not timed: cosine {cosine:.6f} to sentence-transformers', not {least:g}")
        return f"cosine >= {cosine:.6f}" + (f", mean {cosines.mean():.4f}" if contract == "near" else "")
    difference = float(np.max([np.abs(vectors - expected).max() for vectors, expected in found]))
    if not difference <= MAX_DIFFERENCE:
        raise PeerAbsent(f"not timed: its vectors differ from sentence-transformers' by {difference:.1e}")
    return f"{difference:.1e}"


def _cosines(vectors: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Of each row, whatever its length."""
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(expected, axis=1)
    found: np.ndarray = (vectors * expected).sum(1) / lengths
    return found


def _said(load: str, found: dict[str, Any]) -> str:
    restless = "" if found.get("steady", True) else ", not steady"
    if load == LATENCY:
        return f"p50 {np.median(found['latency_ms']):.2f} ms{restless}"
    return f"{found['texts_per_second']:.1f} texts/s{restless}"
