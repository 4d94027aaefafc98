"""What a server reads of a repository before it starts: what is served, left out and refused."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from client_sdk._errors import InvalidArgument
from client_sdk._server.own_files import is_plain, temporary_directory
from client_sdk._server.repository.families import local_directory, read_repository, replaced_since, repository_state
from client_sdk._server.repository.view import served_path
from tests.conftest import fill
from tests.support.checkpoints.folders import write_bert

PYTHON = 'backend: "python"\n'
ENSEMBLE = 'platform: "ensemble"\nensemble_scheduling {{ step {{ model_name: "{0}" model_version: -1 }} }}\n'
CACHE = "response_cache { enable: true }\n"
ALL_VERSIONS = "version_policy { all { } }\n"
STEP_FILE = "model.py"


def make_model(repository: Path, name: str, config: str = PYTHON, versions: tuple[str, ...] = ("1",)) -> Path:
    for version in versions:
        (repository / name / version).mkdir(parents=True)
        if config.startswith(PYTHON):
            (repository / name / version / STEP_FILE).touch()
    (repository / name / "config.pbtxt").write_text(config)
    return repository / name


def make_family(repository: Path, versions: tuple[str, ...] = ("1",), **more: str) -> Path:
    """bert hands its requests to bert_inner, and that to bert_tokenizer; `more` is added to the configs."""
    for name, config in (
        ("bert", ENSEMBLE.format("bert_inner")),
        ("bert_inner", ENSEMBLE.format("bert_tokenizer")),
        ("bert_tokenizer", PYTHON),
    ):
        make_model(repository, name, config + more.get(name, ""), versions)
    return repository


def test_a_family_is_read_with_its_models_and_nothing_is_left_out(tmp_path: Path):
    repository = read_repository(make_family(tmp_path))
    assert repository.names == ["bert", "bert_inner", "bert_tokenizer"]
    assert repository.families == ["bert"]
    assert repository.left_out == () and not repository.holds_strangers


@pytest.mark.parametrize("name", ["bert", "bert_inner", "bert_tokenizer"])
def test_a_family_is_refused_if_any_of_its_models_uses_the_response_cache(tmp_path: Path, name: str):
    make_family(tmp_path, **{name: CACHE})
    with pytest.raises(
        InvalidArgument, match=f"/{name}/config.pbtxt' turns on response_cache, .* remove it there, .* --cache"
    ):
        read_repository(tmp_path)


def test_the_response_cache_of_a_plain_model_is_its_own_matter(tmp_path: Path):
    make_family(tmp_path, bert="response_cache { enable: false }\n")
    make_model(tmp_path, "other", PYTHON + CACHE + ALL_VERSIONS, ("1", "2"))
    assert "other" in read_repository(tmp_path).names


@pytest.mark.parametrize("name", ["bert", "bert_inner", "bert_tokenizer"])
@pytest.mark.parametrize(
    "policy",
    [ALL_VERSIONS, "version_policy { specific { versions: [1, 2] } }", "version_policy { latest { num_versions: 2 } }"],
)
def test_a_family_is_refused_if_any_of_its_models_is_served_in_two_versions(tmp_path: Path, name: str, policy: str):
    make_family(tmp_path, ("1", "2"), **{name: policy})
    with pytest.raises(InvalidArgument, match=f"/{name}/config.pbtxt' .* serves versions 1 and 2 at once.* --name"):
        read_repository(tmp_path)


@pytest.mark.parametrize("policy", ["", ALL_VERSIONS, "version_policy { specific { versions: [1, 2] } }"])
def test_a_policy_for_several_versions_does_no_harm_to_one(tmp_path: Path, policy: str):
    make_family(tmp_path, bert=policy, bert_inner=policy, bert_tokenizer=policy)
    assert read_repository(tmp_path).families == ["bert"]


def test_two_versions_of_which_the_highest_is_served_are_no_harm(tmp_path: Path):
    assert read_repository(make_family(tmp_path, ("1", "2"))).families == ["bert"]


def test_a_family_of_unlike_versions_is_refused(tmp_path: Path):
    make_family(tmp_path)
    (tmp_path / "bert_tokenizer" / "2").mkdir()
    (tmp_path / "bert_tokenizer" / "2" / STEP_FILE).touch()
    with pytest.raises(InvalidArgument, match=r"mixture of versions \(bert 1, bert_inner 1, bert_tokenizer 2\)"):
        read_repository(tmp_path)


def test_what_is_no_model_is_left_out_and_told(tmp_path: Path):
    make_family(tmp_path, ("1", "02"))
    (tmp_path / "lost+found").mkdir()
    (tmp_path / ".export-models-bert").mkdir()
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "notes.txt").touch()
    (tmp_path / ".gitignore").touch()
    (tmp_path / "bert_tokenizer" / "3").mkdir()
    (tmp_path / "bert_tokenizer" / "broken").symlink_to(tmp_path / "nowhere")
    repository = read_repository(tmp_path)
    assert repository.names == ["bert", "bert_inner", "bert_tokenizer"]
    assert repository.left_out == (
        "'.export-models-bert' (hidden)",
        "'gone' (a link that leads nowhere)",
        "'lost+found' (no config.pbtxt)",
        "'notes.txt' (not a directory)",
        "'bert_tokenizer/3' (unfinished)",
        "'bert_tokenizer/broken' (unfinished)",
    )
    assert repository.holds_strangers


def test_a_file_beside_the_models_is_told_and_may_stay(tmp_path: Path):
    make_family(tmp_path)
    (tmp_path / "notes.txt").touch()
    assert not read_repository(tmp_path).holds_strangers


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """As a user who may not read everything, where the tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


