"""`python -m client_sdk serve` with a real tritonserver."""

import os
import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from client_sdk._server.guard import children_of
from tests.support.patience import PATIENCE
from tests.support.servers.local_servers import (
    SLOW_TO_START,
    UPPER,
    ending,
    free_ports,
    http_request,
    make_model,
    processes_of,
    read_until,
    serve,
    tritonserver_of,
    wait_for,
)


def test_serve_prints_the_addresses_and_ends_at_ctrl_c(upper_repository: Path):
    make_model(upper_repository, "mini", UPPER)
    make_model(upper_repository, "mini_tokenizer", UPPER)
    ports = free_ports()
    with ending(serve(upper_repository, ports=ports)) as process:
        printed = read_until(process, "Ctrl-C")
        assert f"http://127.0.0.1:{ports[0]}\n" in printed
        assert f"with CLIENT_SDK_URL=grpc://127.0.0.1:{ports[1]} CLIENT_SDK_MODEL=mini in its environment" in printed
        assert f"http://127.0.0.1:{ports[2]}/metrics" in printed
        assert 'client_sdk.encode(["First do it", "then do it right"])' in printed
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0
        assert process.stderr.read() == ""
    assert processes_of(upper_repository) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_gateway_beside_the_server_ends_with_it(upper_repository: Path, number: signal.Signals):
    (port, *_) = free_ports()
    with ending(serve(upper_repository, f"--gateway-port={port}")) as process:
        printed = read_until(process, "Ctrl-C")
        assert f"  gateway  http://127.0.0.1:{port}/v1, and its page http://127.0.0.1:{port}/\n" in printed
        assert http_request(f"http://127.0.0.1:{port}", "GET", "/health/live")[0] == 200
        if number == signal.SIGTERM:
            kill_gateway_of(process.pid)
            read_until_error(process, "the gateway is back")
            assert http_request(f"http://127.0.0.1:{port}", "GET", "/health/live")[0] == 200
        process.send_signal(number)
        assert process.wait(PATIENCE) == (0 if number == signal.SIGTERM else -number)
    wait_for(lambda: not answers(port))
    wait_for(lambda: not processes_of(upper_repository))


def kill_gateway_of(serve_pid: int) -> None:
    """Kill -9 the gateway that `serve` has started, below its guard."""
    (gateway,) = [
        child
        for guard in children_of(serve_pid)
        for child in children_of(guard)
        if b"\0gateway\0" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]
    os.kill(gateway, signal.SIGKILL)


def read_until_error(process: subprocess.Popen[str], words: str) -> str:
    """Standard error up to the line that has these words; it has said before that the gateway has ended."""
    said = ""
    while words not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    assert "the gateway has ended (status 137); starting it again\n" in said
    return said


def answers(port: int) -> bool:
    """Whether anybody listens there."""
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def test_a_gateway_that_cannot_listen_ends_the_start(upper_repository: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with ending(serve(upper_repository, f"--gateway-port={port}")) as process:
            assert process.wait(PATIENCE) == 1
            assert f"cannot listen on 127.0.0.1:{port}" in (said := process.stderr.read())
            assert said.endswith("error: the gateway did not start\n")
    assert processes_of(upper_repository) == []


def test_an_impatient_second_ctrl_c_leaves_nothing_either(tmp_path: Path):
    sign = tmp_path / "stops"
    finalize = f"""
    def finalize(self):
        import time
        open({str(sign)!r}, "w").close()
        time.sleep(600)
"""
    make_model(tmp_path / "models", "upper", UPPER.rstrip() + "\n" + finalize)
    with ending(serve(tmp_path / "models")) as process:
        read_until(process, "Ctrl-C")
        process.send_signal(signal.SIGINT)
        wait_for(sign.exists)  # it is in the middle of stopping, and stays there
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0
        assert process.stderr.read() == ""
        wait_for(lambda: not processes_of(tmp_path / "models"))


def test_serve_ends_at_sigterm_and_at_ctrl_c_while_it_starts(tmp_path: Path):
    make_model(tmp_path, "upper", SLOW_TO_START)
    for number in (signal.SIGTERM, signal.SIGINT):
        with ending(serve(tmp_path)) as process:
            read_until(process, "starting")
            wait_for(lambda: len(processes_of(tmp_path)) == 4)
            process.send_signal(number)
            assert process.wait(PATIENCE) == 0
            assert process.stderr.read() == ""
        assert processes_of(tmp_path) == []


def test_serve_ends_at_the_servers_death_if_told_not_to_restart_it(upper_repository: Path):
    with ending(serve(upper_repository, "--no-restart")) as process:
        read_until(process, "Ctrl-C")
        os.kill(tritonserver_of(upper_repository), signal.SIGKILL)
        assert process.wait(PATIENCE) == 1
        assert "error: tritonserver stopped (status 137)" in process.stderr.read()


def test_serve_says_what_an_open_address_opens(upper_repository: Path):
    with ending(serve(upper_repository, "--listen=0.0.0.0", "--open=logging,trace", "--verbose")) as process:
        printed = read_until(process, "Ctrl-C")
        assert "open on 0.0.0.0: whoever reaches this machine can use inference" in printed
        assert "opened: logging, trace" in printed
        process.terminate()
        assert process.wait(PATIENCE) == 0
        assert "successfully loaded 'upper'" in process.stderr.read()


@pytest.mark.parametrize(
    ("directory", "options", "message"),
    [
        ("nowhere", [], "error: model repository '.*nowhere' does not exist"),
        (
            "models",
            ["--tritonserver=/no/such/program"],
            "error: tritonserver '/no/such/program' does not exist",
        ),
        ("models", ["--open=nonsense"], "error: open_endpoints: nonsense is not one of"),
    ],
)
def test_serve_tells_mistakes_in_one_line(upper_repository: Path, directory: str, options: list[str], message: str):
    process = serve(upper_repository.parent / directory, *options)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert len(errors.splitlines()) == 1
    assert re.match(message, errors), errors
