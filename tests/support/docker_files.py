"""Where the files of docker/ are, and what is in them."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from tests.support.places import ROOT

DOCKER = ROOT / "docker"
CHART = DOCKER / "helm"
RULES = CHART / "files" / "rules.yaml"
DASHBOARD = CHART / "files" / "dashboard.json"


def versions() -> dict[str, str]:
    """What docker/.env says."""
    lines = (DOCKER / ".env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def serve_module() -> ModuleType:
    """docker/serve.py, which is no module of a package."""
    spec = importlib.util.spec_from_file_location("docker_serve", DOCKER / "serve.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def metrics_options() -> tuple[str, ...]:
    """The options of tritonserver that decide which metrics there are."""
    return tuple(serve_module().METRICS)


def expressions(dashboard: dict[str, Any], *, family: str, interval: str) -> Iterator[tuple[str, str]]:
    """The title and expression of every panel's every target, with the dashboard's variables filled in."""
    values = {"family": f"({family})", "instance": ".+", "__rate_interval": interval}
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], re.sub(r"\$([a-z_]\w+)", lambda match: values[match[1]], target["expr"])
