"""What a transport knows of the server at the other end, and how its failures are put into words."""

from __future__ import annotations

import re

from ._address import Address
from ._errors import (
    AccessDenied,
    ClientError,
    DeadlineExceeded,
    InvalidArgument,
    ModelNotFound,
    ServerBusy,
    ServerError,
    ServerUnreachable,
)

# What Triton puts before the message that matters: the request, and each ensemble it went through.
_PREFIX = re.compile(r"^(?:in ensemble '[^']*', |\[request id: [^\]]*\] )+")
_RESTRICTED = re.compile(r"This (?:protocol|API) is restricted")


class Peer:
    """One server. `reached` turns true with its first answer, be it an error."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.reached = False

    def unreachable(self, reason: str) -> ServerUnreachable:
        """No connection could be made, or it was lost."""
        if self.reached:
            advice = "it answered before: was it stopped?"
        else:
            protocol, port, other, other_port = (
                ("gRPC", 8001, "HTTP", 8000) if self.address.uses_grpc else ("HTTP", 8000, "gRPC", 8001)
            )
            advice = (
                f"is the server running, is this the {protocol} port (usually {port}) "
                f"and not the {other} one (usually {other_port})?"
            )
        return ServerUnreachable(f"cannot reach {self.address}: {advice} ({reason})")

    def too_late(self) -> DeadlineExceeded:
        """The time of the attempt is over."""
        hint = "" if self.reached else "; nothing there has answered yet: is it the right address?"
        return DeadlineExceeded(f"{self.address} did not answer in time{hint}")

    def answered(self, status: str, message: str) -> ClientError:
        """The server answered with an error; `status` is the name of a gRPC status code."""
        self.reached = True
        message = _PREFIX.sub("", message)
        if _RESTRICTED.search(message) or status in ("PERMISSION_DENIED", "UNAUTHENTICATED"):
            return AccessDenied(f"{self.address} refuses: {message}; give it through `headers`")
        if status == "INVALID_ARGUMENT":
            return InvalidArgument(message)
        if status == "NOT_FOUND":
            return ModelNotFound(message)
        if status == "UNAVAILABLE":
            return ServerBusy(f"{self.address} cannot take the request now: {message}")
        return ServerError(f"{self.address} failed: {message} ({status})")

    def garbled(self, reason: str) -> ServerError:
        """Something answered that is not what Triton says."""
        return ServerError(f"{self.address} does not answer like a Triton server: {reason}")
