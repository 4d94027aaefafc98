"""What the vectors of a job are, asked from the servers before it begins."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import asdict, dataclass, replace

from client_sdk._call.questions import measured_ranges
from client_sdk._errors import InvalidArgument
from client_sdk._kinds import DENSE, given, named
from client_sdk._session import Session
from client_sdk.corpus.settings import VECTOR, CorpusSettings

_ANY = "a text"


@dataclass(frozen=True)
class AboutVectors:
    """Of all files of an output.

    Attributes:
        id_column: The name of the column of ids.
        vector_column: The name of that of vectors.
        model: The family.
        identity: Of the model; see `ModelInfo`.
        similarity: How the vectors are meant to be compared.
        precision: Of their numbers.
        dimension: Numbers in one; of `binary` and `ubinary`, bytes.
        max_seq_len: Tokens of a text that were used.
    """

    id_column: str
    vector_column: str
    model: str
    identity: str
    similarity: str
    precision: str
    dimension: int
    max_seq_len: int

    def to_json(self, **more: int) -> str:
        """For the metadata of a file."""
        return json.dumps({**asdict(self), **more})


def ask_about(settings: CorpusSettings) -> tuple[CorpusSettings, AboutVectors]:
    """Have one text encoded, and say what came; the settings have all that was left to the model.

    Raises:
        InvalidArgument: The model gives something else than vectors, or none with these options.
        VersionChanged: Of several servers, some have another model than others.
        ClientError: As a client's methods.
    """
    with closing(Session(settings.servers, "Corpus")) as session:
        deadline = session.settings.deadline(None)
        info = session.info(deadline)
        if DENSE.name not in info.kinds:
            raise InvalidArgument(f"model {info.model!r} gives {given(named(info.kinds))}, not one vector a text")
        if settings.needs_ranges:
            version = settings.options.get("model_version")
            asked = measured_ranges(info.model, settings.precision, settings.parameters(), version)
            measured = session.ask(asked, deadline)
            measured.check(info.model, info.identity)  # of several servers another may have been asked
            settings = replace(settings, options={**settings.options, "ranges": measured.ranges})
        vector = session.encode([_ANY], settings.options)[0]
    about = AboutVectors(
        id_column=settings.id_name,
        vector_column=VECTOR,
        model=info.model,
        identity=info.identity,
        similarity=info.similarity,
        precision=settings.precision,
        dimension=len(vector),
        max_seq_len=min(info.max_seq_len, settings.options.get("max_seq_len") or info.max_seq_len),
    )
    return settings, about
