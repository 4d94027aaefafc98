"""Clients that go on encoding while something happens to their server; every vector is compared with the right one."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from client_sdk import Client, LocalServer
from tests.support.patience import PATIENCE

TOLERANCE = 1e-5
BULK = 16  # texts of a larger call


@dataclass
class Traffic:
    """What came of the calls so far. `longest` is in seconds."""

    texts: Sequence[str]
    expected: np.ndarray
    served: int = 0
    wrong: int = 0
    longest: float = 0.0
    errors: list[Exception] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def wait_for_more(self, calls: int, seconds: float = PATIENCE) -> None:
        """Waits until that many more calls were served."""
        enough = self.served + calls
        deadline = time.monotonic() + seconds
        while self.served < enough:
            assert time.monotonic() < deadline, f"no {calls} calls were served in {seconds:g} s: {self.errors[-3:]}"
            time.sleep(0.02)

    def run(self, client: Client, seed: int, timeout: float, largest: int) -> None:
        """One client's calls, until the traffic is over."""
        chance = random.Random(seed)
        while not self._over.is_set():
            count = chance.choice((1, 1, 8, largest))
            first = chance.randrange(len(self.texts) - count)
            started = time.monotonic()
            error = vectors = None
            try:
                vectors = client.encode(self.texts[first : first + count], timeout=timeout)
            except Exception as raised:
                error = raised
            with self._lock:
                self.longest = max(self.longest, time.monotonic() - started)
                if vectors is None:
                    self.errors.append(error)
                else:
                    self.served += 1
                    self.wrong += not is_near(vectors, self.expected[first : first + count])

    def stop(self) -> None:
        """No further calls."""
        self._over.set()


def is_near(found: np.ndarray, expected: np.ndarray) -> bool:
    return found.shape == expected.shape and bool(np.abs(found - expected).max() <= TOLERANCE)


@contextmanager
def traffic(
    server: LocalServer,
    texts: Sequence[str],
    expected: np.ndarray,
    *,
    clients: int = 4,
    timeout: float = 60.0,
    largest: int = BULK,
) -> Iterator[Traffic]:
    """Traffic by that many clients, every other one over HTTP, for as long as the block; each has been served."""
    seen = Traffic(texts, expected)
    urls = [server.http_url if i % 2 else server.grpc_url for i in range(clients)]
    open_clients = [Client(url) for url in urls]
    for client in open_clients:  # one that has never reached its server does not wait for its return
        client.encode(texts[0], timeout=timeout)
    threads = [
        threading.Thread(target=seen.run, args=(client, seed, timeout, largest))
        for seed, client in enumerate(open_clients)
    ]
    for thread in threads:
        thread.start()
    try:
        seen.wait_for_more(2 * clients)
        yield seen
    finally:
        seen.stop()
        for thread in threads:
            thread.join(timeout + 5)
        hanging = [thread for thread in threads if thread.is_alive()]
        for client in open_clients:
            client.close()
    assert not hanging, f"{len(hanging)} calls hang"
