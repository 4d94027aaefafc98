"""The log of a tritonserver, and what in it says why a server did not start."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from client_sdk._server.streamed_log import Stream, is_stream

# What is read back: the end of a log that has grown long, in bytes.
_READ_LIMIT = 4 << 20
_LINES_SHOWN = 20
_LINE_LENGTH_SHOWN = 400

_ENTRY = re.compile(r"(?P<level>[IWEF])\d{4} [\d:.]+ +\d+ (?P<source>[\w.]+):\d+\] ?(?P<message>.*)")
# Errors that a healthy server logs too (there is no GPU), or that another line says better.
_NOISE = re.compile(
    r"CudaDriverHelper has not been initialized|^unable to create stream|^Unable to allocate pinned system memory"
    r"|\bNVML\b|\bDCGM\b|^UNKNOWN:"
)
# Reasons that tritonserver, the loader and protobuf write without the prefix of a log entry.
_PLAIN_REASON = re.compile(
    r"^error: |error while loading shared libraries|unrecognized option|^Bad option|^Invalid option"
    r"|^\[libprotobuf ERROR [^\]]*\] |^Traceback |^\w*Error: (?!Failed to initialize NVML)"
)
_TABLE_ROW = re.compile(r"\| (?P<model>\S+) +\| \S+ +\| (?P<status>(?:UNAVAILABLE|Not loaded|LOADING)\b.*?) *\|$")
_PREFIXES = re.compile(
    r"^(?:\[libprotobuf ERROR [^\]]*\]|ERROR: Failed to create instance:|Failed to initialize Python stub:) "
)
# An ensemble repeats the reasons of the models it is made of.
_REPEATED = re.compile(r" Model '[^']*' (?:loading )?failed with error:.*", re.DOTALL)
# After these Triton's Python backend waits for a process that is gone, for ever.
_STUCK = re.compile(r"Failed to preinitialize Python stub|error while loading shared libraries")

# Of a step's process that showed no life for a second: it died, or got no processor time.
_GIVEN_UP = re.compile(
    r"Stub process '.*' is not healthy|Failed to obtain the health mutex|boost::interprocess::lock_exception"
)


class ServerLog:
    """A file for a server to write to, which can be read back while it does."""

    def __init__(self, path: Path | None = None) -> None:
        """Open `path` to append to it, or a file without a name that ends with the process.

        What goes to a pipe or a terminal is kept too, so that it can be read back.
        """
        self._stream = Stream(path, _READ_LIMIT) if path and is_stream(path) else None
        self._file = None
        if self._stream is None:
            # Closed by `close`.
            self._file = open(path, "ab+", buffering=0) if path else tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
        self._start = os.fstat(self._file.fileno()).st_size if self._file else 0
        self._text: str | None = None
        self._shown: list[tuple[str, str]] = []

    def show_as(self, path: Path, shown: Path) -> None:
        """In what is read as text from now on, `shown` stands in the place of `path`."""
        if path != shown:
            self._shown.append((str(path), str(shown)))

    def fileno(self) -> int:
        """The descriptor to write to."""
        if self._stream:
            return self._stream.descriptor
        assert self._file
        return self._file.fileno()

    def read(self, offset: int = 0) -> bytes:
        """What was written since this object was made, from byte `offset`; the end of it where it is long.

        Nothing after `close`.
        """
        if self._text is not None:
            return b""
        if self._stream:
            return self._stream.read(offset)
        size = self.size
        length = min(size - offset, _READ_LIMIT)
        # The position of the file is the server's own, so it is left where it is.
        return os.pread(self.fileno(), length, self._start + size - length) if length > 0 else b""

    @property
    def size(self) -> int:
        """Bytes written since this object was made; 0 after `close`."""
        if self._text is not None:
            return 0
        return self._stream.size if self._stream else os.fstat(self.fileno()).st_size - self._start

    def text(self, offset: int = 0) -> str:
        """As text, from byte `offset` on (the end, where it is long); after `close` all of what it was then."""
        if self._text is not None:
            return self._text
        text = self.read(offset).decode(errors="replace")
        for path, shown in self._shown:
            text = text.replace(path, shown)
        return text

    def close(self) -> None:
        """Close the file and keep its text."""
        if self._text is not None:
            return
        if self._stream:
            self._stream.close()
        self._text = self.text()
        if self._file:
            self._file.close()


def failure_reasons(text: str) -> list[str]:
    """The lines of a tritonserver's log that say why it did not start, each reason once, without the rest."""
    reasons: list[str] = []
    for reason in _candidates(text):
        lines = [line for line in reason.splitlines() if line.strip() and "<frozen " not in line]
        reason = "\n".join(line.rstrip()[:_LINE_LENGTH_SHOWN] for line in lines)
        if reason and not any(reason in known for known in reasons):
            reasons = [known for known in reasons if known not in reason]
            reasons.append(reason)
    if not reasons:
        lines = [line for line in text.splitlines() if line.strip() and line[0] not in "|+"]
        reasons = [line for line in lines if not _is_noise(line)][-5:]
    lines = [line for reason in reasons for line in reason.splitlines()]
    return lines if len(lines) <= _LINES_SHOWN else [*lines[: _LINES_SHOWN - 1], "..."]


def _candidates(text: str) -> list[str]:
    """Everything that may be a reason, in the log's order, with repetitions."""
    found: list[str] = []
    rows: list[tuple[str, str]] = []
    open_entry = False
    for line in text.splitlines():
        if entry := _ENTRY.match(line):
            message = _unquoted(entry["message"])
            is_failed_stub = entry["source"] == "pb_stub.cc" and message.startswith("Failed to")
            open_entry = (entry["level"] in "EF" or is_failed_stub) and not _NOISE.search(message)
            if open_entry:
                found.append(_PREFIXES.sub("", _REPEATED.sub("", message)))
        elif row := _TABLE_ROW.match(line):
            rows.append((row["model"], row["status"]))
        elif _PLAIN_REASON.search(line):
            found.append(_PREFIXES.sub("", line))
            open_entry = line.startswith("Traceback ")
        elif line[:2] in ("| ", "+-"):
            open_entry = False
        elif open_entry:
            found[-1] += "\n" + line
    known = "\n".join(found)
    return found + [f"{model}: {status}" for model, status in rows if f"'{model}'" not in known]


def _is_noise(line: str) -> bool:
    entry = _ENTRY.match(line)
    return _NOISE.search(_unquoted(entry["message"]) if entry else line) is not None


def _unquoted(message: str) -> str:
    """A log message as it was before Triton put it in quotes."""
    message = message.strip()
    if len(message) < 2 or message[0] != '"' or message[-1] != '"':
        return message
    return message[1:-1].replace("\\n", "\n").replace('\\"', '"').replace("\\\\", "\\")


def models_loading(text: str) -> list[str]:
    """The models that a server has begun to load and not yet loaded."""
    begun = re.findall(r"\"loading: (\S+):\d+\"", text)
    return [model for model in begun if f"successfully loaded '{model}'" not in text]


def gave_a_step_up(text: str) -> bool:
    """Whether Triton took the process of a step for dead."""
    return _GIVEN_UP.search(text) is not None


def is_stuck(text: str) -> bool:
    """Whether a server waits for something that will not come, though it still runs."""
    return _STUCK.search(text) is not None
