"""Tokenizers of folders: as export reads them, and as transformers does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from export.tokenizer import conversion
from tests.support.checkpoints.folders import VOCABULARY, write_json, write_tokenizer

SIZE = len(VOCABULARY)


def read_all(folder: Path, *, vocab_size: int, max_seq_len: int = 64, **options: Any) -> conversion.TokenizerSource:
    return conversion.read(folder, vocab_size=vocab_size, max_seq_len=max_seq_len, **{"max_positions": 64, **options})


def read(folder: Path, **options: Any) -> str:
    return read_all(folder, **options).json


def reference(folder: Path) -> Any:
    from transformers import AutoTokenizer

    if not (folder / "config.json").exists():
        write_json(folder / "config.json", {"model_type": "bert"})
    return AutoTokenizer.from_pretrained(folder)


def left_of(folder: Path) -> conversion.TokenizerSource:
    write_tokenizer(folder)
    write_json(folder / "tokenizer_config.json", {"truncation_side": "left"})
    return read_all(folder, vocab_size=SIZE)
