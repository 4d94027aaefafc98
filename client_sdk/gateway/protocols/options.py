"""Options that several protocols have, as the client has them."""

from __future__ import annotations

from typing import Literal

from client_sdk._call.precision import Converter, converter
from client_sdk.gateway.failures import Failure
from client_sdk.gateway.families import Family

Truncate = Literal["NONE", "START", "END"]

VectorType = Literal["float", "int8", "uint8", "binary", "ubinary"]


def checked_truncation(truncate: Truncate) -> bool:
    """Whether a text that is too long is cut. Raises Failure for an end that texts are not cut at."""
    if truncate == "START":
        raise Failure("invalid", "truncate START: texts are cut at their end (END), or not at all (NONE)", "truncate")
    return truncate == "END"


def checked_dimension(dimension: int | None, family: Family, param: str) -> int | None:
    """The numbers that a vector is to have; None for all. Raises Failure for more than the family has."""
    if dimension is not None and not 1 <= dimension <= family.info.dimension:
        raise Failure("invalid", f"{param} is {dimension}; {family.name} takes 1 to {family.info.dimension}", param)
    return dimension


def converter_to(kind: VectorType, param: str) -> Converter:
    """What makes vectors of this type. Raises Failure for one that needs what a request does not hold."""
    if kind in ("int8", "uint8"):
        raise Failure(
            "invalid",
            f"{param} {kind}: it needs the ranges of a corpus, which are given in Python alone "
            f"(client_sdk.encode(precision={kind!r}, ranges=...)); here: float, binary, ubinary",
            param,
        )
    return converter("float32" if kind == "float" else kind, None)
