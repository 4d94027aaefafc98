import datetime
import decimal
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from client_sdk import ClientError, InvalidArgument
from client_sdk.corpus.inputs import KEY, PROBLEM, TEXT, block_of, list_files, origin
from client_sdk.corpus.places import place
from client_sdk.corpus.readers import reader_of
from client_sdk.corpus.survey import survey


def rows_of(path: Path, *kept: str, text: str = "text", ids: str | None = None, at_a_time: int = 1000) -> list[Any]:
    """What a file, or all of a folder, is read as, as blocks carry it."""
    files = list_files([str(path)])
    columns = survey(files, text, kept, ids).columns
    found = [rows for file in files for rows in reader_of(file.path).read(place(file.path), columns, at_a_time)]
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
    for kind in (pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.dictionary(pa.int32(), pa.string())):
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


def test_the_header_of_csv_is_the_first_row_that_is_not_blank(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xef\xbb\xbf\r\n\ntext,id\none,1\n")
    rows = rows_of(path, "id")
    assert [(row[TEXT], row["id"], row[PROBLEM], origin(row[KEY])) for row in rows] == [(b"one", "1", None, (0, 0))]
    path.write_text("\nbody,id\none,1\n")
    with pytest.raises(InvalidArgument, match="a.csv has no column 'text'; it has body, id"):
        rows_of(path)
    path.write_text("\n\n")
    assert rows_of(path) == []


def test_tabs_are_of_a_name_that_ends_so(tmp_path):
    path = tmp_path / "a.tsv.csv.gz"
    path.write_bytes(gzip.compress(b"text,id\none,1\n"))
    assert texts(rows_of(path)) == [b"one"]


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
    assert len(list_files(["a.txt", "./a.txt", str(tmp_path), Path("a.txt")])) == 1


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
    assert survey(list_files([str(tmp_path)]), "text", ()).rows == 3
    (tmp_path / "a.txt").write_text("x\n")
    assert survey(list_files([str(tmp_path)]), "text", ()).rows is None


def test_the_beginning_of_a_file_says_about_how_many_rows_it_has(tmp_path):
    lines = "".join(json.dumps({"text": f"text {n}", "more": "x" * 50}) + "\n" for n in range(50_000))
    plain, packed = tmp_path / "a.jsonl", tmp_path / "a.jsonl.gz"
    plain.write_text(lines)
    packed.write_bytes(gzip.compress(lines.encode()))
    for path in (plain, packed):
        rows = path.stat().st_size / reader_of(str(path)).row_bytes(place(str(path)))
        assert 40_000 < rows < 60_000


def test_the_end_of_a_name_says_how_it_is_packed_in_either_case(tmp_path):
    (tmp_path / "A.TXT.GZ").write_bytes(gzip.compress(b"one\ntwo\n"))
    assert texts(rows_of(tmp_path / "A.TXT.GZ")) == [b"one", b"two"]


def test_what_is_packed_and_not_whole_is_named(tmp_path):
    lines = "".join(f"{number} {number**9}\n" for number in range(5000)).encode()
    for name, content in (("cut.txt.gz", gzip.compress(lines)[:5000]), ("plain.txt.gz", lines)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ClientError, match=f"{name} cannot be read: "):
            rows_of(tmp_path / name)


def test_pages_of_parquet_that_are_damaged_are_named(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [f"text {n}" for n in range(3000)]}), path)
    content = bytearray(path.read_bytes())
    content[200:1200] = b"\xff" * 1000
    path.write_bytes(content)
    with pytest.raises(ClientError, match="a.parquet cannot be read: "):
        rows_of(path)
    content[-300:-40] = b"\xff" * 260
    path.write_bytes(content)
    with pytest.raises(InvalidArgument, match="a.parquet is no Parquet file: "):
        rows_of(path)


@pytest.mark.parametrize("indent", [None, 1])
def test_json_that_is_no_object_a_line_is_refused_as_a_whole(tmp_path, indent):
    (tmp_path / "a.json").write_text(json.dumps([{"text": "one"}], indent=indent))
    with pytest.raises(InvalidArgument, match="a.json: no row of its beginning can be read; of the first the line is "):
        rows_of(tmp_path)
    (tmp_path / "b.json").write_text('{"text": "two"}')
    assert texts(rows_of(tmp_path))[-1] == b"two"


def test_a_column_has_the_type_of_the_first_file_that_says_one(tmp_path):
    (tmp_path / "a.jsonl").write_text("")
    small = pa.array([1], pa.int16())
    pq.write_table(pa.table({"text": ["one"], "n": pa.nulls(1), "w": small}), tmp_path / "b.parquet")
    pq.write_table(pa.table({"text": ["two"], "n": [7], "w": [1 << 40]}), tmp_path / "c.parquet")
    (tmp_path / "d.csv").write_text("text,n,w\nthree,8,9\nfour,x,9\n")
    (tmp_path / "e.jsonl").write_text('{"text": "five", "n": 10, "w": false}')
    rows = rows_of(tmp_path, "n", "w")
    assert [(row["n"], row["w"]) for row in rows] == [(None, 1), (7, 1 << 40), (8, 9), (None, 9), (10, None)]
    assert problems(rows) == [
        *[None] * 3,
        "column 'n' is \"x\", and it was int64 in the first rows",
        "column 'w' is false, and it was int64 in the first rows",
    ]


