"""huggingface_hub itself, in a process of its own, against a small hub on this machine."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from export.checkpoint import hub
from export.errors import ExportError
from tests.support.checkpoints.folders import write_bert, write_modules
from tests.support.patience import PATIENCE
from tests.support.places import ROOT

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PROGRAM = """
import sys
import time
from export.checkpoint import hub
from export.errors import ExportError
sleep, pauses = time.sleep, []
time.sleep = lambda seconds: (pauses.append(seconds), sleep(seconds))
try:
    print(hub.locate(sys.argv[1], progress=len(sys.argv) > 2))
except ExportError as error:
    print(f"paused for {sum(pauses):g} s", file=sys.stderr)
    sys.exit(f"ExportError: {error}")
"""


class Hub(BaseHTTPRequestHandler):
    """Answers as the hub does for the repositories `team/small` (the files of `folder`) and `team/gated`."""

    folder: Path

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        files = sorted(p.relative_to(self.folder).as_posix() for p in self.folder.rglob("*") if p.is_file())
        if "team/gated" in path:
            self._answer(403, b"", {"X-Error-Code": "GatedRepo"})
        elif "team/broken" in path:
            self._answer(501, b"")
        elif path.startswith(("/api/models/team/small/tree/", "/api/models/team/small/paths-info/")):
            sizes = {name: (self.folder / name).stat().st_size for name in files}
            self._answer_json([{"type": "file", "path": n, "size": s, "oid": n} for n, s in sizes.items()])
        elif path.startswith("/api/models/team/small"):
            siblings = [{"rfilename": name} for name in files]
            self._answer_json({"_id": "1", "id": "team/small", "sha": COMMIT, "siblings": siblings})
        elif path.startswith(f"/team/small/resolve/{COMMIT}/"):
            name = path.split(COMMIT + "/")[1]
            self._answer(200, (self.folder / name).read_bytes(), {"ETag": f'"{name}"', "X-Repo-Commit": COMMIT})
        else:
            self._answer(404, b"", {"X-Error-Code": "RepoNotFound"})

    def _answer_json(self, value: object) -> None:
        self._answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("repository")
    write_bert(folder)
    write_modules(folder, ("sentence_transformers.models.Pooling", {}))
    (folder / "artifact.metadata").write_text("{}")
    (folder / "onnx").mkdir()
    for other in ("README.md", "pytorch_model.bin", "onnx/model.onnx", "onnx/config.json"):
        (folder / other).write_text("not needed")
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("SmallHub", (Hub,), {"folder": folder}))
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def locate(source: str, *, address: str, home: Path, progress: bool = False) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, source, *(["progress"] if progress else [])],
        env={
            **os.environ,
            "HF_ENDPOINT": address,
            "HF_HOME": str(home),
            "NO_PROXY": "127.0.0.1",
            "HF_TOKEN": "",
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def test_a_repository_is_downloaded_as_far_as_needed_and_then_served_from_the_cache(
    address: str, tmp_path: Path
) -> None:
    result = locate("team/small", address=address, home=tmp_path)
    assert result.returncode == 0, result.stderr
    folder = Path(result.stdout.strip())
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()) == [
        "1_Pooling/config.json",
        "artifact.metadata",
        "config.json",
        "model.safetensors",
        "modules.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    without_network = locate("team/small", address="http://127.0.0.1:1", home=tmp_path)
    assert without_network.stdout == result.stdout, without_network.stderr


@pytest.mark.parametrize("progress", [True, False])
def test_progress_is_shown_if_asked_for(address: str, tmp_path: Path, progress: bool) -> None:
    result = locate("team/small", address=address, home=tmp_path, progress=progress)
    assert result.returncode == 0, result.stderr
    assert ("100%" in result.stderr) == progress


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("team/absent", "no folder and no hub repository of this name, or it is private; .* HF_TOKEN"),
        ("team/gated", "its owner grants access on request; .* HF_TOKEN"),
        (
            "team/broken",
            "cannot be downloaded from the Hugging Face hub .*501.*; download the checkpoint where",
        ),
    ],
)
def test_a_repository_that_cannot_be_had_is_refused_in_one_line(
    address: str, tmp_path: Path, source: str, message: str
) -> None:
    result = locate(source, address=address, home=tmp_path)
    assert result.returncode == 1
    last_line = result.stderr.splitlines()[-1]
    assert re.match(f"ExportError: {source}: .*{message}", last_line), result.stderr
    assert "Traceback" not in result.stderr


def test_without_a_network_the_error_comes_at_once_and_says_what_to_do(tmp_path: Path) -> None:
    result = locate("team/small", address="http://127.0.0.1:1", home=tmp_path)
    assert result.returncode == 1
    assert "paused for 0 s\n" in result.stderr
    assert "team/small: there is no folder of this name, and it cannot be downloaded" in result.stderr
    assert "pass its folder, or set HF_HOME to a cache that holds it" in result.stderr


def number_of(listening: socket.socket) -> int:
    """How many connections wait to be accepted."""
    found = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            listening.accept()[0].close()
            found += 1
    return found


def test_a_hub_that_never_answers_is_soon_given_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        result = locate("team/small", address=f"http://127.0.0.1:{silent.getsockname()[1]}", home=tmp_path)
        silent.setblocking(False)
        assert 1 <= number_of(silent) <= 2
    assert "cannot be downloaded" in result.stderr


def test_a_folder_is_its_own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "team" / "small").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert hub.locate(str(tmp_path)) == tmp_path
    assert hub.locate("team/small") == Path("team/small")
    assert hub.locate("~/team") == tmp_path / "team"


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ExportError, match="is a file; pass the folder that holds"):
        hub.locate(str(tmp_path / "model.safetensors"))


@pytest.mark.parametrize(
    "source", ["/no/folder", "./none", "../none", "~/none", "models/bert/base", "C:\\models\\bert"]
)
def test_a_path_to_nothing_is_not_taken_for_a_hub_id(source: str) -> None:
    with pytest.raises(ExportError, match="there is no such folder"):
        hub.locate(source)


@pytest.mark.parametrize("source", ["my model", "team/mödel", "-bad-", "a" * 100])
def test_a_malformed_id_is_refused(source: str) -> None:
    with pytest.raises(ExportError, match="is neither a folder nor a hub id; a hub id is a name such as"):
        hub.locate(source)
