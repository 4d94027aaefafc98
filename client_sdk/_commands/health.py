"""`python -m client_sdk health`: one real request, for the health checks of containers.

Triton goes on calling itself ready when the process of a Python step has died, so only a request that runs through
every step shows that a model is served. A server that refuses the request for now (a full queue, a model that is being
loaded anew) is alive: whoever restarts it in an overload makes that worse.

An answer is not all. With Triton's response cache on, the next one may be that of other options; and where `/dev/shm`
is full, larger requests than this one fail.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
import sys
import time
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any

from client_sdk._call.collect import finite_rows, read_late
from client_sdk._call.kinds import AnswerKind
from client_sdk._call.questions import ensemble_roles
from client_sdk._commands.connection_arguments import addresses, open_session
from client_sdk._errors import AccessDenied, ClientError, ModelNotFound, ServerBusy, ServerError
from client_sdk._server.own_files import NAME_PREFIX, SHARED_MEMORY
from client_sdk._session import Session
from client_sdk._transport.address import parse_addresses
from client_sdk._transport.base import Arrays, Query

DEFAULT_TIMEOUT = 5.0  # seconds

HEALTHY = 0
UNHEALTHY = 1  # whatever the reason: Docker reserves all other codes

_TEXT = "healthy"
_WORDS = {"EMBEDDING": "a vector of {} numbers", "SCORES": "scores of {} labels", "WEIGHTS": "weights of {} words"}
_REGION_GROWTH = 1 << 20  # bytes by which Triton's Python backend makes a region larger


class _InWords:
    """What a family answers to one text, whatever kind it is of."""

    def take(self, positions: Sequence[int], reply: Arrays) -> None:
        """Say what is there."""
        if "TOKEN_EMBEDDING" in reply:
            (vectors,) = read_late(reply, positions, reply["TOKEN_EMBEDDING"].shape[-1])
            self._said = "vectors of {} tokens, {} numbers each".format(*vectors.shape)
            return
        for output, words in _WORDS.items():
            if output in reply:
                self._said = words.format(finite_rows(reply, output, positions).shape[1])
                return
        outputs = ", ".join((*_WORDS, "TOKEN_EMBEDDING"))
        raise ServerError(f"the answer holds none of {outputs}, only {', '.join(reply) or 'nothing'}")

    def result(self) -> str:
        """What was there."""
        return self._said

    def only(self) -> str:
        """The same."""
        return self._said


_ANSWER: AnswerKind[str] = AnswerKind("", (), lambda _: _InWords())


def run(arguments: argparse.Namespace) -> int:
    """Encode one text with each server; prints a line for each, with the reason if it gave no answer."""
    try:
        return max([_check(arguments, url) for url in addresses(arguments)])
    except ClientError as error:  # the arguments are wrong
        return _complain(error)


def _check(arguments: argparse.Namespace, url: str) -> int:
    with open_session(arguments, url) as session:
        started = time.perf_counter()
        try:
            answer, ensemble = _answer(session)
            milliseconds = 1000 * (time.perf_counter() - started)
            problem = _cache_problem(session, ensemble) or _memory_problem(url)
        except ServerBusy as error:
            print(f"busy, but alive: {error}")
            return HEALTHY
        except ClientError as error:
            return _complain(error)
    if problem:
        return _complain(f"{url} gave {answer}, but {problem}")
    print(f"healthy: {url} gave {answer} in {milliseconds:.0f} ms")
    return HEALTHY


def _answer(session: Session) -> tuple[str, str]:
    """What the family answers, and by which ensemble."""
    model = session.settings.model
    missing: ModelNotFound | None = None
    for role in session.ask(ensemble_roles(model), session.settings.deadline(None)):
        try:
            return session.call(replace(_ANSWER, role=role), _TEXT, {}), model + role
        except ModelNotFound as error:
            missing = missing or error
    assert missing is not None
    raise missing


def _cache_problem(session: Session, ensemble: str) -> str | None:
    try:
        cached = session.ask(_cached_models(ensemble), session.settings.deadline(None))
    except AccessDenied:  # configurations may be closed where inference is open
        return None
    if not cached:
        return None
    return (
        f"{' and '.join(cached)} has Triton's response cache on, which compares texts and not options, and so answers "
        "with vectors of other options: remove response_cache from its config.pbtxt, and export with --cache SIZE for "
        "texts that come again"
    )


def _cached_models(ensemble: str) -> Generator[Query, dict[str, Any], list[str]]:
    """Ask which of an ensemble and its steps have the response cache on."""
    cached: list[str] = []
    waiting, seen = [ensemble], {ensemble}
    while waiting:
        model = waiting.pop(0)
        config = yield Query("config", model)
        if config.get("response_cache", {}).get("enable", False):
            cached.append(model)
        steps = {step["model_name"] for step in config.get("ensemble_scheduling", {}).get("step", [])}
        waiting += sorted(steps - seen)
        seen |= steps
    return cached


def _memory_problem(url: str) -> str | None:
    """Of the memory that the steps of a server on this machine share; None for other servers, whose is not seen."""
    (address,) = parse_addresses(url)
    try:
        is_here = address.host == "localhost" or ipaddress.ip_address(address.host).is_loopback
        if not is_here or not any(SHARED_MEMORY.glob(f"{NAME_PREFIX}*")):
            return None
        disk = os.statvfs(SHARED_MEMORY)
    except (OSError, ValueError):  # it has a name, or there is no such memory
        return None
    free = disk.f_bavail * disk.f_frsize
    if free >= _REGION_GROWTH:
        return None
    return (
        f"{SHARED_MEMORY} is full ({free} bytes are left), so that requests fail whose texts or vectors need more: "
        "make it larger (docker run --shm-size), or remove what others keep there"
    )


def _complain(error: object) -> int:
    print(f"unhealthy: {error}", file=sys.stderr)
    return UNHEALTHY
