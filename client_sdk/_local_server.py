"""A tritonserver on this machine that lives as long as a `with` block, and never longer than its process."""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from types import TracebackType

from client_sdk import _guard
from client_sdk._errors import InvalidArgument, ServerStartError
from client_sdk._listen import Host, Ports, choose_ports
from client_sdk._server_log import ServerLog, failure_reasons, is_stuck, models_loading
from client_sdk._tritonserver import TritonServer, find_tritonserver

CLOSED_ENDPOINTS = ("model-repository", "shared-memory", "trace", "logging")
"""The endpoints that change or reach into a server; a LocalServer answers them only if they are asked for."""

# Triton waits this long for requests that are being served, and looks once a second.
_EXIT_TIMEOUT_SECONDS = 5
# Then SIGKILL comes from the guard, and after the last of these its own.
_GRACE_SECONDS = 10.0
_STOP_LIMIT_SECONDS = _GRACE_SECONDS + 10.0
_POLL_SECONDS = 0.1
_PROBE_TIMEOUT_SECONDS = 2.0
# A free port may be taken before the server binds to it.
_PORT_ATTEMPTS = 3


class LocalServer:
    """Serves a model repository with a tritonserver of its own, on this machine.

        with LocalServer("model_repository") as server:
            client = Client(server.grpc_url)

    Entering starts it and waits until every model is ready; leaving stops it. It is never left behind: not
    after an exception, not after Ctrl-C, and not if this process is killed. Forked children may use it, and
    do not stop it.

    Args:
        model_repository: The directory of models, each in a directory with a complete config.pbtxt.
        executable: The tritonserver; if None, that on PATH, in /opt/tritonserver/bin, or of nvidia-pytriton.
        host: The address to listen on. The default is for this machine alone; with any other (0.0.0.0: all
            networks) whoever reaches it can use the models: nothing is asked for and nothing is encrypted.
        http_port: The port for HTTP; a free one if None. So too `grpc_port` and `metrics_port`.
        grpc_port: The port for gRPC.
        metrics_port: The port for Prometheus metrics.
        startup_timeout: Seconds within which every model must be ready.
        open_endpoints: Endpoints to open, of those in `CLOSED_ENDPOINTS`, which are otherwise refused to
            everybody. With "model-repository", models can be loaded and unloaded while it runs.
        log: A file to append the server's log to. If None, a nameless one, for `log_lines`.
        extra_args: Further arguments for tritonserver.

    Raises:
        InvalidArgument: an argument is not allowed.
    """

    def __init__(
        self,
        model_repository: str | os.PathLike[str],
        *,
        executable: str | os.PathLike[str] | None = None,
        host: str = "127.0.0.1",
        http_port: int | None = None,
        grpc_port: int | None = None,
        metrics_port: int | None = None,
        startup_timeout: float = 120.0,
        open_endpoints: Collection[str] = (),
        log: str | os.PathLike[str] | None = None,
        extra_args: Sequence[str] = (),
    ) -> None:
        self._wanted_ports = {"http": http_port, "grpc": grpc_port, "metrics": metrics_port}
        _check_ports(self._wanted_ports)
        if not (startup_timeout > 0 and math.isfinite(startup_timeout)):
            raise InvalidArgument(f"startup_timeout is {startup_timeout!r}: it is a number of seconds above 0")
        self.model_repository = Path(model_repository).resolve()
        self.open_endpoints = _checked_endpoints(open_endpoints)
        self.startup_timeout = startup_timeout
        self._executable = executable
        self._host = Host.resolve(host)
        self._log_path = Path(log) if log is not None else None
        self._extra_args = _checked_extra_args(extra_args)
        self._name = f"bert-on-triton-{secrets.token_hex(8)}"
        self._ports: Ports | None = None
        self._log: ServerLog | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._resources = contextlib.ExitStack()
        self._owner = os.getpid()

    def __repr__(self) -> str:
        state = f"grpc_url={self.grpc_url!r}" if self.is_running else "stopped"
        return f"LocalServer({str(self.model_repository)!r}, {state})"

    def __enter__(self) -> LocalServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Starts the server, and returns when every model is ready.

        Raises:
            InvalidArgument: the model repository does not exist, or holds no models.
            TritonServerNotFound: there is no tritonserver on this machine.
            ServerStartError: it runs already, a port is in use, the server stopped, or it was not ready in
                time. The message holds the lines of its log that say why.
        """
        if self._guard is not None:
            raise ServerStartError(f"the server of {self.model_repository} was started already: stop it first")
        models = models_in(self.model_repository)
        server = find_tritonserver(self._executable)
        deadline = time.monotonic() + self.startup_timeout
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            self._ports = choose_ports(self._host, **self._wanted_ports)
            try:
                self._launch(server)
                self._wait_until_ready(models, deadline)
                return
            except ServerStartError as error:
                self.stop()
                lost_a_free_port = "already in use" in str(error) and None in self._wanted_ports.values()
                if not lost_a_free_port or attempt == _PORT_ATTEMPTS:
                    raise
            except BaseException:
                self.stop()
                raise

    def stop(self) -> None:
        """Stops the server and waits for its end, at most 20 seconds; does nothing if it was not started."""
        if os.getpid() == self._owner:
            self._guard = None
            self._resources.close()

    def wait(self, timeout: float | None = None) -> int | None:
        """Waits for the server to end by itself, at most `timeout` seconds.

        Returns:
            Its exit status (128 + N if signal N ended it), or None if it still runs or was not started.
        """
        if self._guard is None:
            return None
        try:
            status = self._guard.wait(timeout)
        except subprocess.TimeoutExpired:
            return None
        # Below 0: the guard itself was killed, and the server with it.
        return status if status >= 0 else 128 - status

    @property
    def is_running(self) -> bool:
        """Whether the server was started and has not ended."""
        return self._guard is not None and self._guard.poll() is None

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self._host.is_loopback

    @property
    def http_url(self) -> str:
        """The address for HTTP, such as http://127.0.0.1:8000."""
        return f"http://{self._host.url_host}:{self._bound.http}"

    @property
    def grpc_url(self) -> str:
        """The address for gRPC, such as grpc://127.0.0.1:8001."""
        return f"grpc://{self._host.url_host}:{self._bound.grpc}"

    @property
    def metrics_url(self) -> str:
        """The address of the Prometheus metrics, such as http://127.0.0.1:8002/metrics."""
        return f"http://{self._host.url_host}:{self._bound.metrics}/metrics"

    def read_log(self, offset: int = 0) -> bytes:
        """The log of a running server from byte `offset` on; at most its last 4 MiB."""
        return self._log.read(offset) if self._log is not None else b""

    def log_lines(self) -> list[str]:
        """The log of the server that runs, or of the last that ran; at most its last 4 MiB."""
        return self._log.text().splitlines() if self._log is not None else []

    def failure_reasons(self) -> list[str]:
        """The lines of the log that say why the server failed."""
        return failure_reasons(self._log.text()) if self._log is not None else []

    @property
    def _bound(self) -> Ports:
        if self._ports is None:
            raise ServerStartError("the server was not started, so it has no address: use it in a with block")
        return self._ports

    def _launch(self, server: TritonServer) -> None:
        self._owner = os.getpid()
        self._log = ServerLog(self._log_path)
        self._resources.callback(self._log.close)
        # The guard removes these too, for a parent that is killed.
        remove = [f"/dev/shm/{self._name}*"]
        directory = Path()
        if server.needs_directory:
            directory = Path(tempfile.mkdtemp(prefix=f"{self._name}-"))
            self._resources.callback(shutil.rmtree, directory, ignore_errors=True)
            remove.append(str(directory))
        self._guard = subprocess.Popen(
            [
                *(sys.executable, "-I", "-S", _guard.__file__),
                *(f"--parent={os.getpid()}", f"--grace={_GRACE_SECONDS}"),
                *(f"--remove={path}" for path in remove),
                *("--", *self._command(server, directory)),
            ],
            stdin=subprocess.PIPE,
            stdout=self._log.fileno(),
            stderr=subprocess.STDOUT,
            env=server.environment(),
            start_new_session=True,
        )
        self._resources.callback(_end, self._guard)

    def _command(self, server: TritonServer, directory: Path) -> list[str]:
        ports = self._bound
        command = [
            *server.arguments(directory),
            f"--model-repository={self.model_repository}",
            f"--id={self._name}",
            f"--http-address={self._host.http_argument}",
            f"--http-port={ports.http}",
            f"--grpc-address={self._host.grpc_argument}",
            f"--grpc-port={ports.grpc}",
            f"--metrics-address={self._host.http_argument}",
            f"--metrics-port={ports.metrics}",
            f"--exit-timeout-secs={_EXIT_TIMEOUT_SECONDS}",
            # Completing a config takes a second Python process a model; a served config is complete.
            "--disable-auto-complete-config",
            # A name that the guard knows: killed Python backends leave their shared memory behind.
            f"--backend-config=python,shm-region-prefix-name={self._name}-",
        ]
        closed = ",".join(name for name in CLOSED_ENDPOINTS if name not in self.open_endpoints)
        if closed:
            # Nobody is to send this key. The list of processes shows it, but no header holds a newline.
            key = f"closed={secrets.token_hex(16)}\n"
            command += [f"--http-restricted-api={closed}:{key}", f"--grpc-restricted-protocol={closed}:{key}"]
        if "model-repository" in self.open_endpoints:
            command += ["--model-control-mode=explicit", "--load-model=*"]
        return command + self._extra_args

    def _wait_until_ready(self, models: Sequence[str], deadline: float) -> None:
        while not self._is_ready(models, deadline):
            status = self.wait(0)
            log = self._log.text() if self._log is not None else ""
            if status is not None:
                raise ServerStartError(
                    _with_reasons(f"tritonserver stopped before it was ready (status {status})", log)
                )
            if is_stuck(log):
                raise ServerStartError(_with_reasons("tritonserver cannot start a model", log))
            if time.monotonic() >= deadline:
                loading = ", ".join(models_loading(log))
                what = f"still loading: {loading}" if loading else "no model is loading"
                raise ServerStartError(
                    _with_reasons(f"tritonserver was not ready within {self.startup_timeout:g} s ({what})", log)
                )
            time.sleep(_POLL_SECONDS)

    def _is_ready(self, models: Sequence[str], deadline: float) -> bool:
        timeout = min(_PROBE_TIMEOUT_SECONDS, max(0.01, deadline - time.monotonic()))
        connection = http.client.HTTPConnection(self._host.connect_address, self._bound.http, timeout=timeout)
        with contextlib.closing(connection):
            try:
                # The id tells this server from another that took the port.
                return (
                    _get(connection, "/v2/health/ready") is not None
                    and json.loads(_get(connection, "/v2") or b"{}").get("name") == self._name
                    and all(_get(connection, f"/v2/models/{model}/ready") is not None for model in models)
                )
            except (OSError, http.client.HTTPException, ValueError):
                return False


