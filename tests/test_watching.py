"""The dashboard and the alerts in deploy/: they ask for numbers that there are, and say what to do."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml  # type: ignore[import-untyped]
from typer.main import get_command

from service.__main__ import app
from service.metrics import _OUTPUT_ERRORS, _PROVIDER_ERRORS, Metrics
from service.model import DeliveryState, State
from service.store import Verdict
from service.workers import Name

DEPLOY = Path(__file__).parent.parent / "deploy"
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "reelkeeper.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
SHOWN = [panel for panel in PANELS if panel["type"] != "row"]
PROMETHEUS = DEPLOY / "prometheus"
[GROUP] = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
RULES: list[dict[str, Any]] = GROUP["rules"]

QUERIES = {
    **{f"panel {panel['title']}": target["expr"] for panel in SHOWN for target in panel["targets"]},
    **{f"variable {each['name']}": each.get("definition", "") for each in DASHBOARD["templating"]["list"]},
    **{f"alert {rule['alert']}": rule["expr"] for rule in RULES},
}
WORDS: dict[str, set[str]] = {
    "outcome": set(get_args(Name)),
    "verdict": {*Verdict, "rejected"},
    "kind": {kind for _, kind in _PROVIDER_ERRORS} | {*_OUTPUT_ERRORS.values()},
    "state": {*State, *DeliveryState},
    "step": {"submit", "resolve", "poll", "mirror", "notify"},
    "status": {f"{digit}xx" for digit in range(1, 6)},
}


def numbers() -> dict[str, set[str]]:
    """Return the labels of every number, by its name as it is written."""
    found = {"up": set[str]()}
    registry = Metrics("1", ["openrouter"]).registry
    for name, collector in registry._names_to_collectors.items():
        labels = {*getattr(collector, "_labelnames", ())}
        found[name] = labels | {"le"} if name.endswith("_bucket") else labels
    found["reelkeeper_build_info"] = {"version"}
    found |= {sample.name: set() for family in registry.collect() for sample in family.samples if not sample.labels}
    return found


NUMBERS = numbers()
TARGET = {"job", "instance"}  # which Prometheus adds


def asked(query: str) -> Iterator[tuple[str, str]]:
    """Return the names in a query, each with its matchers."""
    for found in re.finditer(r"\b((?:reelkeeper|process)_\w+|up\b)(?:\{(.*?)\})?", query):
        yield found[1], found[2] or ""


def matchers(text: str) -> list[tuple[str, str, str]]:
    return re.findall(r'(\w+)(=~|!~|!=|=)"([^"]*)"', text)


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_a_query_asks_for_numbers_and_labels_that_there_are(query: str) -> None:
    known = set(TARGET)
    for name, text in asked(query):
        assert name in NUMBERS
        known |= NUMBERS[name]
        for label, _, value in matchers(text):
            assert label in NUMBERS[name] | TARGET
            if label in WORDS:
                assert set(value.split("|")) <= WORDS[label]
    for labels in re.findall(r"\b(?:by|on|without)\s*\(([^)]*)\)", query):
        assert {label.strip() for label in labels.split(",")} <= known


def test_what_is_forgotten_or_misspelled_would_be_found() -> None:
    assert list(asked('up == 0 or rate(reelkeeper_polls_total{outcome="x"}[1h])')) == [
        ("up", ""),
        ("reelkeeper_polls_total", 'outcome="x"'),
    ]
    assert NUMBERS["reelkeeper_http_latency_seconds_bucket"] == {"method", "route", "status", "le"}
    assert "reelkeeper_polls_count" not in NUMBERS


def test_every_number_that_is_kept_is_on_the_dashboard() -> None:
    shown = {name for panel in SHOWN for target in panel["targets"] for name, _ in asked(target["expr"])}
    for family in Metrics("1", ["openrouter"]).registry.collect():
        if family.name.startswith("reelkeeper_"):
            assert any(name.startswith(family.name) for name in shown), family.name


# The dashboard


def test_the_dashboard_is_for_whatever_prometheus_it_is_imported_beside() -> None:
    assert DASHBOARD.get("id") is None
    assert [each["type"] for each in DASHBOARD["templating"]["list"]].count("datasource") == 1
    named = re.findall(r'"uid": "([^"]*)"', json.dumps([PANELS, DASHBOARD["templating"]]))
    assert set(named) == {"${datasource}"}


def test_the_dashboard_has_a_row_for_each_thing_that_may_be_ill() -> None:
    rows = [panel["title"] for panel in PANELS if panel["type"] == "row"]
    assert rows == ["Overview", "Providers", "Steps", "Callbacks", "Deliveries", "Storage", "HTTP", "Process"]


def test_every_panel_says_what_it_shows_and_in_which_unit() -> None:
    titles = [panel["title"] for panel in SHOWN]
    assert len(set(titles)) == len(titles)
    for panel in SHOWN:
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]


def test_panels_have_ids_of_their_own_and_lie_beside_each_other() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    lines: dict[int, list[dict[str, int]]] = {}
    for panel in PANELS:
        lines.setdefault(panel["gridPos"]["y"], []).append(panel["gridPos"])
    for places in lines.values():
        assert sum(place["w"] for place in places) == 24
        assert len({place["h"] for place in places}) == 1
    for (above, places), (below, _) in pairwise(sorted(lines.items())):
        assert above + places[0]["h"] == below


# The alerts


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_how_urgent_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"].keys() == {"summary", "description"}
    advice = r"/readyz|/status|/healthz|`reelkeeper |the log|LimitNOFILE"
    assert re.search(advice, rule["annotations"]["description"])
    for label in re.findall(r"\$labels\.(\w+)", str(rule["annotations"])):
        assert label in rule["expr"] or label == "instance"


def test_what_is_told_at_once_is_what_happened_within_an_hour() -> None:
    for rule in RULES:
        assert "for" in rule or "increase" in rule["expr"], rule["alert"]


def test_commands_that_alerts_name_exist() -> None:
    top = get_command(app)
    for words in re.findall(r"`reelkeeper ([a-z ]+?)(?: --| prometheus|`)", (PROMETHEUS / "alerts.yml").read_text()):
        command: Any = top
        for word in words.split():
            command = command.commands[word]


def test_the_example_reads_the_numbers_with_an_operators_key() -> None:
    example = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    [scraped] = example["scrape_configs"]
    assert scraped["job_name"] == "reelkeeper"
    assert scraped["metrics_path"] == "/metrics"
    assert set(scraped["authorization"]) == {"credentials_file"}
    assert example["rule_files"] == ["alerts.yml"]
    for rule in RULES:
        for name, text in asked(rule["expr"]):
            for label, _, value in matchers(text):
                assert label != "job" or value == scraped["job_name"], name


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool: it comes with Prometheus, which is large")
def test_alerts_wake_whom_they_should_and_nobody_else() -> None:
    done = subprocess.run(
        ["promtool", "test", "rules", "alerts_test.yml"],  # noqa: S607 - wherever it is installed
        cwd=PROMETHEUS,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
