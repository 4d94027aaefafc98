"""What a server keeps in shared memory: for its own user alone, and not for longer than it lives."""

import contextlib
import fcntl
import os
import signal
from pathlib import Path

import pytest

from client_sdk import LocalServer
from client_sdk._server.own_files import SHARED_MEMORY
from tests.support.servers.local_servers import (
    UPPER,
    ending,
    files_of,
    http_request,
    make_model,
    name_of,
    processes_of,
    python,
    read_until,
    upper_by_http,
    wait_for,
)

IN_A_SCRIPT = """
import sys, time
from client_sdk import LocalServer
with LocalServer(sys.argv[1]) as server:
    print('up', flush=True)
    time.sleep(60)
"""
NOBODY = 65534


def kill_all_of(repository: Path, parent: int) -> None:
    """SIGKILL for all at once, as when a container is ended: nobody can clean up."""
    processes = [parent, *(pid for pid in processes_of(repository) if pid != parent)]
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    for pid in processes:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not processes_of(repository))


def test_what_a_killed_server_left_is_removed_at_the_next_start(upper_repository: Path):
    with ending(python(IN_A_SCRIPT, upper_repository)) as parent:
        read_until(parent, "up")
        name = name_of(upper_repository)
        kill_all_of(upper_repository, parent.pid)
        parent.wait()
    left = files_of(name)
    assert {path.parent for path in left} >= {SHARED_MEMORY} and len(left) > 1
    with LocalServer(upper_repository):
        assert files_of(name) == []


def test_what_a_living_server_keeps_stays_at_the_start_of_others(upper_repository: Path):
    with LocalServer(upper_repository) as first:
        name = name_of(upper_repository)
        kept = files_of(name)
        with LocalServer(upper_repository), LocalServer(upper_repository):
            assert files_of(name) == kept
        assert files_of(name) == kept
        assert upper_by_http(first, "text") == "TEXT"


@pytest.fixture
def foreign(tmp_path: Path):
    """Files in /dev/shm that no start may remove: another user's, those of a lock that is held, one of another name."""
    names = ("bert-on-triton-0000", "bert-on-triton-0001")
    paths = [SHARED_MEMORY / f"{name}{end}" for name in names for end in (".lock", "-region")]
    paths.append(SHARED_MEMORY / "another-0002-region")
    for path in paths:
        path.touch()
    with contextlib.suppress(PermissionError):
        os.chown(paths[0], NOBODY, NOBODY)
    with paths[2].open() as locked:
        fcntl.flock(locked, fcntl.LOCK_SH)
        yield paths if os.geteuid() == 0 else paths[2:]
    for path in paths:
        path.unlink(missing_ok=True)


def test_nothing_of_others_is_removed(upper_repository: Path, foreign: list[Path]):
    with LocalServer(upper_repository):
        assert all(path.exists() for path in foreign)


def test_no_other_user_can_read_what_is_handed_from_step_to_step(upper_repository: Path):
    with LocalServer(upper_repository) as server:
        upper_by_http(server, "a text that is nobody's business")
        regions = [path for path in files_of(name_of(upper_repository)) if path.parent == SHARED_MEMORY]
        assert len(regions) > 1
        assert {path.stat().st_mode & 0o077 for path in regions} == {0}
        if os.geteuid() == 0:
            os.setresuid(NOBODY, NOBODY, 0)
            try:
                for path in regions:
                    with pytest.raises(PermissionError):
                        path.open("rb")
            finally:
                os.setresuid(0, 0, 0)


def test_a_model_that_is_loaded_later_is_closed_to_others_too(upper_repository: Path):
    with LocalServer(upper_repository, open_endpoints=["model-repository"]) as server:
        before = set(files_of(name_of(upper_repository)))
        make_model(upper_repository, "later", UPPER)
        assert http_request(server.http_url, "POST", "/v2/repository/models/later/load", {})[0] == 200
        new = set(files_of(name_of(upper_repository))) - before
        assert new
        wait_for(lambda: {path.stat().st_mode & 0o077 for path in new} == {0})
