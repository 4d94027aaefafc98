"""Text to the ids that BERT reads: a Triton Python-backend step around a Hugging Face tokenizer.

TEXT BYTES [N, 1] (texts) or [N, 2] (pairs) to `input_ids`, `attention_mask`, `token_type_ids`, `pooling_mask` INT32
[N, S], TOKENS BYTES [N, S], TOKEN_COUNT INT32 [N, 1], the tokens of the whole text before truncation, and DECODED_TEXT
BYTES [N, 1], the text that `input_ids` are read back as. A request that is wrong gets INVALID_ARG with the reason;
whatever happens to one, the others of its batch are served.

Here is what is Triton's. Of each request the first piece of each text is tokenized together with those of the others
of its batch, which is all that most need; what is left of long ones is done in turns, by a thread of its own.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from itertools import islice

import request_parameters
import triton_python_backend_utils as pb_utils
from long_turns import LongTurns
from request_parameters import Refused
from stalls import Stalls
from token_rows import Job, outputs
from tokenizer_file import TokenizerFile


class TritonPythonModel:
    """The step itself; Triton calls initialize once and execute with the requests of a batch."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read tokenizer.json of this version and the family's settings."""
        path = os.path.join(args["model_repository"], args["model_version"], "tokenizer.json")
        if not os.path.exists(path):
            raise pb_utils.TritonModelException(
                f"{path} is missing: fill the model repository with `python -m export CHECKPOINT`"
            )
        # A panic of the tokenizer is the error of one request; its trace would fill the log.
        os.environ["RUST_BACKTRACE"] = "0"
        settings = {k: v["string_value"] for k, v in json.loads(args["model_config"])["parameters"].items()}
        with open(path, encoding="utf-8") as file:
            self.tokenizer = TokenizerFile(file.read(), settings)
        self.identity = _identity(args, settings)
        # Of a request in a turn: as many as leave half of the tokenizer's threads to the short ones.
        self.pieces_in_a_turn = max(1, len(os.sched_getaffinity(0)) // 2)

        family = pb_utils.MetricFamily(
            name="bert_truncated_texts_total",
            description="Texts cut at max_seq_len",
            kind=pb_utils.MetricFamily.COUNTER,
        )
        self.metric_family = family  # a Metric lives only as long as its family
        self.truncated = family.Metric(labels={"model": settings["family"]})
        # Two threads that increment one Metric end tritonserver: the second frees what the first put in shared memory.
        self.counting = threading.Lock()
        self.turns = LongTurns(self._turn, self._finish)
        self.stalls = Stalls()

    def execute(self, requests: list[pb_utils.InferenceRequest]) -> list[pb_utils.InferenceResponse | None]:
        """Answers the requests of a batch; those that take long get None in their place, and their answer later."""
        with self.stalls.batch():
            return self._answers(requests)

    def finalize(self) -> None:
        """End the threads; Triton calls this when every request has been answered."""
        self.stalls.end()
        self.turns.end()

    def _answers(self, requests: list[pb_utils.InferenceRequest]) -> list[pb_utils.InferenceResponse | None]:
        responses: list[pb_utils.InferenceResponse | None] = [None] * len(requests)
        jobs: dict[int, Job] = {}
        for index, request in enumerate(requests):
            try:
                jobs[index] = self._read(request)
            except BaseException as error:
                responses[index] = _refusal(error)
        at_once = {index: job for index, job in jobs.items() if job.pieces}
        for split in {job.split_special_tokens for job in at_once.values()}:
            alike = {index: job for index, job in at_once.items() if job.split_special_tokens == split}
            for index, failure in self._tokenize(alike).items():
                responses[index] = _refusal(failure)
                del jobs[index]
        for index, job in jobs.items():
            try:
                if job.is_done:
                    responses[index] = self._reply(job)
                else:
                    job.request = requests[index]
                    self.turns.put(job)
            except BaseException as error:
                responses[index] = _refusal(error)
        return responses

    def _read(self, request: pb_utils.InferenceRequest) -> Job:
        """Read a request into a Job, and starts it."""
        try:
            raw = request.parameters()
        except UnicodeDecodeError:
            raise Refused("the parameters, or headers that are forwarded with them, are not valid UTF-8") from None
        options = request_parameters.read(raw, self.identity)
        texts = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy()
        if texts.ndim != 2 or texts.shape[1] not in (1, 2) or not len(texts):
            raise Refused(f"TEXT has shape {list(texts.shape)}; it takes [N, 1] for texts or [N, 2] for pairs")
        job = Job(self.tokenizer, options, texts, request.requested_output_names())
        job.start()
        return job

    def _tokenize(self, jobs: Mapping[int, Job]) -> dict[int, BaseException]:
        """Tokenizes the pieces of all of them; what went wrong, by the index of the job that it went wrong with."""
        job = next(iter(jobs.values()))
        try:
            pieces = [piece for job in jobs.values() for _, piece in job.pieces]
            found = iter(self.tokenizer.encode(pieces, job.split_special_tokens))
            encodings = {index: list(islice(found, len(job.pieces))) for index, job in jobs.items()}
        except BaseException as error:  # tokenizers' PanicException is no Exception
            if len(jobs) == 1:
                return dict.fromkeys(jobs, error)
            return {key: own for index, job in jobs.items() for key, own in self._tokenize({index: job}).items()}
        errors: dict[int, BaseException] = {}
        for index, job in jobs.items():
            try:
                job.take(encodings[index])
            except BaseException as error:
                errors[index] = error
        return errors

    def _turn(self, job: Job) -> bool:
        """Do a little of a job that takes long, and tells whether that was the last of it."""
        if job.go_on(self.pieces_in_a_turn) and job.pieces:
            job.take(self.tokenizer.encode([piece for _, piece in job.pieces], job.split_special_tokens))
        return job.is_done

    def _finish(self, job: Job, error: BaseException | None) -> None:
        """Send the answer to a job that took long, and its end by itself.

        Shared memory may have no room for the answer: Triton makes an error of an end alone. If not even that can be
        sent, the request would never end, and the process does, so that who supervises the server starts it again.
        """
        try:
            sender = job.request.get_response_sender()
            with suppress(BaseException):
                sender.send(self._late_reply(job, error))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        except BaseException as raised:
            os.write(2, f"the tokenizer ends, since it cannot answer a request: {raised}\n".encode(errors="replace"))
            os._exit(1)

    def _late_reply(self, job: Job, error: BaseException | None) -> pb_utils.InferenceResponse:
        try:
            return _refusal(error) if error else self._reply(job)
        except BaseException as raised:
            return _refusal(raised)

    def _reply(self, job: Job) -> pb_utils.InferenceResponse:
        tensors, cut = outputs(job)
        if cut:
            with self.counting:
                self.truncated.increment(cut)
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in tensors.items()])


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


def _refusal(error: BaseException) -> pb_utils.InferenceResponse:
    """The answer to a request that cannot be served, whatever happened to it: its own error, and in no log."""
    if isinstance(error, Refused):
        failure = pb_utils.TritonError(str(error), getattr(pb_utils.TritonError, error.code))
    else:
        failure = pb_utils.TritonError(f"the tokenizer failed: {str(error)[:500]}", pb_utils.TritonError.INTERNAL)
    return pb_utils.InferenceResponse(error=failure)
