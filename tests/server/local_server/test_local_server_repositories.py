"""Repositories that a LocalServer serves whatever their paths and whatever else lies in them, or refuses at once."""

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from client_sdk import Client, InvalidArgument, LocalServer, ServerStartError
from tests.support.patience import wait_for
from tests.support.servers.local_servers import (
    BROKEN,
    UPPER,
    ending,
    files_of,
    free_ports,
    http_request,
    make_model,
    python,
    read_until,
    serve,
    upper_by_http,
)

PATHS = [
    "with space",
    "quotes ' and \"",
    "ünïcödé-模型",
    "new\nline and \\",
    "~ #1; a=$HOME $(touch here) `touch here` & | < > star*[1]? {a,b} !",
    "a" * 200,
]


@pytest.mark.parametrize("name", PATHS)
def test_a_repository_is_served_whatever_its_path_is(tmp_path: Path, name: str):
    make_model(tmp_path / name / "models", "upper", UPPER)
    with LocalServer(tmp_path / name / "models") as server:
        assert server.model_repository == tmp_path / name / "models"
        assert upper_by_http(server, "text") == "TEXT"


def test_a_family_is_served_from_an_odd_path_with_the_same_vectors(
    tmp_path: Path, bert_repository: Path, server: LocalServer
):
    odd = tmp_path / "it's a $path;"
    odd.symlink_to(bert_repository)
    copy = tmp_path / "Modelle für\nalle"
    shutil.copytree(bert_repository, copy)
    with Client(server.grpc_url) as client:
        expected = client.encode(["one", "two words"])
    for path in (odd, copy):
        with LocalServer(path) as other, Client(other.grpc_url) as client:
            np.testing.assert_array_equal(client.encode(["one", "two words"]), expected)


def test_models_can_be_loaded_from_an_odd_path_while_it_is_served(tmp_path: Path):
    path = tmp_path / "a b"
    make_model(path, "upper", UPPER)
    (path / "lost+found").mkdir()
    (path / "gone").symlink_to(tmp_path / "nowhere")
    with LocalServer(path, open_endpoints=["model-repository"]) as server:
        make_model(path, "later", UPPER)
        assert http_request(server.http_url, "POST", "/v2/repository/models/later/load", {})[0] == 200
        assert http_request(server.http_url, "GET", "/v2/models/later/ready")[0] == 200


