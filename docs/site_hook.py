"""A hook of MkDocs: pages outside docs/ join the site, and links go where they go on GitHub.

README is the start page; every other page keeps its place in the repository, and those of docs/ are at the top. A link
is written as GitHub wants it, relative to its file; here it becomes one to the page of the site, or to GitHub where the
site has none. And no page may load anything from elsewhere.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
JOINED = (
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md"),
    *("examples/*.md", "examples/*.png", "perf/*.md", "perf/results/*.md", "perf/results/*.png"),
)
LINK = re.compile(r"(\]\()([^)\s]+)(\))")
LOADED = re.compile(r"""<(?:iframe|img|link|script)\b[^>]*\b(?:href|src)=["']?((?:https?:)?//[^\s"'>]+)""")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what stands outside docs/."""
    for path in (path for pattern in JOINED for path in sorted(ROOT.glob(pattern))):
        place = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, _on_site(place), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn a page's links."""
    here = Path(str(page.file.abs_src_path)).parent

    def turned(match: re.Match[str]) -> str:
        target, mark, heading = match[2].partition("#")
        if not target or re.match(r"[a-z]+:", target):
            return match[0]
        path = (here / target).resolve()
        if not path.exists() or not path.is_relative_to(ROOT):
            return match[0]  # MkDocs will complain of it
        place = path.relative_to(ROOT).as_posix()
        if files.get_file_from_path(_on_site(place)):
            address = os.path.relpath(_on_site(place), os.path.dirname(page.file.src_uri))
        else:
            address = f"{config.extra['repository']}/{'tree' if path.is_dir() else 'blob'}/main/{place}"
        return f"{match[1]}{address}{mark}{heading}{match[3]}"

    return LINK.sub(turned, markdown)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Refuses a page that would call out."""
    if found := LOADED.search(output):
        raise PluginError(f"{page.file.src_uri} would load {found[1]}; the site loads only what is its own")
    return output


def _on_site(place: str) -> str:
    """Where a file of the repository stands on the site."""
    return "index.md" if place == "README.md" else place.removeprefix("docs/")
