"""Tensors in a file of torch.save, read without PyTorch and without running what is in it.

Such a file is a ZIP archive of numbers as they stand, and of a pickle that says which of them are which tensor. A
pickle is a program, and one of a stranger may do anything. So it is not unpickled: its instructions are read, those
that a mapping of tensors is made of are followed, here, and any other is refused. Nothing that it names is imported or
called.
"""

from __future__ import annotations

import io
import pickletools
import struct
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401 (numpy knows bfloat16 once this is imported)
import numpy as np
import numpy.typing as npt

from export import json_files, regular_files
from export.checkpoint.weights import finite
from export.errors import ExportError

MAX_BYTES = 1_000_000_000
"""Of a file, which is read whole: what is kept so are layers beside a network, and not the network."""

_DTYPES: dict[str, np.dtype[Any]] = {
    "torch FloatStorage": np.dtype("<f4"),
    "torch HalfStorage": np.dtype("<f2"),
    "torch BFloat16Storage": np.dtype("bfloat16"),
    "torch DoubleStorage": np.dtype("<f8"),
}
_MAPPING = "collections OrderedDict"
_TENSOR = "torch._utils _rebuild_tensor_v2"
# What reading a damaged archive or pickle raises: RuntimeError where it says that it is encrypted.
_DAMAGES = (zipfile.BadZipFile, struct.error, RuntimeError, ValueError, LookupError, TypeError, EOFError, OverflowError)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = ("BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE")


class TorchWeights:
    """The tensors of a file, by name; a `Weights`."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            ExportError: It is absent or damaged, or holds something else than tensors by name.
        """
        self._path = path
        content = regular_files.read(path, limit=MAX_BYTES)
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                self._tensors = dict(_arrays(archive))
        except _DAMAGES as error:
            raise ExportError(
                f"{path}: not tensors by name as torch.save of PyTorch 1.6 and later writes them ({error})"
            ) from error

    def has(self, name: str) -> bool:
        """Say whether there is a weight of this name."""
        return name in self._tensors

    def shape(self, name: str, axes: int) -> tuple[int, ...]:
        """Return the shape of the weight `name`, which has so many axes.

        Raises:
            ExportError: It is missing, or has another number of them.
        """
        if name in self._tensors and self._tensors[name].ndim == axes:
            return self._tensors[name].shape
        raise ExportError(f"{self._path}: weight {name!r} of {axes} axes is missing")

    def take(self, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """Return the weight `name` as a float32 array of `shape`.

        Raises:
            ExportError: It is missing, has another shape, or is not finite.
        """
        found = self._tensors.get(name)
        if found is None or found.shape != shape:
            there = "is missing" if found is None else f"has shape {list(found.shape)}"
            raise ExportError(f"{self._path}: weight {name!r} {there}, and {list(shape)} is expected")
        with np.errstate(over="ignore"):  # of float64, to infinity
            return finite(found.astype(np.float32), f"{self._path}: weight {name!r}")

    def skipped(self) -> list[str]:
        """Return nothing: what else is in such a file is no part of a network."""
        return []


@dataclass(frozen=True)
class _Named:
    """What a pickle would import."""

    name: str


@dataclass(frozen=True)
class _Storage:
    """Numbers of a type, in a member of the archive."""

    dtype: np.dtype[Any]
    member: str


@dataclass(frozen=True)
class _Tensor:
    """Which of them are a tensor."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]


def _arrays(archive: zipfile.ZipFile) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    """The tensors of an archive. Raises ValueError and the like for what is none."""
    names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
    if len(names) != 1:
        raise ValueError("it has no data.pkl")
    folder = names[0].removesuffix("data.pkl")
    if f"{folder}byteorder" in archive.namelist() and _member(archive, f"{folder}byteorder") != b"little":
        raise ValueError("its numbers are big-endian")
    found = _followed(_member(archive, names[0]))
    if not isinstance(found, Mapping) or not all(isinstance(value, _Tensor) for value in found.values()):
        raise ValueError("it holds something else")
    for name, tensor in found.items():
        numbers = np.frombuffer(_member(archive, f"{folder}data/{tensor.storage.member}"), tensor.storage.dtype)
        count = int(np.prod(tensor.shape, dtype=object))
        if not 0 <= tensor.offset <= tensor.offset + count <= len(numbers):
            raise ValueError(f"{name!r} is larger than its numbers")
        yield str(name), numbers[tensor.offset : tensor.offset + count].reshape(tensor.shape)


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    """Bytes as they stand: torch.save compresses nothing, and what is compressed may be of any size."""
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name} is compressed")
    return archive.read(name)


def _followed(pickle: bytes) -> Any:
    """What a pickle of tensors describes."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[Any, Any] = {}

    def since_mark() -> list[Any]:
        start = marks.pop()
        items = stack[start:]
        del stack[start:]
        return items

    for instruction, argument, _ in pickletools.genops(pickle):
        name = instruction.name
        if name == "MARK":
            marks.append(len(stack))
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name in _LITERALS:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name == "GLOBAL":
            stack.append(_Named(str(argument)))
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name == "EMPTY_TUPLE":
            stack.append(())
        elif name == "TUPLE":
            stack.append(tuple(since_mark()))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            marks.append(len(stack) - int(name[-1]))
            stack.append(tuple(since_mark()))
        elif name == "BINPERSID":
            stack.append(_storage(stack.pop()))
        elif name == "REDUCE":
            arguments = stack.pop()
            stack.append(_made(stack.pop(), arguments))
        elif name in ("SETITEM", "SETITEMS"):
            if name == "SETITEM":
                marks.append(len(stack) - 2)
            items = since_mark()
            if not isinstance(stack[-1], dict):
                raise ValueError("it puts items into what is no mapping")
            stack[-1].update(zip(items[::2], items[1::2], strict=True))
        elif name == "BUILD":
            stack.pop()  # attributes of a mapping, such as the version of a layer's code
        elif name == "STOP":
            return stack.pop()
        elif name != "PROTO":
            raise ValueError(f"it has the instruction {name}, which no tensor needs")
    raise ValueError("it ends too soon")


def _storage(described: Any) -> _Storage:
    kind, storage, member, *_ = described
    if kind != "storage" or not isinstance(storage, _Named) or not isinstance(member, str):
        raise ValueError("it refers to something outside")
    if storage.name not in _DTYPES:
        raise ValueError(f"numbers of {_shown(storage)}; {', '.join(map(_shown, map(_Named, _DTYPES)))} can be read")
    return _Storage(_DTYPES[storage.name], member)


def _made(called: Any, arguments: tuple[Any, ...]) -> Any:
    """What comes of a call, which is not made."""
    if called == _Named(_MAPPING) and arguments == ():
        return {}
    if called == _Named(_TENSOR):
        storage, offset, shape, strides, *_ = arguments
        if not isinstance(storage, _Storage) or not all(type(size) is int and size >= 0 for size in (offset, *shape)):
            raise ValueError("a tensor of no numbers")
        if strides != tuple(int(np.prod(shape[axis + 1 :], dtype=object)) for axis in range(len(shape))):
            raise ValueError("a tensor whose numbers do not stand one behind the other")
        return _Tensor(storage, offset, tuple(shape))
    raise ValueError(f"it calls {_shown(called)}, which makes no tensor and was not run")


def _shown(what: Any) -> str:
    return json_files.cut(what.name.replace(" ", ".")) if isinstance(what, _Named) else "something"
