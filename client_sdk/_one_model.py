"""Texts to vectors in many calls, all of them of one model."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from client_sdk._call.job import Pin, one_model
from client_sdk._call.kinds import vectors
from client_sdk._call.options import VectorOptions
from client_sdk._call.texts import Texts
from client_sdk._errors import InvalidArgument, InvalidType, VersionChanged
from client_sdk._reconnecting import Reconnecting
from client_sdk._session import Session
from client_sdk._settings import ConnectingOptions, make_settings
from client_sdk._transport.address import Url

_OF_CLIENT = ConnectingOptions.__optional_keys__


class EncoderOptions(ConnectingOptions, VectorOptions, total=False):
    """What a client is made with beside url and model, and the options of its `encode`."""


class OneModel(Reconnecting):
    """Vectors of the model that answered the first call, which lands where this is pickled to. Threads may share it."""

    _left_behind = ("_first",)

    def __init__(
        self, owner: str, url: Url | None, model: str | None, identity: str | None, options: Mapping[str, Any]
    ) -> None:
        """Check all that is given, and connect to nothing yet.

        Args:
            owner: What the caller calls it, for errors.
            url: As in `Client`.
            model: As in `Client`.
            identity: Of the model that is to answer. None: whichever does so first.
            options: `EncoderOptions`.
        """
        settings = make_settings(url, model, **{name: options[name] for name in _OF_CLIENT & options.keys()})
        self._session = Session(settings, owner)
        self._options = {name: value for name, value in options.items() if name not in _OF_CLIENT}
        if identity is not None and not isinstance(identity, str):
            raise InvalidType(f"identity must be a str or None, not {type(identity).__name__}")
        if identity == "":
            raise InvalidArgument("identity is empty, as that of a model which an older export wrote: leave it out")
        self._pin = Pin(identity=identity)
        self._none: npt.NDArray[Any] | None = None  # [0, D]
        self._one: Texts = [["a"]] if options.get("is_tokenized") else ["a"]
        kind, rest = vectors(self._options)
        settings.deadline(rest.pop("timeout", None))
        kind.asked(settings.model, self._one, rest)  # refuses what is wrong; nothing is sent
        self._start_unconnected()

    def __getstate__(self) -> dict[str, Any]:
        """The same before the first call and after it, where the model is named: caches look functions up by this."""
        state = super().__getstate__()
        if self._pin.identity:
            state |= {"_pin": Pin(identity=self._pin.identity), "_none": None}
        return state

    def _start_unconnected(self) -> None:
        self._first = threading.Lock()

    @property
    def identity(self) -> str | None:
        """Of the model; None before the first call, empty if it has none."""
        return self._pin.identity

    def encode(self, texts: Texts) -> npt.NDArray[Any]:
        """[N, D], as `Client.encode`. Raises VersionChanged if the model is not that of the calls before."""
        found = self._of_one_model(texts)
        if self._none is None:
            self._none = np.empty((0, found.shape[1]), found.dtype)
        return found

    def no_vectors(self) -> npt.NDArray[Any]:
        """[0, D]: what no texts are; one is encoded, if none has been, to learn D."""
        if self._none is None:
            self.encode(self._one)
        assert self._none is not None
        return self._none

    def _of_one_model(self, texts: Texts) -> npt.NDArray[Any]:
        if self._pin.version is None:
            with self._first:  # the first thread's model is that of all
                if self._pin.version is None:
                    pin = replace(self._pin)  # a call that fails has given nothing yet
                    found = self._answered(texts, pin)
                    self._pin = pin
                    return found
        return self._answered(texts, self._pin)

    def _answered(self, texts: Texts, pin: Pin) -> npt.NDArray[Any]:
        bound = pin.identity
        try:
            with one_model(pin):
                return self._session.encode(texts, self._options)
        except VersionChanged as error:
            if bound is None:
                raise
            raise VersionChanged(
                f"{self!r} gives vectors of one model alone, {bound or 'of unknown identity'}, which has been "
                f"replaced: make another one, and encode again what this one has encoded ({error})"
            ) from None

    def __repr__(self) -> str:
        """The owner, its addresses and its model."""
        return repr(self._session)
