"""The two clients."""

from __future__ import annotations

import threading
import time
import uuid
import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from client_sdk._call.job import one_model
from client_sdk._call.kinds import COUNTED_TOKEN_VECTORS, COUNTED_VECTORS, TOKENS
from client_sdk._call.options import request_parameters
from client_sdk._call.plan import IN_FLIGHT
from client_sdk._call.questions import ModelInfo, model_info, served
from client_sdk._call.texts import Text, Texts, Tokens
from client_sdk._checks import positive_int
from client_sdk._errors import DeadlineExceeded, InvalidArgument
from client_sdk._reconnecting import Reconnecting
from client_sdk._session import Session
from client_sdk._settings import default_model, make_settings
from client_sdk._transport.base import Parameters
from client_sdk._transport.retry import Deadline
from client_sdk._version import __version__
from client_sdk.bert_as_service._arguments import POOLING_NUMBERS, POOLINGS, checked_max_seq_len, read_texts, server_url
from client_sdk.bert_as_service._backlog import Backlog
from client_sdk.bert_as_service._padding import joined, padded
from client_sdk.bert_as_service._read_ahead import read_ahead
from client_sdk.bert_as_service._timeout import deadline_after, no_response, patient


class Response(NamedTuple):
    """The result of a request that was not waited for."""

    id: int
    """Grows from request to request."""
    embedding: Any
    """As `encode` returns it."""
    tokens: Any
    """The tokens of each text with `show_tokens`, else an empty str."""


class _Encoded(NamedTuple):
    embedding: Any
    tokens: Any
    warning: str