def test_what_another_user_keeps_for_himself_is_left_out():
    with tempfile.TemporaryDirectory() as directory:
        repository = make_family(Path(directory))
        repository.chmod(0o755)
        for private in (repository / "private", repository / "bert_tokenizer" / "2"):
            private.mkdir(mode=0)
        with as_nobody():
            left_out = read_repository(repository).left_out
    assert left_out == ("'private' (it cannot be read)", "'bert_tokenizer/2' (unfinished)")


@pytest.mark.parametrize("name", ["with space", "qu'ote", "dollar$HOME", "modèle", "new\nline", "semi;colon", "a:b"])
def test_a_model_whose_name_a_shell_would_not_leave_alone_is_refused(tmp_path: Path, name: str):
    make_model(tmp_path, name)
    with pytest.raises(InvalidArgument, match="a model's name has letters"):
        read_repository(tmp_path)


def test_a_model_without_config_or_version_is_refused(tmp_path: Path):
    make_model(tmp_path, "bert", versions=("01",))
    with pytest.raises(InvalidArgument, match="has no version: '01' starts with 0"):
        read_repository(tmp_path)
    (tmp_path / "bert" / "01").rename(tmp_path / "bert" / "1")
    (tmp_path / "bert" / "config.pbtxt").unlink()
    with pytest.raises(InvalidArgument, match="has no config.pbtxt"):
        read_repository(tmp_path)


def test_a_config_that_cannot_be_read_is_left_to_tritonserver(tmp_path: Path):
    make_model(tmp_path, "one", "max_batch_size: many")
    make_model(tmp_path, "two", PYTHON + "a_field_of_a_later_release: 1\n" + CACHE)
    one, two = read_repository(tmp_path).models
    assert one.config is None and two.config.response_cache.enable


@pytest.mark.parametrize(
    "url", ["s3://bucket/models", "gs://bucket", "as://account/container", "s3://http://host:9000/b"]
)
def test_remote_storage_is_named_as_what_it_is(url: str):
    with pytest.raises(InvalidArgument, match=f"'{url}' is in remote storage, .* --model-repository={url}"):
        local_directory(url)


