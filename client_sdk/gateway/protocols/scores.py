"""Documents in the order of their scores, as several protocols ask for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from client_sdk._call.scores import Ranked, Ranking
from client_sdk.gateway.families import Kind, Target
from client_sdk.gateway.protocols.protocol import Call


async def ranked(
    call: Call,
    model: str | None,
    query: str,
    documents: Sequence[str],
    param: str,
    options: Mapping[str, Any],
    top: int | None = None,
) -> tuple[Target, list[Ranked]]:
    """The documents that answer a query best, by a client's options, and the family that says so.

    `param` is what the caller calls them.
    """
    call.gateway.limits.check_texts(documents, param)
    target = await call.find(model, Kind.RANKS)
    ranking = Ranking(query, documents, top, asynchronous=True)
    found = await target.answer(ranking.kind, ranking.source, options)
    return target, found
