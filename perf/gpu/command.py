"""What this machine makes of the networks: equal to PyTorch, how fast, in how much memory. For machines with a GPU.

It looks for PyTorch, ONNX Runtime, TensorRT and tritonserver, does what can be done with what there is, and says what
there is not. Without a GPU it does the same on the CPU, where INT8 and FP16 are slow.

equality: small networks of every architecture and head, in FP32, FP16 and INT8, padding-free and padded, beside what
transformers' own models on PyTorch gave. Where there is nothing but PyTorch, the graphs run on that, node by node.
speed: texts a second, latency and memory of BERT by length and batch, beside transformers on PyTorch (sdpa; compiled on
GPUs). It needs transformers. `mixed` are texts as long as sentences are.
triton: the same by a client of a family that is exported and served: export it for the GPU first. Its memory is the
server's own affair.

Examples:
  python -m perf gpu                                     ten minutes, less on a GPU
  python -m perf gpu --quick                             a glance
  python -m perf gpu --only equality --networks bert "modernbert long"
  python -m perf gpu --only speed --size base --batch-sizes 1 32 128
  python -m perf gpu --only triton --url grpc://localhost:8001 --model bert
  python -m perf gpu --draw build/perf/gpu-nvidia-h100-80gb-hbm3.json      what a machine without matplotlib wrote
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path

from perf import machine, numbers, plots, report, serving
from perf.failure import Failure
from perf.gpu import found as parts
from perf.gpu import triton
from perf.gpu.found import Found
from perf.gpu.plot import draw
from perf.gpu.results import ALLOWED, MIXED, Comparison, Measured, Point

PARTS = ("equality", "speed", "triton")
LENGTHS = (16, 64, 128, 512)
BATCH_SIZES = (1, 8, 64)
QUICK_SECONDS = 0.05


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    serving.add_arguments(parser)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="default: all")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda where there is a GPU")
    parser.add_argument("--networks", nargs="+", metavar="NAME", help="of equality (default: all)")
    parser.add_argument("--size", choices=("minilm", "base"), default="minilm", help="of speed (default: %(default)s)")
    parser.add_argument(
        "--lengths", type=numbers.count, nargs="+", metavar="N", help=f"tokens of a text (default: {LENGTHS})"
    )
    parser.add_argument(
        "--batch-sizes", type=numbers.count, nargs="+", metavar="N", help=f"texts (default: {BATCH_SIZES})"
    )
    parser.add_argument(
        "--seconds", type=numbers.above_zero, default=0.5, help="for each point of speed (default: %(default)s)"
    )
    parser.add_argument(
        "--most",
        type=numbers.above_zero,
        default=240,
        metavar="SECONDS",
        help="for the networks of equality by one runtime; what is left over is not tried (default: %(default)s)",
    )
    parser.add_argument("--quick", action="store_true", help="few networks, few shapes")
    parser.add_argument("--draw", type=Path, metavar="FILE", help="nothing but the picture of such a JSON file")


def run(args: argparse.Namespace) -> int:
    """Compares, measures, prints, draws and writes; 1 if a network of ours is not equal to PyTorch's."""
    if args.draw:
        report.print_written(_drawn(args.draw))
        return 0
    here = machine.describe()
    machine.warn_if_busy(here)
    found = parts.look(args.device)
    print(f"{found.name}, computing on {found.device}")
    there = [*found.parts.items(), *((name, f"none: {why}") for name, why in found.absent.items())]
    print(report.table(("", "found"), there))
    lengths = args.lengths or ((32,) if args.quick else LENGTHS)
    batch_sizes = args.batch_sizes or ((1, 8) if args.quick else BATCH_SIZES)
    args.seconds = min(args.seconds, QUICK_SECONDS) if args.quick else args.seconds
    shapes = [*product(sorted(lengths), sorted(batch_sizes)), *((MIXED, batch) for batch in sorted(batch_sizes))]
    comparisons = list(_equality(args, found)) if "equality" in args.only else []
    measured = _speed(args, found, shapes) if "speed" in args.only else []
    if "triton" in args.only:
        measured.append(triton.measure(args, shapes))
    _print(comparisons, measured)
    name = args.output / f"gpu-{found.slug}"
    results = {"found": asdict(found), "equality": [asdict(one) for one in comparisons]}
    results |= {"size": args.size, "speed": [asdict(one) for one in measured]}
    written = [report.write_json(name.with_suffix(".json"), here, **results)]
    try:
        written += _drawn(written[0])
    except plots.PlotsMissing as error:
        print(f"note: {error}, and draw it with --draw")
    report.print_written(written)
    return int(any(one.layout and one.tried and not one.is_equal for one in comparisons))


