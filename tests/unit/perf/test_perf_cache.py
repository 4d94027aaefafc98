"""Texts that come again: requests that fail."""

import pytest

from client_sdk import Client, ServerUnreachable
from perf.cache.command import _ask
from perf.compare.systems.server import free_port


def test_a_caller_that_is_not_answered_ends_the_measurement():
    with Client(f"localhost:{free_port()}", timeout=0.5) as client, pytest.raises(ServerUnreachable):
        _ask(client, lambda chance: "a text", callers=2, seconds=1.0, seed=0)
