import platform
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from perf.failure import Failure
from perf.load import perf_analyzer
from perf.load.perf_analyzer import PerfAnalyzer, cache_directory, find_or_fetch, link_libraries, parse_version, unpack

ANSWERS = "#!/bin/sh\necho 'Perf Analyzer Version 2.44.0 (commit 3b328b8)'\n"


def program(path: Path, text: str = ANSWERS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_the_one_on_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = program(tmp_path / "perf_analyzer")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = find_or_fetch()
    assert (found.path, found.version, found.libraries) == (expected, (2, 44), None)
    assert "same text" in (found.note or "")


def test_one_that_does_not_run_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "perf_analyzer", "#!/bin/sh\necho 'GLIBC_2.38 not found' >&2\nexit 1\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(Failure, match="does not run here: GLIBC_2.38 not found"):
        find_or_fetch()


def test_nothing_is_fetched_that_cannot_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.31"))
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("nothing is to be run"))
    with pytest.raises(
        Failure, match=r"perf-analyzer>=2.58: needs glibc 2.38, and this is glibc 2.31.*needs glibc 2.34"
    ):
        find_or_fetch()


def test_one_that_was_fetched_is_not_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(perf_analyzer, "cache_directory", lambda: tmp_path)
    monkeypatch.setattr(perf_analyzer, "_download", lambda *_: pytest.fail("it is there"))
    expected = program(tmp_path / "tritonclient-2.51.0" / "perf_analyzer")
    assert find_or_fetch().path == expected


def test_the_program_is_taken_out_of_a_wheel(tmp_path: Path) -> None:
    wheel = tmp_path / "tritonclient-2.51.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tritonclient-2.51.0.data/data/bin/perf_analyzer", ANSWERS)
    found = unpack(wheel, tmp_path / "ready")
    assert subprocess.run([found], capture_output=True, text=True).stdout.startswith("Perf Analyzer")


def test_a_wheel_without_it_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "perf_analyzer-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("perf_analyzer/__init__.py", "")
    with pytest.raises(Failure, match="holds no perf_analyzer"):
        unpack(wheel, tmp_path / "ready")


def test_libraries_get_the_names_that_a_loader_looks_for(tmp_path: Path) -> None:
    source = tmp_path / "nvidia_pytriton.libs"
    source.mkdir()
    for name in ("libb64-98cb6333.so.0d", "libcudart-09529672.so.12.6.77", "libother-1.so.2"):
        (source / name).touch()
    link_libraries(tmp_path / "lib", source)
    assert {link.name: link.resolve().name for link in (tmp_path / "lib").iterdir()} == {
        "libb64.so.0d": "libb64-98cb6333.so.0d",
        "libcudart.so.12": "libcudart-09529672.so.12.6.77",
    }


def test_the_command_can_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    analyzer = PerfAnalyzer(tmp_path / "bin" / "perf_analyzer", (2, 51), tmp_path / "lib dir")
    assert analyzer.command(["-m", "bert"]) == "LD_LIBRARY_PATH='lib dir' bin/perf_analyzer -m bert"
    assert analyzer.note is None


def test_the_cache_is_the_environments_or_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", "/somewhere/.venv")
    assert cache_directory() == Path("/somewhere/.venv/perf-analyzer")
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    assert cache_directory({"XDG_CACHE_HOME": "/cache"}) == Path("/cache/bert-on-triton/perf-analyzer")


@pytest.mark.parametrize(
    ("printed", "version"),
    [("Perf Analyzer Version 2.51.0 (commit unknown)", (2, 51)), ("Perf Analyzer Version  (commit unknown)", (0, 0))],
)
def test_versions(printed: str, version: tuple[int, int]) -> None:
    assert parse_version(printed) == version
