"""The alerts, by Prometheus' own promtool: what they say, when they fire and when they do not."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.support.docker_files import DASHBOARD, DOCKER, ROOT, RULES, expressions
from tests.support.prometheus import program


def promtool(*arguments: object) -> None:
    done = subprocess.run([program("promtool"), *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_are_valid():
    promtool("check", "rules", RULES)


def test_the_configuration_is_valid(tmp_path):
    text = (DOCKER / "prometheus" / "prometheus.yaml").read_text()
    assert "/etc/prometheus/rules.yaml" in text  # where compose.yaml mounts them
    file = tmp_path / "prometheus.yaml"
    file.write_text(text.replace("/etc/prometheus/rules.yaml", str(RULES)))
    promtool("check", "config", file)


def test_every_expression_of_the_dashboard_is_valid(tmp_path):
    dashboard = json.loads(DASHBOARD.read_text())
    rules = [
        {"record": f"panel:{place}", "expr": text}
        for place, (_, text) in enumerate(expressions(dashboard, family="bert", interval="1m"))
    ]
    file = tmp_path / "panels.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", file)


def test_what_waits_and_what_is_refused_is_read_where_the_encoder_counts_it():
    shown: dict[str, str] = {}
    for panel, text in expressions(json.loads(DASHBOARD.read_text()), family="bert", interval="1m"):
        shown[panel] = f"{shown.get(panel, '')} {text}"
    assert "bert_waiting_texts" in shown["Waiting"]
    assert "bert_refused_texts_total" in shown["Texts refused"]
    assert "nv_cache" not in " ".join(shown.values())  # no family has Triton's response cache


def test_every_alert_is_described_and_has_advice():
    advice = (ROOT / "docs" / "operations.md").read_text()
    alerts = [
        rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"] if "alert" in rule
    ]
    assert len(alerts) >= 6
    for rule in alerts:
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"]
        assert f"### {rule['alert']}\n" in advice


@pytest.mark.parametrize(
    ("alert", "series", "at", "fires"),
    [
        ("BertOnTritonDown", {'up{job="bert-on-triton", instance="a"}': "1x20"}, "5m", False),
        ("BertOnTritonDown", {'up{job="bert-on-triton", instance="a"}': "1x10 0x10"}, "5m", True),
        ("BertOnTritonDown", {'up{job="bert-on-triton", instance="a"}': "1x16 0x4"}, "5m", False),  # not for long
        ("BertOnTritonDown", {'up{job="another", instance="a"}': "1x20"}, "5m", True),  # none is scraped
        ("BertOnTritonStepFails", {"failure{bert_encoder, BACKEND}": "0+1x40"}, "10m", True),
        ("BertOnTritonStepFails", {"failure{bert_encoder, BACKEND}": "7x40"}, "10m", False),  # long ago
        ("BertOnTritonStepFails", {"failure{bert, OTHER}": "0+9x40"}, "10m", False),  # refused requests
        ("BertOnTritonErrors", {"failure{bert, OTHER}": "0+20x60", "success{bert}": "0+90x60"}, "15m", True),
        ("BertOnTritonErrors", {"failure{bert, OTHER}": "0+8x60", "success{bert}": "0+96x60"}, "15m", False),  # 4 %
        ("BertOnTritonErrors", {"failure{bert, OTHER}": "0+12x60", "success{bert}": "0+94x60"}, "15m", True),  # 6 %
        ("BertOnTritonErrors", {"failure{bert, OTHER}": "0x60", "success{bert}": "0x60"}, "15m", False),  # idle
        ("BertOnTritonSlow", {"p99{bert}": "1500000x40"}, "10m", True),
        ("BertOnTritonSlow", {"p99{bert}": "900000x40"}, "10m", False),
        ("BertOnTritonSlow", {"p99{bert_encoder}": "1500000x40"}, "10m", False),  # a step: its ensemble says it
        ("BertOnTritonQueueFull", {"pending{bert_encoder}": "600x20"}, "5m", True),
        ("BertOnTritonQueueFull", {"pending{bert_encoder}": "500x20"}, "5m", False),
        ("BertOnTritonQueueFull", {"waiting{bert}": "2100x20"}, "5m", True),
        ("BertOnTritonQueueFull", {"waiting{bert}": "2000x20", "pending{bert_encoder}": "5x20"}, "5m", False),
        ("BertOnTritonRefuses", {"refused{bert}": "0+64x40"}, "10m", True),
        ("BertOnTritonRefuses", {"refused{bert}": "640x40"}, "10m", False),  # long ago
        ("BertOnTritonRefuses", {"refused{bert}": "0x30 64x10"}, "10m", False),  # once
        ("BertOnTritonRefuses", {"waiting{bert}": "2100x40"}, "10m", False),  # it waits, and is served
        ("BertOnTritonVectorsNotFinite", {"not_finite{bert}": "0x30 1x10"}, "9m", True),
        ("BertOnTritonVectorsNotFinite", {"not_finite{bert}": "3x80"}, "15m", False),  # long ago
        ("BertOnTritonGatewayDown", {'up{job="bert-on-triton", instance="a"}': "1x20"}, "5m", False),  # there is none
        ("BertOnTritonGatewayDown", {'up{job="bert-on-triton-gateway", instance="a"}': "1x10 0x10"}, "5m", True),
        ("BertOnTritonGatewayFails", {"gateway{bert, 503}": "0+6x60", "gateway{bert, 200}": "0+94x60"}, "15m", True),
        ("BertOnTritonGatewayFails", {"gateway{bert, 503}": "0+4x60", "gateway{bert, 200}": "0+96x60"}, "15m", False),
        ("BertOnTritonGatewayFails", {"gateway{bert, 429}": "0+50x60", "gateway{bert, 200}": "0+5x60"}, "15m", False),
    ],
)
def test_an_alert_fires_when_it_should(alert: str, series: dict[str, str], at: str, fires: bool, tmp_path: Path):
    group = {
        "interval": "15s",
        "input_series": [{"series": _full(name), "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{alert}", alertstate="firing"}})',
                "eval_time": at,
                "exp_samples": [{"labels": "{}", "value": 1}] if fires else [],
            }
        ],
    }
    file = tmp_path / "test.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "15s", "tests": [group]}))
    promtool("test", "rules", file)


def test_the_autoscaler_s_figure_is_the_mean_wait_of_a_pod(tmp_path):
    labels = 'namespace="ns", pod="p", instance="a", job="bert-on-triton", version="1"'
    group = {
        "interval": "15s",
        "input_series": [
            # 10 requests of 50 ms and 30 of 10 ms in 15 s
            {"series": f'nv_inference_queue_duration_us{{model="bert_encoder", {labels}}}', "values": "0+500000x20"},
            {"series": f'nv_inference_request_success{{model="bert_encoder", {labels}}}', "values": "0+10x20"},
            {"series": f'nv_inference_queue_duration_us{{model="other_encoder", {labels}}}', "values": "0+300000x20"},
            {"series": f'nv_inference_request_success{{model="other_encoder", {labels}}}', "values": "0+30x20"},
            # a family whose encoder keeps its queue itself: 20 requests of 15 ms
            {"series": f'nv_inference_queue_duration_us{{model="own_encoder", {labels}}}', "values": "0+100000x20"},
            {"series": f'nv_inference_request_success{{model="own_encoder", {labels}}}', "values": "0+20x20"},
            {"series": f'bert_queue_duration_us{{model="own", {labels}}}', "values": "0+200000x20"},
            # one that is idle
            {"series": 'nv_inference_queue_duration_us{model="bert_encoder", pod="idle"}', "values": "5x20"},
            {"series": 'nv_inference_request_success{model="bert_encoder", pod="idle"}', "values": "1x20"},
        ],
        "promql_expr_test": [
            {
                "expr": "round(max by (pod) (bert_on_triton:queue_seconds:mean1m), 0.001)",
                "eval_time": "5m",
                "exp_samples": [{"labels": '{pod="p"}', "value": 0.018}, {"labels": '{pod="idle"}', "value": 0}],
            }
        ],
    }
    file = tmp_path / "test.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "15s", "tests": [group]}))
    promtool("test", "rules", file)


def _full(name: str) -> str:
    """A series of Triton's, from its short form above."""
    if name.startswith("up{"):
        return name
    kind, model, reason = re.fullmatch(r"(\w+)\{(\w+)(?:, (\w+))?\}", name).groups()  # type: ignore[union-attr]
    metric, extra = {
        "failure": ("nv_inference_request_failure", f', reason="{reason}"'),
        "success": ("nv_inference_request_success", ""),
        "pending": ("nv_inference_pending_request_count", ""),
        "waiting": ("bert_waiting_texts", ""),
        "refused": ("bert_refused_texts_total", ""),
        "not_finite": ("bert_not_finite_texts_total", ""),
        "gateway": ("bert_gateway_requests_total", f', status="{reason}", key="", route="/embed"'),
        "p99": ("nv_inference_request_summary_us", ', quantile="0.99"'),
    }[kind]
    return f'{metric}{{model="{model}", version="1", instance="a", job="bert-on-triton"{extra}}}'
