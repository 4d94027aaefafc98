"""What a server on this machine holds, where memory is to stay as it was."""

from __future__ import annotations

import time
from pathlib import Path

from perf.processes import MIB, own_bytes, server_processes, shared_bytes
from tests.support.servers.local_servers import tritonserver_of


def held_mib(repository: Path) -> tuple[float, float]:
    """By tritonserver, and by its Python steps with the memory that they share: the least within a second."""
    server = tritonserver_of(repository)
    processes = list(server_processes(server))
    steps = [pid for pid in processes if pid != server]
    samples = []
    for _ in range(20):
        samples.append((own_bytes(server), sum(map(own_bytes, steps)) + shared_bytes(processes)))
        time.sleep(0.05)
    of_server, of_steps = zip(*samples, strict=True)
    return min(of_server) / MIB, min(of_steps) / MIB


def without_arena(repository: Path, family: str) -> None:
    """Has its encoder take memory from malloc; the arena takes it in leaps of tens of MiB, by whatever traffic."""
    file = repository / f"{family}_encoder" / "1" / "network.py"
    source = file.read_text()
    options = "options = onnxruntime.SessionOptions()\n"
    assert source.count(options) == 1
    file.write_text(source.replace(options, f"{options}    options.enable_cpu_mem_arena = False\n"))
