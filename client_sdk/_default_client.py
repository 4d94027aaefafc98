"""`client_sdk.encode` and `similarity`: the two-line use, through one client that is made when it is first needed."""

from __future__ import annotations

import threading
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from client_sdk._call.argument_names import as_in, named
from client_sdk._call.options import EncodeOptions, VectorOptions
from client_sdk._call.sparse import Comparable
from client_sdk._call.texts import Texts
from client_sdk._client import Client
from client_sdk._settings import default_api_key, default_model, default_url
from client_sdk._typing import Unpack

_lock = threading.Lock()
_current: tuple[tuple[str, str, str | None], Client] | None = None  # what the client was made for, and the client


@overload
def encode(
    texts: Texts, *, precision: Literal["float32"] = ..., **options: Unpack[EncodeOptions]
) -> npt.NDArray[np.float32]: ...


@overload
def encode(texts: Texts, *, precision: str, **options: Unpack[EncodeOptions]) -> npt.NDArray[Any]: ...


@as_in(Client.encode)
def encode(texts: Texts, **options: Unpack[VectorOptions]) -> npt.NDArray[Any]:
    """Encode each text into one vector, with the server that CLIENT_SDK_URL and CLIENT_SDK_MODEL name.

    Without them: `localhost:8001` and `bert`. CLIENT_SDK_URL may name several servers, with commas between them, and
    CLIENT_SDK_API_KEY holds the key of a restricted one. Arguments, result and errors are those of `Client.encode`.

    Returns:
        [N, D] float32 in the order of the texts, or [D] for a single str.
    """
    return _default_client().encode(texts, **options)


@named
def similarity(
    a: Comparable, b: Comparable, *, metric: str | None = None, timeout: float | None = None
) -> npt.NDArray[np.float32]:
    """Compare each vector of `a` with each of `b`, as the checkpoint means it; with `metric`, no server is asked.

    Arguments, result and errors are those of `Client.similarity`, with the server that `encode` talks to.

    Returns:
        [N, M] float32, larger for nearer vectors.
    """
    return _default_client().similarity(a, b, metric=metric, timeout=timeout)


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
