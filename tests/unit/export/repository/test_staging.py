import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from client_sdk._server.repository.unfinished_export import finish_exports
from export.checkpoint.late_interaction import LateInteraction
from export.errors import ExportError
from export.repository.family import ALL_ROLES, STEPS, Family
from export.repository.staging import staged
from tests.support.places import ROOT

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
SCORES = Family(name="small", hidden_size=8, max_seq_len=16, labels=("no", "yes"), activation="softmax")
SPARSE = Family(name="small", hidden_size=8, max_seq_len=16, splade="max relu", vocab_size=100)
MULTI = Family(name="small", hidden_size=8, max_seq_len=16, multi=LateInteraction(4, "identity"))
MODELS = ["small", "small_encoder", "small_pooling", "small_tokenizer", "small_tokens"]


def write(target: Path, content: str, family: Family = FAMILY, version: int = 1) -> None:
    with staged(target, family, version) as staging:
        (staging.directories[f"{family.name}_encoder"] / "model.onnx").write_text(content)
        staging.identity = content


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
    with pytest.raises(KeyboardInterrupt), staged(target, FAMILY, 1) as staging:
        (staging.directories["small_encoder"] / "model.onnx").write_text("half")
        raise KeyboardInterrupt
    assert snapshot(target) == before
    assert list(tmp_path.iterdir()) == [target]


def test_a_move_that_fails_half_way_is_undone(tmp_path, monkeypatch):
    target = tmp_path / "r"
    write(target, "one")
    before = snapshot(target)
    rename = Path.rename

    def full(self: Path, to: Path) -> Path:
        if self.match("commit/small_tokenizer"):
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
        "import os, signal; from pathlib import Path; from export.repository.staging import staged\n"
        "from tests.unit.export.repository.test_staging import FAMILY\n"
        f"with staged(Path({str(target)!r}), FAMILY, 1): os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT)
    assert list(target.iterdir()) == []  # nothing for Triton to trip over
    assert (tmp_path / ".export-small~r").exists()
    write(target, "network")
    assert list(tmp_path.iterdir()) == [target]


def identities(target: Path) -> set[tuple[str, ...]]:
    """What the models that are there say of their identities."""
    return {tuple(sorted(key_and_value)) for key_and_value in map(identities_of, target.glob("*/config.pbtxt"))}


def identities_of(path: Path) -> list[str]:
    config = text_format.Parse(path.read_text(), ModelConfig())
    return [f"{key}={value.string_value}" for key, value in config.parameters.items() if key.startswith("identity.")]


def test_an_export_killed_at_any_rename_leaves_one_family_or_none_and_is_ended_by_whoever_is_next(tmp_path):
    one, two = "1" * 32, "2" * 32
    after = set()
    for kill_at in range(1, 100):
        target = tmp_path / str(kill_at) / "r"
        write(target, one)
        script = (
            "import os; from pathlib import Path; from dataclasses import replace\n"
            "from tests.unit.export.repository.test_staging import FAMILY, write\n"
            "rename, count = Path.rename, 0\n"
            "def killed(self, to):\n"
            "    global count; count += 1\n"
            f"    if count == {kill_at}: os._exit(9)\n"
            "    return rename(self, to)\n"
            "Path.rename = killed\n"
            f"write(Path({str(target)!r}), {two!r}, replace(FAMILY, max_seq_len=8))\n"
        )
        if subprocess.run([sys.executable, "-c", script], cwd=ROOT).returncode == 0:
            break
        # What a server finds now is whole, or lacks the ensembles; and of one export.
        there = {path.name for path in target.iterdir()}
        assert len(identities(target)) <= 1 or not there & {"small", "small_tokens"}
        if there & {"small", "small_tokens"}:
            assert there >= {"small_tokenizer", "small_encoder"} and ("small" not in there or "small_pooling" in there)
        shutil.copytree(target.parent, tmp_path / "copy", symlinks=True)
        finish_exports(tmp_path / "copy/r")
        with pytest.raises(KeyboardInterrupt), staged(target, FAMILY, 1):
            raise KeyboardInterrupt
        for ended in (target, tmp_path / "copy/r"):
            assert sorted(path.name for path in ended.iterdir()) == MODELS
            (found,) = identities(ended)
            after.add(found)
            assert list(ended.parent.iterdir()) == [ended]
        shutil.rmtree(tmp_path / "copy")
    assert kill_at == 12  # one rename decides, and each of five models goes and comes
    assert after == {(f"identity.1={one}",), (f"identity.1={two}",)}


