"""Alerts and panels are about metrics that exist; each alert is tested, and has a section that says what to do."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

ROOT: Final = Path(__file__).parents[3]
FOLDER: Final = ROOT / "deploy" / "prometheus"
MODULES: Final = (
    "services.runtime.observe.metrics", "services.ingest.metrics", "services.sequencer.metrics",
    "services.projector.metrics", "services.query.metrics", "services.live.metrics",
)  # fmt: skip
SUFFIXES: Final = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}
OF_PROMETHEUS: Final = {"instance", "job", "le"}
_METRIC: Final = re.compile(r"\bgapless_[a-z_]+")
_LABELS: Final = re.compile(r"by \(([^)]*)\)")
_MATCHERS: Final = re.compile(r"(gapless_[a-z_]+)\{([^}]*)\}")


def _yaml(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))


RULES: Final[list[dict[str, Any]]] = [rule for group in _yaml("alerts.yaml")["groups"] for rule in group["rules"]]
TESTS: Final[list[dict[str, Any]]] = _yaml("alerts_test.yaml")["tests"]


@cache
def _labels_of() -> dict[str, set[str]]:
    """Return metric, as it is exposed → its labels."""
    found: dict[str, set[str]] = {}
    for module in MODULES:
        for metric in vars(importlib.import_module(module)).values():
            if isinstance(metric, MetricWrapperBase):
                name, labels = metric._name, {*metric._labelnames, *OF_PROMETHEUS}
                suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}.get(
                    metric._type or "", ("",)
                )
                found |= {name + suffix: labels for suffix in suffixes}
    return found


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_is_about_metrics_and_labels_that_exist(rule: dict[str, Any]) -> None:
    _check_expression(rule["expr"])


def _check_expression(expression: str) -> None:
    names = _METRIC.findall(expression)
    assert names
    assert set(names) <= _labels_of().keys(), expression
    for by in _LABELS.findall(expression):
        for label in re.findall(r"\w+", by):
            assert all(label in _labels_of()[name] for name in names), (expression, label)
    for name, matchers in _MATCHERS.findall(expression):
        assert set(re.findall(r"(\w+)[=!]", matchers)) <= _labels_of()[name], expression


def test_each_alert_has_a_severity_a_sentence_and_a_section_that_says_what_to_do() -> None:
    page = (ROOT / "docs" / "howto" / "alerts.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", page, re.M | re.S))
    assert list(sections) == [rule["alert"] for rule in RULES], "in the order of the rules"
    for rule in RULES:
        name = rule["alert"]
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["runbook"] == f"docs/howto/alerts.md#{name.lower()}"
        assert all(word in sections[name] for word in ("**Means**", "**Look**", "**Do**")), name


def test_each_alert_is_tested_with_series_that_exist() -> None:
    assert [test["name"] for test in TESTS] == [rule["alert"] for rule in RULES]
    for test in TESTS:
        for series in test["input_series"]:
            ((name, matchers),) = _MATCHERS.findall(series["series"])
            assert set(re.findall(r"(\w+)=", matchers)) <= _labels_of()[name], name
        (fires,) = test["alert_rule_test"]
        assert fires["alertname"] == test["name"]
        assert fires["exp_alerts"]


def test_each_panel_shows_metrics_and_labels_that_exist() -> None:
    panels = json.loads((ROOT / "deploy" / "grafana" / "gapless.json").read_text(encoding="utf-8"))["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        for target in panel.get("targets", ()):
            _check_expression(target["expr"])
            for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
                assert all(label in _labels_of()[name] for name in _METRIC.findall(target["expr"])), label


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_prometheus_takes_the_rules_and_they_fire_as_the_tests_say() -> None:
    for command in (["check", "rules", "alerts.yaml"], ["test", "rules", "alerts_test.yaml"]):
        done = subprocess.run(["promtool", *command], cwd=FOLDER, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
