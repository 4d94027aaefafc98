"""Sends the requests of `malformed`, each on its own, and says what came of it."""

from __future__ import annotations

import contextlib
import http.client
import socket

import grpc

from perf.soak.malformed import GrpcRequest, HttpRequest

ANSWER_SECONDS = 20.0
DONE = ("HTTP 200", "OK")
"""What comes of a request that was right after all."""


def send_http(url: str, request: HttpRequest) -> str:
    """The status, or how the connection ended. Raises TimeoutError if nothing came within ANSWER_SECONDS."""
    host, _, port = url.removeprefix("http://").partition(":")
    if request.sent is not None:
        head = f"{request.method} {request.path} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(request.body)}\r\n\r\n"
        with socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS) as connection:
            connection.sendall(head.encode() + request.body[: request.sent])
        return "closed by the client"
    connection = http.client.HTTPConnection(host, int(port), timeout=ANSWER_SECONDS)
    with contextlib.closing(connection):
        try:
            connection.request(request.method, request.path, request.body, request.headers)
            response = connection.getresponse()
            response.read()
        except TimeoutError:
            raise TimeoutError(f"no answer to {request}") from None
        except (OSError, http.client.HTTPException) as error:
            return type(error).__name__
        return f"HTTP {response.status}"


def send_grpc(channel: grpc.Channel, request: GrpcRequest) -> str:
    """The name of the status. Raises TimeoutError if nothing came within ANSWER_SECONDS."""
    try:
        channel.unary_unary(f"/inference.GRPCInferenceService/{request.method}")(
            request.message, timeout=ANSWER_SECONDS
        )
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
            raise TimeoutError(f"no answer to {request}") from None
        return str(error.code().name)
    return "OK"
