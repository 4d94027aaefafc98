"""What becomes of a batch that came back without an answer, however it is waited for."""

from __future__ import annotations

from typing import Any

from client_sdk._call.job import Job
from client_sdk._call.plan import Batch, cut
from client_sdk._errors import ClientError, VersionChanged
from client_sdk._transport.base import InferRequest
from client_sdk._transport.peer import TooManyTexts
from client_sdk._transport.retry import Retry


def pause_after(error: ClientError, job: Job[Any], batch: Batch, request: InferRequest, retry: Retry) -> float:
    """Seconds to wait before the batch is sent again; raises what ends the call."""
    pause = retry.pause_after(job.renumbered(error, batch), request)
    if isinstance(error, VersionChanged):
        job.start_over(error, retry.refusals)
    return pause


def cut_smaller(error: TooManyTexts, batch: Batch) -> list[Batch]:
    """A batch that the server found too large, in pieces that are smaller in any case."""
    if len(batch.texts) == 1:
        raise error
    return list(cut(batch, max(1, min(error.limit, len(batch.texts) - 1))))