def test_a_path_that_can_be_no_directory_is_refused(tmp_path: Path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path in (tmp_path / "loop", "nul\0byte"):
        with pytest.raises(InvalidArgument, match="model repository"):
            read_repository(local_directory(path))


def test_a_plain_repository_is_served_as_it_is(tmp_path: Path):
    repository = read_repository(make_family(tmp_path / "models"))
    assert served_path(repository, tmp_path, models_may_come=False) == tmp_path / "models"
    assert served_path(repository, tmp_path, models_may_come=True) == tmp_path / "models"


def test_a_view_holds_what_is_served_and_nothing_else(tmp_path: Path):
    path = make_family(tmp_path / "it's a $path;")
    (path / "lost+found").mkdir()
    (path / "bert_tokenizer" / "2").mkdir()
    (tmp_path / "own").mkdir()
    view = served_path(read_repository(path), tmp_path / "own", models_may_come=False)
    assert is_plain(view)
    assert sorted(entry.name for entry in view.iterdir()) == ["bert", "bert_inner", "bert_tokenizer"]
    assert sorted(entry.name for entry in (view / "bert_tokenizer").iterdir()) == ["1", "config.pbtxt"]
    assert (view / "bert_tokenizer" / "1" / STEP_FILE).samefile(path / "bert_tokenizer" / "1" / STEP_FILE)


def test_where_models_may_come_the_view_is_the_repository_itself(tmp_path: Path):
    path = make_family(tmp_path / "a path")
    view = served_path(read_repository(path), tmp_path, models_may_come=True)
    assert is_plain(view) and view.samefile(path)
    (path / "bert_tokenizer" / "2").mkdir()
    with pytest.raises(InvalidArgument, match="holds bert_tokenizer/2, unfinished"):
        served_path(read_repository(path), tmp_path, models_may_come=True)


@pytest.mark.parametrize("name", ["with space", "tmp-ünï", "star[1]*", "quote'", "new\nline"])
def test_temporary_files_have_a_plain_path_whatever_tmpdir_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    (tmp_path / name).mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / name))
    directory = temporary_directory("name-")
    assert is_plain(directory) and not any((tmp_path / name).iterdir())
    directory.rmdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    directory = temporary_directory("name-")
    assert directory.parent == tmp_path


def test_what_is_put_into_a_repository_or_edited_there_changes_its_state(tmp_path: Path):
    make_family(tmp_path)
    states = [repository_state(tmp_path)]
    (tmp_path / "bert_tokenizer" / "1" / "__pycache__").mkdir()  # by the step itself, at each start
    assert repository_state(tmp_path) == states[0]
    for change in (
        lambda: (tmp_path / "bert" / "config.pbtxt").write_text(PYTHON),
        lambda: (tmp_path / "bert" / "2").mkdir(),
        lambda: (tmp_path / "bert").rename(tmp_path / "other"),
        lambda: shutil.rmtree(tmp_path),
    ):
        change()
        states.append(repository_state(tmp_path))
        assert states[-1] not in states[:-1]


@pytest.mark.parametrize(("backend", "unmarked"), [("python", []), ("onnxruntime", ["bert_encoder"])])
def test_another_export_is_noticed_where_nobody_compares_a_network_with_its_config(
    tmp_path: Path, backend: str, unmarked: list[str]
):
    for name, seed in (("one", 1), ("two", 2)):
        write_bert(tmp_path / name, seed=seed)
    models = tmp_path / "models"
    fill(models, tmp_path / "one", "bert", backend=backend)
    before = read_repository(models)
    fill(models, tmp_path / "one", "bert", backend=backend)
    assert replaced_since(before) == []
    fill(models, tmp_path / "two", "bert", backend=backend)
    assert replaced_since(before) == unmarked
    shutil.rmtree(models)
    assert replaced_since(before) == unmarked


def test_a_family_is_known_by_what_its_last_step_says_and_not_by_a_name(tmp_path: Path):
    splade = 'parameters { key: "splade" value { string_value: "max relu" } }\n'
    for family, role, mark in (("a_sparse", "", ""), ("b", "_sparse", splade)):
        make_model(tmp_path, family + role, ENSEMBLE.format(f"{family}_tokenizer"))
        make_model(tmp_path, f"{family}_tokenizer")
        make_model(tmp_path, f"{family}_pooling", PYTHON + mark)
    repository = read_repository(tmp_path)
    assert repository.families == ["a_sparse", "b"] and repository.ensembles == ["a_sparse", "b_sparse"]


def test_a_family_in_a_mixture_of_versions_is_refused_whatever_its_ensemble_is_called(tmp_path: Path):
    make_model(tmp_path, "a_multi", ENSEMBLE.format("a_tokenizer"), ("1",))
    make_model(tmp_path, "a_tokenizer", versions=("2",))
    with pytest.raises(InvalidArgument, match="'a_multi' in a mixture of versions .a_multi 1, a_tokenizer 2."):
        read_repository(tmp_path)
