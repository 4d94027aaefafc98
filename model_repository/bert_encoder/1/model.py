"""Ids to vectors: a Triton Python-backend step that runs the padding-free network in ONNX Runtime.

`input_ids`, `attention_mask`, `token_type_ids`, `pooling_mask` INT32 [N, S] to `token_embeddings` FP32 [N, S, D],
`pooled` FP32 [N, 4, D] (mean, max, first, last) and `pooler_output` FP32 [N, H]. The rows of all the requests of a
batch are sorted by length and computed in slices of at most `token_budget` tokens, side by side on the cores.
"""

import json
import math
import os
import queue
import threading
import time
from collections import Counter, defaultdict, deque
from itertools import accumulate, takewhile
from typing import NamedTuple

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils

INPUTS = ("input_ids", "attention_mask", "token_type_ids", "pooling_mask")

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


class Refused(Exception):
    """Why a request is not served, for the one who sent it; the second argument is Triton's error code."""


class Job:
    """A request that has been read."""

    def __init__(self, request, inputs, bulk):
        self.request = request
        self.inputs = inputs  # INT32 [4, N, S], in the order of INPUTS
        self.bulk = bulk  # whether the others go first
        self.wanted = request.requested_output_names()
        self.outputs = {}
        self.error = None
        mask = inputs[INPUTS.index("attention_mask")]
        self.lengths = (mask * np.arange(1, mask.shape[1] + 1)).max(axis=1, initial=0).tolist()
        self.count = sum(length > 0 for length in self.lengths)  # of rows that hold a token
        self.missing = self.count  # not computed yet
        self.arrived = time.monotonic()
        self.started = False

    def rows(self):
        """The rows that hold a token; not kept, since each holds its job, and both would wait for the collector."""
        return [Row(self, index, length) for index, length in enumerate(self.lengths) if length]

    @property
    def wants_tokens(self):
        """Whether token_embeddings are asked for."""
        return "token_embeddings" in self.wanted


class Row(NamedTuple):
    """One row that holds a token."""

    job: Job
    index: int
    length: int  # without the padding on its right

    @property
    def inputs(self):
        """What the row has in each of INPUTS: INT32 [4, length]."""
        return self.job.inputs[:, self.index, : self.length]


