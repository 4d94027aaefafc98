"""BERT embeddings from a Triton Inference Server: text in, vectors out.

    import client_sdk
    client_sdk.encode(["First do it", "then do it right"])   # [2, D] float32

`Client` and `AsyncClient` say which server and model, `Encoder` is for Ray, Dask and data frames, `LocalServer` runs a
server here, and every error is a `ClientError`. The command line is `python -m client_sdk --help`.
"""

from client_sdk._async_client import AsyncClient
from client_sdk._call.collect import TokenVectors
from client_sdk._call.questions import ModelInfo
from client_sdk._call.scores import Label, Ranked
from client_sdk._call.sparse import SparseVector, SparseVectors
from client_sdk._client import Client
from client_sdk._default_client import encode, similarity
from client_sdk._encoder import Encoder
from client_sdk._errors import (
    AccessDenied,
    ClientError,
    DeadlineExceeded,
    InvalidArgument,
    InvalidType,
    ModelNotFound,
    ServerBusy,
    ServerError,
    ServerStartError,
    ServerUnreachable,
    StepDied,
    TritonServerNotFound,
    VersionChanged,
)
from client_sdk._maxsim import maxsim
from client_sdk._server.local_server import LocalServer
from client_sdk._version import __version__

__all__ = [
    "AccessDenied",
    "AsyncClient",
    "Client",
    "ClientError",
    "DeadlineExceeded",
    "Encoder",
    "InvalidArgument",
    "InvalidType",
    "Label",
    "LocalServer",
    "ModelInfo",
    "ModelNotFound",
    "Ranked",
    "ServerBusy",
    "ServerError",
    "ServerStartError",
    "ServerUnreachable",
    "SparseVector",
    "SparseVectors",
    "StepDied",
    "TokenVectors",
    "TritonServerNotFound",
    "VersionChanged",
    "__version__",
    "encode",
    "maxsim",
    "similarity",
]
