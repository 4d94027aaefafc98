"""The files that transformers makes a tokenizer of: read, and looked at, before it opens copies of them."""

from pathlib import Path

from tokenizers import Tokenizer

from export import regular_files
from export.errors import ExportError
from export.tokenizer.damaged import reason, refusing

MAX_BYTES = 64_000_000
"""Of each; the tokenizer.json of multilingual checkpoints have 20 million."""

JSON = "tokenizer.json"
VOCABULARY = "vocab.txt"
_BPE = ("vocab.json", "merges.txt")
_SENTENCEPIECE = ("sentencepiece.bpe.model", "spiece.model", "spm.model", "sentencepiece.model", "tokenizer.model")
# Each of these is a tokenizer's; the first is all of it.
_KINDS = ((JSON,), (VOCABULARY,), _BPE, *((name,) for name in _SENTENCEPIECE))


def read(folder: Path) -> dict[str, bytes]:
    """Return, by name, tokenizer.json alone, or where there is none every file that a tokenizer may be made of.

    Which of several is read depends on the tokenizer's class.

    Raises:
        ExportError: There is none, or one cannot be read, is damaged, or lacks what belongs to it.
    """
    kinds = [names for names in _KINDS if (folder / names[0]).exists()]
    if not kinds:
        known = ", ".join(names[0] for names in _KINDS[:-1])
        raise ExportError(
            f"{folder}: there is no tokenizer ({known} or {_KINDS[-1][0]}); add the checkpoint's tokenizer files"
        )
    if kinds[0] == (JSON,):
        kinds = kinds[:1]
    return {name: read_one(folder / name) for names in kinds for name in names}


def read_one(path: Path) -> bytes:
    """Return the bytes of one of them.

    Raises:
        ExportError: It is absent, too large or damaged, or nothing here can read its kind.
    """
    content = regular_files.read(path, limit=MAX_BYTES)
    if path.name in _SENTENCEPIECE:
        _check_sentencepiece(path, content)
        return content
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise ExportError(f"{path}: not UTF-8 ({error})") from error
    if path.name == JSON:
        with refusing(path, "not a tokenizer that the tokenizers library reads"):
            Tokenizer.from_str(text)
    return content


def _check_sentencepiece(path: Path, content: bytes) -> None:
    """Refuse what transformers would take for a file of tiktoken, with that as the reason."""
    try:
        from sentencepiece import SentencePieceProcessor, sentencepiece_model_pb2  # noqa: F401
    except Exception as error:  # that of protobuf where the two do not go together is no ImportError
        raise ExportError(
            f"{path}: transformers converts it with sentencepiece, which cannot be imported ({reason(error)}): "
            "pip install 'bert-on-triton[export]'"
        ) from error
    with refusing(path, "not a SentencePiece model"):
        SentencePieceProcessor(model_proto=content)
