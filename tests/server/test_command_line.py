"""`python -m client_sdk` against the real model; its own errors are in tests/unit."""

import io
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from client_sdk import Client, LocalServer
from client_sdk.__main__ import main
from tests.server.local_servers import ending


@pytest.fixture(params=["grpc", "http"])
def url(request, server: LocalServer, monkeypatch) -> str:
    url = server.grpc_url if request.param == "grpc" else server.http_url
    monkeypatch.setenv("CLIENT_SDK_URL", url)
    return url


@pytest.fixture
def vectors(url):
    with Client(url) as client:
        return client.encode(["First do it", "then do it right"])


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_bytes("\ufeffFirst do it\r\nthen do it right".encode())
    return path


def same(found, expected):
    np.testing.assert_allclose(np.asarray(found, np.float32), expected, rtol=0, atol=1e-5)


def test_info_is_json(url, capsys):
    assert main(["info"]) == 0
    assert json.loads(capsys.readouterr().out)["dimension"] == 384


def test_texts_become_json_lines(vectors, file, capsys):
    assert main(["encode", str(file)]) == 0
    shown = capsys.readouterr()
    entries = [json.loads(line) for line in shown.out.splitlines()]
    assert [entry["text"] for entry in entries] == ["First do it", "then do it right"]
    same([entry["vector"] for entry in entries], vectors)
    assert shown.err == ""


def test_standard_input_is_read(vectors, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"First do it\nthen do it right\n")))
    assert main(["encode", "-"]) == 0
    same([json.loads(line)["vector"] for line in capsys.readouterr().out.splitlines()], vectors)


@pytest.mark.parametrize("suffix", [".npy", ".jsonl"])
def test_texts_become_a_file_which_replaces_the_one_before(vectors, file, suffix):
    output = file.with_suffix(suffix)
    output.write_text("what was there before")
    assert main(["encode", str(file), "-o", str(output)]) == 0
    if suffix == ".npy":
        found = np.load(output)
        assert found.dtype == np.float32
    else:
        found = [json.loads(line)["vector"] for line in output.read_text().splitlines()]
    same(found, vectors)
    assert sorted(os.listdir(file.parent)) == sorted([file.name, output.name])


def test_a_failed_run_leaves_the_output_as_it_was(url, file, capsys):
    output = file.with_suffix(".jsonl")
    output.write_text("what was there before")
    file.write_text("First do it\n \n")
    assert main(["encode", str(file), "-o", str(output)]) == 2
    assert output.read_text() == "what was there before" and len(os.listdir(file.parent)) == 2


def test_options_reach_the_model(url, file, capsys):
    options = [
        "--pooling",
        "mean_max",
        "--no-normalize",
        "--truncate-dim",
        "10",
        "--max-seq-len",
        "5",
        "--prompt",
        "a ",
    ]
    assert main(["encode", str(file), *options]) == 0
    found = [json.loads(line)["vector"] for line in capsys.readouterr().out.splitlines()]
    with Client(url) as client:
        texts = ["First do it", "then do it right"]
        given = {"normalize": False, "truncate_dim": 10, "max_seq_len": 5, "prompt": "a "}
        same(found, client.encode(texts, pooling="mean_max", **given))


def test_more_lines_than_a_chunk_come_out_in_order(url, tmp_path, capsys):
    texts = [f"number {i}" for i in range(2500)]
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    output = tmp_path / "vectors.npy"
    assert main(["encode", str(tmp_path / "texts.txt"), "-o", str(output), "--progress"]) == 0
    assert "2.50ktext" in capsys.readouterr().err
    with Client(url) as client:
        same(np.load(output)[[0, 2047, 2048, 2499]], client.encode([texts[i] for i in (0, 2047, 2048, 2499)]))


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # aiohttp, to tritonclient
def test_a_text_that_the_server_refuses_is_named_by_its_line(url, tmp_path, capsys):
    (tmp_path / "texts.txt").write_text("fine\n" * 2100 + "x" * (1 << 20) + "y\n")
    assert main(["encode", str(tmp_path / "texts.txt"), "-o", str(tmp_path / "out.npy")]) == 2
    assert capsys.readouterr().err.startswith("error: line 2101: 1048577 bytes")


def test_an_unknown_model_is_one_line(url, capsys):
    assert main(["info", "--model", "nope"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: there is no model 'nope'") and "bert" in error and error.count("\n") == 1


def run_encode(stdout):
    command = [sys.executable, "-m", "client_sdk", "encode"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=stdout, stderr=subprocess.PIPE, text=True)


def test_ctrl_c_is_130_without_a_traceback(url):
    with ending(run_encode(subprocess.DEVNULL)) as child:
        child.stdin.write("First do it\n" * 10)
        child.stdin.flush()
        time.sleep(1.5)
        child.send_signal(signal.SIGINT)
        assert child.wait(5) == 130
        assert child.stderr.read() == ""


def test_a_reader_that_leaves_is_141_without_a_traceback(url):
    with ending(run_encode(subprocess.PIPE)) as child:
        child.stdout.close()
        child.stdin.write("First do it\n" * 100)
        child.stdin.close()
        child.stdin = child.stdout = None  # so that nobody looks after them again
        assert child.wait(30) == 141
        assert child.stderr.read() == ""
