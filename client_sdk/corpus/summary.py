"""What a job has done, and what one would cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Summary:
    """All rows of a job, those of earlier runs included.

    Attributes:
        rows: Of the input; each is either encoded or refused.
        encoded: With a vector.
        refused: Without; `errors/` says why.
        tokens: Of the texts with a vector, before anything was cut off.
        cut: Texts that were longer than what the model takes.
        new_rows: Of this run.
        seconds: Of this run, from the start of Ray to the last file written.
        start_seconds: Of those, the ones before the first texts were sent.
        servers: Texts that each has answered in this run, where there are several.
    """

    rows: int
    encoded: int
    refused: int
    tokens: int
    cut: int
    new_rows: int
    seconds: float
    start_seconds: float = 0.0
    servers: Mapping[str, int] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Rows a second of this run, once it had started."""
        return self.new_rows / (self.seconds - self.start_seconds) if self.new_rows else 0.0

    def __str__(self) -> str:
        """A line, and one for each of several servers."""
        took = f"{self.seconds:,.0f} s"
        if self.new_rows:
            took = f"{self.start_seconds:,.0f} s to start and {self.seconds - self.start_seconds:,.0f} s"
            took += f" at {self.rate:,.0f} rows/s"
        whole = (
            f"{self.rows:,} rows: {self.encoded:,} encoded ({self.tokens:,} tokens, {self.cut:,} texts cut), "
            f"{self.refused:,} refused; {self.new_rows:,} in this run, {took}"
        )
        return "\n".join([whole, *(f"  {server}: {texts:,} texts" for server, texts in sorted(self.servers.items()))])


@dataclass(frozen=True)
class Estimate:
    """What a sample says about a job.

    Attributes:
        files: Of the input.
        rows: Of the input.
        is_counted: Whether the files say how many rows they have; else it is reckoned from their sizes.
        sampled: Rows that were looked at.
        refused: Of those, the ones that cannot be encoded.
        tokens: In all rows.
        output_bytes: Of all vectors, without what is copied beside them.
        rate: Texts a second of the servers, for one call at a time.
    """

    files: int
    rows: int
    is_counted: bool
    sampled: int
    refused: int
    tokens: int
    output_bytes: int
    rate: float

    def __str__(self) -> str:
        """A few lines."""
        rows = f"{self.rows:,} rows" if self.is_counted else f"about {self.rows:,} rows"
        sample = f"a sample of {self.sampled:,} rows"
        time = f"none of {sample} can be encoded, which says nothing of it"
        if self.rate:
            time = f"about {_duration(self.rows / self.rate)} at {self.rate:,.0f} texts/s: the servers' rate for "
            time += f"{sample}, one call at a time"
        return "\n".join(
            [
                f"input    {self.files:,} files, {rows}, about {self.tokens:,} tokens",
                f"output   about {_bytes(self.output_bytes)} of vectors",
                f"time     {time}",
                f"refused  {self.refused:,} of those {self.sampled:,}",
            ]
        )


def _bytes(number: int) -> str:
    return f"{number / 2**30:,.2f} GiB" if number >= 1 << 30 else f"{number / 2**20:,.1f} MiB"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:,.0f} seconds"
    return f"{seconds / 3600:,.1f} hours" if seconds >= 3600 else f"{seconds / 60:,.0f} minutes"
