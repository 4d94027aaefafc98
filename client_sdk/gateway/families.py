"""Which families there are, and which of them a request means by its `model`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, TypeVar

import numpy as np

from client_sdk._call.kinds import AnswerKind, counted
from client_sdk._call.questions import ModelInfo, served_families
from client_sdk._call.texts import Text, TextSource, Tokens
from client_sdk._errors import AccessDenied, ClientError, InvalidArgument, ModelNotFound, VersionChanged
from client_sdk._kinds import DENSE, MULTI, SCORES, SPARSE
from client_sdk._session import AsyncSession
from client_sdk._transport.retry import Deadline
from client_sdk.gateway.failures import Failure
from client_sdk.gateway.settings import GatewaySettings

R = TypeVar("R")
T = TypeVar("T")

_FRESH = 10.0
_RETRIED = 1.0
"""Seconds for which what is known is not asked again: of all families, and for one that is not known."""

_ASKING = 5.0  # seconds

_SHOWN = 200  # characters of a name that is not known

_INPUT_TYPES = {"query": "query", "passage": "document", "document": "document"}
"""What the end of a model's name says of its texts."""

_PROMPTS = {"input_type", "prompt", "prompt_name"}
"""A client's options that put one before a text."""


class Kind(Enum):
    """What a family answers with."""

    VECTORS = "vectors"
    RANKS = "one score"
    SCORES = "scores of labels"
    SPARSE = "sparse vectors"
    MULTI = "vectors for late interaction"

    @property
    def routes(self) -> str:
        """Where that is asked for."""
        return _ROUTES[self]


_ROUTES = {
    Kind.VECTORS: "/v1/embeddings, /v2/embed, /embed",
    Kind.RANKS: "/rerank, /v1/ranking, /predict",
    Kind.SCORES: "/predict",
    Kind.SPARSE: "/embed_sparse",
    Kind.MULTI: "/pooling, /v1/multi-vector",
}

_KINDS = {
    DENSE.name: Kind.VECTORS,
    SCORES.name: Kind.SCORES,
    SPARSE.name: Kind.SPARSE,
    MULTI.name: Kind.MULTI,
}
"""By what `ModelInfo` calls them."""


@dataclass
class Usage:
    """What a request has cost so far, for its answer and for the log."""

    texts: int = 0
    tokens: int = 0


@dataclass(frozen=True)
class Family:
    """One that is served, and a connection to it."""

    name: str
    info: ModelInfo
    session: AsyncSession = field(repr=False)
    is_ready: bool | None = None
    """Whether a server could serve it, when that was asked last; None where it is not told."""

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """What it answers with; some with several."""
        if len(self.info.labels) == 1:
            return (Kind.RANKS,)
        return tuple(_KINDS[name] for name in self.info.kinds)

    def gives(self, kind: Kind) -> bool:
        """Whether it answers what asks for this; one score is a label's, too."""
        return kind in self.kinds or (kind is Kind.SCORES and Kind.RANKS in self.kinds)

    @property
    def described(self) -> str:
        """What it answers with in words, and where that is asked for."""
        return " and ".join(f"{kind.value} ({kind.routes})" for kind in self.kinds)


@dataclass(frozen=True)
class Target:
    """A family, and what the name by which it was asked for says of a call."""

    family: Family
    options: Mapping[str, Any]
    usage: Usage = field(default_factory=Usage)
    charge: Callable[[int], None] = lambda texts: None
    """Told how many texts a call has before it is made; it may raise."""

    async def answer(
        self, kind: AnswerKind[R], texts: Sequence[Text | Tokens] | TextSource, options: Mapping[str, Any]
    ) -> R:
        """One call with a client's options, over which those of the name go; its cost is added to the usage.

        Raises:
            Failure: The caller has asked for too much.
            ClientError: As a client's method.
        """
        asked = {**{name: value for name, value in options.items() if value is not None}, **self.options}
        if asked.get("is_tokenized") and not _PROMPTS.isdisjoint(asked):
            raise InvalidArgument(
                "tokens and token ids are taken as they stand, without a prompt: give the model's name alone, and "
                "neither a prompt nor what the texts are"
            )
        self.charge((texts.count or 0) if isinstance(texts, TextSource) else len(texts))
        found, counts = await self.family.session.call(counted(kind), texts, asked)
        info = self.family.info
        limit = info.lengths.get(asked.get("input_type", ""), info.max_seq_len)
        self.usage.texts += len(counts)
        self.usage.tokens += int(np.minimum(counts, limit).sum())  # of a text no more are computed
        return found


