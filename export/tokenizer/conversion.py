"""The tokenizer of a checkpoint as the text of a tokenizer.json.

transformers' AutoTokenizer reads the checkpoint's files, and what it made of them is written: so every key of theirs
has the effect that it has there. What it does outside of the written tokenizer is done to it or refused, and in the
end the two are compared.
"""

import json
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, normalizers

from export import json_files
from export.errors import ExportError
from export.tokenizer import check, files
from export.tokenizer.damaged import refusing

_CONFIG = "tokenizer_config.json"
_ADDED = "added_tokens.json"
# Keys that name another file, or hand the tokenizer an object: transformers writes none of them. What they point at is
# not read.
_ELSEWHERE = (
    "fast_tokenizer_files",
    "gguf_file",
    "init_inputs",
    "merges",
    "subfolder",
    "tokenizer_object",
    "vocab",
)
# In tokenizer_config.json these are where its files once were; those of the folder are read.
_FILES = ("tokenizer_file", "vocab_file", "merges_file", "spm_file")
_SPECIAL = ("cls_token", "sep_token", "bos_token", "eos_token", "pad_token", "unk_token", "mask_token")
# What AutoTokenizer reads in a config.json: nothing else in it says anything about the tokenizer.
_OF_NETWORK = ("model_type", "model_name", "tokenizer_class", "transformers_version")


@dataclass(frozen=True)
class TokenizerSource:
    """A tokenizer, and what it does that its tokenizer.json does not say.

    Attributes:
        json: The text of a tokenizer.json, without truncation or padding.
        truncation_side: Where a text that is too long loses tokens, `right` or `left`.
        split_special_tokens: Whether special tokens that are written in a text are cut up like any word.
        mask_token: What stands for a token that is hidden; where there is none, the one at the end of a text, or None.
        pads: On which side it pads, and the token type there.
        special_ids: Of its special tokens, by the names that transformers has for them, such as `cls_token`.
    """

    json: str
    truncation_side: str = "right"
    split_special_tokens: bool = False
    mask_token: str | None = None
    pads: tuple[str, int] = ("right", 0)
    special_ids: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def ids(self) -> dict[str, int]:
        """Of its tokens."""
        return Tokenizer.from_str(self.json).get_vocab(with_added_tokens=True)


def read(
    folder: Path,
    *,
    vocab_size: int,
    max_seq_len: int,
    max_positions: int,
    lowercase: bool = False,
    arguments: Mapping[str, Any] | None = None,
    markers: Sequence[str] = (),
) -> TokenizerSource:
    """Return the tokenizer in `folder`.

    Args:
        folder: Where the tokenizer's files are.
        vocab_size: Rows of the word embeddings; every id must be below it.
        max_seq_len: Where the server will cut texts, in tokens.
        max_positions: Rows of the position embeddings; the reference cuts texts there at the latest.
        lowercase: Lower-case texts first, whatever the tokenizer does (sentence-transformers' `do_lower_case`).
        arguments: What sentence-transformers hands to AutoTokenizer beside the folder.
        markers: What stands before texts and should be one token each, if there is such a one.

    Raises:
        ExportError: There is no tokenizer, it is damaged, one that transformers cannot load or that the server cannot
            run, has ids that the network has no vectors for, leaves no room for a token at `max_seq_len`, or does not
            give the ids that transformers gives.
    """
    options = json_files.read_object(folder / _CONFIG, optional=True)
    network = json_files.read_object(folder / "config.json", optional=True)
    _check_sources(folder / _CONFIG, options)
    _check_sources(folder / "sentence_bert_config.json", arguments or {}, _ELSEWHERE + _FILES)
    sources = files.read(folder)
    # Configurations of 2019 have no model_type.
    settings: dict[str, dict[str, Any]] = {
        _CONFIG: {key: value for key, value in options.items() if key not in _FILES},
        "config.json": {"model_type": "bert"} | {key: network[key] for key in _OF_NETWORK if network.get(key)},
    }
    for name in ("special_tokens_map.json", _ADDED):
        if (folder / name).exists():
            settings[name] = json_files.read_object(folder / name)
    theirs = _load(folder, sources, settings, dict(arguments or {}))
    if lowercase:
        _lowercase_first(theirs.backend_tokenizer)
    _make_special(theirs, markers)
    if "added_tokens_decoder" in options:  # transformers then leaves the older file alone
        with refusing(folder / _CONFIG, "added_tokens_decoder is damaged"):
            added = {token["content"]: int(index) for index, token in options["added_tokens_decoder"].items()}
            _check_places(folder / _CONFIG, theirs.backend_tokenizer, added)
    else:
        _check_places(folder / _ADDED, theirs.backend_tokenizer, settings.get(_ADDED, {}))
    return _written(_source(folder, sources, theirs), theirs, vocab_size, max_seq_len, max_positions)


