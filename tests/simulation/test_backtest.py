"""A backtest against what really happened: the same policy does the same again; another meets the unknown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from autoretrain.adapters.ledger_sqlite import SqliteLedger
from autoretrain.adapters.memory import MemoryObservations
from autoretrain.adapters.observations_sqlite import SqliteObservations
from autoretrain.domain.config import TriggerConfig
from autoretrain.domain.controller import Controller
from autoretrain.domain.spec import ModelSpec, PromotionSpec, TrainingSpec
from autoretrain.entrypoints.backtest import Outcome, Policy, Yardstick, replay
from autoretrain.entrypoints.backtest.past import Asked, compare, records_of, span_of
from autoretrain.entrypoints.backtest.recorded import Records
from autoretrain.entrypoints.backtest.records import History, Sample, Samples
from autoretrain.entrypoints.cli.context import Invocation
from autoretrain.entrypoints.cli.main import cli
from autoretrain.entrypoints.testing.simulated_world import Training, World
from autoretrain.ports.ledger import Append
from autoretrain.ports.values import TimeWindow

START = datetime(2026, 1, 1, tzinfo=UTC)
SIX_HOURS = 6 * 3600.0
DAY = timedelta(days=1)


def spec(**more: Any) -> ModelSpec:
    values: dict[str, Any] = {
        "name": "churn",
        "rule": "performance",
        "trigger": TriggerConfig(evaluation_window_days=10, training_window_days=30),
        "min_rows": 10,
        "min_holdout_rows": 10,
        "check_every_seconds": SIX_HOURS,
        "training": TrainingSpec(command=("train",)),
        "promotion": PromotionSpec(min_improvement=0.05),
    }
    return ModelSpec(**{**values, **more})


def live(days: int, metric: Sequence[float], training: Sequence[Training]) -> tuple[World, list[Any]]:
    """Let the real controller live through days, with a metric and a training outcome for each."""
    world = World({"churn": spec()}, START)
    world.observations = MemoryObservations(keep=10_000)
    world.serve("churn", 0.62)
    controller = Controller(world.ports(), world.fleet, "live", monotonic=world.clock)
    controller.enrol(world.fleet, world.now)
    for day in range(days):
        world.metrics.set("churn", "accuracy", metric[day])
        world.training["churn"] = training[day]
        for _ in range(4):
            controller.tick(world.now)
            world.pass_time(SIX_HOURS)
            world.add_rows("churn")
    return world, list(controller.history("churn").jobs.values())


@pytest.fixture(scope="module")
def lived() -> tuple[World, list[Any]]:
    """60 days with a training that fails, a candidate below the floor, a promotion, and one of no change."""
    metric = [0.95] * 15 + [0.88] * 4 + [0.95] * 21 + [0.90] * 2 + [0.95] * 18
    fails, bad, good = Training("fails"), Training(boundary=0.8), Training(boundary=0.5)
    training = [fails] * 16 + [bad] + [good] * 43
    return live(60, metric, training)


def backtest(world: World, *policies: Policy, asked: Asked | None = None) -> list[Outcome]:
    records = records_of(world.fleet, world.ledger, world.observations)
    return compare(policies, records, asked or Asked())


def told(outcome: Outcome) -> list[tuple[datetime, str]]:
    return [(job.at, job.result) for job in outcome.jobs]


def test_the_policy_in_force_does_again_what_it_did(lived: tuple[World, list[Any]]) -> None:
    world, jobs = lived
    (outcome,) = backtest(world, Policy("current", world.fleet))
    assert [at for at, _ in told(outcome)] == [job.created_at for job in jobs]
    results = [result for _, result in told(outcome)]
    assert results[:3] == ["failed", "rejected", "promoted"]
    assert set(results[3:]) == {"rejected"}, "the same model once more is no change"
    assert len(results) > 3
    assert outcome.results["unknown"] == 0
    assert outcome.not_known == timedelta()


def test_what_would_have_been_trained_at_another_time_is_unknown(lived: tuple[World, list[Any]]) -> None:
    world, jobs = lived
    hour = timedelta(hours=1)
    records = records_of(world.fleet, world.ledger, world.observations, tolerance=hour)
    late = Policy("late", {"churn": spec(for_hours=36)})
    (outcome,) = compare([late], records, Asked())
    assert outcome.jobs[0].at >= jobs[0].created_at + 1.5 * DAY
    others = [job for job in outcome.jobs if all(abs(job.at - real.created_at) > hour for real in jobs)]
    assert others
    assert {job.result for job in others} == {"unknown"}
    assert {job.reason for job in others} == {"no training on these rows, with these parameters, is recorded"}
    assert outcome.results["promoted"] == 0


def test_after_a_promotion_that_did_not_happen_nothing_is_known(lived: tuple[World, list[Any]]) -> None:
    world, jobs = lived
    strict = Policy("strict", {"churn": spec(promotion=PromotionSpec(min_improvement=5.0))})
    (outcome,) = backtest(world, strict)
    promoted = next(job for job in jobs if job.deployed)
    assert outcome.results["promoted"] == 0
    (model,) = outcome.models
    after = [point for point in model.points if point.window.start >= promoted.deployed_at + 2 * DAY]
    assert after
    assert {point.value for point in after} == {None}
    assert all("did not serve then" in point.reason for point in after)
    assert outcome.looks > 0
    assert outcome.unknown_verdicts["performance"] > 0, "unknown starts nothing"


def test_other_parameters_were_never_trained(lived: tuple[World, list[Any]]) -> None:
    world, _ = lived
    deep = Policy("deep", {"churn": spec(training=TrainingSpec(command=("train",), parameters={"depth": 9}))})
    (outcome,) = backtest(world, deep)
    assert {job.result for job in outcome.jobs} == {"unknown"}


def test_another_window_of_the_metric_was_never_looked_at(lived: tuple[World, list[Any]]) -> None:
    world, _ = lived
    short = TriggerConfig(evaluation_window_days=3, training_window_days=30)
    (outcome,) = backtest(world, Policy("short", {"churn": spec(trigger=short)}))
    assert outcome.unknown_verdicts["performance"] > outcome.looks / 2


def test_it_begins_in_the_middle_with_what_the_ledger_knew_then(lived: tuple[World, list[Any]]) -> None:
    world, jobs = lived
    promoted = next(job for job in jobs if job.deployed)
    start = promoted.deployed_at + DAY
    (outcome,) = backtest(world, Policy("current", world.fleet), asked=Asked(start=start))
    assert {job.at >= start for job in outcome.jobs} == {True}
    (model,) = outcome.models
    assert {point.version for point in model.points} == {promoted.candidate.version}


def test_a_training_is_priced_by_its_seconds_where_no_cost_is_recorded(
    lived: tuple[World, list[Any]],
) -> None:
    world, jobs = lived
    (outcome,) = backtest(world, Policy("current", world.fleet), asked=Asked(price=3600.0))
    assert outcome.cost == pytest.approx(len(jobs))  # each took a second
    assert outcome.unpriced == 0


SETTINGS = """
[models.churn]
rule = "performance"
trigger = { evaluation_window_days = 10, training_window_days = 30 }
min_rows = 10
min_holdout_rows = 10
check_every_seconds = 21600
training.command = ["train"]
"""


def test_the_command_reads_the_same_from_the_stores_of_a_project(
    lived: tuple[World, list[Any]], tmp_path: Path
) -> None:
    world, _ = lived
    (tmp_path / "autoretrain.toml").write_text(SETTINGS)
    ledger = SqliteLedger(tmp_path / ".autoretrain" / "ledger.db")
    ledger.append(Append("churn", tuple(world.ledger.read("churn")), None))
    ledger.close()
    observations = SqliteObservations(tmp_path / ".autoretrain" / "observations.db")
    observations.record(world.observations.recent("churn"))
    observations.close()
    given = ["--settings", str(tmp_path), "backtest", "--json"]
    ended = CliRunner().invoke(cli, given, obj=Invocation(), catch_exceptions=False)
    assert ended.exit_code == 0, ended.output
    (row,) = json.loads(ended.stdout)
    (outcome,) = backtest(world, Policy("current", {"churn": spec()}))
    jobs = row["models"][0]["jobs"]
    assert [(datetime.fromisoformat(job["at"]), job["result"]) for job in jobs] == told(outcome)
    assert row["looks"] == outcome.looks
    assert row["mean"] == pytest.approx(outcome.mean)


def daily(values: Sequence[float | None]) -> Records:
    samples = [
        Sample(START + day * DAY, value, rows=500) for day, value in enumerate(values) if value is not None
    ]
    return Records({"churn": History({"accuracy": Samples(samples)})}, {"churn": spec()})


def without_ids(outcome: Outcome) -> Any:
    models = [
        replace(model, jobs=tuple(replace(job, job_id="") for job in model.jobs)) for model in outcome.models
    ]
    return replace(outcome, models=tuple(models))


VALUES = st.lists(st.sampled_from([None, 0.80, 0.91, 0.93, 0.97]), min_size=4, max_size=12)


@given(
    values=VALUES,
    window=st.integers(1, 6),
    cooldown=st.sampled_from([0.0, 5.0, 24.0, 100.0]),
    rule=st.sampled_from(["performance", "performance | schedule", "schedule & ~performance"]),
    stale=st.sampled_from([7.0, 48.0]),
    budget=st.sampled_from([None, 1]),
)
@settings(max_examples=10, deadline=None)
def test_looks_that_can_see_nothing_new_are_left_out_and_nothing_changes(
    values: list[float | None],
    window: int,
    cooldown: float,
    rule: str,
    stale: float,
    budget: int | None,
) -> None:
    tried = spec(
        rule=rule,
        trigger=TriggerConfig(evaluation_window_days=window, training_window_days=30),
        cooldown_hours=cooldown,
        stale_after_hours=stale,
        max_jobs_a_day=budget,
        check_every_seconds=7200.0,
    )
    span = TimeWindow(START + DAY / 3, START + 14 * DAY)
    policy, yardstick = Policy("tried", {"churn": tried}), Yardstick(DAY, {"churn": 0.92})
    records = daily(values)
    fast, every = (records.sources(policy.fleet, span) for _ in range(2))
    assert without_ids(replay(policy, fast, span, yardstick)) == without_ids(
        replay(policy, replace(every, changes=None), span, yardstick)
    )


def test_the_span_is_that_of_the_records() -> None:
    span = span_of(daily([0.9, 0.9, 0.9]), Asked())
    assert (span.start, span.end) == (START, START + 2 * DAY + timedelta(microseconds=1))
