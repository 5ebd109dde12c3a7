"""What Prometheus and Grafana are given: by Prometheus' own checker, and by our metrics."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from ssn_agent.metrics.exposition import registry
from ssn_contract.metrics import StationMetrics
from support.headings import headings

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy" / "prometheus"
RULES = DEPLOY / "ssn-inspect.rules.yml"
TESTS = DEPLOY / "ssn-inspect.rules.test.yml"
DASHBOARD = ROOT / "deploy" / "grafana" / "ssn-inspect.json"
GOLDEN = ROOT / "tests/contract/golden/metrics/valid/online.json"

OF_PROMETHEUS = {"job", "instance"}
NAME = re.compile(r"\b((?:ssn|process)_\w+|up)\b(?:\{([^}]*)\})?")
MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
NAMED = re.compile(r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\(([^)]*)\)")
GRAFANA = {"$__rate_interval": "5m", "$station": ".*", "$camera": ".*"}


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def targets() -> list[dict[str, Any]]:
    panels = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    return [target for panel in panels for target in panel.get("targets", [])]


@pytest.fixture(scope="module")
def exported() -> dict[str, set[str]]:
    """Return the labels of each metric that the agent exports, by name."""
    metrics = StationMetrics.model_validate_json(GOLDEN.read_text("utf-8"))
    text = generate_latest(registry(lambda: metrics, {"top": 0.5})).decode()
    found: dict[str, set[str]] = {"up": set()}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def promtool(*arguments: str | Path) -> None:
    done = subprocess.run(["promtool", *arguments], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def unknown(expression: str, exported: dict[str, set[str]], shown: str = "") -> set[str]:
    """Return which metrics and labels of an expression, and labels in a text, there are not."""
    wrong, labels = set(), set(OF_PROMETHEUS)
    for name, matchers in NAME.findall(expression):
        known = exported.get(name)
        if known is None:
            wrong.add(name)
            continue
        wrong |= {f"{name}.{label}" for label in MATCHER.findall(matchers)} - {
            f"{name}.{label}" for label in known | OF_PROMETHEUS
        }
        labels |= known
    asked = {label.strip() for found in NAMED.findall(expression) for label in found.split(",")}
    asked |= set(re.findall(r"\{\{ ?(?:\$labels\.)?([a-z]\w*) ?\}\}", shown))
    return wrong | (asked - labels)


@pytest.mark.needs("promtool")
def test_each_alert_fires_on_its_fault_and_none_on_a_station_that_is_well() -> None:
    promtool("test", "rules", TESTS)


def test_no_alert_is_without_a_fault_that_it_is_tried_on() -> None:
    fired = set(re.findall(r'alertname="(\w+)"', TESTS.read_text("utf-8")))
    assert fired == {rule["alert"] for rule in rules()}


@pytest.mark.needs("promtool")
def test_the_example_for_prometheus_is_one_that_it_takes() -> None:
    promtool("check", "config", DEPLOY / "prometheus.yml")


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: str(rule["alert"]))
def test_an_alert_says_how_grave_it_is_and_where_the_manual_says_what_to_do(
    rule: dict[str, Any], exported: dict[str, set[str]]
) -> None:
    notes = rule["annotations"]
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert set(notes) == {"summary", "description", "runbook"}
    page, _, section = notes["runbook"].partition("#")
    assert section in headings(ROOT / page)
    assert unknown(rule["expr"], exported, " ".join(notes.values())) == set()


def test_the_series_that_alerts_are_tried_on_are_like_the_agents(
    exported: dict[str, set[str]],
) -> None:
    series = re.findall(r"series: '(\w+)\{([^}]*)\}'", TESTS.read_text("utf-8"))
    assert len(series) > 50
    for name, labels in series:
        assert set(MATCHER.findall(labels)) == exported[name] | OF_PROMETHEUS, name


@pytest.mark.needs("promtool")
def test_prometheus_takes_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    records = [{"record": f"panel:{i}", "expr": e} for i, e in enumerate(expressions())]
    file = tmp_path / "dashboard.rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": records}]}))
    promtool("check", "rules", file)


def expressions() -> Iterator[str]:
    for target in targets():
        expression = str(target["expr"])
        for variable, value in GRAFANA.items():
            expression = expression.replace(variable, value)
        assert "$" not in expression
        yield expression


def test_the_dashboard_asks_for_what_the_agent_exports(exported: dict[str, set[str]]) -> None:
    for target in targets():
        assert unknown(target["expr"], exported, target["legendFormat"]) == set()
    shown = {name for target in targets() for name, _ in NAME.findall(target["expr"])}
    assert {"ssn_verdicts_total", "ssn_recent_latency_seconds", "ssn_disk_free_bytes"} <= shown


def test_the_dashboard_asks_the_chosen_prometheus_for_the_chosen_stations() -> None:
    dashboard = json.loads(DASHBOARD.read_text("utf-8"))
    names = [variable["name"] for variable in dashboard["templating"]["list"]]
    assert names == ["datasource", "station", "camera"]
    assert {target["datasource"]["uid"] for target in targets()} == {"${datasource}"}
    assert all("$station" in target["expr"] for target in targets())
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))


def test_a_name_or_label_that_the_agent_does_not_export_is_noticed(
    exported: dict[str, set[str]],
) -> None:
    assert unknown("ssn_alarm > 0", exported) == {"ssn_alarm"}
    assert unknown('ssn_alarms{camera="top"}', exported) == {"ssn_alarms.camera"}
    assert unknown("sum by (camera) (ssn_alarms)", exported, "{{ $labels.line }}") == {
        *("camera", "line")
    }
