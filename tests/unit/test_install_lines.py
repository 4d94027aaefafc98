"""What the Makefile, the documents and the messages tell people to install is what pyproject.toml has."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.support.places import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = re.compile(r"(?:bert[-_]on[-_]triton(?:-[\w.*-]+\.whl)?|'\.)\[([a-z][a-z,-]*)\]")
GROUPS = re.compile(r"--group[ =]([\w-]+)")


def test_every_extra_and_group_that_is_named_exists() -> None:
    told = ("Makefile", "*.md", "client_sdk/*.py", "export/*.py", "perf/*.py", ".github/*", ":!CHANGELOG.md")
    listed = subprocess.run(["git", "ls-files", *told], cwd=ROOT, capture_output=True, text=True, check=True)
    extras, groups = set(PROJECT["project"]["optional-dependencies"]), set(PROJECT["dependency-groups"])
    for path in listed.stdout.splitlines():
        text = (ROOT / path).read_text()
        assert {name for names in EXTRAS.findall(text) for name in names.split(",")} <= extras, path
        assert set(GROUPS.findall(text)) <= groups, path


def test_such_lines_are_found() -> None:
    text = "pip install 'bert-on-triton[export,server]'; pip install --editable '.[tensorrt]' --group dev"
    assert (EXTRAS.findall(text), GROUPS.findall(text)) == (["export,server", "tensorrt"], ["dev"])


def test_groups_include_what_exists_and_no_extra_is_a_group() -> None:
    groups = PROJECT["dependency-groups"]
    included = {entry["include-group"] for group in groups.values() for entry in group if isinstance(entry, dict)}
    assert included <= set(groups)
    assert not set(groups) & set(PROJECT["project"]["optional-dependencies"])
