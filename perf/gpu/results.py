"""What is found out, as it is written down."""

from __future__ import annotations

from dataclasses import dataclass, field

ALLOWED = {"fp32": 1e-4, "fp16": 1e-2, "int8": 1e-2}
"""Of FP32 and FP16 the largest |difference|, as a share of an output's largest |value| where that is above 1; of INT8
how far below 1 the lowest cosine of a vector is."""

MIXED = 0
"""As a length: texts as sentences are, from 4 to 128 tokens and 23 on average."""


@dataclass(frozen=True)
class Comparison:
    """One network, run by one runner in one form.

    Attributes:
        network: Its name.
        runner: What ran it.
        layout: `padding-free` or `padded`; empty for PyTorch's own model.
        precision: Of `ALLOWED`.
        gap: How far it is from what is expected, as `ALLOWED` has it; None where there is none.
        reason: Why there is none.
        tried: Whether there was time to try.
    """

    network: str
    runner: str
    layout: str
    precision: str
    gap: float | None
    reason: str = ""
    tried: bool = True

    @property
    def is_equal(self) -> bool:
        """Whether it is near enough."""
        return self.gap is not None and self.gap <= ALLOWED[self.precision]


@dataclass(frozen=True)
class Point:
    """What a system took for batches of one shape.

    Attributes:
        length: Tokens of a text, or `MIXED`.
        batch: Texts.
        texts_per_second: By the median.
        p50: Milliseconds of a batch.
        p95: The same; the slowest of fewer than twenty.
    """

    length: int
    batch: int
    texts_per_second: float
    p50: float
    p95: float


@dataclass
class Measured:
    """A system.

    Attributes:
        system: Its name.
        points: Of each shape.
        memory: Bytes of the GPU's memory at most, weights included, over what was in use before; None on a CPU.
        absent: Why it was not measured; empty if it was.
    """

    system: str
    points: list[Point] = field(default_factory=list)
    memory: int | None = None
    absent: str = ""
