"""What all protocols are made of: routes that read a body, answer it, and put a failure into their own form."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any, TypeVar

import orjson
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from starlette.requests import Request
from starlette.responses import Response

from client_sdk._errors import ModelNotFound, VersionChanged
from client_sdk._transport.base import trace_headers
from client_sdk.gateway.access_log import note
from client_sdk.gateway.failures import MEANINGS, STATUSES, CallerGone, Failure, Reason, failure_of
from client_sdk.gateway.families import Kind, Target
from client_sdk.gateway.keys import Holder
from client_sdk.gateway.limits import while_awaited
from client_sdk.gateway.state import Gateway
from client_sdk.gateway.tracing import trace_context

_IN_PATH = re.compile(r"{(\w+)")

_CLIENT_CLOSED_REQUEST = 499  # for the log alone: nobody is there to be told

_JSON = "application/json"

_OF_ASKING: tuple[Reason, ...] = ("missing", "busy", "failed", "unavailable", "deadline")
"""What may come of asking the server."""


class Body(BaseModel):
    """A request's body; fields that it does not name are ignored, and one that is null is as one that is not there.

    Releases of LiteLLM send `encoding_format` so, and clients of typed languages all that their callers do not say.
    """

    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, fields: Any) -> Any:
        if not isinstance(fields, dict):
            return fields
        return {name: value for name, value in fields.items() if value is not None}


B = TypeVar("B", bound=Body)

Answer = Coroutine[Any, Any, Response]

Endpoint = Callable[[Request], Answer]

Form = Callable[[Failure], Response]
"""Puts a failure into a protocol's own form."""


class Call:
    """A request that is being answered."""

    def __init__(self, request: Request, form: Form) -> None:
        self.gateway: Gateway = request.app.state.gateway
        self.request = request
        self.form = form
        """Of errors; a route that two protocols share sets it to that of the one it is asked in."""
        self._holder: Holder | None = None

    async def find(self, model: str | None, kind: Kind | None) -> Target:
        """The family that the request means. Raises as `Families.find`."""
        target = await self.gateway.families.find(model, kind)
        note(self.request.scope, model=target.family.name, usage=target.usage)
        return replace(target, charge=partial(self.gateway.charge, self._holder))

    def asked(self, body: type[B], fields: Any) -> B:
        """A request of these fields. Raises Failure, which says what is wrong with the first that is."""
        if not isinstance(fields, dict):
            raise Failure("invalid", "the body must be a JSON object")
        self.gateway.limits.check_lists({name: fields[name] for name in body.model_fields if name in fields})
        try:
            return body.model_validate(fields)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            place, message = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
            param = str(first["loc"][0]) if first["loc"] else None
            raise Failure("invalid", f"{place}: {message}" if place else message, param) from None

    def failed(self, error: Exception) -> Response:
        """What the caller is told of an error; nothing keeps it, and with it what its traceback holds of the body."""
        if isinstance(error, (ModelNotFound, VersionChanged)):
            self.gateway.families.forget()
        failure = failure_of(error)
        note(self.request.scope, error=failure.reason)
        return self.form(failure)

    def admit(self) -> None:
        """Look at the caller's key. Raises Failure for one that is needed and not there."""
        self._holder = self.gateway.holder(self.request.headers.get("authorization"))
        if self._holder is not None:
            note(self.request.scope, key=self._holder.name)


