"""The kinds of answers that families give: how each is told, and which model takes a text through all its steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """What a family may give of a text; some give several.

    Attributes:
        name: Of the kind.
        marks: Parameters of the last step, NAME_pooling, which every family has: any of them says that it gives this.
        role: The end of the name of the ensemble with all the steps.
        gives: What comes, in words, and by which methods.
        method: That gives it.
    """

    name: str
    marks: tuple[str, ...]
    role: str
    gives: str
    method: str

    def dimension(self, parameters: Mapping[str, str]) -> int:
        """How many numbers a vector has, as the last step says; KeyError or ValueError where it does not."""
        own = parameters.get(f"{self.name}_dimension")  # of a family that gives vectors of several kinds
        return int(parameters["dimension"] if own is None else own)


DENSE = Kind("dense", ("pooling",), "", "vectors (encode, encode_tokens)", "encode")
SCORES = Kind("scores", ("labels",), "", "scores (score, rerank, classify)", "classify")
SPARSE = Kind("sparse", ("splade", "lexical"), "_sparse", "sparse vectors (encode_sparse)", "encode_sparse")
MULTI = Kind("multi", ("multi",), "_multi", "vectors for late interaction (encode_multi)", "encode_multi")

_KINDS = (DENSE, SCORES, SPARSE, MULTI)

ROLES = tuple(dict.fromkeys(kind.role for kind in _KINDS))
"""Of the ensembles that a family may have, where its kinds are not known."""

_PARTS = ("_tokens", "_sparse", "_multi", "_tokenizer", "_encoder", "_pooling")


def kinds_of(parameters: Iterable[str]) -> tuple[Kind, ...]:
    """The kinds of the family whose last step has these parameters; dense where nothing is said."""
    there = {*parameters}
    return tuple(kind for kind in _KINDS if not there.isdisjoint(kind.marks)) or (DENSE,)


def named(names: Iterable[str]) -> tuple[Kind, ...]:
    """Those of these names."""
    return tuple(kind for kind in _KINDS if kind.name in {*names})


def given(kinds: Iterable[Kind]) -> str:
    """What comes of all of them, in words."""
    *others, last = (kind.gives for kind in kinds)
    return f"{', '.join(others)} and {last}" if others else last


def family_of(model: str) -> str | None:
    """The family that a model is a part of by its name, which no family has that export has written."""
    return next((model.removesuffix(part) for part in _PARTS if model.endswith(part)), None)
