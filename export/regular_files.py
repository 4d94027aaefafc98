"""Files of a checkpoint, read so that none can hang an export or fill its memory."""

import stat
from pathlib import Path

from export.errors import ExportError

_LFS_POINTER = b"version https://git-lfs"


def read(path: Path, *, limit: int) -> bytes:
    """Return the bytes of a file.

    Args:
        path: The file, or a link to it.
        limit: The most bytes that it may have.

    Raises:
        ExportError: There is no such file, it is none (a folder, a device, a pipe), cannot be read, has more than
            `limit` bytes, or is a Git LFS pointer to the real one.
    """
    try:
        # Asked before it is opened: to open a pipe is to wait for its other end.
        if not stat.S_ISREG(path.stat().st_mode):
            raise ExportError(f"{path}: cannot be read (not a regular file)")
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except FileNotFoundError:
        raise ExportError(f"{path.parent}: there is no {path.name}") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise ExportError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if len(content) > limit:
        raise ExportError(f"{path}: has more than {limit:,} bytes, which no checkpoint of BERT needs for it")
    if content.startswith(_LFS_POINTER):
        raise ExportError(f"{path}: is a Git LFS pointer, not the file; run `git lfs pull`")
    return content
