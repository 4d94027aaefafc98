"""The Helm chart, by Helm itself (its library) and Kubernetes' own schemas; no cluster is needed."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import helm_python as helm
import kubernetes_validate
import pytest
import yaml

from client_sdk._commands import gateway as command
from export.repository.encoder_config import QUEUE_TIMEOUT
from tests.support.docker_files import CHART, DASHBOARD, RULES

EXAMPLES = {path.stem: yaml.safe_load(path.read_text()) for path in sorted((CHART / "examples").glob("*.yaml"))}
LEAST = {"image": {"repository": "registry/bert"}, "repository": {"claim": "models"}}
EVERYTHING = EXAMPLES["gpu"] | {
    "repository": {"claim": "models", "subPath": "production"},
    "image": {"repository": "registry/bert", "pullSecrets": ["registry"]},
    "extraArgs": ["--log-verbose=1"],
    "encoderThreads": 6,
    "autoscaling": {"enabled": True, "cpuUtilization": 80},
    "disruptionBudget": {"maxUnavailable": "50%"},
    "podAnnotations": {"a": "b"},
    "runtimeClassName": "nvidia",
    "nodeSelector": {"gpu": "l40s"},
    "affinity": {"podAntiAffinity": {}},
    "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}],
}
GATEWAY = EVERYTHING | {
    "apiKey": {"secret": "server-key"},
    "gateway": {
        "enabled": True,
        "image": {"repository": "registry/gateway", "tag": "1"},
        "maxReplicas": 8,
        "keys": {"secret": "callers"},
        "tracesEndpoint": "http://collector.monitoring:4318",
        "extraArgs": ["--max-texts=4096"],
        "nodeSelector": {"pool": "web"},
        "tolerations": [{"key": "web", "operator": "Exists"}],
    },
}
LEAST_GATEWAY = LEAST | {"gateway": {"enabled": True, "image": {"repository": "registry/gateway"}}}
SETTINGS = {**EXAMPLES, "least": LEAST, "everything": EVERYTHING, "gateway": GATEWAY, "least gateway": LEAST_GATEWAY}
OPERATORS_OWN = ("ServiceMonitor", "PrometheusRule")
KUBERNETES = ("1.32", "1.37")  # the oldest and the newest that the schemas are for


def render(values: dict[str, Any], name: str = "prod") -> dict[str, dict[str, Any]]:
    """The objects of a release by kind; further ones of a kind, as the headless service, by kind and name."""
    with helm.Chart.load(CHART) as chart:
        chart.validate_schema(values)
        files = chart.render(values, name=name, namespace="search")
    objects: dict[str, dict[str, Any]] = {}
    for path, text in files.items():
        for found in yaml.safe_load_all(text) if path.endswith(".yaml") else ():
            if found:
                kind = found["kind"]
                objects[kind if kind not in objects else f"{kind} {found['metadata']['name']}"] = found
    return objects


def container(values: dict[str, Any]) -> dict[str, Any]:
    (only,) = render(values)["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert isinstance(only, dict)
    return only


@pytest.mark.parametrize("values", SETTINGS.values(), ids=SETTINGS)
def test_helm_lint_finds_nothing(values):
    report = helm.lint(CHART, values, strict=True)
    assert report["errors"] == []
    assert [message for message in report["messages"] if message["severity"] > 1] == []


@pytest.mark.parametrize("kubernetes", KUBERNETES)
@pytest.mark.parametrize("values", SETTINGS.values(), ids=SETTINGS)
def test_every_object_fits_the_schema_of_kubernetes(values, kubernetes):
    checked = [found for found in render(values).values() if found["kind"] not in OPERATORS_OWN]
    assert len(checked) >= 5
    for found in checked:
        kubernetes_validate.validate(found, kubernetes, strict=True)


def test_a_name_that_reads_as_a_number_is_a_name():
    numbers = GATEWAY | {
        "image": {"repository": "registry/bert", "pullSecrets": ["1"]},
        "repository": {"claim": "2", "subPath": "3"},
        "apiKey": {"secret": "4", "key": "5"},
        "gateway": GATEWAY["gateway"] | {"keys": {"secret": "6", "key": "7"}},
        "runtimeClassName": "8",
    }
    for found in render(numbers, name="20261127").values():
        if found["kind"] not in OPERATORS_OWN:
            kubernetes_validate.validate(found, KUBERNETES[0], strict=True)


@pytest.mark.parametrize("cores", [0.5, "500m", 1])
def test_quantities_may_be_numbers_as_in_kubernetes(cores):
    resources = {"requests": {"cpu": cores, "memory": "1Gi"}}
    deployment = of_gateway(LEAST_GATEWAY | {"gateway": LEAST_GATEWAY["gateway"] | {"resources": resources}})[
        "Deployment"
    ]
    (gateway,) = deployment["spec"]["template"]["spec"]["containers"]
    assert gateway["resources"]["requests"] == resources["requests"]


def test_the_schema_of_kubernetes_would_find_a_mistake():
    deployment = render(LEAST)["Deployment"]
    deployment["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, KUBERNETES[0], strict=True)


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({}, "/image/repository"),
        ({"repository": {"claim": "a"}}, "/image/repository"),
        (LEAST | {"repository": {}}, "/repository"),
        (LEAST | {"repository": {"claim": "a", "image": "b"}}, "/repository"),
        (LEAST | {"replicaz": 2}, "replicaz"),
        (LEAST | {"gpus": "one"}, "/gpus"),
        (LEAST | {"extraArgs": ["http-port=1"]}, "/extraArgs"),
        (LEAST | {"sharedMemory": "plenty"}, "/sharedMemory"),
        (LEAST | {"encoderThreads": -1}, "/encoderThreads"),
        (LEAST | {"encoderThreads": "4"}, "/encoderThreads"),
        (LEAST | {"repository": {"claim": "a", "subPath": "/absolute"}}, "/repository"),
        (LEAST | {"repository": {"image": "a", "subPath": "production"}}, "/repository"),
        (LEAST | {"gateway": {"enabled": True}}, "/gateway"),
        (LEAST | {"gateway": {"enabled": True, "image": {}}}, "/gateway/image"),
        (LEAST | {"gateway": {"keys": {"secret": "A B"}}}, "/gateway/keys/secret"),
        (LEAST | {"gateway": {"tracesEndpoint": "http://collector"}}, "/gateway/tracesEndpoint"),
        (LEAST | {"serviceMonitor": {"interval": "60s"}}, "/serviceMonitor/interval"),
        (LEAST | {"serviceMonitor": {"interval": "1m"}}, "/serviceMonitor/interval"),
        (LEAST | {"probes": {"liveness": {"timeoutSeconds": 1}}}, "/probes/liveness/timeoutSeconds"),
    ],
)
def test_wrong_values_are_refused_by_name(values, what):
    with helm.Chart.load(CHART) as chart, pytest.raises(helm.HelmValuesError, match=what):
        chart.validate_schema(values)


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"drainSeconds": 60}, "drainSeconds is 60: below terminationGracePeriodSeconds, which is 60"),
        ({"autoscaling": {"enabled": True, "minReplicas": 9}}, "minReplicas is 9: at most autoscaling.maxReplicas"),
        ({"gateway": LEAST_GATEWAY["gateway"] | {"maxReplicas": 1}}, "replicas is 2: at most gateway.maxReplicas"),
    ],
)
def test_values_that_do_not_go_together_are_refused_by_name(values, what):
    with pytest.raises(helm.HelmRenderError, match=what):
        render(LEAST | values)


def test_the_schema_knows_every_value():
    with helm.Chart.load(CHART) as chart:
        defaults, schema = chart.values, chart.schema

    def compare(values: dict[str, Any], part: dict[str, Any], place: str) -> None:
        for name, value in values.items():
            assert name in part["properties"], place + name
            if isinstance(value, dict) and "properties" in part["properties"][name]:
                compare(value, part["properties"][name], f"{place}{name}.")

    compare(defaults, schema if isinstance(schema, dict) else yaml.safe_load(schema), "")


def of_gateway(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The objects that a release with a gateway has more than one without, by kind."""
    without = {found["metadata"]["name"] for found in render(values | {"gateway": {"enabled": False}}).values()}
    found = {name: one for name, one in render(values).items() if one["metadata"]["name"] not in without}
    return {one["kind"]: one for one in found.values()}


