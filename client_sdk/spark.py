"""Spark: vectors as a column, by Arrow.

    encode = encode_udf("bert:8001")
    df.withColumn("vector", encode("text"))
    df.mapInArrow(encode, encode.schema(df))     # the same, of whole rows

Needs pyspark, pandas and pyarrow; executors need this package too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, overload

from pyspark.sql import Column
from pyspark.sql.types import ArrayType, ByteType, FloatType, StructField, StructType

from client_sdk._call.argument_names import as_in
from client_sdk._encoder import Encoder
from client_sdk._errors import InvalidArgument
from client_sdk._one_model import EncoderOptions
from client_sdk._transport.address import Url
from client_sdk._typing import Unpack

if TYPE_CHECKING:
    import pyarrow
    from pyspark.sql import DataFrame

__all__ = ["EncodeUdf", "encode_udf"]

_ELEMENTS = {"float32": FloatType, "int8": ByteType, "binary": ByteType}
"""Precision -> what Spark has for its numbers."""


class _UdfOptions(EncoderOptions, total=False):
    column: str
    output: str
    identity: str | None
    input_type: str | None


class EncodeUdf:
    """What `encode_udf` gives: a function of a column, and one for `DataFrame.mapInArrow`."""

    def __init__(self, encoder: Encoder, element: type[FloatType] | type[ByteType]) -> None:
        self._encoder = encoder
        self._vector = StructField(encoder.output, ArrayType(element(), containsNull=False), nullable=False)

    @overload
    def __call__(self, given: str | Column) -> Column: ...

    @overload
    def __call__(self, given: Iterator[pyarrow.RecordBatch]) -> Iterator[pyarrow.RecordBatch]: ...

    def __call__(self, given: Any) -> Any:
        """The vectors of a column of texts (Spark 4.1 and later), or batches with the column of vectors added."""
        return self._of_column(given) if isinstance(given, (str, Column)) else self._of_batches(given)

    def schema(self, frame: DataFrame | StructType) -> StructType:
        """What `mapInArrow` is to be told: the columns of `frame`, and that of vectors."""
        fields = [*(frame if isinstance(frame, StructType) else frame.schema)]
        names = [field.name for field in fields]
        if self._vector.name not in names:
            return StructType([*fields, self._vector])
        return StructType([self._vector if field.name == self._vector.name else field for field in fields])

    def _of_batches(self, batches: Iterator[pyarrow.RecordBatch]) -> Iterator[pyarrow.RecordBatch]:
        name = self._vector.name
        for batch in batches:
            found = self._encoder(batch)
            yield found.set_column(found.schema.get_field_index(name), name, _lists(found.column(name)))

    def _of_column(self, texts: str | Column) -> Column:
        import pyarrow
        from pyspark.sql.functions import arrow_udf

        encoder = self._encoder

        def encode(arrays: Iterator[pyarrow.Array]) -> Iterator[pyarrow.Array]:
            for array in arrays:
                batch = pyarrow.RecordBatch.from_arrays([array], [encoder.column])
                yield _lists(encoder(batch).column(encoder.output))

        encode.__annotations__ = dict.fromkeys(("arrays", "return"), Iterator[pyarrow.Array])  # Spark reads them
        return arrow_udf(encode, self._vector.dataType)(texts)


@as_in(Encoder)
def encode_udf(url: Url | None = None, model: str | None = None, **options: Unpack[_UdfOptions]) -> EncodeUdf:
    """Vectors for Spark, as a function of a column or for `DataFrame.mapInArrow`.

    Each task connects for itself, and takes whichever model it finds unless `identity` is given; see `Encoder`, whose
    arguments these are. `column` and `output` are for `mapInArrow`. A null or blank text fails its task: filter first.

    Returns:
        A function: given a Column or the name of one, a Column of arrays [D] of float (Spark 4.1 and later); given an
        iterator of record batches, as `df.mapInArrow(encode, encode.schema(df))` does, one of batches with the column
        `output` added.

    Raises:
        InvalidArgument: An option that is not allowed, or a `precision` whose numbers Spark has no type for.
    """
    encoder = Encoder(url, model, **options)
    precision = options.get("precision", "float32")
    if precision not in _ELEMENTS:
        raise InvalidArgument(f"Spark has no numbers of precision {precision!r}; allowed: {', '.join(_ELEMENTS)}")
    return EncodeUdf(encoder, _ELEMENTS[precision])


def _lists(vectors: pyarrow.FixedSizeListArray) -> pyarrow.ListArray:
    """Spark knows no lists of a fixed size."""
    import pyarrow

    return vectors.cast(pyarrow.list_(pyarrow.field("element", vectors.type.value_type, nullable=False)))
