"""Ids to vectors: a Triton Python-backend step that runs the padding-free network in ONNX Runtime.

`input_ids`, `attention_mask`, `token_type_ids`, `pooling_mask` INT32 [N, S] to `token_embeddings` FP32 [N, S, D],
`pooled` FP32 [N, 4, D] (mean, max, first, last) and `pooler_output` FP32 [N, H], or what the family's network gives
instead or besides. The rows of all the requests of a
batch are sorted by length and computed in slices of at most `token_budget` tokens, side by side on the cores.

`reading` makes jobs of requests, `cache` knows what came of rows before, `backlog` keeps the others until a core takes
a slice of them, `answers` sends what came of a job, and `meters` counts. Here are the threads, and what they do with
the network.
"""

from __future__ import annotations

import json
import os
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress

import answers
import cores
import network
import numpy as np
import triton_python_backend_utils as pb_utils
from backlog import Backlog
from cache import Cache
from jobs import INPUTS, OF_TOKENS, RAGGED, Job, Refused, Row
from meters import Meters
from reading import Reader
from stalls import Stalls

# Of a job that waited for longer, in seconds, Triton is asked whether anybody still waits for it; asking takes as long
# as an answer does.
GIVEN_UP_AFTER = 1.0

# What makes way is computed by threads of its own, which the system gives a core to when nobody else asks for one, and
# a quarter of it (with this niceness) when others do: no short text waits for the end of a long slice, and none of
# these for ever, nor where other programs take the cores too.
MORE_NICE = 5


