"""The tokenizer of a checkpoint as the text of a tokenizer.json.

transformers' AutoTokenizer reads the checkpoint's files, and what it made of them is written: so every key of theirs
has the effect that it has there. What it does outside of the written tokenizer is done to it or refused, and in the
end the two are compared.
"""

import json
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, normalizers

from export import json_files, regular_files
from export.errors import ExportError
from export.tokenizer import check

MAX_BYTES = 64_000_000
"""Of tokenizer.json or vocab.txt; those of multilingual checkpoints have 20 million."""

_CONFIG = "tokenizer_config.json"
_ADDED = "added_tokens.json"
_JSON = "tokenizer.json"
_VOCABULARY = "vocab.txt"
# Keys that name another file, or hand the tokenizer an object: transformers writes none of them. What they point at is
# not read.
_ELSEWHERE = (
    "fast_tokenizer_files",
    "gguf_file",
    "init_inputs",
    "merges",
    "merges_file",
    "subfolder",
    "tokenizer_object",
    "vocab",
)
# In tokenizer_config.json these are where its files once were, and transformers takes those of the folder.
_FILES = ("tokenizer_file", "vocab_file", "spm_file")


@dataclass(frozen=True)
class TokenizerSource:
    """A tokenizer, and what it does that its tokenizer.json does not say.

    Attributes:
        json: The text of a tokenizer.json, without truncation or padding.
        truncation_side: Where a text that is too long loses tokens, `right` or `left`.
        split_special_tokens: Whether special tokens that are written in a text are cut up like any word.
    """

    json: str
    truncation_side: str = "right"
    split_special_tokens: bool = False


def read(
    folder: Path,
    *,
    vocab_size: int,
    max_seq_len: int,
    max_positions: int,
    lowercase: bool = False,
    arguments: Mapping[str, Any] | None = None,
) -> TokenizerSource:
    """Return the tokenizer in `folder`.

    Args:
        folder: Where the tokenizer's files are.
        vocab_size: Rows of the word embeddings; every id must be below it.
        max_seq_len: Where the server will cut texts, in tokens.
        max_positions: Rows of the position embeddings; the reference cuts texts there at the latest.
        lowercase: Lower-case texts first, whatever the tokenizer does (sentence-transformers' `do_lower_case`).
        arguments: What sentence-transformers hands to AutoTokenizer beside the folder.

    Raises:
        ExportError: There is no tokenizer, it is damaged, one that transformers cannot load or that the server cannot
            run, does not put special tokens around a text and a pair, has ids that the network has no vectors for, or
            does not give the ids that transformers gives.
    """
    options = json_files.read_object(folder / _CONFIG, optional=True)
    network = json_files.read_object(folder / "config.json", optional=True)
    source = folder / (_JSON if (folder / _JSON).exists() else _VOCABULARY)
    if not source.exists():
        raise ExportError(
            f"{folder}: there is no tokenizer.json and no vocab.txt; add the checkpoint's tokenizer files"
        )
    _check_sources(folder / _CONFIG, options)
    _check_sources(folder / "sentence_bert_config.json", arguments or {}, _ELSEWHERE + _FILES)
    files = {
        source.name: regular_files.read(source, limit=MAX_BYTES),
        _CONFIG: json.dumps(options).encode(),
        # What else is in it says nothing about the tokenizer. Configurations of 2019 have no model_type.
        "config.json": json.dumps({"model_type": "bert", "tokenizer_class": network.get("tokenizer_class")}).encode(),
    }
    for name in ("special_tokens_map.json", _ADDED):
        if (folder / name).exists():
            files[name] = json.dumps(json_files.read_object(folder / name)).encode()
    theirs = _load(source, files, options, network, dict(arguments or {}))
    if lowercase:
        _lowercase_first(theirs.backend_tokenizer)
    if "added_tokens_decoder" in options:  # transformers then leaves the older file alone
        with _refusing(folder / _CONFIG, "added_tokens_decoder is damaged"):
            added = {token["content"]: int(index) for index, token in options["added_tokens_decoder"].items()}
            _check_places(folder / _CONFIG, theirs.backend_tokenizer, added)
    else:
        _check_places(folder / _ADDED, theirs.backend_tokenizer, json.loads(files.get(_ADDED, b"{}")))
    return _written(source, theirs, vocab_size, max_seq_len, max_positions)


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
    options = {"tokenizer_class": "BertTokenizer", "do_lower_case": lowercase}
    files = {
        _VOCABULARY: regular_files.read(path, limit=MAX_BYTES),
        _CONFIG: json.dumps(options).encode(),
        "config.json": b'{"model_type": "bert"}',
    }
    return _written(path, _load(path, files, options, {}, {}), vocab_size, max_seq_len, max_seq_len)


def _check_sources(path: Path, options: Mapping[str, Any], keys: Sequence[str] = _ELSEWHERE) -> None:
    """Refuse settings that lead transformers to other files than those that are read here."""
    for key in keys:
        if options.get(key):
            raise ExportError(
                f"{path}: {key} is {json_files.shown(options[key])}; export reads a tokenizer from tokenizer.json or "
                "vocab.txt only: save it with AutoTokenizer and save_pretrained"
            )