def test_a_gateway_has_pods_services_and_policies_of_its_own():
    objects = of_gateway(GATEWAY)
    assert set(objects) == {
        *("Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy", "ServiceMonitor")
    }
    labels = objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
    for selector in (
        objects["Deployment"]["spec"]["selector"]["matchLabels"],
        objects["Service"]["spec"]["selector"],
        objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        objects["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        objects["ServiceMonitor"]["spec"]["selector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
    servers = render(EVERYTHING)
    assert not servers["Service"]["spec"]["selector"].items() <= labels.items()
    assert objects["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == "prod-bert-on-triton-gateway"
    assert "replicas" not in objects["Deployment"]["spec"]
    assert of_gateway(LEAST_GATEWAY)["Deployment"]["spec"]["replicas"] == 2
    assert "HorizontalPodAutoscaler" not in of_gateway(LEAST_GATEWAY)


def test_a_gateway_runs_on_nodes_of_its_own():
    def places(objects: dict[str, dict[str, Any]]) -> tuple[Any, Any]:
        pod = objects["Deployment"]["spec"]["template"]["spec"]
        return pod.get("nodeSelector"), pod.get("tolerations")

    own = GATEWAY["gateway"]
    assert places(of_gateway(GATEWAY)) == (own["nodeSelector"], own["tolerations"])
    assert places(render(EVERYTHING)) == (EVERYTHING["nodeSelector"], EVERYTHING["tolerations"])
    assert places(of_gateway(EVERYTHING | LEAST_GATEWAY)) == (None, None)


def test_a_gateway_asks_all_servers_and_reaches_nothing_but_its_collector():
    objects, servers = of_gateway(GATEWAY), render(EVERYTHING)
    (gateway,) = objects["Deployment"]["spec"]["template"]["spec"]["containers"]
    environment = {entry["name"]: entry["value"] for entry in gateway["env"]}
    headless = servers["Service prod-bert-on-triton-headless"]["metadata"]["name"]
    assert environment["CLIENT_SDK_URL"] == f"{headless}:8001"
    assert environment["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://collector.monitoring:4318"
    asked, names, spans = objects["NetworkPolicy"]["spec"]["egress"]
    assert spans == {"ports": [{"protocol": "TCP", "port": 4318}]}
    assert of_gateway(LEAST_GATEWAY)["NetworkPolicy"]["spec"]["egress"] == [asked, names]
    (to,) = asked["to"]
    assert (
        to["podSelector"]["matchLabels"].items()
        <= servers["Deployment"]["spec"]["template"]["metadata"]["labels"].items()
    )
    assert {port["port"] for port in names["ports"]} == {53}


def of_server(values: dict[str, Any]) -> Any:
    """What may reach the server and what it may reach."""
    policies = [found for found in render(values).values() if found["kind"] == "NetworkPolicy"]
    (own,) = [policy["spec"] for policy in policies if policy["metadata"]["name"] == "prod-bert-on-triton"]
    return own


@pytest.mark.parametrize("values", [GATEWAY, LEAST_GATEWAY], ids=["clients elsewhere", "least"])
def test_the_servers_let_a_gateway_in_wherever_their_clients_are(values):
    pods = of_gateway(values)["Deployment"]["spec"]["template"]["metadata"]["labels"].items()
    (let_in,) = [
        rule
        for rule in of_server(values)["ingress"]
        if any(
            peer.get("podSelector", {}).get("matchLabels") and peer["podSelector"]["matchLabels"].items() <= pods
            for peer in rule["from"]
        )
    ]
    assert let_in["ports"] == [{"protocol": "TCP", "port": "grpc"}]  # the metrics stay closed to it
    assert len(of_server(values | {"gateway": {"enabled": False}})["ingress"]) == 2


@pytest.mark.parametrize("values", [GATEWAY, LEAST_GATEWAY], ids=["all", "least"])
def test_what_a_gateway_is_started_with_is_an_option_of_the_command(values):
    pod = of_gateway(values)["Deployment"]["spec"]["template"]["spec"]
    (gateway,) = pod["containers"]
    program, *arguments = gateway["args"][3:]
    assert gateway["args"][:3] == ["python3", "-m", "client_sdk"] and program == "gateway"
    parsed = argparse.ArgumentParser()
    command.add_arguments(parsed)
    options = parsed.parse_args(arguments)
    assert options.listen == "0.0.0.0:8080" and gateway["ports"][0]["containerPort"] == 8080
    mounted = {mount["mountPath"] for mount in gateway.get("volumeMounts", ())}
    assert {str(Path(file).parent) for file in (options.keys, options.triton_api_key_file) if file} == mounted
    assert bool(mounted) == (values is GATEWAY)
    assert {mount["name"] for mount in gateway.get("volumeMounts", ())} == {
        volume["name"] for volume in pod.get("volumes") or ()
    }


def test_services_budget_policy_and_monitor_select_the_pods():
    objects = render(EVERYTHING)
    labels = objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
    service = objects["Service"]
    selectors = [
        objects["Deployment"]["spec"]["selector"]["matchLabels"],
        service["spec"]["selector"],
        objects["Service prod-bert-on-triton-headless"]["spec"]["selector"],
        objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        objects["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ]
    for selector in selectors:
        assert selector and selector.items() <= labels.items()
        assert not {"app.kubernetes.io/version", "helm.sh/chart"} & set(selector)  # it cannot change in an upgrade
    monitored = objects["ServiceMonitor"]["spec"]["selector"]["matchLabels"].items()
    assert monitored <= service["metadata"]["labels"].items()
    assert not monitored <= objects["Service prod-bert-on-triton-headless"]["metadata"]["labels"].items()
    assert objects["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == "prod-bert-on-triton"


def test_one_service_gives_the_addresses_of_all_replicas():
    assert render(LEAST)["Service prod-bert-on-triton-headless"]["spec"]["clusterIP"] == "None"


def test_ports_and_volumes_that_are_named_exist():
    objects = render(EVERYTHING)
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    server = pod["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in server["ports"]}
    assert ports == {"http": 8000, "grpc": 8001, "metrics": 8002}
    used = {port["targetPort"] for port in objects["Service"]["spec"]["ports"]}
    used |= {port["port"] for rule in objects["NetworkPolicy"]["spec"]["ingress"] for port in rule["ports"]}
    used |= {server[probe]["httpGet"]["port"] for probe in ("startupProbe", "readinessProbe")}
    assert used == set(ports)
    volumes = {volume["name"] for volume in pod["volumes"]}
    assert {mount["name"] for mount in server["volumeMounts"]} == volumes


def test_pods_have_no_rights_and_write_nowhere_but_to_memory_and_temporary_files():
    gateway = of_gateway(GATEWAY)["Deployment"]["spec"]["template"]["spec"]
    servers = [render(values)["Deployment"]["spec"]["template"]["spec"] for values in (EXAMPLES["cpu"], EVERYTHING)]
    for pod in (gateway, *servers):
        assert pod["securityContext"]["runAsNonRoot"] and not pod["automountServiceAccountToken"]
        for each in (*pod["containers"], *pod.get("initContainers", ())):
            assert each["securityContext"]["readOnlyRootFilesystem"]
            assert each["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert not each["securityContext"]["allowPrivilegeEscalation"]
    assert all(mount["readOnly"] for mount in gateway["containers"][0]["volumeMounts"])
    for pod in servers:
        mounts = pod["containers"][0]["volumeMounts"]
        assert {mount["mountPath"] for mount in mounts if not mount.get("readOnly")} == {"/dev/shm", "/tmp"}


def test_the_models_come_from_a_claim_or_are_copied_out_of_an_image():
    claimed = render(LEAST)["Deployment"]["spec"]["template"]["spec"]
    assert claimed["volumes"][0]["persistentVolumeClaim"] == {"claimName": "models", "readOnly": True}
    assert "initContainers" not in claimed
    copied = render(EXAMPLES["cpu"])["Deployment"]["spec"]["template"]["spec"]
    (init,) = copied["initContainers"]
    assert init["image"] == EXAMPLES["cpu"]["repository"]["image"]
    assert init["volumeMounts"][0]["name"] == copied["volumes"][0]["name"]
    assert "emptyDir" in copied["volumes"][0]


def mount_of_the_models(values: dict[str, Any]) -> dict[str, Any]:
    (found,) = [mount for mount in container(values)["volumeMounts"] if mount["name"] == "models"]
    assert isinstance(found, dict)
    return found


def test_the_repository_is_a_directory_in_the_volume_and_not_its_root():
    assert mount_of_the_models(LEAST)["subPath"] == "repository"
    assert mount_of_the_models(EVERYTHING)["subPath"] == "production"
    assert "subPath" not in mount_of_the_models(EXAMPLES["cpu"])  # a copy: there is nothing else in its volume


@pytest.mark.parametrize("values", SETTINGS.values(), ids=SETTINGS)
def test_a_pod_has_whole_cores_and_no_more_than_it_asks_for(values):
    resources = container(values)["resources"]
    assert resources["limits"]["cpu"] == resources["requests"]["cpu"]
    assert int(resources["limits"]["cpu"]) >= 1


def test_the_threads_of_the_encoder_are_its_own_choice_or_that_of_the_values():
    def threads(values: dict[str, Any]) -> list[str]:
        return [entry["value"] for entry in container(values)["env"] if entry["name"] == "BERT_ENCODER_THREADS"]

    assert threads(LEAST) == []
    assert threads(EVERYTHING) == ["6"]


def test_no_value_turns_the_response_cache_on():
    assert "cache" not in "".join(path.read_text() for path in CHART.rglob("*.yaml")).lower()


def test_probes_are_readiness_and_a_real_request_that_is_slow_to_judge():
    server = container(LEAST)
    assert server["readinessProbe"]["httpGet"]["path"] == "/v2/health/ready"
    assert server["startupProbe"]["periodSeconds"] * server["startupProbe"]["failureThreshold"] >= 600
    liveness = server["livenessProbe"]
    command = liveness["exec"]["command"]
    assert command[:4] == ["python3", "-m", "client_sdk", "health"]
    assert QUEUE_TIMEOUT < float(command[command.index("--timeout") + 1]) < liveness["timeoutSeconds"]
    assert liveness["periodSeconds"] * liveness["failureThreshold"] >= 60


def test_the_pod_has_time_to_leave_the_service_and_to_answer_what_it_began():
    pod = render(LEAST)["Deployment"]["spec"]["template"]["spec"]
    (_, drain) = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert pod["terminationGracePeriodSeconds"] >= float(drain) + 20  # what LocalServer.stop may take


def test_a_key_is_mounted_and_the_probe_uses_it():
    server = container(EXAMPLES["gpu"])
    (file,) = [entry["value"] for entry in server["env"] if entry["name"] == "API_KEY_FILE"]
    assert any(Path(file).parent == Path(mount["mountPath"]) for mount in server["volumeMounts"])
    assert server["livenessProbe"]["exec"]["command"][-2:] == ["--api-key-file", file]
    assert "API_KEY_FILE" not in {entry["name"] for entry in container(LEAST)["env"]}


def test_gpus_are_limits_and_are_not_asked_for_twice_in_a_rollout():
    assert container(EXAMPLES["gpu"])["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert render(EXAMPLES["gpu"])["Deployment"]["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 0
    assert "nvidia.com/gpu" not in container(LEAST)["resources"]["limits"]
    assert render(LEAST)["Deployment"]["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_options_reach_the_server_after_the_entry_point_of_the_image():
    server = container(EVERYTHING)
    assert "command" not in server
    assert server["args"] == ["python3", "/opt/bert-on-triton/serve.py", *EVERYTHING["extraArgs"]]


def test_the_autoscaler_has_the_replicas_to_itself():
    assert render(LEAST)["Deployment"]["spec"]["replicas"] == 2
    assert "replicas" not in render(EXAMPLES["gpu"])["Deployment"]["spec"]
    (metric, *_) = render(EXAMPLES["gpu"])["HorizontalPodAutoscaler"]["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == "bert_on_triton_queue_seconds"


def test_the_operator_gets_the_rules_and_grafana_the_dashboard_that_compose_uses():
    objects = render(EXAMPLES["gpu"])
    assert objects["PrometheusRule"]["spec"] == yaml.safe_load(RULES.read_text())
    assert objects["ConfigMap"]["data"]["bert-on-triton.json"] == DASHBOARD.read_text()
    monitor = objects["ServiceMonitor"]
    job = monitor["spec"]["jobLabel"]
    assert objects["Service"]["metadata"]["labels"][job] == "bert-on-triton"  # as the rules have it
    assert monitor["spec"]["endpoints"][0]["port"] in {port["name"] for port in objects["Service"]["spec"]["ports"]}


def test_the_notes_name_the_addresses_and_what_is_open():
    with helm.Chart.load(CHART) as chart:
        notes = chart.render(LEAST, name="prod", namespace="search")["bert-on-triton/templates/NOTES.txt"]
        closed = chart.render(EXAMPLES["gpu"], name="prod")["bert-on-triton/templates/NOTES.txt"]
        through, kept = (
            chart.render(values, name="prod", namespace="search")["bert-on-triton/templates/NOTES.txt"]
            for values in (EXAMPLES["gpu"] | LEAST_GATEWAY, GATEWAY)
        )
    assert "prod-bert-on-triton-headless.search:8001" in notes
    assert "No key is asked for" in notes
    assert "No key is asked for" not in closed and "--api-key-file" in closed
    assert "gateway" not in notes.lower()
    assert "http://prod-bert-on-triton-gateway.search:8080/v1" in through
    assert "The gateway asks for no key" in through and "it sends the server's key itself." in through
    assert "http://prod-bert-on-triton-gateway.search:8080/v1" in kept and "The gateway asks for no key" not in kept


def test_a_long_release_name_still_makes_names_that_kubernetes_takes():
    names = [found["metadata"]["name"] for found in render(LEAST, name="a" * 53).values()]
    assert max(map(len, names)) <= 63
