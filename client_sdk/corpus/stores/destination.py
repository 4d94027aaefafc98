"""What each store is to the others: a place that rows are written to."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote, urlsplit

from client_sdk._errors import InvalidArgument

if TYPE_CHECKING:
    from client_sdk.corpus.stores.finished import Corpus, Rows


class Destination(Protocol):
    """A store as its URL names it; nothing has been asked of it."""

    @property
    def batch_bytes(self) -> int:
        """Of rows that are written at once, in memory."""

    def opened(self, corpus: Corpus) -> AbstractContextManager[Callable[[Rows], None]]:
        """What writes rows of a corpus, each over the one with its id.

        Entered, it makes what is missing and refuses what does not fit; left, all is written.
        """


def server(url: str, port: int) -> tuple[str, int, str, str | None, str | None]:
    """Host, port, name, user and password of `SCHEME://HOST:PORT/NAME`.

    Raises:
        InvalidArgument: It is not of this form. No message holds a user or a password.
    """
    scheme = url.partition(":")[0].lower()
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or port
    except ValueError:
        host = ""
    name = parts.path.strip("/") if host else ""
    if not host or not name or "/" in name or parts.query or parts.fragment:
        raise InvalidArgument(
            f"a store at {scheme}: is {scheme}://HOST:{port}/NAME, with one name and no more behind it"
        )
    user, password = (None if word is None else unquote(word) for word in (parts.username, parts.password))
    return host, port, name, user, password


def path_and_name(url: str, example: str) -> tuple[str, str]:
    """The directory and the last name of `SCHEME:PATH/NAME` or `SCHEME:///PATH/NAME`."""
    rest = path(url, example)
    folder, slash, name = rest.rpartition("/")
    if not name or not slash or not folder:
        raise InvalidArgument(f"{url!r} needs a directory and a name, such as {example}")
    return folder, name


def path(url: str, example: str) -> str:
    """The path of `SCHEME:PATH` or `SCHEME:///PATH`."""
    rest = url.partition(":")[2]
    if rest.startswith("//"):
        rest = rest[2:]
        if not rest.startswith("/"):
            raise InvalidArgument(f"{url!r} would be on another machine; a path is written as {example}")
    return rest
