"""scikit-learn: texts to vectors, as the first step of a pipeline.

    make_pipeline(Vectorizer("localhost:8001"), LogisticRegression())

Needs scikit-learn, which this module alone imports.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from client_sdk._call.argument_names import as_in
from client_sdk._client import Client
from client_sdk._errors import InvalidType
from client_sdk._one_model import EncoderOptions, OneModel
from client_sdk._transport.address import Url
from client_sdk._typing import Self, Unpack

__all__ = ["Vectorizer"]


class Vectorizer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A transformer from texts to vectors: [N] str to [N, D] float32, or what `precision` says.

    Its parameters, which a grid may search (`pooling`, `model`), are those of `Client` and of `Client.encode`; they are
    checked by `fit`, as is usual. It learns nothing from texts: `fit` asks the server for one vector and keeps the
    model's identity, and all that it gives is of that model, also where it is pickled to: what was trained on its
    vectors is never given those of another. Its pickle holds the key; what it prints does not.

    Args:
        url: As in `Client`.
        model: As in `Client`.
        input_type: `query` or `document`: the model's prompt for it is put before each text. Default: as `encode`.
        **options: The others of `Client` and those of `Client.encode`.

    Attributes:
        identity_: Of the model, see `ModelInfo.identity`; empty if an older export has none.
    """

    @as_in(Client, Client.encode)
    def __init__(
        self,
        url: Url | None = None,
        model: str | None = None,
        *,
        input_type: str | None = None,
        **options: Unpack[EncoderOptions],
    ) -> None:
        given = {"url": url, "model": model, "input_type": input_type, **options}
        for name, parameter in inspect.signature(Vectorizer).parameters.items():
            setattr(self, name, given.get(name, parameter.default))

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a parameter; what must not be shown is not, wherever scikit-learn prints parameters."""
        super().__setattr__(name, _hidden(value) if name in ("api_key", "headers") else value)

    def fit(self, X: object, y: object = None) -> Self:  # noqa: N803
        """Ask the server for a vector.

        Args:
            X: Texts, of which none is looked at.
            y: Ignored.

        Returns:
            Itself.

        Raises:
            InvalidArgument: A parameter that is not allowed.
            ClientError: What `Client.encode` raises.
        """
        _checked(X)
        options = self.get_params(deep=False)
        vectors = OneModel("Vectorizer", options.pop("url"), options.pop("model"), None, options)
        self._n_features_out = vectors.no_vectors().shape[1]
        self._vectors = vectors
        self.identity_ = vectors.identity
        return self

    def transform(self, X: Iterable[Any]) -> npt.NDArray[Any]:  # noqa: N803
        """Encode texts.

        Args:
            X: [N] str: a list, an array, a Series, or another iterable that `Client.encode` takes.

        Returns:
            [N, D] in the order of the texts.

        Raises:
            NotFittedError: `fit` was not called.
            InvalidArgument: No texts, or one that cannot be encoded.
            VersionChanged: The model is not the one that `fit` found.
            ClientError: What `Client.encode` raises.
        """
        check_is_fitted(self)
        return self._vectors.encode(_checked(X))

    def __sklearn_tags__(self) -> Any:
        """Its input is texts."""
        tags = super().__sklearn_tags__()
        tags.input_tags.string = tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        return tags


def _checked(texts: Any) -> Any:
    if isinstance(texts, str):
        raise InvalidType("X is a str; a Vectorizer takes a collection of texts: give [text]")
    return texts


class _Hidden(str):
    """What is not printed."""

    def __repr__(self) -> str:
        return "'***'"


def _hidden(value: Any) -> Any:
    """A key, or what headers hold, hidden; what is hidden already is the same object, as `clone` wants it."""
    if isinstance(value, str):
        return value if isinstance(value, _Hidden) else _Hidden(value)
    if isinstance(value, Mapping) and not all(isinstance(item, _Hidden) for item in value.values()):
        return {name: _hidden(item) for name, item in value.items()}
    return value
