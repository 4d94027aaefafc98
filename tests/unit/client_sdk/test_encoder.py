"""Batches of every kind get vectors, without a server."""

import base64
import copy
import inspect
import json
import pickle
import subprocess
import sys
import threading

import numpy as np
import pandas
import polars
import pyarrow
import pytest

from client_sdk import Client, ClientError, Encoder, InvalidArgument, InvalidType, ServerError, VersionChanged
from client_sdk._transport.base import Reply
from tests.support.fake_transport import FakeTransport, texts_of

A, B = "a" * 32, "b" * 32
URL = "grpc://127.0.0.1:1"
TEXTS = ["three", "blind mice", "see how they run"]
LENGTHS = [[5, 1], [10, 1], [16, 1]]


def lengths(request):
    """The vector of a text is its length, and 1."""
    return {"EMBEDDING": np.array([[len(text), 1] for text in texts_of(request)], np.float32)}


def over(answer=lengths, by="", **options):
    """An encoder whose server gives these answers, by a model of that identity; and the transport to it."""
    encoder = Encoder(URL, **options)
    return encoder, served_by(encoder, answer, by)


def served_by(encoder, answer=lengths, identity=""):
    transport = FakeTransport(answer)
    transport.identity = identity
    encoder._vectors._session._transport = transport
    return transport


@pytest.mark.parametrize("texts", [TEXTS, tuple(TEXTS), np.array(TEXTS), np.array(TEXTS, object)])
def test_a_dict_of_columns_gets_an_array(texts):
    batch = {"id": [1, 2, 3], "text": texts}
    found = over()[0](batch)
    assert type(found) is dict and found["id"] is batch["id"] and found["text"] is texts and "vector" not in batch
    assert found["vector"].dtype == np.float32 and found["vector"].tolist() == LENGTHS


@pytest.mark.parametrize("index", [[0, 1, 2], [7, 7, 1]])
def test_a_frame_of_pandas_gets_a_column_of_arrays(index):
    frame = pandas.DataFrame({"id": [1, 2, 3], "text": TEXTS}, index=index)
    found = over()[0](frame)
    assert type(found) is pandas.DataFrame and "vector" not in frame
    pandas.testing.assert_frame_equal(found[["id", "text"]], frame)
    assert found["vector"].dtype == object and all(vector.dtype == np.float32 for vector in found["vector"])
    assert np.stack(found["vector"]).tolist() == LENGTHS


def test_a_frame_of_polars_gets_an_array_column():
    frame = polars.DataFrame({"id": [1, 2, 3], "text": TEXTS})
    found = over()[0](frame)
    assert found.drop("vector").equals(frame)
    assert found["vector"].dtype == polars.Array(polars.Float32, 2) and found["vector"].to_list() == LENGTHS
    lazily = frame.lazy().map_batches(over()[0], schema={**frame.schema, "vector": polars.Array(polars.Float32, 2)})
    assert lazily.collect().equals(found)


@pytest.mark.parametrize(
    ("precision", "number"),
    [("float32", "float"), ("float16", "halffloat"), ("int8", "int8"), ("uint8", "uint8"), ("binary", "int8")],
)
def test_a_table_of_pyarrow_gets_lists_of_a_fixed_size(precision, number):
    ranges = [[0, 0], [255, 1]] if "int8" in precision else None
    encoder, _ = over(precision=precision, ranges=ranges)
    table = pyarrow.table({"id": [1, 2, 3], "text": TEXTS})
    (batch,) = table.to_batches()
    client = Client(URL)
    client._session._transport = FakeTransport(lengths)
    expected = client.encode(TEXTS, precision=precision, ranges=ranges)
    for whole in (table, batch, table.slice(0, 0)):
        found = encoder(whole)
        assert type(found) is type(whole) and found.schema.names == ["id", "text", "vector"]
        assert str(found.schema.field("vector").type) == f"fixed_size_list<item: {number}>[{expected.shape[1]}]"
        assert found.column("vector").to_pylist() == expected.tolist()[: len(whole)]