def commit_of(staging: Path) -> None:
    """Lays out an export of `small` that was killed when it was decided."""
    write(staging.parent / "made", "2" * 32)
    (staging.parent / "made").rename(staging.parent / "commit")
    staging.mkdir()
    (staging.parent / "commit").rename(staging / "commit")


@pytest.mark.parametrize(
    "staging", [".export-small~models-prod", ".export-small~models~2", ".export-small~", ".export-prod-small~model"]
)
def test_what_an_export_into_another_repository_has_left_is_left_there(tmp_path, staging):
    target = tmp_path / "models"
    write(target, "1" * 32)
    commit_of(tmp_path / staging)
    before = snapshot(tmp_path)
    finish_exports(target)
    assert snapshot(tmp_path) == before
    write(target, "3" * 32)
    assert sorted(path.name for path in (tmp_path / staging / "commit").iterdir()) == MODELS


def test_what_lies_inside_a_repository_is_its_own_whatever_its_name(tmp_path):
    target = tmp_path / "models"
    write(target, "1" * 32)
    commit_of(tmp_path / ".export-small~")
    (tmp_path / ".export-small~").rename(target / ".export-small~")
    finish_exports(target)
    assert identities(target) == {(f"identity.1={'2' * 32}",)}
    assert sorted(path.name for path in target.iterdir()) == MODELS


def test_nothing_is_taken_from_beside_a_repository_where_everybody_may_write(tmp_path):
    target = tmp_path / "models"
    write(target, "1" * 32)
    tmp_path.chmod(0o1777)
    commit_of(tmp_path / ".export-small~models")
    before = snapshot(tmp_path)
    finish_exports(target)
    with pytest.raises(ExportError, match="refused"), staged(target, FAMILY, 1):
        assert [path.name for path in target.iterdir() if path.name.startswith(".")] == [".export-small~"]
        raise ExportError("refused")
    assert snapshot(tmp_path) == before


WRITTEN = """
import sys
from pathlib import Path
from tests.unit.export.repository.test_staging import MODELS, write
target = Path(sys.argv[1])
for content in ("one", "two"):
    write(target, content)
    assert sorted(path.name for path in target.iterdir()) == MODELS
    assert (target / "small_encoder/1/model.onnx").read_text() == content
assert [path.name for path in target.parent.iterdir() if path.name.startswith(".")] == []
"""


