"""What the containers run: `python -m client_sdk serve` on every network of the container, until SIGTERM.

    python serve.py [OPTION ...]        options of tritonserver, such as --http-thread-count=16

The ports are 8000 (HTTP), 8001 (gRPC) and 8002 (metrics, with quantiles of latencies), and the server's log is standard
error. The environment says the rest:

    MODEL_REPOSITORY    the directory of models; default: /models
    API_KEY_FILE        a file with the key that clients must send; default: the key in CLIENT_SDK_API_KEY, if it is set
    STARTUP_SECONDS     how long loading the models may take; default: 600
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

METRICS = (
    "--metrics-config=summary_latencies=true",
    "--metrics-config=summary_quantiles=0.5:0.02,0.95:0.005,0.99:0.001",
)
"""Quantiles over the last minute; each with the error in rank that is allowed."""


def command(options: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """The arguments of `python -m client_sdk`; ends the program if STARTUP_SECONDS is not a number."""
    seconds = environment.get("STARTUP_SECONDS", "600")
    try:
        float(seconds)
    except ValueError:
        sys.exit(f"error: STARTUP_SECONDS is {seconds!r}: it is a number of seconds")
    key_file = environment.get("API_KEY_FILE")
    return [
        "serve",
        f"--model-repository={environment.get('MODEL_REPOSITORY', '/models')}",
        "--listen=0.0.0.0",
        f"--startup-timeout={seconds}",
        "--log=/dev/stderr",
        *([f"--api-key-file={key_file}"] if key_file else []),
        *("--", *METRICS, *options),
    ]


if __name__ == "__main__":
    os.execv(sys.executable, [sys.executable, "-m", "client_sdk", *command(sys.argv[1:], os.environ)])
