"""The controller over in-memory ports: what it asks, records and survives."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from domain_world import DAY, HOUR, NOW, SUCCEEDED, spec_of

from autoretrain.adapters.memory import (
    MemoryCompute,
    MemoryDataSource,
    MemoryDrift,
    MemoryLedger,
    MemoryMetrics,
    MemoryNotifier,
    MemoryObservations,
    MemoryPredictor,
    MemoryRegistry,
    MemoryTelemetry,
    Row,
)
from autoretrain.adapters.memory_inspector import MemoryInspector
from autoretrain.adapters.memory_scorer import MemoryScorer
from autoretrain.domain.controller import Controller
from autoretrain.domain.jobs import JobStatus
from autoretrain.domain.limits import Limit, LimitSettings
from autoretrain.domain.requests import ask_approve, ask_cancel, ask_rollback, ask_start
from autoretrain.domain.routes import Route
from autoretrain.domain.sealing import Draft, seal, verify
from autoretrain.domain.trigger_types import TriggerType
from autoretrain.domain.verdict import Verdict
from autoretrain.domain.world import Ports
from autoretrain.ports.compute import RunRequest, RunState, RunStatus
from autoretrain.ports.drift import DriftReport
from autoretrain.ports.errors import LeaseLost, Overtaken, Permanent, Temporary, UnknownModel
from autoretrain.ports.ledger import Append
from autoretrain.ports.limits import Unit
from autoretrain.ports.metrics import MetricQuery, MetricWindow
from autoretrain.ports.registry import ModelVersion
from autoretrain.ports.values import Pending

_ROWS = [
    Row(NOW - hours * HOUR, {"x": x}, int(x > 0.5))
    for hours, x in enumerate(random.Random(7).choices([n / 100 for n in range(100)], k=24 * 130), start=1)
]


@dataclass
class Place:
    """A world in memory, with models that serve at 0.9 accuracy, and trainings that do better."""

    models: tuple[str, ...] = ("m",)
    fleet: dict[str, Any] = field(default_factory=dict)
    fate: RunStatus = SUCCEEDED
    now: datetime = NOW

    def __post_init__(self) -> None:
        self.clock = 0.0
        self.data = MemoryDataSource(dict.fromkeys(self.models, _ROWS))
        self.registry = MemoryRegistry()
        self.ledger = MemoryLedger(clock=lambda: self.clock)
        self.metrics, self.drift = MemoryMetrics(), MemoryDrift()
        self.compute, self.notifier = MemoryCompute(self.train), MemoryNotifier()
        self.telemetry = MemoryTelemetry()
        predictor = MemoryPredictor(self.registry, self.data)
        self.ports = Ports(
            self.ledger, self.ledger, self.ledger, self.ledger,
            MemoryObservations(), self.metrics, self.drift, self.data,
            self.compute, self.registry, self.registry, predictor, MemoryScorer(self.data, predictor),
            self.notifier, self.telemetry, MemoryInspector(self.data, predictor),
        )  # fmt: skip
        for model in self.models:
            serving = self.registry.register(model, lambda row: int(row["x"] > 0.6), "a" * 64)
            self.registry.aliases[model] = serving.version
            self.metrics.set(model, "accuracy", 0.95)
            self.fleet.setdefault(model, spec_of(name=model))

    def train(self, run: RunRequest) -> RunStatus:
        if self.fate.state is RunState.SUCCEEDED:
            self.registry.log(
                run.environment["AUTORETRAIN_JOB_ID"], lambda row: int(row["x"] > 0.5), "b" * 64
            )
        return self.fate

    def controller(self, name: str = "one", **more: Any) -> Controller:
        made = Controller(self.ports, self.fleet, name, monotonic=lambda: self.clock, **more)
        made.enrol([model for model in self.models if model in self.fleet], self.now)
        return made

    def using(self, **ports: Any) -> "Place":
        """Replace ports."""
        self.ports = replace(self.ports, **ports)
        return self

    def kinds(self, model: str = "m") -> list[str]:
        return [entry.kind for entry in self.ledger.read(model)]


def start(actor: str = "ann") -> Callable[[Any], Draft]:
    return lambda state: ask_start(state, actor, {"depth": 3}, "a new sensor")


class TestALife:
    def test_a_champion_that_fails_on_the_rows_keeps_no_candidate_out(self) -> None:
        place = Place()

        def broken(row: Any) -> int:
            raise KeyError("sensor_7")

        place.registry.models["m", "1"] = broken
        place.metrics.set("m", "accuracy", 0.8)
        controller = place.controller()
        controller.tick(NOW)
        job = controller.state("m").open_job
        assert job is not None
        assert job.awaiting_until is not None
        assert job.proposal is not None
        assert "the champion cannot be scored: version 1 fails on the rows: 'sensor_7'" in job.proposal.reason
        controller.request("m", lambda state: ask_approve(state, job.job_id, "ann", "it is broken"), NOW)
        controller.tick(NOW)
        assert place.registry.aliases == {"m": "2"}

    def test_a_breach_is_retrained_promoted_and_told_in_one_tick(self) -> None:
        place = Place()
        place.metrics.set("m", "accuracy", 0.8)
        report = place.controller().tick(NOW)
        assert place.registry.aliases == {"m": "2"}
        assert report.events["m", "promotion.done"] == 1
        assert [notice.event for notice in place.notifier.sent] == [
            "started", "deployed", "completed", "champion_below_floor",
        ]  # fmt: skip
        assert report.notices_sent == 4
        assert place.telemetry.reports == [report]
        assert verify("m", place.ledger.read("m")) is None
        assert place.registry.notes["m", "2"]["accuracy"] == 1.0

    def test_the_training_gets_its_contract(self) -> None:
        place = Place()
        runs: list[RunRequest] = []
        place.using(compute=MemoryCompute(lambda run: runs.append(run) or place.fate))  # type: ignore[func-returns-value]
        controller = place.controller()
        draft = controller.request("m", start(), NOW)
        controller.tick(NOW)
        (run,) = runs
        assert run.key == f"{draft.data['job_id']}/train/1"
        assert run.command == ("train",)
        environment = dict(run.environment)
        data = environment.pop("AUTORETRAIN_DATA")
        assert data == f"memory:{environment.pop('AUTORETRAIN_DATA_SHA256')}"
        assert environment == {
            "MEMORY_RUN_ID": draft.data["job_id"],
            "AUTORETRAIN_MODEL_NAME": "m",
            "AUTORETRAIN_JOB_ID": draft.data["job_id"],
            "AUTORETRAIN_ATTEMPT": "1",
            "AUTORETRAIN_TRAINING_CONFIG": '{"depth":3}',
            "AUTORETRAIN_LABEL": "label",
            "AUTORETRAIN_TIME": "at",
            "AUTORETRAIN_FEATURES": '["x"]',
        }

    def test_a_rollback_and_the_same_model_again(self) -> None:
        place = Place()
        place.metrics.set("m", "accuracy", 0.8)
        controller = place.controller()
        controller.tick(NOW)
        controller.request("m", lambda state: ask_rollback(state, "ann", "worse"), NOW + HOUR)
        controller.tick(NOW + HOUR)
        assert place.registry.aliases == {"m": "1"}
        controller.tick(NOW + 2 * DAY)
        job = controller.state("m").last_job
        assert job is not None
        assert "rolled back" in job.outcome
        assert place.registry.aliases == {"m": "1"}

    def test_an_approval_from_another_process(self) -> None:
        place = Place()
        controller, other = place.controller(), place.controller("two")
        draft = controller.request("m", start(), NOW)
        controller.tick(NOW)
        job_id = draft.data["job_id"]
        assert place.registry.aliases == {"m": "1"}
        other.request("m", lambda state: ask_approve(state, job_id, "bob", "fine"), NOW)
        assert not other.advance("m", NOW)
        controller.tick(NOW)
        assert place.registry.aliases == {"m": "2"}
        assert other.state("m") == controller.state("m")

    def test_a_cancelled_run_is_ended(self) -> None:
        place = Place(fate=RunStatus(RunState.RUNNING))
        controller = place.controller()
        job_id = controller.request("m", start(), NOW).data["job_id"]
        controller.tick(NOW)
        controller.request("m", lambda state: ask_cancel(state, job_id, "ann", ""), NOW)
        controller.tick(NOW)
        controller.tick(NOW + HOUR)
        assert controller.state("m").jobs[job_id].status is JobStatus.CANCELLED
        assert place.compute.observe(f"{job_id}/train/1").reason == "cancelled"

    def test_a_lost_run_is_started_once_an_attempt(self) -> None:
        place = Place(fate=RunStatus(RunState.LOST, "gone"))
        controller = place.controller()
        job_id = controller.request("m", start(), NOW).data["job_id"]
        controller.tick(NOW)
        assert place.compute.started == {f"{job_id}/train/{n}": 1 for n in (1, 2, 3)}
        assert controller.state("m").jobs[job_id].status is JobStatus.FAILED


class TestGivingWay:
    """A job that waits for a person, under ``pending = "supersede"``."""

    LATER = NOW + 25 * HOUR

    def waiting(self, **promotion: Any) -> tuple[Place, Controller, str]:
        spec = spec_of(rule="performance", promotion={"pending": "supersede", **promotion})
        place = Place(fleet={"m": spec})
        controller = place.controller()
        job_id = controller.request("m", start(), NOW).data["job_id"]
        controller.tick(NOW)
        place.metrics.set("m", "accuracy", 0.9)  # worse than the threshold, and above the floor
        return place, controller, job_id

    def test_a_trigger_ends_it_and_the_next_goes_as_far_as_it_can_in_the_same_tick(self) -> None:
        place, controller, first = self.waiting()
        controller.tick(self.LATER)
        state = controller.state("m")
        assert state.jobs[first].outcome.startswith("superseded by job ")
        assert next(iter(state.jobs)) == first
        assert state.last_job is not None
        assert state.last_job.deployed
        assert place.registry.aliases == {"m": state.last_job.candidate.version}  # type: ignore[union-attr]

    def test_by_default_it_waits_and_no_metric_is_read(self) -> None:
        _, controller, first = self.waiting(pending="keep")
        report = controller.tick(self.LATER)
        assert (report.looked, report.metrics) == (("m",), {})
        assert controller.state("m").jobs[first].is_open

    def test_a_call_of_the_library_opens_nothing_by_trigger(self) -> None:
        _, controller, first = self.waiting()
        controller.advance("m", self.LATER)
        assert controller.state("m").jobs[first].is_open

    @pytest.mark.parametrize("error", [Temporary("the registry is away"), Permanent("it refuses")])
    def test_a_registry_that_does_not_answer_ends_nothing(self, error: Exception) -> None:
        place, _, first = self.waiting()

        class Away(MemoryRegistry):
            def champions(self, models: Sequence[str]) -> Mapping[str, ModelVersion]:
                raise error

        controller = place.using(registry=Away()).controller()
        controller.tick(self.LATER)
        assert controller.state("m").jobs[first].waits_for_person

    def test_people_are_heard_first(self) -> None:
        place, controller, first = self.waiting()
        controller.request("m", lambda state: ask_approve(state, first, "bob", "fine"), self.LATER)
        controller.tick(self.LATER)
        assert (controller.state("m").jobs[first].deployed, place.registry.aliases) == (True, {"m": "2"})

    def test_the_units_that_it_takes_are_the_new_jobs(self) -> None:
        place, _, first = self.waiting()
        limits = LimitSettings(fleet=Limit(jobs_per_day=1, concurrent_trainings=1))
        controller = place.controller("one", limits=limits)
        controller.tick(self.LATER)
        day, running = Unit("jobs of the fleet", "2026-03-05", 1), Unit("trainings of the fleet", "", 1)
        assert controller.state("m").jobs[first].outcome.startswith("superseded")
        assert list(place.ledger.used([day, running])) == [1, 0]
        assert controller.exhausted("m", self.LATER) == "jobs of the fleet: 1 a day"


class TestQuiet:
    def test_a_look_that_changes_nothing_appends_nothing(self) -> None:
        place = Place()
        controller = place.controller()
        controller.tick(NOW)
        before = place.kinds()
        report = controller.tick(NOW + HOUR)
        assert report.looked == ("m",)
        assert report.events == {}
        assert report.metrics == {("m", "accuracy"): 0.95}
        assert report.verdicts["performance", "no"] == 1
        assert place.kinds() == before

    def test_looks_in_between_are_counted_when_something_changes(self) -> None:
        place = Place()
        controller = place.controller()
        for hours in range(3):
            controller.tick(NOW + hours * HOUR)
        place.metrics.set("m", "accuracy", None)
        controller.tick(NOW + 3 * HOUR)
        entry = place.ledger.read("m")[-1]
        assert entry.kind == "look.changed"
        assert '"looks":2' in entry.data

    def test_nothing_due_is_not_looked_at(self) -> None:
        place = Place()
        controller = place.controller()
        controller.tick(NOW)
        report = controller.tick(NOW + timedelta(minutes=1))
        assert report.looked == ()
        assert report.next_due == NOW + HOUR

    def test_a_model_without_settings_rests(self) -> None:
        place = Place(models=("m", "old"))
        place.controller()
        del place.fleet["old"]
        controller = place.controller()
        controller.tick(NOW)
        assert place.kinds("old") == ["model.enrolled"]
        assert controller.tick(NOW + HOUR).looked == ("m",)
        with pytest.raises(UnknownModel, match="no model 'old' in the settings; there are: m"):
            controller.request("old", start(), NOW)

    def test_enrolling_twice_begins_once(self) -> None:
        place = Place()
        place.controller()
        place.controller("two")
        assert place.kinds() == ["model.enrolled"]


class Counting(MemoryMetrics):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[int] = []

    def read(self, queries: Sequence[MetricQuery]) -> Sequence[MetricWindow]:
        self.calls.append(len(queries))
        return super().read(queries)


def test_many_models_are_read_in_one_call() -> None:
    metrics = Counting()
    Place(models=tuple(f"m{n}" for n in range(20))).using(metrics=metrics).controller().tick(NOW)
    # The first look adopts the champions, the second one judges.
    assert metrics.calls == [20, 20]


class FaultyDrift(MemoryDrift):
    """An adapter with a bug that one model's data brings out."""

    def compare(self, reference: Any, current: Any) -> DriftReport | Pending:
        if current.model == "bad":
            raise ValueError("could not convert string to float: 'n/a'")
        return super().compare(reference, current)


