"""An export runs the tokenizer step that it has written."""

import shutil
import sys

import pytest

from export.errors import ExportError
from export.repository.configs import TEMPLATE
from export.tokenizer import step as tokenizer_step
from tests.support import reference
from tests.support.trained_tokenizers import byte_level_bpe, framed, unigram

SETTINGS = {"max_seq_len": "16", "prompts": '{"query": "find: "}', "default_prompt_name": "query"}


@pytest.fixture
def directory(tmp_path):
    shutil.copytree(TEMPLATE / "bert_tokenizer" / "1", tmp_path / "1", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "1"


@pytest.fixture(scope="module")
def tokenizer_json():
    with open(f"{reference.checkpoint()}/tokenizer.json", encoding="utf-8") as file:
        return file.read()


def test_the_step_gives_the_rows_of_the_tokenizer_and_its_modules_are_forgotten(directory, tokenizer_json):
    before = dict(sys.modules)
    tokenizer_step.check(directory, tokenizer_json, SETTINGS)
    for more in ({"truncation_side": "left"}, {"split_special_tokens": "true"}):
        tokenizer_step.check(directory, tokenizer_json, {**SETTINGS, **more})
    for name in ("token_rows", "tokenizer_file", "request_parameters", "text_pieces"):
        assert sys.modules.get(name) is before.get(name)
    assert str(directory) not in sys.path


@pytest.mark.parametrize(
    ("module", "right", "wrong", "message"),
    [
        ("token_rows.py", "else ids[:room]", "else ids[1:room]", "other ids"),
        ("token_rows.py", "tokenizer.splits_special_tokens", "False", "other ids or token types of .*MASK"),
        ("token_rows.py", "token_type_ids[index, :length] = types", "pass", "other ids or token types of"),
        ("tokenizer_file.py", "spec = json.loads(text)", "raise ValueError('no such kind')", "no such kind"),
    ],
)
def test_a_step_that_does_something_else_is_not_exported(directory, tokenizer_json, module, right, wrong, message):
    text = (directory / module).read_text()
    assert right in text
    (directory / module).write_text(text.replace(right, wrong))
    with pytest.raises(ExportError, match=message):
        tokenizer_step.check(directory, tokenizer_json, {**SETTINGS, "split_special_tokens": "true"})


@pytest.mark.parametrize("made", [unigram, byte_level_bpe])
@pytest.mark.parametrize("side", ["right", "left"])
def test_the_step_gives_the_rows_of_tokenizers_of_other_kinds(directory, made, side):
    tokenizer_step.check(directory, made().to_str(), {**SETTINGS, "truncation_side": side})


@pytest.mark.parametrize(
    ("made", "single", "pair", "limit"),
    [
        (unigram, "$A", "$A $B", 32),
        (unigram, "<s> $A", "<s> $A $B", 32),
        (byte_level_bpe, "$A", "$A $B", 16),
        (byte_level_bpe, "$A </s>", "$A </s> $B </s>", 32),
        (byte_level_bpe, "<s> $A", "<s> $A <s> $B:1", 3),
        # RoBERTa's: four around a pair, for which 5 is too few.
        (byte_level_bpe, "<s> $A </s>", "<s> $A </s> </s> $B </s>", 5),
        (byte_level_bpe, "<s> $A </s>", "<s> $A </s> </s> $B </s>", 32),
    ],
)
def test_the_step_gives_the_rows_of_tokenizers_with_other_special_tokens(directory, made, single, pair, limit):
    tokenizer_step.check(directory, framed(made(), single, pair).to_str(), {**SETTINGS, "max_seq_len": str(limit)})
