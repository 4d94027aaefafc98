"""The asynchronous client."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterable, Iterable, Mapping
from typing import TYPE_CHECKING, TypeVar, overload

import numpy as np
import numpy.typing as npt

from client_sdk._call.argument_names import named
from client_sdk._call.collect import TokenVectors
from client_sdk._call.drive import ask_async, drive_async
from client_sdk._call.job import COUNTS, TOKEN_VECTORS, VECTORS, Job
from client_sdk._call.options import CountOptions, TokenOptions, request_parameters
from client_sdk._call.plan import DEFAULT_BATCH_SIZE
from client_sdk._call.questions import EXPLAIN_TIMEOUT, ModelInfo, missing_model, model_info
from client_sdk._call.texts import AnyTexts as Texts
from client_sdk._call.texts import Text, Tokens
from client_sdk._errors import ClientError, DeadlineExceeded, ModelNotFound, ServerBusy, ServerUnreachable
from client_sdk._reconnecting import Reconnecting
from client_sdk._settings import make_settings
from client_sdk._transport.address import Url
from client_sdk._transport.base import AsyncTransport, Query
from client_sdk._transport.connection import FilePath
from client_sdk._transport.opening import open_async_transport
from client_sdk._transport.retry import Deadline

if TYPE_CHECKING:
    from typing_extensions import Unpack

R = TypeVar("R")


class AsyncClient(Reconnecting):
    """`Client`, to be awaited: the same arguments, methods, results and errors.

    It belongs to the event loop in which it is first used; any number of its tasks may share it. Its connections end
    with the loop, if it is not closed before (by asyncio.run; one who closes a loop by hand closes the client first).
    Texts may also come from an asynchronous iterable. A generator is read in a thread of its own, so that one that
    blocks does not block the loop; what must stay in the loop's thread is given as an asynchronous one.
    """

    @named
    def __init__(
        self,
        url: Url | None = None,
        model: str | None = None,
        *,
        timeout: float | None = None,
        headers: Mapping[str, str] | None = None,
        api_key: str | None = None,
        root_certificates: FilePath | None = None,
        client_certificate: FilePath | None = None,
        client_key: FilePath | None = None,
    ) -> None:
        self._settings = make_settings(
            url, model, timeout, headers, api_key, root_certificates, client_certificate, client_key
        )
        self._closed = False
        self._start_unconnected()

    @named
    async def encode(
        self,
        texts: Texts,
        *,
        pooling: str | None = None,
        normalize: bool | None = None,
        truncate_dim: int | None = None,
        max_seq_len: int | None = None,
        truncate: bool = True,
        pair_truncation: str | None = None,
        is_tokenized: bool = False,
        add_special_tokens: bool = True,
        split_special_tokens: bool | None = None,
        mask_cls_sep: bool = False,
        prompt: str | None = None,
        prompt_name: str | None = None,
        model_version: int | None = None,
        priority: str | None = None,
        batch_size: int = DEFAULT_BATCH_SIZE,
        show_progress: bool = False,
        timeout: float | None = None,
    ) -> npt.NDArray[np.float32]:
        """Encode each text into one vector: [N, D] float32, or [D] for a single str. See `Client.encode`."""
        deadline = self._settings.deadline(timeout)
        parameters = request_parameters(
            pooling=pooling,
            normalize=normalize,
            truncate_dim=truncate_dim,
            max_seq_len=max_seq_len,
            truncate=truncate,
            pair_truncation=pair_truncation,
            is_tokenized=is_tokenized,
            add_special_tokens=add_special_tokens,
            split_special_tokens=split_special_tokens,
            mask_cls_sep=mask_cls_sep,
            prompt=prompt,
            prompt_name=prompt_name,
            priority=priority,
        )
        job = VECTORS.job(
            self._settings.model, texts, parameters, batch_size, show_progress, model_version, asynchronous=True
        )
        return await self._run(job, deadline)

    @overload
    async def encode_tokens(self, texts: str, **options: Unpack[TokenOptions]) -> TokenVectors: ...  # type: ignore[overload-overlap]

    @overload
    async def encode_tokens(
        self, texts: Iterable[Text | Tokens] | AsyncIterable[Text | Tokens], **options: Unpack[TokenOptions]
    ) -> list[TokenVectors]: ...

    @named
    async def encode_tokens(
        self,
        texts: Texts,
        *,
        max_seq_len: int | None = None,
        truncate: bool = True,
        pair_truncation: str | None = None,
        is_tokenized: bool = False,
        add_special_tokens: bool = True,
        split_special_tokens: bool | None = None,
        mask_cls_sep: bool = False,
        prompt: str | None = None,
        prompt_name: str | None = None,
        model_version: int | None = None,
        priority: str | None = None,
        batch_size: int = DEFAULT_BATCH_SIZE,
        show_progress: bool = False,
        timeout: float | None = None,
    ) -> TokenVectors | list[TokenVectors]:
        """Encode each text into one vector a token: one `TokenVectors` a text. See `Client.encode_tokens`."""
        deadline = self._settings.deadline(timeout)
        parameters = request_parameters(
            max_seq_len=max_seq_len,
            truncate=truncate,
            pair_truncation=pair_truncation,
            is_tokenized=is_tokenized,
            add_special_tokens=add_special_tokens,
            split_special_tokens=split_special_tokens,
            mask_cls_sep=mask_cls_sep,
            prompt=prompt,
            prompt_name=prompt_name,
            priority=priority,
        )
        job = TOKEN_VECTORS.job(
            self._settings.model, texts, parameters, batch_size, show_progress, model_version, asynchronous=True
        )
        return await self._run(job, deadline)

    @overload
    async def count_tokens(self, texts: str, **options: Unpack[CountOptions]) -> int: ...  # type: ignore[overload-overlap]

    @overload
    async def count_tokens(
        self, texts: Iterable[Text | Tokens] | AsyncIterable[Text | Tokens], **options: Unpack[CountOptions]
    ) -> npt.NDArray[np.int64]: ...

    @named
    async def count_tokens(
        self,
        texts: Texts,
        *,
        is_tokenized: bool = False,
        add_special_tokens: bool = True,
        split_special_tokens: bool | None = None,
        prompt: str | None = None,
        prompt_name: str | None = None,
        model_version: int | None = None,
        batch_size: int = DEFAULT_BATCH_SIZE,
        show_progress: bool = False,
        timeout: float | None = None,
    ) -> int | npt.NDArray[np.int64]:
        """Count each text's tokens before anything is cut off: [N] int64. See `Client.count_tokens`."""
        deadline = self._settings.deadline(timeout)
        parameters = request_parameters(
            is_tokenized=is_tokenized,
            add_special_tokens=add_special_tokens,
            split_special_tokens=split_special_tokens,
            prompt=prompt,
            prompt_name=prompt_name,
        )
        job = COUNTS.job(
            self._settings.model, texts, parameters, batch_size, show_progress, model_version, asynchronous=True
        )
        return await self._run(job, deadline)

    async def info(self, *, timeout: float | None = None) -> ModelInfo:
        """Ask the server what the model is: its dimension, limits and defaults."""
        deadline = self._settings.deadline(timeout)
        model = self._settings.model
        try:
            return await ask_async(model_info(model), self._open(), deadline)
        except ModelNotFound as error:
            raise await self._missing(model, error) from None

    async def is_ready(self, *, timeout: float | None = None) -> bool:
        """Whether the server (of several, any) is there and can serve the model now; asked once, without retries."""
        deadline = self._settings.deadline(timeout)
        transport = self._open()
        for _ in range(transport.peer.servers):
            try:
                answer = await transport.query(Query("ready", self._settings.model), deadline.remaining())
            except (ModelNotFound, ServerBusy, ServerUnreachable, DeadlineExceeded):
                continue
            if answer.get("ready", False):
                return True
        return False

    async def close(self) -> None:
        """Drop the connections. A call after this raises ClientError."""
        self._closed = True
        if self._transport is not None:
            await self._transport.close()

    async def __aenter__(self) -> AsyncClient:
        """The client itself."""
        return self

    async def __aexit__(self, *error: object) -> None:
        """Close it."""
        await self.close()

    def __repr__(self) -> str:
        """Addresses and model."""
        return f"AsyncClient({self._settings.url!r}, model={self._settings.model!r})"

    _left_behind = ("_transport", "_loop")

    def _start_unconnected(self) -> None:
        self._transport: AsyncTransport | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def _run(self, job: Job[R], deadline: Deadline) -> R:
        try:
            await drive_async(job, self._open(), deadline)
        except ModelNotFound as error:
            raise await self._missing(job.model, error, job.model_version) from None
        finally:
            job.close()
        return job.result()

    async def _missing(self, wanted: str, error: ModelNotFound, version: int | None = None) -> ClientError:
        questions = missing_model(self._settings.model, wanted, self._settings.url, version)
        try:
            return await ask_async(questions, self._open(), Deadline(EXPLAIN_TIMEOUT))
        except ClientError:
            return error  # the statistics may be closed

    def _open(self) -> AsyncTransport:
        if self._closed:
            raise ClientError(f"{self!r} is closed")
        loop = asyncio.get_running_loop()
        if self._transport is None:
            self._transport = open_async_transport(self._settings.connections)
            weakref.finalize(self, self._transport.drop).atexit = False
            self._loop = loop
        if self._loop is not loop:
            raise ClientError(f"{self!r} belongs to another event loop: make one client for each loop")
        return self._transport