class TestFaults:
    def test_one_models_fault_does_not_stop_the_others(self) -> None:
        place = Place(models=("bad", "good")).using(drift=FaultyDrift())
        place.metrics.set("good", "accuracy", 0.8)
        controller = place.controller()
        report = controller.tick(NOW)
        assert place.registry.aliases["good"] == "2"
        assert report.errors["drift"] > 0
        drift = controller.state("bad").verdicts["drift"]
        assert drift["answer"] == "unknown"
        assert "unexpected ValueError: could not convert" in drift["reason"]

    @pytest.mark.parametrize("answers", [[], [None, None]])
    def test_a_source_with_too_few_or_too_many_answers_is_unknown(self, answers: list[Any]) -> None:
        class Miscounting(MemoryMetrics):
            def read(self, queries: Sequence[MetricQuery]) -> Sequence[MetricWindow]:
                return answers

        controller = Place().using(metrics=Miscounting()).controller()
        controller.tick(NOW)
        assert controller.state("m").verdicts["performance"]["answer"] == "unknown"

    @pytest.mark.parametrize("error", [Temporary("the server is away"), Permanent("the password is wrong")])
    def test_a_source_that_is_away_is_unknown(self, error: Exception) -> None:
        class Away(MemoryMetrics):
            def read(self, queries: Sequence[MetricQuery]) -> Sequence[MetricWindow]:
                raise error

        controller = Place().using(metrics=Away()).controller()
        assert controller.tick(NOW).errors["metrics"] > 0
        verdict = controller.judge("m", NOW, "performance")
        assert isinstance(verdict, Verdict)
        assert verdict.is_unknown
        assert str(error) in verdict.reason

    def test_a_registry_that_is_away_is_asked_again_soon(self) -> None:
        class Away(MemoryRegistry):
            def champions(self, models: Sequence[str]) -> Mapping[str, ModelVersion]:
                raise Temporary("the registry is away")

        place = Place().using(registry=Away())
        controller = place.controller()
        controller.tick(NOW)
        assert place.kinds() == ["model.enrolled", "look.changed"]
        assert controller.tick(NOW + timedelta(seconds=1)).next_due == NOW + timedelta(seconds=5)
        verdict = controller.judge("m", NOW)
        assert isinstance(verdict, Verdict)
        assert verdict.reason == "the registry is away"

    def test_a_champion_that_cannot_be_read_costs_only_its_own_model_the_look(self) -> None:
        class Damaged(MemoryRegistry):
            def champions(self, models: Sequence[str]) -> Mapping[str, ModelVersion]:
                if "bad" in models:
                    raise Permanent("the artefact of bad is gone")
                return super().champions(models)

        place = Place(models=("m", "bad")).using(registry=Damaged())
        controller = place.controller()
        controller.tick(NOW)
        assert controller.state("bad").verdicts["performance"]["reason"] == "the artefact of bad is gone"
        assert controller.state("m").verdicts["schedule"]["answer"] == "no"

    def test_trouble_while_acting_is_noted_and_tried_again(self) -> None:
        class Full(MemoryCompute):
            full = True

            def submit(self, run: RunRequest) -> None:
                if self.full:
                    raise Temporary("the disk is full", retry_after=60)
                super().submit(run)

        place = Place()
        compute = Full(place.train)
        place.using(compute=compute)
        place.metrics.set("m", "accuracy", 0.8)
        controller = place.controller()
        controller.tick(NOW)
        job = controller.state("m").open_job
        assert job is not None
        assert job.stalled == "the disk is full"
        assert controller.tick(NOW + timedelta(seconds=59)).looked == ()
        compute.full = False
        controller.tick(NOW + timedelta(seconds=60))
        assert place.registry.aliases == {"m": "2"}
        assert place.kinds().count("run.intended") == 1

    def test_an_alias_moved_in_the_last_moment_is_never_overwritten(self) -> None:
        class Raced(MemoryRegistry):
            def set_champion(self, version: ModelVersion, expected: str | None) -> None:
                self.aliases["m"] = self.register("m", lambda row: 1, "c" * 64).version
                super().set_champion(version, expected)

        place = Place()
        raced = Raced()
        raced.aliases["m"] = raced.register("m", lambda row: int(row["x"] > 0.6), "a" * 64).version
        place.registry = raced
        predictor = MemoryPredictor(raced, place.data)
        place.using(
            registry=raced,
            tracker=raced,
            predictor=predictor,
            scorer=MemoryScorer(place.data, predictor),
            inspector=MemoryInspector(place.data, predictor),
        )
        place.metrics.set("m", "accuracy", 0.8)
        controller = place.controller()
        controller.tick(NOW)
        job = controller.state("m").last_job
        assert job is not None
        assert (job.status, job.deployed) == (JobStatus.FAILED, False)
        assert controller.state("m").conflict == raced.aliases["m"] == "3"

    def test_a_run_that_is_submitted_but_never_seen_waits_for_the_next_tick(self) -> None:
        class Forgetful(MemoryCompute):
            def observe(self, key: str) -> RunStatus:
                return RunStatus(RunState.ABSENT)

        place = Place().using(compute=Forgetful())
        controller = place.controller()
        controller.request("m", start(), NOW)
        controller.tick(NOW)
        report = controller.tick(NOW + timedelta(seconds=1))
        assert (report.looked, report.next_due) == ((), NOW + timedelta(seconds=5))


