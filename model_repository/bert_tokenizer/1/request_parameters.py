"""The parameters of a request: their names, their types, how long they may be; and how a request is refused.

An ensemble hands each of its steps all of them. This step, the first, checks every name, before anything is computed.
"""

import json
from typing import Any

# In characters, of all parameters of a request as JSON: more than a prompt of MAX_PROMPT_BYTES can need.
MAX_PARAMETERS = 128 << 10
MAX_PROMPT_BYTES = 16 << 10
SHOWN = 60  # characters of a wrong value

TYPES: dict[str, type] = {
    "max_seq_len": int,
    "truncate": bool,
    "truncation_side": str,
    "pair_truncation": str,
    "is_tokenized": bool,
    "add_special_tokens": bool,
    "split_special_tokens": bool,
    "skip_special_tokens": bool,
    "mask_cls_sep": bool,
    "prompt": str,
    "prompt_name": str,
    "input_type": str,
    "bulk": bool,  # of the encoder
    "identity": str,
    "pooling": str,  # this and those below are the pooling step's, which checks their values
    "normalize": bool,
    "truncate_dim": int,
    "activation": str,
    "max_active_dims": int,
}
TYPE_NAMES = {int: "an integer", bool: "true or false", str: "a string"}

# Headers of one word that a client, a proxy or a tracer may send; all others have a hyphen, which no parameter has.
HEADERS = {
    "accept", "apikey", "authorization", "b3", "baggage", "connection", "cookie", "cookie2", "date", "depth",
    "destination", "dnt", "downlink", "dpr", "ect", "expect", "forwarded", "from", "host", "if", "link", "origin",
    "pragma", "priority", "range", "referer", "rtt", "sw8", "te", "traceparent", "tracestate", "trailer", "upgrade",
    "via", "warning", "width",
}  # fmt: skip


class Refused(Exception):
    """Why a request is not served, for the one who sent it; `code` is the name of one of Triton's error codes."""

    def __init__(self, message: str, code: str = "INVALID_ARG") -> None:
        super().__init__(message)
        self.code = code


def read(raw: str, identity: str | None = None) -> dict[str, Any]:
    """The options that a request gives, by name, from its parameters as JSON.

    `identity` is that of this model, or None where its export wrote none. Raises Refused: they are no JSON, too long,
    unknown, of another type than theirs, or the request is for another model.
    """
    if len(raw) > MAX_PARAMETERS:
        raise Refused(
            f"the parameters have {len(raw)} characters as JSON; they may have {MAX_PARAMETERS} in all"
            f" (and the parameter prompt {MAX_PROMPT_BYTES} bytes)"
        )
    try:
        given = json.loads(raw or "{}")
    except (ValueError, RecursionError) as error:
        raise Refused(
            f"the parameters cannot be read ({error}); they take UTF-8, and numbers that are finite"
        ) from None
    options: dict[str, Any] = {}
    for name, value in given.items():
        if name in TYPES:
            options[name] = _checked(name, value)
        elif not is_foreign(name):
            raise Refused(f"unknown parameter {shown(name)}; the parameters are {', '.join(TYPES)}")
    wanted = options.pop("identity", identity)
    if identity is not None and wanted != identity:
        message = f"identity: the request is for {wanted[:SHOWN]}, and this is {identity}: the model has been replaced"
        raise Refused(message, "NOT_FOUND")
    return options


def is_foreign(name: str) -> bool:
    """Whether a parameter is none of ours: Triton's own, or a header that Triton was told to forward.

    A header is one that is known, or has a hyphen, and is not a parameter of ours with hyphens.
    """
    lower = name.lower()
    if lower.startswith("triton_") or lower in HEADERS:
        return True
    return "-" in lower and lower.replace("-", "_") not in TYPES


def shown(value: Any) -> str:
    """A value that was given, for a message: its beginning, if it is long."""
    text = repr(value[: SHOWN + 1] if isinstance(value, str) else value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _checked(name: str, value: Any) -> Any:
    if type(value) is not TYPES[name]:
        raise Refused(f"parameter {name} is {shown(value)}; it takes {TYPE_NAMES[TYPES[name]]}")
    if isinstance(value, str):
        try:
            size = len(value.encode())
        except UnicodeEncodeError:
            raise Refused(f"parameter {name} holds half of a surrogate pair; it takes whole characters") from None
        if name == "prompt" and size > MAX_PROMPT_BYTES:
            raise Refused(f"parameter prompt has {size} bytes; it may have {MAX_PROMPT_BYTES} at most")
    return value