class TritonPythonModel:
    """The step itself; Triton calls initialize once and execute with the requests of a batch."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the network of this version twice: for a slice a core, and for a lone slice on all cores.

        Several slices side by side, one thread each, are faster than one after the other on all cores; a lone slice
        is the other way round.
        """
        path = os.path.join(args["model_repository"], args["model_version"], "model.onnx")
        if not os.path.exists(path):
            raise pb_utils.TritonModelException(
                f"{path} is missing: fill the model repository with `python -m export CHECKPOINT`"
            )
        settings = {k: v["string_value"] for k, v in json.loads(args["model_config"])["parameters"].items()}
        try:
            threads = cores.threads(int(settings["threads"]))
        except ValueError as error:
            raise pb_utils.TritonModelException(str(error)) from None
        self.wide = network.session(path, threads)
        self.narrow = network.session(path, 1) if threads > 1 else self.wide
        self.reader = Reader(self.wide, settings, _identity(args, settings))
        self.backlog = Backlog(threads, int(settings["token_budget"]), int(settings["max_queue_size"]))
        self.cache = Cache(int(settings.get("cache_bytes", "0")))
        self.meters = Meters(pb_utils, settings["family"], self.backlog, self.cache)
        self.finished: queue.SimpleQueue[Job | None] = queue.SimpleQueue()  # jobs to be answered
        steps = [*[(self._work,), (self._work_on_bulk, MORE_NICE)] * threads, (self._send,), (self.meters.tell,)]
        self.threads = [threading.Thread(target=self._go_on, args=step, daemon=True) for step in steps]
        for thread in self.threads:
            thread.start()
        self.stalls = Stalls()

    def execute(self, requests: list[pb_utils.InferenceRequest]) -> list[pb_utils.InferenceResponse | None]:
        """Has the requests of a batch computed together; a wrong one gets an error of its own.

        Returns before that is done, so that the next batch is read meanwhile: a place of the list that is None is
        answered through its response sender.
        """
        with self.stalls.batch():
            return self._answers(requests)

    def finalize(self) -> None:
        """End the threads; Triton calls this when every request has been answered."""
        self.stalls.end()
        self.backlog.end()
        self.finished.put(None)
        self.meters.ended.set()
        for thread in self.threads:
            thread.join()

    def _answers(self, requests: list[pb_utils.InferenceRequest]) -> list[pb_utils.InferenceResponse | None]:
        responses: list[pb_utils.InferenceResponse | None] = [None] * len(requests)
        places: dict[Job, int] = {}  # in the batch
        lengths: dict[Job, list[int]] = {}  # of what is to be computed
        for index, request in enumerate(requests):
            try:
                job = self.reader.read(request)
                if self.cache.max_bytes:
                    self.cache.fill(job)
                if job.missing:
                    lengths[job] = [row.length for row in job.rows()]
                    places[job] = index
                else:
                    responses[index] = self._answer(job)
            except BaseException as error:
                responses[index] = self._refuse(error)
        if not places:
            return responses
        for job, failure in self.backlog.add(places).items():
            responses[places[job]] = self._refuse(failure)
            lengths.pop(job, None)
        try:
            rows = [length for own in lengths.values() for length in own]
            self.meters.count("bert_padded_tokens_total", len(rows) * max(rows, default=0))
            if not self.cache.max_bytes:  # else the next batch may have all its rows there
                self.backlog.gather()
        except BaseException as error:  # all are answered, or will be
            self._report("a batch goes on after", error)
        return responses

    def _answer(self, job: Job) -> pb_utils.InferenceResponse | None:
        """The response to a job that waits for nothing; None if it is sent already."""
        if job.size <= answers.SMALL:
            return answers.response(job)
        answers.send(job, self._report)  # which looks whether it fits
        return None

    def _refuse(self, error: BaseException) -> pb_utils.InferenceResponse:
        if not isinstance(error, Refused):
            self._report("a request failed", error)
        return answers.refusal(error)

    def _go_on(self, step: Callable[[], bool], more_nice: int = 0) -> None:
        """Call a step again and again until it returns False. Whatever it raises, its thread goes on.

        So no step may leave a row or a job behind when it raises. `more_nice` lowers the thread's priority.
        """
        with suppress(OSError):  # a container may forbid it; a thread without is served too
            os.nice(more_nice)  # of this thread alone, as Linux has it
        going = True
        while going:
            try:
                going = step()
            except BaseException as error:
                self._report("a thread of the encoder goes on after", error)
                time.sleep(0.01)  # it might fail again at once

    def _report(self, what: str, error: BaseException) -> None:
        """Count and logs a failure that no request should have caused, if it can."""
        with suppress(BaseException):  # no memory, say; whoever it was has an answer to give
            self.meters.failed(what, error)

    def _work_on_bulk(self) -> bool:
        return self._work(bulk=True)

    def _work(self, bulk: bool = False) -> bool:
        rows = self.backlog.take(bulk)
        if rows is None:
            return False
        try:
            alone = not bulk and self.backlog.has_only(rows)
            self._compute(self.wide if alone else self.narrow, rows)
        finally:
            for row in rows:
                if self.backlog.settle(row):
                    self._finish(row.job)
        return True

    def _finish(self, job: Job) -> None:
        """Has a job answered, by a thread of its own: sending waits for Triton, and a core should not."""
        while True:
            try:
                return self.finished.put(job)
            except MemoryError:  # nobody else would answer it
                time.sleep(0.01)

    def _send(self) -> bool:
        job = self.finished.get()
        if job is None:
            return False
        try:
            answers.send(job, self._report)
        finally:
            self.backlog.release(job)
        return True

    def _compute(self, session: network.Session, rows: list[Row]) -> None:
        """Compute rows into the outputs of their jobs; what goes wrong is the failure of one job alone, if it can."""
        jobs: defaultdict[Job, list[Row]] = defaultdict(list)
        try:
            for row in rows:
                jobs[row.job].append(row)
            for job in jobs:
                self._begin(job)
            wanted = [row for row in rows if row.job.failure is None]
            if wanted:
                self._run(session, wanted)
        except BaseException as error:
            if len(jobs) > 1:  # it may be of one of them
                for own in jobs.values():
                    self._compute(session, own)
            else:
                self._fail(rows[0].job, error)

    def _begin(self, job: Job) -> None:
        """Make ready what the first of a job's rows needs, if anybody still waits for it."""
        try:
            if job.failure is None and not job.outputs:
                if time.monotonic() - job.arrived > GIVEN_UP_AFTER and job.request.is_cancelled():
                    raise Refused("the request was cancelled while it waited to be encoded", "CANCELLED")
                job.make_outputs()
        except BaseException as error:
            self._fail(job, error)

    def _fail(self, job: Job, error: BaseException) -> None:
        job.failure = error.with_traceback(None)  # its frames would keep the job
        if not isinstance(error, Refused):
            self._report("a request failed", error)

    def _run(self, session: network.Session, rows: list[Row]) -> None:
        """Run the network on a slice; of rows that are equal on one, whose results all of them get."""
        equal: defaultdict[bytes, list[Row]] = defaultdict(list)
        for row in rows:
            equal[row.inputs.tobytes()].append(row)
        firsts = [found[0] for found in equal.values()]
        feed = dict(zip(INPUTS, np.concatenate([row.inputs for row in firsts], axis=1), strict=True))
        lengths = np.array([[row.length] for row in firsts], np.int32)
        feed |= {f"{name}_shape": lengths for name in INPUTS}
        names = [name for name in self.reader.shapes if any(name in row.job.shapes for row in rows)]
        results = dict(zip(names, session.run(names, feed), strict=True))
        spoiled = not all(np.isfinite(result).all() for result in results.values())
        start = 0
        for place, (key, found) in enumerate(equal.items()):
            end = start + found[0].length
            if self.cache.max_bytes and not spoiled:
                self.cache.keep(key, {name: result[place] for name, result in results.items()})
            for row in found:
                for name, output in row.job.outputs.items():
                    if name in OF_TOKENS:
                        output[row.index, : row.length] = results[name][start:end]
                    elif name in RAGGED:
                        row.job.put(name, row.index, results[name][place])
                    else:
                        output[row.index] = results[name][place]
                if spoiled:
                    self._check_finite(row)
                row.job.uncomputed.discard(row.index)
            start = end
        self.meters.count("bert_tokens_total", start)

    def _check_finite(self, row: Row) -> None:
        if not all(np.isfinite(output[row.index]).all() for output in row.job.outputs.values()):
            self.meters.count("bert_not_finite_texts_total", 1)
            self._fail(
                row.job,
                Refused(f"the network gave a vector that is not finite for text {row.index}", "INVALID_ARG"),
            )


def _identity(args: dict[str, str], settings: dict[str, str]) -> str | None:
    """The identity in the config of this version, if that of its files is the same; None where the config has none.

    To be read when all files have been: Triton reads the configs first, and an export may come between.
    """
    identity = settings.get(f"identity.{args['model_version']}")
    if identity is None:
        return None
    path = os.path.join(args["model_repository"], args["model_version"], "identity")
    try:
        with open(path, encoding="ascii") as file:
            found = file.read()
    except OSError:
        found = "not there"
    if found != identity:
        raise pb_utils.TritonModelException(
            f"{path} is {found}, and config.pbtxt says {identity}: the model was exported again while it was loaded, "
            "or only a part of it was copied; start the server again, or export again"
        )
    return identity
