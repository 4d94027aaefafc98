"""Runs texts through the tokenizer step's own code, before a family is said to be exported.

The step puts rows together from pieces of texts, with what it finds out about the tokenizer's special tokens. Here its
modules, which need no Triton, read the exported tokenizer.json, and must give the rows that the tokenizer gives.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Encoding, Tokenizer

from export.errors import ExportError
from export.step_modules import modules_of
from export.tokenizer.check import odd_inputs

_OUTPUTS = ["input_ids", "attention_mask", "token_type_ids"]
_PIECES = 64  # tokenized at a time


def check(directory: Path, tokenizer_json: str, settings: dict[str, str]) -> None:
    """Compare what the step makes of some hundred odd texts and pairs with what the tokenizer makes of them.

    Args:
        directory: The version directory of the tokenizer step, with its modules.
        tokenizer_json: What it will read.
        settings: The parameters in its config.

    Raises:
        ExportError: the step cannot serve the tokenizer, or gives other ids or token types.
    """
    limit = int(settings["max_seq_len"])
    tokenizer = Tokenizer.from_str(tokenizer_json)
    singles, pairs = odd_inputs(tokenizer, limit)
    texts = [(text,) for text in singles if text.strip()]
    tokenizer.no_padding()
    tokenizer.enable_truncation(limit, direction=settings.get("truncation_side", "right"))
    tokenizer.encode_special_tokens = settings.get("split_special_tokens") == "true"
    with modules_of(directory, "token_rows", "tokenizer_file") as (token_rows, tokenizer_file):
        try:
            tokenizer_file.TokenizerFile(tokenizer_json, settings)
            step = tokenizer_file.TokenizerFile(
                tokenizer_json, {**settings, "prompts": "{}", "default_prompt_name": "", "lengths": "{}"}
            )
            for inputs in (texts, pairs):
                # Where nothing is put around a text, one of characters that are no tokens has none, and is refused.
                served = {row: encoding for row, encoding in _encoded(tokenizer, inputs) if encoding.ids}
                if served:
                    _compare(served, _rows(token_rows, step, [*served]))
        except ExportError:
            raise
        except BaseException as error:  # tokenizers' PanicException is no Exception
            if isinstance(error, KeyboardInterrupt):
                raise
            raise ExportError(f"the tokenizer step cannot serve this tokenizer: {error}") from error


def _rows(token_rows: Any, step: Any, inputs: Sequence[tuple[str, ...]]) -> list[tuple[list[int], list[int]]]:
    """The ids and token types of each input, as the step gives them."""
    texts = np.array([[text.encode() for text in row] for row in inputs], object)
    job = token_rows.Job(step, {}, texts, _OUTPUTS)
    job.start()
    while not job.is_done:
        if job.pieces or job.go_on(_PIECES):
            job.take(step.encode([piece for _, piece in job.pieces], job.split_special_tokens))
    outputs, _ = token_rows.outputs(job)
    lengths = outputs["attention_mask"].sum(axis=1)
    return [
        (ids[:length].tolist(), types[:length].tolist())
        for ids, types, length in zip(outputs["input_ids"], outputs["token_type_ids"], lengths, strict=True)
    ]


def _compare(expected: Mapping[tuple[str, ...], Encoding], rows: list[tuple[list[int], list[int]]]) -> None:
    for (texts, encoding), found in zip(expected.items(), rows, strict=True):
        if found != (encoding.ids, encoding.type_ids):
            raise ExportError(
                f"the tokenizer step makes other ids or token types of {' and '.join(map(repr, texts))[:120]} than the "
                f"tokenizer: {found[0][:12]}... and {encoding.ids[:12]}...; a tokenizer of this kind cannot be served"
            )


def _encoded(tokenizer: Tokenizer, inputs: Sequence[tuple[str, ...]]) -> Iterable[tuple[tuple[str, ...], Encoding]]:
    encodings = tokenizer.encode_batch([row if len(row) == 2 else row[0] for row in inputs])
    return zip(inputs, encodings, strict=True)
