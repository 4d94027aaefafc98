"""Recall of each precision of vectors: how many of the 10 nearest by float32 are found among smaller vectors.

Some of the sentences are the queries, some give the ranges of int8 and uint8, and in all others is searched. Queries
and texts are both of the smaller precision: float16 is compared as it is, int8 and uint8 by the values that their steps
stand for, bits by how many are the same; `rescored` orders the best 40 of those by the float32 query instead.

Examples:
  python -m perf recall                            starts a server; two minutes
  python -m perf recall --texts 3000 --queries 300
"""

from __future__ import annotations

import argparse

import numpy as np
import numpy.typing as npt

import client_sdk
from client_sdk._call.precision import PRECISIONS, converter
from perf import machine, report, serving
from perf.texts import sentences

NEIGHBOURS = 10
RESCORED = 4 * NEIGHBOURS
RANGES_OF = 1000

Vectors = npt.NDArray[np.float32]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    serving.add_arguments(parser)
    parser.add_argument("--texts", type=int, default=10_000, help="that are searched in (default: %(default)s)")
    parser.add_argument("--queries", type=int, default=1_000, help="default: %(default)s")


def run(args: argparse.Namespace) -> int:
    """Measures, prints and writes."""
    here = machine.describe()
    texts = sentences()[: args.queries + RANGES_OF + args.texts]
    with serving.serving(args) as target, client_sdk.Client(target.grpc_url, args.model) as client:
        vectors = client.encode(texts, normalize=True)
    queries, sample, documents = np.split(vectors, [args.queries, args.queries + RANGES_OF])
    ranges = np.stack([sample.min(axis=0), sample.max(axis=0)])
    rows = measured(queries, documents, ranges)
    print(report.table(["precision", "bytes", f"recall@{NEIGHBOURS}", "rescored"], rows))
    path = args.output / f"recall-{args.model}.json"
    report.print_written([report.write_json(path, here, documents=len(documents), queries=len(queries), recall=rows)])
    return 0


def measured(queries: Vectors, documents: Vectors, ranges: Vectors) -> list[list[report.Cell]]:
    """Of each precision: its name, bytes of a vector, and recall, without rescoring and with it."""
    nearest = _best(queries @ documents.T, NEIGHBOURS)
    rows: list[list[report.Cell]] = []
    for precision in PRECISIONS:
        convert = converter(precision, ranges if precision in ("int8", "uint8") else None)
        kept = convert(documents)
        meant = values(kept, precision, ranges, documents.shape[1])
        scores = values(convert(queries), precision, ranges, documents.shape[1]) @ meant.T
        candidates = _best(scores, RESCORED)
        rescored = np.take_along_axis(queries @ meant.T, candidates, axis=1)
        found = np.take_along_axis(candidates, _best(rescored, NEIGHBOURS), axis=1)
        rows.append(
            [precision, kept[0].nbytes, *(_recall(nearest, each) for each in (_best(scores, NEIGHBOURS), found))]
        )
    return rows


def values(kept: npt.NDArray[np.generic], precision: str, ranges: Vectors, dimension: int) -> Vectors:
    """The numbers that smaller vectors stand for: [N, D] float32; a bit is 1 or -1."""
    if precision in ("binary", "ubinary"):
        bits = kept.view(np.uint8) ^ np.uint8(128 if precision == "binary" else 0)
        return np.unpackbits(bits, axis=1, count=dimension).astype(np.float32) * 2 - 1
    numbers = kept.astype(np.float32)
    if precision in ("int8", "uint8"):
        steps = numbers + (128.5 if precision == "int8" else 0.5)  # the middle of each
        return (steps * (ranges[1] - ranges[0]) / 255 + ranges[0]).astype(np.float32)
    return numbers


def _best(scores: Vectors, count: int) -> npt.NDArray[np.intp]:
    return np.argsort(-scores, axis=1, kind="stable")[:, :count]


def _recall(expected: npt.NDArray[np.intp], found: npt.NDArray[np.intp]) -> float:
    shares = [len(np.intersect1d(*pair)) / NEIGHBOURS for pair in zip(expected, found, strict=True)]
    return round(float(np.mean(shares)), 4)