def from_vocabulary(path: Path, *, vocab_size: int, max_seq_len: int, lowercase: bool) -> TokenizerSource:
    """Return BERT's WordPiece tokenizer of a vocab.txt, whatever other files are beside it.

    Args:
        path: The vocabulary; the id of a token is its line.
        vocab_size: Rows of the word embeddings; every id must be below it.
        max_seq_len: Where texts are cut, in tokens.
        lowercase: Lower-case texts and strip their accents.

    Raises:
        ExportError: It is absent or damaged, or has ids that the network has no vectors for.
    """
    settings: dict[str, dict[str, Any]] = {
        _CONFIG: {"tokenizer_class": "BertTokenizer", "do_lower_case": lowercase},
        "config.json": {"model_type": "bert"},
    }
    theirs = _load(path.parent, {files.VOCABULARY: files.read_one(path)}, settings, {})
    return _written(path, theirs, vocab_size, max_seq_len, max_seq_len)


def least_tokens(tokenizer_json: str) -> int:
    """Return how long a text must be allowed to be: its special tokens and one more."""
    special: int = Tokenizer.from_str(tokenizer_json).num_special_tokens_to_add(is_pair=False)
    return special + 1


def _check_sources(path: Path, options: Mapping[str, Any], keys: Sequence[str] = _ELSEWHERE) -> None:
    """Refuse settings that lead transformers to other files than those that are read here."""
    for key in keys:
        if options.get(key):
            raise ExportError(
                f"{path}: {key} is {json_files.shown(options[key])}; export reads the tokenizer's files of the folder "
                "only: save it with AutoTokenizer and save_pretrained"
            )


def _load(
    folder: Path,
    sources: Mapping[str, bytes],
    settings: Mapping[str, Mapping[str, Any]],
    arguments: dict[str, Any],
) -> Any:
    """Return the AutoTokenizer of copies of the files, so that it opens none but those that were checked."""
    # That there is no PyTorch, which nothing here needs.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    try:
        import transformers
        from transformers import AutoTokenizer
    except ImportError as error:
        raise ExportError(
            f"transformers, which reads a checkpoint's tokenizer, is missing ({error}): pip install "
            "'bert-on-triton[export]'"
        ) from error
    name = settings[_CONFIG].get("tokenizer_class") or settings["config.json"].get("tokenizer_class")
    if settings[_CONFIG].get("auto_map") and not _is_known(transformers, name):
        raise ExportError(
            f"{folder / _CONFIG}: auto_map names a tokenizer class of the checkpoint's own, and tokenizer_class is "
            f"{json_files.shown(name)}, none of transformers'; code from a checkpoint is never run"
        )
    names = " and ".join(sources)
    with tempfile.TemporaryDirectory(prefix="tokenizer-") as copy:
        for file, content in sources.items():
            Path(copy, file).write_bytes(content)
        for file, values in settings.items():
            Path(copy, file).write_text(json.dumps(values), encoding="utf-8")
        what = f"transformers cannot load its tokenizer from {names} and {_CONFIG}"
        if not name:
            what += ", which names no tokenizer_class,"
        with refusing(folder, what), _quiet():
            # Never code that comes with a checkpoint (auto_map), never the network.
            theirs = AutoTokenizer.from_pretrained(
                copy, **{**arguments, "local_files_only": True, "trust_remote_code": False}
            )
    if not isinstance(getattr(theirs, "backend_tokenizer", None), Tokenizer):
        raise ExportError(
            f"{folder}: its tokenizer is a {name or type(theirs).__name__}, which {names} alone does not describe; "
            "save it as tokenizer.json (AutoTokenizer, save_pretrained) if transformers can"
        )
    return theirs


def _is_known(transformers: Any, name: Any) -> bool:
    """Whether transformers itself has a tokenizer class, which then comes before one of a checkpoint's own code."""
    return isinstance(name, str) and any(hasattr(transformers, own) for own in (name, name.removesuffix("Fast")) if own)


def _source(folder: Path, sources: Mapping[str, bytes], theirs: Any) -> Path:
    """Return the file that holds the tokenizer's vocabulary."""
    if files.JSON in sources:
        return folder / files.JSON
    read = [name for name in sources if name in theirs.vocab_files_names.values()]
    if not read:  # a tokenizer of special tokens alone
        wanted = " and ".join(name for name in theirs.vocab_files_names.values() if name)
        raise ExportError(
            f"{folder}: its tokenizer is a {type(theirs).__name__}, which reads {wanted} and not "
            f"{' or '.join(sources)}; name the class that it was saved with (tokenizer_class) in {_CONFIG}"
        )
    return folder / read[0]


