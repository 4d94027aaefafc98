"""`python -m client_sdk health`: one real request, for the health checks of containers.

Triton goes on calling itself ready when the process of a Python step has died, so only a request that runs through
every step shows that a model is served. A server that refuses the request for now (a full queue, a model that is being
loaded anew) is alive: whoever restarts it in an overload makes that worse.
"""

from __future__ import annotations

import argparse
import sys
import time

from ._errors import ClientError, ServerBusy
from ._server_arguments import addresses, open_client

DEFAULT_TIMEOUT = 5.0  # seconds

HEALTHY = 0
UNHEALTHY = 1  # whatever the reason: Docker reserves all other codes

_TEXT = "healthy"


def run(arguments: argparse.Namespace) -> int:
    """Encode one text with each server; prints a line for each, with the reason if it gave no vector."""
    try:
        return max([_check(arguments, url) for url in addresses(arguments)])
    except ClientError as error:  # the arguments are wrong
        return _complain(error)


def _check(arguments: argparse.Namespace, url: str) -> int:
    with open_client(arguments, url) as client:
        started = time.perf_counter()
        try:
            vector = client.encode(_TEXT)
        except ServerBusy as error:
            print(f"busy, but alive: {error}")
            return HEALTHY
        except ClientError as error:
            return _complain(error)
    milliseconds = 1000 * (time.perf_counter() - started)
    print(f"healthy: {url} gave a vector of {len(vector)} numbers in {milliseconds:.0f} ms")
    return HEALTHY


def _complain(error: ClientError) -> int:
    print(f"unhealthy: {error}", file=sys.stderr)
    return UNHEALTHY
