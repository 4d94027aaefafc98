"""`python -m client_sdk health`, and clients, when the process of a step has died."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from client_sdk import AsyncClient, Client, LocalServer, ServerError, StepDied
from tests.support.patience import PATIENCE, taking_at_least
from tests.support.servers.local_servers import command_of, free_ports, processes_of
from tests.support.servers.moody_model import make_moody_repository


def health(*arguments):
    """Exit code, and what was printed."""
    command = [sys.executable, "-m", "client_sdk", "health", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    return ended.returncode, ended.stdout + ended.stderr


def kill_steps(repository):
    """kill -9 of every Python step, which Triton does not start again."""
    for pid in processes_of(repository):
        if b"python_backend_stub" in command_of(pid).split(b"\0")[0]:
            os.kill(pid, signal.SIGKILL)


def blocking(url, **options):
    with Client(url, **options) as client:
        return client.encode("text")


def asynchronous(url, **options):
    async def call():
        async with AsyncClient(url, **options) as client:
            return await client.encode("text")

    return asyncio.run(call())


def test_a_server_that_gives_vectors_is_healthy(server):
    for url in (server.grpc_url, server.http_url):
        code, line = health("--url", url)
        assert code == 0 and re.fullmatch(rf"healthy: {url} gave a vector of 384 numbers in \d+ ms\n", line)


def test_every_server_of_several_is_asked(server):
    code, lines = health("--url", f"{server.grpc_url},127.0.0.1:1")
    assert code == 1
    assert f"healthy: {server.grpc_url} gave" in lines and "unhealthy: cannot reach grpc://127.0.0.1:1" in lines


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--url", "127.0.0.1:1"], "cannot reach grpc://127.0.0.1:1"),
        (["--url", "ftp://host"], "the scheme 'ftp' is not known"),
        (["--timeout", "0"], "timeout must be a positive"),
    ],
)
def test_whatever_is_wrong_is_1_with_the_reason(arguments, reason):
    code, line = health(*arguments)
    assert code == 1 and line.startswith("unhealthy: ") and reason in line and line.count("\n") == 1


def test_an_unknown_model_is_unhealthy(server):
    code, line = health("--url", server.grpc_url, "--model", "nope")
    assert code == 1 and "there is no model 'nope'" in line


def test_a_dead_step_is_unhealthy_and_an_error_that_says_what_to_do(tmp_path):
    repository = make_moody_repository(tmp_path / "repository")
    with LocalServer(repository) as server:
        kill_steps(repository)

        def ask(encode, url):
            with (
                taking_at_least(4),
                pytest.raises(StepDied, match=f"{url}: a step of the model has died.*restart the server") as error,
            ):
                encode(url, timeout=5)
            assert isinstance(error.value, ServerError)

        with ThreadPoolExecutor() as pool:
            encodes, urls = (blocking, blocking, asynchronous, asynchronous), (server.grpc_url, server.http_url) * 2
            list(pool.map(ask, encodes, urls))
        code, line = health("--url", server.grpc_url, "--timeout", "5")
        assert code == 1 and "a step of the model has died" in line


def test_calls_outlive_a_dead_step_if_the_server_is_brought_back(tmp_path):
    repository = make_moody_repository(tmp_path / "repository")
    http_port, grpc_port, metrics_port = free_ports()
    ports = {"http_port": http_port, "grpc_port": grpc_port, "metrics_port": metrics_port}
    with ThreadPoolExecutor() as pool:
        with LocalServer(repository, **ports) as server:
            kill_steps(repository)
            urls = (server.grpc_url, server.http_url)
            calls = [pool.submit(encode, url, timeout=PATIENCE) for url in urls for encode in (blocking, asynchronous)]
            time.sleep(2)
        with LocalServer(repository, **ports):
            assert [call.result().tolist() for call in calls] == [[4]] * 4


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_response_cache_is_unhealthy_whatever_the_vectors_are(tmp_path, protocol):
    # No family of several steps: such a one would not be served.
    repository = make_moody_repository(tmp_path / "repository")
    with (repository / "bert" / "config.pbtxt").open("a") as config:
        config.write("response_cache { enable: true }\n")
    with LocalServer(repository) as server:
        code, line = health("--url", server.grpc_url if protocol == "grpc" else server.http_url)
    assert code == 1 and "bert has Triton's response cache on" in line and "--cache" in line and line.count("\n") == 1


WITH_LITTLE_SHARED_MEMORY = [
    "unshare",
    *(["--map-root-user"] if os.geteuid() else []),
    *("--mount", "sh", "-c", 'mount -t tmpfs -o size=24m none /dev/shm && exec "$@"', "-"),
]
FILL_IT = """
import os, subprocess, sys
from client_sdk import LocalServer

def health(url):
    return subprocess.call([sys.executable, "-m", "client_sdk", "health", "--url", url], stderr=subprocess.STDOUT)

with LocalServer(sys.argv[1]) as server:
    with open("/dev/shm/of-somebody-else", "wb") as file:
        space = os.statvfs("/dev/shm")
        os.posix_fallocate(file.fileno(), 0, space.f_bavail * space.f_frsize - (1 << 19))
    full = health(server.grpc_url)
    os.unlink("/dev/shm/of-somebody-else")
    print(full, health(server.grpc_url), flush=True)
"""


def test_a_full_shared_memory_is_unhealthy_until_there_is_room(tmp_path):
    repository = make_moody_repository(tmp_path / "repository")
    command = [*WITH_LITTLE_SHARED_MEMORY, sys.executable, "-c", FILL_IT, repository]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert ended.stdout.splitlines()[-1:] == ["1 0"], ended.stdout + ended.stderr
    assert "/dev/shm is full (524288 bytes are left)" in ended.stdout
