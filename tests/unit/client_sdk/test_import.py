"""`import client_sdk` on a system that is not Linux, as far as that can be told on one that is."""

from __future__ import annotations

import subprocess
import sys

# What others need of them is imported before they are taken away.
PROGRAM = """
import asyncio, concurrent.futures, http.client, logging, multiprocessing, ssl, subprocess, tempfile
import aiohttp, grpc.aio, numpy, tritonclient.grpc
import os, signal, socket, sys

for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None
for module, names in {
    os: "fork geteuid getuid killpg mkfifo register_at_fork sched_getaffinity setsid statvfs O_DIRECTORY O_NOFOLLOW",
    signal: "SIGALRM SIGCHLD SIGHUP SIGKILL SIGPIPE SIGQUIT SIGUSR1 pthread_sigmask",
    socket: "AF_UNIX",
}.items():
    for name in names.split():
        delattr(module, name)

import client_sdk
import client_sdk.bert_as_service
import client_sdk._commands.program

client_sdk.Client("127.0.0.1:1").close()
client_sdk.Client("http://127.0.0.1:1").close()
os.makedirs(sys.argv[1] + "/bert/1")
open(sys.argv[1] + "/bert/config.pbtxt", "w").write('name: "bert"')
try:
    client_sdk.LocalServer(sys.argv[1], executable="/no/such/tritonserver").start()
except client_sdk.TritonServerNotFound as error:
    print(error)
"""


def test_it_needs_nothing_that_only_unix_has(tmp_path):
    done = subprocess.run([sys.executable, "-c", PROGRAM, tmp_path / "models"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "'/no/such/tritonserver' does not exist" in done.stdout
