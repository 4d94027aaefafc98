"""The guard with ordinary programs in the place of a server."""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from client_sdk._server import guard as guard_program
from tests.support.patience import PATIENCE, taking_at_least, wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the guard is for Linux")

# A server with a child in a session of its own; it ignores SIGTERM if told to. The last argument marks both.
PROGRAM = """
import signal, subprocess, sys, time
if sys.argv[1] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if sys.argv[1] != "child":
    subprocess.Popen([sys.executable, __file__, "child", sys.argv[2]], start_new_session=True)
open(sys.argv[2] + "." + sys.argv[1], "w").close()
time.sleep(600)
"""


def processes_marked(mark: Path) -> list[int]:
    """The processes whose last argument is `mark`."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and (entry / "cmdline").read_bytes().endswith(b"\0" + bytes(mark) + b"\0"):
                found.append(int(entry.name))
    return found


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "mark"


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


@contextlib.contextmanager
def guarded(
    *command: str | Path, grace: float = 600.0, remove: tuple = (), parent: int | None = None, options: tuple = ()
) -> Iterator:
    """A guard with `command`; it is killed at the end if the test did not end it."""
    guard = subprocess.Popen(
        [
            *(
                sys.executable,
                "-I",
                "-S",
                guard_program.__file__,
                f"--parent={parent or os.getpid()}",
                f"--grace={grace}",
            ),
            *(f"--remove={path}" for path in remove),
            *options,
            *("--", *map(str, command)),
        ],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield guard
    finally:
        guard.kill()
        guard.communicate()


def test_exit_status_is_the_servers():
    with guarded("sh", "-c", "exit 7") as guard:
        assert guard.wait(PATIENCE) == 7


def test_death_by_a_signal_is_told_as_a_shell_does():
    with guarded("sh", "-c", "kill -9 $$") as guard:
        assert guard.wait(PATIENCE) == 128 + signal.SIGKILL


def test_a_program_that_cannot_be_run_is_named(tmp_path: Path):
    with guarded(tmp_path / "nothing") as guard:
        assert guard.wait(PATIENCE) == 127
        assert str(tmp_path / "nothing") in guard.stderr.read().decode()


def test_sigterm_ends_the_server_and_its_children(program: Path, mark: Path):
    with guarded(sys.executable, program, "server", mark) as guard:
        wait_for(Path(f"{mark}.child").exists)
        assert len(processes_marked(mark)) == 3  # the guard itself, the server and its child
        guard.terminate()
        assert guard.wait(PATIENCE) == 128 + signal.SIGTERM
        assert processes_marked(mark) == []


def test_end_of_input_ends_the_server(program: Path, mark: Path):
    with guarded(sys.executable, program, "server", mark) as guard:
        wait_for(Path(f"{mark}.child").exists)
        guard.stdin.close()
        assert guard.wait(PATIENCE) == 128 + signal.SIGTERM
        assert processes_marked(mark) == []
        guard.stdin = None


def test_a_parent_that_is_another_ends_the_server(program: Path, mark: Path):
    with guarded(sys.executable, program, "server", mark, parent=-1) as guard:
        assert guard.wait(PATIENCE) == 128 + signal.SIGTERM
        assert processes_marked(mark) == []


def test_a_server_that_ignores_sigterm_is_killed_after_the_grace_time(program: Path, mark: Path):
    with guarded(sys.executable, program, "stubborn", mark, grace=0.5) as guard:
        wait_for(Path(f"{mark}.child").exists)
        with taking_at_least(0.5):
            guard.terminate()
            assert guard.wait(PATIENCE) == 128 + signal.SIGKILL
        assert processes_marked(mark) == []


def test_a_killed_guard_takes_the_server_with_it(program: Path, mark: Path):
    with guarded(sys.executable, program, "server", mark) as guard:
        wait_for(Path(f"{mark}.server").exists)
        server = [pid for pid in processes_marked(mark) if b"server" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        guard.kill()
        guard.wait(PATIENCE)
        try:
            wait_for(lambda: not set(server) & set(processes_marked(mark)))
        finally:
            # Its child is in a session of its own, and nobody is left to know of it.
            for pid in processes_marked(mark):
                os.kill(pid, signal.SIGKILL)


def test_children_of_a_server_that_ends_by_itself_are_killed(tmp_path: Path, mark: Path):
    short_lived = tmp_path / "short.py"
    short_lived.write_text(PROGRAM.replace("time.sleep(600)", "time.sleep(600 if sys.argv[1] == 'child' else 0)"))
    with guarded(sys.executable, short_lived, "server", mark) as guard:
        assert guard.wait(PATIENCE) == 0
        assert processes_marked(mark) == []


def test_named_files_and_directories_are_removed_and_no_others(tmp_path: Path):
    for name in ("shm-1", "shm-2", "other"):
        (tmp_path / name).touch()
    (tmp_path / "run" / "backends").mkdir(parents=True)
    (tmp_path / "run" / "backends" / "link").symlink_to(tmp_path / "other")
    with guarded("true", remove=(tmp_path / "shm-*", tmp_path / "run")) as guard:
        assert guard.wait(PATIENCE) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_sigquit_ends_a_stubborn_server_without_the_grace_time(program: Path, mark: Path):
    with guarded(sys.executable, program, "stubborn", mark, grace=600) as guard:
        wait_for(Path(f"{mark}.child").exists)
        guard.send_signal(signal.SIGQUIT)
        assert guard.wait(PATIENCE) == 128 + signal.SIGKILL
        assert processes_marked(mark) == []


def test_a_secret_reaches_the_server_and_not_the_guards_own_arguments(tmp_path: Path):
    script = tmp_path / "script"
    script.write_text(f'echo "$1" > {tmp_path}/seen; sleep 600')
    with guarded("sh", script, "Bearer (key)", options=("--secret=(key)",)) as guard:
        guard.stdin.write(b"top secret\n")
        guard.stdin.flush()
        wait_for(lambda: (tmp_path / "seen").exists() and (tmp_path / "seen").read_text())
        assert (tmp_path / "seen").read_text() == "Bearer top secret\n"
        assert b"top secret" not in Path(f"/proc/{guard.pid}/cmdline").read_bytes()
        guard.terminate()
        assert guard.wait(PATIENCE) == 128 + signal.SIGTERM


def test_nothing_is_started_by_a_parent_that_dies_before_it_tells_the_secret(tmp_path: Path):
    with guarded("touch", tmp_path / "started", options=("--secret=(key)",)) as guard:
        guard.stdin.close()
        assert guard.wait(PATIENCE) == 128 + signal.SIGTERM
        guard.stdin = None
    assert not (tmp_path / "started").exists()


def test_private_files_are_closed_to_others_while_the_server_runs(tmp_path: Path):
    script = tmp_path / "script"
    script.write_text(f"umask 0; echo text > {tmp_path}/shm-1; touch {tmp_path}/other; exec sleep 60")
    with guarded("sh", script, options=(f"--private={tmp_path}/shm-*",)):
        wait_for(lambda: (tmp_path / "other").exists())
        wait_for(lambda: (tmp_path / "shm-1").stat().st_mode & 0o777 == 0o600)
        assert (tmp_path / "other").stat().st_mode & 0o777 == 0o666


def is_locked(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def test_the_lock_is_held_while_anything_that_was_started_lives(mark: Path, tmp_path: Path):
    lock = tmp_path / "lock"
    # The shell is killed with the guard, and what it started is not; that has closed nothing, as Triton's steps.
    command = ("sh", "-c", f"setsid sleep 60 & echo $! > {mark}; wait")
    with guarded(*command, options=(f"--lock={lock}",)) as guard:
        wait_for(lambda: mark.exists() and mark.read_text())
        assert is_locked(lock)
        assert [path.name for path in tmp_path.glob("lock*")] == ["lock"]
        guard.kill()
        guard.wait(5)
        assert is_locked(lock)
        os.kill(int(mark.read_text()), signal.SIGKILL)
        wait_for(lambda: not is_locked(lock))
