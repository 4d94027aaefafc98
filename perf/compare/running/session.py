"""A system that is up, together with the process of its client."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from perf.compare.systems.environment import ROOT, PeerAbsent
from perf.compare.systems.server import environment_variables
from perf.compare.systems.system import Model, Peer
from perf.processes import proportional_bytes

_LOG_LINES = 3


class Session:
    """Gives orders to a `worker`. Every method raises PeerAbsent if the system fails."""

    def __init__(self, process: subprocess.Popen[str], log: Path, server: int | None) -> None:
        self._process, self._log, self._server = process, log, server

    def order(self, **order: Any) -> dict[str, Any]:
        """Has one order carried out."""
        assert self._process.stdin and self._process.stdout
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            said = self._log.read_text(errors="replace").strip().splitlines()[-_LOG_LINES:]
            raise PeerAbsent(f"its client ended: {' / '.join(said)}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise PeerAbsent(answer["error"])
        return answer

    def vectors(self, texts: Sequence[str], in_call: int, clients: int) -> np.ndarray:
        """The vectors of texts, [N, D], asked for in calls of so many texts by so many clients."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "vectors.npy")
            self.order(do="vectors", path=str(path), texts=list(texts), in_call=in_call, clients=clients)
            found: np.ndarray = np.load(path)
        return found

    def memory_mb(self) -> float:
        """Memory of the server, or of the client's process where that computes."""
        return proportional_bytes(self._process.pid if self._server is None else self._server) / 1e6


@contextmanager
def running(peer: Peer, model: Model) -> Iterator[Session]:
    """Start a system and its client, and stop both at the end of the block. Raises PeerAbsent."""
    with contextlib.ExitStack() as stack:
        serving = stack.enter_context(peer.serve(model))
        log = stack.enter_context(tempfile.NamedTemporaryFile(prefix="client-", suffix=".log"))
        process = subprocess.Popen(
            [str(peer.client_python), "-m", "perf.compare.running.worker", type(peer).__module__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.fileno(),
            text=True,
            cwd=ROOT,
            env=environment_variables(peer.variables),
        )
        stack.callback(_stop, process)
        session = Session(process, Path(log.name), serving.pid)
        session.order(config=serving.config, server=serving.pid)
        yield session


def _stop(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()
