"""What the pages point to is there: files, headings, and the paths that they name."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.places import ROOT

LISTED = subprocess.check_output(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, text=True)
TRACKED = {path for path in map(ROOT.joinpath, LISTED.splitlines()) if path.is_file()}
DIRECTORIES = {parent for path in TRACKED for parent in path.parents}
PAGES = sorted(path for path in TRACKED if path.suffix == ".md")
OF_THE_HOUSE = [ROOT / "CONTRIBUTING.md", ROOT / "docs" / "architecture.md"]

LINK = re.compile(r"\]\(([^)\s]+)\)")
NAMED = re.compile(r"`([\w.-]+/[\w./-]*)`")


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub and the site write them in addresses."""
    headings = re.findall(r"^#+ (.*)", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def names(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


def test_there_are_pages():
    assert {ROOT / "README.md", *OF_THE_HOUSE} <= set(PAGES)
    assert "the-way-of-a-text" in anchors(ROOT / "docs" / "architecture.md")


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_a_link_leads_to_a_file_and_a_heading(page):
    for link in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, heading = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        assert path in TRACKED | DIRECTORIES, link
        if heading:
            assert heading in anchors(path), link


@pytest.mark.parametrize("page", OF_THE_HOUSE, ids=names(OF_THE_HOUSE))
def test_a_path_that_is_named_is_there(page):
    """From the top, or from client_sdk, whose rooms may be named alone."""
    named = set(NAMED.findall(prose(page))) - {"build/perf", "build/site", ".ci/run"}
    assert len(named) > 5
    for name in named:
        places = {top / name.rstrip("/") for top in (ROOT, ROOT / "client_sdk")}
        assert places & (TRACKED | DIRECTORIES), name


def test_a_result_of_perf_is_shown_with_the_commit_that_it_was_measured_at():
    commits = {
        path.stem: json.loads(path.read_text())["machine"]["commit"] for path in ROOT.glob("perf/results/*.json")
    }
    page = (ROOT / "perf" / "README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| \[([\w-]+)\]\(results/[\w.-]+\) \| (\w+\+?) \|", page, re.MULTILINE))
    assert rows == commits
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"\(perf/results/([\w-]+)\.", readme))
    assert "compare" in shown
    for name in shown:
        assert f"commit {commits[name].rstrip('+')}" in readme, name