def _end(guard: subprocess.Popen[bytes]) -> None:
    """Has the guard end the server, and waits for it."""
    try:
        guard.terminate()
        guard.wait(_STOP_LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        guard.kill()
        guard.wait()
    finally:
        # Also when Ctrl-C ends the wait: the guard goes on by itself.
        if guard.stdin is not None:
            guard.stdin.close()


def models_in(repository: Path) -> list[str]:
    """The names of the models in `repository`. Raises InvalidArgument if it is missing or holds none."""
    if not repository.is_dir():
        state = "is not a directory" if repository.exists() else "does not exist"
        raise InvalidArgument(
            f"model repository {str(repository)!r} {state}: python -m export CHECKPOINT --repository DIR makes one"
        )
    models = sorted(entry.name for entry in repository.iterdir() if entry.is_dir())
    hidden = [name for name in models if name.startswith(".")]
    if hidden:
        raise InvalidArgument(
            f"model repository {str(repository)!r} holds {', '.join(hidden)}, and tritonserver takes every "
            "directory for a model: remove it or move it elsewhere"
        )
    if not models:
        raise InvalidArgument(
            f"model repository {str(repository)!r} is empty: python -m export CHECKPOINT --repository DIR fills it"
        )
    return models


def _get(connection: http.client.HTTPConnection, path: str) -> bytes | None:
    """The body of the answer, None if the status is not 200."""
    connection.request("GET", path)
    response = connection.getresponse()
    body = response.read()
    return body if response.status == 200 else None


def _with_reasons(summary: str, log: str) -> str:
    return "\n  ".join([f"{summary}:", *failure_reasons(log)]) if log.strip() else f"{summary}; its log is empty"


def _check_ports(ports: dict[str, int | None]) -> None:
    given = [port for port in ports.values() if port is not None]
    for name, port in ports.items():
        if port is not None and not 1 <= port <= 65535:
            raise InvalidArgument(f"{name}_port is {port}: it is from 1 to 65535, or None for a free one")
    if len(set(given)) != len(given):
        raise InvalidArgument(f"the http, grpc and metrics ports must differ, and are {', '.join(map(str, given))}")


def _checked_endpoints(names: Collection[str]) -> frozenset[str]:
    if isinstance(names, str):
        names = (names,)
    unknown = sorted(set(names) - set(CLOSED_ENDPOINTS))
    if unknown:
        raise InvalidArgument(
            f"open_endpoints: {', '.join(unknown)} is not one of {', '.join(CLOSED_ENDPOINTS)}; all others are open"
        )
    return frozenset(names)


def _checked_extra_args(arguments: Sequence[str]) -> list[str]:
    own = {
        "--model-repository": "model_repository",
        "--http-address": "host",
        "--grpc-address": "host",
        "--metrics-address": "host",
        "--http-port": "http_port",
        "--grpc-port": "grpc_port",
        "--metrics-port": "metrics_port",
    }
    for argument in arguments:
        instead = own.get(argument.partition("=")[0])
        if instead:
            raise InvalidArgument(f"extra_args: {argument} is not for here: use {instead}")
    return list(arguments)
