"""The kinds of families that there are: how each is told, and which of its models takes a text through all steps."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """What a family gives of a text.

    Attributes:
        mark: The parameter that the last step of this kind alone has, NAME_pooling, which every family has.
        role: The end of the name of the ensemble with all the steps.
        gives: What comes, in words, and by which methods.
        method: That gives it.
    """

    mark: str
    role: str
    gives: str
    method: str


DENSE = Kind("", "", "vectors (encode, encode_tokens)", "encode")
SCORES = Kind("labels", "", "scores (score, rerank, classify)", "classify")
SPARSE = Kind("splade", "_sparse", "sparse vectors (encode_sparse)", "encode_sparse")
MULTI = Kind("multi", "_multi", "vectors for late interaction (encode_multi)", "encode_multi")

_MARKED = (SCORES, SPARSE, MULTI)

ROLES = tuple(dict.fromkeys(kind.role for kind in (DENSE, *_MARKED)))
"""Of the ensembles that a family may have, where its kind is not known."""

_PARTS = ("_tokens", "_sparse", "_multi", "_tokenizer", "_encoder", "_pooling")


def kind_of(parameters: Container[str]) -> Kind:
    """The kind of the family whose last step has these parameters."""
    return next((kind for kind in _MARKED if kind.mark in parameters), DENSE)


def family_of(model: str) -> str | None:
    """The family that a model is a part of by its name, which no family has that export has written."""
    return next((model.removesuffix(part) for part in _PARTS if model.endswith(part)), None)
