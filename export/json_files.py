"""JSON files of a checkpoint, read with errors that name the file."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from export import regular_files
from export.errors import ExportError

MAX_BYTES = 4_000_000
"""Of a file of settings; parsed, it takes some twenty times as much memory."""

_SHOWN = 80  # characters of a value in a message


def read(path: Path) -> Any:
    """Return the value in a JSON file.

    Raises:
        ExportError: There is no such file, it is too large, or it does not hold JSON in UTF-8.
    """
    try:
        return json.loads(regular_files.read(path, limit=MAX_BYTES))
    except ValueError as error:
        raise ExportError(f"{path}: not valid JSON ({error})") from error
    except RecursionError:
        raise ExportError(f"{path}: not valid JSON (nested too deeply)") from None


def read_object(path: Path, *, optional: bool = False) -> dict[str, Any]:
    """Return the object in a JSON file; with `optional`, an empty one where the file is absent.

    Raises:
        ExportError: The file is absent and not optional, or does not hold a JSON object.
    """
    if optional and not path.exists():
        return {}
    value = read(path)
    if not isinstance(value, dict):
        raise ExportError(f"{path}: holds a JSON {type(value).__name__}, an object is expected")
    return value


def check_keys(
    path: Path,
    values: Mapping[str, Any],
    known: Collection[str],
    what: str = "",
    advice: str = "remove it there if it has no effect on vectors",
) -> None:
    """Refuse what a file sets and export does not know.

    Args:
        path: The file.
        values: What it holds, or a part of it.
        known: The keys that are honoured, or known to be without effect.
        what: Where in the file, for the message.
        advice: What to do.

    Raises:
        ExportError: There is another key.
    """
    unknown = sorted(values.keys() - set(known))
    if unknown:
        raise ExportError(
            f"{path}: {what}sets {cut(', '.join(unknown))}, which export does not apply and would lose; {advice}"
        )


def shown(value: Any) -> str:
    """Return a value of a file as a message shows it: in one line, and short."""
    return cut(repr(value))


def cut(text: str, length: int = _SHOWN) -> str:
    """Return the beginning of a long text, of `length` characters."""
    return text if len(text) <= length else text[:length] + "..."
