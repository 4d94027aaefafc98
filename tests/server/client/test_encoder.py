"""Other engines run an Encoder in their own ways; each gets the vectors of Client.encode. Ray: tests/server/corpus."""

import dask
import dask.dataframe
import datasets
import numpy as np
import pandas
import polars
import pyarrow
import pytest

from client_sdk import Client, Encoder, LocalServer, VersionChanged
from client_sdk.sklearn import Vectorizer

COUNT, DIMENSION = 90, 384


@pytest.fixture(scope="module")
def rows(texts) -> dict[str, list]:
    return {"id": [*range(COUNT)], "body": texts[:COUNT]}


@pytest.fixture(scope="module")
def expected(server: LocalServer, rows):
    with Client(server.grpc_url) as client:
        return client.encode(rows["body"])


@pytest.fixture(scope="module")
def encoder(server: LocalServer) -> Encoder:
    return Encoder(server.grpc_url, column="body")


def same(found, expected):
    """Equal but for the order of additions, which depends on what runs together."""
    np.testing.assert_allclose(np.stack([*found]), expected, rtol=0, atol=1e-6)


def test_frames_and_tables(encoder, rows, expected):
    same(encoder(rows)["vector"], expected)
    same(encoder(pandas.DataFrame(rows))["vector"], expected)
    same(encoder(polars.DataFrame(rows))["vector"].to_numpy(), expected)
    table = encoder(pyarrow.table(rows))
    assert table.schema.field("vector").type == pyarrow.list_(pyarrow.float32(), DIMENSION)
    same(table["vector"].combine_chunks().flatten().to_numpy().reshape(-1, DIMENSION), expected)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_another_model_than_the_one_that_is_named_gives_nothing(server, rows, precision):
    encoder = Encoder(server.grpc_url, column="body", identity="a" * 32, precision=precision)
    with pytest.raises(VersionChanged, match="one model alone, aaaa"):
        encoder(rows)


@pytest.mark.parametrize("formatted", [None, "numpy", "arrow", "pandas", "polars"])
def test_datasets_of_hugging_face(encoder, rows, expected, formatted):
    dataset = datasets.Dataset.from_dict(rows).with_format(formatted)
    found = dataset.map(encoder, batched=True, batch_size=40).with_format("numpy")
    assert found.column_names == ["id", "body", "vector"] and found["id"][:].tolist() == rows["id"]
    same(found["vector"], expected)


def test_dask(encoder, rows, expected):
    frame = dask.dataframe.from_pandas(pandas.DataFrame(rows), npartitions=3)
    found = frame.map_partitions(encoder, meta=encoder(frame._meta))
    assert [*found.columns] == ["id", "body", "vector"]
    with dask.config.set(scheduler="threads"):
        computed = found.compute()
    assert computed["id"].tolist() == rows["id"]
    same(computed["vector"], expected)


def test_scikit_learn(server, rows, expected):
    vectorizer = Vectorizer(server.grpc_url)
    same(vectorizer.fit_transform(pandas.Series(rows["body"])), expected)
    assert vectorizer.identity_ and len(vectorizer.get_feature_names_out()) == DIMENSION
