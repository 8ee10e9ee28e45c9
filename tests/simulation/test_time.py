"""Time: schedules under clocks that change, slots that are missed, triggers that storm. By the real loop."""

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from autoretrain.adapters.memory import MemoryObservations
from autoretrain.domain.requests import ask_start
from autoretrain.domain.schedule import count_slots
from autoretrain.domain.sealing import Draft, load, seal
from autoretrain.domain.spec import ModelSpec, TrainingSpec
from autoretrain.domain.state import ModelState
from autoretrain.entrypoints.testing.faults import Fault
from autoretrain.entrypoints.testing.invariants import check_world
from autoretrain.entrypoints.testing.simulated_world import Training, World, histories_of
from autoretrain.entrypoints.testing.simulation import Process
from autoretrain.ports.errors import DuplicateKey
from autoretrain.ports.ledger import Append, Ledger

MODEL = "churn"
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
NEW_YORK = {"time_zone": "America/New_York"}
Entry = tuple[datetime, str, Any]


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


class Life:
    """One model in a world of its own; its trainings fail at once unless they are told otherwise.

    Args:
        begin: When it is enrolled.
        keep: Looks kept in the rolling record.
        trigger: Its trigger configuration.
        settings: Its other settings.
    """

    def __init__(
        self,
        begin: str = "2026-01-01",
        *,
        keep: int = 5000,
        trigger: dict[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        values = {
            "rule": "performance",
            "cooldown_hours": 0,
            "check_every_seconds": 60,
            "min_rows": 10,
            **settings,
        }
        values["trigger"] = {"evaluation_window_days": 10, "training_window_days": 30, **(trigger or {})}
        spec = ModelSpec(name=MODEL, training=TrainingSpec(command=("train",)), **values)
        self.world = World({MODEL: spec}, start=utc(begin))
        self.world.observations = MemoryObservations(keep=keep)
        self.world.training[MODEL] = Training("fails")
        self.world.metrics.set(MODEL, "accuracy", 0.97)
        self.world.serve(MODEL, 0.6)
        self.process = Process(self.world, self.world.ports(), "main")
        self.process.run(lambda controller: controller.enrol([MODEL], self.world.now))
        self.tick()

    def tick(self) -> None:
        assert self.process.tick()

    def at(self, text: str) -> None:
        """Go to a time, and look."""
        self.world.now = utc(text)
        self.tick()

    def lives(
        self, length: timedelta, step: timedelta = MINUTE, each: Callable[[int], None] = lambda n: None
    ) -> None:
        """Let time go by in steps, with a turn at each."""
        for number in range(length // step):
            self.world.now += step
            each(number)
            self.tick()

    def measures(self, value: float | None) -> None:
        self.world.metrics.set(MODEL, "accuracy", value)

    def told(self, kind: str) -> list[Entry]:
        entries = self.world.ledger.read(MODEL)
        return [(datetime.fromisoformat(e.at), e.kind, load(e.data)) for e in entries if e.kind == kind]

    @property
    def state(self) -> ModelState:
        return self.process.controller.state(MODEL)

    def flaps(self) -> bool:
        return self.state.steadiness.flapping

    @property
    def slots(self) -> list[str]:
        """Slots that jobs answered, by the minute."""
        return [data["slot"][:16] for _, _, data in self.told("job.opened") if data["slot"]]

    @property
    def gaps(self) -> list[tuple[int, str, str, str | None]]:
        """Slots that no job answered: how many, the first, the last, and the one that was answered then."""
        return [
            (d["count"], d["first"][:16], d["last"][:16], d["slot"] and d["slot"][:16])
            for _, _, d in self.told("slots.missed")
        ]

    def check(self) -> None:
        check_world(histories_of(self.world.ports(), self.world.fleet), self.world.record, self.world.ledger)


def suppressions(life: Life) -> list[tuple[str, str]]:
    return [(f"{at:%d %H:%M}", data["suppressed"]) for at, _, data in life.told("look.changed")]


class TestSchedules:
    def test_a_fixed_time_is_run_once_on_the_days_on_which_clocks_change(self) -> None:
        for begin, expression in (("2026-03-06", "30 2 * * *"), ("2026-10-30", "30 1 * * *")):
            life = Life(begin, rule="schedule", trigger={**NEW_YORK, "schedule_expression": expression})
            life.lives(timedelta(days=5), 10 * MINUTE)
            assert len(life.slots) == len(set(life.slots)) == 5
            assert life.gaps == []
            life.check()

    @pytest.mark.parametrize("jump", [-HOUR, -DAY, DAY, -25 * HOUR, 36 * HOUR])
    @pytest.mark.parametrize("policy", ["latest", "none", "all"])
    def test_a_clock_that_is_set_doubles_and_forgets_nothing(self, jump: timedelta, policy: str) -> None:
        trigger = {"schedule_expression": "15 */2 * * *", "missed_slots": policy, **NEW_YORK}
        life = Life("2026-10-30 12:00", rule="schedule", trigger=trigger, check_every_seconds=600)
        life.lives(DAY, 10 * MINUTE)
        wrong = life.world.now + jump
        life.world.now = wrong
        life.tick()
        life.lives(5 * HOUR, 10 * MINUTE)
        life.process.restart()
        life.world.now -= jump  # somebody sets it right
        life.lives(3 * DAY, 10 * MINUTE)
        life.check()  # every slot is settled once
        last = life.state.last_slot
        assert last is not None
        assert count_slots("15 */2 * * *", "America/New_York", last, life.world.now) == 0
        if jump == -HOUR:
            assert life.gaps == []

    def test_a_crash_at_any_call_answers_a_slot_once(self) -> None:
        for at in range(40):
            life = Life("2026-01-01 00:30", rule="schedule", trigger={"schedule_expression": "0 * * * *"})
            life.world.now = utc("2026-01-01 04:00")
            life.process.tick({at: Fault.CRASH_AFTER})
            life.world.now += MINUTE
            life.tick()
            life.check()
            assert life.slots == ["2026-01-01T04:00"]
            assert life.gaps == [(3, "2026-01-01T01:00", "2026-01-01T03:00", "2026-01-01T04:00")]

    def test_what_holds_a_slot_is_its_key(self) -> None:
        life = Life("2026-01-01 00:30", rule="schedule", trigger={"schedule_expression": "0 * * * *"})
        other = Draft("run.ended", {"job_id": "of another time"}, key="slot:2026-01-01T01:00:00+00:00")
        entries = seal(MODEL, life.state.head, (other,), life.world.now)
        life.world.ledger.append(Append(MODEL, entries, None))
        life.at("2026-01-01 01:00")
        assert life.slots == []
        life.at("2026-01-01 02:00")
        assert life.slots == ["2026-01-01T02:00"]
        assert life.gaps == []

    def test_what_the_store_has_already_stops_no_turn(self) -> None:
        """Should state and store ever disagree, the unique key holds, and the other models get their turn."""
        life = Life("2026-01-01 00:30", rule="schedule", trigger={"schedule_expression": "0 * * * *"})
        store = _Knowing(life.world.ledger)
        life.process = Process(life.world, replace(life.world.ports(), ledger=store), "other")
        life.world.now = utc("2026-01-01 01:00")
        life.tick()
        assert life.slots == []
        store.knows = False
        life.lives(2 * MINUTE)
        assert life.slots == ["2026-01-01T01:00"]


class _Knowing:
    """A ledger that says it has every job already."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.models, self.read = ledger.models, ledger.read
        self.knows = True

    def append(self, batch: Append) -> None:
        if self.knows and any(entry.kind == "job.opened" for entry in batch.entries):
            raise DuplicateKey("churn has this already")
        self._ledger.append(batch)


class TestMissedSlots:
    def test_the_latest_is_answered_and_the_others_counted(self) -> None:
        life = Life("2026-01-01 00:30", rule="schedule", trigger={"schedule_expression": "0 * * * *"})
        life.at("2026-01-03 12:20")
        assert life.slots == ["2026-01-03T12:00"]
        assert life.gaps == [(59, "2026-01-01T01:00", "2026-01-03T11:00", "2026-01-03T12:00")]
        assert life.state.missed is not None
        assert (life.state.missed.total, life.state.missed.policy) == (59, "latest")
        life.lives(2 * HOUR)
        assert life.slots[1:] == ["2026-01-03T13:00", "2026-01-03T14:00"]
        assert len(life.gaps) == 1
        life.check()

    def test_none_answers_a_slot_within_its_grace_only(self) -> None:
        trigger = {"schedule_expression": "0 */6 * * *", "missed_slots": "none", "slot_grace_minutes": 30}
        life = Life("2026-01-01 01:00", rule="schedule", trigger=trigger)
        verdict = life.process.controller.judge(MODEL, utc("2026-01-03 13:00"))
        assert (
            verdict.reason
            == "the slot of 2026-01-03 12:00 UTC (0 */6 * * *) was missed by more than 30 minutes"
        )
        life.at("2026-01-03 13:00")
        assert life.slots == []
        assert life.gaps == [(10, "2026-01-01T06:00", "2026-01-03T12:00", None)]
        life.lives(HOUR)
        assert len(life.told("slots.missed")) == 1
        life.at("2026-01-03 18:30")
        assert life.slots == ["2026-01-03T18:00"]
        life.at("2026-01-04 06:20")
        assert life.slots[1:] == ["2026-01-04T06:00"]
        assert life.gaps[1:] == [(1, "2026-01-04T00:00", "2026-01-04T00:00", "2026-01-04T06:00")]
        life.check()

    def test_all_are_made_up_for_oldest_first_up_to_a_bound(self) -> None:
        trigger = {"schedule_expression": "0 0 * * *", "missed_slots": "all", "max_missed": 3}
        life = Life("2026-01-01 01:00", rule="schedule", trigger=trigger)
        life.at("2026-01-11 12:00")
        life.lives(10 * MINUTE)
        assert life.slots == ["2026-01-09T00:00", "2026-01-10T00:00", "2026-01-11T00:00"]
        assert life.gaps == [(7, "2026-01-02T00:00", "2026-01-08T00:00", "2026-01-09T00:00")]
        life.check()

    def test_slots_in_a_cooldown_are_counted_when_it_ends(self) -> None:
        life = Life(
            "2026-01-01 00:30",
            rule="schedule",
            cooldown_hours=24,
            trigger={"schedule_expression": "0 * * * *"},
        )
        life.lives(timedelta(hours=26))
        assert life.slots == ["2026-01-01T01:00", "2026-01-02T01:00"]
        assert life.gaps == [(23, "2026-01-01T02:00", "2026-01-02T00:00", "2026-01-02T01:00")]
        life.check()

    def test_a_job_of_another_cause_answers_the_slot_and_counts_the_others(self) -> None:
        life = Life(
            "2026-01-01 00:30", rule="performance | schedule", trigger={"schedule_expression": "0 * * * *"}
        )
        life.measures(0.8)
        life.at("2026-01-01 05:10")
        assert life.slots == ["2026-01-01T05:00"]
        assert life.told("job.opened")[0][2]["trigger_type"] == "performance_degradation"
        assert life.gaps == [(4, "2026-01-01T01:00", "2026-01-01T04:00", "2026-01-01T05:00")]
        life.check()

    @pytest.mark.parametrize("policy", ["latest", "none", "all"])
    def test_ten_thousand_missed_slots_are_one_entry(self, policy: str) -> None:
        took = {}
        for hours in (1, 10_007):
            life = Life(
                "2026-01-01 00:30",
                rule="schedule",
                trigger={"schedule_expression": "0 * * * *", "missed_slots": policy},
            )
            life.world.now = utc("2026-01-01 00:00") + hours * HOUR
            life.world.add_rows(MODEL)
            began = time.perf_counter()
            life.tick()
            took[hours] = time.perf_counter() - began
            kept = 10 if policy == "all" else 1
            assert [count for count, *_ in life.gaps] == ([] if hours == 1 else [hours - kept])
            life.check()
        print(f"{policy}: a turn after 1 slot {took[1]:.4f} s, after 10,007 {took[10_007]:.4f} s")


class TestStorms:
    def test_a_cooldown_of_seven_days_looked_at_every_minute(self) -> None:
        life = Life(keep=100, cooldown_hours=7 * 24)
        life.measures(0.8)
        began = time.perf_counter()
        life.lives(timedelta(days=7, minutes=10))
        print(f"10,090 turns in {time.perf_counter() - began:.1f} s")
        assert [entry.kind for entry in life.world.ledger.read(MODEL)].count("job.opened") == 2
        assert len(life.world.ledger.read(MODEL)) < 20
        held, ended = life.told("look.changed")[-3:-1]
        assert (held[2]["suppressed"], held[2]["until"][:16]) == ("cooldown", "2026-01-08T00:01")
        assert ended[2]["suppressed"] == ""
        assert (ended[2]["looks"], ended[2]["looks_lost"]) == (
            99,
            True,
        )  # and this one: the record keeps a hundred
        life.check()

    def test_looks_in_between_are_counted_through_restarts(self) -> None:
        life = Life(cooldown_hours=10)
        life.measures(0.8)
        life.lives(
            timedelta(hours=10, minutes=5), each=lambda n: life.process.restart() if n % 50 == 0 else None
        )
        _, held, ended = life.told("look.changed")[-4:-1]
        assert (held[2]["suppressed"], ended[2]["suppressed"]) == ("cooldown", "")
        assert (ended[2]["looks"], ended[2]["looks_lost"], ended[2]["changes"]) == (599, False, 0)
        assert ended[0] - held[0] == 600 * MINUTE

    def test_a_budget_holds_against_a_metric_that_flaps_all_day(self) -> None:
        life = Life("2026-01-01 00:00", max_jobs_a_day=3, keep=2000)

        def flap(number: int) -> None:
            life.measures(0.8 if number % 2 else 0.97)
            if number % 100 == 0:
                life.process.restart()

        life.lives(timedelta(hours=24, minutes=-1), each=flap)
        opened = [at for at, _, _ in life.told("job.opened")]
        assert len(opened) == 3
        assert "budget" in {reason for _, reason in suppressions(life)}
        assert life.flaps()
        changed = life.told("look.changed")
        assert len(changed) < 24 * 6 + 10
        assert not any(data["looks_lost"] for _, _, data in changed)
        assert all_looks(life) == 24 * 60
        assert sum(data["changes"] for _, _, data in changed) > 1200
        life.lives(3 * MINUTE, each=flap)  # another day
        assert len(life.told("job.opened")) > 3
        life.check()

    def test_flapping_settles(self) -> None:
        life = Life(max_jobs_a_day=1, check_every_seconds=60)
        life.lives(2 * HOUR, each=lambda n: life.measures(0.8 if n % 2 else 0.97))
        assert life.flaps()
        life.measures(0.97)
        life.lives(2 * HOUR)
        assert not life.flaps()
        assert life.state.verdicts["performance"]["answer"] == "no"
        before = len(life.world.ledger.read(MODEL))
        life.lives(5 * HOUR)
        assert len(life.world.ledger.read(MODEL)) == before

    def test_a_new_reason_is_recorded_even_while_answers_flap(self) -> None:
        life = Life(cooldown_hours=1, max_jobs_a_day=1)
        life.lives(30 * MINUTE, each=lambda n: life.measures(0.8 if n % 2 else 0.97))
        assert life.flaps()
        life.world.serve(MODEL, 0.7)  # a foreign champion
        life.measures(0.8)
        life.lives(2 * MINUTE)
        assert life.state.suppressed == "conflict"

    def test_a_persons_request_is_never_held_back_but_counts(self) -> None:
        life = Life(max_jobs_a_day=1, cooldown_hours=0)

        def start(state: ModelState) -> Draft:
            return ask_start(state, "ann", {}, "try")

        for _ in range(2):
            life.process.run(lambda controller: controller.request(MODEL, start, life.world.now))
            life.world.now += MINUTE
            life.tick()
        assert len(life.told("job.opened")) == 2
        life.measures(0.8)
        life.lives(HOUR)
        assert len(life.told("job.opened")) == 2
        assert (life.state.suppressed, life.state.suppressed_until) == ("budget", utc("2026-01-02"))

    def test_a_day_is_that_of_the_time_zone(self) -> None:
        life = Life("2026-03-08 00:00", max_jobs_a_day=1, trigger=NEW_YORK)
        life.measures(0.8)
        life.lives(timedelta(hours=30), 5 * MINUTE)
        opened = [f"{at:%d %H:%M}" for at, _, _ in life.told("job.opened")]
        assert opened == ["08 00:05", "08 05:00", "09 04:00"]  # the 8th had 23 hours there


class TestFor:
    def test_a_yes_must_last(self) -> None:
        life = Life(for_hours=2, max_jobs_a_day=1)
        life.measures(0.8)
        life.lives(timedelta(hours=1, minutes=59), each=lambda n: life.process.restart() if n == 60 else None)
        assert life.told("job.opened") == []
        assert (life.state.suppressed, life.state.suppressed_until) == ("for", utc("2026-01-01 02:01"))
        life.lives(2 * MINUTE)
        assert [f"{at:%H:%M}" for at, _, _ in life.told("job.opened")] == ["02:01"]
        life.check()

    def test_a_no_begins_anew(self) -> None:
        life = Life(for_hours=2, max_jobs_a_day=1)
        for value in (0.8, 0.97, 0.8):
            life.measures(value)
            life.lives(90 * MINUTE)
        assert life.told("job.opened") == []
        life.lives(31 * MINUTE)
        assert [f"{at:%H:%M}" for at, _, _ in life.told("job.opened")] == ["05:01"]

    def test_an_unknown_stops_the_clock(self) -> None:
        life = Life(for_hours=2, max_jobs_a_day=1)
        for value in (0.8, None, 0.8):
            life.measures(value)
            life.lives(HOUR)
            life.process.restart()
        assert life.told("job.opened") == []
        life.lives(MINUTE)
        assert [f"{at:%H:%M}" for at, _, _ in life.told("job.opened")] == ["03:01"]

    def test_an_unknown_proposes_nothing_however_long_it_was_yes(self) -> None:
        life = Life(for_hours=2, cooldown_hours=0)
        life.measures(0.8)
        life.lives(119 * MINUTE)
        life.measures(None)
        life.lives(10 * HOUR)
        assert life.told("job.opened") == []

    def test_two_looks_at_least(self) -> None:
        life = Life(for_hours=0.5, check_every_seconds=36000)
        life.measures(0.8)
        life.lives(24 * HOUR, 12 * HOUR)
        assert len(life.told("job.opened")) == 1

    def test_a_flapping_metric_never_confirms(self) -> None:
        life = Life(for_hours=0.5)
        life.lives(12 * HOUR, each=lambda n: life.measures(0.8 if n % 2 else 0.97))
        assert life.told("job.opened") == []
        assert len(life.told("look.changed")) <= 12 * 6 + 10
        life.measures(0.8)
        life.lives(2 * HOUR)
        assert life.told("job.opened")

    def test_a_slot_does_not_wait(self) -> None:
        life = Life(for_hours=6, rule="performance | schedule", trigger={"schedule_expression": "0 3 * * *"})
        life.measures(0.8)
        life.lives(4 * HOUR)
        [(at, _, data)] = life.told("job.opened")
        assert (f"{at:%H:%M}", data["slot"][:16]) == ("03:00", "2026-01-01T03:00")

    def test_every_job_needs_it_anew(self) -> None:
        life = Life(for_hours=2)
        life.measures(0.8)
        life.lives(7 * HOUR)
        assert len(life.told("job.opened")) == 3


def all_looks(life: Life) -> int:
    """Looks between the changed ones, the changed ones, and those since: all the looks there were."""
    changed = life.told("look.changed")
    since = life.world.observations.recent(MODEL, life.state.looked_at)
    return int(sum(data["looks"] for _, _, data in changed) + len({at for at, _, _ in changed})) + len(since)
