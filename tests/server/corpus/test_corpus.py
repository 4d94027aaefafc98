"""Jobs against real servers, and an Encoder, on a Ray of two nodes."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
import ray.data
from ray.cluster_utils import Cluster

from client_sdk import Client, ClientError, Encoder, InvalidArgument, LocalServer
from client_sdk._commands.main import main
from client_sdk.corpus import CorpusSettings, Summary, estimate, run
from client_sdk.corpus.engine import data_context, ray_running
from client_sdk.corpus.places import place
from client_sdk.corpus.tally import TooManyErrors
from tests.support.places import ROOT
from tests.support.servers.buckets import buckets

TEXTS = [f"Text number {n} has {'some ' * (n % 7)}words." for n in range(700)]
BLANK = "the text is blank: there is nothing in it to read"


@pytest.fixture(scope="module")
def roots() -> Iterator[dict[str, str]]:
    """Of stores of objects."""
    with buckets() as roots:
        yield roots


@pytest.fixture(scope="module", autouse=True)
def two_nodes(roots: dict[str, str]) -> Iterator[None]:
    """A cluster, started once and used by every job of this module; it knows the stores."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=2)
        with ray_running(cluster.address):
            yield
    finally:
        cluster.shutdown()


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files of Parquet, with ids of which some are there twice, and a third that cannot all be encoded."""
    folder = tmp_path_factory.mktemp("texts")
    for name, first, last in (("a", 0, 400), ("b", 400, 700)):
        rows = {"id": [n % 650 for n in range(first, last)], "text": TEXTS[first:last], "n": list(range(first, last))}
        pq.write_table(pa.table(rows), folder / f"{name}.parquet")
    pq.write_table(
        pa.table({"id": [1, 2, 3], "text": ["good", "  ", None], "n": [700, 701, 702]}), folder / "c.parquet"
    )
    return folder


def job(url: str, texts: Path | str, output: Path | str, **other: Any) -> Summary:
    """Run one."""
    asked: dict[str, Any] = {"id_column": "id", "columns": ["n"], "rows_per_file": 128, **other}
    return run(CorpusSettings([texts], output, Client(url, "bert"), **asked))


@pytest.fixture(scope="module")
def urls(server: LocalServer, repository: Path) -> Iterator[list[str]]:
    """Of two servers."""
    with LocalServer(repository) as second:
        yield [server.grpc_url, second.grpc_url]


@pytest.fixture(scope="module")
def done(urls: list[str], texts: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Summary]:
    """The output of a job that has ended, and what it said."""
    output = tmp_path_factory.mktemp("job") / "out"
    return output, job(",".join(urls), texts, output)


def read(folder: Path) -> pa.Table:
    return pq.read_table(folder / "vectors").sort_by("n")


def vectors(table: pa.Table) -> np.ndarray:
    return np.stack(table["vector"].to_numpy(zero_copy_only=False))


def errors(folder: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for path in (folder / "errors").iterdir() for line in path.read_text().splitlines()]
    return sorted(found, key=lambda error: error["row"])


def test_each_row_is_in_the_output_once(done, server, texts):
    output, summary = done
    assert (summary.rows, summary.encoded, summary.refused, summary.new_rows) == (703, 701, 2, 703)
    table = read(output)
    assert table.column_names == ["id", "n", "vector"]
    assert table["n"].to_pylist() == list(range(701))
    assert table["id"].to_pylist() == [n % 650 for n in range(700)] + [1]
    assert table.schema.field("vector").type == pa.list_(pa.float32(), 384)
    with Client(server.grpc_url) as client:
        info = client.info()
        np.testing.assert_allclose(vectors(table), client.encode([*TEXTS, "good"]), atol=1e-6)
        assert summary.tokens == client.count_tokens([*TEXTS, "good"]).sum()
    files = list((output / "vectors").iterdir())
    assert all(0 < pq.read_metadata(file).num_rows <= 128 for file in files)
    about = json.loads(pq.read_metadata(files[0]).metadata[b"bert-on-triton"])
    assert about["identity"] == info.identity and about["id_column"] == "id" and about["dimension"] == 384
    assert errors(output) == [
        {"file": str(texts / "c.parquet"), "row": 1, "id": 2, "reason": BLANK},
        {"file": str(texts / "c.parquet"), "row": 2, "id": 3, "reason": "the text is null"},
    ]
    state = json.loads((output / "corpus.json").read_text())
    assert state["finished"] and state["summary"]["rows"] == 703


def test_all_servers_and_all_nodes_have_worked(done, urls):
    servers = done[1].servers
    assert {*servers} == {*urls} and sum(servers.values()) == 701 and min(servers.values()) > 0
    workers = [
        actor for actor in ray._private.state.actors().values() if actor["ActorClassName"].startswith("MapWorker")
    ]
    assert len({worker["Address"]["NodeID"] for worker in workers}) == 2


def test_stores_of_objects_are_read_and_written_and_a_job_goes_on_there(server, roots):
    source, output = f"{roots['gs']}/in", f"{roots['s3']}/out"
    lines = [f"Line {n} of a bucket." for n in range(40)]
    place(f"{source}/lines.txt").write("\n".join(lines).encode())
    asked: dict[str, Any] = {"id_column": None, "columns": [], "rows_per_file": 16}
    summary = job(server.grpc_url, source, output, **asked)
    assert (summary.encoded, summary.new_rows) == (40, 40)
    written = place(output)
    keys = (written / "checkpoint/1").files()[0].path
    written.filesystem.move(keys, keys.replace(".parquet", ".pending.parquet"))  # as if killed
    again = job(server.grpc_url, source, output, **asked)
    assert (again.encoded, again.refused) == (40, 0) and 0 < again.new_rows < 40
    table = pq.read_table(f"{written.path}/vectors", filesystem=written.filesystem).sort_by("row")
    assert table["row"].to_pylist() == list(range(40))
    with Client(server.grpc_url) as client:
        np.testing.assert_allclose(vectors(table), client.encode(lines), atol=1e-6)


def test_what_was_being_written_is_done_again_with_files_that_are_new_and_nothing_else(done, server, texts, tmp_path):
    output = tmp_path / "out"
    shutil.copytree(done[0], output)
    checkpoint = output / "checkpoint" / "1"
    for number, keys in enumerate(sorted(checkpoint.iterdir())):
        if number % 3 != 2:  # as if killed after the file was written, or before
            keys.rename(checkpoint / f"{keys.stem}.pending.parquet")
        if number % 3 == 1:
            (output / "vectors" / keys.name).unlink(missing_ok=True)
    kept = {keys.name for keys in checkpoint.iterdir() if not keys.stem.endswith(".pending")}
    new = texts / "0.parquet"
    pq.write_table(pa.table({"id": [9], "text": ["more"], "n": [800]}), new)
    try:
        summary = job(server.grpc_url, texts, output)
    finally:
        new.unlink()
    assert 1 < summary.new_rows < summary.rows == 704
    whole, again = read(done[0]), read(output)
    assert again["n"].to_pylist() == [*whole["n"].to_pylist(), 800]
    np.testing.assert_allclose(vectors(again)[:-1], vectors(whole), atol=1e-6)
    names = {path.name for path in (output / "vectors").iterdir()}
    assert names & kept == {path.name for path in (done[0] / "vectors").iterdir()} & kept
    assert [error["reason"] for error in errors(output)] == [BLANK, "the text is null"]


def test_a_job_goes_on_in_a_folder_whose_name_is_like_a_url_or_a_partition(server, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a b%20#?.txt").write_text("one\n")
    output = tmp_path / "in/out k=v?x#y%20z"
    asked: dict[str, Any] = {"id_column": None, "columns": []}
    assert job(server.grpc_url, tmp_path / "in", output, **asked).rows == 1
    (tmp_path / "in/b.txt").write_text("two\n")
    summary = job(server.grpc_url, tmp_path / "in", output, **asked)
    assert (summary.rows, summary.new_rows, summary.refused) == (2, 1, 0)


def test_a_file_that_cannot_be_read_is_named(server, tmp_path):
    (tmp_path / "a.txt").write_text("one\n")
    (tmp_path / "b.txt.gz").write_text("two\n")
    with pytest.raises(ClientError, match="/b.txt.gz cannot be read: zlib inflate failed: incorrect header check"):
        job(server.grpc_url, tmp_path, tmp_path / "out", id_column=None, columns=[])


def test_lines_without_ids_in_another_precision_with_texts_that_the_model_refuses(server, tmp_path):
    lines = ["one", "", "word " * 600, "four"]
    (tmp_path / "lines.txt").write_text("\n".join(lines))
    output = tmp_path / "out"
    options = {"precision": "float16", "pooling": "cls", "truncate_dim": 64, "truncate": False}
    summary = job(server.grpc_url, tmp_path / "lines.txt", output, id_column=None, columns=[], options=options)
    assert (summary.encoded, summary.refused) == (2, 2)
    table = pq.read_table(output / "vectors").sort_by("row")
    assert table.column_names == ["id", "file", "row", "vector"]
    assert table["row"].to_pylist() == [0, 3] and len(set(table["id"].to_pylist())) == 2
    assert set(table["file"].to_pylist()) == {str(tmp_path / "lines.txt")}
    assert table.schema.field("vector").type == pa.list_(pa.float16(), 64)
    with Client(server.grpc_url) as client:
        expected = client.encode(["one", "four"], precision="float16", pooling="cls", truncate_dim=64)
    np.testing.assert_allclose(vectors(table), expected, atol=1e-3)
    first, second = errors(output)
    assert (first["row"], first["reason"], second["row"]) == (1, BLANK, 2)
    assert "truncate" in second["reason"]


def test_the_job_stops_where_more_rows_cannot_be_encoded_than_it_may_have(server, texts, tmp_path):
    with pytest.raises(TooManyErrors, match=f"2 rows .* allows 1: of row 1 of .*/c.parquet, {BLANK}; errors/"):
        job(server.grpc_url, texts, tmp_path / "out", max_errors=1)


def test_other_options_are_refused_and_nothing_is_changed(done, server, texts):
    before = (done[0] / "corpus.json").read_bytes()
    with pytest.raises(InvalidArgument, match='pooling=null, and this is pooling="cls"'):
        job(server.grpc_url, texts, done[0], options={"pooling": "cls"})
    assert (done[0] / "corpus.json").read_bytes() == before


def test_an_estimate_says_how_large_it_is_and_writes_nothing(server, texts, tmp_path):
    found = estimate(CorpusSettings([texts], tmp_path / "out", Client(server.grpc_url, "bert")))
    assert (found.files, found.rows, found.is_counted, found.sampled, found.refused) == (3, 703, True, 131, 2)
    assert found.output_bytes == pytest.approx(703 * 129 / 131 * 384 * 4, rel=0.01) and found.rate > 0
    assert not (tmp_path / "out").exists()


def test_an_estimate_counts_rows_by_the_files_that_have_some(server, tmp_path):
    for name in "abcdefg":
        (tmp_path / f"{name}.jsonl").write_text("")
    (tmp_path / "z.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    found = estimate(CorpusSettings([tmp_path], tmp_path / "out", Client(server.grpc_url)))
    assert not found.is_counted and found.rows == pytest.approx(len(TEXTS), rel=0.02)


@pytest.mark.filterwarnings("ignore")
def test_an_encoder_maps_a_dataset_of_ones_own(server):
    dataset = ray.data.from_items([{"id": n, "body": text} for n, text in enumerate(TEXTS[:90])])
    with Client(server.grpc_url) as client:
        expected, identity = client.encode(TEXTS[:90]), client.info().identity
    options = {"url": server.grpc_url, "column": "body", "identity": identity}
    with data_context(enable_progress_bars=False):
        actors = dataset.map_batches(Encoder, fn_constructor_kwargs=options, concurrency=2, batch_size=20)
        tasks = dataset.map_batches(Encoder(**options), batch_format="pyarrow", batch_size=20)
        assert tasks.schema().base_schema.field("vector").type == pa.list_(pa.float32(), 384)
        for encoded in (actors, tasks):
            found = sorted(encoded.take_all(), key=lambda row: row["id"])
            assert [row["body"] for row in found] == TEXTS[:90]
            np.testing.assert_allclose(np.stack([row["vector"] for row in found]), expected, rtol=0, atol=1e-6)


def test_what_a_store_cannot_hold_is_said_before_a_row_is_encoded(server, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLIENT_SDK_URL", server.grpc_url)
    Path("texts.jsonl").write_text('{"id": "d0", "text": "one"}\n')
    command = ["corpus", "texts.jsonl", "--output", "out", "--id-column", "id"]
    assert main([*command, "--to", "faiss:texts.faiss"]) == 2
    assert capsys.readouterr().err == "error: FAISS has ids of int64, and 'id' is of strings\n"
    assert not Path("out/vectors").exists() and not Path("texts.faiss").exists()
    assert main([*command, "--precision", "int8", "--to", "lance:search/texts"]) == 2
    assert "LanceDB cannot hold vectors of precision int8" in capsys.readouterr().err
    assert main([*command, "--to", "lance:search/texts"]) == 0  # into the same folder, with what the message has said
    assert (
        main(["corpus", "texts.jsonl", "--output", "short", "--truncate-dim", "8", "--to", "lance:search/texts"]) == 2
    )
    assert "the table texts has columns id string, vector fixed_size_list" in capsys.readouterr().err
    assert not Path("short/vectors").exists()


def test_where_every_row_is_refused_none_is_written_to_a_store(server, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLIENT_SDK_URL", server.grpc_url)
    Path("texts.jsonl").write_text('{"id": 1, "text": ""}\n')
    command = ["corpus", "texts.jsonl", "--output", "out", "--id-column", "id", "--to", "faiss:texts.faiss"]
    assert main(command) == 0
    assert capsys.readouterr().out.endswith("\n0 rows written to the store\n")


def test_the_page_begins_as_it_says(server, tmp_path, monkeypatch, capsys):
    """Its command line, what it reads afterwards, and the same job in Python."""
    import lancedb  # here, since every collection would wait for it

    page = (ROOT / "docs" / "corpora.md").read_text()
    command = re.findall(r"^bert-on-triton (corpus .*)$", page, re.MULTILINE)[0].split()
    (code,) = re.findall(r"^```python\n(import pyarrow.*?)^```", page, re.DOTALL | re.MULTILINE)
    (tmp_path / "texts").mkdir()
    rows = [{"id": f"d{n}", "text": text, "title": f"t{n}"} for n, text in enumerate(["one", "two", ""])]
    (tmp_path / "texts" / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLIENT_SDK_URL", server.grpc_url)
    assert main([*command, "--to", "lance:search/texts"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("3 rows: 2 encoded (6 tokens, 0 texts cut), 1 refused; 3 in this run, ")
    assert said.endswith("2 rows written to the store\n")
    names: dict[str, Any] = {}
    exec(compile(code, "corpora.md", "exec"), names)
    assert names["table"].column_names == ["id", "title", "vector"]
    assert sorted(names["table"]["id"].to_pylist()) == ["d0", "d1"]
    assert lancedb.connect("search").open_table("texts").count_rows() == 2
    (code,) = re.findall(r"^```python\n(from client_sdk import Client.*?)^```", page, re.DOTALL | re.MULTILINE)
    exec(compile(code.replace("localhost:8001", server.grpc_url), "corpora.md", "exec"), names)
    assert (names["summary"].rows, names["summary"].new_rows) == (3, 0)
