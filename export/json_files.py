"""JSON files of a checkpoint, read with errors that name the file."""

import json
from pathlib import Path
from typing import Any

from .errors import ExportError


def read(path: Path) -> Any:
    """Return the value in a JSON file.

    Raises:
        ExportError: There is no such file, or it does not hold JSON in UTF-8.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ExportError(f"{path.parent}: there is no {path.name}") from None
    except OSError as error:
        raise ExportError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise ExportError(f"{path}: not valid JSON ({error})") from error


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
