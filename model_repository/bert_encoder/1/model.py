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
from collections import deque
from typing import NamedTuple

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils

INPUTS = ("input_ids", "attention_mask", "token_type_ids", "pooling_mask")


# A batch that waits for a core holds the next one back this long, so that requests gather in Triton's queue and come
# together. Triton's own queue has no limit: with one, its batcher misses some wake-ups of a model with one instance and
# sleeps half a second (DynamicBatchScheduler::WaitForPayloadSlotAvailable). The limits are kept here.
GATHER_SECONDS = 0.1


class Refused(Exception):
    """Why a request is not served, for the one who sent it; the second argument is Triton's error code."""


class Job:
    """A request that has been read, and its outputs, zero until rows are put into them."""

    def __init__(self, request, inputs, shapes):
        self.request = request  # whose memory the inputs are
        self.inputs = inputs  # one INT32 [N, S] array for each of INPUTS
        wanted = request.requested_output_names()
        count, width = inputs[0].shape
        self.outputs = {
            name: np.zeros((count, width, *shape) if name == "token_embeddings" else (count, *shape), np.float32)
            for name, shape in shapes.items()
            if name in wanted
        }
        self.wants_tokens = "token_embeddings" in wanted
        self.error = None
        mask = inputs[INPUTS.index("attention_mask")]
        lengths = (mask * np.arange(1, width + 1)).max(axis=1, initial=0)
        self.rows = [Row(self, index, length) for index, length in enumerate(lengths.tolist()) if length]
        self.missing = len(self.rows)  # not computed yet
        self.arrived = time.monotonic()

    def response(self):
        """What Triton gets for this request."""
        if self.error:
            return pb_utils.InferenceResponse(error=self.error)
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in self.outputs.items()])


