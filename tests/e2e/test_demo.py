"""The demo as a user gets it: a fleet's life, and a table of their own; real runs, simulated days."""

import csv
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from autoretrain.domain.jobs import RetrainingJob
from autoretrain.domain.promotion import SEED_POINT
from autoretrain.domain.state import ModelState
from autoretrain.domain.trigger_types import TriggerType
from autoretrain.entrypoints import demo
from autoretrain.entrypoints.demo.clock import SimulatedClock
from autoretrain.entrypoints.demo.own_table import cut
from autoretrain.entrypoints.reading import Installation
from autoretrain.entrypoints.settings import load_settings
from autoretrain.ports.errors import ConfigurationError

NOW = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)


@dataclass
class Toured:
    """A demo that was run."""

    directory: Path
    page: Path
    said: str

    def state(self, model: str) -> ModelState:
        return Installation(self.directory).state(model)

    def jobs(self, model: str, trigger: TriggerType) -> list[RetrainingJob]:
        return [job for job in self.state(model).jobs.values() if job.trigger_type is trigger]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Toured:
    directory = tmp_path_factory.mktemp("demo") / "project"
    lines: list[str] = []
    page = demo.run(directory, echo=lines.append, now=NOW)
    return Toured(directory, page, "\n".join(lines))


@pytest.mark.slow
@pytest.mark.xdist_group("demo")
class TestFleet:
    """One life of minutes, looked at from every side."""

    def test_a_worse_plant_is_noticed_and_answered_by_a_promotion(self, fleet: Toured) -> None:
        early, late = fleet.jobs("GL-001", TriggerType.PERFORMANCE)
        assert "is below the threshold" in early.reason
        assert not early.deployed  # it was trained on rows from before the change
        assert late.deployed
        assert late.improvement_pct is not None and late.improvement_pct >= 0.05  # noqa: PT018

    def test_drift_leads_to_a_rejection_while_the_champion_is_as_good(self, fleet: Toured) -> None:
        (job,) = fleet.jobs("GL-002", TriggerType.DRIFT)
        assert "PSI of feed_kg_s" in job.reason
        assert not job.deployed
        assert job.decision is not None
        assert (job.decision.rule, "asked for" in job.decision.reason) == (SEED_POINT, True)

    def test_a_first_champion_serves_by_approval_and_the_schedule_takes_over(self, fleet: Toured) -> None:
        (first,) = fleet.jobs("GL-003", TriggerType.MANUAL)
        assert first.deployed
        assert first.approval is not None
        assert first.approval.actor == "operator"
        scheduled = fleet.jobs("GL-003", TriggerType.SCHEDULED)
        assert len(scheduled) >= 2
        assert all(job.outcome for job in scheduled)

    def test_the_operator_takes_the_champion_back_and_it_is_quarantined(self, fleet: Toured) -> None:
        state = fleet.state("GL-001")
        (promoted,) = (job for job in state.jobs.values() if job.deployed)
        assert promoted.candidate is not None
        assert promoted.rolled_back_at is not None
        assert state.quarantined == {promoted.candidate.digest: promoted.candidate.version}
        assert state.champion is not None
        assert state.champion.version.version != promoted.candidate.version
        assert state.verdicts["performance"]["answer"] == "no"  # the decoked plant is as it was

    def test_what_was_said_tells_the_whole_story(self, fleet: Toured) -> None:
        assert "accuracy is unknown: the champion only just serves" in " ".join(fleet.said.split())
        for words in (
            "plant: coke on the tubes",
            "operator approves",
            "rolled back to version 1",
            "Audit: every",
        ):
            assert words in fleet.said
        assert "\x1b" not in fleet.said  # a pipe gets no colours

    def test_the_project_that_is_left_is_whole_and_lies_in_the_past(self, fleet: Toured) -> None:
        installation = Installation(fleet.directory)
        assert installation.faults() == []
        assert [state.open_job for state in installation.states()] == [None] * 3
        assert list(load_settings(fleet.directory).models) == ["GL-001", "GL-002", "GL-003"]
        closed = [job.completed_at for state in installation.states() for job in state.jobs.values()]
        assert all(NOW - timedelta(days=35) < at < NOW for at in closed if at is not None)

    def test_the_page_shows_every_agent(self, fleet: Toured) -> None:
        text = fleet.page.read_text(encoding="utf-8")
        assert all(agent in text for agent in ("GL-001", "GL-002", "GL-003"))

    def test_a_second_demo_leaves_the_project_alone(self, fleet: Toured) -> None:
        before = (fleet.directory / "autoretrain.toml").read_bytes()
        with pytest.raises(ConfigurationError, match=r"directory = .*holds a project already.*--directory"):
            demo.run(fleet.directory, now=NOW)
        assert (fleet.directory / "autoretrain.toml").read_bytes() == before


