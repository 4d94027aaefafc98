"""Checkpoints as Google's BERT repository writes them, which bert-as-service serves.

A folder holds bert_config.json, vocab.txt and a TensorFlow checkpoint: `bert_model.ckpt` where Google released it,
`model.ckpt-343` and the like where it was fine-tuned, then often in a folder of its own.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from export.checkpoint.tensor_bundle import TensorBundle
from export.checkpoint.weights import finite
from export.errors import ExportError

CONFIG = "bert_config.json"
CKPT = "bert_model.ckpt"
VOCABULARY = "vocab.txt"

_ANCHOR = "bert/embeddings/word_embeddings"
_OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_FEW_CAPITALS = 0.02  # of a vocabulary; uncased ones have none, cased ones a third
_HUGGING_FACE = ("config.json", "modules.json")


@dataclass(frozen=True)
class Options:
    """What a user can say about a checkpoint of this format; None is for the usual.

    Attributes:
        ckpt_name: Name of the TensorFlow checkpoint, without `.index` (usually `bert_model.ckpt`).
        config_name: Name of the configuration (usually `bert_config.json`).
        tuned_model_dir: Folder of the TensorFlow checkpoint (usually that of the configuration and the vocabulary).
        cased: Whether texts keep their capitals and accents. The files do not say; without it, texts are lower-cased.
    """

    ckpt_name: str | None = None
    config_name: str | None = None
    tuned_model_dir: Path | None = None
    cased: bool = False

    def given(self) -> list[str]:
        """Return the options that are not the usual, as they are written on the command line."""
        return [f"--{name.replace('_', '-')}" for name, value in vars(self).items() if value]

    def config(self, folder: Path) -> Path:
        """Return where the configuration of the checkpoint in `folder` is."""
        return folder / (self.config_name or CONFIG)

    def prefix(self, folder: Path) -> Path:
        """Return the TensorFlow checkpoint of the checkpoint in `folder`: the path of its files without suffix."""
        return (self.tuned_model_dir or folder) / (self.ckpt_name or CKPT)


def is_in(folder: Path, options: Options) -> bool:
    """Say whether a folder's checkpoint is to be read as Google's.

    Where the folder holds a checkpoint in Hugging Face's format too, it is if an option of this format is given.

    Raises:
        ExportError: An option is given, and the folder holds no checkpoint of this format.
    """
    index = Path(f"{options.prefix(folder)}.index")
    found = options.config(folder).exists() or index.exists()
    given = options.given()
    if given and not found:
        raise ExportError(
            f"{', '.join(given)}: for checkpoints in Google's original format, but {folder} holds none (no "
            f"{options.config(folder).name}, no {index.name})"
        )
    return bool(given) or (found and not any((folder / name).exists() for name in _HUGGING_FACE))


def lower_casing_notes(vocabulary: Path) -> tuple[str, ...]:
    """Return a note where a vocabulary looks like that of a cased checkpoint, whose texts are not to be lower-cased."""
    tokens = vocabulary.read_text(encoding="utf-8").splitlines()
    capitals = sum(token != token.lower() for token in tokens if not token.startswith("["))
    if capitals <= _FEW_CAPITALS * len(tokens):
        return ()
    return (
        f"texts are lower-cased, but {capitals:,} of the {len(tokens):,} tokens in {vocabulary.name} have capitals; if "
        "the checkpoint is a cased one, pass --cased",
    )


class GoogleWeights:
    """The weights in a TensorFlow checkpoint, by the names that transformers' BertModel gives them.

    A dense layer's `weight` is the transpose of TensorFlow's `kernel`.
    """

    def __init__(self, prefix: Path) -> None:
        """Open the TensorFlow checkpoint PREFIX.index and its data files.

        Raises:
            ExportError: It is absent, damaged, or not a BERT as Google's code saves it.
        """
        if not Path(f"{prefix}.index").exists():
            raise ExportError(_absent(prefix))
        self._bundle = TensorBundle(prefix)
        self._taken: set[str] = set()
        variables = self._bundle.entries
        if _ANCHOR not in variables:
            form = (
                "it is in the object-based form of TensorFlow 2, of which Google's original code knows nothing"
                if _OBJECT_GRAPH in variables
                else f"this is not a BERT of Google's code (the first variables are {', '.join(sorted(variables)[:3])})"
            )
            raise ExportError(f"{self._bundle.index}: variable {_ANCHOR!r} is missing; {form}")

    def has(self, name: str) -> bool:
        """Say whether there is a weight of this name."""
        return variable_name(name) in self._bundle.entries

    def take(self, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """Return the weight `name` as a float32 array of `shape`, copied once out of the mapped file.

        Raises:
            ExportError: The variable is missing, has another shape, is not of a floating-point type or not finite, or
                is damaged.
        """
        variable = variable_name(name)
        transposed = variable.endswith("/kernel")
        stored_shape = shape[::-1] if transposed else shape
        entry = self._bundle.entries.get(variable)
        if entry is None:
            raise ExportError(
                f"{self._bundle.index}: variable {variable!r} of shape {list(stored_shape)} is missing; the checkpoint "
                "is incomplete or not the architecture that its configuration says"
            )
        if entry.shape != stored_shape:
            raise ExportError(
                f"{self._bundle.index}: variable {variable!r} has shape {list(entry.shape)}, but the configuration "
                f"asks for {list(stored_shape)}"
            )
        values = self._bundle.read(variable)
        self._taken.add(variable)
        with np.errstate(over="ignore"):  # of float64, to infinity
            array = np.array(values.T if transposed else values, np.float32, order="C")
        return finite(array, f"{self._bundle.index}: variable {variable!r}")

    def skipped(self) -> list[str]:
        """Return the variables, sorted, that were not taken so far."""
        return sorted(self._bundle.entries.keys() - self._taken)


def variable_name(weight: str) -> str:
    """Return what Google's code calls a weight of BertModel.

    >>> variable_name("encoder.layer.0.output.dense.weight")
    'bert/encoder/layer_0/output/dense/kernel'
    """
    module, _, kind = weight.rpartition(".")
    path = "bert/" + re.sub(r"layer\.(\d+)", r"layer_\1", module).replace(".", "/")
    if path.endswith("_embeddings"):
        return path
    names = {"weight": "gamma", "bias": "beta"} if path.endswith("LayerNorm") else {"weight": "kernel", "bias": "bias"}
    return f"{path}/{names[kind]}"


def _absent(prefix: Path) -> str:
    folder = prefix.parent
    if not folder.is_dir():
        return f"{folder}: there is no such folder"
    there = sorted(path.name.removesuffix(".index") for path in folder.glob("*.index"))
    hint = f"name the checkpoint with --ckpt-name: {', '.join(there)}" if there else "copy or download it too"
    return f"{folder}: there is no {prefix.name}.index; {hint}"