class Backlog:
    """The rows that wait for a core, and how they are cut into slices; its methods may be called from any thread."""

    def __init__(self, cores, token_budget):
        self.cores = cores
        self.token_budget = token_budget
        self.most_tokens = ROUNDS * cores * token_budget
        self.rows = {False: [], True: []}  # by Job.bulk
        self.slices = {False: deque(), True: deque()}
        self.size = 0  # rows in both
        self.ended = False
        self.changed = threading.Condition()

    def put(self, rows):
        """Adds the rows of a batch, and waits until a core has taken the last one, or for GATHER_SECONDS."""
        with self.changed:
            for row in rows:
                self.rows[row.job.bulk].append(row)
            self.size += len(rows)
            self.changed.notify_all()
            self.changed.wait_for(lambda: not self.size, GATHER_SECONDS)

    def take(self):
        """Waits for a slice; None at the end. Rows are cut only now, so that those of several batches go together."""
        with self.changed:
            self.changed.wait_for(lambda: self.size or self.ended)
            if not self.size:
                return None
            bulk = not (self.rows[False] or self.slices[False])
            if not self.slices[bulk]:
                waiting = self.rows[bulk]
                ends = accumulate(row.length for row in waiting)
                count = 1 + sum(1 for _ in takewhile(lambda end: end < self.most_tokens, ends))
                self.slices[bulk].extend(self.cut(waiting[:count]))
                del waiting[:count]
            rows = self.slices[bulk].popleft()
            self.size -= len(rows)
            self.changed.notify_all()
        return rows

    def end(self):
        """Makes `take` return None once nothing is left."""
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def cut(self, rows):
        """Cuts rows, longest first, into slices of about equal tokens within the budget, if possible one for each core.

        Rows whose token vectors are wanted stand apart, so that these are copied out of the network only for them.
        """
        rows.sort(key=lambda row: (row.job.wants_tokens, row.length), reverse=True)
        total = sum(row.length for row in rows)
        full_rounds = self.cores * math.ceil(total / (self.cores * self.token_budget))
        target = total / max(1, min(full_rounds, total // LEAST_TOKENS))
        slices = []
        tokens = math.inf
        for row in rows:
            full = tokens + row.length / 2 > target or tokens + row.length > self.token_budget
            if full or row.job.wants_tokens != slices[-1][-1].job.wants_tokens:
                slices.append([])
                tokens = 0
            slices[-1].append(row)
            tokens += row.length
        return slices


class Meters:
    """The family's metrics, told to Triton now and then by a thread of its own, since each telling waits for Triton."""

    PERIOD = 0.2  # seconds

    def __init__(self, family, backlog):
        counter, gauge = pb_utils.MetricFamily.COUNTER, pb_utils.MetricFamily.GAUGE
        self.families = [  # a Metric lives only as long as its family
            pb_utils.MetricFamily(name=name, description=description, kind=kind)
            for name, description, kind in (
                ("bert_tokens_total", "Tokens computed by the network", counter),
                (
                    "bert_padded_tokens_total",
                    "Tokens that padding each batch to its longest row would have computed",
                    counter,
                ),
                (
                    "bert_refused_texts_total",
                    "Texts refused as the queue was full, or after a wait in it",
                    counter,
                ),
                ("bert_queue_duration_us", "Cumulative time that requests waited for a core, in microseconds", counter),
                ("bert_waiting_texts", "Texts that wait for a core", gauge),
            )
        ]
        self.tokens, self.padded_tokens, self.refused, self.queue_duration, self.waiting = (
            family_.Metric(labels={"model": family}) for family_ in self.families
        )
        self.backlog = backlog
        self.counts = Counter()  # by Metric, not told yet
        self.lock = threading.Lock()
        self.ended = threading.Event()

    def count(self, metric, number):
        """Adds to a counter."""
        with self.lock:
            self.counts[metric] += number

    def run(self):
        """Tells Triton, until `ended`."""
        told = 0
        while not self.ended.wait(self.PERIOD):
            with self.lock:
                counts, self.counts = self.counts, Counter()
            for metric, number in counts.items():
                metric.increment(number)
            waiting = self.backlog.size
            if waiting != told:
                self.waiting.set(waiting)
                told = waiting


class TritonPythonModel:
    """The step itself; Triton calls initialize once and execute with the requests of a batch."""

    def initialize(self, args):
        """Loads the network of this version twice: for a slice a core, and for a lone slice on all cores.

        Several slices side by side, one thread each, are faster than one after the other on all cores; a lone slice
        is the other way round.
        """
        path = os.path.join(args["model_repository"], args["model_version"], "model.onnx")
        if not os.path.exists(path):
            raise pb_utils.TritonModelException(
                f"{path} is missing: fill the model repository with `python -m export CHECKPOINT`"
            )
        settings = {k: v["string_value"] for k, v in json.loads(args["model_config"])["parameters"].items()}
        self.cores = int(settings["threads"]) or len(os.sched_getaffinity(0))
        self.wide = _session(path, self.cores)
        self.narrow = _session(path, 1) if self.cores > 1 else self.wide
        self.shapes = {output.name: output.shape[1:] for output in self.wide.get_outputs()}
        limits = self.wide.get_modelmeta().custom_metadata_map
        self.limits = {
            "input_ids": int(limits["vocab_size"]),
            "attention_mask": 2,
            "token_type_ids": int(limits["type_vocab_size"]),
            "pooling_mask": 2,
        }
        self.max_positions = int(limits["max_position_embeddings"])

        self.max_queue_size = int(settings["max_queue_size"])
        self.queue_timeout = float(settings["queue_timeout"])
        self.backlog = Backlog(self.cores, int(settings["token_budget"]))
        self.meters = Meters(settings["family"], self.backlog)
        self.lock = threading.Lock()  # of the next, and of Job.missing
        self.unfinished = 0  # jobs
        self.finished = queue.SimpleQueue()  # jobs to be answered
        targets = [*[self._work] * self.cores, self._send, self.meters.run]
        self.threads = [threading.Thread(target=target, daemon=True) for target in targets]
        for thread in self.threads:
            thread.start()

    def execute(self, requests):
        """Has the requests of a batch computed together; a wrong one gets an error of its own.

        Returns before that is done, so that the next batch is read meanwhile: a place of the list that is None is
        answered through its response sender.
        """
        responses = [None] * len(requests)
        jobs = {}
        for index, request in enumerate(requests):
            try:
                jobs[index] = self._read(request)
            except Refused as refusal:
                responses[index] = pb_utils.InferenceResponse(error=pb_utils.TritonError(*refusal.args))
            else:
                if not jobs[index].count:
                    responses[index] = self._response(jobs.pop(index))
        if not jobs:
            return responses
        rows = [row for job in jobs.values() for row in job.rows()]
        self.meters.count(self.meters.padded_tokens, len(rows) * max(row.length for row in rows))
        with self.lock:
            alone = not self.unfinished and len(self.backlog.cut(rows)) == 1
            self.unfinished += len(jobs)
        if alone:
            self._compute(self.wide, rows)
            for index, job in jobs.items():
                responses[index] = self._response(job)
        else:
            self.backlog.put(rows)
        return responses

    def finalize(self):
        """Ends the threads; Triton calls this when every request has been answered."""
        self.backlog.end()
        self.finished.put(None)
        self.meters.ended.set()
        for thread in self.threads:
            thread.join()

    def _read(self, request):
        tensors = [pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in INPUTS]
        shape = tensors[0].shape
        for name, tensor in zip(INPUTS, tensors, strict=True):
            if tensor.shape != shape:
                raise _invalid(f"{name} has shape {list(tensor.shape)}, input_ids {list(shape)}; they must be equal")
        inputs = np.array(tensors)
        greatest = inputs.view(np.uint32).max(axis=(1, 2), initial=0)  # unsigned, a negative value is a large one
        for name, value in zip(INPUTS, greatest.tolist(), strict=True):
            if value >= self.limits[name]:
                raise _invalid(f"{name} has values outside 0 to {self.limits[name] - 1}")
        bulk = json.loads(request.parameters() or "{}").get("bulk") is True
        job = Job(request, inputs, bulk)
        longest = max(job.lengths, default=0)
        if longest > self.max_positions:
            raise _invalid(f"a row has {longest} tokens; the network takes {self.max_positions} at most")
        waiting = self.backlog.size
        if waiting and waiting + job.count > self.max_queue_size:
            self.meters.count(self.meters.refused, job.count)
            raise _unavailable(f"{waiting} texts wait to be encoded, and {self.max_queue_size} may")
        return job

    def _start(self, job):
        """Ends a job's wait, in vain if it was too long."""
        waited = time.monotonic() - job.arrived
        if not job.started:
            job.started = True
            self.meters.count(self.meters.queue_duration, 1e6 * waited)
        if waited > self.queue_timeout and not job.error:
            self.meters.count(self.meters.refused, job.count)
            message = f"the request waited {waited:.0f} s to be encoded, and may {self.queue_timeout:.0f} s"
            job.error = pb_utils.TritonError(*_unavailable(message).args)
        if not job.error:
            self._make_outputs(job)

    def _make_outputs(self, job):
        """Makes the outputs, zero until rows are put into them; late, since many jobs may wait."""
        _, count, width = job.inputs.shape
        for name, shape in self.shapes.items():
            if name in job.wanted and name not in job.outputs:
                lengths = (count, width) if name == "token_embeddings" else (count,)
                job.outputs[name] = np.zeros((*lengths, *shape), np.float32)

    def _response(self, job):
        if job.error:
            return pb_utils.InferenceResponse(error=job.error)
        self._make_outputs(job)
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in job.outputs.items()])

    def _work(self):
        while (rows := self.backlog.take()) is not None:
            for job in self._compute(self.narrow, rows):
                self.finished.put(job)

    def _send(self):
        """Answers from a thread of its own: sending waits for Triton, and a core should not."""
        while (job := self.finished.get()) is not None:
            try:
                sender = job.request.get_response_sender()
                sender.send(self._response(job), pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
            except Exception as error:  # the others are still to be answered
                pb_utils.Logger.log_error(f"a response could not be sent: {error}")

    def _compute(self, session, rows):
        """Computes one slice and returns the jobs that it finishes; its failure is that of its jobs alone."""
        with self.lock:  # a job may have rows in several slices
            for job in {row.job for row in rows}:
                self._start(job)
        wanted = [row for row in rows if not row.job.error]
        try:
            if wanted:
                self._run(session, wanted)
        except Exception as error:  # whatever it is, its jobs must be answered
            for row in wanted:
                row.job.error = pb_utils.TritonError(f"the network failed: {error}", pb_utils.TritonError.INTERNAL)
        finished = []
        with self.lock:
            for row in rows:
                row.job.missing -= 1
                if not row.job.missing:
                    finished.append(row.job)
            self.unfinished -= len(finished)
        return finished

    def _run(self, session, rows):
        """Runs the network on a slice; of rows that are equal on one, whose results all of them get."""
        equal = defaultdict(list)
        for row in rows:
            equal[row.inputs.tobytes()].append(row)
        firsts = [found[0] for found in equal.values()]
        feed = dict(zip(INPUTS, np.concatenate([row.inputs for row in firsts], axis=1), strict=True))
        feed["row_shape"] = np.array([[row.length] for row in firsts], np.float32)
        names = [name for name in self.shapes if any(name in row.job.outputs for row in rows)]
        results = dict(zip(names, session.run(names, feed), strict=True))
        start = 0
        for place, found in enumerate(equal.values()):
            end = start + found[0].length
            for row in found:
                for name, output in row.job.outputs.items():
                    if name == "token_embeddings":
                        output[row.index, : row.length] = results[name][start:end]
                    else:
                        output[row.index] = results[name][place]
            start = end
        self.meters.count(self.meters.tokens, start)


def _invalid(message):
    return Refused(message, pb_utils.TritonError.INVALID_ARG)


def _unavailable(message):
    return Refused(f"{message}; try again later", pb_utils.TritonError.UNAVAILABLE)


def _session(path, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Between the operators of a run threads wait spinning; after it they would take the cores from the other steps.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