class Overtaking(MemoryLedger):
    """Another process appends just before one of our appends."""

    rival: Callable[[], object] | None = None

    def append(self, batch: Append) -> None:
        rival, self.rival = self.rival, None
        if rival is not None:
            rival()
        super().append(batch)


class TestOthersWriteToo:
    def place(self) -> tuple[Place, Overtaking]:
        place = Place()
        ledger = Overtaking(clock=lambda: place.clock)
        place.ledger = ledger
        return place.using(ledger=ledger, agenda=ledger, limits=ledger, outbox=ledger), ledger

    def test_an_overtaken_request_reads_and_decides_again(self) -> None:
        place, ledger = self.place()
        one, two = place.controller(), place.controller("two")
        ledger.rival = lambda: two.tick(NOW)
        draft = one.request("m", start(), NOW)
        assert place.kinds()[-1] == "request.start"
        assert draft.key in {entry.key for entry in ledger.read("m")}

    def test_an_overtaken_decision_reads_and_decides_again(self) -> None:
        place, ledger = self.place()
        one, two = place.controller(), place.controller("two")
        ledger.rival = lambda: two.request("m", start("bob"), NOW)
        one.tick(NOW)
        job = one.state("m").last_job
        assert job is not None
        assert (job.trigger_type, job.reason) == (TriggerType.MANUAL, "a new sensor")

    def test_an_overtaken_enrolment_is_done(self) -> None:
        place, ledger = self.place()
        one = Controller(place.ports, place.fleet, "one", monotonic=lambda: 0.0)
        ledger.rival = lambda: place.controller("two")
        one.enrol(["m"], NOW)
        assert place.kinds() == ["model.enrolled"]

    def test_a_model_whose_lease_is_lost_is_left_to_its_new_holder(self) -> None:
        place, ledger = self.place()
        one = place.controller()

        def steal() -> None:
            place.clock += 60
            ledger.claim(NOW, "two", 20)

        ledger.rival = steal
        report = one.tick(NOW)
        assert report.errors == {"lease": 1}
        assert place.kinds() == ["model.enrolled"]
        assert not one.tick(NOW).holds_lease

    @pytest.mark.parametrize("error", [Overtaken("moved"), LeaseLost("over")])
    def test_what_is_about_the_ledger_is_no_trouble_of_the_world(self, error: Exception) -> None:
        def raise_it() -> None:
            raise error

        with pytest.raises(type(error)):
            Place().controller()._world.ask("ledger", raise_it)


