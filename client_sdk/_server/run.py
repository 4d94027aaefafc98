"""One tritonserver, from its start to its end, behind a guard that never leaves it behind."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from os import getpid
from pathlib import Path
from typing import TYPE_CHECKING

from client_sdk._errors import ServerStartError
from client_sdk._server import guard as guard_program
from client_sdk._server.guard import close_to_others
from client_sdk._server.listen import Ports
from client_sdk._server.log import ServerLog, failure_reasons, gave_a_step_up, is_stuck, models_loading
from client_sdk._server.own_files import NAME_PREFIX, SHARED_MEMORY, lock_path, remove_leftovers, temporary_directory
from client_sdk._server.probes import HttpAddress, is_ready
from client_sdk._server.repository.families import ModelRepository
from client_sdk._server.repository.view import served_path
from client_sdk._server.settings import API_KEY_PLACE, ServerSettings
from client_sdk._server.tritonserver import INSTALL, TritonServer

if TYPE_CHECKING:
    from client_sdk._server.processes import ServerProcesses

# SIGKILL comes from the guard when this is over, and after the last of these its own.
_GRACE_SECONDS = 10.0
_STOP_LIMIT_SECONDS = _GRACE_SECONDS + 10.0
_POLL_SECONDS = 0.1
_CRASHES = (128 + signal.SIGABRT, 128 + signal.SIGSEGV)

logger = logging.getLogger("client_sdk.server")


def check_psutil() -> None:
    """Raise ServerStartError where psutil is missing, which the client alone does not need."""
    if importlib.util.find_spec("psutil") is None:
        raise ServerStartError(f"psutil is missing, which looks after a server. Install it with: {INSTALL}")


class PortTaken(ServerStartError):
    """Another program has taken one of the ports since it was found free."""


class StepGivenUp(ServerStartError):
    """Triton took the process of a step for dead while it loaded it, which may end Triton itself."""


class ServerRun:
    """A server that was launched. Made by `launch`; `end` must follow."""

    def __init__(self, settings: ServerSettings, ports: Ports, log: ServerLog) -> None:
        self.ports = ports
        self.address = HttpAddress(settings.http_host.connect_address, ports.http, settings.key_headers)
        self.ensembles: list[str] = []
        """Of each family that was launched, a model that takes texts through all its steps."""
        self._settings = settings
        self._name = f"{NAME_PREFIX}{secrets.token_hex(8)}"
        self._log = log
        self._log_start = log.size
        self._guard: subprocess.Popen[bytes] | None = None
        self._directory: Path | None = None

    def launch(self, server: TritonServer, repository: ModelRepository, *, one_by_one: bool = False) -> None:
        """Start the server with the models of `repository`; it is not ready yet.

        With `one_by_one` it loads a model at a time, where it loads four.

        Raises:
            InvalidArgument: the models cannot be served with these settings.
            ServerStartError: there is no place for the server's own files.
        """
        remove_leftovers()
        self._directory = temporary_directory(f"{self._name}-")
        path = served_path(repository, self._directory, models_may_come=self._settings.models_may_come)
        self._log.show_as(path, repository.path)
        self.ensembles = repository.ensembles
        settings = replace(self._settings, model_repository=path, models=tuple(repository.names))
        key = self._settings.api_key
        environment = server.environment()
        environment.pop("CLIENT_SDK_API_KEY", None)
        self._guard = subprocess.Popen(
            [
                *(sys.executable, "-I", "-S", guard_program.__file__),
                *(f"--parent={getpid()}", f"--grace={_GRACE_SECONDS}"),
                # The guard removes these too, for a parent that is killed.
                *(f"--remove={SHARED_MEMORY}/{self._name}*", f"--remove={self._directory}"),
                f"--private={SHARED_MEMORY}/{self._name}-*",
                f"--lock={lock_path(self._name)}",
                *([f"--secret={API_KEY_PLACE}"] if key else []),
                *("--", *server.arguments(self._directory)),
                *settings.arguments(self._name, self.ports),
                *(["--model-load-thread-count=1"] if one_by_one else []),
            ],
            stdin=subprocess.PIPE,
            stdout=self._log.fileno(),
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        if key and self._guard.stdin:
            self._guard.stdin.write(f"{key}\n".encode())
            self._guard.stdin.flush()

    def wait_until_ready(
        self, models: Sequence[str], timeout: float, deadline: float, cancelled: Callable[[], bool] = lambda: False
    ) -> bool:
        """Wait until every model is ready, until time.monotonic() is `deadline`; False if `cancelled` became true.

        Raises:
            ServerStartError: the server stopped, or was not ready in time (`timeout` seconds in the message); with
                the log's reasons.
        """
        key_is_shown = self._settings.api_key is not None
        while not is_ready(self.address, self._name, models, deadline - time.monotonic()):
            if cancelled():
                return False
            status = self.wait(0)
            written = self._log.text(self._log_start)
            if status is not None:
                kind: type[ServerStartError] = ServerStartError
                if "already in use" in written:
                    kind = PortTaken
                elif gave_a_step_up(written) or status in _CRASHES:
                    kind = StepGivenUp
                raise kind(_with_reasons(f"tritonserver stopped before it was ready (status {status})", written))
            if is_stuck(written):
                raise ServerStartError(_with_reasons("tritonserver cannot start a model", written))
            if time.monotonic() >= deadline:
                loading = ", ".join(models_loading(written))
                what = f"still loading: {loading}" if loading else "no model is loading"
                raise ServerStartError(
                    _with_reasons(f"tritonserver was not ready within {timeout:g} s ({what})", written)
                )
            if key_is_shown and written:  # Before its first line it has read its arguments.
                key_is_shown = not self._hide_key()
            time.sleep(_POLL_SECONDS)
        # The guard does this too, when it looks next: for models that are loaded later.
        close_to_others(f"{SHARED_MEMORY}/{self._name}-*")
        if key_is_shown and not self._hide_key():
            logger.warning("the key could not be taken out of the list of processes: users of this machine can see it")
        return True

    def wait(self, timeout: float | None) -> int | None:
        """Wait for the server to end by itself; its exit status, None if it still runs after `timeout` seconds."""
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
        """Whether it was launched and has not ended."""
        return self._guard is not None and self._guard.poll() is None

    def processes(self) -> ServerProcesses:
        """A look at the server's processes; it must have been launched. Raises ServerStartError without psutil."""
        assert self._guard is not None
        check_psutil()
        from client_sdk._server.processes import ServerProcesses

        return ServerProcesses(self._guard.pid, models_may_go="model-repository" in self._settings.open_endpoints)

    def end(self, *, at_once: bool = False) -> None:
        """End the server and wait for it, at most 20 seconds; `at_once`: requests that it serves are cut off."""
        guard, self._guard = self._guard, None
        try:
            if guard:
                _end(guard, signal.SIGQUIT if at_once else signal.SIGTERM)
        finally:
            # The guard has done this too, unless it was killed.
            if self._directory:
                shutil.rmtree(self._directory, ignore_errors=True)
            with contextlib.suppress(OSError):
                for path in SHARED_MEMORY.glob(f"{self._name}*"):
                    path.unlink(missing_ok=True)

    def _hide_key(self) -> bool:
        if self._settings.api_key is None:
            return True
        try:
            return self.processes().hide_argument(self._settings.api_key)
        except ServerStartError:  # without psutil
            return False


def _end(guard: subprocess.Popen[bytes], how: signal.Signals) -> None:
    """Has the guard end the server, and waits for it."""
    try:
        with contextlib.suppress(ProcessLookupError):
            guard.send_signal(how)
        guard.wait(_STOP_LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        guard.kill()
        guard.wait()
    finally:
        # Also when Ctrl-C ends the wait: the guard goes on by itself.
        if guard.stdin is not None:
            guard.stdin.close()


def _with_reasons(summary: str, log: str) -> str:
    return "\n  ".join([f"{summary}:", *failure_reasons(log)]) if log.strip() else f"{summary}; its log is empty"
