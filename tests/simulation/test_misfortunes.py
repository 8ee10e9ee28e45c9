"""Misfortunes that are too rare for chance to find: each once cost something."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from autoretrain.domain import requests
from autoretrain.domain.controller import Controller
from autoretrain.domain.jobs import JobStatus
from autoretrain.domain.sealing import Draft
from autoretrain.domain.state import ModelState
from autoretrain.domain.world import Ports
from autoretrain.entrypoints.testing.faults import Fault
from autoretrain.entrypoints.testing.invariants import check_world
from autoretrain.entrypoints.testing.simulated_world import (
    Training,
    World,
    alias_of,
    divide_at,
    histories_of,
    watched,
)
from autoretrain.entrypoints.testing.simulation import LEASE_SECONDS, Process
from autoretrain.ports.data import Snapshot
from autoretrain.ports.drift import ColumnDrift, DriftReport
from autoretrain.ports.errors import Temporary
from autoretrain.ports.metrics import MetricQuery, MetricWindow
from autoretrain.ports.predictor import Predictions
from autoretrain.ports.scorer import Scores, ScoringTask

MODEL = "churn"  # halts at a foreign champion


class Story:
    """A world with a champion, one controller and a person."""

    def __init__(self, change: Callable[[Ports], Ports] = lambda ports: ports) -> None:
        self.world = World()
        self.ports = change(self.world.ports())
        self.process = Process(self.world, self.ports, "main")
        self.world.metrics.set(MODEL, "accuracy", 0.97)

    def begin(self, boundary: float = 0.64) -> None:
        self.world.serve(MODEL, boundary)
        self.enrol(MODEL)

    def enrol(self, model: str) -> None:
        self.process.run(lambda controller: controller.enrol([model], self.world.now))
        assert self.process.tick()

    def later(self, **time: float) -> None:
        self.world.now += timedelta(**time)
        assert self.process.tick()

    def ask(self, ask: Callable[[ModelState], Draft]) -> None:
        self.process.run(lambda controller: controller.request(MODEL, ask, self.world.now))

    @property
    def state(self) -> ModelState:
        return self.process.controller.state(MODEL)

    @property
    def alias(self) -> str | None:
        return alias_of(self.ports.registry, MODEL)

    def check(self) -> None:
        check_world(histories_of(self.ports, self.world.fleet), self.world.record, self.ports.outbox)


def start(state: ModelState) -> Draft:
    return requests.ask_start(state, "ann", {}, "try")


def approve(state: ModelState) -> Draft:
    assert state.open_job is not None
    return requests.ask_approve(state, state.open_job.job_id, "ann", "fine")


def roll_back(state: ModelState) -> Draft:
    return requests.ask_rollback(state, "ann", "worse")


def adopt(state: ModelState) -> Draft:
    return requests.ask_adopt(state, "ann", "mine")


def test_an_adoption_is_of_the_version_that_the_person_saw() -> None:
    story = Story()
    story.begin()
    accepted = story.world.serve(MODEL, 0.6)
    story.later(hours=2)
    assert story.state.conflict == accepted.version
    story.ask(adopt)
    other = story.world.serve(MODEL, 0.8)
    story.later(hours=2)
    assert story.state.conflict == other.version
    story.check()


def test_an_adoption_that_was_not_needed_any_more_does_not_wait_for_the_next_conflict() -> None:
    story = Story()
    story.begin()
    foreign = story.world.serve(MODEL, 0.6)
    story.later(hours=2)
    story.ask(adopt)
    story.world.move_alias(MODEL, "1")
    story.later(hours=2)
    restored = story.state
    assert restored.conflict is None
    story.world.move_alias(MODEL, foreign.version)
    story.later(hours=2)
    assert story.state.conflict == foreign.version
    story.check()


def test_numbers_against_another_champion_promote_nothing() -> None:
    story = Story()
    story.begin(boundary=0.5)
    story.world.serve(MODEL, 0.64)  # a foreign one, far worse
    story.later(hours=2)
    story.world.training[MODEL] = Training(boundary=0.58)
    story.ask(start)
    story.later(seconds=5)
    story.world.move_alias(MODEL, "1")
    if story.state.open_job is not None:
        story.ask(approve)
    story.later(seconds=5)
    assert story.alias == "1"
    assert story.state.open_job is None
    story.check()


def test_trouble_that_one_job_met_is_not_held_against_another() -> None:
    for at in range(60):
        story = Story()
        story.begin()
        other = Process(story.world, story.ports, "other")
        story.world.training[MODEL] = Training(boundary=0.5)
        story.ask(start)
        story.later(seconds=5)
        story.world.registry.tamper(story.world.registry.versions[MODEL][-1], "0" * 64)
        story.ask(approve)
        story.process.tick({at: Fault.AWAY})  # at some: after the artefact was refused
        story.world.now += timedelta(seconds=LEASE_SECONDS + 1)
        assert other.tick()
        story.world.training[MODEL] = Training("hangs")
        story.world.now += timedelta(hours=1)
        if story.state.open_job is None:
            story.ask(start)
        assert other.tick()
        story.later(seconds=LEASE_SECONDS + 1)
        job = story.state.open_job
        assert job is not None, f"away at {at}: {story.state.last_job}"
        assert job.status is JobStatus.RUNNING
        story.check()


def test_a_notifier_that_is_away_for_months_costs_nothing_else() -> None:
    story = Story()
    story.world.notifier.refusal = Temporary("away")
    story.begin()
    story.ask(start)
    story.later(seconds=1)
    for outgoing in story.ports.outbox.due(story.world.now + timedelta(days=1)):
        for _ in range(1100):  # hourly, for six weeks
            story.ports.outbox.postpone(outgoing.notice.id, story.world.now, "away")
    story.later(hours=1)
    story.world.notifier.refusal = None
    story.later(hours=1)
    story.later(hours=1)
    assert not story.ports.outbox.due(story.world.now)
    story.check()


class _Sources:
    """Sources that break their contract: each gives a number that is none."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    def read(self, queries: Sequence[MetricQuery]) -> Sequence[MetricWindow]:
        return [MetricWindow(q, math.nan, rows=1000, last_at=q.window.end) for q in queries]

    def compare(self, reference: Snapshot, current: Snapshot) -> DriftReport:
        return DriftReport((ColumnDrift("x", "numeric", math.nan, None, reference.rows, current.rows),))

    def score(
        self, task: ScoringTask, rows: Snapshot, candidate: Predictions, champion: Predictions | None = None
    ) -> Scores:
        scores = self._ports.scorer.score(task, rows, candidate, champion)
        return replace(scores, candidate=dict.fromkeys(scores.candidate, math.nan))