def _load(
    source: Path,
    files: Mapping[str, bytes],
    options: Mapping[str, Any],
    network: Mapping[str, Any],
    arguments: dict[str, Any],
) -> Any:
    """Return the AutoTokenizer of `files`; they are copied, so that it opens none but those that were checked."""
    if source.name == _VOCABULARY:
        try:
            files[_VOCABULARY].decode()
        except UnicodeDecodeError as error:
            raise ExportError(f"{source}: not UTF-8 ({error})") from error
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise ExportError(
            f"transformers, which reads a checkpoint's tokenizer, is missing ({error}): pip install "
            "'bert-on-triton[export]'"
        ) from error
    if source.name == _JSON:
        with _refusing(source, "not a tokenizer that the tokenizers library reads"):
            Tokenizer.from_str(files[_JSON].decode())
    name = options.get("tokenizer_class") or network.get("tokenizer_class")
    with tempfile.TemporaryDirectory(prefix="tokenizer-") as copy:
        for file, content in files.items():
            Path(copy, file).write_bytes(content)
        what = f"transformers cannot load its tokenizer from {source.name} and {_CONFIG}"
        with _refusing(source.parent, what), _quiet():
            # Never code that comes with a checkpoint (auto_map), never the network.
            theirs = AutoTokenizer.from_pretrained(
                copy, **{**arguments, "local_files_only": True, "trust_remote_code": False}
            )
    if not isinstance(getattr(theirs, "backend_tokenizer", None), Tokenizer):
        raise ExportError(
            f"{source.parent}: its tokenizer is a {name}, which {source.name} alone does not describe; "
            "save it as tokenizer.json (AutoTokenizer, save_pretrained) if transformers can"
        )
    return theirs


def _written(source: Path, theirs: Any, vocab_size: int, max_seq_len: int, max_positions: int) -> TokenizerSource:
    """Return the tokenizer that transformers made, checked."""
    if source.name == _VOCABULARY:
        _check_vocabulary(source, theirs)
    values = json.loads(theirs.backend_tokenizer.to_str())
    values["truncation"] = values["padding"] = None
    if "token_type_ids" not in theirs.model_input_names:
        values["post_processor"] = _without_token_types(values["post_processor"])
    with _refusing(source, "not a tokenizer that the tokenizers library reads"):
        tokenizer = Tokenizer.from_str(json.dumps(values))
    # Neither is in a tokenizer.json; the first, from 'truncation' there, only until transformers cuts a text.
    truncation_side, split_special_tokens = str(theirs.truncation_side), bool(theirs.split_special_tokens)
    tokenizer.encode_special_tokens = split_special_tokens
    _check_ids(source, tokenizer, vocab_size)
    with _refusing(source, "its tokenizer fails on an ordinary text"):
        _check_special_tokens(source, tokenizer)
        # As sentence-transformers cuts.
        theirs.model_max_length = min(theirs.model_max_length, max_positions)
        check.compare(source.parent, tokenizer, theirs, max_seq_len, truncation_side)
    tokenizer.no_truncation()
    return TokenizerSource(tokenizer.to_str(), truncation_side, split_special_tokens)


def _check_vocabulary(source: Path, theirs: Any) -> None:
    """Refuse a vocab.txt without the tokens that every text needs: transformers would make up ids for them."""
    vocabulary = json.loads(theirs.backend_tokenizer.to_str())["model"]["vocab"]
    for name in ("unk_token", "cls_token", "sep_token"):
        token = getattr(theirs, name)
        if token not in vocabulary:
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


def _check_ids(path: Path, tokenizer: Tokenizer, vocab_size: int) -> None:
    token, index = max(tokenizer.get_vocab(with_added_tokens=True).items(), key=lambda item: item[1])
    if index >= vocab_size:
        raise ExportError(
            f"{path}: token {token!r} has the id {index}, but the configuration says vocab_size {vocab_size}; "
            "the tokenizer belongs to another checkpoint, or the embeddings were not resized"
        )


def _check_special_tokens(path: Path, tokenizer: Tokenizer) -> None:
    for form, mask in (
        ("a text", tokenizer.encode("a").special_tokens_mask),
        ("a pair of texts", tokenizer.encode("a", "a").special_tokens_mask),
    ):
        if not (mask and mask[0] and mask[-1]):
            raise ExportError(
                f"{path}: its post_processor does not put special tokens such as [CLS] and [SEP] around "
                f"{form}; save the tokenizer again with a current transformers (AutoTokenizer, "
                "save_pretrained)"
            )


@contextmanager
def _refusing(path: Path, what: str) -> Iterator[None]:
    """Turn whatever a library makes of a damaged file into one line."""
    try:
        yield
    except (ExportError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # also the PanicException of the tokenizers library, which is no Exception
        reason = f"{type(error).__name__}: {error}".strip().split("\n")[0]
        raise ExportError(f"{path}: {what} ({json_files.cut(reason, 200)})") from error


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
