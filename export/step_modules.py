"""A step's own modules, which need no Triton, run within an export."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def modules_of(directory: Path, *names: str) -> Iterator[tuple[Any, ...]]:
    """The modules of these names, imported as a step's own process does, from its version directory.

    They are forgotten again: another step, or another version, has others of the same names.
    """
    there = [path.stem for path in directory.glob("*.py") if path.stem != "model"]
    before = {name: sys.modules.pop(name) for name in there if name in sys.modules}
    sys.path.insert(0, str(directory))
    importlib.invalidate_caches()
    try:
        yield tuple(map(importlib.import_module, names))
    finally:
        sys.path.remove(str(directory))
        for name in there:
            sys.modules.pop(name, None)
        sys.modules.update(before)
