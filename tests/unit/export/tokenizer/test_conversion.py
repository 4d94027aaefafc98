"""The reference is transformers' own tokenizer of the same folder."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, normalizers
from tokenizers.implementations import BertWordPieceTokenizer

from export.errors import ExportError
from export.tokenizer import check, conversion
from tests.support.checkpoints.folders import VOCABULARY, write_json, write_tokenizer
from tests.support.checkpoints.tokenizers import (
    AWKWARD,
    SIZE,
    assert_equal_to_transformers,
    left_of,
    read,
    read_all,
    reference,
)
from tests.support.trained_tokenizers import SIZE as TRAINED
from tests.support.trained_tokenizers import byte_level_bpe, unigram, write_trained


@pytest.mark.parametrize("tokenizer_json", [True, False])
@pytest.mark.parametrize("lower_case", [True, False])
def test_ids_equal_those_of_transformers(tmp_path: Path, lower_case: bool, tokenizer_json: bool) -> None:
    write_tokenizer(tmp_path, lower_case=lower_case, tokenizer_json=tokenizer_json)
    ours = assert_equal_to_transformers(tmp_path, AWKWARD)
    assert ours.encode("x" * 101).tokens == ["[CLS]", "[UNK]", "[SEP]"]
    assert ("hello" in ours.encode("HELLO").tokens) == lower_case


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"strip_accents": False},
        {"strip_accents": True, "do_lower_case": False},
        {"tokenize_chinese_chars": False},
        {"tokenizer_class": "BertTokenizerFast", "do_lower_case": False},
    ],
)
@pytest.mark.parametrize("tokenizer_json", [True, False])
def test_options_of_tokenizer_config_decide_as_in_transformers(
    tmp_path: Path, options: dict[str, Any], tokenizer_json: bool
) -> None:
    write_tokenizer(tmp_path, lower_case=False, tokenizer_json=tokenizer_json)
    write_json(tmp_path / "tokenizer_config.json", options)
    assert_equal_to_transformers(tmp_path, AWKWARD)


def test_options_leave_a_tokenizer_of_another_class_alone(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, lower_case=False)
    write_json(
        tmp_path / "tokenizer_config.json",
        {"tokenizer_class": "PreTrainedTokenizerFast", "do_lower_case": True},
    )
    ours = Tokenizer.from_str(read(tmp_path, vocab_size=SIZE))
    assert ours.encode("HELLO world").ids == reference(tmp_path)("HELLO world")["input_ids"]
    assert ours.encode("HELLO world").tokens[1:3] == ["H", "##E"]


def test_vocabularies_with_their_own_special_tokens_are_read(tmp_path: Path) -> None:
    renamed = {"[CLS]": "<s>", "[SEP]": "</s>", "[UNK]": "<unk>", "[PAD]": "<pad>", "[MASK]": "<mask>"}
    write_tokenizer(tmp_path, [renamed.get(token, token) for token in VOCABULARY], tokenizer_json=False)
    names = {"cls_token": "<s>", "sep_token": {"__type": "AddedToken", "content": "</s>"}, "unk_token": "<unk>"}
    write_json(tmp_path / "tokenizer_config.json", names)
    write_json(tmp_path / "special_tokens_map.json", {"pad_token": "<pad>", "mask_token": "<mask>"})
    ours = Tokenizer.from_str(read(tmp_path, vocab_size=SIZE))
    assert ours.encode("hello \u0416 <mask>").tokens == ["<s>", "hello", "<unk>", "<mask>", "</s>"]


def test_tokens_added_by_a_fine_tuning_are_kept(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, tokenizer_json=False)
    write_json(tmp_path / "added_tokens.json", {"newword": SIZE + 1, "[E1]": SIZE})
    write_json(tmp_path / "special_tokens_map.json", {"additional_special_tokens": ["[E1]"]})
    ours = assert_equal_to_transformers(tmp_path, ["[E1] NEWWORD", "HELLO[E1]newwords"], vocab_size=SIZE + 2)
    names = {index: token for token, index in ours.get_vocab().items()}
    tokens = [names[index] for index in ours.encode("hello [E1] newword").ids]
    assert tokens == ["[CLS]", "hello", "[E1]", "newword", "[SEP]"]
    assert ours.encode("[E1]").ids[1] == SIZE


def test_truncation_and_padding_are_taken_out(tmp_path: Path) -> None:
    wordpiece = BertWordPieceTokenizer({token: index for index, token in enumerate(VOCABULARY)})
    wordpiece.enable_truncation(8)
    wordpiece.enable_padding(length=8)
    wordpiece.save(str(tmp_path / "tokenizer.json"))
    ours = Tokenizer.from_str(read(tmp_path, vocab_size=SIZE))
    assert len(ours.encode("fox").ids) == 3
    assert len(ours.encode("fox " * 20).ids) == 22


def test_lowercase_comes_before_the_tokenizer(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, lower_case=False)
    plain, lower = (
        Tokenizer.from_str(read(tmp_path, vocab_size=SIZE, lowercase=lowercase)) for lowercase in (False, True)
    )
    for text in AWKWARD:
        if "[" not in text:
            assert lower.encode(text).ids == plain.encode(text.lower()).ids, text
    assert lower.encode("HELLO [SEP] WORLD").tokens == ["[CLS]", "hello", "[SEP]", "world", "[SEP]"]


@pytest.mark.parametrize(
    ("normalizer", "kinds"),
    [
        (None, ["Lowercase"]),
        ({"type": "Lowercase"}, ["Lowercase"]),
        ({"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]}, ["NFC", "Lowercase"]),
        ({"type": "Sequence", "normalizers": [{"type": "NFC"}]}, ["Lowercase", "NFC"]),
    ],
)
def test_lowercase_is_added_once(tmp_path: Path, normalizer: dict[str, Any] | None, kinds: list[str]) -> None:
    edit_tokenizer_json(tmp_path, normalizer=normalizer)
    result = json.loads(read(tmp_path, vocab_size=SIZE, lowercase=True))["normalizer"]
    assert [step["type"] for step in result.get("normalizers", [result])] == kinds


def edit_tokenizer_json(folder: Path, **changes: Any) -> None:
    """Change a tokenizer.json, and have transformers take all of it: of a BertTokenizer's, it takes the vocabulary."""
    write_tokenizer(folder)
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        },
    )
    values = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    write_json(folder / "tokenizer.json", {**values, **changes})