class BertClient(Reconnecting):
    """bert-as-service's client, for a family on a Triton server.

    What its server was started with is said here instead, and may differ from client to client.

    Args:
        ip: Host name or address of the server.
        port: Triton's gRPC port. Default: 8001; with `ip` left out too, what CLIENT_SDK_URL says.
        port_out: Ignored; answers come back on the same connection.
        output_fmt: `ndarray`, or `list` for lists of lists of float.
        show_server_config: Print the server's configuration.
        identity: A name for `status` and `server_config`. Default: a random one. Any number of clients may share it.
        check_version: Ask the server what it serves, so that a wrong address or family is noticed here.
        check_length: Warn, once a call, how many texts were cut at `max_seq_len`. Asks as `check_version` does.
        check_token_info: As `check_version`; tokens can always be shown.
        ignore_all_checks: Ask nothing now, and give no warnings later.
        timeout: Milliseconds that a blocking call may take. -1: a minute and 10 seconds for each text, or
            for each 1,000 characters of a long one.
        model: The name of the family. Default: CLIENT_SDK_MODEL, or `bert`.
        pooling_strategy: NONE, REDUCE_MEAN, REDUCE_MAX, REDUCE_MEAN_MAX, CLS_TOKEN or FIRST_TOKEN, SEP_TOKEN or
            LAST_TOKEN, or CLS_POOLED. Default: the family's own.
        max_seq_len: Tokens of a text that are used, special tokens included, at least 4. None or "NONE": as many as
            the family takes.
        mask_cls_sep: [CLS] and [SEP] are neither attended to nor pooled; with NONE their vectors are zero.
        no_special_token: Leave them out of tokenized texts that are no pairs.

    It is pickled and copied by its settings, as `Client` is, and without the requests that are on their way.

    Every call that talks to the server raises what `Client` does, and NoResponse, which is both a ConnectionError
    and a TimeoutError, if the server is not there.
    """

    def __init__(
        self,
        ip: str = "localhost",
        port: int | None = None,
        port_out: int = 5556,
        output_fmt: str = "ndarray",
        show_server_config: bool = False,
        identity: str | bytes | None = None,
        check_version: bool = True,
        check_length: bool = True,
        check_token_info: bool = True,
        ignore_all_checks: bool = False,
        timeout: float = -1,
        *,
        model: str | None = None,
        pooling_strategy: str | None = None,
        max_seq_len: int | str | None = None,
        mask_cls_sep: bool = False,
        no_special_token: bool = False,
    ) -> None:
        if output_fmt not in ("ndarray", "list"):
            raise AttributeError('"output_fmt" must be "ndarray" or "list"')
        if pooling_strategy is not None and pooling_strategy not in POOLINGS:
            raise InvalidArgument(f"pooling_strategy {pooling_strategy!r} is not known; allowed: {', '.join(POOLINGS)}")
        self.ip = ip
        self.port = port
        self.port_out = port_out
        self.output_fmt = output_fmt
        self.identity = identity or str(uuid.uuid4()).encode()
        self.timeout = timeout
        self._model = default_model() if model is None else model
        self._strategy = pooling_strategy
        self._max_seq_len = checked_max_seq_len(max_seq_len)
        self._warn_above: int | None = None
        rules: dict[str, Any] = {
            "max_seq_len": self._max_seq_len,
            "pair_truncation": "bert_as_service",
            "mask_cls_sep": mask_cls_sep,
        }
        self._for_texts = request_parameters(**rules, split_special_tokens=True, prompt="")
        self._for_tokens = request_parameters(**rules, is_tokenized=True, add_special_tokens=not no_special_token)
        self._start_unconnected()
        self._session = Session(make_settings(server_url(ip, port), self._model), type(self).__name__)
        self._deadline()  # refuses a timeout that is none
        if not ignore_all_checks and (check_version or check_length or check_token_info or show_server_config):
            info = self._info()
            if check_length:
                self._warn_above = self._max_seq_len or info.max_seq_len
            if show_server_config:
                print("server config:")
                for name, value in self._config(info).items():
                    print(f"{name!s:>30}\t=\t{value!s:<30}")

    def encode(
        self,
        texts: list[str] | list[list[str]],
        blocking: bool = True,
        is_tokenized: bool = False,
        show_tokens: bool = False,
    ) -> Any:
        """Encode a list of texts; one of the form `one ||| other` is a pair.

        Args:
            texts: A list of str or, with `is_tokenized`, of lists of tokens, an element `|||` between those of a pair.
            blocking: False returns None at once, and `fetch` or `fetch_all` give the result.
            is_tokenized: Tokens are taken as they stand, and [UNK] if the model does not know them.
            show_tokens: Return (vectors, tokens), the tokens as a list for each text.

        Returns:
            [N, D] float32, or [N, T, D] with the pooling strategy NONE: zero at padding, and T is `max_seq_len` or,
            if that is None, the longest of these texts. With `output_fmt="list"`, lists of the same.

        Raises:
            TypeError: `texts` is not a list, or an element is not a str.
            ValueError: `texts` is empty, an element is blank, or the server refuses one or an option.
            TimeoutError: The timeout passed.
        """
        given = read_texts(texts, is_tokenized)
        if not blocking:
            self._backlog.start(partial(self._encode, given, is_tokenized, show_tokens, None))
            return None
        self._backlog.number()
        result = self._encode(given, is_tokenized, show_tokens, self._deadline(given))
        _warn(result)
        return (result.embedding, result.tokens) if show_tokens else result.embedding

    def fetch(self, delay: float = 0.0) -> Iterator[Response]:
        """Yield the results of `encode(blocking=False)` in the order sent, until none is left.

        What a request raises is raised in its place; fetch again for those behind it.

        Args:
            delay: Seconds to wait first.
        """
        time.sleep(delay)
        for number, result in self._backlog.fetch():
            _warn(result)
            yield Response(number, result.embedding, result.tokens)

    def fetch_all(self, sort: bool = True, concat: bool = False) -> Any:
        """Wait for all results of `encode(blocking=False)`.

        If a request failed, its error is raised, and the results of the others can still be fetched.

        Args:
            sort: Results come in the order sent, with or without it.
            concat: Join the results; vectors of tokens are padded to the longest.

        Returns:
            A list of what `encode` would have returned, or all in one with `concat`; None if nothing was sent.
        """
        results = [result for _, result in self._backlog.fetch_all()]
        for result in results:
            _warn(result)
        embeddings = [result.embedding for result in results]
        if not concat or not embeddings:
            return embeddings or None
        if self.output_fmt == "list":
            return [row for embedding in embeddings for row in embedding]
        return joined(embeddings)

    def encode_async(
        self,
        batch_generator: Iterable[list[str] | list[list[str]]],
        max_num_batch: int | None = None,
        delay: float = 0.1,
        *,
        is_tokenized: bool = False,
        show_tokens: bool = False,
    ) -> Iterator[Response]:
        """Encode the batches of a generator as it yields them, and yield the results in that order.

        The generator is read in a thread of its own, a few batches ahead, and may take its time.

        Args:
            batch_generator: Yields what `encode` takes.
            max_num_batch: Stop after this many batches.
            delay: Ignored; a result comes when it is there.
            is_tokenized: As in `encode`.
            show_tokens: Fill in `Response.tokens`.
        """
        batches = islice(batch_generator, max_num_batch or None)

        def start(texts: list[str] | list[list[str]]) -> Any:
            return self._backlog.run(
                partial(self._encode, read_texts(texts, is_tokenized), is_tokenized, show_tokens, None)
            )

        for number, future in read_ahead(batches, start, 2 * IN_FLIGHT):
            result = future.result()
            _warn(result)
            yield Response(number, result.embedding, result.tokens)

    @property
    def server_config(self) -> dict[str, Any]:
        """What of bert-as-service's configuration has a meaning here, asked from the server."""
        return self._config(self._info())

    @property
    def server_status(self) -> dict[str, Any]:
        """`server_config`, and what the family has answered so far as `statistic`."""
        with no_response():
            counts = self._session.ask(served(self._model), self._deadline())
        statistic = {
            "num_data_request": counts.requests,
            "num_total_request": counts.requests,
            "num_total_seq": counts.texts,
            "avg_size_per_request": counts.texts / max(1, counts.requests),
        }
        return {**self.server_config, "statistic": statistic}

    @property
    def status(self) -> dict[str, Any]:
        """The state of this client."""
        pending = self._backlog.unfetched
        return {
            "identity": self.identity,
            "num_request": self._backlog.started,
            "num_pending_request": len(pending),
            "pending_request": pending,
            "output_fmt": self.output_fmt,
            "port": self.port,
            "port_out": self.port_out,
            "server_ip": self.ip,
            "client_version": __version__,
            "timeout": self.timeout,
        }

    def close(self) -> None:
        """Drop the connections; requests that were not waited for are given up."""
        self._backlog.close()
        self._session.close()

    def __enter__(self) -> BertClient:
        """The client itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close it."""
        self.close()

    _left_behind = ("_backlog", "_places")

    def _start_unconnected(self) -> None:
        self._backlog: Backlog[_Encoded] = Backlog(IN_FLIGHT, per_thread=False)

    def _encode(self, texts: list[Any], is_tokenized: bool, show_tokens: bool, deadline: Deadline | None) -> _Encoded:
        deadline = deadline or patient(texts)
        with no_response(), one_model():  # vectors and tokens come by two calls
            parameters = self._for_tokens if is_tokenized else self._for_texts
            embedding, tokens, counts = self._ask(texts, parameters, show_tokens, deadline)
        if self.output_fmt == "list":
            embedding = embedding.tolist()
        return _Encoded(embedding, tokens if show_tokens else "", self._warning(counts))

    def _ask(
        self, texts: Texts, parameters: Parameters, show_tokens: bool, deadline: Deadline
    ) -> tuple[Any, list[list[str]], npt.NDArray[np.int64]]:
        """Vectors, tokens (with `show_tokens`, or where they come for nothing) and token counts."""
        if self._strategy == "NONE":
            items, counts = self._session.run(COUNTED_TOKEN_VECTORS.job(self._model, texts, parameters), deadline)
            return padded(items, self._max_seq_len), [item.tokens for item in items], counts
        pooling = POOLINGS[self._strategy] if self._strategy else None
        pooled = {**parameters, **request_parameters(pooling=pooling, normalize=False)}
        vectors, counts = self._session.run(COUNTED_VECTORS.job(self._model, texts, pooled), deadline)
        tokens = self._session.run(TOKENS.job(self._model, texts, parameters), deadline) if show_tokens else []
        return vectors, tokens, counts

    def _warning(self, counts: npt.NDArray[np.int64]) -> str:
        """What to say about texts that were cut; empty if there is nothing to say."""
        cut = 0 if self._warn_above is None else int((counts > self._warn_above).sum())
        if not cut:
            return ""
        return (
            f"{cut} of {len(counts)} texts have more tokens than max_seq_len={self._warn_above} and were cut: give the "
            "client (or the export, if that is the limit) a larger max_seq_len, or disable this warning by "
            "BertClient(check_length=False)"
        )

    def _deadline(self, texts: Sequence[Text | Tokens] = ("",)) -> Deadline:
        """The end of a blocking call that starts now."""
        return deadline_after(self.timeout, texts)

    def _info(self) -> ModelInfo:
        with no_response():
            return self._session.ask(model_info(self._model), self._deadline())

    def _config(self, info: ModelInfo) -> dict[str, Any]:
        pooling = POOLINGS[self._strategy] if self._strategy else info.pooling
        return {
            "client": self.identity if isinstance(self.identity, str) else self.identity.decode(errors="replace"),
            "model": info.model,
            "max_seq_len": self._max_seq_len or info.max_seq_len,
            "pooling_layer": list(info.layers),
            "pooling_strategy": POOLING_NUMBERS.get(pooling, pooling),  # of a pooling that it had not, the name
            "mask_cls_sep": "mask_cls_sep" in self._for_texts,
            "no_special_token": "add_special_tokens" in self._for_tokens,
            "show_tokens_to_client": True,
            "max_batch_size": info.max_batch_size,
            "port": self.port,
            "port_out": self.port_out,
            "server_version": info.server_version,
        }


