"""Interactive requests overtake those of a bulk call that wait in the encoder."""

import os
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from client_sdk import Client
from tests.support.patience import PATIENCE
from tests.support.servers.local_servers import command_of, processes_of


def test_interactive_requests_overtake_a_bulk_call_that_is_in_progress(server, texts, expected):
    many = [" ".join(texts[20:23])] * 384
    with (
        Client(server.grpc_url) as by_grpc,
        Client(server.http_url) as by_http,
        Client(server.grpc_url, timeout=PATIENCE) as other,
    ):
        clients = (by_grpc, by_http)

        def ask(client: Client) -> float:
            started = time.monotonic()
            np.testing.assert_allclose(client.encode(texts[0]), expected["sentence"][0], atol=1e-5)
            return time.monotonic() - started

        def beside(priority: str | None) -> list[float]:
            """Seconds of a text by each client while calls with many texts of this priority are in progress."""
            with ThreadPoolExecutor(4 + len(clients)) as pool:
                calls = [pool.submit(other.encode, many, max_seq_len=64, priority=priority) for _ in range(4)]
                time.sleep(1)
                assert not any(call.done() for call in calls)
                seconds = list(pool.map(ask, clients))
            assert [call.result().shape for call in calls] == [(len(many), 384)] * 4
            return seconds

        for client in clients:
            client.encode("warm")
        behind = np.array(beside("interactive"))
        for priority in ("bulk", None):  # which is bulk for as many texts
            # Each time from nothing: other work may have the cores in one, and a wrong order is wrong in all of them.
            assert any((np.array(beside(priority)) < behind / 3).all() for _ in range(3)), behind


def test_threads_that_compute_bulk_texts_leave_the_cores_to_all_others(server, repository):
    """One of each kind a core; the system tells them apart by their niceness."""
    [step] = [pid for pid in processes_of(repository) if b"/bert_encoder/1/model.py" in command_of(pid)]
    own = os.getpriority(os.PRIO_PROCESS, step)
    niceness = Counter(os.getpriority(os.PRIO_PROCESS, int(thread)) for thread in os.listdir(f"/proc/{step}/task"))
    cores = len(os.sched_getaffinity(0))
    assert niceness.pop(min(own + 5, 19)) == cores
    assert set(niceness) == {own} and niceness[own] > cores
