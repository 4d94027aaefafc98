"""Sees to it that a server goes on serving: notices when it does not, and starts it again.

What is noticed, and how soon:

- tritonserver has ended: at once (LOOK_SECONDS).
- The process of a Python step has died: within two looks. Triton itself never starts one again.
- Triton has given up a request as the process of a step stood still: at its first answer that says so. If the process
  goes on, Triton takes its answer for that to the next request, which may get what another one asked for.
- A request fails: each family is asked for one vector every ASK_SECONDS, which takes all its steps, and
  tritonserver itself whether it lives. FAILURES failures within FAILURE_SECONDS are one too many. That a model is
  not there, or that a queue is full, is no failure.
- A request is not answered. A busy server lets it wait too, so it counts only if for IDLE_SECONDS the server has
  next to no processor time to show for it, or if it takes STUCK_SECONDS, four times what a queue lets it wait.
- None of this counts across a pause of the supervisor itself (a machine that was suspended, a debugger): the server was
  paused with it, and has as long as ever to answer from then on.

The server is then killed and started anew, on its ports. If it does not stay up for STABLE_SECONDS, the next start
is put off, by twice as long each time, unless the repository changes before: whoever mends it need not wait.
"""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Callable

from client_sdk._errors import ClientError
from client_sdk._server.probes import Question
from client_sdk._server.run import ServerRun, logger

LOOK_SECONDS = 0.5
ASK_SECONDS = 2.0
FAILURES = 3
FAILURE_SECONDS = 15.0
IDLE_SECONDS = 6.0
IDLE_SHARE = 0.05  # of one core
STUCK_SECONDS = 120.0
STABLE_SECONDS = 60.0
LONGEST_PAUSE_SECONDS = 60.0
PAUSED_SECONDS = 3.0  # nothing that the supervisor waits for takes longer, see probes.py

_GIVEN_UP = re.compile(r"Stub process '(.*)' is not healthy")  # or it is dead


class Clock:
    """The time, and whether whoever looks at it was paused since the last look."""

    def __init__(self) -> None:
        self.now = time.monotonic()

    def look(self) -> bool:
        """Set `now`, in seconds; True after a pause."""
        before, self.now = self.now, time.monotonic()
        return self.now - before > PAUSED_SECONDS


class Watch:
    """Looks at one run of a server."""

    def __init__(self, run: ServerRun) -> None:
        self._run = run
        self._processes = run.processes()
        self._questions = [Question(run.address, family) for family in (None, *run.ensembles)]
        self._ask_at = dict.fromkeys(self._questions, 0.0)
        self._failures: deque[tuple[float, str]] = deque(maxlen=FAILURES)
        self._used: deque[tuple[float, float]] = deque()  # when, and processor seconds until then
        self._clock = Clock()

    def problem(self) -> str | None:
        """What keeps the server from serving, None if nothing does."""
        status = self._run.wait(0)
        if status is not None:
            return f"tritonserver ended (status {status})"
        death = self._death()
        if death:
            return death
        self._note_a_pause()
        for question in self._questions:
            failure = self._exchange(question, self._clock.now)
            paused = self._note_a_pause()
            given_up = _GIVEN_UP.search(failure or "")
            if given_up:
                return self._death() or f"{given_up[1]} stood still, and Triton may now mix up its answers"
            if paused or not failure:
                continue
            logger.info("%s: %s", question.about, failure)
            self._failures.append((self._clock.now, f"{question.about}: {failure}"))
            if len(self._failures) == FAILURES and self._clock.now - self._failures[0][0] < FAILURE_SECONDS:
                return f"{FAILURES} requests failed, the last one with {failure}"
        return self._hang(self._clock.now)

    def _death(self) -> str | None:
        dead = self._processes.dead_steps()
        return f"the process of {' and '.join(dead)} died" if dead else None

    def _note_a_pause(self) -> bool:
        """Look at the clock; after a pause everything that was seen before it is forgotten."""
        paused = self._clock.look()
        if paused:
            self._failures.clear()
            self._used.clear()
            for question in self._questions:
                question.wait_anew(self._clock.now)
        return paused

    def close(self) -> None:
        """Give up what was asked."""
        for question in self._questions:
            question.close()

    def _exchange(self, question: Question, now: float) -> str | None:
        """Asks, or takes the answer, whichever is due; what failed."""
        try:
            if not question.is_asked:
                if now >= self._ask_at[question]:
                    question.ask()
                return None
            answer = question.answer()
        except OSError as error:
            self._ask_at[question] = now
            return str(error) or type(error).__name__
        if answer is None:
            return None
        status, body = answer
        is_failure = status >= 500 and status != 503  # 503: a queue is full
        self._ask_at[question] = now + (0 if is_failure else ASK_SECONDS)
        return f"HTTP {status}: {body[:200]}" if is_failure else None

    def _hang(self, now: float) -> str | None:
        slowest = max(self._questions, key=lambda question: question.waiting_seconds(now))
        waiting = slowest.waiting_seconds(now)
        self._used.append((now, self._processes.cpu_seconds()))
        while len(self._used) > 1 and self._used[1][0] <= now - IDLE_SECONDS:
            self._used.popleft()
        seconds = now - self._used[0][0]
        used = self._used[-1][1] - self._used[0][1]
        if waiting > STUCK_SECONDS:
            return f"{slowest.about} has not answered for {waiting:.0f} s"
        if waiting >= IDLE_SECONDS and seconds >= IDLE_SECONDS and used < IDLE_SHARE * seconds:
            return f"{slowest.about} has not answered for {waiting:.0f} s, and computes nothing"
        return None


