"""A look at a sample: how large a job is."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import islice

import numpy as np

from client_sdk._errors import InvalidArgument
from client_sdk.corpus.about import ask_about
from client_sdk.corpus.encoding import BlockEncoder
from client_sdk.corpus.inputs import InputFile, block_of, list_files
from client_sdk.corpus.places import place
from client_sdk.corpus.readers import reader_of
from client_sdk.corpus.settings import VECTOR, CorpusSettings
from client_sdk.corpus.summary import Estimate
from client_sdk.corpus.survey import survey
from client_sdk.corpus.tally import Counts

_FILES, _ROWS = 16, 64
"""So many files are looked at, spread over all, and so many rows at the beginning of each."""


def estimate(settings: CorpusSettings) -> Estimate:
    """Read and encode a sample, with the job's own options; nothing is written.

    Raises:
        ClientError: As the job would.
    """
    files = list_files(settings.inputs, place(settings.output))
    known = survey(files, settings.text_column, settings.kept, settings.id_column)
    settings, about = ask_about(settings)
    encoder = BlockEncoder(settings, about)
    counts, seconds, width = Counts(), 0.0, 0
    row_bytes = []
    for file in _spread(files, _FILES):
        rows = next(islice(reader_of(file.path).read(place(file.path), known.columns, _ROWS), 1), None)
        if rows is None:
            continue
        row_bytes.append(reader_of(file.path).row_bytes(place(file.path)))
        block = block_of(0, rows, known.columns)
        started = time.monotonic()
        encoded, found = encoder.encode(block)
        seconds += time.monotonic() - started
        counts += found
        width = encoded.schema.field(VECTOR).type.value_type.bit_width // 8 * about.dimension
    if not counts.texts:
        raise InvalidArgument("no row was found in the files that were looked at")
    rows_in_all = known.rows or round(sum(file.size for file in files) / float(np.mean(row_bytes)))
    answered = counts.texts - counts.refused
    return Estimate(
        files=len(files),
        rows=rows_in_all,
        is_counted=known.rows is not None,
        sampled=counts.texts,
        refused=counts.refused,
        tokens=round(rows_in_all * counts.tokens / counts.texts),
        output_bytes=round(rows_in_all * answered / counts.texts * width),
        rate=answered / seconds,
    )


def _spread(files: Sequence[InputFile], wanted: int) -> list[InputFile]:
    return [files[index] for index in sorted({*np.linspace(0, len(files) - 1, wanted).round().astype(int).tolist()})]
