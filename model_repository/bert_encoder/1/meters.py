"""The family's metrics, told to Triton now and then: each telling waits for Triton, and what counts should not."""

import threading
import time
from typing import Any

from backlog import Backlog
from cache import Cache

PERIOD = 0.2  # seconds between two tellings
QUIET = 10.0  # seconds between two lines of the log

COUNTERS = {
    "bert_tokens_total": "Tokens computed by the network",
    "bert_padded_tokens_total": "Tokens that padding each batch to its longest row would have computed",
    "bert_refused_texts_total": "Texts refused as the queue was full, or after a wait in it",
    "bert_not_finite_texts_total": "Texts refused as their vector is not finite",
    "bert_step_failures_total": "Failures inside a step that no request should have caused",
    "bert_cache_hit_texts_total": "Texts that the network had computed before, and did not compute again",
    "bert_cache_miss_texts_total": "Texts that were looked for among those and not found",
    "bert_queue_duration_us": "Cumulative time that requests waited for a core, in microseconds",
}
WAITING = "bert_waiting_texts"


class Meters:
    """Counts, and tells Triton and its log."""

    def __init__(self, utils: Any, family: str, backlog: Backlog, cache: Cache) -> None:
        """`utils` is Triton's triton_python_backend_utils."""
        kinds = utils.MetricFamily
        descriptions = {**COUNTERS, WAITING: "Texts that wait for a core"}
        self.families = [  # a Metric lives only as long as its family
            kinds(name=name, description=text, kind=kinds.GAUGE if name == WAITING else kinds.COUNTER)
            for name, text in descriptions.items()
        ]
        self.metrics = {
            name: family_.Metric(labels={"model": family})
            for name, family_ in zip(descriptions, self.families, strict=True)
        }
        self.log = utils.Logger.log_error
        self.backlog = backlog
        self.cache = cache
        self.counts = dict.fromkeys(COUNTERS, 0)
        self.told: dict[str, float] = dict.fromkeys(descriptions, 0)
        self.lock = threading.Lock()
        self.ended = threading.Event()
        self.quiet_until = 0.0
        self.unsaid = 0  # failures that the log does not show

    def count(self, name: str, number: int) -> None:
        """Add to a counter."""
        with self.lock:
            self.counts[name] += number

    def failed(self, what: str, error: BaseException) -> None:
        """Count a failure that no request should have caused, and logs it if the last line is not too new."""
        self.count("bert_step_failures_total", 1)
        with self.lock:
            now = time.monotonic()
            if now < self.quiet_until:
                self.unsaid += 1
                return
            unsaid, self.unsaid, self.quiet_until = self.unsaid, 0, now + QUIET
        more = f"; {unsaid} more failures since the last such line" if unsaid else ""
        self.log(f"{what}: {type(error).__name__}: {str(error)[:500]}{more}")

    def tell(self) -> bool:
        """Tells Triton what is new, after a while or at the end; returns whether there is more to come.

        Every instance of the encoder has these metrics, and adds its share: of the gauge too, which is set by none.
        """
        at_end = self.ended.wait(PERIOD)
        now = {
            **self.counts,
            "bert_refused_texts_total": self.backlog.refused,
            "bert_cache_hit_texts_total": self.cache.hits,
            "bert_cache_miss_texts_total": self.cache.misses,
            "bert_queue_duration_us": 1e6 * self.backlog.waited,
            WAITING: self.backlog.size,
        }
        for name, value in now.items():
            if value != self.told[name]:
                self.metrics[name].increment(value - self.told[name])
                self.told[name] = value
        return not at_end
