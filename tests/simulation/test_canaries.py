"""Models whose candidates are tried on the traffic first, under everything that can happen."""

from __future__ import annotations

import os
from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test

from autoretrain.domain.requests import ask_reject
from autoretrain.entrypoints.testing.faults import Fault
from autoretrain.entrypoints.testing.simulated_process import Process
from autoretrain.entrypoints.testing.simulated_world import World, histories_of, small_fleet, trying
from autoretrain.entrypoints.testing.simulation import (
    CONTROLLERS,
    MISHAPS,
    MODELS,
    RetrainingMachine,
    told,
)
from autoretrain.ports.traffic import Split

SEED = int(os.environ.get("AUTORETRAIN_SIMULATION_SEED") or 1)
"""The same in every run; `make soak` takes others."""
REACHED: Counter[str] = Counter()


class CanaryMachine(RetrainingMachine):
    """The same, with canaries, and what people and users do to them."""

    calm = (timedelta(seconds=21), *[timedelta(hours=1)] * 96)  # a look for each batch

    def make_world(self) -> World:
        return World({name: trying(spec) for name, spec in small_fleet().items()}, shards=4)

    @rule(
        model=MODELS,
        candidate=st.sampled_from([0.9, 0.9, 0.5, 0.95, None]),
        champion=st.sampled_from([0.9, None]),
    )
    @told
    def the_arms_are(self, model: str, candidate: float | None, champion: float | None) -> None:
        """How good both versions are on the traffic, from now on."""
        self.world.metrics.arms[model] = (candidate, champion)

    @rule(model=MODELS, weight=st.sampled_from([None, 0.05, 0.5]))
    @told
    def somebody_changes_the_traffic(self, model: str, weight: float | None) -> None:
        """A person shares the requests otherwise, or sends them all to the champion, past the controller."""
        if weight is None:
            self.world.router.splits.pop(model, None)
        else:
            self.world.router.splits[model] = Split(model, "1", "99", weight, salt="by hand")

    @rule(
        name=CONTROLLERS,
        boundary=st.sampled_from([0.5, 0.53]),
        hours=st.sampled_from([1, 3, 5, 9]),
        meddled=st.sampled_from([False, False, True]),
        mishaps=MISHAPS,
    )
    @told
    def try_a_candidate(
        self, name: str, boundary: float, hours: int, meddled: bool, mishaps: dict[int, Fault]
    ) -> None:
        """A candidate that is better is tried for hours, in the last of which something may go wrong."""
        self.world.router.splits.pop("fraud", None)
        self.world.serve("fraud", 0.62)
        self.a_canary_goes_on(name, 1, {})
        self.retrain("fraud", name, boundary, {})
        self.a_canary_goes_on(name, hours, mishaps)
        if meddled:
            self.somebody_changes_the_traffic("fraud", 0.05)
            self.a_canary_goes_on(name, 1, {})

    @rule(name=CONTROLLERS, hours=st.sampled_from([1, 3, 30]), mishaps=MISHAPS)
    @told
    def a_canary_goes_on(self, name: str, hours: int, mishaps: dict[int, Fault]) -> None:
        """Hours pass, and a controller looks in each; something may go wrong in the last."""
        for hour in range(hours):
            self.world.now += timedelta(hours=1)
            self.processes[name].tick(mishaps if hour == hours - 1 else {})

    def people_answer(self) -> None:
        """No job waits for the second of its two days: a calm of single hours has none to spare."""
        for history in histories_of(self.ports, self.world.fleet):
            job = history.state.open_job
            since = job.awaiting_since if job and job.waits_for_person else None
            if since is not None and self.world.now - since >= timedelta(days=1):
                self.reject(history.state.model, {})

    def teardown(self) -> None:
        while self.world.weather.land(-1):
            pass
        self.world.registry.restore_artefacts()
        self.world.metrics.arms.clear()
        for model, split in dict(self.world.router.splits).items():
            if split.salt == "by hand":
                del self.world.router.splits[model]
        super().teardown()
        for history in histories_of(self.ports, self.world.fleet):
            REACHED.update(step.entry.kind for step in history.steps)
            job, left = history.state.open_job, self.world.router.splits.get(history.spec.name)
            assert left is None or (job and job.canary), f"{left} was left in force"
            assert job is None or job.canary is None or job.canary.conflict is None


def test_a_split_that_a_late_call_puts_in_force_after_its_job_is_taken_back() -> None:
    world = World({name: trying(spec) for name, spec in small_fleet().items()})
    process = Process(world, world.ports(), "main")
    world.serve("fraud", 0.62)
    process.run(lambda controller: controller.enrol(["fraud"], world.now))
    process.tick()
    world.now += timedelta(hours=25)
    world.add_rows("fraud")
    world.metrics.set("fraud", "accuracy", 0.8)
    process.tick()
    late = world.router.splits["fraud"]
    job_id = late.salt
    process.run(lambda c: c.request("fraud", lambda s: ask_reject(s, job_id, "ann", "complaints"), world.now))
    process.tick()
    assert world.router.splits == {}
    world.metrics.set("fraud", "accuracy", 0.97)
    world.router.splits["fraud"] = late
    world.now += timedelta(hours=2)
    process.tick()
    assert world.router.splits == {}
    kinds = [step.entry.kind for step in histories_of(world.ports(), world.fleet)[1].steps]
    assert [kind for kind in kinds if kind.startswith("split.")] == ["split.stray", "split.cleared"]
    assert any(notice.event == "canary_stray" for notice in world.notifier.sent)


def test_the_rules_hold_where_candidates_are_tried() -> None:
    run_state_machine_as_test(
        CanaryMachine,
        settings=settings(max_examples=12, stateful_step_count=25, derandomize=True, deadline=None),
    )
    assert {"canary.conflict", "canary.held", "canary.passed", "canary.cleared"} <= set(REACHED)


@pytest.mark.slow
@pytest.mark.minutes
def test_the_rules_hold_where_candidates_are_tried_in_many_worlds() -> None:
    print(f"again: AUTORETRAIN_SIMULATION_SEED={SEED}")
    run_state_machine_as_test(
        seed(SEED)(CanaryMachine),
        settings=settings(
            max_examples=200, stateful_step_count=50, deadline=None, print_blob=True, database=None
        ),
    )
