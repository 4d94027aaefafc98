"""A request's time as a tree: each span is made of its parts, which lie one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from perf.profile.client_times import CallTimes
from perf.profile.server_statistics import ModelTimes

PHASE_NAMES = {"queue": "queue", "compute_input": "input", "compute_infer": "compute", "compute_output": "output"}

STEPS = ("tokenizer", "encoder", "pooling")
ARITHMETIC = ("encoder", PHASE_NAMES["compute_infer"])
"""Kind and name of the span in which the network is computed."""


@dataclass(frozen=True)
class Span:
    """Some of a request's time.

    Attributes:
        name: For a table or a picture.
        kind: What it is drawn as: client, network, server, or the name of a step.
        milliseconds: How long; below 0 for what other spans of the same parent counted twice.
        parts: What it is made of, in order; together they are as long.
    """

    name: str
    kind: str
    milliseconds: float
    parts: tuple[Span, ...] = field(default=())

    def walk(self, depth: int = 0) -> Iterator[tuple[int, Span]]:
        """This span and all below it, with their depth, in the order of a table."""
        yield depth, self
        for part in self.parts:
            yield from part.walk(depth + 1)


def request_span(
    name: str,
    client: CallTimes,
    protobuf: tuple[float, float],
    ensemble: ModelTimes,
    steps: list[ModelTimes],
    late: str | None = None,
) -> Span:
    """The mean request, from the client's times and the server's count of the same requests.

    What neither accounts for is the network: gRPC on both sides, the loopback or the wire, and the server's front end.
    For `late` see `server_span`.
    """

    def mean(seconds: list[float]) -> float:
        return 1e3 * sum(seconds) / max(1, len(seconds))

    write, read = (1e3 * seconds for seconds in protobuf)
    before = Span(
        "client, before",
        "client",
        mean(client.before_message) + mean(client.message) + write,
        (
            Span("check and plan", "client", mean(client.before_message)),
            Span("make the message", "client", mean(client.message)),
            Span("serialise it", "client", write),
        ),
    )
    after = Span(
        "client, after",
        "client",
        read + mean(client.reply) + mean(client.after_reply),
        (
            Span("deserialise the reply", "client", read),
            Span("read its arrays", "client", mean(client.reply)),
            Span("put them in order", "client", mean(client.after_reply)),
        ),
    )
    server = server_span(ensemble, steps, late)
    whole = mean(client.whole)
    network = whole - before.milliseconds - after.milliseconds - server.milliseconds
    return Span(name, "whole", whole, (before, Span("network and gRPC", "network", network), server, after))


def server_span(ensemble: ModelTimes, steps: list[ModelTimes], late: str | None = None) -> Span:
    """The ensemble, its steps and their phases; what is left is Triton's own work between the steps.

    It may be less than nothing: a step has its output counted until its response has been handed over, by when the
    next step has begun.

    Triton counts a step until its execute() returns. `late` is a step that may go on computing after that: what is left
    then belongs to its computing, and Triton's own work (a tenth of a millisecond) with it.
    """
    left = ensemble.total - sum(step.total for step in steps)
    after = max(0.0, left) if late else 0.0
    parts = [_step_span(step, ensemble.model, after if step.model == late else 0.0) for step in steps]
    between = left - after
    name = "between the steps" if between > 0 else "overlap of the steps"
    return Span("server", "server", ensemble.total, (*parts, Span(name, "server", between)))


def _step_span(step: ModelTimes, family: str, after: float) -> Span:
    kind = step.model.removeprefix(f"{family}_")
    times = {**step.phases, "compute_infer": step.phases["compute_infer"] + after}
    phases = tuple(Span(name, kind, times[phase]) for phase, name in PHASE_NAMES.items())
    return Span(kind, kind, step.total + after, phases)