class ConcurrentBertClient(BertClient):
    """A BertClient for many threads, of which no more than `max_concurrency` encode at the same time.

    The others wait for their turn, within their timeout. A thread fetches what it has sent itself.

    Args:
        max_concurrency: Calls that may be on their way at the same time.
        **options: As for `BertClient`.
    """

    def __init__(self, max_concurrency: int = 10, **options: Any) -> None:
        self.max_concurrency = positive_int("max_concurrency", max_concurrency)
        super().__init__(**options)

    def _start_unconnected(self) -> None:
        self._places = threading.BoundedSemaphore(self.max_concurrency)
        self._backlog = Backlog(min(IN_FLIGHT, self.max_concurrency), per_thread=True)

    def _encode(self, texts: list[Any], is_tokenized: bool, show_tokens: bool, deadline: Deadline | None) -> _Encoded:
        deadline = deadline or patient(texts)
        if not self._places.acquire(timeout=deadline.remaining()):
            raise DeadlineExceeded(
                f"the timeout of {deadline.timeout:g} s passed with {self.max_concurrency} other calls on their way"
            )
        try:
            return super()._encode(texts, is_tokenized, show_tokens, deadline)
        finally:
            self._places.release()


def _warn(result: _Encoded) -> None:
    if result.warning:
        warnings.warn(result.warning, stacklevel=3)  # the line that called the method that calls this
