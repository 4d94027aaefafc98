"""A tritonserver on this machine that lives as long as a `with` block, and never longer than its process."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from types import TracebackType

from client_sdk._checks import LARGEST_PORT, positive_int, seconds
from client_sdk._errors import InvalidArgument, ServerStartError
from client_sdk._server.listen import Host, Ports, choose_ports
from client_sdk._server.log import ServerLog, failure_reasons
from client_sdk._server.repository.families import (
    ModelRepository,
    local_directory,
    read_repository,
    replaced_since,
    repository_state,
)
from client_sdk._server.repository.unfinished_export import finish_exports
from client_sdk._server.run import PortTaken, ServerRun, StepGivenUp, check_psutil, logger
from client_sdk._server.settings import (
    CLOSED_ENDPOINTS,
    ServerSettings,
    checked_endpoints,
    checked_extra_args,
    checked_server_key,
    make_tls,
    make_trace,
)
from client_sdk._server.supervisor import Supervisor
from client_sdk._server.tritonserver import TritonServer, find_tritonserver

# A free port may be taken before the server binds to it, and Triton takes a step for dead that gets no processor time
# for a second.
_ATTEMPTS = 3


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
            networks) whoever reaches it can use the models, unless there is an `api_key`, and reads along unless
            there is a `tls_certificate`.
        http_port: The port for HTTP; a free one if None. So too `grpc_port` and `metrics_port`.
        grpc_port: The port for gRPC.
        metrics_port: The port for Prometheus metrics, which know neither key nor encryption.
        startup_timeout: Seconds within which every model must be ready.
        open_endpoints: Endpoints to open, of those in `CLOSED_ENDPOINTS`, which are otherwise refused to
            everybody. With "model-repository", models can be loaded and unloaded while it runs.
        api_key: What clients must send (`Client(..., api_key=...)`) for everything but health and metrics; at
            least 16 letters, digits and -._~+/. None: they need nothing.
        tls_certificate: A PEM file: gRPC is encrypted, with this certificate. HTTP, which Triton cannot encrypt,
            is then served on this machine alone, for a proxy.
        tls_key: The PEM file of the certificate's key.
        tls_client_ca: A PEM file of authorities: gRPC clients must have a certificate of one of them.
        trace: otlp=URL of an OpenTelemetry collector's OTLP/HTTP endpoint, to send spans to.
        trace_rate: One request in so many is traced; 0: none. A request with a `traceparent` header always is.
        supervise: Whether to start the server again when it has ended, when a Python step of it has died, or when
            it no longer answers. Each start is told to the logger "client_sdk.server".
        log: A file to append the server's log to, or a pipe or terminal, such as /dev/stderr. If None, a nameless
            file, for `log_lines`.
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
        api_key: str | None = None,
        tls_certificate: str | os.PathLike[str] | None = None,
        tls_key: str | os.PathLike[str] | None = None,
        tls_client_ca: str | os.PathLike[str] | None = None,
        trace: str | None = None,
        trace_rate: int = 100,
        supervise: bool = False,
        log: str | os.PathLike[str] | None = None,
        extra_args: Sequence[str] = (),
    ) -> None:
        self._wanted_ports = {"http": http_port, "grpc": grpc_port, "metrics": metrics_port}
        _check_ports(self._wanted_ports)
        self.startup_timeout = seconds("startup_timeout", startup_timeout)
        opened = checked_endpoints(open_endpoints)
        self._settings = ServerSettings(
            model_repository=local_directory(model_repository),
            host=Host.resolve(host),
            closed_endpoints=[name for name in CLOSED_ENDPOINTS if name not in opened],
            open_endpoints=opened,
            api_key=checked_server_key(api_key),
            tls=make_tls(tls_certificate, tls_key, tls_client_ca),
            trace=make_trace(trace, trace_rate),
            extra_args=checked_extra_args(extra_args),
        )
        self._executable = executable
        self._supervise = supervise
        self._log_path = Path(log) if log is not None else None
        self._log: ServerLog | None = None
        self._ports: Ports | None = None
        self._run: ServerRun | None = None
        self._supervisor: Supervisor | None = None
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
        """Start the server, and return when every model is ready.

        Raises:
            InvalidArgument: the model repository does not exist, or holds no models, or a family whose answers would
                be wrong: one with Triton's response cache on, or in several versions at once.
            TritonServerNotFound: there is no tritonserver on this machine.
            ServerStartError: it runs already, a port is in use, the server stopped, or it was not ready in
                time. The message holds the lines of its log that say why.
        """
        if self._run is not None:
            raise ServerStartError(f"the server of {self.model_repository} was started already: stop it first")
        repository = self._read_repository()
        server = find_tritonserver(self._executable)
        if self._supervise:
            check_psutil()
        deadline = time.monotonic() + self.startup_timeout
        one_by_one = False
        for attempt in range(1, _ATTEMPTS + 1):
            self._ports = choose_ports(self._settings.host, **self._wanted_ports)
            self._log = ServerLog(self._log_path)
            self._owner = os.getpid()
            try:
                run = self._launch(server, repository, one_by_one)
                run.wait_until_ready(repository.names, self.startup_timeout, deadline)
                _check_still_there(repository)
                if self._supervise:
                    self._supervisor = Supervisor(
                        run, self._start_again, lambda: repository_state(self.model_repository)
                    )
                return
            except PortTaken:
                self.stop()
                if None not in self._wanted_ports.values() or attempt == _ATTEMPTS:
                    raise
            except StepGivenUp as error:
                self.stop()
                if one_by_one or attempt == _ATTEMPTS:
                    raise
                one_by_one = True
                logger.warning("%s\nstarting it once more, a model at a time", error)
            except BaseException:
                self.stop()
                raise

    def stop(self) -> None:
        """Stop the server and wait for its end, at most 20 seconds; do nothing if it was not started."""
        if os.getpid() != self._owner:
            return
        supervisor, self._supervisor = self._supervisor, None
        try:
            if supervisor:
                supervisor.stop()
        finally:
            run, self._run = self._run, None
            try:
                if run:
                    run.end()
            finally:
                if self._log:
                    self._log.close()

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for the server to end by itself, at most `timeout` seconds.

        Returns:
            Its exit status (128 + N if signal N ended it), or None if it still runs or was not started. A server
            that is supervised does not end.
        """
        if self._supervisor is not None:
            self._supervisor.wait(timeout)
            return None
        return self._run.wait(timeout) if self._run is not None else None

    @property
    def is_running(self) -> bool:
        """Whether the server was started and has not ended."""
        return self._run is not None and self._run.is_running

    @property
    def model_repository(self) -> Path:
        """The directory that it serves."""
        return self._settings.model_repository

    @property
    def open_endpoints(self) -> Collection[str]:
        """The endpoints that it was told to open."""
        return self._settings.open_endpoints

    @property
    def asks_for_key(self) -> bool:
        """Whether clients must send a key."""
        return self._settings.api_key is not None

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self._settings.host.is_loopback

    @property
    def http_url(self) -> str:
        """The address for HTTP, such as http://127.0.0.1:8000."""
        return f"http://{self._settings.http_host.url_host}:{self._bound.http}"

    @property
    def grpc_url(self) -> str:
        """The address for gRPC, such as grpc://127.0.0.1:8001; grpcs:// if it is encrypted."""
        return f"grpc{'s' if self._settings.tls else ''}://{self._settings.host.url_host}:{self._bound.grpc}"

    @property
    def metrics_url(self) -> str:
        """The address of the Prometheus metrics, such as http://127.0.0.1:8002/metrics."""
        return f"http://{self._settings.host.url_host}:{self._bound.metrics}/metrics"

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

    def _read_repository(self) -> ModelRepository:
        """What is there now, before every launch; what is not served is told to the logger."""
        finish_exports(self.model_repository)
        repository = read_repository(self.model_repository)
        if repository.left_out:
            logger.warning("not served of %r: %s", str(repository.path), ", ".join(repository.left_out))
        return repository

    def _launch(self, server: TritonServer, repository: ModelRepository, one_by_one: bool = False) -> ServerRun:
        assert self._log is not None
        run = self._run = ServerRun(self._settings, self._bound, self._log)  # to be ended though it fails to launch
        run.launch(server, repository, one_by_one=one_by_one)
        return run

    def _start_again(self, cancelled: Callable[[], bool]) -> ServerRun | None:
        """For the supervisor: a new server on the ports of the last."""
        repository = self._read_repository()
        choose_ports(self._settings.host, **vars(self._bound))
        deadline = time.monotonic() + self.startup_timeout
        try:
            run = self._launch(find_tritonserver(self._executable), repository)
            if not run.wait_until_ready(repository.names, self.startup_timeout, deadline, cancelled):
                return None
            _check_still_there(repository)
            return run
        except BaseException:
            if self._run is not None:
                self._run.end(at_once=True)
            raise


def _check_still_there(repository: ModelRepository) -> None:
    """Raise ServerStartError if a network may be of another export than the steps beside it."""
    replaced = replaced_since(repository)
    if replaced:
        raise ServerStartError(
            f"{', '.join(replaced)} of {str(repository.path)!r} was exported again while tritonserver loaded it: "
            "start the server again"
        )


def _check_ports(ports: dict[str, int | None]) -> None:
    given = [port for port in ports.values() if port is not None]
    for name, port in ports.items():
        if port is not None and positive_int(f"{name}_port", port) > LARGEST_PORT:
            raise InvalidArgument(f"{name}_port is {port}: it is from 1 to {LARGEST_PORT}, or None for a free one")
    if len(set(given)) != len(given):
        raise InvalidArgument(f"the http, grpc and metrics ports must differ, and are {', '.join(map(str, given))}")
