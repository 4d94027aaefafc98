import os
import resource
import time
from pathlib import Path

import pytest

from client_sdk._server.log import ServerLog, failure_reasons, gave_a_step_up, is_stuck, models_loading

HEALTHY = """\
W1122 12:18:44.178083 4846 pinned_memory_manager.cc:273] "Unable to allocate pinned system memory"
E1122 12:18:44.178317 4846 server.cc:241] "CudaDriverHelper has not been initialized."
I1122 12:18:44.179754 4846 model_lifecycle.cc:472] "loading: bad:1"
+-------+---------+--------+
| Model | Version | Status |
+-------+---------+--------+
| good  | 1       | READY  |
+-------+---------+--------+
Error: Failed to initialize NVML
"""


def entry(level: str, source: str, message: str) -> str:
    """A line of the log, in which Triton writes newlines as two characters."""
    escaped = message.replace("\n", "\\n")
    return f'{level}1122 12:18:44.570396 4846 {source}:366] "{escaped}"\n'


TRACE = "\n\nAt:\n  /r/bad/1/model.py(3): initialize\n  <frozen importlib._bootstrap>(241): _load\n"
FAILED_INITIALIZE = (
    HEALTHY
    + entry("I", "pb_stub.cc", f"Failed to initialize Python stub: ValueError: no weights{TRACE}")
    + entry("E", "backend_model.cc", f"ERROR: Failed to create instance: ValueError: no weights{TRACE}")
    + entry("E", "model_lifecycle.cc", f"failed to load 'bad' version 1: Internal: ValueError: no weights{TRACE}")
    + entry(
        "E",
        "model_repository_manager.cc",
        "Invalid argument: ensemble 'top' depends on 'bad' which has no loaded version. "
        "Model 'bad' loading failed with error: version 1 is at UNAVAILABLE state: "
        f"Internal: ValueError: no weights{TRACE};",
    )
    + """\
+-------+---------+--------------------------------------------------+
| Model | Version | Status                                           |
+-------+---------+--------------------------------------------------+
| bad   | 1       | UNAVAILABLE: Internal: ValueError: no weights    |
|       |         |                                                  |
|       |         | At:                                              |
| other | -       | Not loaded: No model version was found           |
+-------+---------+--------------------------------------------------+
"""
    + entry("I", "server.cc", "Waiting for in-flight requests to complete.")
    + "error: creating server: Internal - failed to load all models\n"
)
PREINITIALIZE = "Failed to preinitialize Python stub: Python model file not found in '/r/m'"


def test_reasons_are_the_errors_once_without_the_rest_of_the_log():
    assert failure_reasons(FAILED_INITIALIZE) == [
        "failed to load 'bad' version 1: Internal: ValueError: no weights",
        "At:",
        "  /r/bad/1/model.py(3): initialize",
        "Invalid argument: ensemble 'top' depends on 'bad' which has no loaded version.",
        "error: creating server: Internal - failed to load all models",
        "other: Not loaded: No model version was found",
    ]


@pytest.mark.parametrize(
    ("line", "given_up"),
    [
        ("failed to run warmup sample 'one text': Stub process 'bert_tokenizer_0_1' is not healthy.;", True),
        ("Failed to obtain the health mutex.", True),
        ("  what():  boost::interprocess::lock_exception", True),
        ("Internal: ValueError: no weights", False),
    ],
)
def test_a_step_that_triton_gave_up_is_told_from_one_that_failed(line, given_up):
    assert gave_a_step_up(HEALTHY + entry("E", "model_lifecycle.cc", line)) == given_up


def test_what_a_healthy_server_logs_is_no_reason():
    # Nothing says why, so the end of the log is shown, without what every machine that has no GPU logs.
    assert failure_reasons(HEALTHY) == [HEALTHY.splitlines()[2]]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (
            '[libprotobuf ERROR /tmp/text_format.cc:337] Error parsing ModelConfig: 4:1: Expected ",".',
            'Error parsing ModelConfig: 4:1: Expected ",".',
        ),
        (
            "stub: error while loading shared libraries: libpython3.11.so.1.0: cannot open it",
            "stub: error while loading shared libraries: libpython3.11.so.1.0: cannot open it",
        ),
        ("tritonserver: unrecognized option '--nosuch'", "tritonserver: unrecognized option '--nosuch'"),
        (f"I1122 12:18:46.386270 4922 pb_stub.cc:2105]  {PREINITIALIZE}", PREINITIALIZE),
        (
            entry("E", "main.cc", "failed to start HTTP service: Unavailable - Socket 'a:1' already in use "),
            "failed to start HTTP service: Unavailable - Socket 'a:1' already in use",
        ),
    ],
)
def test_reason_of_one_line(line: str, reason: str):
    assert failure_reasons(HEALTHY + line + "\n") == [reason]