def template(*, single: list[str], pair: list[str]) -> dict[str, Any]:
    def pieces(names: list[str]) -> list[dict[str, Any]]:
        return [{"Sequence" if name in "AB" else "SpecialToken": {"id": name, "type_id": 0}} for name in names]

    tokens = {name: {"id": name, "ids": [VOCABULARY.index(name)], "tokens": [name]} for name in ("[CLS]", "[SEP]")}
    return {
        "type": "TemplateProcessing",
        "single": pieces(single),
        "pair": pieces(pair),
        "special_tokens": tokens,
    }


@pytest.mark.parametrize(
    ("post_processor", "tokens"),
    [
        (None, ["the"]),
        (template(single=["A"], pair=["A", "[SEP]", "B"]), ["the"]),
        (template(single=["[CLS]", "A"], pair=["[CLS]", "A", "[CLS]", "B"]), ["[CLS]", "the"]),
        (template(single=["A", "[SEP]"], pair=["A", "B", "[SEP]"]), ["the", "[SEP]"]),
    ],
)
def test_a_tokenizer_adds_special_tokens_wherever_it_adds_them_in_transformers(
    tmp_path: Path, post_processor: dict[str, Any] | None, tokens: list[str]
) -> None:
    edit_tokenizer_json(tmp_path, post_processor=post_processor)
    ours = assert_equal_to_transformers(tmp_path, AWKWARD)
    assert ours.encode("the").tokens == tokens
    assert conversion.least_tokens(ours.to_str()) == len(tokens)
    read(tmp_path, vocab_size=SIZE, max_seq_len=len(tokens), max_positions=len(tokens))
    if len(tokens) > 1:
        with pytest.raises(ExportError, match="texts are cut at 1 tokens .*; its tokenizer needs 2, 1 of them special"):
            read(tmp_path, vocab_size=SIZE, max_seq_len=1)


@pytest.mark.parametrize(("tokenizer_json", "file"), [(True, "tokenizer.json"), (False, "vocab.txt")])
def test_ids_beyond_the_embeddings_are_refused(tmp_path: Path, tokenizer_json: bool, file: str) -> None:
    write_tokenizer(tmp_path, tokenizer_json=tokenizer_json)
    last = SIZE - 1
    message = rf"{file}: token '{VOCABULARY[-1]}' has the id {last}, but the configuration says vocab_size {last};"
    with pytest.raises(ExportError, match=message):
        read(tmp_path, vocab_size=last)


