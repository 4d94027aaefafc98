"""A server's log that goes to a pipe or a terminal, such as a container's standard error, and can be read back too."""

from __future__ import annotations

import contextlib
import os
import select
import stat
import threading
from pathlib import Path

# A container's standard error belongs to whoever started it, who need not be the user in it; so it is not opened anew.
_OWN_STREAMS = {"/dev/stdout": 1, "/dev/stderr": 2}
_CHUNK = 1 << 16
_CLOSE_SECONDS = 2.0
_LOOK_MILLISECONDS = 200


def is_stream(path: Path) -> bool:
    """Whether what is written there cannot be read back."""
    try:
        mode = os.fstat(_OWN_STREAMS[str(path)]).st_mode if str(path) in _OWN_STREAMS else path.stat().st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode)


class Stream:
    """Hands on what is written to `descriptor`, and keeps the end of it.

    A thread does so, as long as there are writers or until it is closed.
    """

    def __init__(self, path: Path, limit: int) -> None:
        """Open `path`; at least the last `limit` bytes are kept."""
        known = _OWN_STREAMS.get(str(path))
        self._target = os.dup(known) if known is not None else os.open(path, os.O_RDWR | os.O_APPEND)
        self._read_end, self.descriptor = os.pipe()
        self._limit = limit
        self._kept = bytearray()
        self._size = 0
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._copy, name="server log", daemon=True)
        self._thread.start()

    @property
    def size(self) -> int:
        """Bytes that were written."""
        return self._size

    def read(self, offset: int) -> bytes:
        """What was written from byte `offset` on; the end of it where it is long."""
        with self._lock:
            start = max(0, offset - (self._size - len(self._kept)))
            return bytes(self._kept[start:][-self._limit :])

    def close(self) -> None:
        """Hands on what is left, and ends. What is written after that is lost."""
        os.close(self.descriptor)
        self._closed.set()
        self._thread.join(_CLOSE_SECONDS)  # a reader that is slow is not waited for

    def _copy(self) -> None:
        is_heard = True
        written = select.poll()  # select() takes no descriptor above 1023
        written.register(self._read_end, select.POLLIN)
        try:
            while True:
                # Without writers it can be read at once; but a forked child may hold the end that is written to.
                if written.poll(_LOOK_MILLISECONDS):
                    chunk = os.read(self._read_end, _CHUNK)
                    if not chunk:
                        return
                    self._keep(chunk)
                    is_heard = is_heard and _write_all(self._target, chunk)
                elif self._closed.is_set():
                    return
        finally:
            os.close(self._read_end)
            os.close(self._target)

    def _keep(self, chunk: bytes) -> None:
        with self._lock:
            self._kept += chunk
            self._size += len(chunk)
            if len(self._kept) > 2 * self._limit:
                del self._kept[: -self._limit]


def _write_all(descriptor: int, data: bytes) -> bool:
    """False if nobody reads it any more."""
    with contextlib.suppress(OSError):
        while data:
            data = data[os.write(descriptor, data) :]
        return True
    return False
