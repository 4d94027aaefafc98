"""No file of a checkpoint can hang an export or fill its memory."""

import os
import tracemalloc
from pathlib import Path

import pytest

from export import json_files, regular_files
from export.errors import ExportError


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 10)
    (tmp_path / "link").symlink_to(path)
    assert regular_files.read(path, limit=10) == regular_files.read(tmp_path / "link", limit=10) == b"x" * 10
    with pytest.raises(ExportError, match="file: has more than 9 bytes"):
        regular_files.read(path, limit=9)


def test_what_is_no_regular_file_is_refused_without_opening_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "device").symlink_to("/dev/zero")
    for name in ("pipe", "folder", "device"):
        with pytest.raises(ExportError, match=rf"{name}: cannot be read \(not a regular file\)"):
            regular_files.read(tmp_path / name, limit=10)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("absent", "dangling"):
        with pytest.raises(ExportError, match=f"{tmp_path}: there is no {name}"):
            regular_files.read(tmp_path / name, limit=10)


def test_a_git_lfs_pointer_is_told(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(ExportError, match="config.json: is a Git LFS pointer, not the file; run `git lfs pull`"):
        json_files.read(tmp_path / "config.json")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 50_000], ids=["lists", "objects"])
def test_json_that_is_nested_too_deeply_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ExportError, match=r"config\.json: not valid JSON \(nested too deeply\)"):
        json_files.read(tmp_path / "config.json")


def test_huge_json_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[" + "[]," * 10_000_000 + "[]]")
    tracemalloc.start()
    try:
        with pytest.raises(ExportError, match="has more than 4,000,000 bytes"):
            json_files.read(tmp_path / "config.json")
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
