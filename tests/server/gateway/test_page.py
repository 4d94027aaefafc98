"""Every request of docs/gateway.md is answered, and every route is among them."""

from __future__ import annotations

import re
import shlex
import subprocess

import pytest

from client_sdk import LocalServer
from tests.support.asgi import open_app, request
from tests.support.places import ROOT
from tests.support.servers.gateways import RunningGateway

PAGES = {page: (ROOT / "docs" / page).read_text(encoding="utf-8") for page in ("gateway.md", "from-bert-as-service.md")}
BLOCKS = re.compile(r"^```\n(curl localhost:8080.*?)^```", re.DOTALL | re.MULTILINE)
COMMANDS = [
    command
    for page in PAGES.values()
    for block in BLOCKS.findall(page)
    for command in re.split(r"\n(?=curl )", block.replace("\\\n", " ").strip())
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[:70])
def test_a_request_of_the_page_is_answered(command: str, gateway: RunningGateway, gateway_server: LocalServer):
    command = command.replace("localhost:8080", gateway.url)
    done = subprocess.run(["curl", "--fail-with-body", "--silent", *shlex.split(command)[1:]], capture_output=True)
    assert done.returncode == 0, done.stdout


async def test_every_route_is_on_the_page():
    asked = {re.match(r"curl localhost:8080([^ '?]*)", command)[1] for command in COMMANDS}
    async with open_app() as app:
        routes = (await request(app, "GET", "/openapi.json")).json["paths"]
    missing = [
        route for route in routes if not any(re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", route), path) for path in asked)
    ]
    assert missing == []
