"""What all requests of a gateway share."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from client_sdk._call.kinds import VECTORS, AnswerKind, late_vectors
from client_sdk._call.scores import SCORES
from client_sdk._call.sparse import sparse_vectors
from client_sdk._errors import ServerBusy
from client_sdk.gateway.failures import Failure
from client_sdk.gateway.families import Families, Family, Kind, Target, retrieved
from client_sdk.gateway.keys import Holder, Keys
from client_sdk.gateway.limits import TOGETHER, Limits
from client_sdk.gateway.metrics import Metrics
from client_sdk.gateway.sending import Sending
from client_sdk.gateway.settings import GatewaySettings

_READY = "ready"
_READY_TIMEOUT = 5.0  # seconds


@dataclass(frozen=True)
class Gateway:
    """One gateway, in one event loop."""

    settings: GatewaySettings
    families: Families
    limits: Limits
    keys: Keys | None
    """None: everybody may ask."""
    metrics: Metrics
    sending: Sending
    _checks: dict[Kind | None, asyncio.Task[Family]] = field(default_factory=dict, repr=False)

    @classmethod
    def start(cls, settings: GatewaySettings, keys: Keys | None, metrics: Metrics) -> Gateway:
        """Nothing is asked yet."""
        sending = Sending(TOGETHER * settings.max_body_bytes)
        return cls(settings, Families(settings), Limits(settings), keys, metrics, sending)

    def holder(self, authorization: str | None) -> Holder | None:
        """Whose key a request shows; None where nobody needs one.

        Raises:
            Failure: It shows none that is known.
        """
        if self.keys is None:
            return None
        scheme, _, key = (authorization or "").partition(" ")
        # What a header holds is read as Latin-1; a key is the bytes whose hash the file has.
        key = key.strip().encode("latin-1").decode("utf-8", "surrogateescape")
        holder = self.keys.holder(key) if scheme.lower() == "bearer" else None
        if holder is None:
            raise Failure("denied", "a key is needed, in the header Authorization: Bearer KEY, and this is none")
        return holder

    def charge(self, holder: Holder | None, texts: int) -> None:
        """Count texts that are asked for; raises Failure if the key's holder has asked for too many."""
        pause = 0.0 if holder is None or self.keys is None else self.keys.wait(holder, texts)
        if holder is not None and pause > 0:
            raise Failure(
                "busy", f"the key {holder.name!r} may have {holder.rate:g} texts a second; try again", pause=pause
            )

    async def check(self, kind: Kind | None = None) -> Family:
        """Have the family that is asked first answer one real text. A server that is busy is alive.

        Whoever asks meanwhile is told the same: nobody needs a key for it, and a text takes a server's time.

        Raises:
            Failure: There is no family.
            ClientError: It did not answer.
        """
        check = self._checks.get(kind)
        if check is None or check.done():
            check = self._checks[kind] = asyncio.ensure_future(self._check(kind))
            check.add_done_callback(retrieved)
        return await asyncio.shield(check)

    async def _check(self, kind: Kind | None) -> Family:
        family = await self.families.first(kind)
        with suppress(ServerBusy):
            await Target(family, {}).answer(_first_of(family), [_READY], {"timeout": _READY_TIMEOUT})
        return family


def _first_of(family: Family) -> AnswerKind[Any]:
    """What is asked for of the first kind that it gives."""
    kind, dimension = family.kinds[0], family.info.dimension
    if kind is Kind.MULTI:
        return late_vectors(dimension, None)
    if kind is Kind.SPARSE:
        return sparse_vectors(dimension, None)
    return VECTORS if kind is Kind.VECTORS else SCORES
