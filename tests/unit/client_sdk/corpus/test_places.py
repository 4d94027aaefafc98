"""Files and folders in stores of objects, as this machine has them."""

from collections.abc import Iterator

import pytest

from client_sdk import InvalidArgument
from client_sdk.corpus.inputs import list_files
from client_sdk.corpus.output import Output
from client_sdk.corpus.places import place
from client_sdk.corpus.readers import reader_of
from client_sdk.corpus.survey import survey
from tests.support.servers.buckets import buckets


@pytest.fixture(scope="module")
def roots() -> Iterator[dict[str, str]]:
    with buckets() as roots:
        yield roots


@pytest.fixture(params=["s3", "gs"])
def root(request, roots: dict[str, str]) -> str:
    """Of a bucket."""
    return roots[request.param]


def write(uri: str, content: bytes) -> None:
    place(uri).write(content)


def test_files_of_a_bucket_are_listed_and_read(root):
    write(f"{root}/in/a.txt", b"one\ntwo\n")
    write(f"{root}/in/below/b.txt", b"three\n")
    write(f"{root}/in/_SUCCESS", b"")
    files = list_files([f"{root}/in/"])
    assert [(file.path, file.size) for file in files] == [(f"{root}/in/a.txt", 8), (f"{root}/in/below/b.txt", 6)]
    columns = survey(files, "text", ()).columns
    found = [rows.texts for file in files for rows in reader_of(file.path).read(place(file.path), columns, 10)]
    assert found == [[b"one", b"two"], [b"three"]]


def test_names_with_what_a_uri_writes_otherwise_are_read(root):
    names = ["a b.txt", "c%20d.txt", "e#f.txt", "g?h.txt", "ü.txt"]
    filesystem, path = place(f"{root}/names").filesystem, place(f"{root}/names").path
    for name in names:
        with filesystem.open_output_stream(f"{path}/{name}") as stream:
            stream.write(name.encode())
    files = list_files([f"{root}/names"])
    columns = survey(files, "text", ()).columns
    found = [rows.texts for file in files for rows in reader_of(file.path).read(place(file.path), columns, 10)]
    assert found == [[name.encode()] for name in names]


def test_what_a_uri_says_of_its_store_is_said_of_each_file(roots):
    root = roots["s3"]
    write(f"{root}/region/a.txt", b"one\n")
    (file,) = list_files([f"{root}/region?region=us-east-1"])
    assert file.path == f"{root}/region/a.txt?region=us-east-1"
    assert list_files([file.path]) == [file]
    columns = survey([file], "text", ()).columns
    assert next(reader_of(file.path).read(place(file.path), columns, 10)).texts == [b"one"]


def test_a_run_takes_over_what_an_earlier_one_has_finished(root):
    write(f"{root}/in/a.txt", b"one\n")
    files = list_files([f"{root}/in/a.txt"])
    output = Output(f"{root}/out")
    output.begin({"identity": "abc"}, files)
    for name in ("checkpoint/1/whole", "checkpoint/1/broken.pending", "vectors/whole", "vectors/broken"):
        write(f"{root}/out/{name}.parquet", b"x")
    again = Output(f"{root}/out")
    assert again.begin({"identity": "abc"}, files) == dict(enumerate(files))
    left = [info.path.partition("/out/")[2] for info in again.place.files(recursive=True)]
    assert left == ["checkpoint/2/whole.parquet", "corpus.json", "vectors/whole.parquet"]


def test_a_key_in_a_uri_is_refused_since_the_output_names_its_files():
    with pytest.raises(InvalidArgument, match=r"a key in 's3://\.\.\.@bucket' would stand in the output") as raised:
        list_files(["s3://someone:secret@bucket/in"])
    assert "secret" not in str(raised.value)
