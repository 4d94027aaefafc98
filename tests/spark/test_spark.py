"""Vectors in a session of Spark, with a real server: `make test-spark`."""

from __future__ import annotations

import os
import pickle
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pyspark.errors import PythonException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import ArrayType, ByteType, FloatType

from client_sdk import Client, InvalidArgument, LocalServer
from client_sdk.spark import encode_udf
from tests.conftest import fill
from tests.support.places import ROOT

pytestmark = pytest.mark.filterwarnings("ignore")
JAVA = next((ROOT / ".venv" / "java").glob("usr/lib/jvm/java-*/bin/java"), None) or shutil.which("java")
COUNT = 120


@pytest.fixture(scope="module")
def spark() -> Iterator[SparkSession]:
    if JAVA is None:
        pytest.skip("there is no Java")
    os.environ["JAVA_HOME"] = str(Path(JAVA).resolve().parents[1])
    os.environ["PYSPARK_PYTHON"] = sys.executable
    session = (
        SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", "25")
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("OFF")
    yield session
    session.stop()


@pytest.fixture(scope="module")
def server(small_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """A small model, which takes no time to export and to load."""
    repository = tmp_path_factory.mktemp("models")
    fill(repository, small_checkpoint, "bert")
    with LocalServer(repository) as running:
        yield running


@pytest.fixture(scope="module")
def frame(spark: SparkSession, texts: list[str]) -> DataFrame:
    return spark.createDataFrame([*enumerate(texts[:COUNT])], "id int, text string").repartition(3)


@pytest.fixture(scope="module")
def client(server: LocalServer) -> Iterator[Client]:
    with Client(server.grpc_url) as client:
        yield client


def same(frame: DataFrame, expected: np.ndarray) -> None:
    rows = sorted(frame.select("id", "vector").collect())
    assert [row.id for row in rows] == [*range(COUNT)]
    np.testing.assert_allclose([row.vector for row in rows], expected, rtol=0, atol=1e-6)


def test_rows_and_columns_get_the_vectors_of_the_client(server, frame, client, texts) -> None:
    encode = encode_udf(server.grpc_url, identity=client.info().identity)
    schema = encode.schema(frame)
    assert schema["vector"].dataType == ArrayType(FloatType(), containsNull=False)
    expected = client.encode(texts[:COUNT])
    whole = frame.mapInArrow(encode, schema)
    assert whole.schema.names == ["id", "text", "vector"]
    same(whole, expected)
    same(frame.withColumn("vector", encode("text")), expected)


def test_options_reach_the_server_and_a_column_is_replaced(server, frame, client, texts) -> None:
    encode = encode_udf(server.grpc_url, output="text", input_type="query", precision="binary")
    schema = encode.schema(frame.schema)
    assert schema.names == ["id", "text"] and schema["text"].dataType.elementType == ByteType()
    same(
        frame.mapInArrow(encode, schema).withColumnRenamed("text", "vector"),
        client.encode_query(texts[:COUNT], precision="binary"),
    )


def test_a_null_fails_the_job_and_names_its_row(server, spark) -> None:
    encode = encode_udf(server.grpc_url)
    frame = spark.createDataFrame([("one",), (None,)], "text string").coalesce(1)
    with pytest.raises(PythonException, match="row 1 of column 'text' is NoneType"):
        frame.mapInArrow(encode, encode.schema(frame)).collect()


def test_another_model_than_the_one_that_is_named_fails_the_job(server, frame) -> None:
    encode = encode_udf(server.grpc_url, identity="a" * 32)
    with pytest.raises(PythonException, match="VersionChanged: Encoder.* one model alone, aaaa"):
        frame.limit(5).mapInArrow(encode, encode.schema(frame)).collect()


def test_wrong_options_are_refused_on_the_driver() -> None:
    with pytest.raises(InvalidArgument, match=r"encode_udf\(\) has no argument sentences"):
        encode_udf(sentences="a")
    with pytest.raises(InvalidArgument, match="pooling 'median' is not known"):
        encode_udf(pooling="median")
    with pytest.raises(InvalidArgument, match="no numbers of precision 'float16'; allowed: float32, int8, binary"):
        encode_udf(precision="float16")
    assert pickle.loads(pickle.dumps(encode_udf("a:1")))._vector.name == "vector"
