"""How long a call may take, and whether and when to try again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from client_sdk._errors import (
    ClientError,
    DeadlineExceeded,
    ModelNotFound,
    ServerBusy,
    ServerUnreachable,
    StepDied,
    VersionChanged,
)
from client_sdk._transport.base import InferRequest, Reach

T = TypeVar("T")

FIRST_PAUSE = 0.05  # seconds
LONGEST_PAUSE = 2.0
RECONNECT_PATIENCE = 20.0
"""Seconds for which a server that answered before, and is gone, is tried again within one call.

Long enough for a server that is watched to be noticed, started and loaded again.
"""


SECONDS_PER_THOUSAND_TOKENS = 10.0
"""For which a call without a timeout waits longer for an answer: what slow machines take to compute them."""

LONGEST_WAIT = 3600.0
"""Seconds for which such a call waits for an answer at most."""


class Silent(DeadlineExceeded):
    """One of several servers does not answer, and the call's time is not over."""


PASSED_OVER = (ServerBusy, ServerUnreachable, ModelNotFound, StepDied, Silent)
"""Errors of one server that another may not have."""

GRACE = 2.0
"""Seconds beyond a deadline after which a call that should have ended itself is no longer waited for."""


class Deadline:
    """The end of one call, `timeout` seconds from now.

    With `renewable`, from the last answer that came, and later by SECONDS_PER_THOUSAND_TOKENS for the texts that wait
    for theirs; LONGEST_WAIT in all.
    """

    def __init__(self, timeout: float, clock: Callable[[], float] = time.monotonic, *, renewable: bool = False) -> None:
        self.timeout = timeout
        self.clock = clock
        self.renewable = renewable
        self._since = clock()
        self.awaited = 0.0
        """Tokens at most of the texts that wait for their answers: on their way, or to be sent again."""

    def renew(self) -> None:
        """An answer came, or the first request is on its way that is waited for."""
        if self.renewable:
            self._since = self.clock()

    def left(self) -> float:
        """Seconds until the end; negative after it."""
        return self._since + self._patience - self.clock()

    @property
    def _patience(self) -> float:
        if not self.renewable:
            return self.timeout
        return min(self.timeout + SECONDS_PER_THOUSAND_TOKENS * (self.awaited // 1000), LONGEST_WAIT)

    def remaining(self) -> float:
        """Seconds for the next attempt; raises DeadlineExceeded when there are none."""
        left = self.left()
        if left <= 0:
            raise DeadlineExceeded(self.passed() + " before the call was done")
        return left

    def of_attempt(self, left: float) -> float:
        """Seconds for an attempt that begins when `left` are left, which must not end before the call does.

        What expires while others are answered would be computed again.
        """
        return max(left, LONGEST_WAIT) if self.renewable else left

    @property
    def grace(self) -> float:
        """Seconds after the end in which attempts end by themselves; none, where they may take longer."""
        return 0.0 if self.renewable else GRACE

    def bounding(self, items: Iterable[T]) -> Iterator[T]:
        """`items`, read for as long as the call lasts; what they take does not count as waiting for an answer."""
        for item in items:
            if not self.renewable:
                self.remaining()
            yield item

    def passed(self) -> str:
        """What has happened when it is over, in words."""
        if self.renewable:
            return f"{self._patience:g} s passed without an answer"
        return f"the timeout of {self.timeout:g} s passed"


class Retry:
    """The attempts at one request: told of each failure, it says how long to pause, or raises.

    - Another server may do it (`Reach.has_spare`): at once.
    - The server is busy, or a step of it has died, which what watches it may bring back: tried again until the
      deadline, with growing, jittered pauses.
    - The connection was lost, or the server has another model: the same, for at most RECONNECT_PATIENCE seconds.
    - There never was a connection: raised at once; a wrong address does not become right.
    - Anything else is raised at once.

    When the deadline ends, the error raised is the one that stood in the way last.
    """

    def __init__(self, deadline: Deadline, peer: Reach, jitter: Callable[[], float] = random.random) -> None:
        self._deadline = deadline
        self._peer = peer
        self._jitter = jitter
        self._pause = FIRST_PAUSE
        self._last: ClientError | None = None
        self._lost_at: float | None = None
        self.refusals = 0
        """How often the server had another model."""

    def remaining(self) -> float:
        """Seconds for the next attempt; when there are none, raises what stood in the way, or DeadlineExceeded."""
        if self._deadline.left() <= 0 and self._stood_in_the_way is not None:
            raise self._stood_in_the_way
        return self._deadline.remaining()

    def pause_after(self, error: ClientError, request: InferRequest | None = None) -> float:
        """Seconds to wait before the next attempt at `request`; raises if there should be none."""
        self.refusals += isinstance(error, VersionChanged)
        if isinstance(error, DeadlineExceeded) and not isinstance(error, Silent):
            if self._deadline.renewable and self._deadline.left() > FIRST_PAUSE:  # others were answered meanwhile
                return 0.0
            if self._stood_in_the_way is not None:
                raise self._stood_in_the_way
            raise DeadlineExceeded(f"{self._deadline.passed()}: {error}")
        has_spare = self._peer.has_spare if request is None else self._peer.has_spare_for(request)
        elsewhere = isinstance(error, PASSED_OVER) and has_spare
        if not elsewhere and not self._worth_another(error):
            raise error from None
        left = self._deadline.left()
        if left < FIRST_PAUSE:
            raise error
        if elsewhere:
            self._last = error
            return 0.0
        # Half of what is left at most, so that the deadline does not pass in a pause.
        pause = min(self._pause * (0.5 + 0.5 * self._jitter()), left / 2)
        self._pause = min(LONGEST_PAUSE, 2 * self._pause)
        self._last = error
        return pause

    @property
    def _stood_in_the_way(self) -> ClientError | None:
        """What the last attempt that was answered failed with."""
        return None if isinstance(self._last, Silent) else self._last

    def _worth_another(self, error: ClientError) -> bool:
        if isinstance(error, (ServerBusy, StepDied, Silent)):
            self._lost_at = None
            return True
        if isinstance(error, VersionChanged) or (isinstance(error, ServerUnreachable) and self._peer.reached):
            now = self._deadline.clock()
            if self._lost_at is None:
                self._lost_at = now
            return now - self._lost_at < RECONNECT_PATIENCE
        return False
