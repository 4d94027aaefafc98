"""Options that several protocols have, as the client has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy.typing as npt

from client_sdk._call.kinds import VECTORS
from client_sdk._call.precision import Scalar, converter
from client_sdk._call.questions import measured_ranges
from client_sdk._call.texts import Text, Tokens
from client_sdk.gateway.failures import Failure
from client_sdk.gateway.families import Family, Target

Truncate = Literal["NONE", "START", "END"]

_SIDES: dict[Truncate, str | None] = {"START": "left", "END": None}
"""Of an end; None: the checkpoint's own, which is the right for nearly all."""

VectorType = Literal["float", "int8", "uint8", "binary", "ubinary"]

_ADVICE = "ask for float"


def truncation(truncate: Truncate) -> dict[str, Any]:
    """A client's options for texts that are too long: they are cut at an end, or refused."""
    return {"truncate": False} if truncate == "NONE" else {"truncation_side": _SIDES[truncate]}


def checked_dimension(dimension: int | None, family: Family, param: str) -> int | None:
    """The numbers that a vector is to have; None for all. Raises Failure for more than the family has."""
    if dimension is not None and not 1 <= dimension <= family.info.dimension:
        raise Failure("invalid", f"{param} is {dimension}; {family.name} takes 1 to {family.info.dimension}", param)
    return dimension


async def typed_vectors(
    target: Target, texts: Sequence[Text | Tokens], types: Sequence[VectorType], options: Mapping[str, Any]
) -> list[npt.NDArray[Any]]:
    """The vectors of texts, by a client's options, as each of these types has them: [N, D], or [N, D / 8] of bits.

    Raises:
        ClientError: As a client's `encode`; of int8 and uint8 too where the model has no ranges for such vectors.
    """
    convert = [converter("float32" if kind == "float" else kind, None, learns=True) for kind in types]
    scalars = [one for one in convert if isinstance(one, Scalar)]
    kind = VECTORS
    if scalars:
        given = {name: value for name, value in options.items() if value is not None}
        session, version = target.family.session, target.options.get("model_version")
        asked = measured_ranges(target.family.name, scalars[0].precision, given, version, _ADVICE)
        measured = await session.ask(asked, session.settings.deadline(None))
        for scalar in scalars:
            scalar.learn(measured.ranges)
        kind = replace(VECTORS, identity=measured.identity)
    vectors = await target.answer(kind, texts, options)
    return [one(vectors) for one in convert]
