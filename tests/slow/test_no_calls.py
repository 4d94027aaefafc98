"""Export and server in a network of their own, where questions to name servers are recorded: nothing calls out."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support import reference

IN_A_NETWORK_OF_ITS_OWN = ["unshare", *(["--map-root-user"] if os.geteuid() else []), "--net"]

# Arguments: a checkpoint, and a folder for the repository.
DRIVER = """
import fcntl, re, socket, struct, subprocess, sys, threading, time

SIOCSIFADDR, SIOCSIFFLAGS, UP = 0x8916, 0x8914, 1

def set_address(interface, address):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        name = interface.encode()
        where = struct.pack("16sH2s4s8x", name, socket.AF_INET, b"", socket.inet_aton(address))
        fcntl.ioctl(control, SIOCSIFADDR, where)
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH14x", name, UP))

def name_server():
    found = re.search(r"^nameserver +([0-9.]+) *$", open("/etc/resolv.conf").read(), re.MULTILINE)
    return found[1] if found else "127.0.0.1"

set_address("lo", "127.0.0.1")
if not name_server().startswith("127."):
    set_address("lo:1", name_server())
questions = []
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind((name_server(), 53))

def record():
    while True:
        question, sender = server.recvfrom(4096)
        questions.append(re.sub(rb"[^a-z.]+", b".", question[12:]).decode())
        server.sendto(question[:2] + b"\\x81\\x83" + question[4:], sender)  # there is no such name

threading.Thread(target=record, daemon=True).start()
try:
    socket.getaddrinfo("a-name-that-is-asked-for.example", 80)
except OSError:
    pass
assert questions, "the recorder does not work"
questions.clear()

checkpoint, repository = sys.argv[1:]
subprocess.run([sys.executable, "-m", "export", checkpoint, "--repository", repository], check=True)
from client_sdk import Client, LocalServer
with LocalServer(repository) as server_, Client(server_.grpc_url) as client:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        client.encode(["text"] * 100)
        time.sleep(1)
assert not questions, questions
"""


def test_nothing_calls_out_and_nothing_is_written_into_the_home_directory(tmp_path: Path):
    home = tmp_path / "home"
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "XDG_"))}
    ended = subprocess.run(
        [*IN_A_NETWORK_OF_ITS_OWN, sys.executable, "-c", DRIVER, reference.checkpoint(), tmp_path / "models"],
        env=environment | {"HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert list(home.rglob("*")) == []