class Families:
    """All that a server has, asked again when what is known is old, and for a name that is not known."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._lobby = AsyncSession(settings.of_client(settings.default_model), "gateway")
        self._sessions: dict[str, AsyncSession] = {}
        self._known: dict[str, Family] = {}
        self._asked = -_FRESH
        self._asking: asyncio.Task[None] | None = None

    async def all(self) -> list[Family]:
        """Those that are served, by name. Raises ClientError if none is known and the server does not say."""
        if not self._known:
            await self._ask()
        elif time.monotonic() - self._asked > _FRESH:
            self._start_asking()  # and this call does not wait for it
        return list(self._known.values())

    async def find(self, model: str | None, kind: Kind | None) -> Target:
        """What a request means by `model`: NAME, NAME:VERSION, NAME-query, NAME-passage or NAME-PROMPT.

        None: the gateway's default, or the only one that gives this kind. Without a kind, any will do.

        Raises:
            Failure: There is none, or it gives other kinds.
            ClientError: None is known, and the server does not say.
        """
        target = await self._looked_up(lambda: self._default(kind) if model is None else self._named(model))
        if target is None:
            raise self._missing(model, kind)
        family = target.family
        if kind is not None and not family.gives(kind):
            words = f"model {model!r} gives {family.described}, not {kind.value}"
            raise Failure("invalid", words, "model")
        return target

    async def first(self, kind: Kind | None = None) -> Family:
        """The gateway's default, or one of a kind if that is not there. Raises as `find`."""
        families = await self.all()
        fitting = [family for family in families if kind is None or family.gives(kind)]
        for family in fitting:
            if family.name == self._settings.default_model:
                return family
        if not fitting:
            raise self._missing(None, kind)
        return fitting[0]

    async def close(self) -> None:
        """Drop the connections."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
        for session in (self._lobby, *self._sessions.values()):
            await session.close()

    def forget(self) -> None:
        """Something answered that what is known does not hold any more."""
        self._asked = -_FRESH

    async def _looked_up(self, look: Callable[[], T | None]) -> T | None:
        """What `look` finds among those that are known; if it is not there, once more when they are asked again."""
        await self.all()
        found = look()
        is_asking = self._asking is not None and not self._asking.done()
        if found is None and (is_asking or time.monotonic() - self._asked > _RETRIED):
            await self._ask()
            found = look()
        return found

    def _default(self, kind: Kind | None) -> Target | None:
        default = self._known.get(self._settings.default_model)
        if default is not None and (kind is None or default.gives(kind)):
            return Target(default, {})
        fitting = [family for family in self._known.values() if kind is None or family.gives(kind)]
        return Target(fitting[0], {}) if len(fitting) == 1 else None

    def _named(self, model: str) -> Target | None:
        options: dict[str, Any] = {}
        name, colon, version = model.rpartition(":")
        if not colon or not version.isdecimal() or model in self._known:
            name, version = model, ""
        if name not in self._known:
            fitting = [known for known in self._known if name.startswith(f"{known}-")]
            if not fitting:
                return None
            longest = max(fitting, key=len)
            name, prompt = longest, name[len(longest) + 1 :]
            if prompt in _INPUT_TYPES:
                options["input_type"] = _INPUT_TYPES[prompt]
            elif prompt in self._known[name].info.prompts:
                options["prompt_name"] = prompt
            else:
                return None
        family = self._known[name]
        if version:
            there = {str(one): one for one in family.info.versions}  # so that nobody's digits are made a number
            if version not in there:
                return None
            options["model_version"] = there[version]
        return Target(family, options)

    def _missing(self, model: str | None, kind: Kind | None) -> Failure:
        there = ", ".join(_described(family) for family in self._known.values()) or "none"
        if model is not None:
            shown = model if len(model) <= _SHOWN else f"{model[:_SHOWN]}..."
            return Failure("missing", f"there is no model {shown!r}; there: {there}", "model")
        what = "no model is served" if kind is None else f"no model, or more than one, gives {kind.value}"
        return Failure("missing", f"no model is named, and {what}; there: {there}", "model")

    def _start_asking(self) -> asyncio.Task[None]:
        if self._asking is None or self._asking.done():
            self._asked = time.monotonic()
            self._asking = asyncio.ensure_future(self._refresh())
            self._asking.add_done_callback(retrieved)
        return self._asking

    async def _ask(self) -> None:
        await asyncio.shield(self._start_asking())

    async def _refresh(self) -> None:
        try:
            names = await self._lobby.ask(served_families(), Deadline(_ASKING))
        except AccessDenied:  # statistics may be closed where inference is open
            names = [self._settings.default_model]
        except ClientError:
            self._known = {name: replace(family, is_ready=False) for name, family in self._known.items()}
            raise
        found = await asyncio.gather(*map(self._read, names))
        self._known = {family.name: family for family in found if family is not None}

    async def _read(self, name: str) -> Family | None:
        session = self._sessions.get(name)
        if session is None:
            session = self._sessions[name] = AsyncSession(self._settings.of_client(name), "gateway")
        try:
            return Family(name, await session.info(Deadline(_ASKING)), session, await _is_ready(session))
        except (ModelNotFound, VersionChanged):  # it is being loaded, or replaced
            return None
        except ClientError:
            known = self._known.get(name)
            return None if known is None else replace(known, is_ready=False)


async def _is_ready(session: AsyncSession) -> bool | None:
    try:
        return await session.is_ready(Deadline(_ASKING))
    except AccessDenied:
        return None


def _described(family: Family) -> str:
    versions = ", ".join(map(str, family.info.versions))
    return family.name if len(family.info.versions) == 1 else f"{family.name} (versions {versions})"


def retrieved(task: asyncio.Task[Any]) -> None:
    """An error of one that nobody waits for is not worth a warning of asyncio's: what was known goes on."""
    if not task.cancelled():
        task.exception()