# -- the user's own table ---------------------------------------------------------------------------------


def boiler(file: Path, rows: int) -> Path:
    """Two numbers with gaps, a text, a time and a label whose rule shifts after 60 % of the rows."""
    chance = random.Random(0)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["at", "load", "valve", "fuel", "heat", "state"])
        for row in range(rows):
            load, valve, fuel = chance.random() * 100, chance.random() * 100, chance.choice(["gas", "oil"])
            heat = load + valve + 10 * (fuel == "gas") + 20 * (row > 0.6 * rows)
            gap = "" if chance.random() < 0.02 else round(valve, 2)
            at = (start + timedelta(hours=row)).isoformat()
            writer.writerow([at, round(load, 2), gap, fuel, round(heat, 2), "on"])
    return file


@pytest.mark.slow
def test_a_table_of_ones_own_goes_through_the_same_life(tmp_path: Path) -> None:
    table = boiler(tmp_path / "boiler.csv", 1200)
    lines: list[str] = []
    page = demo.run(tmp_path / "p", csv=[table], label="heat > 100", time="at", echo=lines.append, now=NOW)
    toured = Toured(tmp_path / "p", page, "\n".join(lines))
    jobs = toured.jobs("boiler", TriggerType.PERFORMANCE)
    assert any(job.deployed for job in jobs)
    assert jobs[0].training is not None
    assert jobs[0].training.features == ("load", "valve", "fuel", "state")  # and not heat
    assert "Drift at the end: " in toured.said
    assert Installation(toured.directory).faults() == []
    assert page.exists()


def test_windows_hold_enough_rows_and_fit_the_table() -> None:
    year = cut(8760, 365.0)
    assert (year.evaluation_days, year.training_days, year.steps) == (18, 108, 12)
    least = cut(1000, 1000 / 24)
    assert least.training_days + least.steps * least.evaluation_days <= 1000 / 24
    assert least.evaluation_days * 24 >= 100


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"csv": ["no.csv"], "label": "heat"}, r"csv = no\.csv: there is no such file"),
        (
            {"csv": ["t.csv"], "label": "het"},
            r"label = 'het': is neither a column.*at, load, valve, fuel, heat",
        ),
        ({"csv": ["t.csv"], "label": "het > 3"}, r"label = 'het > 3': there is no column 'het'.*heat"),
        ({"csv": ["t.csv"], "label": "heat > high"}, r"'high' is neither a number nor a column"),
        ({"csv": ["t.csv"], "label": "state"}, r"label = 'state': has a single value"),
        ({"csv": ["t.csv"], "label": "heat > 9999"}, r"label = 'heat > 9999': has a single value"),
        ({"csv": ["t.csv"], "label": "heat", "time": "when"}, r"time = 'when': there is no such column"),
        ({"csv": ["t.csv"], "label": "heat", "time": "fuel"}, r"time = 'fuel': is no column of times"),
        ({"csv": ["t.csv"]}, r"label: say what is to be predicted"),
        ({"label": "heat"}, r"label = heat: belongs to a table"),
        ({"csv": ["few.csv"], "label": "heat"}, r"csv = 40 rows: too few: at least 1,000 rows"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_remedy(
    options: dict[str, object], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boiler(tmp_path / "t.csv", 1100)
    boiler(tmp_path / "few.csv", 40)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=message):
        demo.run(tmp_path / "p", now=NOW, **options)  # type: ignore[arg-type]
    assert not (tmp_path / "p").exists()


def test_the_simulated_clock_never_goes_back() -> None:
    clock = SimulatedClock(NOW)
    clock.jump(NOW + timedelta(days=2))
    clock.jump(NOW)
    assert NOW + timedelta(days=2) <= clock() < NOW + timedelta(days=2, minutes=1)
