"""The modules that sentence-transformers lists in modules.json, each with a folder of its own.

Which there are, and what those say that are done to vectors, of texts or of tokens: Dense, LayerNorm and Normalize.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from export import json_files
from export.checkpoint.weights import ONE_FILE, SafetensorsWeights
from export.errors import ExportError

TASKS = {"Transformer": "feature-extraction", "MLMTransformer": "fill-mask"}
"""What comes first in a list of modules, by class, and the task of its network where its settings do not say.

Before sentence-transformers 5.4 a SparseEncoder was saved with the second.
"""

_WORKING_MODULES = (
    *TASKS,
    "Pooling",
    "Dense",
    "LayerNorm",
    "Normalize",
    "Dropout",
    "SpladePooling",
    "MultiVectorMask",
)
_OTHERS = {"pylate.models.Dense.Dense": "Dense"}
"""Classes of others that are one of these."""
_ACTIVATIONS = {
    "torch.nn.modules.linear.Identity": "identity",
    "torch.nn.modules.activation.Tanh": "tanh",
    "torch.nn.modules.activation.ReLU": "relu",
    "torch.nn.modules.activation.GELU": "gelu",
    "torch.nn.modules.activation.Sigmoid": "sigmoid",
    "torch.nn.modules.activation.SiLU": "silu",
    "torch.nn.modules.activation.LeakyReLU": "leaky_relu",
}
_TEXT_VECTOR = "sentence_embedding"
_TOKEN_VECTOR = "token_embeddings"
# The keys of each file that are honoured here or have no effect on vectors. sentence-transformers hands most of these
# files to a constructor as they are, so that a key which is not known here is one that a later version gave a meaning:
# it is refused by name.
_MODULE_KEYS = {"idx", "name", "path", "type", "kwargs"}
_DENSE_KEYS = {
    "activation_function",
    "bias",
    "in_features",
    "module_input_name",
    "module_output_name",
    "out_features",
    "use_residual",
}
_LAYER_NORM_KEYS = {"dimension"}
_NORMALIZE_KEYS = {"module_input_name", "module_output_name"}


@dataclass(frozen=True)
class Module:
    """An entry of modules.json.

    Attributes:
        kind: The name of its class, without the path of the Python module, which changed between versions.
        folder: Where its files are.
        type_name: The class with that path.
    """

    kind: str
    folder: Path
    type_name: str = ""


@dataclass(frozen=True)
class DenseConfig:
    """What a Dense says of itself; `shape` is [out, in]."""

    shape: tuple[int, int]
    activation: str
    bias: bool
    residual: bool


def read_modules(root: Path) -> tuple[Module, ...]:
    """Read modules.json; empty where there is none. Classes that it names are never imported.

    Raises:
        ExportError: It is damaged, or names a module that is not among those that export works for.
    """
    path = root / "modules.json"
    if not path.exists():
        return ()
    entries = json_files.read(path)
    if not isinstance(entries, list) or not all(
        isinstance(entry, dict) and isinstance(entry.get("type"), str) and isinstance(entry.get("path", ""), str)
        for entry in entries
    ):
        raise ExportError(f"{path}: a list of modules with a type and a path each is expected")
    for entry in entries:
        json_files.check_keys(path, entry, _MODULE_KEYS, f"module {json_files.shown(entry['type'])} ")
    modules = tuple(
        Module(_kind(path, entry["type"]), _module_folder(path, entry.get("path", "")), entry["type"])
        for entry in entries
    )
    if not modules or modules[0].kind not in TASKS:
        raise ExportError(f"{path}: the first module is expected to be a Transformer")
    return modules


def check_normalize(folder: Path, of_tokens: bool = False) -> None:
    """Refuse a Normalize of another vector than that of a text, or those of its tokens.

    Raises:
        ExportError: It is one, or says what would be lost.
    """
    config = json_files.read_object(folder / "config.json", optional=True)
    json_files.check_keys(folder / "config.json", config, _NORMALIZE_KEYS)
    if of_tokens:  # where a file is silent, it is a text's vector that is meant, and there is none
        config = {"module_input_name": _TEXT_VECTOR, **config}
    _check_vector(folder, config, of_tokens)


def layer_norm_size(folder: Path, width: int | None) -> int:
    """Return how long the vectors are that a LayerNorm takes, which `width` is too, where that is known.

    Raises:
        ExportError: Its config.json is damaged, or something in it would be lost.
    """
    path = folder / "config.json"
    config = json_files.read_object(path)
    json_files.check_keys(path, config, _LAYER_NORM_KEYS)
    size = _size(path, config, "dimension")
    _check_width(path, "dimension", size, width)
    return size


def dense_config(folder: Path, width: int | None, of_tokens: bool = False) -> DenseConfig:
    """Read the config.json of a Dense.

    Args:
        folder: Of the module.
        width: Length of the vectors before it; None where nobody knows.
        of_tokens: Whether it is done to tokens' vectors, and not to that of a text.

    Raises:
        ExportError: It is damaged, or something in it would be lost.
    """
    path = folder / "config.json"
    config = json_files.read_object(path)
    json_files.check_keys(path, config, _DENSE_KEYS)
    _check_vector(folder, config, of_tokens)
    shape = _size(path, config, "out_features"), _size(path, config, "in_features")
    _check_width(path, "in_features", shape[1], width)
    activation = config.get("activation_function", "torch.nn.modules.activation.Tanh")
    if not isinstance(activation, str) or activation not in _ACTIVATIONS:
        raise ExportError(
            f"{path}: activation_function is {json_files.shown(activation)}; export works for {', '.join(_ACTIVATIONS)}"
        )
    return DenseConfig(
        shape, _ACTIVATIONS[activation], bool(config.get("bias", True)), bool(config.get("use_residual"))
    )


def module_weights(folder: Path) -> SafetensorsWeights:
    """Return the weights of a module.

    Raises:
        ExportError: There are none as safetensors.
    """
    if not (folder / ONE_FILE).is_file():
        raise ExportError(
            f"{folder}: there is no {ONE_FILE}, and pickle files are refused; where the checkpoint is "
            "trusted, load it with sentence-transformers and save() it, which writes one"
        )
    return SafetensorsWeights(folder)


def _kind(path: Path, type_name: str) -> str:
    if type_name in _OTHERS:
        return _OTHERS[type_name]
    package, _, name = type_name.rpartition(".")
    if package.split(".")[0] != "sentence_transformers" or name not in _WORKING_MODULES:
        raise ExportError(
            f"{path}: has the module {json_files.cut(type_name, 120)}; export works for sentence_transformers' "
            f"{', '.join(_WORKING_MODULES)}, and never runs code that comes with a checkpoint"
        )
    return name


def _module_folder(path: Path, relative: str) -> Path:
    parts = PurePosixPath(relative)
    if parts.is_absolute() or ".." in parts.parts or "\0" in relative:
        raise ExportError(f"{path}: the module path {json_files.shown(relative)} leads out of the checkpoint")
    return path.parent / parts


def _check_width(path: Path, key: str, size: int, width: int | None) -> None:
    if width is not None and size != width:
        raise ExportError(f"{path}: {key} is {size}, but the vectors before it have length {width}")


def _size(path: Path, config: dict[str, Any], key: str) -> int:
    size = config.get(key)
    if not isinstance(size, int) or isinstance(size, bool) or size <= 0:
        raise ExportError(f"{path}: {key} is {json_files.shown(size)}; a whole number above 0 is expected")
    return size


def _check_vector(folder: Path, config: dict[str, Any], of_tokens: bool) -> None:
    working = _TOKEN_VECTOR if of_tokens else _TEXT_VECTOR
    for key in ("module_input_name", "module_output_name"):
        if config.get(key) not in (None, working):
            raise ExportError(
                f"{folder / 'config.json'}: {key} is {json_files.shown(config[key])}; export works for {working!r}"
            )
