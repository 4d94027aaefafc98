"""Tokenizers of other kinds than BERT's own, trained on a few hundred sentences, with the special tokens of RoBERTa."""

import io
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from tests.support import reference
from tests.support.checkpoints.folders import write_json

SIZE = 700
"""Tokens of each, at most."""

_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
_NAMES = {
    "bos_token": "<s>",
    "cls_token": "<s>",
    "eos_token": "</s>",
    "sep_token": "</s>",
    "unk_token": "<unk>",
    "pad_token": "<pad>",
    "mask_token": "<mask>",
}


@cache
def unigram() -> Tokenizer:
    """As SentencePiece's, of XLM-R and so of multilingual MiniLM and E5: blanks are a part of tokens."""
    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    trainer = trainers.UnigramTrainer(
        vocab_size=SIZE - 1, special_tokens=[*_SPECIAL], unk_token="<unk>", show_progress=False
    )
    made.train_from_iterator(reference.texts(), trainer)
    return _framed(made)


@cache
def byte_level_bpe() -> Tokenizer:
    """As RoBERTa's: made of bytes, so that there is no unknown token."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE - 1,
        special_tokens=[*_SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(reference.texts(), trainer)
    return _framed(made)


@cache
def bpe_files() -> dict[str, bytes]:
    """byte_level_bpe() as the vocab.json and merges.txt of RoBERTa, without a tokenizer.json."""
    with TemporaryDirectory() as folder:
        return {Path(path).name: Path(path).read_bytes() for path in byte_level_bpe().model.save(folder)}


@cache
def sentencepiece_model(*special: str, model_type: str = "unigram") -> bytes:
    """A model of SentencePiece's own trainer: the pieces at 0 to 3, of which one is `<unk>` or `[UNK]`, and others."""
    from sentencepiece import SentencePieceTrainer

    unknown = next(token for token in special if "unk" in token.lower())
    names = dict(zip(("bos", "eos", "pad"), [token for token in special if token != unknown], strict=True))
    options = {f"{name}_piece": token for name, token in names.items()} | {"unk_piece": unknown}
    ids = {f"{name.removesuffix('_piece')}_id": special.index(token) for name, token in options.items()}
    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(reference.texts()),
        model_writer=model,
        model_type=model_type,
        vocab_size=SIZE - 8,  # classes add some of their own
        minloglevel=2,
        **options,
        **ids,
    )
    return model.getvalue()


def framed(made: Tokenizer, single: str, pair: str) -> Tokenizer:
    """A copy with other special tokens around its texts, as in a TemplateProcessing."""
    copy = Tokenizer.from_str(made.to_str())
    tokens = [(token, copy.token_to_id(token)) for token in ("<s>", "</s>") if token in f"{single} {pair}"]
    copy.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=tokens)
    return copy


def write_trained(
    folder: Path, tokenizer: Tokenizer, *, of_class: str, settings: Mapping[str, Any] | None = None
) -> None:
    """Put a tokenizer in the place of that of a checkpoint; `settings` are more of its tokenizer_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": of_class, **_NAMES, **(settings or {})})


def _framed(made: Tokenizer) -> Tokenizer:
    made.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False)])
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return made
