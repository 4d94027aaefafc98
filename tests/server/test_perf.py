"""Measuring commands against the server of the tests: that they run and write what they say, not how fast it is."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from client_sdk import Client, LocalServer
from perf.__main__ import main
from perf.processes import server_processes
from perf.rerank import ours as rerank
from tests.support.servers.local_servers import tritonserver_of


@pytest.fixture
def where(server: LocalServer, repository: Path, tmp_path: Path) -> list[str]:
    return [
        "--url",
        server.grpc_url,
        "--url",
        server.http_url,
        "--repository",
        str(repository),
        "--output",
        str(tmp_path),
    ]


def pictures(folder: Path, name: str) -> list[str]:
    return sorted(path.suffix for path in folder.glob(f"{name}.*") if path.stat().st_size > 5000)


def test_perf_analyzer_measures_both_protocols_with_its_steps(
    where: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["load", *where, "--concurrency", "1", "2", "--batch-sizes", "1", "3", "--window", "300"]) == 0
    results = json.loads((tmp_path / "load-bert.json").read_text())
    points = results["points"]
    assert [(p["protocol"], p["batch_size"], p["concurrency"]) for p in points] == [
        (protocol, batch_size, concurrency)
        for protocol in ("grpc", "http")
        for batch_size in (1, 3)
        for concurrency in (1, 2)
    ]
    for point in points:
        assert {step["model"] for step in point["steps"]} == {"bert_tokenizer", "bert_encoder", "bert_pooling"}
        assert point["latency"]["50"] <= point["latency"]["99"]
        assert point["requests"] > 0
    with (tmp_path / "load-bert.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(points)
    assert {".png", ".svg"} <= set(pictures(tmp_path, "load-bert"))
    printed = capsys.readouterr().out
    assert printed.count("--concurrency-range 2") >= 4
    assert "load-bert.png" in printed.splitlines()[-2]


def test_an_open_loop_measures_the_server_and_a_gateway_before_it(
    where: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["load", *where, "--rate", "8", "16", "--window", "1000", "--gateway"]) == 0
    results = json.loads((tmp_path / "rate-bert.json").read_text())
    assert [*results["rates"]] == [*results["knees"]] == ["Triton, by the client", "the gateway, OpenAI's form"]
    for outcomes in results["rates"].values():
        assert [one["rate"] for one in outcomes] == [8, 16]
        assert all(one["errors"] == {} and one["requests"] > 0 for one in outcomes)
        assert all(one["latency"]["50"] <= one["latency"]["99"] <= one["worst"] for one in outcomes)
    assert {".png", ".svg"} <= set(pictures(tmp_path, "rate-bert"))
    printed = capsys.readouterr().out
    assert "knee, the gateway" in printed and "rate-bert.png" in printed.splitlines()[-2]


def test_a_profile_accounts_for_the_whole_request(
    where: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["profile", *where, "--rounds", "1", "--calls", "4", "--batch-size", "8", "--bulk", "70"]) == 0
    spans = json.loads((tmp_path / "profile-bert.json").read_text())["spans"]
    assert list(spans) == ["a lone text", "a batch of 8"]
    for whole in spans.values():
        parts = {part["name"]: part for part in whole["parts"]}
        assert sum(part["milliseconds"] for part in parts.values()) == pytest.approx(whole["milliseconds"])
        assert [step["name"] for step in parts["server"]["parts"][:3]] == ["tokenizer", "encoder", "pooling"]
        encoder = parts["server"]["parts"][1]
        assert 0 < encoder["milliseconds"] < whole["milliseconds"]
        assert {phase["name"] for phase in encoder["parts"]} == {"queue", "input", "compute", "output"}
    assert {".png", ".svg"} <= set(pictures(tmp_path, "profile-bert"))
    assert "of a core at 1,000 texts/s" in capsys.readouterr().out


def test_size_measures_what_it_is_asked_for(where: list[str], tmp_path: Path) -> None:
    command = ["size", *where, "--only", "texts", "length", "--counts", "1", "5", "--lengths", "8", "100000"]
    assert main([*command, "--seconds", "0.1"]) == 0
    points = json.loads((tmp_path / "size-bert.json").read_text())["points"]
    assert [(rate["value"], rate["texts"]) for rate in points["texts"]] == [(1, 1), (5, 5)]
    assert [rate["value"] for rate in points["length"]] == [8]
    assert ".png" in pictures(tmp_path, "size-bert")


def test_what_a_machine_makes_of_networks_is_measured_through_its_server(where: list[str], tmp_path: Path) -> None:
    shapes = ["--lengths", "8", "100000", "--batch-sizes", "1", "3", "--seconds", "0.01"]
    assert main(["gpu", *where, "--device", "cpu", "--only", "triton", *shapes]) == 0
    (found,) = json.loads((tmp_path / "gpu-cpu.json").read_text())["speed"]
    assert (found["system"], found["absent"]) == ("Triton, bert", "")
    assert [(p["length"], p["batch"]) for p in found["points"]] == [(8, 1), (8, 3), (0, 1), (0, 3)]
    assert all(p["texts_per_second"] > 0 for p in found["points"]) and {".png", ".svg"} <= set(
        pictures(tmp_path, "gpu-cpu")
    )


def test_scale_measures_a_call_and_connections(where: list[str], repository: Path, tmp_path: Path) -> None:
    command = ["scale", *where, "--only", "call", "connections", "--texts", "70", "--connections", "20"]
    assert main([*command, "--seconds", "0.5", "--server-pid", str(tritonserver_of(repository))]) == 0
    found = json.loads((tmp_path / "scale-bert.json").read_text())
    (call,) = found["call"]
    assert call["texts"] == 70 and call["texts/s"] > 0 and call["MiB server before"] > 50
    assert [row["connections"] for row in found["connections"]] == [16, 20]
    assert all(row["texts/s"] > 0 and row["p50 ms"] <= row["p99 ms"] for row in found["connections"])


def test_memory_sees_the_server_and_each_of_its_steps(
    where: list[str], repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tritonserver = tritonserver_of(repository)  # other tests' servers may be running too
    processes = server_processes(tritonserver)
    assert processes[tritonserver] == "tritonserver" and "bert_encoder" in processes.values()
    command = ["memory", *where, "--server-pid", str(tritonserver), "--minutes", "0.1", "--texts", "20"]
    assert main([*command, "--interval", "0.2", "--warm-up", "0"]) in (0, 1)
    with (tmp_path / "memory-bert.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 3
    for row in rows:
        assert float(row["bert_encoder"]) > 50
        assert 0 < float(row["shared memory"]) < float(row["server, all"])
    assert "memory " in capsys.readouterr().out


def test_memory_needs_to_know_the_process(where: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["memory", *where]) == 1
    assert "--server-pid" in capsys.readouterr().err


def test_documents_are_ranked_for_the_comparison_as_the_client_scores_them(kinds_server: LocalServer) -> None:
    pairs = [["the fox", f"the dog {number}"] for number in range(70)]
    asked = rerank.Client({"url": kinds_server.grpc_url, "model": "reranker"})
    with Client(kinds_server.grpc_url, "reranker") as client:
        expected = client.score([tuple(pair) for pair in pairs])
    scores = asked.vectors(asked.connect()(asked.prepare(pairs)))
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)
    assert [one.score for one in asked.bulk(pairs)()] == pytest.approx(sorted(expected, reverse=True), abs=1e-5)
