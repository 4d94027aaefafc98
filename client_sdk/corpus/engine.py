"""Ray, started within the process unless it is told where a cluster is."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import ray
from ray.data import DataContext
from ray.data.exceptions import SystemException
from ray.exceptions import RayError

from client_sdk._errors import ClientError
from client_sdk.corpus.tally import Tally

_LARGEST_STORE = 2 << 30
"""Bytes of blocks on their way, of which Ray would take a third of the memory."""

_PROCESSORS = 4
"""At least as many as Ray is told that there are: its tasks here wait, for files and for servers."""


_ADVICE = ("Failed to ", "To change retry attempts")
"""How lines begin that Ray Data puts behind what a task has said."""


@contextlib.contextmanager
def ray_running(address: str | None) -> Iterator[None]:
    """Ray is there within it: the caller's own, that of the cluster at `address`, or one of this process.

    Raises:
        ClientError: There is no cluster at the address, or none starts here.
    """
    if ray.is_initialized():
        yield
        return
    # Ray tells its makers about each use, unless it is told not to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Ray's workers make way for all else by default; here they keep servers busy, which is what the job is for.
    os.environ.setdefault("RAY_worker_niceness", "0")
    # Of Ray's processes that nobody uses all but one end, where one for each processor would go on looking for work.
    os.environ.setdefault("RAY_num_workers_soft_limit", "1")
    on_sigterm = signal.getsignal(signal.SIGTERM)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    own = {
        "num_cpus": max(_PROCESSORS, os.cpu_count() or 1),
        "object_store_memory": min(_LARGEST_STORE, memory // 4),
        "include_dashboard": False,
    }
    try:
        ray.init(
            address=address or "local",
            log_to_driver=False,
            logging_level=logging.ERROR,
            **({} if address else own),
        )
    except SystemExit:  # which Ray makes of SIGTERM while it starts
        raise KeyboardInterrupt from None
    except Exception as error:  # of no class of its own where a node has not come up within Ray's half a minute
        if not address:
            raise ClientError(f"Ray does not start on this machine: {error}") from None
        # At an address that is spelled out Ray gives no token unless it is told to.
        token = "" if "RAY_AUTH_MODE" in os.environ else "; RAY_AUTH_MODE=token is for one that asks for a token"
        raise ClientError(f"there is no Ray at {address}: {error}{token}") from None
    if threading.current_thread() is threading.main_thread():  # Ray puts its own in place, which ends the process
        signal.signal(signal.SIGTERM, on_sigterm)
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what a job ends for is said once, by it
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def data_context(**settings: Any) -> Iterator[None]:
    """Settings of Ray Data for the datasets made within it; the caller's own are put back."""
    context = DataContext.get_current()
    before = {name: getattr(context, name) for name in settings}
    try:
        for name, value in settings.items():
            setattr(context, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(context, name, value)


@contextlib.contextmanager
def own_errors(tally: Tally) -> Iterator[None]:
    """What a worker has said that the job ends for, in place of what Ray makes of it.

    Raises:
        ClientError: That; or Ray has failed in a way of its own.
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, RayError) and not isinstance(error.__cause__, SystemException):
            raise
        failure = tally.failure()
        if failure is not None:
            raise failure from None
        lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith(_ADVICE)]
        raise ClientError(f"Ray ended the job: {lines[-1] if lines else type(error).__name__}") from error
