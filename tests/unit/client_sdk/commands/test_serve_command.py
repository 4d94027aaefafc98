"""What `serve` makes of its arguments, without a server; tests/server has those with one."""

from __future__ import annotations

import errno
import logging
import os
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from client_sdk import LocalServer, ServerStartError
from client_sdk._commands import gateway_beside
from client_sdk._commands.main import main
from tests.support.patience import wait_for


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[LocalServer]:
    """The servers that were to be started."""
    servers: list[LocalServer] = []

    def start(server: LocalServer) -> None:
        servers.append(server)
        raise ServerStartError("not here")

    monkeypatch.setattr(LocalServer, "start", start)
    return servers


@pytest.mark.parametrize(
    ("behind", "handed_on"),
    [
        ([], ()),
        (["--"], ()),
        (["--", "--http-thread-count=16", "--log-verbose", "1"], ("--http-thread-count=16", "--log-verbose", "1")),
        (["--", "--log-verbose=1", "--help"], ("--log-verbose=1", "--help")),
    ],
)
def test_what_stands_behind_two_dashes_is_tritonservers(
    tmp_path: Path, made: list[LocalServer], behind: list[str], handed_on: tuple[str, ...]
) -> None:
    main(["serve", "--model-repository", str(tmp_path), "--log", "/dev/stderr", *behind])
    assert made[0]._settings.extra_args == handed_on
    assert made[0]._log_path == Path("/dev/stderr")


def test_an_option_that_the_command_sets_itself_is_refused(
    tmp_path: Path, made: list[LocalServer], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--model-repository", str(tmp_path), "--", "--http-address=0.0.0.0"]) == 1
    assert "--http-address=0.0.0.0 is not for here: use host" in capsys.readouterr().err
    assert not made


def test_a_word_before_the_dashes_is_not_tritonservers(
    tmp_path: Path, made: list[LocalServer], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["serve", "--model-repository", str(tmp_path), "--http-thread-count=16"])
    assert "unrecognized arguments: --http-thread-count=16" in capsys.readouterr().err
    assert not made


@pytest.mark.parametrize("option", ["--listen", "--host"])
def test_the_address_has_the_name_that_local_server_gives_it_too(
    tmp_path: Path, made: list[LocalServer], option: str
) -> None:
    main(["serve", "--model-repository", str(tmp_path), option, "0.0.0.0"])
    assert not made[0].is_loopback


def test_two_dashes_mean_nothing_new_to_other_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["encode", "--url", "127.0.0.1:1", "--", "--no-such-file"]) == 1
    assert capsys.readouterr().err == "error: --no-such-file: No such file or directory\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tls-cert", "a", "--tls-key", "b"], "--gateway-port and --tls-cert do not go together"),
        (["--api-key-file", "{key}"], "give --gateway-keys, or --no-gateway"),
    ],
)
def test_a_gateway_that_would_open_what_the_server_closes_is_refused(
    tmp_path: Path, made: list[LocalServer], capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    (tmp_path / "key").write_text("a-key-of-more-than-16-characters")
    options = [option.format(key=tmp_path / "key") for option in options]
    assert main(["serve", "--model-repository", str(tmp_path), "--gateway-port", "8080", *options]) == 1
    assert message in capsys.readouterr().err
    assert not made
    main(["serve", "--model-repository", str(tmp_path), "--gateway-port", "8080", "--no-gateway", *options])
    assert message not in capsys.readouterr().err


@pytest.mark.parametrize("port", [-1, 0, 65536])
def test_a_port_that_a_gateway_cannot_be_found_at_is_refused_before_a_server_is_started(
    tmp_path: Path, made: list[LocalServer], capsys: pytest.CaptureFixture[str], port: int
) -> None:
    assert main(["serve", "--model-repository", str(tmp_path), f"--gateway-port={port}"]) == 1
    assert f"--gateway-port is {port}: it is from 1 to 65535" in capsys.readouterr().err
    assert not made


def test_a_gateway_that_cannot_be_started_again_at_first_is_started_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.WARNING, "client_sdk.server")
    program = "import time; print('listens', flush=True); time.sleep(600)"
    gateway = gateway_beside._Gateway([sys.executable, "-c", program], os.environ, is_started_again=True)
    try:
        gateway.wait_until_it_listens()
        failures = [OSError(errno.EMFILE, "Too many open files")]
        whole = gateway._begun
        monkeypatch.setattr(gateway, "_begun", lambda: whole() if not failures else raise_(failures.pop()))
        gateway.look_after()
        gateway._process.kill()
        wait_for(lambda: "the gateway is back" in caplog.messages, 30)
        assert "the gateway is not back: [Errno 24] Too many open files" in caplog.messages
        assert gateway._process.poll() is None
    finally:
        gateway.end()


def raise_(error: Exception) -> NoReturn:
    raise error
