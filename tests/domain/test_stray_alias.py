"""Somebody moves the champion alias while a job is open: told within one tick, however long the job takes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from autoretrain.adapters.memory import MemoryRegistry
from autoretrain.domain.controller import Controller
from autoretrain.domain.jobs import JobStatus
from autoretrain.domain.plan import RETRY
from autoretrain.domain.requests import ask_adopt, ask_approve, ask_start
from autoretrain.domain.sealing import load
from autoretrain.domain.state import ModelState
from autoretrain.entrypoints.testing.simulated_world import Training, World, alias_of
from autoretrain.ports.errors import Temporary
from autoretrain.ports.registry import ModelVersion

HALTS, ADOPTS = "churn", "fraud"


class CountingRegistry(MemoryRegistry):
    """Counts the questions for champions, and can be away."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Sequence[str]] = []
        self.away = False

    def champions(self, models: Sequence[str]) -> Mapping[str, ModelVersion]:
        self.asked.append(tuple(models))
        if self.away:
            raise Temporary("the registry is away")
        return super().champions(models)


class Story:
    """Two models whose jobs wait for something, and one controller."""

    def __init__(self, outcome: Any = "hangs") -> None:
        self.world = World()
        self.registry = self.world.registry = CountingRegistry()
        self.world.predictor._registry = self.registry
        self.controller = Controller(
            replace(self.world.ports(), registry=self.registry, tracker=self.registry),
            self.world.fleet,
            "main",
            monotonic=self.world.clock,
        )
        for model in self.world.fleet:
            self.world.metrics.set(model, "accuracy", 0.97)
            self.world.serve(model, 0.64)
            self.world.training[model] = Training(outcome)
        self.controller.enrol(self.world.fleet, self.world.now)
        self.tick()
        for model in self.world.fleet:
            self.controller.request(model, lambda state: ask_start(state, "ann", {}, ""), self.world.now)
        self.tick()
        assert all(self.state(model).open_job for model in self.world.fleet)

    def tick(self, **later: float) -> None:
        self.world.now += timedelta(**(later or {"seconds": 1}))
        self.registry.asked.clear()
        self.controller.tick(self.world.now)

    def state(self, model: str) -> ModelState:
        return self.controller.state(model)

    def told(self, model: str, kind: str) -> list[Mapping[str, Any]]:
        return [load(entry.data) for entry in self.world.ledger.read(model) if entry.kind == kind]


@pytest.mark.parametrize("outcome", ["hangs", "succeeds"], ids=["training", "waiting for approval"])
def test_is_told_once_in_the_next_tick_and_the_job_goes_on(outcome: str) -> None:
    story = Story(outcome)
    before = story.state(HALTS).open_job
    story.tick(hours=1)
    assert story.told(HALTS, "champion.conflict") == []
    foreign = story.world.serve(HALTS, 0.6)
    for _ in range(5):
        story.tick(hours=1)
        assert story.told(HALTS, "champion.conflict") == [{"expected": "1", "found": foreign.version}]
    assert [notice.event for notice in story.world.notifier.sent].count("conflict") == 1
    assert story.state(HALTS).open_job == before
    assert alias_of(story.registry, HALTS) == foreign.version


def test_the_end_is_told_too() -> None:
    story = Story()
    story.world.move_alias(HALTS, None)
    story.tick()
    assert story.told(HALTS, "champion.conflict") == [{"expected": "1", "found": None}]
    story.world.move_alias(HALTS, "1")
    story.tick()
    assert len(story.told(HALTS, "champion.restored")) == 1
    assert story.state(HALTS).conflict is None


def test_a_deployment_does_not_tell_it_again() -> None:
    story = Story("succeeds")
    foreign = story.world.serve(HALTS, 0.6)
    story.tick(hours=1)
    job = story.state(HALTS).open_job
    assert job is not None
    story.controller.request(HALTS, lambda s: ask_approve(s, job.job_id, "ann", ""), story.world.now)
    story.tick()
    ended = story.state(HALTS).jobs[job.job_id]
    assert ended.status is JobStatus.FAILED
    assert ended.outcome == "deployment failed: somebody moved the champion from version 1 to 3"
    assert len(story.told(HALTS, "champion.conflict")) == 1
    assert alias_of(story.registry, HALTS) == foreign.version


@pytest.mark.parametrize("model", [ADOPTS, HALTS], ids=["by policy", "by a person"])
def test_an_adoption_in_the_middle_promotes_nothing_that_was_judged_against_another(model: str) -> None:
    story = Story()
    foreign = story.world.serve(model, 0.6)
    story.tick()
    if model == HALTS:
        story.controller.request(model, lambda s: ask_adopt(s, "ann", "mine"), story.world.now)
        story.tick()
    assert story.told(model, "champion.adopted")[-1]["version"]["version"] == foreign.version
    story.world.training[model] = Training("succeeds", 0.5)
    story.tick()
    job = story.state(model).last_job
    assert job is not None
    assert (job.status, job.deployed) == (JobStatus.COMPLETED, False)
    assert job.outcome == f"it was judged against version 1, and would replace version {foreign.version}"
    assert alias_of(story.registry, model) == foreign.version


def test_all_open_jobs_are_one_question_a_tick() -> None:
    story = Story()
    story.tick()
    assert story.registry.asked == [(HALTS, ADOPTS)]


def test_a_registry_that_is_away_keeps_no_training_from_going_on() -> None:
    story = Story()
    story.registry.away = True
    story.tick()
    story.tick()
    assert len(story.registry.asked) == 0  # not at every look: it may take seconds to find that it is away
    assert {story.state(model).open_job.stalled for model in story.world.fleet} == {""}  # type: ignore[union-attr]
    story.registry.away = False
    foreign = story.world.serve(HALTS, 0.6)
    story.tick(seconds=RETRY.total_seconds())
    assert story.told(HALTS, "champion.conflict")[0]["found"] == foreign.version
