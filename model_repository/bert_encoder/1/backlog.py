"""The rows that wait for a core: how many may, whose turn it is, and how they are cut into slices."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from itertools import accumulate, takewhile

from jobs import Job, Refused, Row

# Fewer tokens than this in a run of the network make its matrix products slow: the weights must come from memory all
# the same.
LEAST_TOKENS = 128

# So many slices for each core are cut at once, from the rows that have waited longest: enough for rows of like length,
# and few enough that a short row behind long ones does not wait much longer than its turn.
ROUNDS = 4

# While rows wait for a core, the next batch is read after this long, so that it gathers requests in Triton's queue.
# That queue has no limit: with one, its batcher misses some wake-ups of a model with one instance and sleeps half a
# second (DynamicBatchScheduler::WaitForPayloadSlotAvailable). The limits are kept here, so this is short.
GATHER_SECONDS = 0.02

# A request of more rounds than this keeps every core for about a tenth of a second, so it makes way as bulk ones do
# unless it says that it is none: a short text should not wait until sixteen long ones are computed.
LONG_ROUNDS = 2

# Bytes of the outputs of all jobs that are not answered yet. Vectors of tokens are large: 64 texts of 512 tokens have
# 100 MB of 768 numbers each, and they are made faster than they are sent.
MAX_OUTPUT_BYTES = 1 << 30


class Backlog:
    """What waits, and what is being computed or answered; its methods may be called from any thread.

    Whatever a method raises, it raises before it has changed anything: no row is lost, and none is taken twice.
    """

    def __init__(
        self,
        cores: int,
        token_budget: int,
        max_rows: int,
        max_bytes: int = MAX_OUTPUT_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.cores = cores
        self.token_budget = token_budget
        self.most_tokens = ROUNDS * cores * token_budget
        self.long_tokens = LONG_ROUNDS * cores * token_budget
        self.max_rows = max_rows
        self.max_bytes = max_bytes
        self.clock = clock
        self.rows: dict[bool, list[Row]] = {False: [], True: []}  # by whether they make way for the others
        self.slices: dict[bool, deque[list[Row]]] = {False: deque(), True: deque()}
        self.overdue: deque[list[Row]] = deque()  # slices of rows that are not to be computed
        self.earliest = math.inf  # no job's patience ends before
        self.size = 0  # rows in all of these
        self.taken = 0  # rows that are being computed
        self.held = 0  # bytes of the outputs of jobs that are not answered
        self.refused = 0  # rows, in all
        self.waited = 0.0  # seconds that jobs have waited, in all
        self.ended = False
        self.lock = threading.RLock()
        self.filled = {bulk: threading.Condition(self.lock) for bulk in (False, True)}
        self.emptied = threading.Condition(self.lock)

    def has_only(self, rows: list[Row]) -> bool:
        """Whether these, which were taken, are all that there is to do."""
        return not self.size and self.taken == len(rows)

    def add(self, jobs: Iterable[Job]) -> dict[Job, BaseException]:
        """Add the jobs of a batch, and return what kept some of them out, by job: Refused, or what went wrong."""
        failures: dict[Job, BaseException] = {}
        with self.lock:
            for job in jobs:
                try:
                    self._admit(job)
                except BaseException as error:
                    failures[job] = error
        return failures

    def _admit(self, job: Job) -> None:
        rows = job.rows()
        if self.size and self.size + len(rows) > self.max_rows:
            self.refused += len(rows)
            raise busy(f"{self.size} texts wait to be encoded, and {self.max_rows} may")
        if self.held and self.held + job.bytes > self.max_bytes:
            self.refused += len(rows)
            raise busy(
                f"{self.held / 1e6:.0f} MB of vectors are being made, this request asks for {job.bytes / 1e6:.0f} MB, "
                f"and {self.max_bytes / 1e6:.0f} MB may be"
            )
        makes_way = sum(row.length for row in rows) > self.long_tokens if job.bulk is None else job.bulk
        # No more threads than there are rows: on many cores all of them would wake up for one, each for Python's lock.
        self.filled[makes_way].notify(len(rows))
        self.rows[makes_way].extend(rows)
        self.size += len(rows)
        self.held += job.bytes
        self.earliest = min(self.earliest, job.deadline)

    def gather(self) -> None:
        """Wait until the last row is taken, or for GATHER_SECONDS."""
        with self.emptied:
            self.emptied.wait_for(lambda: not self.size, GATHER_SECONDS)

    def take(self, bulk: bool = False) -> list[Row] | None:
        """Wait for a slice of the rows that make way, or of the others; None at the end.

        Rows are cut only now, so that those of several batches go together.

        The rows of a job that has waited too long come first, since there is nothing to compute: its `failure` says so.
        """
        with self.lock:
            self.filled[bulk].wait_for(lambda: self._has(bulk) or self.ended)
            if not self._has(bulk):
                return None
            now = self.clock()
            slices = self._next(now, bulk)
            rows = slices[0]
            self.emptied.notify_all()
            for row in rows:
                if not row.job.started:
                    row.job.started = True
                    self.waited += now - row.job.arrived
            self.size -= len(rows)
            self.taken += len(rows)
            return slices.popleft()

    def settle(self, row: Row) -> bool:
        """Count down a row that was taken; return whether it was its job's last."""
        with self.lock:
            self.taken -= 1
            row.job.missing -= 1
            if row.job.missing:
                return False
            grown = row.job.size - row.job.bytes
            row.job.bytes += grown
            self.held += grown
            return True

    def release(self, job: Job) -> None:
        """Forgets the outputs of a job that has been answered."""
        with self.lock:
            self.held -= job.bytes

    def end(self) -> None:
        """Make `take` return None once nothing is left."""
        with self.lock:
            self.ended = True
            for filled in self.filled.values():
                filled.notify_all()

    def _has(self, bulk: bool) -> bool:
        return bool(self.rows[bulk] or self.slices[bulk])

    def _next(self, now: float, bulk: bool) -> deque[list[Row]]:
        """The slices whose turn it is."""
        if not self.overdue and now >= self.earliest:
            self._sort_out(now)
        if self.overdue:
            return self.overdue
        if not self.slices[bulk]:
            self._cut_some(bulk)
        return self.slices[bulk]

    def _cut_some(self, bulk: bool) -> None:
        waiting = self.rows[bulk]
        ends = accumulate(row.length for row in waiting)
        count = 1 + sum(1 for _ in takewhile(lambda end: end < self.most_tokens, ends))
        try:
            slices = deque(self.cut(waiting[:count]))
        except Exception:  # no memory, say; the rows are served all the same
            count, slices = 1, deque([waiting[:1]])
        self.rows[bulk], self.slices[bulk] = waiting[count:], slices

    def _sort_out(self, now: float) -> None:
        """Put aside the rows of jobs that have waited too long before any of their rows was taken."""

        def is_late(row: Row) -> bool:
            return not row.job.started and row.job.deadline <= now

        late: list[Row] = []
        rows: dict[bool, list[Row]] = {}
        slices: dict[bool, deque[list[Row]]] = {}
        for bulk in (False, True):
            waiting = [row for part in (*self.slices[bulk], self.rows[bulk]) for row in part]
            late += filter(is_late, waiting)
            rows[bulk] = [row for row in self.rows[bulk] if not is_late(row)]
            kept = ([row for row in part if not is_late(row)] for part in self.slices[bulk])
            slices[bulk] = deque(part for part in kept if part)
        parts = (*slices[False], *slices[True], rows[False], rows[True])
        deadlines = {row.job: row.job.deadline for part in parts for row in part if not row.job.started}
        for job in {row.job for row in late}:
            job.failure = busy(
                f"the request waited {now - job.arrived:.3g} s to be encoded, and may {job.patience:.3g} s"
            )
        overdue = deque([late] if late else [])
        self.refused += len(late)
        self.rows, self.slices, self.overdue = rows, slices, overdue
        self.earliest = min(deadlines.values(), default=math.inf)

    def cut(self, rows: list[Row]) -> list[list[Row]]:
        """Cuts rows, longest first, into slices of about equal tokens within the budget, if possible one for each core.

        Rows whose token vectors are wanted stand apart, so that these are copied out of the network only for them.
        """
        rows.sort(key=lambda row: (row.job.wants_tokens, row.length), reverse=True)
        total = sum(row.length for row in rows)
        full_rounds = self.cores * math.ceil(total / (self.cores * self.token_budget))
        target = total / max(1, min(full_rounds, total // LEAST_TOKENS))
        slices: list[list[Row]] = []
        tokens = math.inf
        for row in rows:
            full = tokens + row.length / 2 > target or tokens + row.length > self.token_budget
            if full or row.job.wants_tokens != slices[-1][-1].job.wants_tokens:
                slices.append([])
                tokens = 0
            slices[-1].append(row)
            tokens += row.length
        return slices


def busy(message: str) -> Refused:
    """Why a request is not served now, though it might be later."""
    return Refused(f"{message}; try again later", "UNAVAILABLE")
