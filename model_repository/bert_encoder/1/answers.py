"""Answers to requests, each in one response, whatever happens."""

from __future__ import annotations

import os
from collections.abc import Callable

import triton_python_backend_utils as pb_utils
from jobs import Job, Refused

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
SHARED_MEMORY = "/dev/shm"

# Bytes: an answer of up to so many is sent without fear where so much shared memory is left.
SMALL = 1 << 20
AMPLE = 64 << 20


def refusal(error: BaseException) -> pb_utils.InferenceResponse:
    """The response that says why a request is not served."""
    if isinstance(error, Refused):
        message, code = str(error), getattr(pb_utils.TritonError, error.code)
    else:
        message, code = f"the encoder failed: {type(error).__name__}: {str(error)[:500]}", pb_utils.TritonError.INTERNAL
    message = message.encode(errors="replace").decode()  # half a surrogate pair would not travel
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))


def response(job: Job) -> pb_utils.InferenceResponse:
    """The response to a job all of whose rows have been settled."""
    try:
        if job.failure is not None:
            return refusal(job.failure)
        if job.uncomputed:
            return refusal(RuntimeError("a row was not computed"))
        job.make_outputs()  # which a job without a token has not yet
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in job.outputs.items()])
    except BaseException as error:
        return refusal(error)


def send(job: Job, failed: Callable[[str, BaseException], None]) -> None:
    """Send a job's response through its response sender; `failed(what, error)` is told of what goes wrong.

    An answer travels through shared memory, which may be full, and a sender takes no second response after one that
    could not be sent. So where that might happen the end of the answer is sent by itself: without the response, Triton
    makes an error of it. If not even that can be sent, the request would never end, and the process does, so that
    who supervises the server starts it again.
    """
    try:
        sender = job.request.get_response_sender()
        room = _room()
        if job.size <= SMALL and room > AMPLE:
            sender.send(response(job), FINAL)
            return
        try:
            sender.send(_within(room, job), 0)
        except BaseException as error:
            failed(f"an answer of {job.size / 1e6:.1f} MB does not fit into {SHARED_MEMORY}", error)
        sender.send(flags=FINAL)
    except BaseException as error:
        os.write(2, f"the encoder ends, since it cannot answer a request: {error}\n".encode(errors="replace"))
        os._exit(1)


def _within(room: int, job: Job) -> pb_utils.InferenceResponse:
    """The job's response, or its refusal where it cannot fit, however much of this process's own region is free."""
    if job.failure is None:
        with open("/proc/self/maps") as maps:
            regions = {line.split(maxsplit=5)[5].strip() for line in maps if f" {SHARED_MEMORY}/" in line}
        most = room + sum(os.stat(region).st_size for region in regions)
        if job.size > most:
            job.failure = Refused(
                f"the answer has {job.size / 1e6:.1f} MB, and {SHARED_MEMORY} has room for {most / 1e6:.1f} MB: "
                "ask for fewer texts at a time, or give the server more shared memory",
                "UNAVAILABLE",
            )
    return response(job)


def _room() -> int:
    """Free bytes of shared memory."""
    state = os.statvfs(SHARED_MEMORY)
    return state.f_bavail * state.f_frsize
