"""docs/operations.md lists the metrics there are, and only those."""

import re

from exported_metrics import exported

from services import ROOT

PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


def test_the_table_has_every_metric_with_its_type_and_labels() -> None:
    table = PAGE.split("<!-- metrics: begin -->")[1].split("<!-- metrics: end -->")[0]
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) ?\| ", table, flags=re.MULTILINE)
    told = {name: (kind, frozenset(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert told == exported()


def test_names_and_units_are_the_conventional_ones() -> None:
    for name, (kind, _) in exported().items():
        assert re.fullmatch(r"autoretrain_[a-z]+(_[a-z]+)*", name)
        assert name.endswith("_total") == (kind == "counter")
        assert not re.search(r"_(ms|millis|minutes|hours|percent|kb|mb)\b", name)
        if re.search("duration|age|lag|timestamp", name):
            assert name.endswith("_seconds")