class TestJudge:
    def test_records_nothing(self) -> None:
        place = Place()
        place.metrics.set("m", "accuracy", 0.8)
        controller = place.controller()
        verdict = controller.judge("m", NOW)
        assert isinstance(verdict, Verdict)
        assert verdict.is_yes
        assert place.kinds() == ["model.enrolled"]

    def test_is_pending_while_something_is_computed(self) -> None:
        class Computing(MemoryDrift):
            def compare(self, reference: Any, current: Any) -> DriftReport | Pending:
                return Pending("computing")

        controller = Place().using(drift=Computing()).controller()
        assert isinstance(controller.judge("m", NOW), Pending)
        verdict = controller.judge("m", NOW, "performance")
        assert isinstance(verdict, Verdict)
        assert verdict.is_no

    def test_an_empty_window_is_unknown(self) -> None:
        place = Place()
        later = NOW + 200 * DAY
        verdict = place.controller().judge("m", later, "drift")
        assert isinstance(verdict, Verdict)
        assert verdict.reason == "drift is unknown: the reference window has no rows"

    def test_an_unknown_model(self) -> None:
        with pytest.raises(UnknownModel, match="there are: m"):
            Place().controller().judge("n", NOW)


class TestOnesOwnTriggers:
    @pytest.mark.parametrize(
        ("said", "status"),
        [(lambda model: (True, "winter comes"), "open"), (lambda model: (False, "summer"), "idle")],
    )
    def test_are_asked(self, said: Callable[[str], Any], status: str) -> None:
        place = Place(fate=RunStatus(RunState.RUNNING))
        controller = place.controller(
            triggers={"season": said}, trigger_types={"season": TriggerType.SCHEDULED}
        )
        controller.tick(NOW)
        job = controller.state("m").open_job
        assert (job is not None) == (status == "open")
        assert job is None or (job.trigger_type, job.reason) == (
            TriggerType.SCHEDULED,
            "season: winter comes",
        )

    @pytest.mark.parametrize("said", [lambda model: True, lambda model: 1 / 0, lambda model: (1, 2, 3)])
    def test_that_are_broken_are_unknown_and_stop_nothing(self, said: Callable[[str], Any]) -> None:
        place = Place()
        place.metrics.set("m", "accuracy", 0.8)
        controller = place.controller(triggers={"season": said})
        assert controller.tick(NOW).errors["season"] > 0
        assert place.registry.aliases == {"m": "2"}
        assert controller.state("m").verdicts["season"]["answer"] == "unknown"