def write_where_something_is_mounted(mount: str, target: Path) -> None:
    """Write into `target`, twice, in a namespace of mounts of its own."""
    user = ["--map-root-user"] if os.geteuid() else []
    script = f'{mount} && exec "$1" -c "$2" "$3"'
    done = subprocess.run(
        ["unshare", "--mount", *user, "sh", "-c", script, "sh", sys.executable, WRITTEN, str(target)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if done.returncode and ("unshare: " in done.stderr or "mount: " in done.stderr):
        pytest.skip(f"no such mounts here: {done.stderr}")
    assert done.returncode == 0, done.stderr


def test_a_repository_may_be_a_mount_of_the_device_beside_it(tmp_path):
    """From one to the other nothing can be renamed."""
    target, other = tmp_path / "r", tmp_path / "other"
    target.mkdir()
    other.mkdir()
    write_where_something_is_mounted(f"mount --bind {other} {target}", target)
    assert sorted(path.name for path in other.iterdir()) == MODELS


def test_a_family_of_a_containers_image_can_be_replaced(tmp_path):
    """overlayfs gives a directory of its lower layer no other name."""
    layers = {name: tmp_path / name for name in ("lower", "upper", "work", "merged")}
    for path in layers.values():
        path.mkdir()
    write(layers["lower"] / "r", "image")
    before = snapshot(layers["lower"])
    options = "lowerdir={lower},upperdir={upper},workdir={work} {merged}".format(**layers)
    write_where_something_is_mounted(f"mount -t overlay overlay -o {options}", layers["merged"] / "r")
    assert snapshot(layers["lower"]) == before


@pytest.mark.parametrize("which", [".", "small_encoder"])
def test_what_cannot_be_written_is_refused_before_anything_is_made(tmp_path, which):
    target = tmp_path / "r"
    write(target, "one")
    before = snapshot(tmp_path)
    (target / which).chmod(0o555)
    user = os.geteuid() or 65534  # root may write everywhere
    if not os.geteuid():
        for path in (tmp_path, *tmp_path.rglob("*")):
            os.chown(path, user, -1)
        for path in tmp_path.parents:  # who may go through them
            path.chmod(path.stat().st_mode | 0o111)
    child = os.fork()
    if not child:
        try:
            os.setuid(user)
            with pytest.raises(ExportError, match=rf"{(target / which).name} cannot be written by this user"):
                write(target, "two")
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    (target / which).chmod(0o755)
    assert snapshot(tmp_path) == before


def test_an_export_that_runs_is_left_alone_by_a_server_that_starts(tmp_path):
    with staged(tmp_path / "r", FAMILY, 1) as staging:
        finish_exports(tmp_path / "r")
        assert staging.directories["small_encoder"].is_dir()


def test_a_staging_path_that_is_a_link_is_refused_and_not_followed(tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "kept").write_text("")
    (tmp_path / ".export-small~r").symlink_to(other)
    with pytest.raises(ExportError, match=r"\.export-small~r.*not a directory.*remove it"):
        write(tmp_path / "r", "network")
    assert [path.name for path in other.iterdir()] == ["kept"]
    finish_exports(tmp_path / "r")
    assert [path.name for path in other.iterdir()] == ["kept"]


def test_a_model_that_is_a_link_is_refused_and_not_followed(tmp_path):
    target = tmp_path / "r"
    write(target, "one")
    (target / "small_encoder").rename(tmp_path / "elsewhere")
    (target / "small_encoder").symlink_to(tmp_path / "elsewhere")
    before = snapshot(tmp_path / "elsewhere")
    with pytest.raises(ExportError, match=r"small_encoder is a link"):
        write(target, "two")
    assert snapshot(tmp_path / "elsewhere") == before


@pytest.mark.parametrize("role", ["_tokens", "_tokenizer", "_encoder", "_pooling"])
def test_a_family_never_replaces_a_model_of_another(tmp_path, role):
    for first, second in (("small", f"small{role}"), (f"small{role}", "small")):
        target = tmp_path / first
        write(target, "one", replace(FAMILY, name=first))
        before = snapshot(target)
        with pytest.raises(ExportError, match=rf"small{role} is a model.*choose another --name"):
            write(target, "two", replace(FAMILY, name=second))
        assert snapshot(target) == before


@pytest.mark.parametrize("model", ["small", "small_tokens", "small_pooling"])
def test_a_model_of_somebody_else_is_never_replaced(tmp_path, model):
    for config in (f'name: "{model}"\nbackend: "python"\n', "not a config", None):
        target = tmp_path / str(config)[:5]
        (target / model).mkdir(parents=True)
        if config is not None:
            (target / model / "config.pbtxt").write_text(config)
        before = snapshot(target)
        with pytest.raises(ExportError, match=rf"{model} is a model that is not this family's"):
            write(target, "two")
        assert snapshot(target) == before


@pytest.mark.parametrize("family", [FAMILY, SCORES, SPARSE, MULTI], ids=["vectors", "scores", "sparse", "multi"])
def test_versions_beside_each_other_keep_their_identities(tmp_path, family):
    write(tmp_path / "r", "1" * 32, family)
    write(tmp_path / "r", "2" * 32, family, version=2)
    (found,) = identities(tmp_path / "r")
    assert found == (f"identity.1={'1' * 32}", f"identity.2={'2' * 32}")
    write(tmp_path / "r", "3" * 32, family, version=1)
    (found,) = identities(tmp_path / "r")
    assert found == (f"identity.1={'3' * 32}", f"identity.2={'2' * 32}")
    for old in (tmp_path / "r").glob("*/1"):
        shutil.rmtree(old)
    write(tmp_path / "r", "4" * 32, family, version=2)
    assert identities(tmp_path / "r") == {(f"identity.2={'4' * 32}",)}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"pooling": "cls"}, "small_pooling would change in parameter pooling"),
        ({"max_seq_len": 8}, "small_tokenizer would change in parameter max_seq_len"),
        ({"hidden_size": 16}, "small_tokens would change in output"),
        ({"prompts": {"a": "b"}}, "parameter prompts"),
        ({"backend": "onnxruntime"}, "small_encoder would change in backend"),
    ],
)
@pytest.mark.parametrize("version", [1, 3])
def test_a_version_that_would_change_what_stays_is_refused(tmp_path, change, what, version):
    target = tmp_path / "r"
    write(target, "one", version=2)
    before = snapshot(target)
    with pytest.raises(ExportError, match=rf"version 2 of 'small' stays.*{what}.*--name"):
        write(target, "two", replace(FAMILY, **change), version)
    assert snapshot(target) == before