def test_columns_have_the_names_that_are_given_and_a_column_of_vectors_is_replaced():
    encoder, _ = over(column="body", output="embedding")
    old = {"body": TEXTS, "embedding": ["old"] * 3}
    for batch in (old, pandas.DataFrame(old), polars.DataFrame(old), pyarrow.table(old)):
        found = encoder(batch)
        assert len([*found] if isinstance(found, dict) else found.columns) == 2
        vectors = found["embedding"]
        assert np.stack(vectors.to_pylist() if isinstance(found, pyarrow.Table) else [*vectors]).tolist() == LENGTHS


EMPTY = {"text": np.array([], object)}


@pytest.mark.parametrize(
    "batch",
    [EMPTY, pandas.DataFrame(EMPTY), polars.DataFrame(EMPTY), pyarrow.table({"text": pyarrow.array([], "str")})],
)
def test_an_empty_batch_learns_the_length_of_vectors_once(batch):
    encoder, transport = over(pooling="mean_max")
    for _ in range(2):
        found = encoder(batch)
        assert type(found) is type(batch) and len(found["vector"]) == 0
    (request,) = transport.requests
    assert texts_of(request) == ["a"] and request.parameters["pooling"] == "mean_max"
    assert encoder({"text": []})["vector"].shape == (0, 2)


def test_a_filled_batch_has_taught_it_already():
    encoder, transport = over(precision="float16")
    encoder({"text": TEXTS})
    assert encoder({"text": []})["vector"].dtype == np.float16 and len(transport.requests) == 1


def test_an_empty_batch_of_tokens_is_asked_for_in_tokens():
    encoder, transport = over(is_tokenized=True)
    encoder({"text": []})
    assert texts_of(transport.requests[0]) == ['["a"]']


@pytest.mark.parametrize("rows", [[["un", "##do"], ["a"]], [[101, 7, 102], [101, 8, 102]]])
def test_columns_of_tokens_are_read_as_each_engine_has_them(rows):
    table = pyarrow.table({"text": rows})
    column = table["text"].to_numpy()  # of arrays
    polar = polars.DataFrame(table)
    batches = [{"text": rows}, {"text": column}, table.to_pandas(), polar, table]
    if len({*map(len, rows)}) == 1:
        lists = polars.Array(polars.Int64, len(rows[0]))
        batches += [{"text": np.array(rows)}, polar.cast({"text": lists})]
    for batch in batches:
        encoder, transport = over(is_tokenized=True)
        assert len(encoder(batch)["vector"]) == 2
        assert texts_of(transport.requests[0]) == [json.dumps(row) for row in rows]


@pytest.mark.parametrize(
    ("texts", "message", "kind"),
    [
        (["fine", ""], "row 1 of column 'text' is empty: there is nothing", InvalidArgument),
        (["fine", "fine", " \n"], "row 2 of column 'text' is blank", InvalidArgument),
        (["fine", None], "row 1 of column 'text' is NoneType; .*missing value: leave it out", InvalidType),
    ],
)
def test_what_is_no_text_is_an_error_that_names_its_row(texts, message, kind):
    encoder, transport = over()
    frame = pandas.DataFrame({"text": texts}, index=range(5, 5 + len(texts)))
    for batch in ({"text": texts}, frame, polars.DataFrame({"text": texts}), pyarrow.table({"text": texts})):
        with pytest.raises(kind, match=message.replace("NoneType", "(NoneType|float|NAType)")) as caught:
            encoder(batch)
        assert caught.value.text_index == len(texts) - 1
    assert not transport.requests