def _written(source: Path, theirs: Any, vocab_size: int, max_seq_len: int, max_positions: int) -> TokenizerSource:
    """Return the tokenizer that transformers made, checked."""
    if source.name != files.JSON:
        _check_vocabulary(source, theirs)
    values = json.loads(theirs.backend_tokenizer.to_str())
    values["truncation"] = values["padding"] = None
    if "token_type_ids" not in theirs.model_input_names:
        values["post_processor"] = _without_token_types(values["post_processor"])
    with refusing(source, "not a tokenizer that the tokenizers library reads"):
        tokenizer = Tokenizer.from_str(json.dumps(values))
    # Neither is in a tokenizer.json; the first, from 'truncation' there, only until transformers cuts a text.
    truncation_side, split_special_tokens = str(theirs.truncation_side), bool(theirs.split_special_tokens)
    tokenizer.encode_special_tokens = split_special_tokens
    _check_ids(source, tokenizer, vocab_size)
    _check_room(source.parent, tokenizer, max_seq_len)
    with refusing(source, "its tokenizer fails on an ordinary text"):
        # As sentence-transformers cuts.
        theirs.model_max_length = min(theirs.model_max_length, max_positions)
        check.compare(source.parent, tokenizer, theirs, max_seq_len, truncation_side)
    tokenizer.no_truncation()
    return TokenizerSource(
        tokenizer.to_str(),
        truncation_side,
        split_special_tokens,
        mask_token=theirs.mask_token or theirs.eos_token,
        pads=(str(theirs.padding_side), int(theirs.pad_token_type_id)),
        special_ids={
            name: int(theirs.convert_tokens_to_ids(token))
            for name in _SPECIAL
            if (token := getattr(theirs, name)) is not None
        },
    )


def _check_vocabulary(source: Path, theirs: Any) -> None:
    """Refuse a vocabulary without the tokens that every text needs: transformers would make up ids for them."""
    vocabulary = theirs.backend_tokenizer.get_vocab(with_added_tokens=False)
    for name in ("unk_token", "cls_token", "sep_token"):
        token = getattr(theirs, name)
        if token is not None and token not in vocabulary:
            raise ExportError(f"{source}: does not hold the {name} {token!r}")


def _check_places(path: Path, tokenizer: Tokenizer, added: Mapping[str, Any]) -> None:
    for token, index in added.items():
        given = tokenizer.token_to_id(token)
        if given != index:
            raise ExportError(f"{path}: gives {token!r} the id {index}, but its place is {given}")


def _without_token_types(processor: Any) -> Any:
    """Return a post-processor that gives both texts of a pair the token type 0.

    transformers hands out no token types where `model_input_names` leaves them out, and the network takes 0 for them.
    """
    kind = processor.get("type") if isinstance(processor, dict) else None
    if kind == "Sequence":
        return processor | {"processors": [_without_token_types(part) for part in processor["processors"]]}
    if kind == "BertProcessing":
        (cls, cls_id), (sep, sep_id) = processor["cls"], processor["sep"]
        special = {"cls": {"SpecialToken": {"id": cls}}, "sep": {"SpecialToken": {"id": sep}}}
        pieces = [special["cls"], {"Sequence": {"id": "A"}}, special["sep"], {"Sequence": {"id": "B"}}, special["sep"]]
        tokens = {token: {"id": token, "ids": [i], "tokens": [token]} for token, i in ((cls, cls_id), (sep, sep_id))}
        processor = {"type": "TemplateProcessing", "single": pieces[:3], "pair": pieces, "special_tokens": tokens}
    elif kind != "TemplateProcessing":
        return processor  # it knows of no token types

    def of_type_0(pieces: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{name: {**piece, "type_id": 0} for name, piece in entry.items()} for entry in pieces]

    return processor | {"single": of_type_0(processor["single"]), "pair": of_type_0(processor["pair"])}


def _lowercase_first(tokenizer: Tokenizer) -> None:
    """Put lower-casing before the normalizer, unless it is there, as sentence-transformers does."""
    steps: list[Any] = []
    if isinstance(tokenizer.normalizer, normalizers.Sequence):
        steps = list(tokenizer.normalizer)  # type: ignore[call-overload]
    elif tokenizer.normalizer is not None:
        steps = [tokenizer.normalizer]
    if not any(isinstance(step, normalizers.Lowercase) for step in steps):
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *steps])


def _make_special(tokenizer: Any, markers: Sequence[str]) -> None:
    """Make special tokens of markers that the tokenizer has and would cut up, as sentence-transformers does.

    A marker is looked for with the blank behind it, and without.
    """
    known = tokenizer.get_vocab()
    found = (next((part for part in (marker, *marker.split()[:1]) if part in known), None) for marker in markers)
    tokens = [token for token in found if token and token.strip() and tokenizer.tokenize(token) != [token]]
    if tokens:
        added = [AddedToken(token, normalized=False, special=True) for token in tokens]
        tokenizer.add_special_tokens({"additional_special_tokens": added})


def _check_ids(path: Path, tokenizer: Tokenizer, vocab_size: int) -> None:
    token, index = max(tokenizer.get_vocab(with_added_tokens=True).items(), key=lambda item: item[1])
    if index >= vocab_size:
        raise ExportError(
            f"{path}: token {token!r} has the id {index}, but the configuration says vocab_size {vocab_size}; "
            "the tokenizer belongs to another checkpoint, or the embeddings were not resized"
        )


def _check_room(folder: Path, tokenizer: Tokenizer, max_seq_len: int) -> None:
    special = tokenizer.num_special_tokens_to_add(is_pair=False)
    if max_seq_len <= special:
        raise ExportError(
            f"{folder}: texts are cut at {max_seq_len} tokens (max_seq_length in sentence_bert_config.json or "
            f"model_max_length in {_CONFIG}); its tokenizer needs {special + 1}, {special} of them special"
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what transformers says of a checkpoint: what matters of it is checked."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity(50)  # critical
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
