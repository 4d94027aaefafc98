"""`python -m client_sdk gateway`, as far as it goes without a server."""

import asyncio
import socket
import subprocess
import sys

import pytest

from client_sdk._commands import gateway
from client_sdk._commands.gateway import listening
from client_sdk._commands.main import main
from client_sdk._server.listen import Host


def refused(capsys, *arguments: str) -> tuple[int, str]:
    code = main(["gateway", *arguments])
    (line,) = capsys.readouterr().err.splitlines()
    return code, line


@pytest.mark.parametrize("listen", ["nowhere", "1:2:3", "127.0.0.1:99999", "127.0.0.1:", "[::1"])
def test_an_address_that_is_none_is_refused(capsys, listen):
    code, line = refused(capsys, "--listen", listen)
    assert code == 2 and line.startswith(f"error: listen {listen!r} is no address and port")


@pytest.mark.skipif(sys.platform == "win32", reason="two may listen on a port there")
def test_a_port_that_is_taken_is_named(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, line = refused(capsys, "--listen", str(port))
    assert code == 1 and line.startswith(f"error: cannot listen on 127.0.0.1:{port}: ")


def test_an_answer_is_sent_at_once_however_small():
    with listening(Host.resolve("127.0.0.1"), 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize(
    ("option", "message"),
    [("--max-texts=0", "max_texts must be at least 1"), ("--max-body=-1", "max-body"), ("--timeout=0", "timeout")],
)
def test_a_limit_that_is_none_is_refused(capsys, option, message):
    code, line = refused(capsys, option)
    assert code == 2 and message in line


def test_without_its_extra_it_says_what_to_install(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    code, line = refused(capsys)
    assert code == 1 and "pip install 'bert-on-triton[gateway]'" in line


def test_nothing_of_it_is_imported_before_it_is_asked_for():
    code = (
        "import sys, client_sdk, client_sdk._commands.program\n"
        "print([name for name in ('fastapi', 'starlette', 'uvicorn', 'pydantic') if name in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed == "[]\n"


def test_it_runs_in_uvloop_where_that_is_there(monkeypatch):
    loops = []

    async def serving():
        loops.append(type(asyncio.get_running_loop()).__module__)

    pytest.importorskip("uvloop", reason="there is none for this system")
    gateway._run(serving())
    monkeypatch.setitem(sys.modules, "uvloop", None)
    gateway._run(serving())
    assert loops == ["uvloop", "asyncio.unix_events"]
