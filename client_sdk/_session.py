"""A client's connections, and the calls made over them: what `Client`, `AsyncClient` and `BertClient` share."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import aclosing
from typing import Any, TypeVar

import numpy.typing as npt

from client_sdk._call.ask import ask, ask_async
from client_sdk._call.blocks import Block
from client_sdk._call.drive import drive, drive_blocks
from client_sdk._call.drive_async import drive_async, drive_blocks_async
from client_sdk._call.job import Job
from client_sdk._call.kinds import VECTORS, AnswerKind, blocks, vectors
from client_sdk._call.questions import EXPLAIN_TIMEOUT, ModelInfo, missing_model, model_info, readiness
from client_sdk._call.texts import AnyTexts, TextSource, open_texts
from client_sdk._errors import ClientError, InvalidType, ModelNotFound
from client_sdk._reconnecting import Reconnecting
from client_sdk._settings import Settings
from client_sdk._transport.base import AsyncTransport, Query, Transport
from client_sdk._transport.opening import open_async_transport, open_transport
from client_sdk._transport.retry import Deadline

R = TypeVar("R")
K = TypeVar("K")

_inherited: list[Transport | None] = []  # transports of a parent process, kept so that they are not collected


class Session(Reconnecting):
    """Blocking; threads may share it. It connects when it is first used."""

    def __init__(self, settings: Settings, owner: str) -> None:
        """`owner`: what the caller calls it, for errors."""
        self.settings = settings
        self._owner = owner
        self._closed = False
        self._start_unconnected()

    _left_behind = ("_lock", "_transport", "_close_transport", "_process")

    def _start_unconnected(self) -> None:
        self._lock = threading.Lock()
        self._transport: Transport | None = None
        self._close_transport: Callable[[], object] | None = None
        self._process = os.getpid()  # whose the transport is

    def call(self, kind: AnswerKind[R], texts: AnyTexts | TextSource, options: Mapping[str, Any]) -> R:
        """Have each text answered, with the options of a client's method."""
        deadline, rest = _timed(self.settings, options)
        return self.run(kind.asked(self.settings.model, texts, rest), deadline)

    def call_knowing(
        self,
        questions: Generator[Query, dict[str, Any], K],
        make: Callable[[K], AnswerKind[R]],
        texts: AnyTexts,
        options: Mapping[str, Any],
        *,
        pairs: bool = True,
    ) -> R:
        """As `call`, of the kind that is made of what the model's server says; it is not asked in vain."""
        deadline, rest = _timed(self.settings, options)
        source = _checked(self.settings, texts, rest, pairs=pairs)
        kind = make(self.ask(questions, deadline))
        return self.run(kind.asked(self.settings.model, source, rest), deadline)

    def encode(self, texts: AnyTexts, options: Mapping[str, Any]) -> npt.NDArray[Any]:
        """Have each text made a vector, with the options of `Client.encode`."""
        kind, rest = vectors(options)
        return self.call(kind, texts, rest)

    def encode_iter(self, texts: AnyTexts, options: Mapping[str, Any]) -> Generator[Block, None, None]:
        """As `encode`, in blocks. Wrong options are refused at once; it starts when it is used."""
        job, timeout = _iterated(self.settings, texts, options)
        return self._blocks(job, timeout)

    def _blocks(self, job: Job[list[Block]], timeout: float | None) -> Generator[Block, None, None]:
        deadline = self.settings.deadline(timeout)
        try:
            self._prepare(job, deadline)
            yield from drive_blocks(job, self.open(), deadline)
        except ModelNotFound as error:
            raise self._missing(job.model, error, job.model_version) from None
        finally:
            job.close()

    def run(self, job: Job[R], deadline: Deadline) -> R:
        """Send all of a job, and give its result."""
        try:
            self._prepare(job, deadline)
            drive(job, self.open(), deadline)
        except ModelNotFound as error:
            raise self._missing(job.model, error, job.model_version) from None
        finally:
            job.close()
        return job.result()

    def _prepare(self, job: Job[Any], deadline: Deadline) -> None:
        """Have a job learn what it needs to know of the model."""
        if (questions := job.questions) is not None:
            job.learn(ask(questions, self.open(), deadline))

    def ask(self, questions: Generator[Query, dict[str, Any], R], deadline: Deadline) -> R:
        """Get questions answered, and what they lead to."""
        try:
            return ask(questions, self.open(), deadline)
        except ModelNotFound as error:
            raise self._missing(self.settings.model, error) from None

    def info(self, deadline: Deadline) -> ModelInfo:
        """What the model is."""
        return self.ask(model_info(self.settings.model), deadline)

    def is_ready(self, deadline: Deadline) -> bool:
        """Whether any server can serve the model now; each is asked once."""
        transport = self.open()
        return ask(readiness(self.settings.model, transport.peer.servers), transport, deadline, once=True)

    def open(self) -> Transport:
        """The transport of this process; raises ClientError once the session is closed."""
        if self._transport is None or self._process != os.getpid() or self._closed:
            with self._lock:
                if self._closed:
                    raise ClientError(f"{self!r} is closed")
                if self._process != os.getpid():
                    # A forked child must neither use nor close its parent's connections.
                    _inherited.append(self._transport)
                    self._transport = None
                if self._transport is None:
                    self._transport = open_transport(self.settings.connections)
                    self._process = os.getpid()
                    self._close_transport = weakref.finalize(self, _close, self._transport, self._process)
        return self._transport

    def close(self) -> None:
        """Drop the connections."""
        with self._lock:
            self._closed = True
            if self._close_transport is not None:
                self._close_transport()

    def __repr__(self) -> str:
        """The owner, its addresses and its model."""
        return f"{self._owner}({self.settings.url!r}, model={self.settings.model!r})"

    def _missing(self, wanted: str, error: ModelNotFound, version: int | None = None) -> ClientError:
        transport = self.open()
        servers = transport.peer.servers
        questions = missing_model(self.settings.model, wanted, self.settings.url, version, servers)
        try:
            return ask(questions, transport, Deadline(EXPLAIN_TIMEOUT))
        except ClientError:
            return error  # the statistics may be closed


