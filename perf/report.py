"""Tables for the terminal, and files of results."""

from __future__ import annotations

import argparse
import csv
import json
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from perf.failure import Failure

RESULTS = Path("build/perf")
"""Where measurements go, which git ignores; perf/results holds those that README shows."""

Cell = str | int | float | None


def add_output(parser: argparse.ArgumentParser) -> None:
    """The option that says where the results go."""
    parser.add_argument(
        "--output",
        type=Path,
        default=RESULTS,
        metavar="DIR",
        help="where the results go; perf/results: over those that README shows (default: %(default)s)",
    )


def check_output(folder: Path) -> None:
    """Make the folder of the results, so that one that cannot be written is told before the measurement.

    Raises:
        Failure: nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise Failure(f"--output {folder}: nothing can be written there ({error.strerror})") from None


def table(headers: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """Text in columns: what is text stands left, numbers stand right, nothing is an empty cell."""
    rows = list(rows)
    cells = [[_shown(cell) for cell in row] for row in rows]
    widths = [max(len(line[i]) for line in [list(headers), *cells]) for i in range(len(headers))]
    numeric = [bool(rows) and all(not isinstance(row[i], str) for row in rows) for i in range(len(headers))]

    def line(texts: Sequence[str]) -> str:
        return "  ".join(
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(texts, widths, numeric, strict=True)
        ).rstrip()

    return "\n".join([line(headers), line(["-" * width for width in widths]), *map(line, cells)])


def write_json(path: Path, machine: Mapping[str, Any], **results: Any) -> Path:
    """Write results behind the machine they were measured on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine, **results}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def write_csv(path: Path, rows: Sequence[Mapping[str, Cell]]) -> Path:
    """Write rows under the names of all their fields."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fields = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fields, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def print_written(paths: Iterable[Path]) -> None:
    """The last lines of every command: the files it wrote."""
    print("written:")
    for path in paths:
        print(f"  {shown_path(path)}")


def shown_path(path: Path) -> str:
    """`path` as a user in the current directory would type it."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def _shown(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, float):
        return f"{cell:,.0f}" if abs(cell) >= 1000 else f"{cell:.1f}" if abs(cell) >= 100 else f"{cell:.2f}"
    return f"{cell:,}" if isinstance(cell, int) else cell
