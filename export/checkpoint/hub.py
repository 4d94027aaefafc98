"""Where a checkpoint is: a folder, or a repository of the Hugging Face hub that is downloaded."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from export.checkpoint import m3
from export.errors import ExportError

ANSWER_TIMEOUT = 5.0
"""Seconds in which the hub must answer the first question."""

_NEEDED = (
    "config.json",
    "modules.json",
    "config_sentence_transformers.json",
    "sentence_*_config.json",
    "artifact.metadata",
    "adapter_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "sentencepiece*.model",
    "spiece.model",
    "spm.model",
    "tokenizer.model",
    "model.safetensors",
    "model.safetensors.index.json",
    "*-of-*.safetensors",
    *m3.FILES,
)
# At the top and in the folders of modules ("1_Pooling"), not in those of other formats ("onnx").
_PATTERNS = [folder + name for name in _NEEDED for folder in ("", "[0-9]_*/")]


def locate(source: str, *, progress: bool = True) -> Path:
    """Return the folder of a checkpoint, downloading it first if `source` is a hub id.

    Args:
        source: A folder, or a hub id such as `BAAI/bge-small-en-v1.5`.
        progress: Show a progress bar of the download on standard error.

    Raises:
        ExportError: There is no such folder, `source` is neither, or the download failed.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise ExportError(f"{source}: is a file; pass the folder that holds the checkpoint's config.json")
    if source.startswith((".", "/", "~")) or source.count("/") > 1 or "\\" in source:
        raise ExportError(f"{source}: there is no such folder")
    return download(source, progress=progress)


def download(repo_id: str, *, progress: bool = True) -> Path:
    """Download what an export needs of a hub repository; what the local cache holds is not fetched again.

    Returns:
        The folder of the snapshot in huggingface_hub's cache.

    Raises:
        ExportError: The id is malformed, the repository does not exist or is not open to this user, or the
            hub cannot be reached and the cache does not hold the repository.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    problem = None
    try:
        problem = _ask(repo_id)
        with _progress_bars(progress):
            return Path(snapshot_download(repo_id, allow_patterns=_PATTERNS, local_files_only=problem is not None))
    except HFValidationError:
        raise ExportError(
            f"{repo_id!r} is neither a folder nor a hub id; a hub id is a name such as 'bert-base-uncased' "
            "or 'BAAI/bge-small-en-v1.5', of letters, digits, '-', '_' and '.'"
        ) from None
    except GatedRepoError as error:
        raise ExportError(
            f"{repo_id}: its owner grants access on request; ask for it on the repository's page, then set "
            "HF_TOKEN to a token of your account"
        ) from error
    except RepositoryNotFoundError as error:
        raise ExportError(
            f"{repo_id}: there is no folder and no hub repository of this name, or it is private; check the "
            "name, or set HF_TOKEN to a token that may read it"
        ) from error
    # Broad, because huggingface_hub lets its HTTP library's errors through, and that library has changed.
    except Exception as error:
        raise ExportError(
            f"{repo_id}: there is no folder of this name, and it cannot be downloaded from the Hugging Face "
            f"hub ({problem or _in_one_line(error)}); download the checkpoint where there is a network and "
            "pass its folder, or set HF_HOME to a cache that holds it"
        ) from error


def _ask(repo_id: str) -> str | None:
    """Ask the hub for a repository; return why it does not answer, None if it does.

    snapshot_download would wait without limit for a hub that accepts the connection and then says nothing.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    try:
        HfApi().model_info(repo_id, timeout=ANSWER_TIMEOUT)
    except (HFValidationError, RepositoryNotFoundError):
        raise
    except Exception as error:  # broad as in download()
        return _in_one_line(error)
    return None


def _in_one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


@contextmanager
def _progress_bars(shown: bool) -> Iterator[None]:
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    if shown or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