def test_a_damaged_tokenizer_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0", "model": {"type": "Novel"}}')
    with pytest.raises(ExportError, match=r"tokenizer\.json: not a tokenizer that the tokenizers library reads"):
        read(tmp_path, vocab_size=SIZE)


def test_a_folder_without_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"there is no tokenizer \(tokenizer\.json, vocab\.txt, .*; add"):
        read(tmp_path, vocab_size=SIZE)


@pytest.mark.parametrize("file", ["tokenizer_config.json", "config.json"])
def test_a_vocabulary_of_another_kind_of_tokenizer_is_refused(tmp_path: Path, file: str) -> None:
    write_tokenizer(tmp_path, tokenizer_json=False)
    (tmp_path / "tokenizer_config.json").unlink()
    write_json(tmp_path / file, {"tokenizer_class": "BertJapaneseTokenizer"})
    with pytest.raises(ExportError, match="is a BertJapaneseTokenizer, which vocab.txt alone does not describe"):
        read(tmp_path, vocab_size=SIZE)


def test_a_vocabulary_without_a_special_token_is_refused(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, [token for token in VOCABULARY if token != "[SEP]"], tokenizer_json=False)
    with pytest.raises(ExportError, match=r"vocab\.txt: does not hold the sep_token '\[SEP\]'"):
        read(tmp_path, vocab_size=SIZE)


def test_a_vocabulary_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes("[PAD]\ncafé\n".encode("latin-1"))
    with pytest.raises(ExportError, match=r"vocab\.txt: not UTF-8"):
        read(tmp_path, vocab_size=SIZE)


def test_an_added_token_out_of_place_is_refused(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, tokenizer_json=False)
    write_json(tmp_path / "added_tokens.json", {"[E1]": SIZE + 5})
    with pytest.raises(ExportError, match=rf"gives '\[E1\]' the id {SIZE + 5}, but its place is {SIZE}"):
        read(tmp_path, vocab_size=SIZE + 6)


MARKS = ("[E1]", "[/E1]")
MARKED = ["[E1] stone [/E1] river", "[e1]the[/E1]", "a [MASK] b", *AWKWARD]
FLAGS = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False, "special": True}


@pytest.mark.parametrize("tokenizer_json", [True, False])
@pytest.mark.parametrize(
    "files",
    [
        {"tokenizer_config.json": {"additional_special_tokens": [*MARKS]}},
        {"tokenizer_config.json": {"extra_special_tokens": [*MARKS]}},
        {"tokenizer_config.json": {"extra_special_tokens": {"image_token": "[E1]"}}},
        {"special_tokens_map.json": {"additional_special_tokens": [*MARKS], "cls_token": "[CLS]"}},
        {"tokenizer_config.json": {"added_tokens_decoder": {str(SIZE): {"content": "[E1]", **FLAGS}}}},
        {"added_tokens.json": {"[E1]": SIZE, "[/E1]": SIZE + 1}},
        {"tokenizer_config.json": {"tokenizer_class": "DistilBertTokenizer", "do_lower_case": True}},
        {"tokenizer_config.json": {"tokenizer_class": "DistilBertTokenizerFast", "do_lower_case": False}},
        {"tokenizer_config.json": {"tokenizer_class": "ElectraTokenizer", "do_lower_case": True}},
        {"tokenizer_config.json": {"tokenizer_class": "ElectraTokenizerFast", "strip_accents": False}},
        {"tokenizer_config.json": {"model_input_names": ["input_ids", "attention_mask"]}},
        {"tokenizer_config.json": {"never_split": ["the"], "do_basic_tokenize": False}},
    ],
    ids=str,
)
def test_every_setting_of_a_tokenizer_has_the_effect_that_it_has_in_transformers(
    tmp_path: Path, files: dict[str, Any], tokenizer_json: bool
) -> None:
    vocabulary = VOCABULARY if "added_tokens" in str(files) else (*VOCABULARY, *MARKS)
    write_tokenizer(tmp_path, vocabulary, lower_case=False, tokenizer_json=tokenizer_json)
    for name, values in files.items():
        write_json(tmp_path / name, values)
    assert_equal_to_transformers(tmp_path, MARKED, vocab_size=SIZE + 2)


