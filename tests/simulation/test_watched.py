"""The real controller with watched models: in calm, and under everything that can happen."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test

from autoretrain.adapters.memory import MemoryRouter, Row
from autoretrain.adapters.metrics_rescoring import RescoringMetrics
from autoretrain.domain.sealing import load
from autoretrain.domain.spec import ModelSpec
from autoretrain.domain.watch_spec import WatchSpec
from autoretrain.entrypoints.testing.faults import Fault
from autoretrain.entrypoints.testing.simulated_process import Process
from autoretrain.entrypoints.testing.simulated_world import (
    LiveMetrics,
    Training,
    World,
    histories_of,
    small_fleet,
)
from autoretrain.entrypoints.testing.simulation import (
    CONTROLLERS,
    MISHAPS,
    MODELS,
    RetrainingMachine,
    told,
)
from autoretrain.entrypoints.testing.watch_rules import watches_hold
from autoretrain.ports.metrics import MetricQuery, MetricWindow

MODEL = "churn"
HOUR = timedelta(hours=1)


def fleet(**watch: Any) -> dict[str, ModelSpec]:
    """The small fleet, watched for six batches of an hour."""
    terms = {"days": 0.25, "batch_days": 1 / 24, "deadline_days": 0.5, "min_rows": 1, **watch}
    policies = {"churn": "page", "fraud": "rollback"}
    return {
        name: spec.model_copy(update={"watch": WatchSpec(**{"on_unknown": policies[name], **terms})})
        for name, spec in small_fleet().items()
    }


class Asked(LiveMetrics):
    """Counts what it is asked."""

    def __init__(self, router: MemoryRouter) -> None:
        super().__init__(router)
        self.asked: Counter[datetime] = Counter()

    def read(self, queries: Sequence[MetricQuery]) -> Sequence[MetricWindow]:
        self.asked.update(query.window.end for query in queries if query.window.length == HOUR)
        return super().read(queries)


def promoted(**watch: Any) -> tuple[World, Process]:
    """Version 2 has just taken the place of version 1."""
    world = World(fleet(**watch))
    world.metrics = Asked(world.router)
    world.serve(MODEL, 0.64)
    world.metrics.set(MODEL, "accuracy", 0.8)
    process = Process(world, world.ports(), "main")
    process.run(lambda controller: controller.enrol([MODEL], world.now))
    assert process.tick()
    assert world.registry.aliases[MODEL] == "2"
    world.metrics.set(MODEL, "accuracy", 0.97)
    return world, process


def kinds(world: World) -> list[str]:
    return [entry.kind for entry in world.ledger.read(MODEL)]


def told_of(world: World, kind: str) -> list[Mapping[str, Any]]:
    return [load(entry.data) for entry in world.ledger.read(MODEL) if entry.kind == kind]


def look_for(world: World, process: Process, hours: int, every: timedelta = timedelta(minutes=10)) -> None:
    """Let a controller look often."""
    end = world.now + hours * HOUR
    while world.now < end:
        world.now += every
        assert process.tick()


def check(world: World) -> None:
    for history in histories_of(world.ports(), world.fleet):
        watches_hold(history)


def test_a_batch_is_one_entry_however_often_it_is_looked_at() -> None:
    world, process = promoted(tolerance=0.1)
    look_for(world, process, 5)
    assert kinds(world).count("watch.batch") == 5
    assert isinstance(world.metrics, Asked)
    _, *later = sorted(world.metrics.asked)  # the trigger's own window is as long as the first batch, once
    assert [world.metrics.asked[end] for end in later] == [1, 1, 1, 1]
    look_for(world, process, 3)
    assert [each["outcome"] for each in told_of(world, "watch.ended")] == ["kept"]
    assert world.registry.aliases[MODEL] == "2"
    check(world)


def test_harm_takes_the_version_back_in_the_tick_that_shows_it() -> None:
    world, process = promoted()
    look_for(world, process, 1)
    world.metrics.set(MODEL, "accuracy", 0.5)
    while "watch.ended" not in kinds(world):
        world.now += timedelta(minutes=10)
        assert process.tick()
    assert world.registry.aliases[MODEL] == "1"
    at = {entry.kind: entry.at for entry in world.ledger.read(MODEL)}
    assert at["watch.ended"] == at["request.rollback"] == at["rollback.done"]
    events = [notice.event for notice in world.notifier.sent]
    assert events[-2:] == ["watch_ended", "rolled_back"]
    check(world)


def test_there_is_no_flip_flop_afterwards() -> None:
    """The metric stays bad whatever serves: version 1 serves on, and no retrain of older rows comes back."""
    world, process = promoted()
    world.metrics.set(MODEL, "accuracy", 0.5)
    world.training[MODEL] = Training("fails")
    look_for(world, process, 72, every=timedelta(minutes=30))
    moves = [move.after for move in world.record.moves if move.ours]
    assert moves == ["2", "1"]
    check(world)


def test_a_retraining_that_goes_on_does_not_blind_the_watch() -> None:
    world, process = promoted()
    world.training[MODEL] = Training("hangs")
    process.run(lambda c: c.request(MODEL, _start, world.now))
    world.metrics.set(MODEL, "accuracy", 0.5)
    look_for(world, process, 5)
    assert world.registry.aliases[MODEL] == "1"
    state = process.controller.state(MODEL)
    assert state.open_job is not None
    assert state.open_job.status.value == "running"
    check(world)


@pytest.mark.parametrize(("policy", "alias"), [("keep", "2"), ("page", "2"), ("rollback", "1")])
def test_a_metric_that_goes_missing_pauses_and_at_the_deadline_policy_acts(policy: str, alias: str) -> None:
    world, process = promoted(on_unknown=policy)
    look_for(world, process, 2)
    world.metrics.set(MODEL, "accuracy", None)
    look_for(world, process, 9)
    assert world.registry.aliases[MODEL] == "2"
    watch = process.controller.state(MODEL).watch
    assert watch is not None
    assert (watch.moments.count, watch.paused) == (2, "no samples")
    look_for(world, process, 2)
    assert [each["outcome"] for each in told_of(world, "watch.ended")] == ["unknown"]
    assert world.registry.aliases[MODEL] == alias
    events = Counter(notice.event for notice in world.notifier.sent)
    assert (events["watch_paused"], events["watch_ended"]) == (1, 1)
    check(world)


def test_a_server_that_is_away_for_a_while_costs_no_batch() -> None:
    world, process = promoted()
    away = replace(world.ports(), metrics=_Away())
    other = Process(world, away, "main")
    look_for(world, other, 1)
    for _ in range(5):
        world.now += timedelta(minutes=10)
        assert other.tick()
    assert "watch.batch" not in kinds(world)
    world.now += timedelta(minutes=10)
    assert process.tick()
    assert kinds(world).count("watch.batch") == 2
    assert "watch.missed" not in kinds(world)
    check(world)


def test_both_versions_are_scored_on_the_same_rows() -> None:
    """What is harder for everybody is no harm; what only the new version gets wrong is."""
    world, process = promoted(baseline="previous")
    tasks = {name: spec.scoring for name, spec in world.fleet.items()}
    metrics = RescoringMetrics(world.data, world.predictor, world.scorer, tasks)
    process = Process(world, replace(world.ports(), metrics=metrics), "rescoring")
    world.now += timedelta(seconds=21)
    begun = process.controller.state(MODEL).watch
    assert begun is not None
    # Version 1 divides at 0.64 and version 2 at 0.5; between the two the truth is now as version 1 has it.
    world.data.add(
        MODEL,
        [
            Row(begun.since + minute * timedelta(minutes=5), {"x": x}, int(x > 0.64))
            for minute in range(12 * 6)
            for x in [minute * 0.618 % 1.0]
        ],
    )
    look_for(world, process, 6)
    batches = told_of(world, "watch.batch")
    assert all(batch["baseline"] > batch["live"] for batch in batches)
    assert world.registry.aliases[MODEL] == "1"
    assert "worse than version 1" in told_of(world, "rollback.done")[0]["why"]
    check(world)


class WatchedMachine(RetrainingMachine):
    """Everything that can happen, to watched models."""

    def make_world(self) -> World:
        return World(fleet(), shards=4)

    @rule(
        model=MODELS,
        name=CONTROLLERS,
        values=st.lists(st.sampled_from([0.5, 0.8, 0.97, 0.99, math.nan, None]), min_size=1, max_size=7),
        mishaps=MISHAPS,
    )
    @told
    def hours_of_service(
        self, model: str, name: str, values: list[float | None], mishaps: dict[int, Fault]
    ) -> None:
        """The live metric is so or so for an hour each, and a controller looks after each."""
        for value in values:
            self.world.now += HOUR
            self.world.metrics.set(model, "accuracy", value)
            self.processes[name].tick(mishaps)

    @rule(model=MODELS, name=CONTROLLERS, boundary=st.sampled_from([0.5, 0.53]), mishaps=MISHAPS)
    @told
    def a_promotion_turns_out_bad(
        self, model: str, name: str, boundary: float, mishaps: dict[int, Fault]
    ) -> None:
        """A retraining is promoted, and does much worse live than on its holdout."""
        self.retrain(model, name, boundary, {})
        self.hours_of_service(model, name, [0.5] * 5, mishaps)


def test_the_rules_hold_for_watched_models() -> None:
    run_state_machine_as_test(
        WatchedMachine,
        settings=settings(max_examples=40, stateful_step_count=25, derandomize=True, deadline=None),
    )


@pytest.mark.slow
@pytest.mark.minutes
def test_the_rules_hold_for_watched_models_at_length() -> None:
    run_state_machine_as_test(
        WatchedMachine,
        settings=settings(max_examples=250, stateful_step_count=50, derandomize=True, deadline=None),
    )


class _Away:
    """A metrics server that cannot be reached."""

    def read(self, queries: Iterable[MetricQuery]) -> list[MetricWindow]:
        from autoretrain.ports.errors import Temporary

        raise Temporary("no route to host")


def _start(state: Any) -> Any:
    from autoretrain.domain.requests import ask_start

    return ask_start(state, "ann", {}, "new data")
