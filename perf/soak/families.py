"""A second family in a model repository: the first one under another name."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

ROLES = ("", "_tokens", "_tokenizer", "_encoder", "_pooling")


def copy_family(source: Path, name: str, target: Path, new_name: str) -> list[str]:
    """Put family `name` of `source` into `target` as `new_name`, large files as links; the names of its models."""
    for role in ROLES:
        folder = target / f"{new_name}{role}"
        shutil.copytree(
            source / f"{name}{role}", folder, ignore=shutil.ignore_patterns("__pycache__"), copy_function=_link_or_copy
        )
        config = text_format.Parse((folder / "config.pbtxt").read_text(), ModelConfig())
        _rename(config, name, new_name)
        (folder / "config.pbtxt").unlink()  # it may be a link
        (folder / "config.pbtxt").write_text(text_format.MessageToString(config))
    return [f"{new_name}{role}" for role in ROLES]


def _rename(config: ModelConfig, name: str, new_name: str) -> None:
    config.name = new_name + config.name[len(name) :]
    for step in config.ensemble_scheduling.step:
        step.model_name = new_name + step.model_name[len(name) :]
    if "family" in config.parameters:
        config.parameters["family"].string_value = new_name


def _link_or_copy(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)
    return target
