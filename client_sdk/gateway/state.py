"""What all requests of a gateway share."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from client_sdk._call.job import VECTORS, AnswerKind, late_vectors
from client_sdk._call.scores import SCORES
from client_sdk._call.sparse import sparse_vectors
from client_sdk._errors import ServerBusy
from client_sdk.gateway.families import Families, Family, Kind, Target
from client_sdk.gateway.limits import Limits
from client_sdk.gateway.settings import GatewaySettings

_READY = "ready"
_READY_TIMEOUT = 5.0  # seconds


@dataclass(frozen=True)
class Gateway:
    """One gateway, in one event loop."""

    settings: GatewaySettings
    families: Families
    limits: Limits

    @classmethod
    def start(cls, settings: GatewaySettings) -> Gateway:
        """Nothing is asked yet."""
        return cls(settings, Families(settings), Limits(settings))

    async def check(self, kind: Kind | None = None) -> Family:
        """Have the family that is asked first answer one real text. A server that is busy is alive.

        Raises:
            Failure: There is no family.
            ClientError: It did not answer.
        """
        family = await self.families.first(kind)
        with suppress(ServerBusy):
            await Target(family, {}).answer(_kind_of(family), [_READY], {"timeout": _READY_TIMEOUT})
        return family


def _kind_of(family: Family) -> AnswerKind[Any]:
    if family.kind is Kind.MULTI:
        return late_vectors(family.info.dimension, None)
    if family.kind is Kind.SPARSE:
        return sparse_vectors(family.info.dimension, None)
    return VECTORS if family.kind is Kind.VECTORS else SCORES
