"""A checkpoint's config.json, whose values are read one by one, and checked."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from export import json_files
from export.errors import ExportError

ACTIVATIONS = ("gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "relu", "silu", "swish", "tanh")
"""The activations that the network is written for, named as transformers names them."""

OTHER_NETWORKS = {
    "is_decoder": "attends to the left only",
    "is_causal": "attends to the left only",
    "add_cross_attention": "attends to another network",
    "quantization_config": "has quantized weights",
    "pruned_heads": "has lost some of its heads",
    "per_layer_config": "has layers of different settings",
    "attribute_map": "has its settings under other names",
}
"""Keys that, of any architecture, make the network another than export writes, if they are set.

A key that neither an architecture reads nor this names is an attribute that transformers' model does not read, whoever
put it there: labels, generation, dropout, the history of the file.
"""

_MOST = 2**31  # of any size
_MOST_OF = {
    **dict.fromkeys(("num_hidden_layers", "n_layers", "num_hidden_groups"), 1000),
    **dict.fromkeys(("hidden_size", "dim", "head_dim"), 65_536),
    "max_position_embeddings": 2**20,
    "num_labels": 2**20,
}
"""What is made of a size before any weight is looked at is bounded: tables of angles and distances, layers, names of
labels."""


class Config:
    """The values of a config.json, each of the type of its default, which is transformers' own.

    Every method raises ExportError for a value that makes no sense, or that the network cannot be written for.
    """

    def __init__(self, path: Path, values: Mapping[str, Any]) -> None:
        self.path = path
        self.read: dict[str, Any] = {}
        """What was asked for and is there: all that the network depends on."""
        self._values = dict(values)
        for key, meaning in OTHER_NETWORKS.items():
            if values.get(key):
                shown = json_files.shown(values[key])
                raise ExportError(f"{path}: {key} is {shown}, a network that {meaning}; it cannot be exported")

    def take_over(self, names: Mapping[str, str]) -> None:
        """Give keys that are absent the values of the older names that are given for them."""
        for key, name in names.items():
            if name in self._values:
                self._values.setdefault(key, self._values[name])

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value as it is."""
        if key in self._values:
            self.read[key] = self._values[key]
        return self._values.get(key, default)

    def size(self, key: str, default: int, least: int = 1) -> int:
        """Return a whole number of at least `least`."""
        value = self.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value < _MOST:
            raise self.error(key, "a positive int is expected" if least == 1 else f"an int of {least} on is expected")
        most = _MOST_OF.get(key, _MOST)
        if value > most:
            raise self.error(key, f"export works for at most {most}")
        return value

    def optional_size(self, key: str, default: int) -> int:
        """Return a whole number above 0; `default` where it is absent or null."""
        return default if self.get(key) is None else self.size(key, default)

    def number(self, key: str, default: float) -> float:
        """Return a number above 0."""
        value = self.get(key, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < _MOST:
            raise self.error(key, "a positive float is expected")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """Return true or false."""
        value = self.get(key, default)
        if not isinstance(value, bool):
            raise self.error(key, "true or false is expected")
        return value

    def activation(self, key: str, default: str) -> str:
        """Return the name of one of `ACTIVATIONS`."""
        value = self.get(key, default)
        if not isinstance(value, str):
            raise self.error(key, "text is expected")
        self.only(key, ACTIVATIONS, default)
        return value

    def only(self, key: str, working: Collection[Any], default: Any = None) -> Any:
        """Return a value, which must be one of those that export works for."""
        value = self.get(key, default)
        if value not in working:
            names = ", ".join(map(str, working)) if len(working) > 1 else repr(*working)
            raise self.error(key, f"export works for {names}")
        return value

    def mapping(self, key: str) -> Mapping[str, Any]:
        """Return an object, an empty one where it is absent or null."""
        value = self.get(key)
        if value is not None and not isinstance(value, Mapping):
            raise self.error(key, "an object is expected")
        return value or {}

    def labels(self) -> tuple[str, ...]:
        """Return the names of a classifier's labels, in the order of its logits."""
        names = self.mapping("id2label")
        if not names:
            return tuple(f"LABEL_{index}" for index in range(self.size("num_labels", 2)))
        ordered = [names.get(str(index)) for index in range(len(names))]
        if not all(isinstance(name, str) for name in ordered):
            raise self.error("id2label", "a name for each of 0, 1, 2 ... is expected")
        try:
            "".join(map(str, ordered)).encode()
        except UnicodeEncodeError:
            raise self.error("id2label", "one of them holds half of a surrogate pair, which is no text") from None
        return tuple(map(str, ordered))

    def heads(self, size: int, default: int, key: str = "num_attention_heads", of: str = "hidden_size") -> int:
        """Return a number of heads, which must share the hidden size, whose key is `of`, equally."""
        heads = self.size(key, default)
        if size % heads:
            raise ExportError(f"{self.path}: {of} {size} cannot be shared equally by {key} {heads}")
        return heads

    def error(self, key: str, message: str) -> ExportError:
        """Return the error of a value: what it is, and a message."""
        return ExportError(f"{self.path}: {key} is {json_files.shown(self.get(key))}; {message}")
