"""Everything that the package raises on purpose.

    ClientError                                     the base of all
    ├── InvalidArgument       (ValueError)          the call itself is wrong, and always will be
    │   └── InvalidType       (TypeError)           ... because something is of the wrong type
    ├── ModelNotFound         (LookupError)         the server does not have the model
    ├── ServerUnreachable     (ConnectionError)     no connection to the address, or it was lost
    ├── AccessDenied          (PermissionError)     the server wants a key, and was not given the right one
    ├── ServerBusy                                  the server cannot take the request now
    ├── DeadlineExceeded      (TimeoutError)        the call's `timeout` ran out first
    ├── ServerError           (RuntimeError)        the server failed in serving the request
    │   ├── StepDied          (RuntimeError)        ... because the process of a step has died
    │   └── VersionChanged    (RuntimeError)        ... since the model was replaced during the call
    ├── ServerStartError      (RuntimeError)        `LocalServer`: tritonserver did not become ready
    └── TritonServerNotFound  (FileNotFoundError)   `LocalServer`: there is no tritonserver here

In brackets: the builtin that each also is, for those who catch that. Bad input is refused before anything is
sent where the client can know, and by the server's answer otherwise; it is the same class either way.
What a server answers becomes one of these in `_transport/peer.py`.
"""

from __future__ import annotations

from client_sdk._typing import Self


class ClientError(Exception):
    """The base of every error that this package raises on purpose."""


class InvalidArgument(ClientError, ValueError):
    """An argument, an option or a text is not one that can be encoded; the message says what is allowed."""

    text_index: int | None = None
    """Which text of the call it is about, in the caller's order; None if it is about something else."""

    reason: str = ""
    """The message behind the text's number."""

    @classmethod
    def of_text(cls, index: int, reason: str) -> Self:
        """An error about one text: `text INDEX` and the reason, which begins with a blank or a colon."""
        error = cls(f"text {index}{reason}")
        error.text_index, error.reason = index, reason
        return error


class InvalidType(InvalidArgument, TypeError):
    """An argument is of the wrong type, such as a text that is not a str."""


class ModelNotFound(ClientError, LookupError):
    """The server does not have the model, or it is not ready; the message names those that are there."""


class ServerUnreachable(ClientError, ConnectionError):
    """No connection could be made to the address, or it was lost; the message says what to check."""


class AccessDenied(ClientError, PermissionError):
    """The endpoint is restricted, and the key that opens it was not given, or is another one. Never retried."""


class ServerBusy(ClientError):
    """The server's queue was full, or it was not taking requests, for as long as the call could wait."""

    is_loading: bool = False
    """Whether it was not taking requests: the model is being loaded, or the server stops."""

    @classmethod
    def loading(cls, message: str) -> Self:
        """The error of a server that is not taking requests."""
        error = cls(message)
        error.is_loading = True
        return error


class DeadlineExceeded(ClientError, TimeoutError):
    """The call did not end within its `timeout`."""


class ServerError(ClientError, RuntimeError):
    """The server failed in serving the request, or answered something that cannot be understood."""


class StepDied(ServerError):
    """The process of one of the model's Python steps has died, and was not brought back for as long as the call lasted.

    Triton itself never starts one again: the server has to be restarted, by a person or by what watches it.
    """


class VersionChanged(ServerError):
    """The model was replaced during the call: vectors of two models must not be mixed, so call again."""


class ServerStartError(ClientError, RuntimeError):
    """A local tritonserver stopped, or was not ready in time; the message holds its log's reasons."""


class TritonServerNotFound(ClientError, FileNotFoundError):
    """No `tritonserver` program was found on this machine; the message says where it was looked for."""