IN_A_SCRIPT = """
import sys
from client_sdk import LocalServer
with LocalServer(sys.argv[1]) as server:
    print('up', server.http_url, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("name", ["with space", "tmp-ünï", "star[1]*", "semi;colon", "t" * 150])
def test_it_is_served_whatever_tmpdir_is(tmp_path: Path, upper_repository: Path, name: str):
    place = tmp_path / name
    place.mkdir()
    with ending(python(IN_A_SCRIPT, upper_repository, environment={"TMPDIR": str(place)})) as process:
        assert "up http://" in read_until(process, "up")
    assert [entry.name for entry in place.iterdir() if "bert-on-triton" not in entry.name] == []


def test_what_is_no_model_does_not_keep_it_from_starting_and_is_told_in_one_line(tmp_path: Path):
    repository = tmp_path / "models"
    make_model(repository, "upper", UPPER)
    (repository / "lost+found").mkdir()
    (repository / ".cache").mkdir()
    (repository / ".export-models-bert" / "new" / "bert").mkdir(parents=True)
    (repository / "gone").symlink_to(tmp_path / "nowhere")
    (repository / "upper" / "2").mkdir()
    (repository / "upper" / "03").mkdir()
    ports = free_ports()
    with ending(serve(repository, ports=ports)) as process:
        read_until(process, "Ctrl-C")
        assert http_request(f"http://127.0.0.1:{ports[0]}", "GET", "/v2/models/upper/versions/1/ready")[0] == 200
        process.terminate()
        assert process.wait(20) == 0
        assert process.stderr is not None
        told = process.stderr.read()
    assert told.count("\n") == 1
    for name in ("lost+found", ".cache", ".export-models-bert", "gone", "upper/2"):
        assert f"'{name}'" in told


def test_an_error_names_the_path_that_was_given(tmp_path: Path):
    make_model(tmp_path / "a b", "broken", BROKEN)
    with pytest.raises(Exception, match="no weights in this directory") as error, LocalServer(tmp_path / "a b"):
        pass
    assert f"{tmp_path}/a b/broken/1/model.py(4): initialize" in str(error.value)
    for noise in ("CUDA", "Cuda", "NVML", "DCGM"):
        assert noise not in str(error.value)


@pytest.mark.usefixtures("ends_in_order")
def test_nothing_of_a_view_is_left(tmp_path: Path):
    make_model(tmp_path / "a b", "upper", UPPER)
    with LocalServer(tmp_path / "a b") as server:
        name = http_request(server.http_url, "GET", "/v2")[1].decode().partition('"name":"')[2].partition('"')[0]
        assert any((path / "models").is_dir() for path in files_of(name))
    assert files_of(name) == []


@pytest.mark.parametrize("role", ["", "_tokens", "_tokenizer", "_encoder", "_pooling"])
@pytest.mark.parametrize("change", ["response_cache { enable: true }", "version_policy { all { } }"])
def test_a_family_that_would_give_wrong_vectors_is_refused_before_it_starts(
    tmp_path: Path, bert_repository: Path, role: str, change: str
):
    repository = tmp_path / "models"
    shutil.copytree(bert_repository, repository)
    for model in repository.iterdir():
        shutil.copytree(model / "1", model / "2")
    with (repository / f"bert{role}" / "config.pbtxt").open("a") as config:
        config.write(f"\n{change}\n")
    started = time.monotonic()
    with pytest.raises(InvalidArgument, match=f"/bert{role}/config.pbtxt' .*{change.split()[0]}"):
        LocalServer(repository).start()
    assert time.monotonic() - started < 5


def test_export_turns_no_response_cache_on(bert_repository: Path):
    for config in bert_repository.glob("*/config.pbtxt"):
        assert not text_format.Parse(config.read_text(), ModelConfig()).HasField("response_cache")


def test_remote_storage_is_refused_as_what_it_is():
    with pytest.raises(InvalidArgument, match="'s3://bucket/models' is in remote storage"):
        LocalServer("s3://bucket/models")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--model-control-mode=poll"],
        ["--model-control-mode", "poll"],
        ["--model-control-m=explicit"],
        ["--load-model=upper"],
        ["--exit-on-error=false"],
        ["--exit-on-error", "False"],
        ["--allow-http=false"],
        ["--allow-http=0"],
        ["--allow-vertex-ai=true"],
        ["--allow-sagemaker=1"],
        ["--repository-poll-secs=1"],
        ["--model-config-name=other"],
        ["--model-namespacing=true"],
        ["--id=mine"],
        ["--backend-config=python,shm-region-prefix-name=mine"],
        ["--model-rep=/other"],
        ["--model-store=/other"],
    ],
)
def test_an_option_that_would_keep_it_from_being_ready_is_refused_at_once(upper_repository: Path, arguments: list[str]):
    with pytest.raises(InvalidArgument, match="is not for here: "):
        LocalServer(upper_repository, extra_args=arguments)


def test_options_that_say_what_holds_anyway_are_taken(upper_repository: Path):
    arguments = ["--allow-http=true", "--exit-on-error", "1", "--model-control-mode=none", "--strict-readiness=false"]
    with LocalServer(upper_repository, extra_args=arguments) as server:
        assert upper_by_http(server, "text") == "TEXT"


@pytest.mark.parametrize("inside", [True, False])
def test_an_export_that_was_killed_is_ended_before_it_is_served(tmp_path: Path, inside: bool):
    repository = tmp_path / "models"
    make_model(repository, "upper", BROKEN)
    staging = repository / ".export-upper~" if inside else tmp_path / f".export-upper~{repository.name}"
    make_model(staging / "commit", "upper", UPPER)
    with LocalServer(repository) as server:
        assert upper_by_http(server, "text") == "TEXT"
    assert not staging.exists()


LOADS_WHEN_TOLD = UPPER.replace(
    "class TritonPythonModel:",
    """import os
import time

class TritonPythonModel:
    def initialize(self, args):
        here = os.path.dirname(__file__)
        open(os.path.join(here, "loading"), "w").close()
        while not os.path.exists(os.path.join(here, "go")):
            time.sleep(0.01)
""",
)


@pytest.mark.parametrize("marked", [False, True])
@pytest.mark.parametrize("after", ["one", "two"])
def test_a_network_that_was_exported_again_while_it_was_loaded_is_not_served(tmp_path: Path, marked: bool, after: str):
    """As a native backend's, whose files do not say of which export they are; a step with such a file looks itself."""
    repository = tmp_path / "models"
    make_model(repository, "upper", LOADS_WHEN_TOLD)
    config, version = repository / "upper/config.pbtxt", repository / "upper/1"
    text = config.read_text() + 'parameters { key: "identity.1" value { string_value: "one" } }\n'
    config.write_text(text)
    if marked:
        (version / "identity").write_text("one")

    def export_again() -> None:
        wait_for((version / "loading").exists)
        config.write_text(text.replace('"one"', f'"{after}"'))
        (version / "go").touch()

    server = LocalServer(repository)
    with ThreadPoolExecutor() as pool:
        exporting = pool.submit(export_again)
        try:
            if after == "one" or marked:
                server.start()
                assert upper_by_http(server, "text") == "TEXT"
            else:
                with pytest.raises(ServerStartError, match="upper of .* was exported again while tritonserver loaded"):
                    server.start()
                server.start()
                assert upper_by_http(server, "text") == "TEXT"
            exporting.result()
        finally:
            (version / "go").touch()
            server.stop()
