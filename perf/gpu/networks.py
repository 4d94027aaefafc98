"""Small networks of every architecture and head, and what transformers' own models on PyTorch make of the same texts.

They are those that the tests compare with. What is expected was recorded, by PyTorch in FP32 on a CPU, so that a
machine needs neither transformers nor a download.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnx

from export.network import network
from export.network.architectures.encoder import Classifier, Encoder, Head
from export.network.layout import OF_TOKENS, TOKEN_EMBEDDINGS
from export.network.layout import TOKEN_VECTORS as VECTORS_OF_TOKENS
from perf.failure import Failure
from tests.support import architecture_vectors as recorded
from tests.support.batches_of_ids import Feed, laid_end_to_end
from tests.support.checkpoints.architectures import (
    CLASSIFIERS,
    KINDS,
    MASKED_LMS,
    TOKEN_VECTORS,
    VARIANTS,
    Drawn,
    read,
    read_classifier,
    read_splade,
    read_token_vectors,
)

Arrays = Mapping[str, np.ndarray]

LAYOUTS = ("padding-free", "padded")
PRECISIONS = ("fp32", "fp16", "int8")
QUICK = ("bert", "modernbert long", "deberta-v2 conv", "classifier bert", "sparse bert")
"""What there are few of and differ most."""

_LAYERS = (-1, 0)


@dataclass(frozen=True)
class Small:
    """A network.

    Attributes:
        name: Of `NAMES`.
        encoder: What it is made of.
        feed: INT32 [N, S], padded rows.
        expected: FP32, by PyTorch.
        comparable: Makes of a network's outputs, tokens in padded rows, what is compared with `expected`.
        head: What it has instead of vectors.
        has_int8: Whether there are INT8 forms of it to try.
    """

    name: str
    encoder: Encoder
    feed: Feed
    expected: Arrays
    comparable: Callable[[Arrays], Arrays]
    head: Head | None = None
    has_int8: bool = False

    @property
    def forms(self) -> list[tuple[str, str]]:
        """Layouts and precisions that there are of it."""
        return [(layout, p) for layout in LAYOUTS for p in PRECISIONS if p != "int8" or self.has_int8]

    @property
    def in_tensorrt(self) -> bool:
        """Whether it is exported as an engine, which neither sparse vectors nor those of tokens are."""
        return self.head is None or isinstance(self.head, Classifier)

    def model(self, layout: str, precision: str) -> onnx.ModelProto:
        """Write it. INT8 needs ONNX Runtime's quantiser: of the padded layout the form for TensorRT, else for CPUs."""
        if precision == "int8":
            return self._padded_int8() if layout == "padded" else self._padding_free_int8()
        return self._written(layout == "padded", precision == "fp16")

    def given(self, layout: str) -> Feed:
        """The inputs, as a network of this layout takes them."""
        return self.feed if layout == "padded" else laid_end_to_end(self.feed)

    def compared(self, outputs: Arrays) -> Arrays:
        """What a network gave, as what is expected."""
        shape = self.feed["input_ids"].shape
        rows = {name: outputs[name].reshape(*shape, -1) for name in OF_TOKENS if name in outputs}
        return self.comparable({**outputs, **rows})

    def _written(self, is_padded: bool, half: bool = False) -> onnx.ModelProto:
        layers, pooler = ((-1,), False) if self.head else (_LAYERS, "pooler" in self.expected)
        return network.build(self.encoder, Drawn(), layers, pooler, is_padded, half, head=self.head)

    def _padded_int8(self) -> onnx.ModelProto:
        from export.int8 import quantize

        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder, "model.onnx")
            quantize.static(self._written(True, half=True), target, self.encoder, self._texts())
            return onnx.load(target)

    def _padding_free_int8(self) -> onnx.ModelProto:
        from export.int8 import quantize

        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder, "fp32.onnx"), Path(folder, "model.onnx")
            onnx.save(self._written(False), source)
            quantize.dynamic(source, target, self.encoder, self._texts())
            return onnx.load(target)

    def _texts(self) -> list[recorded.Ids]:
        return [recorded.Ids(ids) for ids in recorded.rows(self.encoder)]


def get(names: Sequence[str]) -> list[Small]:
    """The networks of these names.

    Raises:
        Failure: there is no such network.
    """
    for name in names:
        if name not in _MAKERS:
            raise Failure(f"--networks {name!r}: there are {', '.join(_MAKERS)}")
    return [_MAKERS[name]() for name in names]


def _vectors(name: str) -> Small:
    encoder = read(VARIANTS[name])
    feed = recorded.feed(encoder)
    size = encoder.hidden_size

    def comparable(outputs: Arrays) -> Arrays:
        tokens = _tokens(feed, outputs[TOKEN_EMBEDDINGS])
        found = {
            "tokens": np.concatenate([row[recorded.compared(len(row)), :size] for row in tokens]),
            "mean": outputs["pooled"][:, 0, size:],
        }
        return found | ({"pooler": outputs["pooler_output"]} if "pooler_output" in outputs else {})

    return Small(name, encoder, feed, recorded.load(name), comparable, has_int8=name in KINDS)


def _classifier(name: str) -> Small:
    settings = CLASSIFIERS[name]
    expected = {"logits": recorded.load_logits(name)}
    encoder = read(settings)
    return Small(f"classifier {name}", encoder, recorded.feed(encoder), expected, dict, read_classifier(settings))


def _sparse(name: str) -> Small:
    encoder = read(MASKED_LMS[name][0])

    def comparable(outputs: Arrays) -> Arrays:
        whole = np.zeros((len(outputs["indices"]), encoder.vocab_size + 1), np.float32)  # -1, for none, is the last
        np.put_along_axis(whole, outputs["indices"].astype(np.int64), outputs["weights"], axis=1)
        return {"weights": whole[:, :-1]}

    expected = {"weights": recorded.load_sparse(name)}
    return Small(f"sparse {name}", encoder, recorded.feed(encoder), expected, comparable, read_splade(name))


def _token_vectors(name: str) -> Small:
    encoder, feed = read(VARIANTS[name]), recorded.silent_feed(name)

    def comparable(outputs: Arrays) -> Arrays:
        tokens = _tokens(feed, outputs[VECTORS_OF_TOKENS])
        return {"tokens": np.concatenate([row[recorded.compared(len(row))] for row in tokens])}

    expected = {"tokens": recorded.load_token_vectors(name)}
    return Small(f"tokens {name}", encoder, feed, expected, comparable, read_token_vectors(name))


def _tokens(feed: Feed, padded: np.ndarray) -> list[np.ndarray]:
    return [row[mask == 1] for row, mask in zip(padded, feed["attention_mask"], strict=True)]


_MAKERS: dict[str, Callable[[], Small]] = {
    **{name: partial(_vectors, name) for name in VARIANTS},
    **{f"classifier {name}": partial(_classifier, name) for name in CLASSIFIERS},
    **{f"sparse {name}": partial(_sparse, name) for name in MASKED_LMS},
    **{f"tokens {name}": partial(_token_vectors, name) for name in TOKEN_VECTORS},
}
NAMES = tuple(_MAKERS)