def _drawn(path: Path) -> list[Path]:
    """The picture of a file of results, beside it."""
    try:
        results = json.loads(path.read_text("utf-8"))
        comparisons = [Comparison(**one) for one in results["equality"]]
        measured = [
            Measured(**{**one, "points": [Point(**point) for point in one["points"]]}) for one in results["speed"]
        ]
        name, here = results["found"]["name"], results["machine"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Failure(f"--draw {path}: it is not a file that `python -m perf gpu` wrote ({error!r})") from None
    with plots.style():
        return plots.save(draw(comparisons, measured, name), path.with_suffix(""), here)


def _equality(args: argparse.Namespace, found: Found) -> Iterator[Comparison]:
    try:
        from perf.gpu import equality, networks
        from perf.gpu.runners import all_of
    except ModuleNotFoundError as error:
        raise Failure(f"equality needs {error.name}: pip install {error.name}, or leave it out with --only") from None
    names = args.networks or (networks.QUICK if args.quick else networks.NAMES)
    chosen = networks.get(names)
    for runner in all_of(found):
        print(f"equality: {len(chosen)} networks, {runner.name} ...", flush=True)
        yield from equality.compare(chosen, runner, args.most, int8="ONNX Runtime" in found.parts)
    if "transformers" in found.parts and "PyTorch" in found.parts:
        print("equality: transformers' own models ...", flush=True)
        yield from equality.compare_pytorch(chosen, found.device, args.most)


def _speed(args: argparse.Namespace, found: Found, shapes: Sequence[tuple[int, int]]) -> list[Measured]:
    missing = [name for name in ("PyTorch", "transformers") if name not in found.parts]
    if missing:
        return [Measured("speed", absent=f"it needs {' and '.join(missing)}")]
    from perf.gpu import speed
    from perf.gpu.runners import all_of

    longest, largest = max(length for length, _ in shapes), max(batch for _, batch in shapes)
    runners = [runner for runner in all_of(found) if runner.device == found.device]
    systems = speed.systems(args.size, found.device, runners, max(longest, speed.LONGEST_MIXED), largest)
    results = []
    for result in speed.measure(systems, shapes, args.seconds):
        print(f"speed: {result.system}, {len(result.points)} points", flush=True)
        results.append(result)
    return results


def _print(comparisons: Sequence[Comparison], measured: Sequence[Measured]) -> None:
    if comparisons:
        columns = ("run by", "layout", "precision", "equal", "of", "not tried", "largest gap", "allowed")
        print("\n" + report.table(columns, _summary(comparisons)))
    for one in comparisons:
        if one.tried and not one.is_equal:
            how = " ".join(part for part in (one.layout, one.precision) if part)
            print(f"not equal: {one.network}, {one.runner}, {how}: {one.reason or f'{one.gap:.1e}'}")
    points = [
        [one.system, "mixed" if p.length == MIXED else str(p.length), p.batch, p.texts_per_second, p.p50, p.p95]
        for one in measured
        for p in one.points
    ]
    if points:
        print("\n" + report.table(("", "tokens", "texts", "texts/s", "p50 ms", "p95 ms"), points))
    for one in measured:
        if one.memory is not None:
            print(f"{one.system}: {one.memory / 2**20:,.0f} MiB of the GPU's memory at most")
        if one.absent:
            print(f"not measured: {one.system}: {one.absent}")


def _summary(comparisons: Sequence[Comparison]) -> Iterator[list[report.Cell]]:
    for form in dict.fromkeys((one.runner, one.layout, one.precision) for one in comparisons):
        every = [one for one in comparisons if (one.runner, one.layout, one.precision) == form]
        tried = [one for one in every if one.tried]
        largest = max((one.gap for one in tried if one.gap is not None), default=None)
        equal = sum(one.is_equal for one in tried)
        gap = "" if largest is None else f"{largest:.1e}"
        yield [*form, equal, len(tried), len(every) - len(tried), gap, f"{ALLOWED[form[2]]:.0e}"]
