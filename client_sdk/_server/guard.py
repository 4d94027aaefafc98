r"""Runs one server and sees to its end: nothing it started outlives the process that asked for it.

    python -I -S guard.py --parent PID --grace SECONDS [--remove PATH ...] [--private PATTERN] [--lock PATH] \
        [--secret WORD] -- COMMAND [ARGUMENT ...]

No process can clean up after its own SIGKILL, so `LocalServer` starts the server through this one. It stands
in a session of its own, where a terminal's Ctrl-C does not reach it, and stops the server when it is told to
(SIGTERM), when its standard input ends, which the parent holds open for as long as it lives, or when its
parent is another. The last is for a parent that forked: the copy holds the pipe open too.

Stopping is SIGTERM, then SIGKILL for all that is still there when the grace time is over; SIGQUIT leaves the
grace time out. What the server leaves behind, such as the processes of Triton's Python backend, falls to this
process, and is killed too. Then the paths given as `--remove` (patterns are allowed) are removed. The exit
status is the server's, and 128 + N if signal N ended it.

The files given as `--private` are closed to other users while the server runs: its shared memory holds its clients'
texts, and Triton opens it for all to read, whatever the umask is.

With `--lock`, a new file of that name is locked for as long as this process or anything that it started lives. So
that others can tell what belongs to a server that was killed together with its guard.

With `--secret`, the first line of standard input stands in the place of WORD in the server's command: a key
that is given so is not in this process's own arguments, which everybody can list.

It runs alone, with nothing but the standard library, on Linux; elsewhere what the server leaves behind stays.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import glob
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from types import FrameType

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PARENT_CHECK_SECONDS = 1.0
_KILL_SECONDS = 5.0


class Wakeups:
    """Turns signals into something to wait for, beside standard input."""

    def __init__(self) -> None:
        self.stop_requested = False
        self.without_grace = False
        self._read_end, write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        os.set_blocking(write_end, False)
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        for stop in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(stop, self._request_stop)
        # Nothing to do but to wake up, which takes a handler.
        signal.signal(signal.SIGCHLD, lambda number, frame: None)

    def _request_stop(self, number: int, frame: FrameType | None) -> None:
        self.stop_requested = True
        self.without_grace |= number == signal.SIGQUIT

    def wait(self, seconds: float, *also: int) -> bool:
        """Wait for a signal or for one of the descriptors `also`; True if one of those can be read."""
        readable, _, _ = select.select([self._read_end, *also], [], [], max(0.0, seconds))
        if self._read_end in readable:
            with contextlib.suppress(BlockingIOError):
                os.read(self._read_end, 4096)
        return any(descriptor in readable for descriptor in also)


class Server:
    """The server's process, and all that descends from it."""

    def __init__(self, command: Sequence[str], lock: int | None) -> None:
        guard = os.getpid()
        prctl = _load_prctl()
        prctl(_PR_SET_CHILD_SUBREAPER, 1)

        def die_with_guard() -> None:
            prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != guard:  # It died before the line above.
                os._exit(1)

        # preexec_fn is safe here: there is one thread.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=die_with_guard,
            pass_fds=() if lock is None else (lock,),
        )

    @property
    def status(self) -> int | None:
        """The exit status, None while it runs."""
        return self._process.returncode

    def reap(self) -> bool:
        """Take note of every child that has ended; True if none is left."""
        while True:
            try:
                child, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return True
            if child == 0:
                return False
            if child == self._process.pid:
                self._process.returncode = os.waitstatus_to_exitcode(status)

    def stop(self, wakeups: Wakeups, grace: float) -> None:
        """End the server and all its descendants; SIGKILL comes after `grace` seconds."""
        if self.status is None:
            os.kill(self._process.pid, signal.SIGTERM)
        deadline = time.monotonic() + grace
        while self.status is None and time.monotonic() < deadline and not wakeups.without_grace:
            wakeups.wait(deadline - time.monotonic())
            self.reap()
        # The children of a killed child become this process's, so this takes a turn for each generation.
        deadline = time.monotonic() + _KILL_SECONDS
        while not self.reap() and time.monotonic() < deadline:
            for child in children_of(os.getpid()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            wakeups.wait(0.05)


def _load_prctl() -> Callable[[int, int], int]:
    """Linux's prctl; elsewhere something that does nothing."""
    if sys.platform != "linux":
        return lambda option, value: -1
    prctl: Callable[[int, int], int] = ctypes.CDLL(None).prctl
    return prctl


def children_of(parent: int) -> list[int]:
    """The processes that `parent` started, or was left with; none where there is no /proc."""
    children = []
    for entry in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if entry.isdecimal():
            # A process may end while it is looked at. Its name, in brackets, may hold anything.
            with contextlib.suppress(OSError), open(f"/proc/{entry}/stat", "rb") as stat:
                if int(stat.read().rpartition(b")")[2].split()[1]) == parent:
                    children.append(int(entry))
    return children


def _remove(pattern: str) -> None:
    for path in glob.glob(pattern):
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                os.unlink(path)


def _locked(path: str) -> int:
    """A descriptor of a new file at `path`, which is locked from its first moment there."""
    import fcntl  # here, since Windows has none, and clients run there

    unfinished = f"{path}.{os.getpid()}"
    descriptor = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.rename(unfinished, path)
    return descriptor


def close_to_others(pattern: str) -> None:
    """Take all rights from other users, for the files that match."""
    for path in glob.glob(pattern):
        with contextlib.suppress(OSError):  # it may be gone
            os.chmod(path, 0o600)


def run(
    command: Sequence[str], *, parent: int, grace: float, lock: int | None = None, private: str | None = None
) -> int:
    """Run `command` until it ends, is told to end, or process `parent` is gone; return its exit status."""
    wakeups = Wakeups()
    server = Server(command, lock)
    while server.status is None and not wakeups.stop_requested and os.getppid() == parent:
        if wakeups.wait(_PARENT_CHECK_SECONDS, sys.stdin.fileno()):
            break
        if private:
            close_to_others(private)
        server.reap()
    server.stop(wakeups, grace)
    status = server.status
    if status is None:
        return 128 + signal.SIGKILL
    return status if status >= 0 else 128 - status


def main() -> int:
    """Read the command line, and do what the module says."""
    parser = argparse.ArgumentParser(prog="guard.py")
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--grace", type=float, required=True)
    parser.add_argument("--remove", action="append", default=[])
    parser.add_argument("--private")
    parser.add_argument("--lock")
    parser.add_argument("--secret")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    try:
        command = options.command
        if options.secret:
            line = sys.stdin.readline()
            if not line.endswith("\n"):  # The parent is gone.
                return 128 + signal.SIGTERM
            command = [argument.replace(options.secret, line[:-1]) for argument in command]
        lock = _locked(options.lock) if options.lock else None
        return run(command, parent=options.parent, grace=options.grace, lock=lock, private=options.private)
    except OSError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 127
    finally:
        for pattern in options.remove:
            _remove(pattern)


if __name__ == "__main__":
    sys.exit(main())
