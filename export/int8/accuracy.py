"""What INT8 costs in accuracy, measured on real sentences."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer

from export.network.runner import Runner
from export.sentences import docstring_sentences

TEXTS = 1000
NEIGHBOURS = 10
CALIBRATION_TEXTS = 256
_BATCH = 32


@dataclass(frozen=True)
class Accuracy:
    """How near an INT8 network is to its FP32 original, by the mean-pooled vectors of `TEXTS` real sentences.

    Attributes:
        mean_cosine: Mean over the texts of the cosine between both vectors.
        lowest_cosine: The lowest of them.
        recall: Share of the 10 nearest neighbours by FP32 vectors that INT8 vectors find, mean over the texts.
    """

    mean_cosine: float
    lowest_cosine: float
    recall: float

    def __str__(self) -> str:
        return (
            f"cosine to FP32 over {TEXTS:,} texts: mean {self.mean_cosine:.4f}, lowest {self.lowest_cosine:.4f}; "
            f"recall@{NEIGHBOURS} of FP32's nearest neighbours {self.recall:.3f}"
        )


class Reference:
    """The vectors that an FP32 network gives `TEXTS` real sentences.

    Attributes:
        others: `CALIBRATION_TEXTS` sentences that are not among them, so that what is chosen by these can be measured
            by those.
    """

    def __init__(self, network: Runner, tokenizer_json: str, max_seq_len: int) -> None:
        tokenizer = Tokenizer.from_str(tokenizer_json)
        tokenizer.enable_truncation(max_seq_len)
        sentences = docstring_sentences()
        measured = random.Random(0).sample(sentences, TEXTS)
        rest = sorted(set(sentences).difference(measured))
        self.others: list[Encoding] = tokenizer.encode_batch(random.Random(1).sample(rest, CALIBRATION_TEXTS))
        self._encodings: list[Encoding] = tokenizer.encode_batch(measured)
        self._vectors = _vectors(network, self._encodings)

    def accuracy(self, network: Runner) -> Accuracy:
        """Compare a network with the FP32 one."""
        expected, found = self._vectors, _vectors(network, self._encodings)
        cosines = (expected * found).sum(axis=1)
        nearest = zip(_nearest(expected), _nearest(found), strict=True)
        same = [len(np.intersect1d(a, b)) / NEIGHBOURS for a, b in nearest]
        return Accuracy(float(cosines.mean()), float(cosines.min()), float(np.mean(same)))


def _vectors(network: Runner, encodings: Sequence[Encoding]) -> npt.NDArray[np.float32]:
    """The mean of each text's token vectors, scaled to length 1: [N, D]."""
    order = sorted(range(len(encodings)), key=lambda index: -len(encodings[index]))
    means = []
    for start in range(0, len(order), _BATCH):
        means.append(network.run(encodings[index] for index in order[start : start + _BATCH])["pooled"][:, 0])
    vectors = np.concatenate(means)[np.argsort(order)]
    scaled: npt.NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled


def _nearest(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -np.inf)
    return np.argpartition(-similarity, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