class AsyncSession(Reconnecting):
    """`Session`, to be awaited; it belongs to the event loop in which it is first used."""

    def __init__(self, settings: Settings, owner: str) -> None:
        """`owner`: what the caller calls it, for errors."""
        self.settings = settings
        self._owner = owner
        self._closed = False
        self._start_unconnected()

    _left_behind = ("_transport", "_loop")

    def _start_unconnected(self) -> None:
        self._transport: AsyncTransport | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def call(self, kind: AnswerKind[R], texts: AnyTexts | TextSource, options: Mapping[str, Any]) -> R:
        """Have each text answered, with the options of a client's method."""
        deadline, rest = _timed(self.settings, options)
        return await self.run(kind.asked(self.settings.model, texts, rest, asynchronous=True), deadline)

    async def call_knowing(
        self,
        questions: Generator[Query, dict[str, Any], K],
        make: Callable[[K], AnswerKind[R]],
        texts: AnyTexts,
        options: Mapping[str, Any],
        *,
        pairs: bool = True,
    ) -> R:
        """As `call`, of the kind that is made of what the model's server says; it is not asked in vain."""
        deadline, rest = _timed(self.settings, options)
        source = _checked(self.settings, texts, rest, pairs=pairs, asynchronous=True)
        kind = make(await self.ask(questions, deadline))
        return await self.run(kind.asked(self.settings.model, source, rest, asynchronous=True), deadline)

    async def encode(self, texts: AnyTexts, options: Mapping[str, Any]) -> npt.NDArray[Any]:
        """Have each text made a vector, with the options of `Client.encode`."""
        kind, rest = vectors(options)
        return await self.call(kind, texts, rest)

    def encode_iter(self, texts: AnyTexts, options: Mapping[str, Any]) -> AsyncGenerator[Block, None]:
        """As `encode`, in blocks. Wrong options are refused at once; it starts when it is used."""
        job, timeout = _iterated(self.settings, texts, options, asynchronous=True)
        return self._blocks(job, timeout)

    async def _blocks(self, job: Job[list[Block]], timeout: float | None) -> AsyncGenerator[Block, None]:
        deadline = self.settings.deadline(timeout)
        try:
            await self._prepare(job, deadline)
            driven = drive_blocks_async(job, self.open(), deadline)
            async with aclosing(driven):
                async for block in driven:
                    yield block
        except ModelNotFound as error:
            raise await self._missing(job.model, error, job.model_version) from None
        finally:
            job.close()

    async def run(self, job: Job[R], deadline: Deadline) -> R:
        """Send all of a job, and give its result."""
        try:
            await self._prepare(job, deadline)
            await drive_async(job, self.open(), deadline)
        except ModelNotFound as error:
            raise await self._missing(job.model, error, job.model_version) from None
        finally:
            job.close()
        return job.result()

    async def _prepare(self, job: Job[Any], deadline: Deadline) -> None:
        """Have a job learn what it needs to know of the model."""
        if (questions := job.questions) is not None:
            job.learn(await ask_async(questions, self.open(), deadline))

    async def ask(self, questions: Generator[Query, dict[str, Any], R], deadline: Deadline) -> R:
        """Get questions answered, and what they lead to."""
        try:
            return await ask_async(questions, self.open(), deadline)
        except ModelNotFound as error:
            raise await self._missing(self.settings.model, error) from None

    async def info(self, deadline: Deadline) -> ModelInfo:
        """What the model is."""
        return await self.ask(model_info(self.settings.model), deadline)

    async def is_ready(self, deadline: Deadline) -> bool:
        """Whether any server can serve the model now; each is asked once."""
        transport = self.open()
        return await ask_async(readiness(self.settings.model, transport.peer.servers), transport, deadline, once=True)

    def open(self) -> AsyncTransport:
        """The transport of this event loop; raises ClientError for another one, or once the session is closed."""
        if self._closed:
            raise ClientError(f"{self!r} is closed")
        loop = asyncio.get_running_loop()
        if self._transport is None:
            self._transport = open_async_transport(self.settings.connections)
            weakref.finalize(self, self._transport.drop).atexit = False
            self._loop = loop
        if self._loop is not loop:
            raise ClientError(f"{self!r} belongs to another event loop: make one client for each loop")
        return self._transport

    async def close(self) -> None:
        """Drop the connections."""
        self._closed = True
        if self._transport is not None:
            await self._transport.close()

    def __repr__(self) -> str:
        """The owner, its addresses and its model."""
        return f"{self._owner}({self.settings.url!r}, model={self.settings.model!r})"

    async def _missing(self, wanted: str, error: ModelNotFound, version: int | None = None) -> ClientError:
        transport = self.open()
        servers = transport.peer.servers
        questions = missing_model(self.settings.model, wanted, self.settings.url, version, servers)
        try:
            return await ask_async(questions, transport, Deadline(EXPLAIN_TIMEOUT))
        except ClientError:
            return error  # the statistics may be closed


