"""A real Prometheus for tests: found, started on loopback, asked, stopped."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.patience import PATIENCE, wait_for
from tests.support.places import ROOT

UNPACKED = ROOT / ".venv" / "prometheus" / "usr" / "bin"  # what make test fetches


def program(name: str) -> str:
    """The path of `prometheus` or `promtool`; skips the test where there is none."""
    found = shutil.which(name) or shutil.which(name, path=str(UNPACKED))
    if found is None:
        pytest.skip(f"no {name} on PATH, and make test could not fetch Debian's package prometheus")
    return found


class Prometheus:
    """One that runs."""

    def __init__(self, url: str) -> None:
        self._url = url

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """The labels and value of each series; raises ValueError if the expression is wrong."""
        try:
            result = self._get(f"query?{urllib.parse.urlencode({'query': expression})}")["result"]
        except urllib.error.HTTPError as error:
            raise ValueError(f"{expression}: {json.load(error)['error']}") from error
        return [(series["metric"], float(series["value"][1])) for series in result]

    def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        return {a["labels"]["alertname"] for a in self._get("alerts")["alerts"] if a["state"] == "firing"}

    def rules(self) -> dict[str, str]:
        """The health of each rule by its name."""
        return {rule["name"]: rule["health"] for group in self._get("rules")["groups"] for rule in group["rules"]}

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self._url}/api/v1/{path}", timeout=PATIENCE) as response:
            return json.load(response)["data"]


@contextlib.contextmanager
def running(config: dict[str, Any], directory: Path) -> Iterator[Prometheus]:
    """A Prometheus with `config`, that keeps what it writes in `directory`."""
    file = directory / "prometheus.yaml"
    file.write_text(yaml.safe_dump(config))
    with socket.create_server(("127.0.0.1", 0)) as held:
        address = f"127.0.0.1:{held.getsockname()[1]}"
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                program("prometheus"),
                f"--config.file={file}",
                f"--storage.tsdb.path={directory / 'data'}",
                f"--web.listen-address={address}",
            ],
            cwd=directory,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:

        def is_ready() -> bool:
            assert process.poll() is None, (directory / "prometheus.log").read_text()
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{address}/-/ready", timeout=PATIENCE):
                return True
            return False

        wait_for(is_ready)
        yield Prometheus(f"http://{address}")
    finally:
        process.terminate()
        process.wait(PATIENCE)
