"""What went wrong, in a status and in words: decided here once, and put into each protocol's own form there.

Words for a caller hold nothing of what is behind the gateway, such as addresses; those go to its log.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Literal

from client_sdk._errors import (
    AccessDenied,
    ClientError,
    DeadlineExceeded,
    InvalidArgument,
    ModelNotFound,
    ServerBusy,
    ServerUnreachable,
    StepDied,
    VersionChanged,
)

logger = logging.getLogger("client_sdk.gateway")

Reason = Literal["invalid", "denied", "missing", "late", "large", "busy", "failed", "unavailable", "deadline"]

STATUSES: dict[Reason, int] = {
    "invalid": 400,
    "denied": 401,
    "missing": 404,
    "late": 408,
    "large": 413,
    "busy": 429,
    "failed": 500,
    "unavailable": 503,
    "deadline": 504,
}
"""Of a protocol that does not have another for one of them."""

MEANINGS: dict[Reason, str] = {
    "invalid": "the request is wrong, or the model does not give what the route is for",
    "denied": "keys are needed, and the request shows none of them",
    "missing": "there is no such model, version or part",
    "late": "the body did not come in time",
    "large": "the body is too large, or has too many texts",
    "busy": "the gateway, the server or the key has too much to do; Retry-After says when to come again",
    "failed": "the server failed",
    "unavailable": "the server cannot be reached, or is not whole; Retry-After says when to come again",
    "deadline": "the server did not answer in time",
}
"""For the OpenAPI page."""

_PAUSE = 1.0
"""Seconds after which a caller may come again, where nothing else is known."""


@dataclass
class Failure(Exception):
    """Why a request has no answer.

    Attributes:
        reason: What kind of failure it is.
        message: One line for the caller.
        param: The field of the request that it is about, if it is about one.
        pause: Seconds after which the caller may come again, if it is busy or unavailable.
    """

    reason: Reason
    message: str
    param: str | None = None
    pause: float = _PAUSE

    def __str__(self) -> str:
        """The line."""
        return self.message

    @property
    def headers(self) -> dict[str, str]:
        """Of the answer."""
        if self.reason in ("late", "large"):  # the rest of the body is not read
            return {"connection": "close"}
        if self.reason == "denied":
            return {"www-authenticate": "Bearer"}
        return {"retry-after": str(math.ceil(self.pause))} if self.reason in ("busy", "unavailable") else {}


class CallerGone(Exception):
    """Nobody waits for the answer any more."""


def failure_of(error: Exception) -> Failure:
    """What the caller is told of an error."""
    if isinstance(error, Failure):
        return error
    if isinstance(error, InvalidArgument):
        return Failure("invalid", str(error))
    if not isinstance(error, ClientError):
        logger.error("a request failed", exc_info=error)
        return Failure("failed", "the gateway failed; its log says how")
    logger.warning("%s: %s", type(error).__name__, error)
    if isinstance(error, ModelNotFound):
        return Failure("missing", "the model is not served any more", "model")
    if isinstance(error, ServerBusy) and error.is_loading:
        return Failure("unavailable", "the server loads the model; try again")
    if isinstance(error, ServerBusy):
        return Failure("busy", "the server is busy: its queue is full; try again")
    if isinstance(error, DeadlineExceeded):
        return Failure("deadline", "the server did not answer in time")
    if isinstance(error, VersionChanged):
        return Failure("unavailable", "the model was replaced while it answered; try again")
    if isinstance(error, StepDied):
        return Failure("unavailable", "a step of the model has died, and the server is not whole; try again later")
    if isinstance(error, ServerUnreachable):
        return Failure("unavailable", "the server cannot be reached; try again later")
    if isinstance(error, AccessDenied):
        return Failure("unavailable", "the server does not take the gateway's own key")
    return Failure("failed", "the server failed; the gateway's log says how")
