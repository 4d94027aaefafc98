import argparse
import json
from pathlib import Path

import pytest

from perf import serving
from perf.failure import Failure
from perf.load.analyzer_report import Measurement, measurements, read_csv
from perf.load.command import add_arguments, arguments, write_input
from perf.load.points import Point, plan
from perf.serving import read_urls

# What perf_analyzer 2.51 wrote and printed, shortened; the lower throughput first, whatever the concurrency.
CSV = """\
Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,Server Compute Input,\
Server Compute Infer,Server Compute Output,Client Recv,p50 latency,p90 latency,p95 latency,p99 latency,\
Avg latency,request/response,response wait
4,74.8567,6,34093,2,132,16884,2160,3,28520,53881,61552,540211,53300,9,53248
1,75.3488,7,1736,2,78,8686,1419,4,7841,16806,19142,27373,11950,11,11892
"""
PRINTED = """\
*** Measurement Settings ***
  Batch size: 1

Request concurrency: 1
  Pass [1] throughput: 80.8089 infer/sec. Avg latency: 9901 usec (std 3000 usec).
  Pass [2] throughput: 115.837 infer/sec. Avg latency: 8872 usec (std 3000 usec).
  Pass [3] throughput: 29.1442 infer/sec. Avg latency: 24202 usec (std 3000 usec).
  Client:
    Request count: 272
    Throughput: 75.3488 infer/sec
  Server:
    Inference count: 272
    Execution count: 272
    Successful request count: 272
    Avg request latency: 11470 usec (overhead 0 usec + queue 2173 usec + compute 10180 usec)

  Composing models:
  bert_encoder, version: 1
      Inference count: 272
      Execution count: 136
      Successful request count: 272
      Avg request latency: 9855 usec (overhead 2 usec + queue 1925 usec + compute input 22 usec \
+ compute infer 7650 usec + compute output 255 usec)

  bert_tokenizer, version: 1
      Inference count: 273
      Execution count: 273
      Successful request count: 273
      Avg request latency: 1556 usec (overhead 1 usec + queue 81 usec + compute input 29 usec \
+ compute infer 655 usec + compute output 789 usec)

Request concurrency: 4
  Client:
    Request count: 270
"""


@pytest.fixture
def read(tmp_path: Path) -> list[Measurement]:
    (tmp_path / "report.csv").write_text(CSV)
    return measurements(read_csv(tmp_path / "report.csv"), PRINTED)


def test_rows_come_by_concurrency_and_in_milliseconds(read: list[Measurement]) -> None:
    assert [m.concurrency for m in read] == [1, 4]
    assert read[1].latency == {50: 28.52, 90: 53.881, 95: 61.552, 99: 540.211}
    assert (read[0].texts_per_second, read[0].mean_latency, read[0].requests) == (75.3488, 11.95, 272)


def test_the_spread_is_that_of_the_windows(read: list[Measurement]) -> None:
    assert read[0].spread == pytest.approx((115.837 - 29.1442) / 75.3488)
    assert read[1].spread == 0


def test_composing_models_are_read_and_the_servers_own_line_is_not(read: list[Measurement]) -> None:
    encoder, tokenizer = read[0].steps
    assert (encoder.model, encoder.queue, encoder.texts_per_execution) == ("bert_encoder", 1.925, 2)
    assert encoder.compute == pytest.approx(0.022 + 7.650 + 0.255)
    assert (tokenizer.model, tokenizer.compute) == ("bert_tokenizer", pytest.approx(1.473))
    assert read[1].steps == ()


def test_another_table_behind_the_report_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "report.csv"
    path.write_text(CSV + "\nGPU,Average GPU Utilization\n0,0.5\n")
    assert len(read_csv(path)) == 2


def test_the_input_has_one_step_a_text_as_it_is(tmp_path: Path) -> None:
    texts = ['with "quotes"\nand lines', "北京"]
    write_input(tmp_path / "new" / "texts.json", texts)
    steps = json.loads((tmp_path / "new" / "texts.json").read_text(encoding="utf-8"))["data"]
    assert steps == [{"TEXT": {"content": [text], "shape": [1]}} for text in texts]


def test_a_point_becomes_a_command(tmp_path: Path) -> None:
    words = arguments(Point("grpc", 8, 4), "bert", "localhost:8001", tmp_path / "in.json", 1000, tmp_path / "out.csv")
    command = " ".join(words)
    assert "-m bert -i grpc -u localhost:8001 -b 8 --concurrency-range 4" in command
    assert "--measurement-interval 1000" in command
    assert words[-2:] == ["-f", str(tmp_path / "out.csv")]


def planned(*words: str, protocols: tuple[str, ...] = ("grpc", "http")) -> tuple[list[Point], int]:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return plan(parser.parse_args(words), protocols)


def test_points_with_too_many_texts_on_their_way_are_left_out() -> None:
    points, left_out = planned("--most-in-flight", "16", "--batch-sizes", "1", "8", "--concurrency", "1", "2", "16")
    assert [(p.batch_size, p.concurrency) for p in points if p.protocol == "grpc"] == [
        (1, 1),
        (1, 2),
        (1, 16),
        (8, 1),
        (8, 2),
    ]
    assert left_out == 2  # 16 at a time with 8 texts each, over both protocols


def test_the_default_is_a_sweep_over_both_protocols() -> None:
    points, _ = planned()
    for protocol in ("grpc", "http"):
        singles = [p.concurrency for p in points if (p.protocol, p.batch_size) == (protocol, 1)]
        assert singles == [1, 2, 4, 8, 16, 32, 64]
    assert len(planned("--quick")[0]) < 10


def test_a_protocol_without_an_address_is_refused() -> None:
    with pytest.raises(Failure, match="--protocols http needs"):
        planned("--protocols", "http", protocols=("grpc",))


def test_urls_are_read_by_protocol() -> None:
    assert read_urls(["localhost:9001", "http://[::1]"]) == {"grpc": "localhost:9001", "http": "[::1]:8000"}
    assert read_urls(["http://somewhere:80", "grpc://[::1]:1"]) == {"http": "somewhere:80", "grpc": "[::1]:1"}
    for wrong in (
        *("https://somewhere", "http://somewhere/path", "grpc://", ""),
        *("localhost:x", "localhost:0", "localhost:65536", "http://[::1"),
    ):
        with pytest.raises(Failure, match="grpc://host:port or http://host:port"):
            read_urls([wrong])


def test_one_server_is_measured() -> None:
    with pytest.raises(Failure, match="--url there:9001: grpc://here:8001 was given too"):
        read_urls(["here", "http://here", "there:9001"])


def measured_server(*words: str) -> None:
    parser = argparse.ArgumentParser()
    serving.add_arguments(parser)
    serving.add_server_pid(parser)
    serving.check_server_pid(parser.parse_args(words))


def test_the_process_of_a_server_that_runs_is_named_and_of_no_other() -> None:
    measured_server()
    measured_server("--url", "localhost", "--server-pid", "1")
    with pytest.raises(Failure, match="--server-pid says which process"):
        measured_server("--url", "localhost")
    with pytest.raises(Failure, match="say where it is with --url"):
        measured_server("--server-pid", "1")
