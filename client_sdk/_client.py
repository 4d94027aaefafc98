"""The blocking client."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
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
from client_sdk._call.texts import Pairs, Text, Texts, Tokens
from client_sdk._reconnecting import Reconnecting
from client_sdk._session import Session
from client_sdk._settings import make_settings
from client_sdk._similarity import similarity_of
from client_sdk._transport.address import Url
from client_sdk._transport.connection import FilePath
from client_sdk._typing import Unpack


class Client(Reconnecting):
    """Texts to vectors, through one server or several. Threads may share a client; it connects when it is first used.

    Args:
        url: `host:port` or `grpc://host:port` (gRPC, port 8001 if left out), `grpcs://` for gRPC over TLS,
            `http://` or `https://` (port 8000 if left out). Default: CLIENT_SDK_URL, or `localhost:8001`. Several
            servers of the same model are given as a list, or with commas between them, all with one scheme: see
            below.
        model: The name of the family on the server. Default: CLIENT_SDK_MODEL, or `bert`.
        timeout: Seconds that a whole call may take, bulk included, unless the call is given its own. Default: a call
            takes as long as answers come, and fails when none came for 60 seconds, and 10 more for each 1,000 tokens
            (or characters, if that is less) that wait for theirs; an hour at most.
        headers: Sent with every request, such as those that a gateway expects.
        api_key: The key of a restricted server. It is sent as `authorization: Bearer KEY` (over gRPC with the prefix
            `triton-grpc-protocol-`), in the clear unless the scheme is `grpcs` or `https`, and to every address.
            Default: CLIENT_SDK_API_KEY, or none.
        root_certificates: PEM file of the authorities to trust (`grpcs` and `https`). Default: the system's.
        client_certificate: PEM file to show to the server, together with `client_key`.
        client_key: PEM file of the certificate's private key.

    Requests to several servers go to the one with the fewest on their way, in turn, and a single bulk call uses all.
    A server that cannot be reached, is busy, lacks the model or has lost a step is passed over, and what it did not
    take goes to another at once. It is tried again after 0.1 to 2 seconds if it was busy, after 1 to 30 otherwise. So
    is one that hangs: if it answers nothing for a second, nor then the question whether it lives, what waits there
    goes to another; and so it does at half of its time where a server lives and answers no request. A host name that
    stands for several addresses (such as a headless service of Kubernetes) counts as one server; over gRPC its
    addresses take requests in turn.

    All vectors of a call are of one model: each request names the identity (see `ModelInfo`) of the model that is to
    answer it, and servers refuse those for another. A server with another model is passed over by a call that has
    begun; if none has the first one any more, the call ends with VersionChanged. It is not known, and so cannot be
    compared, with exports that are older than identities, and where the model's configuration is closed to this
    client by a key; then version numbers alone are compared.

    A client is pickled and copied by its settings, its key and headers included, and connects anew where it lands: it
    may be given to other processes (multiprocessing, Spark, Ray, Dask), and its pickle is as secret as the key.

    Every method that talks to the server raises these, beside what it names.

    Raises:
        ServerUnreachable: There is no connection, at once if there never was one; a lost one is retried for
            20 seconds, within the timeout.
        ServerBusy: The server kept answering that it cannot take the request, until the timeout: its queue is full,
            or the model is not loaded.
        DeadlineExceeded: The timeout passed, or without one nothing was answered; it says how far the call came.
        ModelNotFound: The server does not have the model.
        AccessDenied: The endpoint is restricted, and `api_key` (or a header) was not given, or is another one.
        StepDied: The process of one of the model's steps has died, and was not brought back before the timeout.
        VersionChanged: The model was replaced in the middle of the call, as may happen while servers are updated: call
            again.
        ServerError: The server failed.
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
        settings = make_settings(
            url,
            model,
            timeout=timeout,
            headers=headers,
            api_key=api_key,
            root_certificates=root_certificates,
            client_certificate=client_certificate,
            client_key=client_key,
        )
        self._session = Session(settings, "Client")

    @overload
    def encode(
        self, texts: Texts, *, precision: Literal["float32"] = ..., **options: Unpack[EncodeOptions]
    ) -> npt.NDArray[np.float32]: ...

    @overload
    def encode(self, texts: Texts, *, precision: str, **options: Unpack[EncodeOptions]) -> npt.NDArray[Any]: ...

    @named
    def encode(
        self,
        texts: Texts,
        *,
        pooling: str | None = None,
        normalize: bool | None = None,
        truncate_dim: int | None = None,
        precision: str = "float32",
        ranges: npt.ArrayLike | None = None,
        max_seq_len: int | None = None,
        truncate: bool = True,
        truncation_side: str | None = None,
        pair_truncation: str | None = None,
        is_tokenized: bool = False,
        add_special_tokens: bool = True,
        split_special_tokens: bool | None = None,
        mask_cls_sep: bool = False,
        prompt: str | None = None,
        prompt_name: str | None = None,
        model_version: int | None = None,
        priority: str | None = None,
        batch_size: int | None = None,
        show_progress: bool = False,
        timeout: float | None = None,
    ) -> npt.NDArray[Any]:
        """Encode each text into one vector.

        Options left at None are as the model was exported (see `info`).

        Args:
            texts: A str, or any iterable of str, which may be a generator. An element that is a tuple of two str is
                a pair, encoded together; `texts` itself may be a tuple, as it may be a list. A stream is read a few
                thousand texts or half a second ahead, in the caller's own thread; one that blocks holds the call up.
                What has no order or several columns (a set, a mapping, a table) is refused with what to write.
            pooling: `mean`, `max`, `mean_max`, `cls`, `last` (or `lasttoken`); `mean_sqrt_len_tokens`, `weightedmean`
                and `pooler` if the model has them; or several joined by "+", side by side: `cls+mean`.
            normalize: Whether vectors are scaled to length 1.
            truncate_dim: Keep this many numbers of each vector, cut before it is normalised.
            precision: `float32`, or in less memory, converted here batch by batch as sentence-transformers'
                `quantize_embeddings` does: `float16`; `int8` or `uint8`, each number in 256 steps of its range;
                `binary` (int8) or `ubinary` (uint8), the signs alone, eight numbers in one byte.
            ranges: For `int8` and `uint8`: the least and the largest value of each number, [2, D], from vectors of
                texts like these with the same options. Default: those that the export has measured on sentences of
                its own, which the server is asked for; with another `pooling`, `normalize` or `truncate_dim` than the
                model's own they have to be given.
            max_seq_len: Use this many tokens of a text, special tokens included; no more than the model's.
            truncate: False makes a text of more than `max_seq_len` tokens an error instead of cutting it.
            truncation_side: Where a longer text loses tokens: `right` keeps its first ones, `left` its last. Default:
                as the checkpoint's tokenizer, which is the right for nearly all.
            pair_truncation: Which text of a pair keeps the odd token when both are cut: `longest_first` (the longer,
                as transformers) or `bert_as_service` (the first). Default: the former; the latter with `is_tokenized`.
            is_tokenized: Each text is a list of tokens, taken as they stand and [UNK] if the model does not know them;
                `"|||"` stands between those of a pair. Or it is a list of ids, as the model's own tokenizer gives them
                for a text, special tokens included. An array of either will do.
            add_special_tokens: False leaves [CLS] and [SEP] out, only with `is_tokenized`; a pair always has them. Ids
                are taken as they stand.
            split_special_tokens: Whether a special token written in a text, such as "[MASK]", is cut up like any word.
            mask_cls_sep: [CLS] and [SEP] are neither attended to nor pooled.
            prompt: Put before each text.
            prompt_name: The same, by the name of one of the model's prompts. Not together with `prompt`.
            model_version: The version of the model to use, among those that are served. Default: the highest.
            priority: `interactive`, or `bulk` for a call whose texts the network takes after those of the others.
                Default: `bulk` for a call that does not fit into one request.
            batch_size: Texts in a request; no more than the server takes are sent at once. Default: 64, and of longer
                texts as many as have no more tokens than 64 texts of 512.
            show_progress: Show a bar on standard error; needs tqdm.
            timeout: Seconds for the whole call, the time that an iterable takes to give its texts included. Default:
                the client's; without one, the call fails when no answer came for 60 seconds, and 10 more for each
                1,000 tokens that wait for theirs.

        Returns:
            [N, D] float32 in the order of the texts, or [D] for a single str. With another precision, [N, D] float16,
            int8 or uint8; for `binary` and `ubinary` [N, ceil(D / 8)].

        Raises:
            InvalidArgument: No texts, a blank or too long one, an option that is not allowed, or a model that gives
                something else than a vector of a text; the message says what.
            InvalidType: A text that is not a str, or an option of the wrong type.
        """
        options: VectorOptions = {
            "pooling": pooling,
            "normalize": normalize,
            "truncate_dim": truncate_dim,
            "precision": precision,
            "ranges": ranges,
            "max_seq_len": max_seq_len,
            "truncate": truncate,
            "truncation_side": truncation_side,
            "pair_truncation": pair_truncation,
            "is_tokenized": is_tokenized,
            "add_special_tokens": add_special_tokens,
            "split_special_tokens": split_special_tokens,
            "mask_cls_sep": mask_cls_sep,
            "prompt": prompt,
            "prompt_name": prompt_name,
            "model_version": model_version,
            "priority": priority,
            "batch_size": batch_size,
            "show_progress": show_progress,
            "timeout": timeout,
        }
        return self._session.encode(texts, options)

    @overload
    def encode_query(
        self, texts: Texts, *, precision: Literal["float32"] = ..., **options: Unpack[EncodeOptions]
    ) -> npt.NDArray[np.float32]: ...

    @overload
    def encode_query(self, texts: Texts, *, precision: str, **options: Unpack[EncodeOptions]) -> npt.NDArray[Any]: ...

    @as_in(encode)
    def encode_query(self, texts: Texts, **options: Unpack[VectorOptions]) -> npt.NDArray[Any]:
        """Encode what is searched for: `encode` with the model's prompt "query".

        A model without one puts nothing before these texts, whatever its default prompt is, as in
        sentence-transformers; `prompt` or `prompt_name`, if given, takes its place.

        Returns:
            [N, D] float32 in the order of the texts, or [D] for a single str.
        """
        return self._session.encode(texts, {**options, "input_type": "query"})

    @overload
    def encode_document(
        self, texts: Texts, *, precision: Literal["float32"] = ..., **options: Unpack[EncodeOptions]
    ) -> npt.NDArray[np.float32]: ...

    @overload
    def encode_document(
        self, texts: Texts, *, precision: str, **options: Unpack[EncodeOptions]
    ) -> npt.NDArray[Any]: ...

    @as_in(encode)
    def encode_document(self, texts: Texts, **options: Unpack[VectorOptions]) -> npt.NDArray[Any]:
        """Encode what is searched in: `encode` with the model's prompt "document", else "passage", else "corpus".

        A model without any of them puts nothing before these texts; the rest is as in `encode_query`.

        Returns:
            [N, D] float32 in the order of the texts, or [D] for a single str.
        """
        return self._session.encode(texts, {**options, "input_type": "document"})

    @overload
    def encode_iter(
        self, texts: Texts, *, precision: Literal["float32"] = ..., **options: Unpack[EncodeOptions]
    ) -> Generator[npt.NDArray[np.float32], None, None]: ...

    @overload
    def encode_iter(
        self, texts: Texts, *, precision: str, **options: Unpack[EncodeOptions]
    ) -> Generator[npt.NDArray[Any], None, None]: ...

    @as_in(encode)
    def encode_iter(self, texts: Texts, **options: Unpack[VectorOptions]) -> Generator[npt.NDArray[Any], None, None]:
        """Encode a stream, which may never end, and yield its vectors in order as they come, in bounded memory.

        Texts are read and sent as in `encode`, up to 4,096 at a time, and those that were read together come back
        together; at most three such blocks are held. Nothing new is read or sent while the caller works on a block.
        Closing the iterator gives up what is on its way. Arguments are those of `encode`, but that `texts` is no single
        str and the default `priority` is `bulk`; errors too, once the iterator comes to them: what the stream raises,
        or has that is no text, behind the blocks that were read before it. A `timeout` counts from the first block that
        is asked for, and the time between blocks with it. A blocking stream that pauses holds back what was read last;
        to `AsyncClient` it does not.

        Yields:
            [n, D] float32, or of another `precision`: the next n texts.
        """
        return self._session.encode_iter(texts, options)

    @overload
    def encode_tokens(self, texts: str, **options: Unpack[TokenOptions]) -> TokenVectors: ...  # type: ignore[overload-overlap]

    @overload
    def encode_tokens(self, texts: Iterable[Text | Tokens], **options: Unpack[TokenOptions]) -> list[TokenVectors]: ...

    @named
    def encode_tokens(
        self,
        texts: Texts,
        *,
        max_seq_len: int | None = None,
        truncate: bool = True,
        truncation_side: str | None = None,
        pair_truncation: str | None = None,
        is_tokenized: bool = False,
        add_special_tokens: bool = True,
        split_special_tokens: bool | None = None,
        mask_cls_sep: bool = False,
        prompt: str | None = None,
        prompt_name: str | None = None,
        model_version: int | None = None,
        priority: str | None = None,
        batch_size: int | None = None,
        show_progress: bool = False,
        timeout: float | None = None,
    ) -> TokenVectors | list[TokenVectors]:
        """Encode each text into one vector a token. Arguments and errors are as in `encode`.

        Returns:
            One `TokenVectors` a text, in the order of the texts: its T tokens and [T, D] float32, special
            tokens included and no padding. For a single str, that one item.
        """
        options: TokenOptions = {
            "max_seq_len": max_seq_len,
            "truncate": truncate,
            "truncation_side": truncation_side,
            "pair_truncation": pair_truncation,
            "is_tokenized": is_tokenized,
            "add_special_tokens": add_special_tokens,
            "split_special_tokens": split_special_tokens,
            "mask_cls_sep": mask_cls_sep,
            "prompt": prompt,
            "prompt_name": prompt_name,
            "model_version": model_version,
            "priority": priority,
            "batch_size": batch_size,
            "show_progress": show_progress,
            "timeout": timeout,
        }
        return self._session.call(TOKEN_VECTORS, texts, options)

    @overload
    def count_tokens(self, texts: str, **options: Unpack[CountOptions]) -> int: ...  # type: ignore[overload-overlap]

    @overload
    def count_tokens(
        self, texts: Iterable[Text | Tokens], **options: Unpack[CountOptions]
    ) -> npt.NDArray[np.int64]: ...

    @named
    def count_tokens(
        self,
        texts: Texts,
        *,
        is_tokenized: bool = False,
        add_special_tokens: bool = True,
        split_special_tokens: bool | None = None,
        prompt: str | None = None,
        prompt_name: str | None = None,
        model_version: int | None = None,
        batch_size: int | None = None,
        show_progress: bool = False,
        timeout: float | None = None,
    ) -> int | npt.NDArray[np.int64]:
        """Count each text's tokens, special tokens and prompt included, before anything is cut off.

        Only the tokenizer runs. Arguments and errors are as in `encode`.

        Returns:
            [N] int64 in the order of the texts, or an int for a single str.
        """
        options: CountOptions = {
            "is_tokenized": is_tokenized,
            "add_special_tokens": add_special_tokens,
            "split_special_tokens": split_special_tokens,
            "prompt": prompt,
            "prompt_name": prompt_name,
            "model_version": model_version,
            "batch_size": batch_size,
            "show_progress": show_progress,
            "timeout": timeout,
        }
        return self._session.call(COUNTS, texts, options)

    @named
    def score(
        self,
        pairs: Pairs,
        *,
        activation: str | None = None,
        max_seq_len: int | None = None,
        truncate: bool = True,
        truncation_side: str | None = None,
        prompt: str | None = None,
        prompt_name: str | None = None,
        model_version: int | None = None,
        priority: str | None = None,
        batch_size: int | None = None,
        show_progress: bool = False,
        timeout: float | None = None,
    ) -> npt.NDArray[np.float32] | float:
        """Score how well the two texts of each pair fit together, by a cross-encoder.

        As sentence-transformers' CrossEncoder.predict. Other arguments and errors are as in `encode`.

        Args:
            pairs: An iterable of tuples of two str, such as (query, document), or one such tuple.
            activation: What makes scores of logits: `sigmoid`, `softmax` (over the labels of a pair) or `none`.
                Default: the checkpoint's own, see `info`.
            max_seq_len: As in `encode`.
            truncate: As in `encode`.
            truncation_side: As in `encode`.
            prompt: Put before the first text of each pair.
            prompt_name: The same, by the name of one of the model's prompts.
            model_version: As in `encode`.
            priority: As in `encode`.
            batch_size: Pairs in a request.
            show_progress: As in `encode`.
            timeout: As in `encode`.

        Returns:
            [N] float32 in the order of the pairs, or [N, L] where the model has L labels, more than one; for a single
            pair a float, or [L].

        Raises:
            InvalidArgument: No pairs, a blank text, or the model gives vectors.
            InvalidType: What is no pair of str.
        """
        options: ScoreOptions = {
            "activation": activation,
            "max_seq_len": max_seq_len,
            "truncate": truncate,
            "truncation_side": truncation_side,
            "prompt": prompt,
            "prompt_name": prompt_name,
            "model_version": model_version,
            "priority": priority,
            "batch_size": batch_size,
            "show_progress": show_progress,
            "timeout": timeout,
        }
        return self._session.call(SCORES, open_pairs(pairs), options)

    @as_in(score)
    def rerank(
        self, query: str, documents: Iterable[str], *, top_k: int | None = None, **options: Unpack[ScoreOptions]
    ) -> list[Ranked]:
        """Rank documents by how well they answer a query, by a cross-encoder.

        As sentence-transformers' CrossEncoder.rank. Options and errors are as in `score`.

        Args:
            query: What the documents are to answer.
            documents: Any iterable of str. A stream, such as a generator, is read as it is scored, and of its texts no
                more are kept than are on their way and among the best.
            top_k: How many to return. Default: all.
            **options: As in `score`.

        Returns:
            The documents, each with its place among those given and its score, best first; of equal ones the earlier
            first.

        Raises:
            InvalidArgument: A blank query or document, no documents, or a model that gives vectors or several scores a
                pair.
            InvalidType: A query or document that is no str.
        """
        ranking = Ranking(query, documents, top_k)
        return self._session.call(ranking.kind, ranking.source, options)

    @overload
    def classify(self, texts: str, **options: Unpack[TopOptions]) -> list[Label]: ...  # type: ignore[overload-overlap]

    @overload
    def classify(self, texts: Iterable[Text], **options: Unpack[TopOptions]) -> list[list[Label]]: ...

    @as_in(score)
    def classify(
        self, texts: Texts, *, top_k: int | None = None, **options: Unpack[ScoreOptions]
    ) -> list[Label] | list[list[Label]]:
        """Say how well each of a classifier's labels fits each text.

        As transformers' text-classification pipeline. Options and errors are as in `score`.

        Args:
            texts: A str, or any iterable of str and pairs, as in `encode`.
            top_k: How many labels of each text to return. Default: all.
            **options: As in `score`.

        Returns:
            For each text its labels with their scores, best first; for a single str those of it.
        """
        top_k = checked_top_k(top_k)
        asked = labels_of(self._session.settings.model)
        return self._session.call_knowing(asked, lambda known: labels(*known, top_k), texts, options)

    @named
    def similarity(
        self, a: Comparable, b: Comparable, *, metric: str | None = None, timeout: float | None = None
    ) -> npt.NDArray[np.float32]:
        """Compare each vector of `a` with each of `b`, here and not on the server.

        Args:
            a: Vectors of `encode`: [N, D], or one [D]. Of a model for late interaction the queries: N arrays of
                `encode_multi`, or one; of one of sparse vectors those of `encode_sparse`, together or in a list.
            b: The same: [M, D], or one [D]; the documents.
            metric: `cosine`, `dot`, `euclidean` or `manhattan`, the last two negative distances; `maxsim` or
                `meanmaxsim` for late interaction (see `client_sdk.maxsim`). Default: what the checkpoint was trained
                for (`ModelInfo.similarity`), which is asked from the server each time; of sparse vectors `dot`.
            timeout: Seconds for that question.

        Returns:
            [N, M] float32, larger for nearer vectors.

        Raises:
            InvalidArgument: Vectors of unlike lengths, or a metric that is not known.
            InvalidType: Vectors of integers, as `encode` gives them with a `precision`.
        """
        if is_sparse(a) or is_sparse(b):
            return sparse_similarity(cast(Sparse, a), cast(Sparse, b), metric)
        if metric is None:
            settings = self._session.settings
            metric = self._session.ask(similarity_metric(settings.model), settings.deadline(timeout))
        return similarity_of(cast(npt.ArrayLike, a), cast(npt.ArrayLike, b), metric)

    @overload
    def encode_sparse(self, texts: str, **options: Unpack[SparseOptions]) -> SparseVector: ...  # type: ignore[overload-overlap]

    @overload
    def encode_sparse(self, texts: Iterable[Text], **options: Unpack[SparseOptions]) -> SparseVectors: ...

    @named
    def encode_sparse(
        self,
        texts: Texts,
        *,
        max_active_dims: int | None = None,
        max_seq_len: int | None = None,
        truncate: bool = True,
        truncation_side: str | None = None,
        prompt: str | None = None,
        prompt_name: str | None = None,
        model_version: int | None = None,
        priority: str | None = None,
        batch_size: int | None = None,
        show_progress: bool = False,
        timeout: float | None = None,
    ) -> SparseVector | SparseVectors:
        """Encode each text into a sparse vector over the vocabulary, as SPLADE does, or BGE-M3 by its lexical weights.

        As sentence-transformers' SparseEncoder.encode, or FlagEmbedding's `lexical_weights`. Other arguments and errors
        are as in `encode`.

        Args:
            texts: As in `encode`.
            max_active_dims: Keep so many words of a text, the heaviest. Default: the checkpoint's own, or all.
            max_seq_len: As in `encode`.
            truncate: As in `encode`.
            truncation_side: As in `encode`.
            prompt: As in `encode`.
            prompt_name: As in `encode`.
            model_version: As in `encode`.
            priority: As in `encode`.
            batch_size: As in `encode`.
            show_progress: As in `encode`.
            timeout: As in `encode`.

        Returns:
            The words of each text that weigh something, and their weights; for a single str, of that.

        Raises:
            InvalidArgument: As in `encode`; or the model gives no sparse vectors.
        """
        options: SparseOptions = {
            "max_active_dims": max_active_dims,
            "max_seq_len": max_seq_len,
            "truncate": truncate,
            "truncation_side": truncation_side,
            "prompt": prompt,
            "prompt_name": prompt_name,
            "model_version": model_version,
            "priority": priority,
            "batch_size": batch_size,
            "show_progress": show_progress,
            "timeout": timeout,
        }
        asked = sparse_dimension(self._session.settings.model)
        return self._session.call_knowing(asked, lambda known: sparse_vectors(*known), texts, options)

    @overload
    def encode_multi(self, texts: str, **options: Unpack[MultiOptions]) -> npt.NDArray[np.float32]: ...  # type: ignore[overload-overlap]

    @overload
    def encode_multi(self, texts: Iterable[str], **options: Unpack[MultiOptions]) -> list[npt.NDArray[np.float32]]: ...

    @named
    def encode_multi(
        self,
        texts: str | Iterable[str],
        *,
        input_type: str | None = None,
        max_seq_len: int | None = None,
        truncate: bool = True,
        truncation_side: str | None = None,
        prompt: str | None = None,
        prompt_name: str | None = None,
        model_version: int | None = None,
        priority: str | None = None,
        batch_size: int | None = None,
        show_progress: bool = False,
        timeout: float | None = None,
    ) -> npt.NDArray[np.float32] | list[npt.NDArray[np.float32]]:
        """Encode each text into the vectors of its tokens, for late interaction (ColBERT); `maxsim` compares them.

        As sentence-transformers' MultiVectorEncoder: `encode_query`, `encode_document` and, without an `input_type`,
        `encode`; of BGE-M3 FlagEmbedding's `colbert_vecs`. Other arguments and errors are as in `encode`.

        Args:
            texts: A str, or any iterable of str.
            input_type: `query` or `document`, which such models treat differently: each is marked as what it is, a
                query may be filled up to a fixed length, and of a document some tokens, such as punctuation, are left
                out.
            max_seq_len: As in `encode`; of queries that are filled up to a length no less than that.
            truncate: As in `encode`.
            truncation_side: As in `encode`.
            prompt: As in `encode`; it takes the place of what marks a query or document.
            prompt_name: As in `encode`.
            model_version: As in `encode`.
            priority: As in `encode`.
            batch_size: As in `encode`.
            show_progress: As in `encode`.
            timeout: As in `encode`.

        Returns:
            For each text [T, D] float32, the vectors of those of its tokens that count; for a single str that one.

        Raises:
            InvalidArgument: As in `encode`; or the model gives no vectors for late interaction.
        """
        options: MultiOptions = {
            "input_type": input_type,
            "max_seq_len": max_seq_len,
            "truncate": truncate,
            "truncation_side": truncation_side,
            "prompt": prompt,
            "prompt_name": prompt_name,
            "model_version": model_version,
            "priority": priority,
            "batch_size": batch_size,
            "show_progress": show_progress,
            "timeout": timeout,
        }
        asked = multi_dimension(self._session.settings.model)
        return self._session.call_knowing(asked, lambda known: late_vectors(*known), texts, options, pairs=False)

    def info(self, *, timeout: float | None = None) -> ModelInfo:
        """Ask the server what the model is: its dimension, limits and defaults."""
        return self._session.info(self._session.settings.deadline(timeout))

    def is_ready(self, *, timeout: float | None = None) -> bool:
        """Whether the server (of several, any) is there and can serve the model now; asked once, without retries."""
        return self._session.is_ready(self._session.settings.deadline(timeout))

    def close(self) -> None:
        """Drop the connections. A call after this raises ClientError."""
        self._session.close()

    def __enter__(self) -> Client:
        """The client itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close it."""
        self.close()

    def __repr__(self) -> str:
        """Addresses and model."""
        return repr(self._session)
