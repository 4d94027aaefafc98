"""Who may import whom: the contracts of pyproject.toml hold what they say, and the Triton steps stand alone."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.support import step_models
from tests.support.places import ROOT

LINT = "from importlinter.cli import lint_imports_command; lint_imports_command()"
PACKAGES = ("client_sdk", "export", "perf")


@pytest.mark.parametrize(
    ("module", "forbidden", "contract"),
    [
        ("client_sdk/_transport/base.py", "client_sdk._call.texts", "A call goes down"),
        ("client_sdk/_call/plan.py", "client_sdk._client", "A call goes down"),
        ("client_sdk/_server/run.py", "client_sdk._transport.address", "knows nothing of calls and transports"),
        ("client_sdk/_transport/peer.py", "client_sdk._server.listen", "know nothing of a server on this machine"),
        ("export/network/layout.py", "export.settings", "A checkpoint goes up"),
        ("export/errors.py", "client_sdk", "The export and the client know nothing of each other"),
        ("export/sentences.py", "perf.texts", "Nothing that is shipped imports what measures or tests it"),
        (
            "client_sdk/_session.py",
            "tests.support.patience",
            "Nothing that is shipped imports what measures or tests it",
        ),
        ("client_sdk/_async_client.py", "client_sdk._server.run", "know nothing of a server on this machine"),
        ("export/network/network.py", "torch", "PyTorch is for the comparison alone"),
        ("perf/texts.py", "perf.load.command", "No two rooms"),
    ],
)
def test_a_forbidden_import_is_found(module: str, forbidden: str, contract: str, tmp_path: Path):
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__", "results"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / module).open("a") as file:
        file.write(f"\nimport {forbidden}\n")
    found = subprocess.run([sys.executable, "-c", LINT, "--no-cache"], cwd=tmp_path, capture_output=True, text=True)
    broken = [line for line in found.stdout.splitlines() if " BROKEN" in line]
    assert found.returncode == 1 and any(contract in line for line in broken), found.stdout


@pytest.mark.parametrize("path", sorted((ROOT / "model_repository").glob("bert_*/1/*.py")), ids=lambda path: path.name)
def test_a_step_imports_nothing_of_the_project_but_its_neighbours(path: Path):
    tree = ast.parse(path.read_text())
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {name.split(".")[0] for name in imported} & {*PACKAGES, "tests"}


@pytest.mark.parametrize("name", step_models.STEPS)
def test_a_step_is_imported_before_tritons_module_has_its_classes(name: str):
    step_models.load(name, SimpleNamespace(TRITONSERVER_RESPONSE_COMPLETE_FINAL=1))
