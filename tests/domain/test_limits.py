"""Limits across models: what is counted, what is given back, and that no controllers together go beyond."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from domain_world import DAY, NOW, spec_of
from hypothesis import given
from hypothesis import strategies as st

from autoretrain.domain import requests
from autoretrain.domain.config import TriggerConfig
from autoretrain.domain.controller import Controller
from autoretrain.domain.limits import Limit, LimitSettings, Ration, exhausted
from autoretrain.domain.sealing import Draft
from autoretrain.domain.spec import ModelSpec, TrainingSpec
from autoretrain.domain.trigger_types import TriggerType
from autoretrain.entrypoints.testing.faults import Fault
from autoretrain.entrypoints.testing.invariants import check_world
from autoretrain.entrypoints.testing.simulated_world import Training, World, histories_of
from autoretrain.entrypoints.testing.simulation import Process
from autoretrain.ports.limits import Unit


class TestRation:
    def ration(self, **limits: Any) -> Ration:
        return Ration.of(LimitSettings(**limits), spec_of(group="boilers"), "subprocess")

    def test_a_model_is_under_the_limits_of_fleet_group_and_backend(self) -> None:
        two = Limit(jobs_per_day=2, concurrent_trainings=1)
        ration = self.ration(
            fleet=two, groups={"boilers": two, "ovens": two}, compute={"subprocess": two, "k8s": two}
        )
        scopes = ["jobs of the fleet", "jobs of group boilers", "jobs of subprocess"]
        assert [unit.scope for unit in ration.jobs_on(NOW)] == scopes
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
        assert [unit.period for unit in ration.jobs_on(tokyo)] == ["2026-03-04"]

    def test_what_is_exhausted_is_named(self) -> None:
        units = [Unit("jobs of the fleet", "2026-03-04", 2), Unit("jobs of group boilers", "2026-03-04", 1)]
        assert exhausted(units, [1, 0]) == ""
        assert exhausted(units, [2, 1]) == "jobs of the fleet: 2 a day; jobs of group boilers: 1 a day"


MODELS = tuple(f"GL-{n:03}" for n in range(1, 7))


class Fleet:
    """Six models that all breach, under limits, with controllers that share the shards of one store."""

    def __init__(self, limits: LimitSettings, controllers: int = 2, training: str = "succeeds") -> None:
        fleet = {
            name: ModelSpec(
                name=name,
                group="boilers" if name < "GL-004" else None,
                rule="performance",
                trigger=TriggerConfig(evaluation_window_days=10, training_window_days=30),
                min_rows=10,
                min_holdout_rows=10,
                check_every_seconds=60,
                training=TrainingSpec(command=("train",)),
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
            self.world.training[name] = Training(training, boundary=0.5)  # type: ignore[arg-type]
        self.processes[0].controller.enrol(MODELS, self.world.now)
        self.turns(2)

    def _limited(self, process: Process, limits: LimitSettings) -> Controller:
        made = process.controller
        return Controller(
            made.ports, made.fleet, made.holder, monotonic=self.world.clock, limits=limits, lease_seconds=20.0
        )

    def turns(self, times: int = 1, seconds: float = 6) -> None:
        for _ in range(times):
            for process in self.processes:
                assert process.tick()
            self.world.now += timedelta(seconds=seconds)

    def kinds(self, kind: str) -> list[str]:
        return [name for name in MODELS for entry in self.ports.ledger.read(name) if entry.kind == kind]

    def check(self) -> None:
        check_world(histories_of(self.ports, self.world.fleet), self.world.record, self.ports.outbox)


def fleet_of(**limit: int) -> LimitSettings:
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