class Protocol:
    """Routes with one form of errors."""

    def __init__(self, name: str, form: Form, statuses: Mapping[Reason, int] = STATUSES) -> None:
        self.router = APIRouter(tags=[name])
        self.bodies: list[type[Body]] = []
        """What its routes read, for the OpenAPI page."""
        self.endpoints: dict[tuple[str, str], Endpoint] = {}
        """By method and path, for `shortcut`."""
        self.form = form
        self._statuses = statuses

    def post(
        self,
        *paths: str,
        body: type[B],
        shown: tuple[type[Body], ...] = (),
        read: Callable[[Request, bytes], Any] | None = None,
        fails: tuple[Reason, ...] = ("denied", "invalid", "late", "large", *_OF_ASKING),
        other: Mapping[Reason, int] = MappingProxyType({}),
    ) -> Callable[[Callable[[Call, B], Answer]], Callable[[Call, B], Answer]]:
        """Routes that take a body of this model; its docstring is what their page says.

        Args:
            paths: Of one route.
            body: What it takes.
            shown: What the page says that it takes, where that is one of several.
            read: Makes the fields of a request and the bytes of its body; else it is JSON.
            fails: Why it may have no answer.
            other: Statuses of another protocol that may ask the route too.
        """
        shown = shown or (body,)
        self.bodies.extend(shown)
        schemas = [{"$ref": f"#/components/schemas/{one.__name__}"} for one in shown]
        schema = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
        extra = {"requestBody": {"required": True, "content": {_JSON: {"schema": schema}}}}

        def decorate(answer: Callable[[Call, B], Answer]) -> Callable[[Call, B], Answer]:
            async def work(call: Call) -> Response:
                limits = call.gateway.limits
                async with limits.body(call.request) as content:
                    with limits.place():
                        # Its fields are not kept: those that are passed over may take 25 times their bytes.
                        asked = call.asked(body, read_json(content) if read is None else read(call.request, content))
                        return await while_awaited(call.request, answer(call, asked))

            self._add("POST", paths, work, answer.__doc__, _answers(200, _JSON, fails, self._statuses, other), extra)
            return answer

        return decorate

    def get(
        self,
        *paths: str,
        is_open: bool = False,
        fails: tuple[Reason, ...] = _OF_ASKING,
        status: int = 200,
        media: str | None = _JSON,
    ) -> Callable[[Callable[[Call], Answer]], Callable[[Call], Answer]]:
        """Routes without a body.

        Args:
            paths: Of one route.
            is_open: It asks for no key.
            fails: Why it may have no answer, beside the key.
            status: Of its answer.
            media: The type of its answer; None: that has no body.
        """

        def decorate(answer: Callable[[Call], Answer]) -> Callable[[Call], Answer]:
            answers = _answers(status, media, fails if is_open else ("denied", *fails), self._statuses)
            self._add("GET", paths, answer, answer.__doc__, answers, is_open=is_open)
            return answer

        return decorate

    def _add(
        self,
        method: str,
        paths: tuple[str, ...],
        answer: Callable[[Call], Answer],
        summary: str | None,
        answers: dict[int | str, dict[str, Any]],
        extra: Mapping[str, Any] = MappingProxyType({}),
        is_open: bool = False,
    ) -> None:
        async def answered(request: Request, path: str) -> Response:
            call = Call(request, self.form)
            note(request.scope, route=path)
            trace_headers.set(trace_context(request))
            try:
                if not is_open:
                    call.admit()
                return call.gateway.sending.answer(await answer(call))
            except CallerGone:
                return Response(status_code=_CLIENT_CLOSED_REQUEST)
            except Exception as error:
                return call.failed(error)

        for path in paths:
            endpoint = _endpoint(answered, path)
            if not _IN_PATH.search(path):
                self.endpoints[method, path] = endpoint
            described = {**extra, "parameters": list(map(_parameter, _IN_PATH.findall(path)))}
            self.router.add_api_route(
                path,
                endpoint,
                methods=[method],
                summary=summary,
                status_code=int(next(iter(answers))),
                response_class=Response,  # of no type, which `answers` say
                response_model=None,
                responses=answers,
                openapi_extra=described,
            )
            if method == "GET":  # and without its body, which uvicorn leaves out: so health is often looked at
                self.router.add_api_route(path, endpoint, methods=["HEAD"], include_in_schema=False)


def _endpoint(answered: Callable[[Request, str], Answer], path: str) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        return await answered(request, path)

    return endpoint


def _answers(
    status: int, media: str | None, fails: tuple[Reason, ...], *forms: Mapping[Reason, int]
) -> dict[int | str, dict[str, Any]]:
    """What the page says of a route's answers, the right one first."""
    found: dict[int | str, dict[str, Any]] = {status: {"description": "the answer"}}
    if media is not None:
        found[status]["content"] = {media: {}}
    for reason in fails:
        for form in forms:
            if reason in form:
                found[form[reason]] = {"description": MEANINGS[reason], "content": {_JSON: {}}}
    return found


def _parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def read_json(content: bytes) -> Any:
    """What a body of JSON says. Raises Failure."""
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise Failure("invalid", f"the body is not JSON: {error}") from None
