"""Who may use a gateway: a file of names and key hashes, and how many texts a second each may send.

A line is a name, the SHA-256 of the key in hexadecimal, and, if texts are to be limited, how many a second:

    # name    sha256 of the key                                                   texts a second
    search    5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8    200
    nightly   6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b

Keys are long and random (`openssl rand -hex 32`), so that a plain hash does not give one away.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from client_sdk._errors import InvalidArgument

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
_LEAST_RATE = 1e-3
"""Texts a second: below it what is paid back takes days, or for ever where it is hardly a number any more."""
BURST = 1.0
"""Seconds of its rate that a key may have unused at most."""


@dataclass
class Holder:
    """Whoever has a key.

    Attributes:
        name: As the file says; it is shown in logs and metrics.
        rate: Texts a second, or None for any number.
    """

    name: str
    rate: float | None = None
    _left: float = field(default=math.inf, repr=False)
    _at: float = field(default=0.0, repr=False)

    def take(self, texts: int, now: float) -> float:
        """Count texts that are asked for at `now`; return 0, or how many seconds to wait first.

        A request is taken as soon as anything is left, however many texts it has, and what it takes beyond that is
        paid back before the next: so no request is too large for a rate, and over time no rate is exceeded.
        """
        if self.rate is None:
            return 0.0
        self._left = min(self.rate * BURST, self._left + (now - self._at) * self.rate)
        self._at = now
        if self._left <= 0:
            return max(-self._left / self.rate, 1e-3)
        self._left -= texts
        return 0.0


class Keys:
    """The keys of a file.

    Args:
        path: Of the file.
        clock: Seconds, of any beginning.

    Raises:
        InvalidArgument: A line is not as described above; keys and hashes are not shown.
        OSError: The file cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._path = Path(path)
        self._clock = clock
        self._holders = self._read()

    def reload(self) -> int:
        """Read the file again and return how many keys it has; names that stay keep what they have used.

        If it cannot be read, everything stays as it was.

        Raises:
            InvalidArgument: As when it was read first.
            OSError: As when it was read first.
        """
        before = {holder.name: holder for holder in self._holders.values()}
        holders = self._read()
        for digest, holder in holders.items():
            known = before.get(holder.name)
            if known is not None and known.rate == holder.rate:
                holders[digest] = known
        self._holders = holders
        return len(holders)

    def holder(self, key: str) -> Holder | None:
        """Return whose key it is, or None; it takes as long for any key."""
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
        found = None
        for known, holder in self._holders.items():
            if hmac.compare_digest(known, digest):
                found = holder
        return found

    def wait(self, holder: Holder, texts: int) -> float:
        """Count texts that a holder asks for; return 0, or how many seconds to wait first. See `Holder.take`."""
        return holder.take(texts, self._clock())

    def _read(self) -> dict[bytes, Holder]:
        holders: dict[bytes, Holder] = {}
        names = set()
        try:
            lines = self._path.read_text("utf-8").splitlines()
        except UnicodeDecodeError:
            raise InvalidArgument(f"the key file {str(self._path)!r} is not UTF-8 text") from None
        for number, line in enumerate(lines, 1):
            words = line.partition("#")[0].split()
            if not words:
                continue
            digest, holder = _parsed(words, f"line {number} of the key file {str(self._path)!r}")
            if digest in holders or holder.name in names:
                what = f"the name {holder.name!r}" if holder.name in names else "a key"
                raise InvalidArgument(f"line {number} of the key file {str(self._path)!r} has {what} of a line before")
            holders[digest] = holder
            names.add(holder.name)
        if not holders:
            raise InvalidArgument(f"the key file {str(self._path)!r} has no key: nobody could use the gateway")
        return holders


def _parsed(words: list[str], where: str) -> tuple[bytes, Holder]:
    if len(words) not in (2, 3):
        raise InvalidArgument(f"{where} has {len(words)} words: it must be NAME SHA256 [TEXTS_A_SECOND]")
    if not _NAME.fullmatch(words[0]):
        raise InvalidArgument(f"{where} has a name that is not one of up to 64 letters, digits, '.', '_' and '-'")
    if not _DIGEST.fullmatch(words[1]):
        raise InvalidArgument(
            f'{where} has no SHA-256 of 64 hexadecimal digits behind the name: printf %s "$KEY" | sha256sum'
        )
    rate = None
    if len(words) == 3:
        try:
            rate = float(words[2])
        except ValueError:
            rate = math.nan
        if not _LEAST_RATE <= rate < math.inf:
            raise InvalidArgument(f"{where} says {words[2]!r} texts a second: it must be a number from {_LEAST_RATE}")
    return bytes.fromhex(words[1]), Holder(words[0], rate)
