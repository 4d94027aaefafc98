"""The tokenizer of a checkpoint as the text of a tokenizer.json.

It gives the token ids that transformers gives for the same checkpoint, without needing transformers.
"""

from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece

from export import json_files
from export.errors import ExportError

_BERT_CLASSES = (None, "BertTokenizer", "BertTokenizerFast")
_SPECIAL_TOKENS = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}


def read(folder: Path, *, vocab_size: int, lowercase: bool = False) -> str:
    """Return the tokenizer in `folder` as JSON, without truncation or padding.

    It comes from tokenizer.json or, where a checkpoint has only that, from vocab.txt and
    tokenizer_config.json.

    Args:
        folder: Where the tokenizer's files are.
        vocab_size: Rows of the word embeddings; every id must be below it.
        lowercase: Lower-case texts first, whatever the tokenizer does (sentence-transformers'
            `do_lower_case`).

    Raises:
        ExportError: There is no tokenizer, it is damaged, of a kind that vocab.txt does not describe, does
            not put special tokens around a text and a pair, or has ids that the network has no vectors for.
    """
    options = json_files.read_object(folder / "tokenizer_config.json", optional=True)
    tokenizer_class = options.get("tokenizer_class") or _class_in_config(folder)
    path = folder / "tokenizer.json"
    if path.is_file():
        tokenizer = _from_json(path)
        if tokenizer_class in _BERT_CLASSES:
            _apply_options(tokenizer, options)
    elif (folder / "vocab.txt").is_file():
        path = folder / "vocab.txt"
        if tokenizer_class not in _BERT_CLASSES:
            raise ExportError(
                f"{folder}: its tokenizer is a {tokenizer_class}, which vocab.txt alone does not describe; "
                "save it as tokenizer.json (AutoTokenizer, save_pretrained) if transformers can"
            )
        tokenizer = _from_vocabulary(path, options)
    else:
        raise ExportError(
            f"{folder}: there is no tokenizer.json and no vocab.txt; add the checkpoint's tokenizer files"
        )
    if lowercase:
        _lowercase_first(tokenizer)
    return _finished(path, tokenizer, vocab_size)


def from_vocabulary(path: Path, *, vocab_size: int, lowercase: bool) -> str:
    """Return BERT's WordPiece tokenizer of a vocab.txt as JSON, whatever other files are beside it.

    Args:
        path: The vocabulary; the id of a token is its line.
        vocab_size: Rows of the word embeddings; every id must be below it.
        lowercase: Lower-case texts and strip their accents.

    Raises:
        ExportError: It is absent or damaged, or has ids that the network has no vectors for.
    """
    if not path.is_file():
        raise ExportError(f"{path.parent}: there is no {path.name}")
    return _finished(path, _word_piece(path, _SPECIAL_TOKENS, {"do_lower_case": lowercase}), vocab_size)


def _finished(path: Path, tokenizer: Tokenizer, vocab_size: int) -> str:
    _check_ids(path, tokenizer, vocab_size)
    _check_special_tokens(path, tokenizer)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return str(tokenizer.to_str())


def _class_in_config(folder: Path) -> str | None:
    # Japanese BERT names its MeCab tokenizer in config.json only.
    name = json_files.read_object(folder / "config.json", optional=True).get("tokenizer_class")
    return None if name is None else str(name)


def _from_json(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception
        raise ExportError(f"{path}: not a tokenizer that the tokenizers library reads ({error})") from error


def _apply_options(tokenizer: Tokenizer, options: dict[str, Any]) -> None:
    """Let tokenizer_config.json, and its defaults, decide over the normalizer in tokenizer.json.

    transformers does so for its BERT tokenizers, even where the file leaves lower-casing out and
    tokenizer.json says no: what it computes is what the checkpoint was trained and measured with.
    """
    normalizer = tokenizer.normalizer
    if isinstance(normalizer, normalizers.BertNormalizer):
        tokenizer.normalizer = _bert_normalizer(options)


def _bert_normalizer(options: dict[str, Any]) -> Any:
    return normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=options.get("tokenize_chinese_chars", True),
        strip_accents=options.get("strip_accents"),
        lowercase=options.get("do_lower_case", True),
    )


def _from_vocabulary(path: Path, options: dict[str, Any]) -> Tokenizer:
    """Build the tokenizer of a vocab.txt and the other files beside it."""
    special_map = json_files.read_object(path.parent / "special_tokens_map.json", optional=True)
    special = {
        name: _content(options.get(name) or special_map.get(name) or usual) for name, usual in _SPECIAL_TOKENS.items()
    }
    tokenizer = _word_piece(path, special, options)
    more = options.get("additional_special_tokens") or special_map.get("additional_special_tokens") or []
    _add_tokens(tokenizer, path.parent / "added_tokens.json", special={_content(token) for token in more})
    return tokenizer


def _word_piece(path: Path, special: dict[str, str], options: dict[str, Any]) -> Tokenizer:
    """Build BERT's WordPiece tokenizer from a vocabulary: the id of a token is its line."""
    try:
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise ExportError(f"{path}: not UTF-8 ({error})") from error
    vocabulary = {token: index for index, token in enumerate(lines)}
    for name in ("unk_token", "cls_token", "sep_token"):
        if special[name] not in vocabulary:
            raise ExportError(f"{path}: does not hold the {name} {special[name]!r}")

    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token=special["unk_token"]))
    tokenizer.normalizer = _bert_normalizer(options)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    tokenizer.add_special_tokens([token for token in special.values() if token in vocabulary])
    cls, sep = special["cls_token"], special["sep_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls}:0 $A:0 {sep}:0",
        pair=f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1",
        special_tokens=[(cls, vocabulary[cls]), (sep, vocabulary[sep])],
    )
    return tokenizer


def _content(token: str | dict[str, Any]) -> str:
    """Return a special token's text, which is stored bare or in an object with its flags."""
    return token if isinstance(token, str) else str(token["content"])


def _add_tokens(tokenizer: Tokenizer, path: Path, *, special: set[str]) -> None:
    """Add the tokens that a fine-tuning added behind the vocabulary; the special ones match verbatim only."""
    added = json_files.read_object(path, optional=True)
    for token, index in sorted(added.items(), key=lambda item: int(item[1])):
        tokenizer.add_tokens([AddedToken(token, normalized=token not in special, special=token in special)])
        given = tokenizer.token_to_id(token)
        if given != index:
            raise ExportError(f"{path}: gives {token!r} the id {index}, but its place is {given}")


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
