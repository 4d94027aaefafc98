"""`bert-on-triton`: the commands of `python -m client_sdk`, and `export`, another package of the same wheel.

The two know nothing of each other; here one is called by its name, and only where it is asked for.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import cast

from client_sdk._commands.main import FAILED
from client_sdk._commands.main import main as run_command

_PROG = "bert-on-triton"
_EXPORT = "export"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code."""
    given = sys.argv[1:] if argv is None else argv
    if given[:1] != [_EXPORT]:
        return run_command(given, _PROG, {_EXPORT: "put a checkpoint into a model repository"})
    try:
        exporting = importlib.import_module("export.__main__")
    except ModuleNotFoundError as error:
        print(f"error: {sys.executable} has no {error.name}: install the whole package bert-on-triton", file=sys.stderr)
        return FAILED
    return cast(int, exporting.main(given[1:], f"{_PROG} {_EXPORT}"))
