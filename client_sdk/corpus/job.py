"""One run of a job: from the files of the input to those of the output, on Ray Data."""

from __future__ import annotations

import posixpath
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import ray.data
from pyarrow.fs import SubTreeFileSystem
from ray.data.checkpoint import CheckpointConfig

from client_sdk.corpus.about import ask_about
from client_sdk.corpus.encoding import Encode
from client_sdk.corpus.engine import data_context, own_errors, ray_running
from client_sdk.corpus.inputs import KEY, CorpusSource, list_files
from client_sdk.corpus.no_rows import corpus_of_no_rows
from client_sdk.corpus.output import CorpusSink, Output
from client_sdk.corpus.progress import told
from client_sdk.corpus.settings import CorpusSettings
from client_sdk.corpus.summary import Summary
from client_sdk.corpus.survey import survey
from client_sdk.corpus.tally import Tally

_IO = 0.25
"""What a task that reads or writes, beside servers that compute, asks of Ray's processors."""

_WAITING = 0.01
"""What a worker asks of them: next to nothing. Of what asks for nothing Ray puts each on a node drawn by lot."""

_LARGEST_BLOCK = 64 << 20
"""Bytes of rows on their way together."""


def run(
    settings: CorpusSettings,
    tell: Callable[[str], object] | None = None,
    try_out: Callable[[Path], object] | None = None,
) -> Summary:
    """Encode every row of the input that no run before has encoded.

    Killed at any moment and run again, it leaves each row of the input in the output exactly once: with a vector in
    `vectors/*.parquet`, or with the reason why not in `errors/*.jsonl`.

    Args:
        settings: Of the job.
        tell: Given a line every few seconds that says how far it is.
        try_out: Given a finished corpus like that of the job, but of no rows, before a row is read; what it raises ends
            the job. `stores.load` of it says what a store cannot hold.

    Raises:
        InvalidArgument: What is asked for cannot be; the output is of another job; or too many rows are refused.
        ClientError: As a client's methods; what is done is kept, and run again the job goes on.
    """
    output = Output(settings.output)
    files = output.ordered(list_files(settings.inputs, output.place))
    found = survey(files, settings.text_column, settings.kept, settings.id_column)
    settings, about = ask_about(settings)
    with output.held():
        fingerprint = settings.fingerprint(about.identity)
        output.check(fingerprint)
        if try_out is not None:  # before the folder is one of these options, which what it says may have others change
            with corpus_of_no_rows(settings, about, found.columns) as folder:
                try_out(folder)
        numbered = output.begin(fingerprint, files)
        names = {number: file.path for number, file in numbered.items()}
        before = output.written()
        checkpoint = CheckpointConfig(
            id_column=KEY,
            # Of a whole path Ray Data takes a part for the query of a URL, and others for columns.
            checkpoint_path=posixpath.basename(output.checkpoint.path),
            override_filesystem=SubTreeFileSystem(posixpath.dirname(output.checkpoint.path), output.place.filesystem),
            delete_checkpoint_on_success=False,
        )
        began = time.monotonic()
        with (
            ray_running(settings.ray_address),
            closing(Tally(before.refused, settings.max_errors)) as tally,
            data_context(
                checkpoint_config=checkpoint,
                enable_progress_bars=False,
                target_max_block_size=_LARGEST_BLOCK,
            ),
            told(tell, tally, before, found.rows),
            own_errors(tally),
        ):
            at_a_time = max(2, settings.worker_count)  # of each kind: more would be processes that wait
            rows = ray.data.read_datasource(
                CorpusSource(numbered, found.columns, tally.fail),
                override_num_blocks=len(numbered),
                concurrency=at_a_time,
                num_cpus=_IO,
            )
            blocks = rows.repartition(target_num_rows_per_block=settings.rows_per_file)
            blocks.map_batches(
                Encode,
                batch_size=None,
                batch_format="pyarrow",
                fn_constructor_args=(settings, about, tally, names),
                concurrency=settings.worker_count,
                num_cpus=_WAITING,
            ).write_datasink(
                CorpusSink(output, settings, names, about, tally.fail),
                ray_remote_args={"num_cpus": _IO},
                concurrency=at_a_time,
            )
            seconds, standing = time.monotonic() - began, tally.standing()
        now = output.written()
        summary = Summary(
            rows=now.texts,
            encoded=now.texts - now.refused,
            refused=now.refused,
            tokens=now.tokens,
            cut=now.cut,
            new_rows=now.texts - before.texts,
            seconds=seconds,
            start_seconds=seconds - standing.seconds,
            servers={server: texts for server, texts in standing.counts.servers.items() if server},
        )
        output.end(vars(summary))
        return summary
