import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from client_sdk import InvalidArgument
from client_sdk.corpus.inputs import KEY, PROBLEM, TEXT, block_of, columns_of, count_rows, list_files, origin
from client_sdk.corpus.places import place
from client_sdk.corpus.readers import reader_of


def rows_of(path: Path, *kept: str, text: str = "text", at_a_time: int = 1000) -> list[dict[str, Any]]:
    """What a file is read as, as blocks carry it."""
    columns = columns_of(list_files([str(path)]), text, kept)
    found = reader_of(str(path)).read(place(str(path)), columns, at_a_time)
    return [row for rows in found for row in block_of(0, rows, columns).to_pylist()]


def texts(rows: list[dict[str, Any]]) -> list[bytes | None]:
    return [row[TEXT] for row in rows]


def problems(rows: list[dict[str, Any]]) -> list[str | None]:
    return [row[PROBLEM] for row in rows]


def test_rows_are_numbered_in_their_file_over_all_blocks(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("".join(f"text {n}\n" for n in range(25)))
    rows = rows_of(path, at_a_time=10)
    assert [origin(row[KEY]) for row in rows] == [(0, n) for n in range(25)]
    assert texts(rows) == [f"text {n}".encode() for n in range(25)]


def test_parquet_of_every_kind_of_string_is_read_with_its_columns(tmp_path):
    for kind in (pa.string(), pa.large_string(), pa.binary(), pa.dictionary(pa.int32(), pa.string())):
        path = tmp_path / "a.parquet"
        column = (
            pa.array(["one", None, "öne"]).cast(kind)
            if kind != pa.binary()
            else pa.array([b"one", None, "öne".encode()])
        )
        pq.write_table(pa.table({"body": column, "id": [7, 8, 9], "unread": [0.5, 1, 2]}), path)
        rows = rows_of(path, "id", text="body")
        assert texts(rows) == [b"one", None, "öne".encode()]
        assert [row["id"] for row in rows] == [7, 8, 9]
        assert "unread" not in rows[0]


def test_a_string_of_parquet_that_is_not_utf_8_is_read_as_the_bytes_it_has(tmp_path):
    path = tmp_path / "a.parquet"
    broken = pa.array([b"good", b"\xff\xfe", b"too"]).view(pa.string())
    pq.write_table(pa.table({"text": broken}), path)
    assert texts(rows_of(path)) == [b"good", b"\xff\xfe", b"too"]


def test_a_line_of_json_that_is_wrong_is_a_problem_of_its_own(tmp_path):
    path = tmp_path / "a.jsonl"
    lines = [
        b'{"text": "one", "id": "a"}',
        b"{broken",
        b"",
        b"[1]",
        b'{"text": 5, "id": "b"}',
        b'{"id": "c"}',
        b'{"text": "\xff", "id": "d"}',
        b'{"text": "last", "id": "e"}',
    ]
    path.write_bytes(b"\n".join(lines))
    rows = rows_of(path, "id")
    assert texts(rows) == [b"one", None, None, None, None, None, None, b"last"]
    assert [row["id"] for row in rows] == ["a", None, None, None, "b", "c", None, "e"]
    found = problems(rows)
    assert (found[0], found[5], found[7]) == (None, None, None)
    assert found[1].startswith("the line is no JSON")
    assert found[2:5] == [
        "the line is blank, not a JSON object",
        "the line is a list, not a JSON object",
        "the text is a number",
    ]
    assert found[6].startswith("the line is not UTF-8")


def test_half_a_surrogate_pair_of_json_stays_what_it_is(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "\\ud83d"}\n{"text": "\\ud83d\\ude00"}\n')
    assert texts(rows_of(path)) == [b"\xed\xa0\xbd", "😀".encode()]


def test_a_line_that_is_too_long_is_passed_over_and_not_held(tmp_path):
    path = tmp_path / "a.txt"
    with open(path, "wb") as stream:
        stream.write(b"one\n" + b"x" * (40 << 20) + b"\nthree\n")
    rows = rows_of(path)
    assert problems(rows) == [None, "the line is longer than 16 MiB", None]
    assert texts(rows)[::2] == [b"one", b"three"]


def test_columns_of_json_have_the_type_of_the_first_rows(tmp_path):
    path = tmp_path / "a.jsonl"
    first = {"text": "x", "n": 1, "f": 1.5, "b": True, "s": "s", "o": {"deep": [1]}}
    wrong = {"text": "y", "n": "one", "f": 2, "b": None, "s": 3, "o": [1, 2]}
    path.write_text("\n".join(json.dumps(row) for row in [first] * 1000 + [wrong]))
    rows = rows_of(path, "n", "f", "b", "s", "o")
    assert {name: rows[0][name] for name in "nfbso"} == {"n": 1, "f": 1.5, "b": True, "s": "s", "o": '{"deep": [1]}'}
    assert {name: rows[-1][name] for name in "nfbso"} == {"n": None, "f": 2.0, "b": None, "s": "3", "o": "[1, 2]"}
    assert problems(rows)[-1] == "column 'n' is \"one\", and it was int64 in the first rows"


def test_csv_with_quotes_new_lines_and_wrong_rows(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b'\xef\xbb\xbfid,text\n1,"two\nlines, ""quoted"""\n2,\xff\n3\n4,last\n')
    rows = rows_of(path, "id")
    assert texts(rows) == [b'two\nlines, "quoted"', b"\xff", None, b"last"]
    assert [row["id"] for row in rows] == ["1", "2", None, "4"]
    assert problems(rows) == [None, None, "the row has 1 fields, and the header 2", None]


def test_tabs_and_packed_files(tmp_path):
    path = tmp_path / "a.tsv.gz"
    path.write_bytes(gzip.compress(b"text\tid\na, b\t1\n"))
    assert texts(rows_of(path, "id")) == [b"a, b"]


def test_a_text_file_is_one_text_a_line_with_blank_ones_among_them(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\n\r\n\xff\nlast")
    assert texts(rows_of(path)) == [b"one", b"", b"\xff", b"last"]


def test_a_folder_is_read_by_name_without_what_is_hidden(tmp_path):
    for name in ("b.txt", "a/z.txt", "_SUCCESS", ".hidden.txt", "_delta/c.txt", "notes.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x\n")
    assert [Path(file.path).relative_to(tmp_path).as_posix() for file in list_files([str(tmp_path)])] == [
        "a/z.txt",
        "b.txt",
    ]


def test_a_file_that_is_named_twice_is_read_once(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("x\n")
    monkeypatch.chdir(tmp_path)
    assert len(list_files(["a.txt", "./a.txt", str(tmp_path)])) == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [("none", "there is no "), ("a.md", "does not end as a format does"), ("empty", "none to read")],
)
def test_what_cannot_be_read_is_named(tmp_path, name, message):
    (tmp_path / "a.md").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidArgument, match=message) as raised:
        list_files([str(tmp_path / name)])
    assert name in str(raised.value)


def test_a_column_that_is_not_there_is_said_with_those_that_are(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"body": ["x"], "number": [1]}), path)
    with pytest.raises(InvalidArgument, match="has no column 'text'; it has body, number"):
        rows_of(path)
    with pytest.raises(InvalidArgument, match="column 'number' is int64, and texts are string"):
        rows_of(path, text="number")


def test_what_is_no_parquet_is_named(tmp_path):
    path = tmp_path / "a.parquet"
    path.write_text("no")
    with pytest.raises(InvalidArgument, match="is no Parquet file"):
        rows_of(path)


def test_only_parquet_says_how_many_rows_it_has(tmp_path):
    for number in (1, 2):
        pq.write_table(pa.table({"text": ["x"] * number}), tmp_path / f"{number}.parquet")
    assert count_rows(list_files([str(tmp_path)])) == 3
    (tmp_path / "a.txt").write_text("x\n")
    assert count_rows(list_files([str(tmp_path)])) is None


def test_the_beginning_of_a_file_says_about_how_many_rows_it_has(tmp_path):
    lines = "".join(json.dumps({"text": f"text {n}", "more": "x" * 50}) + "\n" for n in range(50_000))
    plain, packed = tmp_path / "a.jsonl", tmp_path / "a.jsonl.gz"
    plain.write_text(lines)
    packed.write_bytes(gzip.compress(lines.encode()))
    for path in (plain, packed):
        rows = path.stat().st_size / reader_of(str(path)).row_bytes(place(str(path)))
        assert 40_000 < rows < 60_000
