"""One server at the other end: what is known of it, and how its failures are put into words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from client_sdk._api_key import GRPC_HEADER, HTTP_HEADER
from client_sdk._errors import (
    AccessDenied,
    ClientError,
    DeadlineExceeded,
    InvalidArgument,
    ModelNotFound,
    ServerBusy,
    ServerError,
    ServerUnreachable,
    StepDied,
    VersionChanged,
)
from client_sdk._kinds import family_of
from client_sdk._transport.address import Address
from client_sdk._transport.base import InferRequest, Query
from client_sdk._transport.known import Known

# What Triton puts before the message that matters: the request, and each ensemble it went through.
_PREFIX = re.compile(r"^(?:in ensemble '[^']*', |\[request id: [^\]]*\] )+")
_RESTRICTED = re.compile(r"This (?:protocol|API) is restricted, expecting header '([^']*)'")
_UNLOADED = re.compile(r"^Request for unknown model: .* (?:has no available versions|is not at ready state)")
_UNKNOWN_MODEL = "Request for unknown model: "  # NOT_FOUND in Triton 2.51, INVALID_ARGUMENT in later ones
# Triton's Python backend fails a whole batch where a string of one request is cut off; what this client sends never is.
_SPOILED_BATCH = re.compile(r"\bstring\b.* for inference input 'TEXT'")
# What the steps of an export say that has an identity, and those of an older one, which knows no such parameter.
_OTHER_MODEL = re.compile(r"^identity: |^unknown parameter 'identity'")
_ABOUT_TEXT = re.compile(r"text (\d+)\b(.*)", re.DOTALL)  # how the steps begin what they say of one text
_NO_OUTPUT = re.compile(r"unexpected inference output '(\w+)' for model '([^']*)'")
# Of a step that takes no texts, or not these alone.
_NO_TEXT = re.compile(r"(?:expected \d+ inputs but got 1 inputs|unexpected inference input 'TEXT') for model '([^']*)'")
_OUTPUTS = {
    "EMBEDDING": "scores (score, rerank, classify), not vectors",
    "SCORES": "vectors (encode, encode_tokens), not scores",
}
_TOO_MANY_TEXTS = re.compile(r"batch-size must be <= (\d+)")
_NO_TLS = re.compile(r"wrong.version.number|record.layer.failure|http.request", re.IGNORECASE)
_NO_TRUST = re.compile(r"certificate.verify.failed", re.IGNORECASE)
_DEAD_STEP = re.compile(r"Stub process '?([^' ]*)'? is not healthy")


class TooManyTexts(InvalidArgument):
    """A request of more texts than the server takes, which is to be cut."""

    def __init__(self, message: str, limit: int) -> None:
        super().__init__(message)
        self.limit = limit


class Peer(Known):
    """One server. `reached` turns true with its first answer, be it an error."""

    has_spare = False
    servers = 1

    def __init__(self, address: Address, has_api_key: bool = False) -> None:
        super().__init__()
        self.address = address
        self.reached = False
        self._has_api_key = has_api_key

    @property
    def name(self) -> str:
        """The address."""
        return str(self.address)

    def has_spare_for(self, request: InferRequest) -> bool:
        """There is no other server."""
        return False

    def holds(self, model: str) -> str:
        """The address, and the identity of the model there."""
        return f"{self.address} has {self.identity(model, '') or 'one of unknown identity'}"

    @contextmanager
    def asking(self, query: Query) -> Iterator[Callable[[dict[str, Any]], dict[str, Any]]]:
        """Yield what is to be called with the answer, and return it; what the answer says is kept."""

        def noted(answer: dict[str, Any]) -> dict[str, Any]:
            self.note(query, answer)
            return answer

        try:
            yield noted
        except AccessDenied:  # configurations may be closed where inference is open
            self.note(query, None)
            raise

    def unreachable(self, reason: str) -> ServerUnreachable:
        """No connection could be made, or it was lost."""
        self.forget()
        if self.address.uses_tls and _NO_TLS.search(reason):
            plain = self.address.scheme.removesuffix("s")
            advice = f"does this port speak TLS? What answers there does not; {plain}:// is for a port without"
        elif self.address.uses_tls and _NO_TRUST.search(reason):
            advice = (
                "its certificate is not trusted, or is another host's: give the authority's as root_certificates, "
                "and the name that the certificate has as host"
            )
        elif self.reached:
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
        restricted = _RESTRICTED.search(message)
        if restricted or status in ("PERMISSION_DENIED", "UNAUTHENTICATED"):
            advice = self._how_to_enter(restricted[1] if restricted else None)
            return AccessDenied(f"{self.address} refuses: {message}; {advice}")
        if _OTHER_MODEL.search(message):
            self.forget()
            return VersionChanged(f"{self.address} has another model than the one that was asked for ({message})")
        if too_many := _TOO_MANY_TEXTS.search(message):
            self.forget()
            return TooManyTexts(message, int(too_many[1]))
        if _UNLOADED.search(message):  # it stops, or loads the model anew
            self.forget()
            return ServerBusy.loading(f"{self.address} cannot take the request now: {message}")
        if status == "UNAVAILABLE":
            return ServerBusy(f"{self.address} cannot take the request now: {message}")
        if message == "Not Found" and not self.address.uses_grpc:  # Triton's answer to a path that is none of its own
            return self.garbled(f"it has nothing at the path {self.address.path or '/'}/v2: is the url's path right?")
        if status == "NOT_FOUND" or message.startswith(_UNKNOWN_MODEL):
            return ModelNotFound(message)
        if _SPOILED_BATCH.search(message):
            return ServerBusy(f"{self.address} merged the request with another client's, which is malformed: {message}")
        if (step := _NO_TEXT.search(message)) and family_of(step[1]):
            return ModelNotFound(message)
        if (output := _NO_OUTPUT.search(message)) and output[1] in _OUTPUTS:
            if family_of(output[2]):
                return ModelNotFound(message)
            return InvalidArgument(f"model {output[2]!r} at {self.address} gives {_OUTPUTS[output[1]]}")
        if status == "INVALID_ARGUMENT":
            about = _ABOUT_TEXT.match(message)
            return InvalidArgument.of_text(int(about[1]), about[2]) if about else InvalidArgument(message)
        if _DEAD_STEP.search(message):
            return StepDied(
                f"{self.address}: a step of the model has died, and tritonserver does not start it again by itself: "
                f"restart the server, or run it with what does (python -m client_sdk serve) ({message})"
            )
        return ServerError(f"{self.address} failed: {message} ({status})")

    def redirected(self, status: int, target: str) -> ServerError:
        """The answer sends the client elsewhere. Texts, headers and keys go where the user says, and only there."""
        return ServerError(
            f"{self.address} answered with a redirect to {target[:200]!r} (HTTP status {status}), which is not "
            "followed: give that address as url if it is right"
        )

    def garbled(self, reason: str) -> ServerError:
        """Something answered that is not what Triton says."""
        return ServerError(f"{self.address} does not answer like a Triton server: {reason}")

    def _how_to_enter(self, header: str | None) -> str:
        if header is not None and header.lower() not in (HTTP_HEADER, GRPC_HEADER):
            return "give it through `headers`"
        if self._has_api_key:
            return "the api_key that was sent is not the one that it expects"
        return "it expects a key: give api_key=..., or set CLIENT_SDK_API_KEY"