@pytest.mark.parametrize("processing", ["BertProcessing", "TemplateProcessing"])
def test_without_token_types_both_texts_of_a_pair_have_type_0(tmp_path: Path, processing: str) -> None:
    ids = {token: VOCABULARY.index(token) for token in ("[CLS]", "[SEP]")}
    processor = {"type": "BertProcessing", "sep": ["[SEP]", ids["[SEP]"]], "cls": ["[CLS]", ids["[CLS]"]]}
    changes = {"post_processor": processor} if processing == "BertProcessing" else {}
    edit_tokenizer_json(tmp_path, **changes)
    write_json(tmp_path / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})
    ours = assert_equal_to_transformers(tmp_path, AWKWARD)
    pair = ours.encode("the fox", "dog")
    assert pair.tokens == ["[CLS]", "the", "fox", "[SEP]", "dog", "[SEP]"]
    assert pair.type_ids == [0] * 6 and pair.special_tokens_mask == [1, 0, 0, 1, 0, 1]


@pytest.mark.parametrize("changes", [{"blank": ["", ""]}, {"doubled": ["the"]}], ids=str)
def test_ids_are_the_lines_of_a_vocabulary_with_a_hole(tmp_path: Path, changes: dict[str, list[str]]) -> None:
    (lines,) = changes.values()
    vocabulary = [*VOCABULARY[:30], *lines, *VOCABULARY[30:], "lastword"]
    write_tokenizer(tmp_path, vocabulary, tokenizer_json=False)
    ours = assert_equal_to_transformers(tmp_path, ["the lastword", *AWKWARD], vocab_size=len(vocabulary))
    assert ours.encode("lastword").ids[1] == len(vocabulary) - 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"truncation_side": "middle"}, "transformers cannot load its tokenizer .*side should be .*middle"),
        ({"fast_tokenizer_files": ["tokenizer.9.0.0.json"]}, "fast_tokenizer_files is .*only"),
        (
            {"vocab": "/etc/passwd"},
            "vocab is '/etc/passwd'; export reads the tokenizer's files of the folder only",
        ),
        ({"do_lower_case": None}, "transformers cannot load its tokenizer .*TypeError"),
        ({"cls_token": 5}, "transformers cannot load its tokenizer .*cls_token"),
        ({"model_input_names": 7}, "transformers cannot load its tokenizer"),
        ({"unk_token": None}, "its tokenizer fails on an ordinary text .*UNK"),
        ({"additional_special_tokens": [7]}, "transformers cannot load its tokenizer"),
        ({"added_tokens_decoder": {"0": {}}}, "added_tokens_decoder is damaged"),
        ({"tokenizer_class": "AutoModel"}, "transformers cannot load its tokenizer"),
        ({"tokenizer_class": "ByT5Tokenizer"}, "its tokenizer is a ByT5Tokenizer, which tokenizer.json alone"),
    ],
    ids=str,
)
def test_settings_that_would_be_lost_or_make_no_sense_are_refused(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    write_tokenizer(tmp_path)
    write_json(tmp_path / "tokenizer_config.json", options)
    with pytest.raises(ExportError, match=message) as error:
        read(tmp_path, vocab_size=SIZE)
    assert "\n" not in str(error.value)


def test_the_side_on_which_texts_are_cut_is_told(tmp_path: Path) -> None:
    assert left_of(tmp_path / "config").truncation_side == "left"
    truncation = {"direction": "Left", "max_length": 8, "strategy": "LongestFirst", "stride": 0}
    (tmp_path / "json").mkdir()
    edit_tokenizer_json(tmp_path / "json", truncation=truncation)
    assert read_all(tmp_path / "json", vocab_size=SIZE).truncation_side == "left"
    write_tokenizer(tmp_path / "arguments")
    found = read_all(tmp_path / "arguments", vocab_size=SIZE, arguments={"truncation_side": "left"})
    assert (found.truncation_side, found.split_special_tokens) == ("left", False)


def test_special_tokens_in_a_text_may_be_words(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    write_json(tmp_path / "tokenizer_config.json", {"split_special_tokens": True})
    found = read_all(tmp_path, vocab_size=SIZE)
    assert found.split_special_tokens
    ours = Tokenizer.from_str(found.json)
    ours.encode_special_tokens = True
    for text in AWKWARD:
        assert ours.encode(text).ids == reference(tmp_path)(text)["input_ids"], text
    assert ours.encode("[MASK]").tokens[1:3] == ["[", "m"]
    theirs = reference(tmp_path)
    theirs.model_max_length = 64
    check.compare(tmp_path, ours, theirs, 64)
    ours.encode_special_tokens = False
    with pytest.raises(ExportError, match=r"'\[CLS\]', '\[SEP\]', .* and \['\[CLS\]', '\[', 'c', '##l'"):
        check.compare(tmp_path, ours, theirs, 64)


@pytest.mark.parametrize(
    ("made", "of_class"),
    [
        (unigram, "XLMRobertaTokenizer"),
        (unigram, "PreTrainedTokenizerFast"),
        (byte_level_bpe, "RobertaTokenizer"),
        (byte_level_bpe, "PreTrainedTokenizerFast"),
        (byte_level_bpe, "DebertaTokenizer"),
    ],
)
def test_tokenizers_of_other_kinds_give_the_ids_of_transformers(
    tmp_path: Path, made: Callable[[], Tokenizer], of_class: str
) -> None:
    write_trained(tmp_path, made(), of_class=of_class)
    (tmp_path / "sentencepiece.bpe.model").write_bytes(b"not read where there is a tokenizer.json")
    ours = assert_equal_to_transformers(tmp_path, [*AWKWARD, "a <mask> b</s>"], vocab_size=TRAINED)
    assert ours.encode("the", "fox").tokens[::3][:2] == ["<s>", "</s>"]


def test_a_tokenizer_that_gives_other_ids_each_time_is_refused(tmp_path: Path) -> None:
    write_trained(tmp_path, byte_level_bpe(), of_class="PreTrainedTokenizerFast")
    values = json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))
    values["model"]["dropout"] = 0.5
    write_json(tmp_path / "tokenizer.json", values)
    with pytest.raises(ExportError, match="as exported and .* in transformers"):
        read(tmp_path, vocab_size=TRAINED)


