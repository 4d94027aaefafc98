"""What the tests of local servers share: models of a few lines, and what a server leaves on the machine."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from client_sdk import Client, ClientError
from client_sdk._kinds import named
from client_sdk._server.local_server import LocalServer
from tests.support.patience import wait_for as wait_for

CONFIG = """
backend: "python"
max_batch_size: 8
input [ { name: "TEXT" data_type: TYPE_STRING dims: [ 1 ] } ]
output [ { name: "UPPER" data_type: TYPE_STRING dims: [ 1 ] } ]
instance_group [ { kind: KIND_CPU } ]
"""
UPPER = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [self.respond(request) for request in requests]

    def respond(self, request):
        texts = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy()
        upper = np.char.upper(texts.astype(bytes)).astype(object)
        return pb_utils.InferenceResponse([pb_utils.Tensor("UPPER", upper)])
"""
SLOW_TO_START = """
import time

class TritonPythonModel:
    def initialize(self, args):
        time.sleep(600)
"""
BROKEN = """
class TritonPythonModel:
    def initialize(self, args):
        raise ValueError("no weights in this directory")
"""
NEVER_ANSWERS = """
import time

class TritonPythonModel:
    def execute(self, requests):
        open(__file__ + ".called", "w").close()
        time.sleep(600)
"""


def make_model(repository: Path, name: str, source: str) -> None:
    version = repository / name / "1"
    version.mkdir(parents=True)
    (repository / name / "config.pbtxt").write_text(CONFIG)
    (version / "model.py").write_text(source)


def processes_of(repository: Path) -> list[int]:
    """Every guard, tritonserver and Python backend of `repository`: they all have it as an argument."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and bytes(repository) in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return [pid for pid in found if pid != os.getpid()]


def kill_server_of(repository: Path) -> None:
    """Kills the tritonserver of `repository`; its guard ends what it leaves behind."""
    os.kill(tritonserver_of(repository), signal.SIGKILL)


def name_of(repository: Path) -> str:
    """The name that the server of `repository` gives to what it makes."""
    arguments = command_of(tritonserver_of(repository)).decode().split("\0")
    return next(argument.removeprefix("--id=") for argument in arguments if argument.startswith("--id="))


def files_of(name: str) -> list[Path]:
    """The shared memory and the temporary directories of the server with `name`."""
    return [path for place in ("/dev/shm", tempfile.gettempdir()) for path in Path(place).glob(f"{name}*")]


def command_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


@contextlib.contextmanager
def server_for_many_tests(repository: Path) -> Iterator[LocalServer]:
    """A server of families, each of whose steps lives after its first requests.

    Where other servers start at the same time a step may stand still with its first batch, and then it ends itself (see
    stalls.py). From then on each request would wait a second for it, in all of the tests.
    """
    for tries_left in (2, 1, 0):
        with LocalServer(repository) as server:
            started = len(processes_of(repository))
            for step in repository.glob("*_pooling"):
                _ask_both_instances(server, step.name.removesuffix("_pooling"))
            if len(processes_of(repository)) == started or not tries_left:
                yield server
                return


def _ask_both_instances(server: LocalServer, family: str) -> None:
    with Client(server.grpc_url, family) as client:
        (kind, *_) = named(client.info().kinds)
        for _ in range(4):
            with contextlib.suppress(ClientError):  # of a step that has ended
                getattr(client, kind.method)("a text")


def tritonserver_of(repository: Path) -> int:
    programs = {pid: command_of(pid).split(b"\0")[0] for pid in processes_of(repository)}
    return next(pid for pid, program in programs.items() if program.endswith(b"/tritonserver"))


def python(
    code: str, *arguments: object, environment: Mapping[str, str] = MappingProxyType({})
) -> subprocess.Popen[str]:
    """Another Python with `code`, of which it is known when it prints; `environment` is added to this one's."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


SERVE = "import sys; from client_sdk._commands.main import main; sys.exit(main(['serve', *sys.argv[1:]]))"


def serve(
    repository: Path, *options: str, ports: tuple[int, int, int] | None = None, **environment: str
) -> subprocess.Popen[str]:
    """The command `serve`, on `ports` for HTTP, gRPC and metrics."""
    http_port, grpc_port, metrics_port = ports or free_ports()
    own = [f"--http-port={http_port}", f"--grpc-port={grpc_port}", f"--metrics-port={metrics_port}"]
    return python(SERVE, f"--model-repository={repository}", *own, *options, environment=environment)


def free_ports() -> tuple[int, int, int]:
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        one, two, three = (sock.getsockname()[1] for sock in held)
    return one, two, three


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """What the process printed, up to the line with `text`."""
    printed = ""
    assert process.stdout is not None
    for line in process.stdout:
        printed += line
        if text in line:
            return printed
    pytest.fail(f"it ended without printing {text!r}: {printed}{process.stderr and process.stderr.read()}")


@contextlib.contextmanager
def ending(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def http_request(url: str, method: str, path: str, body: object = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
    with contextlib.closing(connection):
        connection.request(method, path, json.dumps(body) if body is not None else None)
        response = connection.getresponse()
        return response.status, response.read()


def upper_by_http(server: LocalServer, text: str) -> str:
    request = {"inputs": [{"name": "TEXT", "shape": [1, 1], "datatype": "BYTES", "data": [text]}]}
    status, body = http_request(server.http_url, "POST", "/v2/models/upper/infer", request)
    assert status == 200, body
    return json.loads(body)["outputs"][0]["data"][0]