def _not_numbers(ports: Ports) -> Ports:
    sources = _Sources(ports)
    return replace(ports, metrics=sources, drift=sources, scorer=sources)


def test_a_metric_or_drift_that_is_no_number_is_unknown() -> None:
    story = Story(_not_numbers)
    story.begin()
    answers = {name: verdict["answer"] for name, verdict in story.state.verdicts.items()}
    assert answers == {"performance": "unknown", "drift": "unknown", "schedule": "no"}


@pytest.mark.parametrize("model", ["churn", "fraud"])
def test_a_score_that_is_no_number_promotes_nothing(model: str) -> None:
    story = Story(_not_numbers)
    story.enrol(model)
    story.process.run(lambda controller: controller.request(model, start, story.world.now))
    story.later(seconds=5)
    job = story.process.controller.state(model).last_job
    assert job is not None
    assert job.validation is not None
    assert job.validation.verdict.is_unknown
    assert not job.deployed
    assert job.awaiting_until is None
    story.check()


class _Short:
    def read(self, queries: Sequence[MetricQuery]) -> Sequence[MetricWindow]:
        return []


@pytest.mark.parametrize("answer", [None, True, ("yes",)])
def test_what_a_users_own_code_returns_stops_no_other_model(answer: object) -> None:
    world = World()
    world.serve("churn", 0.64)
    world.serve("fraud", 0.64)
    ports = replace(world.ports(), metrics=_Short())
    triggers = {"mine": lambda model: answer}
    controller = Controller(ports, world.fleet, "main", monotonic=world.clock, triggers=triggers)  # type: ignore[arg-type]
    controller.enrol(world.fleet, world.now)
    controller.tick(world.now)
    for model in world.fleet:
        answers = {name: verdict["answer"] for name, verdict in controller.state(model).verdicts.items()}
        assert answers["mine"] == "unknown"
        assert answers["performance"] == "unknown"


