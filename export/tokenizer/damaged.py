"""What the libraries make of a damaged file, as one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from export import json_files
from export.errors import ExportError


@contextmanager
def refusing(path: Path, what: str) -> Iterator[None]:
    """Turn whatever a library raises over `path` into an ExportError that says `what`, and why."""
    try:
        yield
    except (ExportError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # also the PanicException of the tokenizers library, which is no Exception
        raise ExportError(f"{path}: {what} ({reason(error)})") from error


def reason(error: BaseException) -> str:
    """Return an error as a message shows it."""
    return json_files.cut(f"{type(error).__name__}: {error}".strip().split("\n")[0], 200)
