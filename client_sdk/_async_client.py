"""The asynchronous client."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from typing import Any, Literal, cast, overload

import numpy as np
import numpy.typing as npt

from client_sdk._call.argument_names import as_in, named
from client_sdk._call.collect import TokenVectors
from client_sdk._call.kinds import COUNTS, TOKEN_VECTORS, late_vectors
from client_sdk._call.options import (
    CountOptions,
    EncodeOptions,
    MultiOptions,
    ScoreOptions,
    SparseOptions,
    TokenOptions,
    TopOptions,
    VectorOptions,
)
from client_sdk._call.questions import ModelInfo, labels_of, multi_dimension, similarity_metric, sparse_dimension
from client_sdk._call.scores import SCORES, Label, Ranked, Ranking, checked_top_k, labels, open_pairs
from client_sdk._call.sparse import (
    Comparable,
    Sparse,
    SparseVector,
    SparseVectors,
    is_sparse,
    sparse_similarity,
    sparse_vectors,
)
from client_sdk._call.texts import AnyPairs, Text, Tokens
from client_sdk._call.texts import AnyTexts as Texts
from client_sdk._client import Client
from client_sdk._reconnecting import Reconnecting
from client_sdk._session import AsyncSession
from client_sdk._settings import ClientOptions, make_settings
from client_sdk._similarity import similarity_of
from client_sdk._transport.address import Url
from client_sdk._typing import Unpack


class AsyncClient(Reconnecting):
    """`Client`, to be awaited: the same arguments, methods, results and errors.

    It belongs to the event loop in which it is first used; any number of its tasks may share it. Its connections end
    with the loop, if it is not closed before (by asyncio.run; one who closes a loop by hand closes the client first).
    Texts may also come from an asynchronous iterable. A generator is read in a thread of its own, so that one that
    blocks does not block the loop; what must stay in the loop's thread is given as an asynchronous one.
    """

    @as_in(Client.__init__)
    def __init__(self, url: Url | None = None, model: str | None = None, **options: Unpack[ClientOptions]) -> None:
        self._session = AsyncSession(make_settings(url, model, **options), "AsyncClient")

    @overload
    async def encode(
        self, texts: Texts, *, precision: Literal["float32"] = ..., **options: Unpack[EncodeOptions]
    ) -> npt.NDArray[np.float32]: ...

    @overload
    async def encode(self, texts: Texts, *, precision: str, **options: Unpack[EncodeOptions]) -> npt.NDArray[Any]: ...

    @as_in(Client.encode)
    async def encode(self, texts: Texts, **options: Unpack[VectorOptions]) -> npt.NDArray[Any]:
        """Encode each text into one vector: [N, D] float32, or [D] for a single str. See `Client.encode`."""
        return await self._session.encode(texts, options)

    @overload
    async def encode_query(
        self, texts: Texts, *, precision: Literal["float32"] = ..., **options: Unpack[EncodeOptions]
    ) -> npt.NDArray[np.float32]: ...

    @overload
    async def encode_query(
        self, texts: Texts, *, precision: str, **options: Unpack[EncodeOptions]
    ) -> npt.NDArray[Any]: ...

    @as_in(Client.encode_query)
    async def encode_query(self, texts: Texts, **options: Unpack[VectorOptions]) -> npt.NDArray[Any]:
        """Encode what is searched for, with the model's prompt "query". See `Client.encode_query`."""
        return await self._session.encode(texts, {**options, "input_type": "query"})

    @overload
    async def encode_document(
        self, texts: Texts, *, precision: Literal["float32"] = ..., **options: Unpack[EncodeOptions]
    ) -> npt.NDArray[np.float32]: ...

    @overload
    async def encode_document(
        self, texts: Texts, *, precision: str, **options: Unpack[EncodeOptions]
    ) -> npt.NDArray[Any]: ...

    @as_in(Client.encode_document)
    async def encode_document(self, texts: Texts, **options: Unpack[VectorOptions]) -> npt.NDArray[Any]:
        """Encode what is searched in, with the model's prompt "document" or "passage". See `Client.encode_document`."""
        return await self._session.encode(texts, {**options, "input_type": "document"})

    @overload
    def encode_iter(
        self, texts: Texts, *, precision: Literal["float32"] = ..., **options: Unpack[EncodeOptions]
    ) -> AsyncGenerator[npt.NDArray[np.float32], None]: ...

    @overload
    def encode_iter(
        self, texts: Texts, *, precision: str, **options: Unpack[EncodeOptions]
    ) -> AsyncGenerator[npt.NDArray[Any], None]: ...

    @as_in(Client.encode_iter)
    def encode_iter(self, texts: Texts, **options: Unpack[VectorOptions]) -> AsyncGenerator[npt.NDArray[Any], None]:
        """Encode a stream, and yield its vectors in order as they come: `async for`. See `Client.encode_iter`.

        A loop that is left early closes the iterator a little later; `contextlib.aclosing` closes it at once.
        """
        return self._session.encode_iter(texts, options)

    @overload
    async def encode_tokens(self, texts: str, **options: Unpack[TokenOptions]) -> TokenVectors: ...  # type: ignore[overload-overlap]

    @overload
    async def encode_tokens(
        self, texts: Iterable[Text | Tokens] | AsyncIterable[Text | Tokens], **options: Unpack[TokenOptions]
    ) -> list[TokenVectors]: ...

    @as_in(Client.encode_tokens)
    async def encode_tokens(self, texts: Texts, **options: Unpack[TokenOptions]) -> TokenVectors | list[TokenVectors]:
        """Encode each text into one vector a token: one `TokenVectors` a text. See `Client.encode_tokens`."""
        return await self._session.call(TOKEN_VECTORS, texts, options)

    @overload
    async def count_tokens(self, texts: str, **options: Unpack[CountOptions]) -> int: ...  # type: ignore[overload-overlap]

    @overload
    async def count_tokens(
        self, texts: Iterable[Text | Tokens] | AsyncIterable[Text | Tokens], **options: Unpack[CountOptions]
    ) -> npt.NDArray[np.int64]: ...

    @as_in(Client.count_tokens)
    async def count_tokens(self, texts: Texts, **options: Unpack[CountOptions]) -> int | npt.NDArray[np.int64]:
        """Count each text's tokens before anything is cut off: [N] int64. See `Client.count_tokens`."""
        return await self._session.call(COUNTS, texts, options)

    @as_in(Client.score)
    async def score(self, pairs: AnyPairs, **options: Unpack[ScoreOptions]) -> npt.NDArray[np.float32] | float:
        """Score how well the texts of each pair fit together: [N] float32. See `Client.score`."""
        return await self._session.call(SCORES, open_pairs(pairs, asynchronous=True), options)

    @as_in(Client.rerank)
    async def rerank(
        self, query: str, documents: Iterable[str] | AsyncIterable[str], **options: Unpack[TopOptions]
    ) -> list[Ranked]:
        """Rank documents by how well they answer a query, best first. See `Client.rerank`."""
        ranking = Ranking(query, documents, options.pop("top_k", None), asynchronous=True)
        return await self._session.call(ranking.kind, ranking.source, options)

    @overload
    async def classify(self, texts: str, **options: Unpack[TopOptions]) -> list[Label]: ...  # type: ignore[overload-overlap]

    @overload
    async def classify(
        self, texts: Iterable[Text] | AsyncIterable[Text], **options: Unpack[TopOptions]
    ) -> list[list[Label]]: ...

    @as_in(Client.classify)
    async def classify(self, texts: Texts, **options: Unpack[TopOptions]) -> list[Label] | list[list[Label]]:
        """Say how well each of a classifier's labels fits each text, best first. See `Client.classify`."""
        top_k = checked_top_k(options.pop("top_k", None))
        asked = labels_of(self._session.settings.model)
        return await self._session.call_knowing(asked, lambda known: labels(*known, top_k), texts, options)

    @named
    async def similarity(
        self, a: Comparable, b: Comparable, *, metric: str | None = None, timeout: float | None = None
    ) -> npt.NDArray[np.float32]:
        """Compare each vector of `a` with each of `b`: [N, M] float32. See `Client.similarity`."""
        if is_sparse(a) or is_sparse(b):
            return sparse_similarity(cast(Sparse, a), cast(Sparse, b), metric)
        if metric is None:
            settings = self._session.settings
            metric = await self._session.ask(similarity_metric(settings.model), settings.deadline(timeout))
        return similarity_of(cast(npt.ArrayLike, a), cast(npt.ArrayLike, b), metric)

    @overload
    async def encode_sparse(self, texts: str, **options: Unpack[SparseOptions]) -> SparseVector: ...  # type: ignore[overload-overlap]

    @overload
    async def encode_sparse(
        self, texts: Iterable[Text] | AsyncIterable[Text], **options: Unpack[SparseOptions]
    ) -> SparseVectors: ...

    @as_in(Client.encode_sparse)
    async def encode_sparse(self, texts: Texts, **options: Unpack[SparseOptions]) -> SparseVector | SparseVectors:
        """Encode each text into a sparse vector over the vocabulary. See `Client.encode_sparse`."""
        asked = sparse_dimension(self._session.settings.model)
        return await self._session.call_knowing(asked, lambda known: sparse_vectors(*known), texts, options)

    @overload
    async def encode_multi(self, texts: str, **options: Unpack[MultiOptions]) -> npt.NDArray[np.float32]: ...  # type: ignore[overload-overlap]

    @overload
    async def encode_multi(
        self, texts: Iterable[str] | AsyncIterable[str], **options: Unpack[MultiOptions]
    ) -> list[npt.NDArray[np.float32]]: ...

    @as_in(Client.encode_multi)
    async def encode_multi(
        self, texts: str | Iterable[str] | AsyncIterable[str], **options: Unpack[MultiOptions]
    ) -> npt.NDArray[np.float32] | list[npt.NDArray[np.float32]]:
        """Encode each text into the vectors of its tokens, for late interaction. See `Client.encode_multi`."""
        asked = multi_dimension(self._session.settings.model)
        return await self._session.call_knowing(asked, lambda known: late_vectors(*known), texts, options, pairs=False)

    async def info(self, *, timeout: float | None = None) -> ModelInfo:
        """Ask the server what the model is: its dimension, limits and defaults."""
        return await self._session.info(self._session.settings.deadline(timeout))

    async def is_ready(self, *, timeout: float | None = None) -> bool:
        """Whether the server (of several, any) is there and can serve the model now; asked once, without retries."""
        return await self._session.is_ready(self._session.settings.deadline(timeout))

    async def close(self) -> None:
        """Drop the connections. A call after this raises ClientError."""
        await self._session.close()

    async def __aenter__(self) -> AsyncClient:
        """The client itself."""
        return self

    async def __aexit__(self, *error: object) -> None:
        """Close it."""
        await self.close()

    def __repr__(self) -> str:
        """Addresses and model."""
        return repr(self._session)
