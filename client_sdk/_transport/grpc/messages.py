"""Triton's gRPC messages, built from requests and read into arrays; shared by the two gRPC transports."""

from __future__ import annotations

from typing import Any

from google.protobuf.json_format import MessageToDict
from tritonclient.grpc import service_pb2 as pb

from client_sdk._transport.base import Arrays, InferRequest, Query
from client_sdk._transport.tensors import pack_strings, read_tensor


def infer_message(request: InferRequest) -> pb.ModelInferRequest:
    """The message of one inference."""
    rows = request.rows
    message = pb.ModelInferRequest(model_name=request.model, model_version=request.version)
    message.inputs.add(name="TEXT", datatype="BYTES", shape=(len(rows), len(rows[0])))
    for output in request.outputs:
        message.outputs.add(name=output)
    for name, value in request.sent_parameters().items():
        parameter = message.parameters[name]
        if isinstance(value, bool):
            parameter.bool_param = value
        elif isinstance(value, int):
            parameter.int64_param = value
        else:
            parameter.string_param = value
    message.raw_input_contents.append(pack_strings(string for row in rows for string in row))
    return message


def read_reply(message: pb.ModelInferResponse) -> Arrays:
    """The outputs of a reply, without copying numbers."""
    return {
        output.name: read_tensor(output.datatype, output.shape, raw)
        for output, raw in zip(message.outputs, message.raw_output_contents, strict=True)
    }


def query_message(query: Query) -> tuple[str, Any]:
    """The name of the remote procedure that answers `query`, and the message for it."""
    if query.kind == "config":
        return "ModelConfig", pb.ModelConfigRequest(name=query.model)
    if query.kind == "metadata":
        return "ModelMetadata", pb.ModelMetadataRequest(name=query.model)
    if query.kind == "ready":
        return "ModelReady", pb.ModelReadyRequest(name=query.model)
    if query.kind == "statistics":
        return "ModelStatistics", pb.ModelStatisticsRequest(name=query.model)
    return "ServerMetadata", pb.ServerMetadataRequest()


def read_answer(query: Query, message: Any) -> dict[str, Any]:
    """The answer as the HTTP endpoint would give it, but for fields at their default, which are left out."""
    answer = MessageToDict(message, preserving_proto_field_name=True)
    return answer["config"] if query.kind == "config" else answer  # type: ignore[no-any-return]
