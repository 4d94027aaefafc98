"""Recall of each precision of vectors: how many of the 10 nearest by float32 are found among smaller vectors.

Some of the sentences are the queries, and in others is searched. The ranges of int8 and uint8 are those that the export
has measured, and those of a thousand more sentences. Queries and texts are both of the smaller precision: float16 is
compared as it is, int8 and uint8 by the values that their steps stand for, bits by how many are the same; `rescored`
orders the best 40 of those by the float32 query instead; `outside` are the numbers that lie beyond their range.

Examples:
  python -m perf recall                            starts a server; two minutes
  python -m perf recall --texts 3000 --queries 300
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from contextlib import closing

import numpy as np
import numpy.typing as npt

from client_sdk._call.precision import PRECISIONS, converter
from client_sdk._call.questions import measured_ranges
from client_sdk._session import Session
from client_sdk._settings import make_settings
from perf import machine, numbers, report, serving
from perf.texts import sentences

NEIGHBOURS = 10
RESCORED = 4 * NEIGHBOURS
RANGES_OF = 1000
BY_RANGES = ("int8", "uint8")

Vectors = npt.NDArray[np.float32]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    serving.add_arguments(parser)
    parser.add_argument(
        "--texts", type=numbers.count, default=10_000, help="that are searched in (default: %(default)s)"
    )
    parser.add_argument("--queries", type=numbers.count, default=1_000, help="default: %(default)s")


def run(args: argparse.Namespace) -> int:
    """Measures, prints and writes."""
    here = machine.describe()
    texts = sentences()[: args.queries + RANGES_OF + args.texts]
    options = {"normalize": True}
    with (
        serving.serving(args) as target,
        closing(Session(make_settings(target.grpc_url, args.model), "perf recall")) as session,
    ):
        asked = measured_ranges(args.model, BY_RANGES[0], options)
        of_export = session.ask(asked, session.settings.deadline(None)).ranges
        vectors = session.encode(texts, options)
    queries, sample, documents = np.split(vectors, [args.queries, args.queries + RANGES_OF])
    of_sample = np.stack([sample.min(axis=0), sample.max(axis=0)])
    rows = measured(queries, documents, {"the export": of_export, f"{RANGES_OF} texts": of_sample})
    print(report.table(["precision", "ranges of", "bytes", f"recall@{NEIGHBOURS}", "rescored", "% outside"], rows))
    path = args.output / f"recall-{args.model}.json"
    report.print_written([report.write_json(path, here, documents=len(documents), queries=len(queries), recall=rows)])
    return 0


def measured(queries: Vectors, documents: Vectors, ranges: Mapping[str, Vectors]) -> list[list[report.Cell]]:
    """Of each precision, and of each of the ranges that it goes by.

    Its name, what the ranges are of, bytes of a vector, recall without rescoring and with it, and how many of a hundred
    numbers of the documents lie outside of their range.
    """
    nearest = _best(queries @ documents.T, NEIGHBOURS)
    rows: list[list[report.Cell]] = []
    for precision in PRECISIONS:
        goes_by: Mapping[str, Vectors | None] = ranges if precision in BY_RANGES else {"": None}
        for name, given in goes_by.items():
            convert = converter(precision, given)
            kept = convert(documents)
            meant = values(kept, precision, given, documents.shape[1])
            scores = values(convert(queries), precision, given, documents.shape[1]) @ meant.T
            candidates = _best(scores, RESCORED)
            rescored = np.take_along_axis(queries @ meant.T, candidates, axis=1)
            found = np.take_along_axis(candidates, _best(rescored, NEIGHBOURS), axis=1)
            recalls = (_recall(nearest, each) for each in (_best(scores, NEIGHBOURS), found))
            outside = None if given is None else _outside(documents, given)
            rows.append([precision, name, kept[0].nbytes, *recalls, outside])
    return rows


def values(kept: npt.NDArray[np.generic], precision: str, ranges: Vectors | None, dimension: int) -> Vectors:
    """The numbers that smaller vectors stand for: [N, D] float32; a bit is 1 or -1."""
    if precision in ("binary", "ubinary"):
        bits = kept.view(np.uint8) ^ np.uint8(128 if precision == "binary" else 0)
        return np.unpackbits(bits, axis=1, count=dimension).astype(np.float32) * 2 - 1
    numbers = kept.astype(np.float32)
    if ranges is not None:
        steps = numbers + (128.5 if precision == "int8" else 0.5)  # the middle of each
        return (steps * (ranges[1] - ranges[0]) / 255 + ranges[0]).astype(np.float32)
    return numbers


def _best(scores: Vectors, count: int) -> npt.NDArray[np.intp]:
    return np.argsort(-scores, axis=1, kind="stable")[:, :count]


def _outside(vectors: Vectors, ranges: Vectors) -> float:
    return round(100 * float(np.mean((vectors < ranges[0]) | (vectors > ranges[1]))), 3)


def _recall(expected: npt.NDArray[np.intp], found: npt.NDArray[np.intp]) -> float:
    shares = [len(np.intersect1d(*pair)) / NEIGHBOURS for pair in zip(expected, found, strict=True)]
    return round(float(np.mean(shares)), 4)
