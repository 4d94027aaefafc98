"""The optimisation profiles of a TensorRT engine: ranges of S, each with kernels chosen for it."""

from __future__ import annotations

import re
from typing import NamedTuple

from export.errors import ExportError

_RANGE = re.compile(r"(\d+)-(\d+)")


class Profile(NamedTuple):
    """A range of S, the length of a batch's rows in tokens, both ends included."""

    shortest: int
    longest: int

    def __str__(self) -> str:
        return f"{self.shortest}-{self.longest}"


DEFAULT = (Profile(1, 32), Profile(33, 128), Profile(129, 512))


def parse(text: str) -> tuple[Profile, ...]:
    """Read `1-32,33-128,129-512`.

    Raises:
        ValueError: it is not written like that, or the ranges do not follow one another from 1 on.
    """
    matches = [_RANGE.fullmatch(part.strip()) for part in text.split(",")]
    profiles = tuple(Profile(int(match[1]), int(match[2])) for match in matches if match)
    starts = [1, *(profile.longest + 1 for profile in profiles)]
    if len(profiles) < len(matches) or any(
        profile.shortest != start or profile.longest < start for profile, start in zip(profiles, starts, strict=False)
    ):
        raise ValueError(f"{text!r} is not a list of ranges that follow one another from 1 on, such as 1-32,33-128")
    return profiles


def fitted(profiles: tuple[Profile, ...], max_seq_len: int) -> tuple[Profile, ...]:
    """Cuts profiles at `max_seq_len`, or, if they are the default ones, goes on to it.

    Raises:
        ExportError: they end before it.
    """
    longest = profiles[-1].longest
    if longest < max_seq_len and profiles is not DEFAULT:
        raise ExportError(
            f"--profiles end at {longest} tokens, and texts have up to {max_seq_len} (max_seq_len): "
            f"add {longest + 1}-{max_seq_len}, or give --max-seq-len {longest}"
        )
    last = Profile(profiles[-1].shortest, max(longest, max_seq_len))
    wanted = [profile for profile in (*profiles[:-1], last) if profile.shortest <= max_seq_len]
    return (*wanted[:-1], Profile(wanted[-1].shortest, min(wanted[-1].longest, max_seq_len)))
