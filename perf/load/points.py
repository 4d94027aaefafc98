"""The points of a load test."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from perf.failure import Failure


@dataclass(frozen=True)
class Point:
    """One measurement to make."""

    protocol: str
    batch_size: int
    concurrency: int

    def __str__(self) -> str:
        return f"{self.protocol}, {self.concurrency} at a time, {self.batch_size} texts each"


def plan(args: argparse.Namespace, protocols: Sequence[str]) -> tuple[list[Point], int]:
    """The points to measure, and how many are left out, of too many texts. Raises Failure if none is to be measured."""
    levels = args.concurrency or ([1, 4, 16] if args.quick else [1, 2, 4, 8, 16, 32, 64])
    batch_sizes = args.batch_sizes or ([1] if args.quick else [1, 8, 64])
    missing = sorted(set(args.protocols or ()) - set(protocols))
    if missing:
        raise Failure(f"--protocols {' '.join(missing)} needs the server's address for it: another --url")
    every = [
        Point(protocol, batch_size, concurrency)
        for protocol in (args.protocols or protocols)
        for batch_size in batch_sizes
        for concurrency in levels
    ]
    points = [each for each in every if each.batch_size * each.concurrency <= max(args.most_in_flight, each.batch_size)]
    if not points:
        raise Failure(f"--most-in-flight {args.most_in_flight} leaves nothing to measure")
    return points, len(every) - len(points)
