"""A peer's server: started on loopback, waited for, and never left behind."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from perf.compare.systems.environment import ROOT, PeerAbsent

# It stands alone, and sees to it that nothing of a server is left behind, as for a LocalServer. It is not imported:
# clients run where client_sdk is not installed.
_GUARD = ROOT / "client_sdk" / "_server" / "guard.py"
_START_SECONDS = 300.0
_GRACE_SECONDS = 5.0
_POLL_SECONDS = 0.2
_LOG_LINES = 8


@contextmanager
def serving(
    command: Sequence[str | Path],
    ready: Callable[[str], bool],
    *,
    folder: Path = ROOT,
    variables: Mapping[str, str] | None = None,
) -> Iterator[int]:
    """Run a server for as long as the block.

    Args:
        command: That starts it.
        ready: Called with its log so far until it is true.
        folder: To start it in.
        variables: Of its environment, beside those of this process.

    Yields:
        The id of the process that all of the server's descend from.

    Raises:
        PeerAbsent: it ended, or was not ready in time; with the end of its log.
    """
    with tempfile.NamedTemporaryFile(prefix="peer-", suffix=".log") as log:
        guard = subprocess.Popen(
            [
                *(sys.executable, "-I", "-S", _GUARD),
                *(f"--parent={os.getpid()}", f"--grace={_GRACE_SECONDS}", "--"),
                *map(str, command),
            ],
            stdin=subprocess.PIPE,
            stdout=log.fileno(),
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=environment_variables(variables),
            start_new_session=True,
        )
        try:
            _wait(guard, ready, Path(log.name))
            yield guard.pid
        finally:
            guard.terminate()
            guard.wait()
            if guard.stdin is not None:
                guard.stdin.close()


def environment_variables(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's, with this repository to import from and no model hub to ask."""
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "true",
        **(more or {}),
    }


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def answers(port: int, path: str) -> bool:
    """Whether an HTTP server on loopback answers GET with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _wait(guard: subprocess.Popen[bytes], ready: Callable[[str], bool], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not ready(log.read_text(errors="replace")):
        ended = guard.poll() is not None
        if ended or time.monotonic() > deadline:
            what = f"its server ended (status {guard.returncode})" if ended else f"not ready in {_START_SECONDS:.0f} s"
            said = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
            raise PeerAbsent(f"{what}: {' / '.join(said[-_LOG_LINES:])}")
        time.sleep(_POLL_SECONDS)