def test_code_that_a_tokenizer_names_is_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "it-ran"
    write_tokenizer(tmp_path)
    (tmp_path / "custom.py").write_text(f"open({str(trace)!r}, 'w')")
    options = {"auto_map": {"AutoTokenizer": ["custom.Slow", "custom.Fast"]}, "tokenizer_class": "BertTokenizer"}
    write_json(tmp_path / "tokenizer_config.json", options)
    read(tmp_path, vocab_size=SIZE)
    assert not trace.exists()


@pytest.mark.parametrize("of_class", ["CustomTokenizer", "Fast", None])
def test_a_tokenizer_that_is_code_of_the_checkpoint_is_refused(tmp_path: Path, of_class: str | None) -> None:
    write_tokenizer(tmp_path)
    options = {"auto_map": {"AutoTokenizer": ["custom.Slow", "custom.Fast"]}, "tokenizer_class": of_class}
    write_json(tmp_path / "tokenizer_config.json", options)
    with pytest.raises(ExportError, match=rf"auto_map names .* tokenizer_class is {of_class!r}.* is never run"):
        read(tmp_path, vocab_size=SIZE)


@pytest.mark.parametrize("model_type", ["bert", "roberta", "xlm-roberta", "modernbert", "gte", "new", "odd", None])
@pytest.mark.parametrize("of_class", ["RobertaTokenizer", "RobertaTokenizerFast", "PreTrainedTokenizerFast"])
def test_the_kind_of_network_says_which_class_makes_the_tokenizer(
    tmp_path: Path, model_type: str | None, of_class: str
) -> None:
    """RobertaTokenizer takes the vocabulary of a tokenizer.json and leaves its normalizer; ModernBERT's keeps it."""
    made = Tokenizer.from_str(byte_level_bpe().to_str())
    made.normalizer = normalizers.Lowercase()
    write_trained(tmp_path, made, of_class=of_class)
    auto_map = {"AutoConfig": "custom.Config", "AutoModel": "custom.Model"}
    write_json(tmp_path / "config.json", {"model_type": model_type, "auto_map": auto_map, "hidden_size": 8})
    ours = assert_equal_to_transformers(tmp_path, AWKWARD, vocab_size=TRAINED)
    keeps = model_type == "modernbert" or of_class == "PreTrainedTokenizerFast"
    assert (ours.encode("THE").ids == ours.encode("the").ids) == keeps


@pytest.mark.parametrize("longest", [4, 5, 32])
def test_pairs_are_compared_where_both_texts_have_room(tmp_path: Path, longest: int) -> None:
    write_trained(tmp_path, byte_level_bpe(), of_class="RobertaTokenizer", settings={"model_max_length": 1e30})
    source = read_all(tmp_path, vocab_size=TRAINED, max_seq_len=longest, max_positions=longest)
    assert bool(check.odd_inputs(Tokenizer.from_str(source.json), longest)[1]) == (longest == 32)
