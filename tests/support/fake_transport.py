"""A transport without a wire, for tests of what stands above it."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from client_sdk._transport.address import Address
from client_sdk._transport.base import Arrays, InferRequest, Reply
from client_sdk._transport.peer import Peer


def texts_of(request: InferRequest) -> list[str | tuple[str, ...]]:
    """The texts of a request, as they were given."""
    rows = [tuple(text.decode() for text in row) for row in request.rows]
    return [row[0] if len(row) == 1 else row for row in rows]


class FakeTransport:
    """Answers with `answer(request)`, as version 1 unless that says otherwise, in threads.

    It counts how many requests are on their way at once.
    """

    def __init__(self, answer: Callable[[InferRequest], Arrays | Reply]) -> None:
        self.peer = Peer(Address("grpc", "fake", 1))
        self.peer.reached = True
        self.answer = answer
        self.limit = 64
        self.identity = ""
        self.max_seq_len = 512
        self.prompt_length = 0
        self.parameters: dict[str, str] = {}
        """Others in its configuration."""
        self.requests: list[InferRequest] = []
        self.timeouts: list[float] = []
        self.started: list[Future[Reply]] = []
        self.flying = self.most_flying = 0
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(16)

    def infer(self, request: InferRequest, timeout: float) -> Reply:
        with self._lock:
            self.requests.append(request)
            self.timeouts.append(timeout)
            self.flying += 1
            self.most_flying = max(self.most_flying, self.flying)
        try:
            answer = self.answer(request)
            return answer if isinstance(answer, Reply) else Reply(answer, "1")
        finally:
            with self._lock:
                self.flying -= 1

    def start(self, request: InferRequest, timeout: float) -> Future[Reply]:
        self.started.append(self._pool.submit(self.infer, request, timeout))
        return self.started[-1]

    def query(self, query: Any, timeout: float) -> dict[str, Any]:
        """What it is asked first: its configuration, which says its limits."""
        with self.peer.asking(query) as noted:
            parameters = {"max_seq_len": {"string_value": str(self.max_seq_len)}}
            if self.prompt_length:
                parameters["prompt_characters"] = {"string_value": str(self.prompt_length)}
            if self.identity:
                parameters["identity.1"] = {"string_value": self.identity}
            parameters |= {name: {"string_value": value} for name, value in self.parameters.items()}
            return noted({"max_batch_size": self.limit, "parameters": parameters} if query.kind == "config" else {})

    def close(self) -> None:
        self._pool.shutdown(wait=False)
