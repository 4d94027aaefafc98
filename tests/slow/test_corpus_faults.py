"""A job is killed, and its workers, servers and steps: each row of the input is in the output once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from client_sdk import LocalServer
from client_sdk._server.guard import children_of
from tests.support.patience import PATIENCE, wait_for
from tests.support.servers.local_servers import tritonserver_of
from tests.support.servers.moody_family import make_moody_family

KILLS = int(os.environ.get("CORPUS_KILLS", "8"))
FILES, ROWS = 4, 50_000
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
    errors = [json.loads(line)["id"] for path in (folder / "errors").iterdir() for line in path.open()]
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
        self._log = (folder / "log").open("ab")
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command, stdout=self._log, stderr=self._log)

    def go_on(self) -> None:
        if self.process.poll() is not None:
            self.process = self._start()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def workers(self) -> list[psutil.Process]:
        try:
            found = psutil.Process(self.process.pid).children(recursive=True)
            return [process for process in found if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::")]
        except psutil.Error:
            return []


def test_killed_at_any_moment_each_row_is_in_the_output_once(tmp_path: Path):
    chance = random.Random(SEED)
    write_input(tmp_path / "in")
    repository = make_moody_family(tmp_path / "models")
    with LocalServer(repository, supervise=True) as server:
        job = Job(tmp_path, server.grpc_url)
        for number in range(KILLS):
            job.go_on()
            time.sleep(chance.uniform(2, 8))
            match number % 4:
                case 0 | 2:
                    job.kill()
                case 1:
                    workers = wait_for(job.workers) if job.process.poll() is None else []
                    for process in workers[: 1 + number % 2]:
                        process.kill()
                case 3:
                    tritonserver = tritonserver_of(repository)
                    victims = [tritonserver] if number % 8 == 3 else children_of(tritonserver)[:1]
                    for victim in victims:
                        os.kill(victim, signal.SIGKILL)
        job.go_on()
        code = job.process.wait(PATIENCE)
        assert code == 0, (tmp_path / "log").read_text()[-4000:]
    check_output(tmp_path / "out")


def test_a_job_that_is_stopped_goes_on(tmp_path: Path):
    write_input(tmp_path / "in")
    with LocalServer(make_moody_family(tmp_path / "models")) as server:
        job = Job(tmp_path, server.grpc_url)
        wait_for(lambda: list((tmp_path / "out").glob("vectors/*.parquet")) or job.process.poll() is not None)
        job.process.send_signal(signal.SIGTERM)
        code = job.process.wait(PATIENCE)
        assert code in (0, 130), (tmp_path / "log").read_text()[-4000:]
        job.go_on()
        assert job.process.wait(PATIENCE) == 0
    check_output(tmp_path / "out")
