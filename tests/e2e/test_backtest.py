"""``autoretrain backtest`` as a user runs it: on a table of metrics, and on a project's own ledger."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from autoretrain.entrypoints.cli.context import Invocation
from autoretrain.entrypoints.cli.main import cli, run

START = datetime(2025, 1, 1, tzinfo=UTC)

SETTINGS = """
[defaults]
rule = "performance"
metric = "accuracy"
cooldown_hours = 168
training.command = ["true"]

[models.boiler]
[models.pump]
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Two models: the boiler's accuracy falls on day 40, the pump's never does."""
    (tmp_path / "autoretrain.toml").write_text(SETTINGS)
    (tmp_path / "weekly.toml").write_text('[defaults]\nrule = "performance | schedule"\n')
    lines = ["model,metric,at,value,samples"]
    for day in range(90):
        at = (START + timedelta(days=day)).isoformat()
        lines += [f"boiler,accuracy,{at},{0.96 if day < 40 else 0.80},200", f"pump,accuracy,{at},0.97,200"]
        lines += [f"boiler,psi:load,{at},{0.1 if day < 40 else 0.4},200"]
    (tmp_path / "metrics.csv").write_text("\n".join(lines))
    return tmp_path


def backtest(project: Path, *arguments: str) -> Result:
    given = ["--settings", str(project), "backtest", "--metrics", str(project / "metrics.csv"), *arguments]
    return CliRunner().invoke(cli, given, obj=Invocation(), catch_exceptions=False)


def rows(project: Path, *arguments: str) -> list[dict[str, Any]]:
    ended = backtest(project, *arguments, "--json")
    assert ended.exit_code == 0, ended.output
    found: list[dict[str, Any]] = json.loads(ended.stdout)
    return found


def test_policies_stand_side_by_side(project: Path) -> None:
    ended = backtest(project, "--policy", f"weekly={project / 'weekly.toml'}")
    assert ended.exit_code == 0, ended.output
    first, policies, looks, fired, *others = ended.output.splitlines()
    assert first == "2025-01-01 to 2025-03-31, 2 models"
    assert policies.split() == ["policy", "current", "weekly"]
    assert looks.split()[0] == "looks"
    assert "26 schedule" in fired
    assert any("no training on these rows" in remark for remark in others)


def test_what_is_counted(project: Path) -> None:
    (current,) = rows(project)
    boiler, pump = current["models"]
    assert (boiler["model"], pump["model"]) == ("boiler", "pump")
    assert pump["jobs"] == []
    # With the 8th bad day of 30 the mean is below 0.92; the look of the hour after sees it.
    fired = datetime.fromisoformat(boiler["jobs"][0]["at"])
    assert fired == START + timedelta(days=47, hours=1)
    apart = {
        datetime.fromisoformat(after["at"]) - datetime.fromisoformat(before["at"])
        for before, after in zip(boiler["jobs"], boiler["jobs"][1:], strict=False)
    }
    assert apart == {timedelta(days=7)}
    assert current["results"]["unknown"] == len(boiler["jobs"]) == current["trainings"]
    assert current["below_seconds"] == pytest.approx(timedelta(days=49).total_seconds(), abs=1)
    assert current["mean"] == pytest.approx((40 * 0.96 + 50 * 0.80 + 90 * 0.97) / 180)
    assert current["cost"] is None
    assert current["trainings_without_cost"] == current["trainings"]


def test_recorded_drift_fires_its_trigger(project: Path) -> None:
    (project / "drift.toml").write_text('[models.boiler]\nrule = "drift"\n')
    _, drift = rows(project, "boiler", "--policy", f"drift={project / 'drift.toml'}")
    first = datetime.fromisoformat(drift["models"][0]["jobs"][0]["at"])
    assert START + timedelta(days=40) <= first <= START + timedelta(days=40, hours=1)
    assert drift["fired"]["drift"] > 0


def test_a_part_of_the_past_and_of_the_fleet(project: Path) -> None:
    (current,) = rows(project, "pump", "--from", "2025-02-01", "--to", "2025-03-01T12:00Z")
    assert [model["model"] for model in current["models"]] == ["pump"]
    assert current["span"] == {"start": "2025-02-01T00:00:00Z", "end": "2025-03-01T12:00:00Z"}


def test_nothing_is_left_behind(project: Path) -> None:
    before = sorted(project.rglob("*"))
    assert backtest(project).exit_code == 0
    assert sorted(project.rglob("*")) == before


def test_the_page_holds_the_table_and_a_plot_for_every_policy(project: Path) -> None:
    page = project / "page.html"
    assert (
        backtest(project, "--policy", f"weekly={project / 'weekly.toml'}", "--html", str(page)).exit_code == 0
    )
    text = page.read_text()
    assert text.count("<svg viewBox") >= 6, "the fleet and two models, under two policies"
    assert "weekly" in text
    assert "http" not in text.replace("http-equiv", "")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--policy", "nameless"], "--policy = nameless: write NAME=FILE"),
        (["--policy", "current=weekly.toml"], "--policy = current=weekly.toml: write NAME=FILE"),
        (["--policy", "a=nowhere.toml"], "a: nowhere.toml: cannot be read"),
        (["--policy", "a={project}/wrong.toml"], "a: models.boiler.rule"),
        (["--metrics", "nowhere.csv"], "--metrics = nowhere.csv: cannot be read"),
        (["--metrics", "{project}/other.csv"], "lacks metric, value"),
        (["--from", "yesterday"], "'yesterday' is no time"),
        (["--from", "2025-03-01", "--to", "2025-02-01"], "--from = 2025-03-01 00:00 UTC: must come before"),
        (["fan"], "there is no model 'fan'; there are: boiler, pump"),
    ],
)
def test_what_cannot_be_used_is_named(
    project: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], why: str
) -> None:
    (project / "wrong.toml").write_text('[models.boiler]\nrule = "performance | hunch"\n')
    (project / "other.csv").write_text("model,at\nboiler,2025-01-01\n")
    given = [each.format(project=project) for each in arguments]
    given = ["--metrics", str(project / "metrics.csv"), *given]
    assert run(["--settings", str(project), "backtest", *given]) == 2
    said = capfd.readouterr().err
    assert why in said
    assert "Traceback" not in said


def test_without_any_record_it_says_what_to_give(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["--settings", str(project), "backtest"]) == 2
    assert "name a table of metrics with --metrics" in capfd.readouterr().err
    assert not (project / ".autoretrain").exists()
