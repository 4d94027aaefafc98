"""The process that holds a system's client, in that system's environment, and does all the timing.

`python -m perf.compare.running.worker MODULE` reads orders from standard input and answers on standard output, a line
of JSON each. MODULE has a class `Client`:

    Client(config)           what `Peer.serve` said
    prepare(texts)           -> a request, ready to be sent; before the clock
    connect()                -> a function that sends a request and waits for its answer; called in each thread
    vectors(answer)          -> float32 [texts, D]; after the clock
    bulk(texts)              -> a function that encodes all texts in one call, if it has such a call
    bulk_texts, bulk_clients    otherwise: texts in a request, and how many clients send them
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import statistics
import sys
import time
from typing import Any

import numpy as np

from perf import processes
from perf.compare.running.closed_loop import closed_loop, each_once

_IDLE_SECONDS = 2.0


class Worker:
    """Carries out the orders, each a method."""

    def __init__(self, client: Any, server: int | None) -> None:
        self._client = client
        self._meters = [time.process_time]
        if server is not None:
            self._meters.append(lambda: processes.cpu_seconds(server))

    def vectors(self, path: str, texts: list[str], in_call: int, clients: int) -> dict[str, Any]:
        """Write the vectors of the texts, in calls like those of a load, to a .npy file."""
        requests = [self._client.prepare(texts[i : i + in_call]) for i in range(0, len(texts), in_call)]
        answers = each_once(self._client.connect, requests, clients)
        np.save(path, np.concatenate([self._client.vectors(answer) for answer in answers]))
        return {}

    def load(self, calls: list[list[str]], clients: int, seconds: float) -> dict[str, Any]:
        """Measures a closed loop."""
        requests = [self._client.prepare(texts) for texts in calls]
        gc.collect()
        found = closed_loop(self._client.connect, requests, clients, seconds, self._meters)
        texts = statistics.mean(map(len, calls))
        return {
            "texts_per_second": found.calls_per_second * texts,
            "latency_ms": [1e3 * seconds for seconds in found.latencies],
            "cores": found.meters,
            "warm_up_seconds": found.warm_up,
            "steady": found.steady,
        }

    def bulk(self, texts: list[str]) -> dict[str, Any]:
        """Measures one call with all the texts."""
        call = self._client.bulk(texts) if hasattr(self._client, "bulk") else self._cut(texts)
        gc.collect()
        before = [meter() for meter in self._meters]
        start = time.perf_counter()
        call()
        seconds = time.perf_counter() - start
        cores = [(meter() - at_first) / seconds for meter, at_first in zip(self._meters, before, strict=True)]
        return {"texts_per_second": len(texts) / seconds, "texts": len(texts), "cores": cores}

    def idle(self) -> dict[str, Any]:
        """Measures what the server uses while nobody asks for anything."""
        if len(self._meters) == 1:
            return {"cores": None}
        before, start = self._meters[1](), time.perf_counter()
        time.sleep(_IDLE_SECONDS)
        return {"cores": (self._meters[1]() - before) / (time.perf_counter() - start)}

    def _cut(self, texts: list[str]) -> Any:
        size = self._client.bulk_texts
        requests = [self._client.prepare(texts[i : i + size]) for i in range(0, len(texts), size)]
        return lambda: each_once(self._client.connect, requests, self._client.bulk_clients)


def main() -> None:
    """Serve until standard input ends."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print

    def reply(value: Any) -> None:
        print(json.dumps(value), file=replies, flush=True)

    worker: Worker | None = None
    for line in sys.stdin:
        order = json.loads(line)
        try:
            if worker is None:
                client = importlib.import_module(sys.argv[1]).Client(order["config"])
                worker = Worker(client, order["server"])
                reply({"pid": os.getpid()})
            else:
                reply(getattr(worker, order.pop("do"))(**order))
        except Exception as error:
            reply({"error": f"{type(error).__name__}: {error}"[:500]})
            if worker is None:
                return


if __name__ == "__main__":
    main()
