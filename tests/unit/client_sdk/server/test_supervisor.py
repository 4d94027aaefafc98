import os
import resource
from pathlib import Path

import pytest

from client_sdk import LocalServer
from client_sdk._server.listen import Ports
from client_sdk._server.log import ServerLog
from client_sdk._server.run import ServerRun
from client_sdk._server.supervisor import LONGEST_PAUSE_SECONDS, PAUSED_SECONDS, STABLE_SECONDS, Clock, Pauses


def test_the_first_start_again_is_at_once_and_each_next_one_waits_twice_as_long():
    pauses = Pauses()
    assert [pauses.after_run_of(1.0) for _ in range(9)] == [0, 1, 2, 4, 8, 16, 32, 60, 60]
    assert LONGEST_PAUSE_SECONDS == 60


def test_a_server_that_stayed_up_is_started_at_once_again():
    pauses = Pauses()
    for _ in range(5):
        pauses.after_run_of(1.0)
    assert pauses.after_run_of(STABLE_SECONDS) == 0
    assert pauses.after_run_of(1.0) == 1


def test_a_clock_that_jumped_between_two_looks_tells_of_a_pause(monkeypatch: pytest.MonkeyPatch):
    times = iter([0.0, 0.5, PAUSED_SECONDS + 0.4, 2 * PAUSED_SECONDS + 0.5, 2 * PAUSED_SECONDS + 1.0])
    monkeypatch.setattr("time.monotonic", lambda: next(times))
    clock = Clock()
    assert [clock.look() for _ in range(4)] == [False, False, True, False]
    assert clock.now == 2 * PAUSED_SECONDS + 1.0


def test_a_server_is_ended_where_no_more_files_can_be_opened(tmp_path: Path):
    log = ServerLog()
    run = ServerRun(LocalServer(tmp_path)._settings, Ports(1, 2, 3), log)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open("/dev/null", os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            os.listdir("/dev/shm")
        run.end()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        log.close()
