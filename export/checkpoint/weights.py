"""The weights of a checkpoint, read one at a time; here from safetensors files."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401 (numpy knows bfloat16 once this is imported)
import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from export import json_files
from export.errors import ExportError
from export.network.architectures.encoder import OtherName, Stored
from export.network.weights import Weights

ONE_FILE = "model.safetensors"
INDEX = "model.safetensors.index.json"
FLOAT_TYPES = ("F32", "F16", "BF16", "F64")
"""The safetensors dtypes that a weight may have; each is read as float32."""

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_OTHER_FORMATS = ("*.h5", "*.msgpack", "*.onnx", "*.gguf")
_CONVERSION = (
    'convert them where PyTorch is installed and the file is trusted: python -c "import transformers as t; '
    "t.AutoModel.from_pretrained('CHECKPOINT').save_pretrained('CHECKPOINT')\""
)
_LFS_POINTER = b"version https://git-lfs"


def finite(array: npt.NDArray[np.float32], what: str) -> npt.NDArray[np.float32]:
    """Return `array`, whose values have been looked at, all of them, without a copy.

    Raises:
        ExportError: One is not a finite number; the message begins with `what`, which names the weight.
    """
    # Both are NaN where one value is.
    if array.size and not (np.isfinite(array.min()) and np.isfinite(array.max())):
        wrong = ~np.isfinite(array)
        where = [int(index) for index in np.unravel_index(int(wrong.argmax()), array.shape)]
        raise ExportError(
            f"{what} has {int(wrong.sum()):,} of {array.size:,} values that are not finite (NaN, or infinite in FP32), "
            f"the first at {where}; the file is damaged, or the training that wrote it failed: export another"
        )
    return array


class SafetensorsWeights:
    """The weights in a folder's safetensors files, by name; nothing is read before it is asked for.

    Files are memory-mapped while a tensor is read, and not longer, since what is mapped counts as memory too; a
    float32 tensor is copied once, out of the mapping. Pickle files are never opened.

    Checkpoints store one network under different prefixes (`bert.`, `0.auto_model.`, none). `anchor` is a
    name that must be there under any prefix: what stands before it is taken for the prefix of every name. A `head`
    stands beside the encoder, without it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        anchor: str | None = None,
        others: Sequence[OtherName] = (),
        head: Sequence[str] = (),
    ) -> None:
        """Open the safetensors files of `folder`, where weights may have `others` of their names.

        `head` names layers whose weights may stand without the prefix.

        Raises:
            ExportError: There are none, one is damaged or absent, or `anchor` is found under no prefix or
                under several.
        """
        self._files = _find_files(folder)
        self._stored: dict[str, Path] = {}
        for path in self._files:
            with _open(path) as file:
                self._stored.update(dict.fromkeys(file.keys(), path))
        self._where = self._files[0] if len(self._files) == 1 else folder / INDEX
        self._others = others
        self._head = head
        self._prefix = "" if anchor is None else self._find_prefix(anchor)
        self._taken: set[str] = set()

    def has(self, name: str) -> bool:
        """Say whether there is a weight of this name (without prefix)."""
        return self._find(name) is not None

    def shape(self, name: str, axes: int) -> tuple[int, ...]:
        """Return the shape of the weight `name`, which has so many axes.

        Raises:
            ExportError: It is missing, or has another number of them.
        """
        found = self._find(name)
        if found is not None:
            with _open(self._stored[found.name]) as file:
                shape = tuple(file.get_slice(found.name).get_shape())
            if len(shape) == axes:
                return shape
        raise ExportError(f"{self._where}: weight {self._prefix + name!r} of {axes} axes is missing")

    def take(self, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """Return the weight `name` (without prefix) as a float32 array of `shape`.

        Raises:
            ExportError: It is missing, has another shape, is not of a floating-point type or not finite.
        """
        found = self._find(name)
        if found is None:
            raise ExportError(
                f"{self._where}: weight {self._prefix + name!r} of shape {list(shape)} is missing; "
                "the checkpoint is incomplete or not the architecture its config.json says"
            )
        whole = self._read(found.name, (shape[0] * found.parts, *shape[1:]))
        return whole if found.parts == 1 else whole.reshape(found.parts, *shape)[found.part]

    def skipped(self) -> list[str]:
        """Return the stored names, sorted, of the tensors that were not taken so far."""
        return sorted(self._stored.keys() - self._taken)

    def _find(self, name: str) -> Stored | None:
        """Return where a weight is, whichever of its names it has."""
        # Checkpoints converted from TensorFlow in 2018 call a norm's weight and bias gamma and beta.
        old_name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        candidates = [Stored(name), Stored(old_name)]
        for other in self._others:
            stored, matches = re.subn(f"^{other.pattern}", other.name, name)
            if matches:
                candidates.append(Stored(stored, other.part, other.parts))
        for candidate in candidates:
            if self._prefix + candidate.name in self._stored:
                return replace(candidate, name=self._prefix + candidate.name)
        for candidate in candidates:
            if candidate.name.rpartition(".")[0] in self._head and candidate.name in self._stored:
                return candidate
        return None

    def _read(self, stored: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        path = self._stored[stored]
        with _open(path) as file:
            view = file.get_slice(stored)
            found = tuple(view.get_shape())
            if found != shape:
                raise ExportError(
                    f"{path}: weight {stored!r} has shape {list(found)}, but config.json asks for {list(shape)}"
                )
            if view.get_dtype() not in FLOAT_TYPES:
                raise ExportError(
                    f"{path}: weight {stored!r} is of type {view.get_dtype()}, but {', '.join(FLOAT_TYPES)} can "
                    "be read; export the checkpoint it was quantized from"
                )
            array: npt.NDArray[Any] = file.get_tensor(stored)
        self._taken.add(stored)
        with np.errstate(over="ignore"):  # of float64, to infinity
            return finite(array.astype(np.float32, copy=False), f"{path}: weight {stored!r}")

    def _find_prefix(self, anchor: str) -> str:
        prefixes = sorted(
            name.removesuffix(anchor) for name in self._stored if name == anchor or name.endswith("." + anchor)
        )
        if not prefixes:
            raise ExportError(
                f"{self._where}: weight {anchor!r} is missing under every prefix; the checkpoint is "
                "not the architecture that its config.json says (the first weights are "
                f"{', '.join(sorted(self._stored)[:3])})"
            )
        if len(prefixes) > 1:
            raise ExportError(
                f"{self._where}: holds several networks, under the prefixes "
                f"{', '.join(map(repr, prefixes))}; save the one to export as a checkpoint of its own"
            )
        return prefixes[0]


class WithModules:
    """The weights of an encoder, and of the modules behind it, whose names begin with a key of theirs."""

    def __init__(self, encoder: SafetensorsWeights, modules: Mapping[str, Weights]) -> None:
        """Those of `modules` are found by its keys."""
        self._encoder = encoder
        self._modules = modules

    def has(self, name: str) -> bool:
        """Say whether there is a weight of this name."""
        weights, own = self._find(name)
        return weights.has(own)

    def take(self, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """Return the weight `name` as a float32 array of `shape`; raises as SafetensorsWeights does."""
        weights, own = self._find(name)
        return weights.take(own, shape)

    def skipped(self) -> list[str]:
        """Return the stored names, sorted, of the encoder's tensors that were not taken so far."""
        return self._encoder.skipped()

    def _find(self, name: str) -> tuple[Weights, str]:
        key = next((key for key in self._modules if name.startswith(key)), None)
        return (self._encoder, name) if key is None else (self._modules[key], name.removeprefix(key))


def _find_files(folder: Path) -> list[Path]:
    """Return the safetensors files that hold the weights of `folder`, shards in order."""
    if (folder / ONE_FILE).is_file():
        return [folder / ONE_FILE]
    if (folder / INDEX).is_file():
        return _shards(folder / INDEX)
    bundles = sorted(path.name.removesuffix(".index") for path in folder.glob("*.index"))
    if bundles:
        raise ExportError(
            f"{folder}: no {ONE_FILE}, but the TensorFlow checkpoint {', '.join(bundles)}; if Google's BERT code wrote "
            f"it, pass --ckpt-name {bundles[0]} --config-name config.json"
        )
    for patterns, kind in ((_PICKLES, "pickle"), (_OTHER_FORMATS, "other")):
        found = sorted(path.name for pattern in patterns for path in folder.glob(pattern))
        if found and kind == "pickle":
            raise ExportError(
                f"{folder}: the weights are in {', '.join(found)}, a pickle, which can run code when it is "
                f"read and is refused; {_CONVERSION}"
            )
        if found:
            raise ExportError(f"{folder}: no {ONE_FILE}, and {', '.join(found)} is not read; {_CONVERSION}")
    raise ExportError(f"{folder}: no {ONE_FILE} and no {INDEX}; if the weights exist in another format, {_CONVERSION}")


def _shards(index: Path) -> list[Path]:
    weight_map = json_files.read_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ExportError(f"{index}: has no weight_map, which names the file of each weight")
    names = sorted({str(name) for name in weight_map.values()})
    for name in names:
        if Path(name).name != name:
            raise ExportError(f"{index}: names the file {name!r}, which is not in the same folder")
        if not (index.parent / name).is_file():
            raise ExportError(f"{index}: names the file {name!r}, which is missing; download it too")
    return [index.parent / name for name in names]


def _open(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            is_pointer = file.read(len(_LFS_POINTER)) == _LFS_POINTER
        if is_pointer:
            raise ExportError(f"{path}: is a Git LFS pointer, not the weights; run `git lfs pull`")
        return safe_open(path, framework="np")
    except (OSError, SafetensorError) as error:
        raise ExportError(f"{path}: damaged or incomplete ({error}); download it again") from error
