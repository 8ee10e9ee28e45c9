"""Limits across models: what is counted, what is given back, and that no controllers together go beyond."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from domain_world import DAY, NOW, spec_of
from hypothesis import given
from hypothesis import strategies as st

from autoretrain.domain import requests
from autoretrain.domain.config import TriggerConfig
from autoretrain.domain.controller import Controller
from autoretrain.domain.jobs import JobStatus, RetrainingJob
from autoretrain.domain.limits import Limit, LimitSettings, Ration, exhausted
from autoretrain.domain.sealing import Draft, load
from autoretrain.domain.spec import ModelSpec, TrainingSpec
from autoretrain.domain.state import ModelState
from autoretrain.domain.trigger_types import TriggerType
from autoretrain.entrypoints.testing.faults import Fault
from autoretrain.entrypoints.testing.invariants import check_world
from autoretrain.entrypoints.testing.simulated_world import Training, World, histories_of
from autoretrain.entrypoints.testing.simulation import Process
from autoretrain.ports.ledger import Entry
from autoretrain.ports.limits import Unit
from autoretrain.ports.values import TimeWindow


class TestRation:
    def ration(self, **limits: Any) -> Ration:
        return Ration.of(LimitSettings(**limits), spec_of(group="boilers"), "subprocess")

    def test_a_model_is_under_the_limits_of_fleet_group_and_backend(self) -> None:
        two = Limit(jobs_per_day=2, concurrent_trainings=1)
        ration = self.ration(
            fleet=two, groups={"boilers": two, "ovens": two}, compute={"subprocess": two, "k8s": two}
        )
        scopes = ["jobs of the fleet", "jobs of group boilers", "jobs of subprocess"]
        assert [unit.scope for unit in ration.of_a_day(NOW)] == scopes
        assert [unit.scope for unit in ration.at_once()] == [
            each.replace("jobs", "trainings") for each in scopes
        ]

    def test_without_limits_nothing_is_counted(self) -> None:
        ration = self.ration()
        opened = Draft("job.opened", {"job_id": "j", "trigger_type": TriggerType.SCHEDULED})
        assert ration.taken_by([opened, Draft("run.intended", {"job_id": "j"})], NOW) == ()

    @pytest.mark.parametrize("trigger", TriggerType)
    def test_a_person_asks_for_as_many_jobs_as_they_like(self, trigger: TriggerType) -> None:
        ration = self.ration(fleet=Limit(jobs_per_day=1))
        taken = ration.taken_by([Draft("job.opened", {"job_id": "j", "trigger_type": trigger})], NOW)
        assert len(taken) == (trigger is not TriggerType.MANUAL)

    def test_a_day_is_one_of_utc(self) -> None:
        ration = self.ration(fleet=Limit(jobs_per_day=1))
        tokyo = datetime.fromisoformat("2026-03-05T08:59:00+09:00")
        assert [unit.period for unit in ration.of_a_day(tokyo)] == ["2026-03-04"]

    def test_what_is_exhausted_is_named(self) -> None:
        units = [Unit("jobs of the fleet", "2026-03-04", 2), Unit("jobs of group boilers", "2026-03-04", 1)]
        assert exhausted(units, [1, 0]) == ""
        assert exhausted(units, [2, 1]) == "jobs of the fleet: 2 a day; jobs of group boilers: 1 a day"
        [cost] = self.ration(fleet=Limit(cost_per_day=12.5)).of_a_day(NOW)
        assert exhausted([cost], [12_499_999]) == ""
        assert exhausted([cost], [12_500_000]) == "cost of the fleet: 12.5 a day"


OPENED = Draft("job.opened", {"job_id": "j", "trigger_type": TriggerType.SCHEDULED})
ENDED = Draft("run.ended", {"job_id": "j"})
CLOSED = Draft("job.closed", {"job_id": "j"})


class TestCost:
    """Three attempts of half an hour at most, at 4 an hour: 2 an attempt, 6 a job."""

    ration = Ration.of(
        LimitSettings(fleet=Limit(cost_per_day=10)),
        spec_of(training=TrainingSpec(command=("train",), deadline_seconds=1800, max_attempts=3)),
        "kubernetes",
        price=4.0,
    )

    def settled(self, *drafts: Draft, **changes: Any) -> list[tuple[str, int]]:
        job = RetrainingJob(
            job_id="j",
            model_name="m",
            trigger_type=TriggerType.SCHEDULED,
            status=JobStatus.RUNNING,
            created_at=NOW,
            reason="",
            training_window=TimeWindow(NOW - DAY, NOW),
            holdout_window=TimeWindow(NOW - DAY, NOW),
        )
        after = ModelState("m", jobs={"j": replace(job, **changes)})
        return [(unit.period, unit.amount) for unit in self.ration.settled_by(drafts, after)]

    def test_a_job_begins_with_the_most_that_it_may_cost(self) -> None:
        [unit] = self.ration.taken_by([OPENED], NOW)
        assert unit == Unit("cost of the fleet", "2026-03-04", 10_000_000, 6_000_000)

    def test_what_a_person_starts_is_counted_and_not_held_back(self) -> None:
        opened = Draft("job.opened", {"job_id": "j", "trigger_type": TriggerType.MANUAL})
        [unit] = self.ration.taken_by([opened], NOW)
        assert (unit.limit, unit.amount) == (None, 6_000_000)

    def test_an_attempt_that_was_lost_leaves_the_most_for_those_that_follow(self) -> None:
        assert self.settled(ENDED, attempt=2, cost=0.5, priced_attempts=1) == [("2026-03-04", 4_500_000)]

    def test_once_it_trains_no_more_it_counts_with_what_it_has_cost(self) -> None:
        found = {"status": JobStatus.VALIDATION, "attempt": 2, "cost": 1.25, "priced_attempts": 2}
        assert self.settled(ENDED, **found) == [("2026-03-04", 1_250_000)]
        assert self.settled(CLOSED, status=JobStatus.FAILED) == [("2026-03-04", 0)]  # it never trained

    def test_an_attempt_whose_cost_nobody_knows_counts_with_the_most(self) -> None:
        gone = {"status": JobStatus.FAILED, "attempt": 2, "cost": 0.5, "priced_attempts": 1}
        assert self.settled(CLOSED, **gone) == [("2026-03-04", 2_500_000)]

    def test_it_counts_on_the_day_on_which_it_was_opened(self) -> None:
        yesterday = self.settled(CLOSED, status=JobStatus.COMPLETED, created_at=NOW - DAY)
        assert yesterday == [("2026-03-03", 0)]

    def test_nothing_is_settled_by_other_entries(self) -> None:
        assert self.settled(Draft("job.stalled", {"job_id": "j"})) == []


MODELS = tuple(f"GL-{n:03}" for n in range(1, 7))


class Fleet:
    """Six models that all breach, under limits, with controllers that share the shards of one store."""

    price = 4.0

    def __init__(
        self,
        limits: LimitSettings,
        controllers: int = 2,
        training: str = "succeeds",
        cost: float | None = None,
    ) -> None:
        fleet = {
            name: ModelSpec(
                name=name,
                group="boilers" if name < "GL-004" else None,
                rule="performance",
                trigger=TriggerConfig(evaluation_window_days=10, training_window_days=30),
                min_rows=10,
                min_holdout_rows=10,
                check_every_seconds=60,
                training=TrainingSpec(command=("train",), deadline_seconds=1800, max_attempts=2),
            )
            for name in MODELS
        }
        self.world = World(fleet, shards=8)
        self.ports = self.world.ports()
        self.processes = [Process(self.world, self.ports, f"c{n}") for n in range(controllers)]
        for process in self.processes:
            process.controller = self._limited(process, limits)
        for name in MODELS:
            self.world.serve(name, 0.64)
            self.world.metrics.set(name, "accuracy", 0.8)
            self.world.training[name] = Training(training, boundary=0.5, cost=cost)  # type: ignore[arg-type]
        self.processes[0].controller.enrol(MODELS, self.world.now)
        self.turns(2)

    def _limited(self, process: Process, limits: LimitSettings) -> Controller:
        made = process.controller
        return Controller(
            made.ports,
            made.fleet,
            made.holder,
            monotonic=self.world.clock,
            limits=limits,
            prices=dict.fromkeys(MODELS, self.price),
            lease_seconds=20.0,
        )

    def turns(self, times: int = 1, seconds: float = 6) -> None:
        for _ in range(times):
            for process in self.processes:
                assert process.tick()
            self.world.now += timedelta(seconds=seconds)

    def kinds(self, kind: str) -> list[str]:
        return [name for name in MODELS for entry in self.ports.ledger.read(name) if entry.kind == kind]

    def entries(self) -> list[Entry]:
        return [entry for name in MODELS for entry in self.ports.ledger.read(name)]

    def spent(self) -> int:
        day = self.world.now.date().isoformat()
        [spent] = self.ports.limits.used([Unit("cost of the fleet", day, None)])
        return spent

    def check(self) -> None:
        check_world(histories_of(self.ports, self.world.fleet), self.world.record, self.ports.outbox)


def fleet_of(**limit: float) -> LimitSettings:
    return LimitSettings(fleet=Limit(**limit))


def test_a_budget_of_one_with_two_controllers_starts_one() -> None:
    fleet = Fleet(fleet_of(jobs_per_day=1))
    fleet.turns(30)
    assert len(fleet.kinds("job.opened")) == 1
    suppressed = [
        fleet.processes[0].controller.state(name).suppressed
        for name in MODELS
        if name not in fleet.kinds("job.opened")
    ]
    assert suppressed == ["limit (jobs of the fleet: 1 a day)"] * 5
    assert len(fleet.kinds("look.changed")) <= 2 * len(
        MODELS
    )  # a change each, however often they are looked at
    fleet.check()


def test_the_next_day_has_a_budget_of_its_own() -> None:
    fleet = Fleet(fleet_of(jobs_per_day=1))
    fleet.turns(3)
    fleet.world.now += DAY
    fleet.turns(15)
    assert len(fleet.kinds("job.opened")) == 2
    fleet.check()


def test_a_budget_of_nothing_opens_nothing_but_what_people_ask_for() -> None:
    fleet = Fleet(fleet_of(jobs_per_day=0))
    fleet.turns(3)
    assert fleet.kinds("job.opened") == []
    fleet.processes[0].controller.request(
        "GL-005", lambda state: requests.ask_start(state, "ann", {}, "I want it"), fleet.world.now
    )
    fleet.turns(3)
    assert fleet.kinds("job.opened") == ["GL-005"]


def test_cost_is_held_by_all_controllers_together_and_given_free_as_it_is_known() -> None:
    """A job may cost 4 and costs 1: the third waits until the first two are known to have cost less."""
    fleet = Fleet(fleet_of(cost_per_day=5), training="hangs", cost=1.0)
    fleet.turns(3)
    assert len(fleet.kinds("job.opened")) == 2
    held = [fleet.processes[0].controller.state(name).suppressed for name in MODELS]
    assert held.count("limit (cost of the fleet: 5 a day)") == 4

    for name in MODELS:
        fleet.world.training[name] = Training("succeeds", boundary=0.5, cost=1.0)
    fleet.turns(60)
    assert len(fleet.kinds("job.opened")) == 5
    assert fleet.spent() == 5_000_000
    assert len(fleet.kinds("look.changed")) <= 4 * len(MODELS)

    fleet.world.now += DAY
    fleet.turns(15)
    assert len(fleet.kinds("job.opened")) >= 6
    fleet.check()


def test_a_cancelled_training_has_cost_what_it_has_cost() -> None:
    fleet = Fleet(fleet_of(cost_per_day=1), training="hangs", cost=0.25)
    fleet.turns(3)
    [name] = fleet.kinds("job.opened")
    controller = fleet.processes[0].controller
    job = controller.state(name).open_job
    assert job is not None
    fleet.world.training[name] = Training("fails", cost=0.25)
    controller.request(
        name, lambda state: requests.ask_cancel(state, job.job_id, "ann", "stop"), fleet.world.now
    )
    fleet.turns(1)
    assert controller.state(name).jobs[job.job_id].cost == 0.25
    assert "job.closed" in [entry.kind for entry in fleet.ports.ledger.read(name)]


def test_a_person_spends_beyond_the_budget_and_triggers_then_do_not() -> None:
    fleet = Fleet(fleet_of(cost_per_day=0), cost=2.0)
    fleet.turns(2)
    assert fleet.kinds("job.opened") == []
    fleet.processes[0].controller.request(
        "GL-005", lambda state: requests.ask_start(state, "ann", {}, "I want it"), fleet.world.now
    )
    fleet.turns(20)
    assert (fleet.kinds("job.opened"), fleet.spent()) == (["GL-005"], 2_000_000)


@given(
    budget=st.integers(0, 12),
    cost=st.sampled_from([0.0, 0.5, 1.0, 2.0, None]),
    training=st.sampled_from(["succeeds", "fails", "lost"]),
    faults=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 60)), max_size=6),
)
def test_no_day_goes_beyond_its_budget_by_more_than_a_job_whatever_dies(
    budget: int, cost: float | None, training: str, faults: list[tuple[int, int]]
) -> None:
    limits = fleet_of(cost_per_day=budget)
    fleet = Fleet(limits, training=training, cost=cost)
    for which, at in faults:
        process = fleet.processes[which]
        process.tick({at: Fault.CRASH_AFTER})
        process.controller = fleet._limited(process, limits)
        fleet.world.now += timedelta(seconds=7)
        assert fleet.spent() < (budget + 4) * 1_000_000 or budget == fleet.spent() == 0
    fleet.turns(30)
    ends = [load(entry.data) for entry in fleet.entries() if entry.kind == "run.ended"]
    most = 2_000_000  # what an attempt counts with when nobody knows its cost
    known = [most if end["cost"] is None else round(end["cost"] * 1_000_000) for end in ends]
    assert fleet.spent() == sum(known)
    assert sum(known) < (budget + 4) * 1_000_000 or budget == sum(known) == 0
    fleet.check()


def test_a_group_has_a_limit_of_its_own() -> None:
    fleet = Fleet(LimitSettings(groups={"boilers": Limit(jobs_per_day=1)}))
    fleet.turns(5)
    opened = fleet.kinds("job.opened")
    assert len([name for name in opened if name < "GL-004"]) == 1
    assert {name for name in opened if name >= "GL-004"} == set(MODELS[3:])


def test_trainings_at_once_are_held_by_all_controllers_together() -> None:
    fleet = Fleet(fleet_of(concurrent_trainings=2), training="hangs")
    fleet.turns(5)
    assert len(fleet.kinds("job.opened")) == 6
    assert len(fleet.world.record.started) == 2
    waiting = [
        job.stalled
        for name in MODELS
        if (job := fleet.processes[0].controller.state(name).open_job) and job.status.value == "pending"
    ]
    assert waiting == ["trainings of the fleet: all 2 are taken"] * 4


def test_a_training_that_ends_makes_room_for_the_next() -> None:
    fleet = Fleet(LimitSettings(compute={"subprocess": Limit(concurrent_trainings=1)}))
    fleet.turns(12)
    assert len(fleet.world.record.started) == 6
    assert len(fleet.kinds("promotion.done")) == 6
    assert list(fleet.ports.limits.used([Unit("trainings of subprocess", "", 1)])) == [0]
    fleet.check()


def test_a_cancelled_job_gives_back_its_place() -> None:
    fleet = Fleet(fleet_of(concurrent_trainings=1), training="hangs")
    fleet.turns(3)
    [training] = [
        name for name in MODELS
        if (job := fleet.processes[0].controller.state(name).open_job) and job.status.value == "running"
    ]  # fmt: skip
    fleet.processes[0].controller.request(
        training,
        lambda state: requests.ask_cancel(
            state, state.open_job.job_id if state.open_job else "", "ann", "stop"
        ),
        fleet.world.now,
    )
    fleet.turns(4)
    assert len(fleet.world.record.started) == 2
    fleet.check()


@given(
    limit=st.integers(1, 4),
    controllers=st.integers(1, 3),
    faults=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 60)), max_size=6),
)
def test_no_limit_is_exceeded_whatever_dies(
    limit: int, controllers: int, faults: list[tuple[int, int]]
) -> None:
    fleet = Fleet(fleet_of(jobs_per_day=limit, concurrent_trainings=1), controllers)
    limits = fleet_of(jobs_per_day=limit, concurrent_trainings=1)
    for which, at in faults:
        process = fleet.processes[which % controllers]
        process.tick({at: Fault.CRASH_AFTER})
        process.controller = fleet._limited(process, limits)
        fleet.world.now += timedelta(seconds=7)
    fleet.turns(10)
    by_day: dict[str, int] = {}
    for name in MODELS:
        for entry in fleet.ports.ledger.read(name):
            if entry.kind == "job.opened":
                by_day[entry.at[:10]] = by_day.get(entry.at[:10], 0) + 1
    assert max(by_day.values()) <= limit
    fleet.check()