def test_a_version_may_stand_beside_one_of_an_older_export(tmp_path):
    write(tmp_path / "r", "1" * 32)
    for path in (tmp_path / "r/small/config.pbtxt", tmp_path / "r/small_tokens/config.pbtxt"):
        config = text_format.Parse(path.read_text(), ModelConfig())
        del config.parameters["max_seq_len"]  # which it said in the tokenizer alone
        path.write_text(text_format.MessageToString(config))
    write(tmp_path / "r", "2" * 32, version=2)
    (found,) = identities(tmp_path / "r")
    assert found == (f"identity.1={'1' * 32}", f"identity.2={'2' * 32}")


def test_what_an_operator_changed_is_kept_or_said(tmp_path):
    target = tmp_path / "r"
    write(target, "one")
    with (target / "small_encoder/config.pbtxt").open("a") as config:
        config.write(
            'version_policy { specific { versions: 1 } }\nparameters { key: "more" value { string_value: "x" } }'
        )
    (target / "small_encoder/labels.txt").write_text("mine")
    with staged(target, replace(FAMILY, max_seq_len=8), 1) as staging:
        pass
    assert staging.notes == ["small_encoder/config.pbtxt said something else of parameter more; that is replaced"]
    config = text_format.Parse((target / "small_encoder/config.pbtxt").read_text(), ModelConfig())
    assert list(config.version_policy.specific.versions) == [1]
    assert (target / "small_encoder/labels.txt").read_text() == "mine"
    with staged(target, replace(FAMILY, max_seq_len=4), 1) as staging:
        pass
    assert staging.notes == []


def test_two_exports_of_a_family_at_once_are_refused(tmp_path):
    with (
        staged(tmp_path / "r", FAMILY, 1),
        pytest.raises(ExportError, match=r"another export of 'small'"),
    ):
        write(tmp_path / "r", "network")


def test_a_repository_that_is_a_file_is_named(tmp_path):
    (tmp_path / "r").write_text("")
    with pytest.raises(ExportError, match=r"r cannot be written"):
        write(tmp_path / "r", "network")


def test_ensembles_are_called_shorter_than_steps_and_so_go_first_and_come_last():
    assert max(len(role) for role in ALL_ROLES if role not in STEPS) < min(map(len, STEPS))
