"""What one server has said of its models. It holds for as long as the connection does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from client_sdk._transport.base import InferRequest, Query

_IDENTITY = "identity."  # and the version: a parameter in the configuration of each model of a family


@dataclass(frozen=True)
class KnownModel:
    """What matters to a call."""

    max_batch_size: int | None
    """Texts in a request; None if the configuration is closed."""
    identities: Mapping[str, str]
    """Version -> a hash over network, tokenizer and settings. Older exports, and models of others, have none."""
    max_seq_len: int | None = None
    """Tokens of a text that are computed at most; None if that is not known, as of older exports."""
    prompt_length: int = 0
    """Characters of its longest prompt; of older exports that is not known."""
    newest: str = ""
    """The highest version that is served, which answers where none is asked for; asked if there are several."""

    def identity(self, version: str) -> str:
        """Of the model that answers a request for `version`, or for none; empty if that is not known."""
        if len(self.identities) == 1:
            return next(iter(self.identities.values()))
        return self.identities.get(version or self.newest, "")


def identities(config: Mapping[str, Any]) -> dict[str, str]:
    """Version -> identity, as a model's configuration has them."""
    return {
        name.removeprefix(_IDENTITY): value.get("string_value", "")
        for name, value in config.get("parameters", {}).items()
        if name.startswith(_IDENTITY)
    }


def _number(config: Mapping[str, Any], name: str) -> int | None:
    value = config.get("parameters", {}).get(name, {}).get("string_value", "")
    return int(value) if re.fullmatch("[1-9][0-9]{0,8}", value) else None


class Known:
    """What is known of the models of one server."""

    def __init__(self) -> None:
        self._models: dict[str, KnownModel] = {}

    def question(self, model: str) -> Query | None:
        """What must still be asked before all is known that a call needs."""
        known = self._models.get(model)
        if known is None:
            return Query("config", model)
        if len(known.identities) > 1 and not known.newest:
            return Query("metadata", model)
        return None

    def note(self, query: Query, answer: Mapping[str, Any] | None) -> None:
        """Keep what an answer says; None: it is refused to this client."""
        if query.kind == "config":
            limit = None if answer is None else max(1, int(answer.get("max_batch_size", 0)))
            said = answer or {}
            self._models[query.model] = KnownModel(
                limit, identities(said), _number(said, "max_seq_len"), _number(said, "prompt_characters") or 0
            )
        elif query.kind == "metadata" and (known := self._models.get(query.model)) is not None:
            served = (answer or {}).get("versions") or list(known.identities)
            self._models[query.model] = replace(known, newest=max(served, key=int, default=""))

    def forget(self) -> None:
        """The connection was lost, or the server contradicts what it said."""
        self._models.clear()

    def limit(self, model: str) -> int | None:
        """Texts in a request; None if that is not known."""
        known = self._models.get(model)
        return None if known is None else known.max_batch_size

    def max_seq_len(self, model: str) -> int | None:
        """Tokens of a text that are computed at most; None if that is not known."""
        known = self._models.get(model)
        return None if known is None else known.max_seq_len

    def prompt_length(self, model: str) -> int:
        """Characters that the model puts before a text at most, as far as is known."""
        known = self._models.get(model)
        return 0 if known is None else known.prompt_length

    def identity(self, model: str, version: str) -> str | None:
        """Of the model that answers; empty if it has none, None if that is not known."""
        known = self._models.get(model)
        return None if known is None else known.identity(version)

    def addressed(self, request: InferRequest) -> InferRequest:
        """The request as it is sent: one for any identity, or for none, gets what the server is known to have."""
        if request.identity:
            return request
        identity = self.identity(request.model, request.version)
        return request if identity == request.identity else replace(request, identity=identity)

    def may_serve(self, request: InferRequest) -> bool:
        """Whether the server has the identity that is asked for, as far as is known."""
        return request.identity is None or self.identity(request.model, request.version) in (None, request.identity)
