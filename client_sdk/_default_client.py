"""`client_sdk.encode`: the two-line use, through one client that is made when it is first needed."""

from __future__ import annotations

import threading

import numpy as np
import numpy.typing as npt

from client_sdk._call.argument_names import named
from client_sdk._call.plan import DEFAULT_BATCH_SIZE
from client_sdk._call.texts import Texts
from client_sdk._client import Client
from client_sdk._settings import default_api_key, default_model, default_url

_lock = threading.Lock()
_current: tuple[tuple[str, str, str | None], Client] | None = None  # what the client was made for, and the client


@named
def encode(
    texts: Texts,
    *,
    pooling: str | None = None,
    normalize: bool | None = None,
    truncate_dim: int | None = None,
    max_seq_len: int | None = None,
    truncate: bool = True,
    pair_truncation: str | None = None,
    is_tokenized: bool = False,
    add_special_tokens: bool = True,
    split_special_tokens: bool | None = None,
    mask_cls_sep: bool = False,
    prompt: str | None = None,
    prompt_name: str | None = None,
    model_version: int | None = None,
    priority: str | None = None,
    batch_size: int = DEFAULT_BATCH_SIZE,
    show_progress: bool = False,
    timeout: float | None = None,
) -> npt.NDArray[np.float32]:
    """Encode each text into one vector, with the server that CLIENT_SDK_URL and CLIENT_SDK_MODEL name.

    Without them: `localhost:8001` and `bert`. CLIENT_SDK_URL may name several servers, with commas between them, and
    CLIENT_SDK_API_KEY holds the key of a restricted one. Arguments, result and errors are those of `Client.encode`.

    Returns:
        [N, D] float32 in the order of the texts, or [D] for a single str.
    """
    return _default_client().encode(
        texts,
        pooling=pooling,
        normalize=normalize,
        truncate_dim=truncate_dim,
        max_seq_len=max_seq_len,
        truncate=truncate,
        pair_truncation=pair_truncation,
        is_tokenized=is_tokenized,
        add_special_tokens=add_special_tokens,
        split_special_tokens=split_special_tokens,
        mask_cls_sep=mask_cls_sep,
        prompt=prompt,
        prompt_name=prompt_name,
        model_version=model_version,
        priority=priority,
        batch_size=batch_size,
        show_progress=show_progress,
        timeout=timeout,
    )


def _default_client() -> Client:
    global _current
    wanted = default_url(), default_model(), default_api_key()
    current = _current
    if current is None or current[0] != wanted:
        with _lock:
            current = _current
            if current is None or current[0] != wanted:
                # The one before is not closed: another thread may be in the middle of a call.
                current = _current = wanted, Client(wanted[0], wanted[1], api_key=wanted[2])
    return current[1]
