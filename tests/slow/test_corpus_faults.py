"""A job is killed, and its workers, servers and steps: each row of the input is in the output once."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from client_sdk import LocalServer
from client_sdk._commands.main import TRY_LATER
from client_sdk._server.guard import children_of
from tests.support.patience import PATIENCE, wait_for
from tests.support.servers.local_servers import tritonserver_of
from tests.support.servers.moody_family import make_moody_family

KILLS = int(os.environ.get("CORPUS_KILLS", "3"))
FILES, ROWS = 4, 15_000
SEED = 17


def write_input(folder: Path) -> None:
    folder.mkdir()
    for number in range(FILES):
        rows = range(number * ROWS, (number + 1) * ROWS)
        texts = [None if row % 10_007 == 0 else f"text {row}" for row in rows]
        pq.write_table(pa.table({"id": rows, "text": texts}), folder / f"{number}.parquet", row_group_size=10_000)


def check_output(folder: Path) -> None:
    """Each row once: a vector of the stand-in model, the length of the text, or an error."""
    table = pq.read_table(folder / "vectors")
    lines = [line for path in (folder / "errors").iterdir() for line in path.read_text().splitlines()]
    errors = [json.loads(line)["id"] for line in lines]
    refused = {row for row in range(FILES * ROWS) if row % 10_007 == 0}
    assert sorted(errors) == sorted(refused)
    assert sorted(table["id"].to_pylist()) == [row for row in range(FILES * ROWS) if row not in refused]
    assert all(
        vector == [len(f"text {row}")]
        for row, vector in zip(table["id"].to_pylist(), table["vector"].to_pylist(), strict=True)
    )


class Job:
    """A job of the command line, started again as often as it is killed."""

    def __init__(self, folder: Path, url: str) -> None:
        self._command = [
            sys.executable,
            "-m",
            "client_sdk",
            "corpus",
            str(folder / "in"),
            "--output",
            str(folder / "out"),
        ]
        self._command += ["--id-column", "id", "--rows-per-file", "500", "--triton", url, "--no-progress"]
        self._log = folder / "log"
        self.go_on()

    def go_on(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def workers(self) -> list[psutil.Process]:
        """Ray's, as far as they have begun to encode."""
        found: list[psutil.Process] = []
        with contextlib.suppress(psutil.Error):
            for process in psutil.Process(self.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if " ".join(process.cmdline()).startswith("ray::MapWorker"):
                        found.append(process)
        return found


@pytest.fixture
def killing(tmp_path: Path) -> Iterator[tuple[Job, Path]]:
    """A job, and the repository of its server, which is started again whenever it is killed."""
    write_input(tmp_path / "in")
    repository = make_moody_family(tmp_path / "models")
    with LocalServer(repository, supervise=True) as server:
        job = Job(tmp_path, server.grpc_url)
        yield job, repository
        job.process.kill()
        job.process.wait()


def test_killed_at_any_moment_each_row_is_in_the_output_once(killing: tuple[Job, Path], tmp_path: Path):
    """The job, of a sudden and in order, a worker of it, its server, and a step of that."""
    job, repository = killing
    chance = random.Random(SEED)
    for number in range(KILLS):
        if job.process.poll() is not None:
            job.go_on()
        time.sleep(chance.uniform(1, 8))
        match number % 5:
            case 0 | 3:
                job.process.send_signal(signal.SIGKILL if number % 2 == 0 else signal.SIGTERM)
                job.process.wait(PATIENCE)
            case 1:
                wait_for(lambda: job.workers() or job.process.poll() is not None)
                for process in job.workers()[:1]:
                    process.kill()
            case 2:
                os.kill(tritonserver_of(repository), signal.SIGKILL)
            case 4:
                os.kill(children_of(tritonserver_of(repository))[0], signal.SIGKILL)
    for _ in range(5):
        if job.process.poll() is not None:
            job.go_on()
        if (code := job.process.wait(2 * PATIENCE)) != TRY_LATER:  # it began while there was no server
            break
        time.sleep(5)
    assert code == 0, (tmp_path / "log").read_text()[-4000:]
    check_output(tmp_path / "out")
