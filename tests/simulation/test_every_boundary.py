"""A model's life, broken at every single call of a port: nothing is lost, and nothing happens twice.

Not sampled: for every call that the unbroken life makes, and every way in which it can go wrong.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import cache

import pytest
from _pytest.mark import ParameterSet

from autoretrain.domain import requests
from autoretrain.domain.config import TriggerConfig
from autoretrain.domain.controller import Controller
from autoretrain.domain.sealing import Draft
from autoretrain.domain.spec import ModelSpec, TrainingSpec
from autoretrain.domain.state import ModelState
from autoretrain.entrypoints.testing.faults import Fault, Mishap
from autoretrain.entrypoints.testing.invariants import check_world
from autoretrain.entrypoints.testing.simulated_world import (
    Training,
    World,
    histories_of,
    trying,
)
from autoretrain.entrypoints.testing.simulation import LEASE_SECONDS, Process

MODEL = "churn"
Ask = Callable[[ModelState], Draft]


def spec() -> ModelSpec:
    return ModelSpec(
        name=MODEL,
        rule="performance",
        trigger=TriggerConfig(evaluation_window_days=10, training_window_days=30),
        min_rows=10,
        min_holdout_rows=10,
        training=TrainingSpec(command=("train",)),
    )


class Life:
    """Chapters of a model's life under one controller, with at most one mishap in them.

    What is repeated after the mishap is what a supervisor would do (start the process again) and a person
    (ask again, if they got no answer).
    """

    def __init__(self, chapters: tuple[str, ...], mishap: Mishap | None = None, at: int = 0) -> None:
        self.chapters = chapters
        tried = any("canary" in chapter for chapter in chapters)
        self.world = World({MODEL: trying(spec()) if tried else spec()})
        self.ports = self.world.ports()
        self.process = Process(self.world, self.ports, "main")
        self.other = Process(self.world, self.ports, "other")
        self.observer = Controller(self.ports, self.world.fleet, "observer", monotonic=self.world.clock)
        self.process.faults.plan({} if mishap is None else {at: mishap})

    def run(self) -> "Life":
        self.world.serve(MODEL, 0.64)
        self.until_done(lambda: self.process.run(lambda c: c.enrol([MODEL], self.world.now)))
        for chapter in self.chapters:
            getattr(self, chapter)()
            self.world.now += timedelta(days=2)
            self.world.add_rows(MODEL)
        return self

    def promotion(self) -> None:
        # Above the floor: this source says the same of the new champion, if a mishap lets time pass first.
        self.world.metrics.set(MODEL, "accuracy", 0.9)
        self.world.training[MODEL] = Training(boundary=0.58)
        self.turn()
        self.world.metrics.set(MODEL, "accuracy", 0.97)
        self.turn()

    def approval(self) -> None:
        self.world.training[MODEL] = Training(boundary=0.53)
        self.ask(lambda state: requests.ask_start(state, "ann", {}, "new data"))
        self.ask(lambda state: requests.ask_approve(state, str(last(state)), "ann", "fine", 0.01))

    def rollback(self) -> None:
        self.ask(lambda state: requests.ask_rollback(state, "ann", "complaints"))

    def rejection(self) -> None:
        self.world.training[MODEL] = Training(boundary=0.5)
        self.ask(lambda state: requests.ask_start(state, "ann", {}, "try"))
        self.ask(lambda state: requests.ask_reject(state, str(last(state)), "ann", "not now"))

    def cancellation(self) -> None:
        self.world.training[MODEL] = Training("hangs")
        self.ask(lambda state: requests.ask_start(state, "ann", {}, "try"))
        self.ask(lambda state: requests.ask_cancel(state, str(last(state)), "ann", "it hangs"))
        self.world.now += timedelta(seconds=2)
        self.turn()  # a run takes a moment to end

    def canary(self) -> None:
        self._tried((0.9, 0.9))

    def harmful_canary(self) -> None:
        self._tried((0.5, 0.9))

    def stopped_canary(self) -> None:
        self._tried((0.9, 0.9), hours=3)
        self.ask(lambda state: requests.ask_reject(state, str(last(state)), "ann", "complaints"))

    def _tried(self, arms: tuple[float, float], hours: int = 12) -> None:
        self.world.metrics.arms[MODEL] = arms
        self.promotion()
        for _ in range(hours):
            self.world.now += timedelta(hours=1)
            self.turn()

    def ask(self, ask: Ask) -> None:
        seq = self.state.head.seq
        kind = ask(self.state).kind

        def put() -> bool:
            if any(entry.kind == kind for entry in self.ports.ledger.read(MODEL, seq)):
                return True  # it was heard, though the answer was lost
            return self.process.run(lambda c: c.request(MODEL, ask, self.world.now))

        self.until_done(put)
        self.turn()

    def turn(self) -> None:
        met = self.process.faults.met
        self.until_done(self.process.tick)
        if self.process.faults.met > met:  # what was not seen is seen at the next looks
            for pause in (LEASE_SECONDS + 1, 3601):
                self.world.now += timedelta(seconds=pause)
                self.until_done(self.process.tick)

    def take_over(self) -> None:
        """The other controller makes a turn while ours stands still, and ours does not know of it."""
        self.world.now += timedelta(seconds=LEASE_SECONDS + 1)
        self.other.tick()
        self.world.now += timedelta(seconds=LEASE_SECONDS + 1)
        self.process.faults.overtaken = True

    def until_done(self, act: Callable[[], bool]) -> None:
        for _ in range(4):
            if act():
                self.world.weather.land()  # what the first try left under way, after the second
                return
            self.world.now += timedelta(seconds=LEASE_SECONDS + 1)
        raise AssertionError("it did not get through, though only one call went wrong")

    @property
    def state(self) -> ModelState:
        return self.observer.state(MODEL)

    @property
    def outcome(self) -> dict[str, object]:
        """What must be the same, whatever went wrong on the way. Times and ids may differ."""
        state = self.state
        champion, record = state.champion, self.world.record
        told = [n for n in record.notices if record.delivered[n.id] and n.event not in INCIDENTAL]
        return {
            "jobs": [
                (
                    job.trigger_type,
                    job.status,
                    job.decision and (job.decision.outcome, job.decision.rule),
                    job.deployed,
                    job.rolled_back_at is not None,
                )
                for job in state.jobs.values()
            ],
            "champion": champion and champion.version.digest,
            "alias": self.world.registry.aliases[MODEL],
            "withdrawn": sorted(state.quarantined),
            "versions": [version.digest for version in self.world.registry.versions[MODEL]],
            "moves": [(move.before, move.after) for move in record.moves],
            "kinds": Counter(e.kind for e in self.ports.ledger.read(MODEL) if e.kind in DECISIVE),
            "runs": len(record.started),
            "splits": self.world.router.splits,
            "tried": bool(record.shares),
            "told": Counter(n.event for n in told),
        }


DECISIVE = {"job.opened", "candidate.found", "job.decided", "promotion.done", "rollback.done", "job.closed"}
INCIDENTAL = {"unknown_lasting", "canary_held", "canary_step"}


def last(state: ModelState) -> str:
    return state.last_job.job_id if state.last_job else "none"


WHOLE = ("promotion", "approval", "rollback", "rejection", "cancellation")
CHAPTERS = (("promotion",), ("approval", "rollback"), ("rejection",), ("cancellation",))
CANARIES = (("canary",), ("harmful_canary",), ("stopped_canary",))
QUICK_CANARIES = ((Fault.CRASH_AFTER, ("canary",)), (Fault.LATE, ("stopped_canary",)))
SLOW = pytest.param(WHOLE, marks=pytest.mark.slow)
ODD = (Fault.REPEATED, Fault.SLOW, Fault.LATE, Fault.LATE_CRASH)


def _cases() -> Iterator[ParameterSet]:
    """Every fault in every part of a life; in the quick tests, the odd ones in a promotion alone."""
    for fault in Fault:
        for chapters in (*CHAPTERS, WHOLE, *CANARIES):
            slow = chapters == WHOLE or (fault in ODD and chapters != ("promotion",))
            slow = slow or (chapters in CANARIES and (fault, chapters) not in QUICK_CANARIES)
            marks = [pytest.mark.slow] if slow else []
            yield pytest.param(fault, chapters, marks=marks, id=f"{fault.name.lower()}-{'+'.join(chapters)}")


@cache
def unbroken(chapters: tuple[str, ...]) -> Life:
    return Life(chapters).run()


def check(life: Life) -> None:
    """The rules hold, and it came out as if nothing had gone wrong."""
    check_world(histories_of(life.ports, life.world.fleet), life.world.record, life.ports.outbox)
    assert life.outcome == unbroken(life.chapters).outcome


def test_the_unbroken_life_has_everything_in_it() -> None:
    life = unbroken(WHOLE)
    statuses = [job.status.value for job in life.state.jobs.values()]
    assert statuses == ["completed", "completed", "completed", "cancelled"]
    moves = [(move.before, move.after) for move in life.world.record.moves]
    assert moves == [(None, "1"), ("1", "2"), ("2", "3"), ("3", "2")]
    check(life)


@pytest.mark.parametrize(
    ("chapters", "statuses", "alias"),
    [
        (("canary",), ["completed"], "2"),
        (("harmful_canary",), ["completed"], "1"),
        (("stopped_canary",), ["completed"], "1"),
    ],
)
def test_an_unbroken_canary(chapters: tuple[str, ...], statuses: list[str], alias: str) -> None:
    life = unbroken(chapters)
    assert [job.status.value for job in life.state.jobs.values()] == statuses
    assert (life.world.registry.aliases[MODEL], life.world.router.splits) == (alias, {})
    assert [share.after and share.after.weight for share in life.world.record.shares][-1] is None
    check(life)


@pytest.mark.parametrize(("fault", "chapters"), list(_cases()))
def test_a_fault_at_any_call_changes_nothing_in_the_end(fault: Fault, chapters: tuple[str, ...]) -> None:
    for at in range(unbroken(chapters).process.faults.calls):
        life = Life(chapters, fault, at).run()
        assert life.process.faults.met == 1
        check(life)


@pytest.mark.parametrize("chapters", [*CHAPTERS, SLOW], ids="+".join)
def test_another_may_take_over_before_any_call(chapters: tuple[str, ...]) -> None:
    for at in range(unbroken(chapters).process.faults.calls):
        life = Life(chapters)
        life.process.faults.plan({at: life.take_over})
        life.run()
        assert life.process.faults.met == 1
        check(life)