class Row(NamedTuple):
    """One row that holds a token."""

    job: Job
    index: int
    length: int  # without the padding on its right


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
        self.token_budget = int(settings["token_budget"])
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

        labels = {"model": settings["family"]}
        self.metric_families = [  # a Metric lives only as long as its family
            pb_utils.MetricFamily(name=name, description=description, kind=pb_utils.MetricFamily.COUNTER)
            for name, description in (
                ("bert_tokens_total", "Tokens computed by the network"),
                ("bert_padded_tokens_total", "Tokens that padding each batch to its longest row would have computed"),
            )
        ]
        self.tokens, self.padded_tokens = (family.Metric(labels=labels) for family in self.metric_families)

        self.max_queue_size = int(settings["max_queue_size"])
        self.queue_timeout = float(settings["queue_timeout"])
        self.changed = threading.Condition()  # and the lock of the next three
        self.slices = deque()  # waiting for a core
        self.waiting = 0  # rows in them
        self.unfinished = 0  # jobs
        self.finished = queue.SimpleQueue()  # jobs to be answered
        self.workers = [threading.Thread(target=self._work, daemon=True) for _ in range(self.cores)]
        self.sender = threading.Thread(target=self._send, daemon=True)
        for thread in (*self.workers, self.sender):
            thread.start()

    def execute(self, requests):
        """Has the requests of a batch computed together; a wrong one gets an error of its own.

        Returns when the last slice has a core, or after GATHER_SECONDS, so that the next batch is read while this one
        is computed. What is not done by then is None in the list, and answered through its response sender.
        """
        responses = [None] * len(requests)
        jobs = {}
        for index, request in enumerate(requests):
            try:
                jobs[index] = self._read(request)
            except Refused as refusal:
                responses[index] = pb_utils.InferenceResponse(error=pb_utils.TritonError(*refusal.args))
            else:
                if not jobs[index].rows:
                    responses[index] = jobs.pop(index).response()
        if not jobs:
            return responses
        slices = self._slices([row for job in jobs.values() for row in job.rows])
        with self.changed:
            alone = not self.unfinished and len(slices) == 1
            self.unfinished += len(jobs)
            if not alone:
                self.slices.extend(slices)
                self.waiting += sum(map(len, slices))
                self.changed.notify_all()
                self.changed.wait_for(lambda: not self.slices, GATHER_SECONDS)
        if alone:
            self._compute(self.wide, slices[0])
            for index, job in jobs.items():
                responses[index] = job.response()
        return responses

    def finalize(self):
        """Ends the threads; Triton calls this when every request has been answered."""
        with self.changed:
            self.slices.extend([None] * len(self.workers))
            self.changed.notify_all()
        self.finished.put(None)
        for thread in (*self.workers, self.sender):
            thread.join()

    def _read(self, request):
        tensors = {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in INPUTS}
        shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
        for name, tensor in tensors.items():
            if shapes[name] != shapes["input_ids"]:
                raise _invalid(f"{name} has shape {shapes[name]}, input_ids {shapes['input_ids']}; they must be equal")
            if tensor.view(np.uint32).max(initial=0) >= self.limits[name]:  # unsigned, a negative value is a large one
                raise _invalid(f"{name} has values outside 0 to {self.limits[name] - 1}")
        job = Job(request, list(tensors.values()), self.shapes)
        longest = max((row.length for row in job.rows), default=0)
        if longest > self.max_positions:
            raise _invalid(f"a row has {longest} tokens; the network takes {self.max_positions} at most")
        if self.waiting and self.waiting + len(job.rows) > self.max_queue_size:
            raise _unavailable(f"{self.waiting} texts wait to be encoded, and {self.max_queue_size} may")
        return job

    def _slices(self, rows):
        """Cuts rows, longest first, into slices of about equal tokens within the budget, enough for all cores.

        Rows whose token vectors are wanted stand apart, so that these are copied out of the network only for them.
        """
        rows.sort(key=lambda row: (row.job.wants_tokens, row.length), reverse=True)
        total = sum(row.length for row in rows)
        self.tokens.increment(total)
        self.padded_tokens.increment(len(rows) * max(row.length for row in rows))
        target = total / (self.cores * math.ceil(total / (self.cores * self.token_budget)))
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

    def _work(self):
        while (rows := self._next_slice()) is not None:
            for job in self._compute(self.narrow, rows):
                self.finished.put(job)

    def _next_slice(self):
        with self.changed:
            self.changed.wait_for(lambda: self.slices)
            rows = self.slices.popleft()
            self.waiting -= len(rows or ())
            self.changed.notify_all()
        return rows

    def _send(self):
        """Answers from a thread of its own: sending waits for Triton, and a core should not."""
        while (job := self.finished.get()) is not None:
            try:
                sender = job.request.get_response_sender()
                sender.send(job.response(), pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
            except Exception as error:  # the others are still to be answered
                pb_utils.Logger.log_error(f"a response could not be sent: {error}")

    def _compute(self, session, rows):
        """Computes one slice and returns the jobs that it finishes; its failure is that of its jobs alone."""
        for row in rows:
            waited = time.monotonic() - row.job.arrived
            if waited > self.queue_timeout:
                message = f"the request waited {waited:.0f} s to be encoded, and may {self.queue_timeout:.0f} s"
                row.job.error = pb_utils.TritonError(*_unavailable(message).args)
        wanted = [row for row in rows if not row.job.error]
        try:
            if wanted:
                self._run(session, wanted)
        except Exception as error:  # whatever it is, its jobs must be answered
            for row in wanted:
                row.job.error = pb_utils.TritonError(f"the network failed: {error}", pb_utils.TritonError.INTERNAL)
        finished = []
        with self.changed:
            for row in rows:
                row.job.missing -= 1
                if not row.job.missing:
                    finished.append(row.job)
            self.unfinished -= len(finished)
        return finished

    def _run(self, session, rows):
        feed = {
            name: np.concatenate([row.job.inputs[i][row.index, : row.length] for row in rows])
            for i, name in enumerate(INPUTS)
        }
        feed["row_shape"] = np.array([[row.length] for row in rows], np.float32)
        names = [name for name in self.shapes if any(name in row.job.outputs for row in rows)]
        results = dict(zip(names, session.run(names, feed), strict=True))
        start = 0
        for place, row in enumerate(rows):
            for name, output in row.job.outputs.items():
                if name == "token_embeddings":
                    output[row.index, : row.length] = results[name][start : start + row.length]
                else:
                    output[row.index] = results[name][place]
            start += row.length


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
