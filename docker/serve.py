"""What the containers run: a tritonserver on every network of the container, until SIGTERM.

    python serve.py [OPTION ...]        options of tritonserver, such as --http-thread-count=16

It is `python -m client_sdk serve` with what a container needs: the ports 8000 (HTTP), 8001 (gRPC) and 8002 (metrics),
the server's log on standard error, latency quantiles among the metrics, and a server that is started again when it, or
one of its Python steps, has died. The environment says the rest:

    MODEL_REPOSITORY    the directory of models; default: /models
    API_KEY_FILE        a file with the key that clients must send; default: none, everybody is served
    STARTUP_SECONDS     how long loading the models may take; default: 600
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from types import FrameType

from client_sdk import ClientError, LocalServer
from client_sdk._api_key import read_api_key

METRICS = (
    "--metrics-config=summary_latencies=true",
    "--metrics-config=summary_quantiles=0.5:0.02,0.95:0.005,0.99:0.001",
)
"""Quantiles over the last minute; each with the error in rank that is allowed."""


def make_server(options: Sequence[str], environment: Mapping[str, str]) -> LocalServer:
    """The server that the environment and the options describe, not started yet.

    Raises:
        ClientError: one of them is not allowed, or the file of the key holds none.
        OSError: the file of the key cannot be read.
        ValueError: STARTUP_SECONDS is not a number.
    """
    key_file = environment.get("API_KEY_FILE")
    return LocalServer(
        environment.get("MODEL_REPOSITORY", "/models"),
        host="0.0.0.0",
        http_port=8000,
        grpc_port=8001,
        metrics_port=8002,
        startup_timeout=float(environment.get("STARTUP_SECONDS", "600")),
        api_key=read_api_key(key_file) if key_file else None,
        supervise=True,
        log="/dev/stderr",
        extra_args=(*METRICS, *options),
    )


def main(options: Sequence[str]) -> int:
    """Serves until SIGTERM or SIGINT (0), or until the server cannot be started (1)."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    signal.signal(signal.SIGTERM, _interrupt)  # a first process gets no signal that it does not ask for
    try:
        with make_server(options, os.environ) as server:
            print(f"ready: {server}", file=sys.stderr)
            server.wait()
    except KeyboardInterrupt:
        return 0
    except (ClientError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
    return 1


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
