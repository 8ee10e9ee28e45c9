"""``deploy/``: the alert rules do what they say, and rules and dashboard name what is exported."""

import json
import re
import runpy
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from exported_metrics import exported
from prometheus_server import HINT

from services import ROOT, require

RULES = ROOT / "deploy" / "prometheus"
DASHBOARD = ROOT / "deploy" / "grafana" / "autoretrain.json"
PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")

_OF_GRAFANA = {"$__rate_interval": "5m", "$job": ".*", "$model": ".*"}


def alerts() -> list[str]:
    return re.findall(r"alert: (\w+)", (RULES / "alerts.yaml").read_text(encoding="utf-8"))


def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return loaded


def expressions() -> list[str]:
    """What the panels ask, with Grafana's variables filled in."""
    asked = [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]
    filled = []
    for expression in asked:
        for name, value in _OF_GRAFANA.items():
            expression = expression.replace(name, value)
        filled.append(expression)
    return filled


def named(text: str) -> Iterator[str]:
    """Metrics that a text names, without what a histogram puts behind its name."""
    for name in re.findall(r"\bautoretrain_\w+", text):
        yield re.sub(r"_(bucket|sum|count)$", "", name)


def promtool(*arguments: str, folder: Path = RULES) -> None:
    command = [require("promtool", HINT), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.service
def test_the_rules_are_valid() -> None:
    promtool("check", "rules", "alerts.yaml")


@pytest.mark.service
def test_the_rules_fire_when_they_should_and_only_then() -> None:
    promtool("test", "rules", "alerts_test.yaml")


def test_every_rule_is_tested_both_ways() -> None:
    text = (RULES / "alerts_test.yaml").read_text(encoding="utf-8")
    for alert in alerts():
        cases = re.findall(rf"alertname: {alert}(?:, exp_alerts: (\[\])|\n +exp_alerts:\n)", text)
        assert set(cases) == {"[]", ""}, alert


def test_rules_and_dashboard_name_metrics_that_exist() -> None:
    for file in (RULES / "alerts.yaml", RULES / "alerts_test.yaml", DASHBOARD):
        found = set(named(file.read_text(encoding="utf-8")))
        assert found
        assert found <= set(exported()), file.name


def test_the_operator_gets_the_same_rules() -> None:
    written = runpy.run_path(str(ROOT / "deploy" / "make_prometheus_rule.py"))
    text = written["TARGET"].read_text(encoding="utf-8")
    assert text == written["rule"](), "run: python deploy/make_prometheus_rule.py"
    assert yaml.safe_load(text)["spec"] == yaml.safe_load((RULES / "alerts.yaml").read_text(encoding="utf-8"))


def test_the_page_lists_every_alert() -> None:
    table = PAGE.split("### Alerts")[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE) == alerts()


@pytest.mark.service
def test_what_the_dashboard_asks_is_promql(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{number}", "expr": text} for number, text in enumerate(expressions())]
    (tmp_path / "panels.yaml").write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", "panels.yaml", folder=tmp_path)
    assert not any("$" in text for text in expressions())


def test_the_dashboard_asks_the_source_that_is_chosen() -> None:
    told = dashboard()
    variables = {variable["name"]: variable for variable in told["templating"]["list"]}
    assert variables["datasource"]["query"] == "prometheus"
    asked = list(told["panels"]) + [t for panel in told["panels"] for t in panel["targets"]]
    assert {part["datasource"]["uid"] for part in asked} == {"${datasource}"}
    assert len({panel["id"] for panel in told["panels"]}) == len(told["panels"])


def test_panels_do_not_lie_upon_one_another() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
