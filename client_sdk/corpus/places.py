"""Files and folders, on this machine or in a store of objects, as pyarrow knows them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from pyarrow import ArrowInvalid
from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileType, LocalFileSystem

from client_sdk._checks import utf8_problem
from client_sdk._errors import InvalidArgument
from client_sdk._transport.connection import FilePath

NEW = ".new"
"""End of the name of a file that is being replaced."""


@dataclass(frozen=True)
class Place:
    """A path in a file system."""

    filesystem: FileSystem
    path: str

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine, or mounted."""
        return isinstance(self.filesystem, LocalFileSystem)

    def __truediv__(self, name: str) -> Place:
        return Place(self.filesystem, f"{self.path.rstrip('/')}/{name}")

    def is_within(self, folder: Place) -> bool:
        """Whether it is that folder or stands below it, wherever links lead."""
        if not self.filesystem.equals(folder.filesystem):
            return False
        own, other = self.path, folder.path
        if self.is_local:
            own, other = os.path.realpath(own), os.path.realpath(other)
        return f"{own.rstrip('/')}/".startswith(f"{other.rstrip('/')}/")

    def info(self) -> FileInfo:
        """What is there; of type NotFound if nothing is."""
        return self.filesystem.get_file_info(self.path)

    def files(self, *, recursive: bool = False) -> list[FileInfo]:
        """Of a folder, by name; none if it is not there."""
        found = self.filesystem.get_file_info(FileSelector(self.path, recursive=recursive, allow_not_found=True))
        try:
            return sorted((info for info in found if info.type == FileType.File), key=lambda info: info.path)
        except UnicodeDecodeError as error:
            raise InvalidArgument(f"the name of {error.object!r} is not UTF-8: rename it") from None

    def count_lines(self) -> int:
        """Of a file."""
        with self.filesystem.open_input_stream(self.path, compression=None) as stream:
            return sum(chunk.count(b"\n") for chunk in iter(lambda: stream.read(1 << 20), b""))

    def write(self, content: bytes) -> None:
        """Replace it, at once: whoever reads sees what was there or what is."""
        target = self.path + NEW if self.is_local else self.path
        with self.filesystem.open_output_stream(target) as stream:
            stream.write(content)
        if self.is_local:
            self.filesystem.move(target, self.path)

    def read(self) -> bytes | None:
        """All of it; None if it is not there."""
        try:
            with self.filesystem.open_input_stream(self.path, compression=None) as stream:
                return bytes(stream.read())
        except FileNotFoundError:
            return None


def below(folder: str, path: str) -> str:
    """The path or URI of what stands at `path` below a folder; what a URI says after `?` stays at its end."""
    if "://" not in folder:
        return f"{folder}/{path}"
    before, mark, settings = folder.partition("?")
    return f"{before.rstrip('/')}/{quote(path)}{mark}{settings}"


def name_of(path: str) -> str:
    """A path, or a URI without its settings."""
    return path.partition("?")[0] if "://" in path else path


def place(given: FilePath) -> Place:
    """Of a path or a URI. Raises InvalidArgument for one that no file system here understands."""
    path = os.fspath(given)
    if problem := utf8_problem(path):
        raise InvalidArgument(
            f"the name of {os.fsencode(path)!r} is not UTF-8 ({problem.partition(',')[0]}): rename it"
        )
    if "://" not in path:
        return Place(LocalFileSystem(), os.path.abspath(path))
    parts = urlsplit(path)
    if parts.password:
        raise InvalidArgument(
            f"a key in '{parts.scheme}://...@{parts.hostname}' would stand in the output, beside the names of files: "
            "give it in the environment, as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    try:
        return Place(*FileSystem.from_uri(path))
    except (ArrowInvalid, NotImplementedError, OSError) as error:
        raise InvalidArgument(f"{path!r} is no path that can be read here: {error}") from None
