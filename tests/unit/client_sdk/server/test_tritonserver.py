import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from client_sdk import LocalServer
from client_sdk._errors import ServerStartError, TritonServerNotFound
from client_sdk._server import tritonserver
from client_sdk._server.tritonserver import TritonServer, find_tritonserver
from tests.support.servers.local_servers import UPPER, make_model

MINOR = f"{sys.version_info[0]}.{sys.version_info[1]}"


def make_program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def make_wheel(site_packages: Path) -> Path:
    """The files of nvidia-pytriton that matter here, and numpy's metadata; returns the program."""
    root = site_packages / "pytriton" / "tritonserver"
    (site_packages / "nvidia_pytriton.libs").mkdir(parents=True)
    (site_packages / "pytriton").mkdir()
    (site_packages / "pytriton" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    make_program(root / "python_backend_stubs" / MINOR / "triton_python_backend_stub")
    for name in ("libtriton_python.so", "triton_python_backend_utils.py"):
        make_program(root / "backends" / "python" / name)
    set_numpy(site_packages, "1.26.4")
    return make_program(root / "bin" / "tritonserver")


def set_numpy(site_packages: Path, version: str) -> None:
    for old in site_packages.glob("numpy-*.dist-info"):
        (old / "METADATA").unlink()
        old.rmdir()
    info = site_packages / f"numpy-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: numpy\nVersion: {version}\n")


