"""Tokenizers of folders: as export reads them, and as transformers does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from export.tokenizer import conversion
from tests.support.checkpoints.folders import VOCABULARY, write_json, write_tokenizer

SIZE = len(VOCABULARY)


AWKWARD = [
    "",
    "   \t\n ",
    "Hello WORLD, café naïve Ünïcödé ﬁne",
    "e\u0301 combining, İstanbul, ß ẞ, ΣΑΣ",
    "中文字 mixed中with國latin 日本語カタカナ 한국어",
    "control\x00\x01chars\ufffd and\u200bzero\xa0width\u2028lines\x7f",
    "x" * 100 + " " + "y" * 101 + " " + "z" * 5000,
    "punct!?...-_'\"()[]{}<>@#$%^&*+=|\\/~` «»…“”—",
    "[CLS] special [SEP] tokens [MASK] in [UNK] text [PAD]",
    "emoji 🙂👩‍👩‍👧 and \U0001f1e9\U0001f1ea 10\u00b2 ½ ﷺ",
    "the quick brown fox jumped over the lazy dogs",
]


def assert_equal_to_transformers(folder: Path, texts: list[str], *, vocab_size: int = SIZE) -> Tokenizer:
    ours, theirs = Tokenizer.from_str(read(folder, vocab_size=vocab_size)), reference(folder)
    for text in texts:
        assert ours.encode(text).ids == theirs(text)["input_ids"], text
        pair, expected = ours.encode(text, "hello dog"), theirs(text, "hello dog")
        assert pair.ids == expected["input_ids"], text
        # The network takes 0 where transformers hands out none.
        assert pair.type_ids == expected.get("token_type_ids", [0] * len(pair)), text
    return ours


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