def test_values_are_made_the_types_that_parquet_has(tmp_path):
    when = datetime.datetime(2020, 1, 2, 3, tzinfo=datetime.timezone.utc)
    columns = {"text": ["one"], "when": pa.array([when]), "p": pa.array([1.5], pa.float32()), "o": [{"a": 1}]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    second = {"text": "two", "when": "2020-01-02T03:00:00Z", "p": 1 << 60, "o": {"a": 2}}
    (tmp_path / "b.jsonl").write_text(json.dumps(second) + "\n" + json.dumps({**second, "when": "once", "o": None}))
    rows = rows_of(tmp_path, "when", "p", "o")
    assert [row["when"] for row in rows] == [when, when, None]
    assert [row["p"] for row in rows] == [1.5, 2.0**60, 2.0**60]
    assert [row["o"] for row in rows] == [{"a": 1}, {"a": 2}, None]
    assert problems(rows)[1:] == [None, "column 'when' is \"once\", and it was timestamp[us, tz=UTC] in the first rows"]


def test_numbers_of_json_that_no_column_of_numbers_holds(tmp_path):
    rows = [{"text": "x", "p": 0.5, "id": 1}, {"text": "x", "p": (1 << 53) + 1, "id": 1 << 64}]
    rows.append({"text": "x", "p": 10**400, "id": 3})
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = rows_of(tmp_path, "p", "id", ids="id")
    assert [row["p"] for row in found] == [0.5, 2.0**53, None]
    assert [row["id"] for row in found] == ["1", "18446744073709551616", "3"]
    assert problems(found)[:2] == [None, None] and problems(found)[2].startswith("column 'p' is 10000")


def test_an_id_that_is_no_text_is_left_out_and_a_title_made_one(tmp_path):
    broken = pa.array([b"a\xff", b"b"]).view(pa.string())
    pq.write_table(pa.table({"text": ["one", "two"], "id": broken, "title": broken}), tmp_path / "a.parquet")
    (tmp_path / "b.jsonl").write_text('{"text": "three", "id": "\\ud800", "title": "\\ud800"}')
    (tmp_path / "c.csv").write_bytes(b"text,id,title\nfour,\xfe,\xfe\n")
    rows = rows_of(tmp_path, "id", "title", ids="id")
    assert [row["id"] for row in rows] == [None, "b", None, None]
    assert [row["title"] for row in rows] == ["a\ufffd", "b", "\ufffd" * 3, "\ufffd"]
    said = ["b'a\\xff'", None, "b'\\xed\\xa0\\x80'", "b'\\xfe'"]
    assert problems(rows) == [value and f"the id is not UTF-8: {value}" for value in said]


@pytest.mark.parametrize("ids", [[1.5], [True], [[1]], [b"a"], [decimal.Decimal(1)], [datetime.datetime(2020, 1, 1)]])
def test_ids_are_integers_or_strings(tmp_path, ids):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["x"], "id": ids}), path)
    with pytest.raises(InvalidArgument, match="a.parquet: column 'id' is .*, and ids are integers or strings"):
        rows_of(path, "id", ids="id")
    assert rows_of(path, "id")[0]["id"] == ids[0]


def test_all_files_with_a_header_are_looked_at_before_a_row_is_read(tmp_path):
    pq.write_table(pa.table({"text": ["x"], "n": [1]}), tmp_path / "a.parquet")
    for name, write, message in (
        ("b.csv", lambda path: path.write_text("id,body\n1,x\n"), "b.csv has no column 'text'; it has id, body"),
        ("c.csv", lambda path: path.write_text("text,n,n\nx,1,2\n"), "c.csv has 2 columns 'n'; it has text, n, n"),
        (
            "d.parquet",
            lambda path: pq.write_table(pa.table({"text": [1], "n": [1]}), path),
            "'text' is int64",
        ),
        (
            "e.parquet",
            lambda path: pq.write_table(pa.table({"text": ["x"], "n": [[1]]}), path),
            "e.parquet: column 'n' is list.*, and in .*a.parquet int64",
        ),
    ):
        write(tmp_path / name)
        with pytest.raises(InvalidArgument, match=message):
            survey(list_files([str(tmp_path)]), "text", ("n",))
        (tmp_path / name).unlink()


def test_a_text_is_copied_too(tmp_path):
    (tmp_path / "a.txt").write_text("one\n")
    assert rows_of(tmp_path, "text")[0]["text"] == "one"


def test_what_links_lead_to_is_read_once(tmp_path):
    (tmp_path / "a.txt").write_text("x\n")
    (tmp_path / "b.txt").symlink_to("a.txt")
    (tmp_path / "0").symlink_to(".")
    assert [file.path for file in list_files([str(tmp_path)])] == [str(tmp_path / "a.txt")]


def test_the_output_below_an_input_is_passed_over_and_an_input_in_the_output_refused(tmp_path):
    (tmp_path / "a.txt").write_text("x\n")
    (tmp_path / "out/errors").mkdir(parents=True)
    (tmp_path / "out/errors/b.jsonl").write_text("{}\n")
    output = place(str(tmp_path / "out"))
    assert [file.path for file in list_files([str(tmp_path)], output)] == [str(tmp_path / "a.txt")]
    for name in ("out", "out/errors"):
        with pytest.raises(InvalidArgument, match=f"the input '.*{name}' is in the output, .*out: name another folder"):
            list_files([str(tmp_path / name)], output)


def test_a_name_that_is_not_utf_8_is_said(tmp_path):
    (tmp_path / "a\udcff.txt").write_text("x\n")
    for path in (tmp_path, tmp_path / "a\udcff.txt"):
        with pytest.raises(InvalidArgument, match=r"the name of b'.*a\\xff.txt' is not UTF-8.*: rename it"):
            list_files([str(path)])


def test_what_is_neither_file_nor_folder_is_named():
    with pytest.raises(InvalidArgument, match="'/dev/null' is neither a file nor a folder"):
        list_files(["/dev/null"])
