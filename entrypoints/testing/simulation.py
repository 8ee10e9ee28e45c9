"""The real controller in a simulated world, as a Hypothesis state machine.

``RetrainingMachine`` lets people, time, training runs, outages, crashes and two controllers act on a
``World`` in any order, and checks the rules of ``invariants`` after every step; at the end it lets everything
calm down, and checks that nothing was left lying about.

To put an adapter of your own through it, subclass the machine and replace one port::

    class MyMachine(RetrainingMachine):
        def make_ports(self, world: World) -> Ports:
            return replace(world.ports(), notifier=MyNotifier())

    TestMine = MyMachine.TestCase
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial, wraps
from typing import Any, Literal, TypeVar, cast

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ...domain import requests
from ...domain.sealing import Draft
from ...domain.state import ModelState
from ...domain.world import Ports
from ...ports.errors import JobAlreadyOpen, Permanent, Refused, Temporary, UnknownJob
from .faults import Fault, Mishap
from .history import Record
from .invariants import check_tampering, check_world
from .simulated_process import Process
from .simulated_world import LEASE_SECONDS, Training, World, alias_of, histories_of
from .watch_rules import watches_hold

__all__ = ["LEASE_SECONDS", "Fault", "Process", "RetrainingMachine", "Training", "World"]

_Step = TypeVar("_Step", bound=Callable[..., None])

MODELS = st.sampled_from(["churn", "fraud"])
CONTROLLERS = st.sampled_from(["first", "second"])
BOUNDARIES = st.sampled_from([0.5, 0.53, 0.58, 0.62, 0.8])
EARLIER = st.sampled_from([None, None, "1", "2", "99"])
PEOPLE = ["ann", "bob"]
ANSWERS = st.sampled_from(["approve", "reject", "cancel"])
MISHAPS: st.SearchStrategy[dict[int, Fault]] = st.just({}) | st.dictionaries(
    st.integers(0, 12) | st.integers(0, 45), st.sampled_from(Fault), min_size=1, max_size=2
)
"""Faults by number of the call; most turns take some ten calls, one with a whole job in it about fifty."""


def told(step: _Step) -> _Step:
    """Let a machine write down a step in words, with what went wrong in it."""

    @wraps(step)
    def telling(machine: RetrainingMachine, *args: Any, **values: Any) -> None:
        if machine.is_telling:  # a step within a step
            return step(machine, *args, **values)
        before = {name: len(process.faults.told) for name, process in machine.processes.items()}
        machine.is_telling = True
        machine.story.append(_in_words(step.__name__, values))
        try:
            step(machine, *args, **values)
        finally:
            machine.is_telling = False
            for name, process in machine.processes.items():
                machine.story[-1] += "".join(f"; {name}: {it}" for it in process.faults.told[before[name] :])

    return cast(_Step, telling)


def _in_words(step: str, values: Mapping[str, object]) -> str:
    told = [f"{name} {value}" for name, value in values.items() if name != "mishaps"]
    return step.replace("_", " ") + (f" ({', '.join(told)})" if told else "")


class RetrainingMachine(RuleBasedStateMachine):
    """Everything that can happen to a fleet of two models under two controllers.

    Subclasses may override ``make_world``, ``make_ports``, ``calm`` and ``people_answer``.

    Attributes:
        calm: Pauses between the turns in which the world calms down at the end.
        story: The steps so far, in words.
        checks: How often the rules were checked.
    """

    calm: Sequence[timedelta] = (
        timedelta(seconds=21),
        timedelta(hours=2),
        timedelta(days=3),
        timedelta(hours=2),
    )

    def __init__(self) -> None:
        super().__init__()
        self.story: list[str] = []
        self.is_telling = False
        self.checks = 0
        self.world = self.make_world()
        self.ports = self.make_ports(self.world)
        self.processes = {
            name: Process(self.world, self.ports, name) for name in ("first", "second", "person")
        }
        self._checked: tuple[Any, ...] = ()

    def make_world(self) -> World:
        """Return a new world whose fleet has the models ``churn`` and ``fraud``."""
        return World(shards=4)

    def make_ports(self, world: World) -> Ports:
        """Return the world's ports, with adapters of your own in the place of some."""
        return world.ports()

    # -- time and the outside world -----------------------------------------------------------------------

    @initialize(boundary=st.sampled_from([0.64, 0.5]))
    @told
    def begin(self, boundary: float) -> None:
        """One model serves already, the other has no champion yet."""
        self.world.serve("churn", boundary)
        self.processes["first"].run(lambda c: c.enrol(["churn", "fraud"], self.world.now))

    @rule(by=st.sampled_from([1, 6, 21, 3600, 30 * 3600, 8 * 86400]), calm=st.booleans())
    @told
    def time_passes(self, by: int, calm: bool) -> None:
        """Seconds to days go by; in calm times the first controller makes its turn then."""
        self.world.now += timedelta(seconds=by)
        if calm:
            self.processes["first"].tick()

    @rule(model=MODELS)
    @told
    def rows_arrive(self, model: str) -> None:
        """Labels of the time that has passed arrive."""
        self.world.add_rows(model)

    @rule(model=MODELS, value=st.sampled_from([0.8, 0.97, math.nan, math.inf, None]))
    @told
    def metric_changes(self, model: str, value: float | None) -> None:
        """The live metric is bad, good, broken or missing."""
        self.world.metrics.set(model, "accuracy", value)

    @rule(model=MODELS, psi=st.sampled_from([0.0, 0.4, None]))
    @told
    def data_drifts(self, model: str, psi: float | None) -> None:
        """Inputs drift, do not, or cannot be compared."""
        self.world.drift.set(model, {"x": psi})

    @rule(
        model=MODELS,
        outcome=st.sampled_from(
            ["succeeds", "succeeds", "succeeds", "fails", "lost", "hangs", "none", "two"]
        ),
        boundary=BOUNDARIES,
        again=st.booleans(),
    )
    @told
    def training_becomes(self, model: str, outcome: Any, boundary: float, again: bool) -> None:
        """Training runs come out like this from now on."""
        self.world.training[model] = Training(outcome, boundary, again)

    @rule(
        refusal=st.sampled_from(
            [None, None, Temporary("busy", 60.0), Temporary("away"), Permanent("revoked")]
        )
    )
    @told
    def notifier_becomes(self, refusal: Temporary | Permanent | None) -> None:
        """Messages are taken, or refused for now, or for good."""
        self.world.notifier.refusal = refusal

    @rule(model=MODELS, which=st.integers(-1, 5))
    @told
    def somebody_moves_the_alias(self, model: str, which: int) -> None:
        """The alias goes to some version, or away, past the controller."""
        versions = self.world.registry.versions.get(model, [])
        label = versions[which % len(versions)].version if versions and which >= 0 else None
        self.world.move_alias(model, label)

    @rule(model=MODELS, which=st.integers(0, 5))
    @told
    def somebody_alters_an_artefact(self, model: str, which: int) -> None:
        """The files of a version are changed in place."""
        versions = self.world.registry.versions.get(model, [])
        if versions:
            version = versions[which % len(versions)]
            self.world.registry.tamper(version, version.digest[::-1])

    @rule(model=MODELS, which=st.integers(0, 5))
    @told
    def somebody_deletes_a_version(self, model: str, which: int) -> None:
        """A version is deleted from the registry, and the alias with it if it serves."""
        versions = self.world.registry.versions.get(model, [])
        if versions:
            self.world.delete_version(versions[which % len(versions)])

    @rule(model=MODELS, which=st.integers(0, 5))
    @told
    def somebody_deletes_an_artefact(self, model: str, which: int) -> None:
        """The files of a version are deleted."""
        versions = self.world.registry.versions.get(model, [])
        if versions:
            self.world.registry.delete_artefact(versions[which % len(versions)])

    @rule(model=MODELS)
    @told
    def somebody_deletes_the_tracked_run(self, model: str) -> None:
        """The last job's run is deleted, with what it has logged."""
        job_id = _last(self.processes["person"].controller.state(model))
        self.world.registry.delete_run(job_id)

    @rule(by=st.sampled_from([-3600, -60, 3600, 86400]))
    @told
    def the_clock_steps(self, by: int) -> None:
        """The clock is set back up to an hour, or forward up to a day: for models and for leases."""
        self.world.pass_time(by)

    @rule(which=st.integers(0, 3))
    @told
    def a_late_call_lands(self, which: int) -> None:
        """A call whose caller has given up or died takes effect."""
        self.world.weather.land(which)

    @rule(name=CONTROLLERS, at=st.integers(0, 45), which=st.integers(0, 3))
    @told
    def a_late_call_lands_within_a_turn(self, name: str, at: int, which: int) -> None:
        """It takes effect in the middle of a controller's turn."""
        self.processes[name].tick({at: partial(self.world.weather.land, which)})

    # -- controllers --------------------------------------------------------------------------------------

    @rule(name=CONTROLLERS, mishaps=MISHAPS)
    @told
    def tick(self, name: str, mishaps: dict[int, Fault]) -> None:
        """A controller makes a turn, in which something may go wrong."""
        self.processes[name].tick(mishaps)

    @rule(model=MODELS, name=CONTROLLERS, boundary=BOUNDARIES, mishaps=MISHAPS)
    @told
    def retrain(self, model: str, name: str, boundary: float, mishaps: dict[int, Fault]) -> None:
        """A day later the metric is bad, the training works, and a controller makes a turn."""
        self.world.now += timedelta(hours=25)
        self.world.add_rows(model)
        self.world.metrics.set(model, "accuracy", 0.8)
        self.world.training[model] = Training(boundary=boundary)
        self.processes[name].tick(mishaps)

    @rule(model=MODELS, name=CONTROLLERS, to=EARLIER, mishaps=MISHAPS)
    @told
    def retrain_and_regret(self, model: str, name: str, to: str | None, mishaps: dict[int, Fault]) -> None:
        """A good model comes after a middling one, and a person wants an earlier one back."""
        for boundary in (0.58, 0.5):
            self.retrain(model, name, boundary, {})
        self.roll_back(model, to, mishaps)

    @rule(name=CONTROLLERS)
    @told
    def restart(self, name: str) -> None:
        """A controller is stopped and started."""
        self.processes[name].restart()

    @rule(name=CONTROLLERS, at=st.integers(0, 45))
    @told
    def pause(self, name: str, at: int) -> None:
        """A controller stands still in the middle of its turn until the other has taken over, and goes on."""
        paused, other = self.processes[name], self.processes["second" if name == "first" else "first"]
        paused.tick({at: lambda: self.take_over(paused, other)})

    def take_over(self, paused: Process, other: Process) -> None:
        """Let the lease of one controller run out, and the other make a turn."""
        self.world.now += timedelta(seconds=LEASE_SECONDS + 1)
        other.tick()
        paused.faults.overtaken = True

    @rule(model=MODELS)
    @told
    def a_call_advances(self, model: str) -> None:
        """A library call does the controller's work for one model, if no controller runs."""
        self.processes["person"].run(lambda controller: controller.advance(model, self.world.now))

    # -- people -------------------------------------------------------------------------------------------

    @rule(model=MODELS, boundary=BOUNDARIES, answer=ANSWERS, mishaps=MISHAPS)
    @told
    def retrain_by_hand(self, model: str, boundary: float, answer: str, mishaps: dict[int, Fault]) -> None:
        """A person asks for a retraining, the training works, and they answer what came out."""
        self.world.now += timedelta(hours=1)
        self.world.add_rows(model)
        self.world.training[model] = Training(boundary=boundary)
        self.start(model, {})
        match answer:
            case "approve":
                for actor in PEOPLE:
                    self.approve(model, actor, None, False, mishaps)
            case "reject":
                self.reject(model, mishaps)
            case _:
                self.cancel(model, mishaps)

    @rule(model=MODELS, mishaps=MISHAPS)
    @told
    def start(self, model: str, mishaps: dict[int, Fault]) -> None:
        """A person asks for a retraining."""
        supersede = self.world.fleet[model].promotion.pending == "supersede"
        self.ask(model, lambda s: requests.ask_start(s, "ann", {"depth": 3}, "new data", supersede), mishaps)

    @rule(
        model=MODELS,
        actor=st.sampled_from(PEOPLE),
        least=st.sampled_from([None, 0.0, 0.05]),
        override=st.booleans(),
        mishaps=MISHAPS,
    )
    @told
    def approve(
        self, model: str, actor: str, least: float | None, override: bool, mishaps: dict[int, Fault]
    ) -> None:
        """A person lets the last job's candidate serve, alone or with another."""
        self.ask(model, lambda s: requests.ask_approve(s, _last(s), actor, "fine", least, override), mishaps)

    @rule(model=MODELS, mishaps=MISHAPS)
    @told
    def reject(self, model: str, mishaps: dict[int, Fault]) -> None:
        """A person refuses the last job's candidate."""
        self.ask(model, lambda state: requests.ask_reject(state, _last(state), "ann", "no"), mishaps)

    @rule(model=MODELS, mishaps=MISHAPS)
    @told
    def cancel(self, model: str, mishaps: dict[int, Fault]) -> None:
        """A person ends the last job, or the one asked for."""
        self.ask(model, lambda state: requests.ask_cancel(state, _last(state), "ann", "stop"), mishaps)

    @rule(model=MODELS, to=EARLIER, mishaps=MISHAPS)
    @told
    def roll_back(self, model: str, to: str | None, mishaps: dict[int, Fault]) -> None:
        """A person wants an earlier version back."""
        self.ask(model, lambda state: requests.ask_rollback(state, "ann", "worse", to), mishaps)

    @rule(model=MODELS, mishaps=MISHAPS)
    @told
    def adopt(self, model: str, mishaps: dict[int, Fault]) -> None:
        """A person accepts a foreign champion."""
        self.ask(model, lambda state: requests.ask_adopt(state, "ann", "mine"), mishaps)

    @rule(model=MODELS, label=st.sampled_from(["1", "2", "3"]), mishaps=MISHAPS)
    @told
    def release(self, model: str, label: str, mishaps: dict[int, Fault]) -> None:
        """A person lets a withdrawn version come back into question."""
        self.ask(model, lambda state: requests.ask_release(state, label, "ann", "fixed"), mishaps)

    def ask(self, model: str, ask: Callable[[ModelState], Draft], mishaps: Mapping[int, Mishap]) -> None:
        """Put a request, and let a controller make a turn. A wrong one is refused, and changes nothing."""
        person = self.processes["person"]
        before = self.ports.ledger.read(model)
        try:
            person.run(lambda controller: controller.request(model, ask, self.world.now), mishaps)
        except (Refused, JobAlreadyOpen, UnknownJob):
            assert self.ports.ledger.read(model) == before, "a refused request changed the ledger"
            return
        self.processes["first"].tick(mishaps)

    # -- what must hold -----------------------------------------------------------------------------------

    @rule(model=MODELS, at=st.integers(0), how=st.sampled_from(["edit", "remove", "reorder"]))
    @told
    def tampering_is_found(self, model: str, at: int, how: Literal["edit", "remove", "reorder"]) -> None:
        """An entry that is edited, removed or moved is named (rule 8)."""
        entries = self.ports.ledger.read(model)
        if len(entries) > 1:
            check_tampering(model, entries, at % (len(entries) - 1), how)

    @invariant()
    def rules_hold(self) -> None:
        """The rules that never bend hold after every step."""
        record = self.world.record
        now = (tuple(len(self.ports.ledger.read(model)) for model in self.world.fleet), _size(record))
        if now != self._checked:
            self.checks += 1
            histories = histories_of(self.ports, self.world.fleet)
            check_world(histories, record, self.ports.outbox)
            for history in histories:
                watches_hold(history)
            self._checked = now

    def teardown(self) -> None:
        """Let the world calm down: nothing may be left open, undelivered, or unknown to the ledger."""
        while self.world.weather.land(-1):
            pass
        self.world.registry.restore_artefacts()
        self.world.notifier.refusal = None
        for model in self.world.fleet:
            self.world.training[model] = Training()
            self.world.metrics.set(model, "accuracy", 0.97)
        for pause in self.calm:
            self.world.now += pause
            self.people_answer()
            for _ in range(4):  # an hour of messages at twenty a turn
                assert self.processes["first"].tick(), "a calm turn did not come to its end"
        self.rules_hold()
        self._nothing_is_left()

    def people_answer(self) -> None:
        """What people do while the world calms down; nothing, so that what waits for them runs out."""

    def _nothing_is_left(self) -> None:
        for history in histories_of(self.ports, self.world.fleet):
            state, job = history.state, history.state.open_job
            # What waits for something that was deleted is given up after a day, at the look after that.
            assert job is None or job.created_at > self.world.now - timedelta(hours=26), (
                f"{job} was left open"
            )
            assert state.rollback is None, f"the rollback of {state.model} was left open"
            assert state.start is None, f"the request of {state.model} was left lying"
            known = state.champion.version.version if state.champion else None
            found = alias_of(self.ports.registry, state.model)
            agreed = found == known if state.conflict is None else state.conflict == (found or "none")
            assert agreed, f"{state.model}: {found} serves, not {known} ({state.conflict})"
        waiting = self.ports.outbox.due(self.world.now)
        assert not waiting, f"notices were left: {waiting}"


def _last(state: ModelState) -> str:
    """The job asked for, or opened last."""
    if state.start is not None:
        return state.start.job_id
    return state.last_job.job_id if state.last_job else "none"


def _size(record: Record) -> tuple[int, ...]:
    return (len(record.moves), len(record.scorings), record.started.total(), record.delivered.total())
