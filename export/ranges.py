"""Between which values each number of a family's vectors lies, by which a client makes 8-bit integers of them."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from export.network.batches import Arrays
from export.network.runner import Runner
from export.repository.configs import step_settings
from export.repository.family import Family
from export.sentences import sample
from export.step_modules import modules_of

TEXTS = 256
_BATCH = 16


def measured(runner: Runner, tokenizer_json: str, family: Family, directory: Path) -> npt.NDArray[np.float32] | None:
    """The least and the largest value of each number in the vectors of `TEXTS` real sentences: [2, D].

    None where there are none: the sentences are those of Python's own documentation, which may not be there.

    Args:
        runner: The network of a family of dense vectors.
        tokenizer_json: Of the checkpoint.
        family: Whose vectors are meant, as a request that names no option gets them.
        directory: The version directory of the pooling step, with its modules and what they read.
    """
    tokenizer = Tokenizer.from_str(tokenizer_json)
    tokenizer.enable_truncation(family.max_seq_len, direction=family.truncation_side)
    prompt = family.prompts.get(family.default_prompt_name or "", "") if family.include_prompt else ""
    encodings = tokenizer.encode_batch([prompt + text for text in sample(TEXTS)])
    encodings = sorted((encoding for encoding in encodings if encoding.ids), key=len)
    found = []
    with modules_of(directory, "embedding") as (embedding,):
        pooling = embedding.Embedding(step_settings(family), [*family.outputs], str(directory))
        for start in range(0, len(encodings), _BATCH):
            outputs: Arrays = runner.run(encodings[start : start + _BATCH])
            (vectors,), finite = pooling.compute({}, outputs.__getitem__)
            found.append(vectors[finite])
    if not sum(map(len, found)):
        return None
    vectors = np.concatenate(found)
    both: npt.NDArray[np.float32] = np.stack([vectors.min(axis=0), vectors.max(axis=0)])
    return both


def written(ranges: npt.NDArray[np.float32]) -> str:
    """As the pooling's config has them: [2, D] float32, little-endian, in base64."""
    return base64.b64encode(ranges.astype("<f4").tobytes()).decode()
