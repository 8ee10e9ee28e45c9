"""docs/operations.md lists the metrics there are, and only those; its alerts name none but those."""

import re

from prometheus_client.parser import text_string_to_metric_families

from autoretrain.adapters.telemetry_prometheus import PrometheusTelemetry
from autoretrain.entrypoints.testing.telemetry import FULL

from services import ROOT

PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


def exported() -> dict[str, tuple[str, frozenset[str]]]:
    """Type and labels of every metric, by the name under which it is scraped."""
    telemetry = PrometheusTelemetry()
    telemetry.report(FULL)
    found = {}
    for family in text_string_to_metric_families(telemetry.render().decode()):
        if family.name.endswith("_created"):
            continue
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        found[name] = (family.type, frozenset(labels))
    return found


def test_the_table_has_every_metric_with_its_type_and_labels() -> None:
    table = PAGE.split("<!-- metrics: begin -->")[1].split("<!-- metrics: end -->")[0]
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) ?\| ", table, flags=re.MULTILINE)
    told = {name: (kind, frozenset(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert told == exported()


def test_alerts_name_metrics_that_exist() -> None:
    rules = PAGE.split("groups:")[1].split("```")[0]
    named = set(re.findall(r"\bautoretrain_\w+", rules))
    assert named
    assert named <= set(exported())
