"""Tokenizers without a tokenizer.json, which transformers converts; the reference is its tokenizer of the folder."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from export.errors import ExportError
from tests.support.checkpoints.folders import VOCABULARY, write_json, write_tokenizer
from tests.support.checkpoints.tokenizers import AWKWARD, SIZE, assert_equal_to_transformers, read
from tests.support.trained_tokenizers import SIZE as TRAINED
from tests.support.trained_tokenizers import bpe_files, byte_level_bpe, sentencepiece_model, unigram, write_trained

XLM = ("<unk>", "<s>", "</s>", "<pad>")
TEXTS = [*AWKWARD, "a <mask> b</s>", "The jury said, in 1961: no!"]


def write(folder: Path, sources: dict[str, bytes], model_type: str, options: dict[str, Any] | None = None) -> None:
    folder.mkdir(exist_ok=True)
    write_json(folder / "config.json", {"model_type": model_type})
    if options:
        write_json(folder / "tokenizer_config.json", options)
    for name, content in sources.items():
        (folder / name).write_bytes(content)


@pytest.mark.parametrize(
    ("model_type", "options"),
    [
        ("roberta", {}),
        ("roberta", {"add_prefix_space": True, "trim_offsets": False, "merges_file": "/etc/passwd"}),
        ("bert", {"tokenizer_class": "RobertaTokenizer"}),
        ("new", {"tokenizer_class": "RobertaTokenizerFast"}),
    ],
    ids=str,
)
def test_bpe_files_give_the_ids_of_transformers(tmp_path: Path, model_type: str, options: dict[str, Any]) -> None:
    write(tmp_path, bpe_files(), model_type, options)
    ours = assert_equal_to_transformers(tmp_path, TEXTS, vocab_size=TRAINED)
    for text in ("the jury", "THE 1961"):
        expected = text if "add_prefix_space" not in options else f" {text}"
        assert ours.encode(text).ids == byte_level_bpe().encode(expected).ids


@pytest.mark.parametrize(
    ("file", "special", "model_type", "options"),
    [
        ("sentencepiece.bpe.model", XLM, "xlm-roberta", {}),
        ("sentencepiece.bpe.model", XLM, "bert", {"tokenizer_class": "XLMRobertaTokenizer"}),
        ("sentencepiece.bpe.model", XLM, "new", {"tokenizer_class": "XLMRobertaTokenizerFast"}),
        ("sentencepiece.bpe.model", XLM, "gte", {"vocab_file": "/etc/passwd"}),
        ("sentencepiece.bpe.model", XLM, "camembert", {}),
        ("spiece.model", ("<pad>", "<unk>", "[CLS]", "[SEP]"), "albert", {"do_lower_case": False}),
        ("spm.model", ("[PAD]", "[CLS]", "[SEP]", "[UNK]"), "deberta-v2", {"do_lower_case": False}),
        ("tokenizer.model", XLM, "bert", {"tokenizer_class": "LlamaTokenizer"}),
    ],
)
def test_sentencepiece_models_give_the_ids_of_transformers_and_the_pieces_of_sentencepiece(
    tmp_path: Path, file: str, special: tuple[str, ...], model_type: str, options: dict[str, Any]
) -> None:
    bpe = file == "tokenizer.model"  # of which LlamaTokenizer makes one
    model = sentencepiece_model(*special, model_type="bpe" if bpe else "unigram")
    write(tmp_path, {file: model}, model_type, options)
    ours = assert_equal_to_transformers(tmp_path, TEXTS, vocab_size=TRAINED)
    from sentencepiece import SentencePieceProcessor

    pieces = SentencePieceProcessor(model_proto=model)
    names = {index: token for token, index in ours.get_vocab().items()}
    # Of a character that is no token, LlamaTokenizer makes nothing and not <unk>.
    for text in ("The jury said, in 1961: no!", "a member of the board", *["Stra\u00dfe 12"] * (not bpe)):
        found = [names[index] for index in ours.encode(text, add_special_tokens=False).ids]
        assert found == [pieces.id_to_piece(index) for index in pieces.encode_as_ids(text)]


def test_the_class_says_which_of_several_files_is_read(tmp_path: Path) -> None:
    write(tmp_path, {"spiece.model": sentencepiece_model(*XLM), **bpe_files()}, "roberta")
    write_tokenizer(tmp_path / "other", tokenizer_json=False)
    (tmp_path / "vocab.txt").write_bytes((tmp_path / "other/vocab.txt").read_bytes())
    ours = assert_equal_to_transformers(tmp_path, TEXTS, vocab_size=TRAINED)
    assert ours.get_vocab() == byte_level_bpe().get_vocab()


def test_a_tokenizer_json_comes_before_all_others(tmp_path: Path) -> None:
    write(tmp_path, {"sentencepiece.bpe.model": b"not read", "merges.txt": b"\xff"}, "xlm-roberta")
    write_trained(tmp_path, unigram(), of_class="XLMRobertaTokenizer")
    assert_equal_to_transformers(tmp_path, TEXTS, vocab_size=TRAINED)


def test_a_class_that_reads_other_files_is_refused(tmp_path: Path) -> None:
    """transformers makes a tokenizer of five special tokens of such a folder."""
    write_tokenizer(tmp_path, tokenizer_json=False)
    write(tmp_path, {}, "roberta", {"tokenizer_class": "RobertaTokenizer"})
    message = r"is a RobertaTokenizer, which reads vocab\.json and merges\.txt.* and not vocab\.txt; name the class"
    with pytest.raises(ExportError, match=message):
        read(tmp_path, vocab_size=SIZE)


@pytest.mark.parametrize(
    ("sources", "model_type", "message"),
    [
        ({"vocab.json": b"{}"}, "roberta", r"there is no merges\.txt"),
        ({"vocab.json": b"[]", "merges.txt": b""}, "roberta", r"cannot load its tokenizer from vocab\.json and merges"),
        ({"vocab.json": b"{}", "merges.txt": b"\xff"}, "roberta", r"merges\.txt: not UTF-8"),
        ({"sentencepiece.bpe.model": b"xyz"}, "xlm-roberta", r"bpe\.model: not a SentencePiece model \("),
        ({"spm.model": b"version https://git-lfs"}, "deberta-v2", r"spm\.model: is a Git LFS pointer"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_damaged_files_are_refused_by_name(
    tmp_path: Path, sources: dict[str, bytes], model_type: str, message: str
) -> None:
    write(tmp_path, sources, model_type)
    with pytest.raises(ExportError, match=message) as error:
        read(tmp_path, vocab_size=TRAINED)
    assert "\n" not in str(error.value)


def test_a_model_of_no_known_class_is_refused_with_what_is_missing(tmp_path: Path) -> None:
    write(tmp_path, {"sentencepiece.bpe.model": sentencepiece_model(*XLM)}, "xlm-roberta-flash")
    message = r"from sentencepiece\.bpe\.model and tokenizer_config\.json, which names no tokenizer_class,"
    with pytest.raises(ExportError, match=message):
        read(tmp_path, vocab_size=TRAINED)


def test_a_vocabulary_without_a_special_token_of_its_class_is_refused(tmp_path: Path) -> None:
    write(tmp_path, bpe_files(), "deberta")
    with pytest.raises(ExportError, match=r"vocab\.json: does not hold the unk_token '\[UNK\]'"):
        read(tmp_path, vocab_size=2 * TRAINED)


def test_without_sentencepiece_its_models_are_refused_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {"sentencepiece.bpe.model": sentencepiece_model(*XLM)}, "xlm-roberta")
    for broken, reason in ((None, "ModuleNotFoundError"), (ModuleType("sentencepiece"), "ImportError")):
        monkeypatch.setitem(sys.modules, "sentencepiece", broken)
        with pytest.raises(ExportError, match=rf"cannot be imported \({reason}: .*pip install"):
            read(tmp_path, vocab_size=len(VOCABULARY))
