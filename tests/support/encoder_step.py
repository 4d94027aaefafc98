"""The modules of the encoder's Python step that need no server, as its process sees them."""

import importlib
import sys
from types import ModuleType

from export.repository.configs import TEMPLATE

FOLDER = TEMPLATE / "bert_encoder" / "1"


def load(*names: str) -> list[ModuleType]:
    """Imports them, and leaves no trace of the step's short names in this process."""
    before = dict(sys.modules)
    sys.path.insert(0, str(FOLDER))
    try:
        return [importlib.import_module(name) for name in names]
    finally:
        sys.path.remove(str(FOLDER))
        for path in FOLDER.glob("*.py"):
            sys.modules.pop(path.stem, None)
            if path.stem in before:
                sys.modules[path.stem] = before[path.stem]