@pytest.fixture
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No tritonserver anywhere; the directory given is first on sys.path, and the only one with packages."""
    site_packages = tmp_path / "site-packages"
    site_packages.mkdir()
    kept = [entry for entry in sys.path if "site-packages" not in entry and "dist-packages" not in entry]
    monkeypatch.setattr(sys, "path", [str(site_packages), *kept])
    monkeypatch.delitem(sys.modules, "pytriton", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(tritonserver, "_CONTAINER_EXECUTABLE", tmp_path / "opt" / "bin" / "tritonserver")
    return site_packages


def set_machine(monkeypatch: pytest.MonkeyPatch, system: str, machine: str, python: tuple[int, int]) -> None:
    monkeypatch.setattr(sys, "platform", "linux" if system == "Linux" else "darwin")
    monkeypatch.setattr("platform.system", lambda: system)
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr("platform.python_version", lambda: f"{python[0]}.{python[1]}.0")
    monkeypatch.setattr(sys, "version_info", (*python, 0, "final", 0))


def test_places_are_looked_at_in_order(bare_machine: Path, tmp_path: Path):
    wheel = make_wheel(bare_machine)
    assert find_tritonserver().executable == wheel
    container = make_program(tmp_path / "opt" / "bin" / "tritonserver")
    assert find_tritonserver().executable == container
    on_path = make_program(tmp_path / "bin" / "tritonserver")
    assert find_tritonserver().executable == on_path
    explicit = make_program(tmp_path / "mine")
    assert find_tritonserver(explicit).executable == explicit
    assert find_tritonserver(str(explicit)).executable == explicit


def test_a_complete_server_is_started_as_it_is_with_its_own_backends(bare_machine: Path, tmp_path: Path):
    executable = make_program(tmp_path / "opt" / "bin" / "tritonserver")
    (tmp_path / "opt" / "backends").mkdir()
    server = find_tritonserver()
    assert server.arguments(tmp_path) == [
        str(executable),
        f"--backend-directory={tmp_path / 'opt' / 'backends'}",
    ]
    always = {
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
        "MALLOC_TRIM_THRESHOLD_": "131072",
        "ORT_DISABLE_TELEMETRY": "1",
    }
    assert server.environment({"PATH": "/bin"}) == {"PATH": "/bin"} | always
    assert server.environment({"MALLOC_TRIM_THRESHOLD_": "0"}) == always | {"MALLOC_TRIM_THRESHOLD_": "0"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "glibc.malloc.hugetlb=1"),
        ("glibc.malloc.hugetlb=0", "glibc.malloc.hugetlb=0"),
        ("glibc.malloc.arena_max=2", "glibc.malloc.arena_max=2:glibc.malloc.hugetlb=1"),
    ],
)
def test_huge_pages_are_asked_for_beside_what_else_is_set_of_glibc(tmp_path: Path, before: str, after: str):
    server = TritonServer(make_program(tmp_path / "tritonserver"))
    assert server.environment({"GLIBC_TUNABLES": before})["GLIBC_TUNABLES"] == after


def test_the_wheels_python_backend_is_put_together(bare_machine: Path, tmp_path: Path):
    executable = make_wheel(bare_machine)
    server = find_tritonserver()
    directory = tmp_path / "run"
    directory.mkdir()
    assert server.arguments(directory) == [str(executable), f"--backend-directory={directory / 'backends'}"]
    python = directory / "backends" / "python"
    root = executable.parent.parent
    assert {path.name: path.resolve() for path in python.iterdir()} == {
        "libtriton_python.so": root / "backends" / "python" / "libtriton_python.so",
        "triton_python_backend_utils.py": root / "backends" / "python" / "triton_python_backend_utils.py",
        "triton_python_backend_stub": root / "python_backend_stubs" / MINOR / "triton_python_backend_stub",
    }


def test_two_servers_of_the_wheel_have_a_directory_each(bare_machine: Path, tmp_path: Path):
    make_wheel(bare_machine)
    server = find_tritonserver()
    commands = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        commands.append(server.arguments(tmp_path / name))
    assert commands[0] != commands[1]


def test_the_wheels_environment_has_its_libraries_and_this_python_first(bare_machine: Path):
    make_wheel(bare_machine)
    environment = find_tritonserver().environment({"PATH": "/bin", "LD_LIBRARY_PATH": "/mine", "OTHER": "kept"})
    assert environment["PATH"] == f"{Path(sys.executable).parent}{os.pathsep}/bin"
    libraries = environment["LD_LIBRARY_PATH"].split(os.pathsep)
    assert (libraries[0], libraries[-1]) == (str(bare_machine / "nvidia_pytriton.libs"), "/mine")
    assert environment["OTHER"] == "kept"


def test_the_wheels_program_given_by_path_is_known_as_such(bare_machine: Path, tmp_path: Path):
    executable = make_wheel(bare_machine)
    (tmp_path / "link").symlink_to(executable)
    assert find_tritonserver(tmp_path / "link") == find_tritonserver()


@pytest.mark.skipif(importlib.util.find_spec("pytriton") is None, reason="nvidia-pytriton is not installed")
def test_the_package_is_found_without_being_imported():
    code = (
        "import sys; from client_sdk._server.tritonserver import _wheel_executable; "
        "print(_wheel_executable().is_file(), 'pytriton' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["True", "False"]


def test_nothing_found_says_where_it_was_looked_for_and_what_to_install(
    bare_machine: Path, tmp_path: Path, monkeypatch
):
    set_machine(monkeypatch, "Linux", "x86_64", (3, 11))
    with pytest.raises(TritonServerNotFound) as error:
        find_tritonserver()
    message = str(error.value)
    for place in ("PATH", str(tmp_path / "opt" / "bin" / "tritonserver"), "nvidia-pytriton", sys.executable):
        assert place in message
    assert message.endswith("Install it with: pip install 'bert-on-triton[server]'")


def test_of_tritonserver_and_psutil_the_one_that_only_some_machines_can_have_is_told_first(
    bare_machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    set_machine(monkeypatch, "Linux", "x86_64", (3, 11))
    monkeypatch.setitem(sys.modules, "psutil", None)
    make_model(tmp_path / "models", "upper", UPPER)
    server = LocalServer(tmp_path / "models", supervise=True)
    with pytest.raises(TritonServerNotFound):
        server.start()
    make_program(tmp_path / "bin" / "tritonserver")
    with pytest.raises(ServerStartError) as error:
        server.start()
    assert str(error.value) == (
        "psutil is missing, which looks after a server. Install it with: pip install 'bert-on-triton[server]'"
    )


@pytest.mark.parametrize(
    ("system", "machine", "python", "reason"),
    [
        ("Darwin", "arm64", (3, 11), "for Linux x86-64 only, and this is Python 3.11.0 on Darwin arm64"),
        ("Linux", "aarch64", (3, 11), "for Linux x86-64 only, and this is Python 3.11.0 on Linux aarch64"),
        ("Linux", "x86_64", (3, 13), "Python 3.10-3.12 only .*, and this is Python 3.13.0 on Linux x86_64"),
    ],
)
def test_where_the_package_is_not_for_the_message_says_so(
    bare_machine: Path, monkeypatch, system: str, machine: str, python: tuple[int, int], reason: str
):
    set_machine(monkeypatch, system, machine, python)
    with pytest.raises(TritonServerNotFound, match=reason) as error:
        find_tritonserver()
    assert "pip install" not in str(error.value)
    assert "container" in str(error.value)


def test_numpy_2_is_refused_with_what_to_do(bare_machine: Path):
    make_wheel(bare_machine)
    set_numpy(bare_machine, "2.1.0")
    with pytest.raises(ServerStartError, match=r"numpy 1\.26 only, and numpy 2\.1\.0 is installed.*pip install 'numpy"):
        find_tritonserver()


def test_numpy_2_does_not_matter_to_a_complete_server(bare_machine: Path, tmp_path: Path):
    set_numpy(bare_machine, "2.1.0")
    assert find_tritonserver(make_program(tmp_path / "opt" / "bin" / "tritonserver"))


def test_a_python_that_the_wheel_has_no_backend_for_is_named(bare_machine: Path):
    executable = make_wheel(bare_machine)
    (executable.parent.parent / "python_backend_stubs" / MINOR / "triton_python_backend_stub").unlink()
    with pytest.raises(ServerStartError, match=rf"no Python backend for Python {MINOR}"):
        find_tritonserver()


def test_a_python_without_its_shared_library_is_told_what_to_install(bare_machine: Path, tmp_path: Path, monkeypatch):
    make_wheel(bare_machine)
    monkeypatch.setattr("sysconfig.get_config_var", lambda name: str(tmp_path))
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    with pytest.raises(ServerStartError, match=rf"libpython{MINOR}\.so\.1\.0.*apt install libpython{MINOR}"):
        find_tritonserver()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.mkdir(), "is a directory"),
        (lambda path: path.touch(), "is not executable"),
    ],
)
def test_a_program_that_cannot_be_started_is_named(tmp_path: Path, make, reason: str):
    path = tmp_path / "tritonserver"
    make(path)
    with pytest.raises(TritonServerNotFound, match=rf"{path}' {reason}"):
        find_tritonserver(path)
    with pytest.raises(FileNotFoundError):
        find_tritonserver(path)
