"""The model.py of each Python step, with a stand-in for what Triton hands it."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any
from unittest import mock

from export.repository.configs import TEMPLATE

STEPS = ("tokenizer", "encoder", "pooling")


class TensorWanted(Exception):
    """A step has read the parameters of a request, and goes on to its tensors."""


def _tensor(_request: object, _name: str) -> None:
    raise TensorWanted


def load(step: str, utils: Any = None) -> dict[str, ModuleType]:
    """Import `model` and its neighbours, by name; no trace of their short names is left in this process.

    `utils` stands in for triton_python_backend_utils; without it there are no tensors.
    """
    folder = TEMPLATE / f"bert_{step}" / "1"
    names = [path.stem for path in folder.glob("*.py")]
    utils = utils or mock.MagicMock(get_input_tensor_by_name=_tensor)
    before = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    sys.path.insert(0, str(folder))
    try:
        with mock.patch.dict(sys.modules, {"triton_python_backend_utils": utils}):
            importlib.import_module("model")
            modules = {name: sys.modules[name] for name in names if name in sys.modules}
            modules["stalls"].die = lambda: None  # type: ignore[attr-defined]  # this process is the tests'
            return modules
    finally:
        sys.path.remove(str(folder))
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(before)