class Pauses:
    """How long to wait before a start: not at all after a long run, then 1 s, 2 s, 4 s ... LONGEST_PAUSE_SECONDS."""

    def __init__(self) -> None:
        self._next = 0.0

    def after_run_of(self, seconds: float) -> float:
        """The pause before the next start, in seconds; the server ran for `seconds` since the last."""
        pause = 0.0 if seconds >= STABLE_SECONDS else self._next
        self._next = min(LONGEST_PAUSE_SECONDS, max(1.0, 2 * pause))
        return pause


class Supervisor:
    """A thread that looks after a server until it is told to stop."""

    def __init__(
        self,
        run: ServerRun,
        start_again: Callable[[Callable[[], bool]], ServerRun | None],
        repository_state: Callable[[], object],
    ) -> None:
        """Begins to look after `run`.

        Args:
            run: A server that is ready.
            start_again: Starts the server and waits until it is ready. It is given a function that turns true when
                it should give up, and return None. It raises ClientError if the server does not start.
            repository_state: Gives what changes with the repository.
        """
        self._run = run
        self._start_again = start_again
        self._repository_state = repository_state
        self._stopping = threading.Event()
        self._pauses = Pauses()
        self._watch = Watch(run)  # here, lest a step die unknown before the thread's first look
        self._thread = threading.Thread(target=self._look_after, name="server supervisor", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, which takes a few seconds at most; the server is left as it is."""
        self._stopping.set()
        self._thread.join()

    def wait(self, timeout: float | None) -> None:
        """Wait until it is stopped, or `timeout` seconds."""
        self._thread.join(timeout)

    def _look_after(self) -> None:
        while not self._stopping.is_set():
            ready_at = time.monotonic()
            problem = None
            while problem is None and not self._stopping.wait(LOOK_SECONDS):
                try:
                    problem = self._watch.problem()
                except Exception:  # such as a full table of files; nobody else would look after the server
                    logger.exception("the server could not be looked at")
            self._watch.close()
            if problem:
                self._bring_back(problem, time.monotonic() - ready_at)

    def _bring_back(self, problem: str, ran: float) -> None:
        noticed = time.monotonic()
        tried = self._repository_state()
        while True:
            pause = self._pauses.after_run_of(ran)
            logger.error("%s", _what_is_done(problem, pause))
            self._run.end(at_once=True)
            if self._is_told_to_stop(pause, tried):
                return
            tried = self._repository_state()
            try:
                run = self._start_again(self._stopping.is_set)
                if run:
                    self._run = run
                    self._watch = Watch(run)
            except Exception as error:  # whatever it is, nobody else would start the server
                problem, ran = str(error) if isinstance(error, (ClientError, OSError)) else repr(error), 0.0
                continue
            if run:
                logger.warning("the server is back after %.1f s", time.monotonic() - noticed)
            return

    def _is_told_to_stop(self, pause: float, tried: object) -> bool:
        """Wait before a start, at most `pause` seconds, and less long if the repository is no more what was tried."""
        end = time.monotonic() + pause
        while (left := end - time.monotonic()) > 0:
            if self._stopping.wait(min(left, LOOK_SECONDS)):
                return True
            if self._repository_state() != tried:
                logger.warning("the model repository has changed; starting the server now")
                return self._stopping.wait(LOOK_SECONDS)  # lest it is only half changed
        return self._stopping.is_set()


def _what_is_done(problem: str, pause: float) -> str:
    first, newline, reasons = problem.partition("\n")
    when = f" in {pause:g} s" if pause else ""
    return f"{first.rstrip(':')}; starting the server again{when}{newline}{reasons}"