def _timed(settings: Settings, options: Mapping[str, Any]) -> tuple[Deadline, dict[str, Any]]:
    """The end of a call that starts now, and the options but for its timeout."""
    rest = dict(options)
    return settings.deadline(rest.pop("timeout", None)), rest


def _checked(
    settings: Settings, texts: AnyTexts, options: Mapping[str, Any], *, pairs: bool, asynchronous: bool = False
) -> TextSource:
    """The texts, where neither they nor the options are wrong whatever the model is."""
    source = open_texts(texts, pairs=pairs, asynchronous=asynchronous)
    VECTORS.asked(settings.model, source, options, asynchronous=asynchronous)  # which refuses what is; nothing is sent
    return source


def _iterated(
    settings: Settings, texts: AnyTexts, options: Mapping[str, Any], *, asynchronous: bool = False
) -> tuple[Job[list[Block]], float | None]:
    """What is sent for an iterator, and the call's timeout, checked."""
    if isinstance(texts, str):
        raise InvalidType("encode_iter() takes a collection or a stream of texts; encode() takes a single str")
    kind, rest = blocks(options)
    timeout = rest.pop("timeout", None)
    settings.deadline(timeout)
    return kind.asked(settings.model, texts, rest, asynchronous=asynchronous), timeout


def _close(transport: Transport, process: int) -> None:
    if process == os.getpid():
        transport.close()