def test_an_unquoted_message_goes_on_over_lines():
    log = "E1122 12:18:44.988231 4889 pb_stub.cc:366]  ImportError: no x\n\nAt:\n  /r/model.py(1): <module>\n"
    assert failure_reasons(log) == ["ImportError: no x", "At:", "  /r/model.py(1): <module>"]


def test_a_python_traceback_is_a_reason():
    log = HEALTHY + 'Traceback (most recent call last):\n  File "m.py", line 1, in f\nKeyError: 3\n'
    assert failure_reasons(log) == [
        "Traceback (most recent call last):",
        '  File "m.py", line 1, in f',
        "KeyError: 3",
    ]


def test_many_reasons_are_cut():
    log = "".join(entry("E", "model_lifecycle.cc", f"failed to load m{i:03}") for i in range(100))
    reasons = failure_reasons(log)
    assert len(reasons) == 20
    assert (reasons[0], reasons[-1]) == ("failed to load m000", "...")


def test_models_loading_are_those_begun_and_not_loaded():
    log = (
        entry("I", "model_lifecycle.cc", "loading: slow:1")
        + entry("I", "model_lifecycle.cc", "loading: quick:1")
        + entry("I", "model_lifecycle.cc", "successfully loaded 'quick'")
    )
    assert models_loading(log) == ["slow"]


def test_a_python_backend_that_is_gone_is_waited_for_in_vain():
    assert is_stuck(f"{HEALTHY}I1122 12:18:46.386270 4922 pb_stub.cc:2105]  {PREINITIALIZE}")
    assert not is_stuck(FAILED_INITIALIZE)


def test_the_log_is_read_without_moving_where_it_is_written(tmp_path: Path):
    log = ServerLog()
    os.write(log.fileno(), b"one\n")
    assert log.read() == b"one\n"
    os.write(log.fileno(), b"two\n")
    assert log.read() == b"one\ntwo\n"
    assert log.read(4) == b"two\n"
    assert log.read(8) == b""
    log.close()
    assert log.text() == "one\ntwo\n"


def test_a_named_log_is_appended_to_and_only_the_new_part_is_read(tmp_path: Path):
    path = tmp_path / "server.log"
    path.write_text("of an earlier run\n")
    log = ServerLog(path)
    os.write(log.fileno(), b"of this run\n")
    log.close()
    assert log.text() == "of this run\n"
    assert path.read_text() == "of an earlier run\nof this run\n"


def test_of_a_long_log_the_end_is_read():
    log = ServerLog()
    os.write(log.fileno(), b"first\n" + b"x" * (4 << 20) + b"\nlast")
    text = log.text()
    log.close()
    assert len(text) == 4 << 20
    assert text.endswith("\nlast")


@pytest.fixture
def pipe(tmp_path: Path):
    """A pipe with a name, and the end to read from."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    yield path, reader
    os.close(reader)


def wait_for_size(log: ServerLog, size: int) -> None:
    deadline = time.monotonic() + 10
    while log.size < size:
        assert time.monotonic() < deadline, "it was not read in time"
        time.sleep(0.01)


def test_a_log_that_goes_to_a_pipe_is_handed_on_and_read_back(pipe: tuple[Path, int]):
    path, reader = pipe
    log = ServerLog(path)
    os.write(log.fileno(), b"one\n")
    wait_for_size(log, 4)
    assert log.read() == b"one\n"
    os.write(log.fileno(), b"two\n")
    wait_for_size(log, 8)
    assert log.read(4) == b"two\n" and log.read(8) == b"" and log.text() == "one\ntwo\n"
    os.write(log.fileno(), b"last\n")
    log.close()
    assert log.text() == "one\ntwo\nlast\n"
    assert os.read(reader, 100) == b"one\ntwo\nlast\n"


def test_a_log_goes_to_a_pipe_from_a_process_with_many_open_files_too(pipe: tuple[Path, int]):
    path, reader = pipe
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (2048, limits[1]))
    held = [os.dup(reader) for _ in range(1100)]  # select() takes no descriptor above 1023
    try:
        log = ServerLog(path)
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    os.write(log.fileno(), b"one\n")
    wait_for_size(log, 4)
    log.close()
    assert os.read(reader, 100) == b"one\n" and log.text() == "one\n"


def test_of_a_long_log_that_goes_to_a_pipe_the_end_is_kept():
    log = ServerLog(Path("/dev/null"))
    for _ in range(160):
        os.write(log.fileno(), b"x" * (1 << 16))
    os.write(log.fileno(), b"last")
    wait_for_size(log, 160 * (1 << 16) + 4)
    assert log.read(log.size - 6) == b"xxlast"
    log.close()
    assert len(log.text()) == 4 << 20 and log.text().endswith("xlast")