def test_what_is_no_batch_is_refused_with_what_to_write():
    encoder, _ = over()
    for batch, message in (
        (TEXTS, "must be a dict of columns, a DataFrame of pandas or polars, .* not list"),
        (polars.LazyFrame({"text": TEXTS}), r"not LazyFrame: give the encoder to its map_batches\(\)"),
        ({"text": "one"}, r"column 'text' is str, as in one row.*batched=True"),
        ({"text": 5}, "column 'text' is int, as in one row"),
        ({"text": np.array("one")}, "column 'text' is ndarray, as in one row"),
        ({"text": pandas.DataFrame({"a": TEXTS})}, "it is a table"),
        ({"text": [5]}, "row 0 of column 'text' is int"),
    ):
        with pytest.raises(InvalidType, match=message):
            encoder(batch)
    for batch, message in (
        ({"id": [1], "body": ["a"]}, "the batch has no column 'text'; there: id, body"),
        ({}, "no column 'text'; there: none"),
        (pandas.DataFrame([["a", "b"]], columns=["text", "text"]), "several columns 'text'; there: text, text"),
        (pyarrow.table([["a"], ["b"]], names=["text", "text"]), "several columns 'text'"),
        (
            pandas.DataFrame([["a", 1, 2]], columns=["text", "vector", "vector"]),
            "several columns 'vector'; there: text,",
        ),
        (pyarrow.table([["a"], [1], [2]], names=["text", "vector", "vector"]), "several columns 'vector'"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            encoder(batch)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": "median"}, "pooling 'median' is not known"),
        ({"precision": "int4"}, "precision 'int4' is not known"),
        ({"input_type": "question"}, "input_type 'question' is not known; allowed: query, document"),
        ({"priority": "high"}, "priority 'high' is not known"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"timeout": -1}, "timeout must be a positive"),
        ({"timeout": "1"}, "timeout must be a number"),
        ({"column": 5}, "column must be a str, not int"),
        ({"output": ""}, "output is empty"),
        ({"identity": ""}, "identity is empty"),
        ({"api_key": 5}, "api_key"),
        ({"root_certificates": "/no/such.pem"}, "root_certificates"),
        ({"sentences": ["a"]}, r"Encoder\(\) has no argument sentences"),
        ({"normalize_embeddings": True}, "write normalize="),
        ({"host": "a"}, "write url="),
    ],
)
def test_a_wrong_option_is_refused_when_it_is_made(options, message):
    with pytest.raises(InvalidArgument, match=message):
        Encoder(URL, **options)


def test_its_signature_has_what_the_client_and_its_encode_have():
    of_client, of_encode = (inspect.signature(of).parameters for of in (Client, Client.encode))
    names = [*inspect.signature(Encoder).parameters]
    assert names[:6] == ["url", "model", "column", "output", "identity", "input_type"]
    assert {*names[6:]} == {*of_client, *of_encode} - {"self", "url", "model", "texts"}


@pytest.mark.parametrize(
    ("given", "bulk"), [({}, True), ({"priority": None}, True), ({"priority": "interactive"}, False)]
)
def test_it_makes_way_for_others_unless_it_is_told_not_to(given, bulk):
    encoder, transport = over(input_type="document", **given)
    encoder({"text": ["one"]})
    assert transport.requests[0].parameters == {"input_type": "document", "bulk": bulk}


def by(identity):
    return lambda request: Reply(lengths(request), "1", identity)


def test_batches_are_of_the_model_that_answered_first():
    encoder, transport = over(by(A), A)
    assert encoder.identity is None
    encoder({"text": TEXTS})
    assert encoder.identity == A
    encoder({"text": ["one"]})
    assert [request.identity for request in transport.requests] == [None, A]
    for landed in (encoder, pickle.loads(pickle.dumps(encoder)), copy.copy(encoder)):
        served_by(landed, by(B), B)
        with pytest.raises(
            VersionChanged, match=f"Encoder.* one model alone, {A}, which has been replaced: make another one"
        ):
            landed({"text": ["one"]})


def test_batches_are_of_the_model_that_it_is_told():
    encoder, _ = over(by(B), B, identity=A)
    with pytest.raises(VersionChanged, match=f"one model alone, {A}"):
        encoder({"text": []})
    served_by(encoder, by(A), A)
    assert encoder({"text": TEXTS})["vector"].tolist() == LENGTHS


def measuring(encoder, identity, answered_by, largest=255.0):
    """Its server says that it has the model of that identity, and ranges for it; another one may answer."""
    transport = served_by(encoder, by(answered_by), identity)
    ranges = np.array([[0, 0], [largest, largest]], "<f4")
    transport.parameters = {"ranges.1": base64.b64encode(ranges.tobytes()).decode(), "dimension": "2"}
    return transport


