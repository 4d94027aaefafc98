"""How long a call in bert-as-service's way may take, and what is raised when nobody answers it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from numbers import Real

from client_sdk._call.plan import BATCH_TOKENS
from client_sdk._call.texts import Text, Tokens
from client_sdk._checks import LONGEST_TIMEOUT
from client_sdk._errors import DeadlineExceeded, InvalidArgument, InvalidType, ServerBusy, ServerUnreachable
from client_sdk._settings import DEFAULT_TIMEOUT
from client_sdk._transport.retry import SECONDS_PER_THOUSAND_TOKENS, Deadline

SECONDS_PER_TEXT = 10.0
"""Without a timeout a call may take DEFAULT_TIMEOUT and this for each of its texts, or for a long one what Client waits
for it: slow is fine, for ever is not."""


class NoResponse(ServerUnreachable, DeadlineExceeded):
    """The server is not there. bert-as-service's client waits for it until its timeout, so it is a TimeoutError too."""


@contextmanager
def no_response() -> Iterator[None]:
    """Within it, a server that is not there raises NoResponse, and one that stays busy DeadlineExceeded."""
    try:
        yield
    except ServerUnreachable as error:
        raise NoResponse(str(error)) from error
    except ServerBusy as error:
        raise DeadlineExceeded(str(error)) from error


def deadline_after(timeout: float, texts: Sequence[Text | Tokens]) -> Deadline:
    """The end of a call with these texts that starts now; `timeout` is in milliseconds, or -1 for `patient`.

    Raises:
        InvalidType: `timeout` is no number.
        InvalidArgument: it is neither -1 nor positive.
    """
    if isinstance(timeout, bool) or not isinstance(timeout, Real):
        raise InvalidType(f"timeout must be a number of milliseconds, not {type(timeout).__name__}")
    if timeout == -1:
        return patient(texts)
    if not timeout > 0:
        raise InvalidArgument(f"timeout must be -1 or a positive number of milliseconds, not {timeout}")
    return Deadline(min(timeout, 1000 * LONGEST_TIMEOUT) / 1000)


def patient(texts: Sequence[Text | Tokens]) -> Deadline:
    """The end of a call with these texts and no timeout."""
    return Deadline(min(DEFAULT_TIMEOUT + sum(map(_seconds, texts)), LONGEST_TIMEOUT))


def _seconds(text: Text | Tokens) -> float:
    length = sum(map(len, text)) if isinstance(text, tuple) else len(text)
    return max(SECONDS_PER_TEXT, SECONDS_PER_THOUSAND_TOKENS * min(length, BATCH_TOKENS) / 1000)