def test_an_altered_artefact_does_not_serve() -> None:
    story = Story()
    story.begin()
    story.world.training[MODEL] = Training(boundary=0.5)
    story.ask(start)
    story.later(seconds=5)
    version = story.world.registry.versions[MODEL][-1]
    story.world.registry.tamper(version, "0" * 64)
    story.world.registry.models[MODEL, version.version] = divide_at(0.9)
    story.ask(approve)
    story.later(seconds=5)
    assert story.alias == "1"
    assert story.state.last_job is not None
    assert story.state.last_job.status is JobStatus.FAILED
    story.check()


def retrained(story: Story, model: str, boundary: float) -> None:
    """A day later the metric is bad, and a training gives a better model."""
    story.world.training[model] = Training(boundary=boundary)
    story.world.metrics.set(model, "accuracy", 0.8)
    story.world.now += timedelta(hours=25)
    story.world.add_rows(model)
    assert story.process.tick()
    story.world.metrics.set(model, "accuracy", 0.97)


@pytest.mark.parametrize("model", ["churn", "fraud"])  # which halt at a foreign champion, and adopt it
def test_a_promotion_that_lands_after_its_rollback_is_reported_and_not_taken_over(model: str) -> None:
    story = Story()
    story.world.serve(model, 0.64)
    story.enrol(model)
    retrained(story, model, 0.58)
    promoted = story.world.registry.versions[model][-1]
    assert alias_of(story.ports.registry, model) == promoted.version
    faults = story.process.faults
    registry = watched(story.ports, story.world.record, faults).registry
    faults.plan({0: Fault.LATE})
    with pytest.raises(Temporary):  # a second delivery of the promotion, still on its way
        registry.set_champion(promoted, "1")

    story.process.run(lambda c: c.request(model, roll_back, story.world.now))
    assert story.process.tick()
    assert alias_of(story.ports.registry, model) == "1"
    assert story.world.weather.land() == "registry.set_champion"
    assert alias_of(story.ports.registry, model) == promoted.version  # it could not be prevented
    story.later(hours=2)
    state = story.process.controller.state(model)
    assert state.conflict == promoted.version
    assert state.champion is not None
    assert state.champion.version.version == "1"
    assert [n.event for n in story.world.notifier.sent].count("conflict") == 1
    story.check()


def test_a_request_that_is_delivered_twice_is_one_request() -> None:
    for fault in (Fault.REPEATED, Fault.ANSWER_LOST, Fault.LATE):
        story = Story()
        story.begin()
        draft: list[Draft] = []

        def ask(draft: list[Draft] = draft, story: Story = story) -> None:
            said = story.process.controller.request(MODEL, start, story.world.now)
            draft.append(said)

        appending = 2  # after two looks at the stream
        story.process.faults.plan({appending: fault})
        if fault is Fault.REPEATED:
            ask()
            assert story.state.start is not None
            assert story.state.start.job_id == draft[0].data["job_id"]
        else:
            with pytest.raises(Temporary):
                ask()
            story.world.weather.land()
        assert story.process.faults.told == [f"at ledger.append {fault.value}"]
        story.later(seconds=1)
        assert [entry.kind for entry in story.ports.ledger.read(MODEL)].count("request.start") == 1
        story.check()
