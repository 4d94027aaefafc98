"""Calls with a wrong argument name, such as another library's, are told the right one."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from itertools import chain
from typing import Any, ParamSpec, TypeVar, cast

from client_sdk._errors import InvalidType

P = ParamSpec("P")
R = TypeVar("R")

_OTHER_NAMES = {
    **dict.fromkeys(("sentences", "sentence", "inputs", "input", "text", "documents"), "texts"),
    "normalize_embeddings": "normalize",
    "show_progress_bar": "show_progress",
    **dict.fromkeys(("max_seq_length", "max_length"), "max_seq_len"),
    "truncation": "truncate",
    "dimensions": "truncate_dim",
    **dict.fromkeys(("pooling_mode", "pooling_strategy"), "pooling"),
    "version": "model_version",
    **dict.fromkeys(("host", "address", "server"), "url"),
    **dict.fromkeys(("model_name", "model_name_or_path"), "model"),
}
"""What sentence-transformers and others call an argument, and its name here."""

_ADVICE = {
    "convert_to_numpy": "leave it out: vectors are always a numpy array",
    "convert_to_tensor": "leave it out, and give the vectors to torch.from_numpy()",
    "output_value": "leave it out: encode() gives a vector for each text, encode_tokens() one for each token",
    "precision": "leave it out: only what encode() gives comes in others than float32",
    "calibration_embeddings": "write ranges=numpy.stack([embeddings.min(axis=0), embeddings.max(axis=0)])",
    "device": "leave it out: where the network runs is chosen at its export",
    "chunk_size": "leave it out: lists of any length are split by themselves, see batch_size",
    "pool": "leave it out: one client may have several servers, see Client",
}
"""What to do about arguments that have no counterpart."""


def named(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, whose callers get an InvalidType that says what to write, rather than Python's own TypeError."""
    return _explained(function, inspect.signature(function))


def as_in(*models: Callable[..., Any]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """As `named`, for a function whose `**options` are keyword-only arguments of `models`; its signature says so."""
    theirs = chain.from_iterable(inspect.signature(model).parameters.items() for model in models)
    options = {name: option for name, option in theirs if option.kind is option.KEYWORD_ONLY}

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        first = [given for given in signature.parameters.values() if given.kind is not given.VAR_KEYWORD]
        own = {given.name for given in first}
        others = [option for name, option in options.items() if name not in own]
        whole = signature.replace(parameters=[*first, *others])
        explained = _explained(function, whole)
        explained.__signature__ = whole  # type: ignore[attr-defined]
        return explained

    return decorate


def _explained(function: Callable[P, R], signature: inspect.Signature) -> Callable[P, R]:
    name = function.__qualname__.removesuffix(".__init__").rpartition(".")[2]
    known = signature.parameters.keys()

    def check(options: dict[str, Any]) -> None:
        """Raise TypeError for what Python does not refuse itself, where the function takes any options."""
        if not options.keys() <= known:
            raise TypeError("got an unexpected keyword argument")

    def explain(args: tuple[Any, ...], options: dict[str, Any]) -> None:
        """Raise InvalidType if a TypeError came of the arguments, and not of what was done with them."""
        try:
            signature.bind(*args, **options)
        except TypeError as error:
            raise InvalidType(_complaint(name, signature.parameters, options, error)) from None

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def call_async(*args: P.args, **options: P.kwargs) -> Any:
            try:
                check(options)
                return await function(*args, **options)
            except TypeError:
                explain(args, options)
                raise

        explained = cast(Callable[P, R], call_async)
    else:

        @functools.wraps(function)
        def call(*args: P.args, **options: P.kwargs) -> R:
            try:
                check(options)
                return function(*args, **options)
            except TypeError:
                explain(args, options)
                raise

        explained = call
    return explained


def _complaint(
    function: str, parameters: Mapping[str, inspect.Parameter], given: dict[str, Any], error: TypeError
) -> str:
    there = [name for name in parameters if name != "self"]
    name = next((name for name in given if name not in there), None)
    if name is None:
        positional = [name for name in there if parameters[name].kind is not inspect.Parameter.KEYWORD_ONLY]
        return f"{function}(): {error}; by position it takes {', '.join(positional)}, all else by name"
    if name in _ADVICE:
        return f"{function}() has no argument {name}: {_ADVICE[name]}"
    meant = [_OTHER_NAMES[name]] if name in _OTHER_NAMES else get_close_matches(name, there, 1)
    if meant and meant[0] in there:
        return f"{function}() has no argument {name}: write {meant[0]}="
    return f"{function}() has no argument {name}; it has {', '.join(there)}"