class TestAdvance:
    def test_opens_no_job_by_trigger(self) -> None:
        place = Place()
        place.metrics.set("m", "accuracy", 0.1)
        controller = place.controller()
        assert controller.advance("m", NOW)
        assert place.kinds() == ["model.enrolled"]

    def test_takes_a_persons_job_as_far_as_it_goes(self) -> None:
        place = Place()
        controller = place.controller()
        controller.request("m", start(), NOW)
        assert controller.advance("m", NOW)
        assert place.kinds()[-1] == "approval.awaited"
        assert "needs_approval" in [notice.event for notice in place.notifier.sent]


def test_a_stream_of_a_newer_version_does_not_stop_the_others() -> None:
    place = Place(("m", "n"))
    controller = place.controller()
    controller.tick(NOW)
    newer = seal("m", controller.state("m").head, [Draft("job.teleported")], NOW)
    place.ledger.append(Append("m", newer, None, NOW))
    place.metrics.set("n", "accuracy", None)
    report = controller.tick(NOW + HOUR)
    assert report.errors["ledger"] == 1
    assert report.events["n", "look.changed"] == 1


class TestRoutes:
    def test_notices_go_where_the_routes_lead(self) -> None:
        place, pager, mail = Place(), MemoryNotifier(), MemoryNotifier()
        place.fleet["m"] = spec_of(name="m", owner="energy")
        place.metrics.set("m", "accuracy", 0.9)  # above the floor: no alarm
        routes = [
            Route(targets=("pager",), severity="critical"),
            Route(targets=("mail", "default"), owners=("energy",)),
        ]
        report = place.controller(routes=routes, targets={"pager": pager, "mail": mail}).tick(NOW)
        events = ["started", "deployed", "completed"]
        assert [notice.event for notice in place.notifier.sent] == events
        assert [(notice.event, notice.target) for notice in mail.sent] == [(each, "mail") for each in events]
        assert not pager.sent
        assert report.notices_sent == 6
