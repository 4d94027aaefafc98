import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from export import repository
from export.errors import ExportError
from export.family import Family

FAMILY = Family(
    name="small",
    hidden_size=8,
    layers=(-1,),
    pooler=False,
    max_seq_len=16,
    pooling="mean",
    normalize=False,
    prompts={},
)
MODELS = ["small", "small_encoder", "small_pooling", "small_tokenizer", "small_tokens"]


def write(target: Path, content: str, family: Family = FAMILY, version: int = 1) -> None:
    with repository.staged(target, family, version) as directories:
        (directories["small_encoder"] / "model.onnx").write_text(content)


def snapshot(target: Path) -> dict[str, bytes]:
    return {str(p.relative_to(target)): p.read_bytes() for p in sorted(target.rglob("*")) if p.is_file()}


def test_a_family_is_five_models_with_everything_they_need(tmp_path):
    target = tmp_path / "deep" / "repository"
    write(target, "network")
    assert sorted(path.name for path in target.iterdir()) == MODELS
    assert (target / "small_encoder/1/model.onnx").read_text() == "network"
    for model in MODELS:
        assert (target / model / "config.pbtxt").exists() and (target / model / "1").is_dir()
    for file in ("small_tokenizer/1/model.py", "small_tokenizer/warmup/text", "small_encoder/warmup/ones"):
        assert (target / file).exists()
    assert list(target.parent.iterdir()) == [target]


def test_a_second_version_stands_beside_the_first(tmp_path):
    write(tmp_path / "r", "one")
    write(tmp_path / "r", "two", version=2)
    assert (tmp_path / "r/small_encoder/1/model.onnx").read_text() == "one"
    assert (tmp_path / "r/small_encoder/2/model.onnx").read_text() == "two"


def test_a_failed_export_leaves_the_repository_as_it_was(tmp_path):
    target = tmp_path / "r"
    write(target, "one")
    before = snapshot(target)
    with pytest.raises(KeyboardInterrupt), repository.staged(target, FAMILY, 1) as directories:
        (directories["small_encoder"] / "model.onnx").write_text("half")
        raise KeyboardInterrupt
    assert snapshot(target) == before
    assert list(tmp_path.iterdir()) == [target]


def test_a_move_that_fails_half_way_is_undone(tmp_path, monkeypatch):
    target = tmp_path / "r"
    write(target, "one")
    before = snapshot(target)
    rename = Path.rename

    def full(self: Path, to: Path) -> Path:
        if self.match("new/small_tokenizer/config.pbtxt"):
            raise OSError(28, "No space left on device")
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(ExportError, match="No space left on device"):
        write(target, "two", replace(FAMILY, max_seq_len=8))
    monkeypatch.undo()
    assert snapshot(target) == before
    with monkeypatch.context() as patch, pytest.raises(ExportError):
        patch.setattr(Path, "rename", full)
        write(tmp_path / "fresh", "two")
    assert list((tmp_path / "fresh").iterdir()) == []


def test_what_a_killed_export_has_left_is_cleared(tmp_path):
    target = tmp_path / "r"
    script = (
        "import os, signal; from pathlib import Path; from export import repository\n"
        "from tests.unit.test_repository import FAMILY\n"
        f"with repository.staged(Path({str(target)!r}), FAMILY, 1): os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[2])
    assert list(target.iterdir()) == []  # nothing for Triton to trip over
    assert (tmp_path / ".export-r-small").exists()
    write(target, "network")
    assert list(tmp_path.iterdir()) == [target]


def test_two_exports_of_a_family_at_once_are_refused(tmp_path):
    with (
        repository.staged(tmp_path / "r", FAMILY, 1),
        pytest.raises(ExportError, match=r"another export of 'small'"),
    ):
        write(tmp_path / "r", "network")


def test_a_repository_that_is_a_file_is_named(tmp_path):
    (tmp_path / "r").write_text("")
    with pytest.raises(ExportError, match=r"r cannot be written"):
        write(tmp_path / "r", "network")