def test_ranges_are_those_of_the_model_that_it_is_told():
    encoder = Encoder(URL, precision="int8", identity=A)
    transport = measuring(encoder, B, B)
    with pytest.raises(VersionChanged, match=f"one model alone, {A}, .*ranges that were asked for are of .* {B}, and"):
        encoder({"text": TEXTS})
    assert encoder.identity == A and not transport.requests
    measuring(encoder, A, A)
    assert encoder({"text": ["three"]})["vector"].tolist() == [[5 - 128, 1 - 128]]


def test_ranges_of_one_model_make_no_integers_of_the_vectors_of_another():
    """As where one of two servers has been updated: it is asked for the ranges, and the other one answers."""
    encoder = Encoder(URL, precision="int8")
    measuring(encoder, A, A)
    encoder({"text": TEXTS})
    transport = measuring(encoder, B, A, largest=510.0)
    transport.peer.may_serve = lambda request: True
    with pytest.raises(VersionChanged, match=f"are of model 'bert' {B}, and {A} is to answer"):
        encoder({"text": TEXTS})


def test_without_an_identity_versions_are_compared():
    encoder, transport = over(lambda request: Reply(lengths(request), version))
    version = "1"
    encoder({"text": TEXTS})
    assert encoder.identity == ""
    version = "2"
    with pytest.raises(VersionChanged, match="one model alone, of unknown identity, which has been replaced"):
        encoder({"text": ["one"]})
    assert len(transport.requests) == 2


def test_a_first_batch_that_fails_decides_nothing():
    def fails(request):
        raise ServerError("broken")

    encoder, _ = over(fails, A)
    with pytest.raises(ServerError, match="broken"):
        encoder({"text": ["one"]})
    assert encoder.identity is None
    served_by(encoder, by(B), B)
    encoder({"text": ["one"]})
    assert encoder.identity == B


def test_of_threads_that_begin_together_one_decides_on_the_model():
    """Without an identity nothing but the first reply says which version it is."""
    versions = iter("12")
    together = threading.Barrier(2)
    encoder, _ = over(lambda request: Reply(lengths(request), next(versions)))
    outcomes = []

    def work():
        together.wait()
        try:
            outcomes.append(encoder({"text": ["one"]}))
        except VersionChanged as error:
            outcomes.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(isinstance(outcome, VersionChanged) for outcome in outcomes) == [False, True]


def test_it_travels_by_its_settings():
    encoder = Encoder(URL, "minilm", column="body", api_key="secret-key", headers={"x-tenant": "a"}, pooling="cls")
    for landed in (copy.copy(encoder), copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder))):
        assert (
            landed._vectors._session.settings == encoder._vectors._session.settings
            and landed._vectors._options == encoder._vectors._options
        )
        assert landed.column == "body" and landed._vectors._session._transport is None
    assert "secret-key" not in repr(encoder) and repr(encoder) == "Encoder('grpc://127.0.0.1:1', model='minilm')"
    assert pickle.dumps(Encoder(URL, pooling="cls")) == pickle.dumps(Encoder(URL, pooling="cls"))
    with pytest.raises(ClientError):
        Encoder(URL, timeout=5)({"text": ["one"]})


def test_what_caches_look_it_up_by_does_not_change_with_its_use_where_its_model_is_named():
    encoder, _ = over(by(A), A, identity=A)
    before = pickle.dumps(encoder)
    for texts in ([], TEXTS):
        encoder({"text": texts})
        assert pickle.dumps(encoder) == before
    landed = pickle.loads(before)
    served_by(landed, by(A), A)
    assert landed({"text": []})["vector"].shape == (0, 2) and landed.identity == A


def test_nothing_is_imported_for_it():
    program = (
        "import sys, client_sdk; e = client_sdk.Encoder('127.0.0.1:1')\n"
        "try: e([])\n"
        "except client_sdk.InvalidType: print({'pandas', 'polars', 'pyarrow', 'ray', 'datasets'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr
