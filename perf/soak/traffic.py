"""The traffic of `python -m perf soak`: every kind of call side by side, each answer compared with the right one."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import grpc
import numpy as np
import numpy.typing as npt

import client_sdk
from perf.soak.malformed import Generator
from perf.soak.send_malformed import DONE, send_grpc, send_http

BULK = 1000  # texts
TOLERANCE = 1e-5
TIMEOUT = 60.0  # seconds
BAD_A_SECOND = 20.0
VISIT_SECONDS = 10.0

SERVED, WRONG, FAILED, REFUSED, UNANSWERED = "served", "wrong", "failed", "refused", "unanswered"


class SoakTraffic:
    """Threads that call until they are told to stop. `counts` has (kind, outcome) -> calls."""

    def __init__(
        self, server: client_sdk.LocalServer, model: str, texts: Sequence[str], visitors: Sequence[str], seed: int
    ) -> None:
        """Compute what is right; `visitors` are the models, steps before ensembles, that come and go."""
        self.counts: Counter[tuple[str, str]] = Counter()
        self.first_errors: dict[str, str] = {}
        self._server = server
        self._model = model
        self._texts = texts
        self._visitors = visitors
        self._seed = seed
        self._over = threading.Event()
        self._lock = threading.Lock()
        with client_sdk.Client(server.grpc_url, model, timeout=TIMEOUT) as client:
            self._vectors = client.encode(texts, timeout=600)
            self._tokens = client.encode_tokens(texts[:64])
        self._threads = [threading.Thread(target=self._work, args=each, name=each[0]) for each in self._kinds().items()]

    def __enter__(self) -> SoakTraffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _kinds(self) -> Mapping[str, Callable[[], None]]:
        def encoding(kind: str, url: str, count: int) -> Callable[[], None]:
            return lambda: self._encode(kind, url, count)

        grpc_url, http_url = self._server.grpc_url, self._server.http_url
        return {
            "one text, gRPC": encoding("one text, gRPC", grpc_url, 1),
            "one text, HTTP": encoding("one text, HTTP", http_url, 1),
            "20 texts, HTTP": encoding("20 texts, HTTP", http_url, 20),
            "bulk, gRPC": encoding("bulk, gRPC", grpc_url, BULK),
            "tokens, gRPC": self._encode_tokens,
            "malformed, gRPC": self._send_bad_grpc,
            "malformed, HTTP": self._send_bad_http,
            "load and unload": self._visit,
        }

    def _work(self, kind: str, work: Callable[[], None]) -> None:
        """Work to the end; what ends it before has failed, and is told with the rest."""
        try:
            work()
        except Exception as error:
            self._count(kind, FAILED, repr(error))

    def _count(self, kind: str, outcome: str, why: str = "") -> None:
        with self._lock:
            self.counts[kind, outcome] += 1
            if why:
                self.first_errors.setdefault(kind, why)

    def _encode(self, kind: str, url: str, count: int) -> None:
        chance = random.Random(f"{self._seed} {kind}")
        with client_sdk.Client(url, self._model, timeout=TIMEOUT) as client:
            while not self._over.is_set():
                start = chance.randrange(max(1, len(self._texts) - count))
                try:
                    vectors = client.encode(list(self._texts[start : start + count]))
                except client_sdk.ClientError as error:
                    self._count(kind, FAILED, repr(error))
                else:
                    right = is_near(vectors, self._vectors[start : start + count])
                    self._count(kind, SERVED if right else WRONG)

    def _encode_tokens(self) -> None:
        kind = "tokens, gRPC"
        chance = random.Random(f"{self._seed} {kind}")
        with client_sdk.Client(self._server.grpc_url, self._model, timeout=TIMEOUT) as client:
            while not self._over.wait(0.05):
                start = chance.randrange(len(self._tokens) - 8)
                try:
                    found = client.encode_tokens(list(self._texts[start : start + 8]))
                except client_sdk.ClientError as error:
                    self._count(kind, FAILED, repr(error))
                else:
                    pairs = zip(found, self._tokens[start : start + 8], strict=True)
                    right = all(a.tokens == b.tokens and is_near(a.vectors, b.vectors, 1e-4) for a, b in pairs)
                    self._count(kind, SERVED if right else WRONG)

    def _send_bad_http(self) -> None:
        generator = Generator(self._seed)
        while not self._over.wait(1 / BAD_A_SECOND):
            self._count_bad("malformed, HTTP", lambda: send_http(self._server.http_url, generator.next_http()))

    def _send_bad_grpc(self) -> None:
        generator = Generator(self._seed)
        with grpc.insecure_channel(self._server.grpc_url.removeprefix("grpc://")) as channel:
            while not self._over.wait(1 / BAD_A_SECOND):
                self._count_bad("malformed, gRPC", lambda: send_grpc(channel, generator.next_grpc()))

    def _count_bad(self, kind: str, send: Callable[[], str]) -> None:
        try:
            outcome = send()
        except TimeoutError as error:
            self._count(kind, UNANSWERED, str(error)[:500])
        else:
            self._count(kind, SERVED if outcome in DONE else REFUSED)

    def _visit(self) -> None:
        """Another family is loaded, used and unloaded, again and again."""
        kind = "load and unload"
        visitor = self._visitors[-1]
        while not self._over.wait(VISIT_SECONDS):
            done = all(self._control(model, "load") for model in self._visitors)
            with client_sdk.Client(self._server.grpc_url, visitor, timeout=TIMEOUT) as client:
                try:
                    done &= is_near(client.encode(list(self._texts[:20])), self._vectors[:20])
                except client_sdk.ClientError as error:
                    self._count(kind, FAILED, repr(error))
                    continue
            done &= all(self._control(model, "unload") for model in reversed(self._visitors))
            self._count(kind, SERVED if done else FAILED, "" if done else "a model could not be loaded or unloaded")

    def _control(self, model: str, what: str) -> bool:
        connection = http.client.HTTPConnection(self._server.http_url.removeprefix("http://"), timeout=TIMEOUT)
        with contextlib.closing(connection):
            connection.request("POST", f"/v2/repository/models/{model}/{what}", json.dumps({}))
            response = connection.getresponse()
            response.read()
            if response.status != 200:
                return False
        deadline = time.monotonic() + TIMEOUT
        with client_sdk.Client(self._server.grpc_url, model) as client:
            while what == "unload" and client.is_ready() and time.monotonic() < deadline:
                time.sleep(0.05)
        return True


def is_near(found: npt.NDArray[np.float32], expected: npt.NDArray[np.float32], tolerance: float = TOLERANCE) -> bool:
    """Whether the vectors are the right ones."""
    return found.shape == expected.shape and (not found.size or float(np.abs(found - expected).max()) <= tolerance)
