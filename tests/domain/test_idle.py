"""An idle model: who serves, what the triggers say, whether a job is opened, and when to look again."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from domain_world import DAY, HOUR, NOW, Story, spec_of, version
from hypothesis import given
from hypothesis import strategies as st

from autoretrain.domain.idle import job_id_for, windows_of
from autoretrain.domain.plan import POLL, RETRY, ChampionSeen, IdleSeen, Trouble
from autoretrain.domain.requests import ask_adopt, ask_rollback, ask_start
from autoretrain.domain.sealing import load
from autoretrain.domain.trigger_types import TriggerType
from autoretrain.ports.values import Pending, TimeWindow

ONE, TWO, SEVEN = version("1"), version("2"), version("7")
QUIET = spec_of(rule="performance | drift")
ADOPTING = spec_of(rule="performance | drift", promotion={"on_conflict": "adopt"})


def kinds(story: Story, seen: IdleSeen, at: datetime = NOW) -> list[str]:
    return [draft.kind for draft in story.plan(seen, at).drafts]


class TestChampion:
    def test_is_adopted_at_first_sight(self) -> None:
        story = Story()
        plan = story.sees(story.idle(ONE))
        assert [draft.kind for draft in plan.drafts] == ["champion.adopted"]
        assert plan.look_at is None
        assert story.state.champion is not None
        assert (story.state.champion.version, story.state.champion.since) == (ONE, None)

    def test_a_foreign_move_is_told_once_and_halts(self) -> None:
        story = Story(QUIET).serving()
        story.sees(story.idle(SEVEN))
        assert load(story.entries[-1].data) == {
            "expected": "1",
            "found": "7",
        }
        assert story.state.conflict == "7"
        plan = story.sees(story.idle(SEVEN, accuracy=0.8))
        assert [draft.kind for draft in plan.drafts] == ["look.changed"]
        assert plan.suppressed == "conflict"
        assert kinds(story, story.idle(SEVEN, accuracy=0.8)) == []

    def test_another_foreign_move_is_told_again(self) -> None:
        story = Story(QUIET).serving()
        story.sees(story.idle(SEVEN))
        assert kinds(story, story.idle(version("8"))) == ["champion.conflict"]

    def test_a_version_whose_artefact_changed_is_a_conflict(self) -> None:
        story = Story(QUIET).serving()
        assert kinds(story, story.idle(version("1", digest="e" * 64))) == ["champion.conflict"]

    def test_metadata_that_changed_is_none(self) -> None:
        story = Story(QUIET).serving()
        assert kinds(story, story.idle(replace(ONE, uri="elsewhere"))) == ["look.changed"]

    def test_an_alias_that_is_gone_is_a_conflict_told_once(self) -> None:
        story = Story(QUIET).serving()
        story.sees(story.idle(None))
        assert story.state.conflict == "none"
        assert "champion.conflict" not in kinds(story, story.idle(None))

    def test_an_alias_that_came_back_is_restored(self) -> None:
        story = Story(QUIET).serving()
        story.sees(story.idle(SEVEN))
        assert kinds(story, story.idle(ONE)) == ["champion.restored"]
        story.sees(story.idle(ONE))
        assert story.state.conflict is None
        story.sees(story.idle(ONE, accuracy=0.8))
        assert story.state.open_job is not None

    def test_the_adopt_policy_takes_it(self) -> None:
        story = Story(ADOPTING).serving()
        plan = story.sees(story.idle(SEVEN))
        assert [(d.kind, d.data["before"]) for d in plan.drafts] == [("champion.adopted", "1")]
        assert [champion.version for champion in story.state.served] == [ONE]

    def test_even_the_adopt_policy_cannot_take_nothing(self) -> None:
        story = Story(ADOPTING).serving()
        assert kinds(story, story.idle(None)) == ["champion.conflict"]

    def test_a_person_may_take_it(self) -> None:
        story = Story(QUIET).serving()
        story.sees(story.idle(SEVEN))
        story.asked(lambda s: ask_adopt(s, "ann", "a hotfix"))
        assert kinds(story, story.idle(SEVEN)) == ["champion.adopted"]
        story.sees(story.idle(SEVEN))
        assert (story.state.adopt, story.state.conflict) == (False, None)

    @pytest.mark.parametrize("between", [ONE, version("8")])
    def test_a_person_takes_the_version_they_saw_and_no_other(self, between: Any) -> None:
        story = Story(QUIET).serving()
        story.sees(story.idle(SEVEN))
        story.asked(lambda s: ask_adopt(s, "ann", "a hotfix"))
        story.sees(story.idle(between))
        assert kinds(story, story.idle(version("9"))) == ["champion.conflict"]
        story.sees(story.idle(version("9")))
        assert "champion.adopted" not in kinds(story, story.idle(version("9")))


class TestAJob:
    def test_is_opened_when_the_rule_says_yes(self) -> None:
        story = Story(QUIET).serving()
        plan = story.plan(story.idle(ONE, accuracy=0.9))
        assert [draft.kind for draft in plan.drafts] == ["look.changed", "job.opened"]
        assert plan.look_at is None
        opened = plan.drafts[1]
        assert opened.data["trigger_type"] is TriggerType.PERFORMANCE
        assert opened.data["policy"] == QUIET.digest
        assert opened.data["champion"] == ONE
        assert opened.key == f"job:{job_id_for(story.state)}"

    @pytest.mark.parametrize(
        ("seen", "trigger"), [({"psi": 0.9}, TriggerType.DRIFT), ({"accuracy": 0.8}, TriggerType.PERFORMANCE)]
    )
    def test_names_the_trigger_that_caused_it(self, seen: dict[str, Any], trigger: TriggerType) -> None:
        story = Story(QUIET).serving()
        story.sees(story.idle(ONE, **seen))
        assert story.state.open_job is not None
        assert story.state.open_job.trigger_type is trigger

    @pytest.mark.parametrize("accuracy", [None, 0.95])
    def test_is_not_opened_for_unknown_or_no(self, accuracy: float | None) -> None:
        story = Story(QUIET).serving()
        assert kinds(story, story.idle(ONE, accuracy=accuracy)) == ["look.changed"]

    def test_of_a_slot_is_keyed_by_it(self) -> None:
        story = Story(enrolled=NOW - 7 * DAY).serving()
        opened = story.plan(story.idle(ONE)).drafts[-1]
        assert opened.key == "slot:2026-03-01T00:00:00+00:00"

    def test_of_another_cause_answers_to_the_slot_that_is_due(self) -> None:
        story = Story(spec_of(cooldown_hours=0), enrolled=NOW - 7 * DAY).serving()
        story.sees(story.idle(ONE, accuracy=0.8))
        assert story.state.open_job is not None
        assert story.state.open_job.trigger_type is TriggerType.PERFORMANCE
        story.sees(Trouble("no data", temporary=False))
        assert story.plan(story.idle(ONE, NOW + HOUR), NOW + HOUR).verdicts is not None
        assert story.state.last_slot == datetime(2026, 3, 1, tzinfo=UTC)
        assert story.state.open_job is None

    def test_between_slots_is_keyed_by_itself(self) -> None:
        story = Story(spec_of(rule="~schedule & performance", cooldown_hours=0)).serving()
        keys = []
        for look in (NOW, NOW + HOUR):
            story.sees(story.idle(ONE, look, accuracy=0.8), look)
            keys.append(story.entries[-1].key)
            story.sees(Trouble("no data", temporary=False), look)
        assert len(set(keys)) == 2
        assert all(str(key).startswith("job:") for key in keys)

    def test_waits_while_an_observation_is_computed(self) -> None:
        story = Story(QUIET).serving()
        seen = story.idle(ONE, accuracy=None, pending=True)
        plan = story.plan(seen)
        assert (plan.drafts, plan.look_at, plan.verdicts) == ((), NOW + POLL, None)

    def test_does_not_wait_for_what_cannot_change_the_yes(self) -> None:
        story = Story(QUIET).serving()
        seen = story.idle(ONE, accuracy=0.9)
        pending = {query: Pending("computing") if "Drift" in type(query).__name__ else answer
                   for query, answer in seen.observations.items()}  # fmt: skip
        assert kinds(story, IdleSeen(ONE, pending)) == ["look.changed", "job.opened"]

    def test_asked_for_by_a_person_comes_before_the_triggers(self) -> None:
        spec = spec_of(training={"command": ["x"], "parameters": {"depth": 1, "seed": 7}})
        story = Story(spec).serving().asked(lambda s: ask_start(s, "ann", {"depth": 3}, "a new sensor"))
        (opened,) = story.plan(IdleSeen(ONE)).drafts
        assert opened.data["trigger_type"] is TriggerType.MANUAL
        assert opened.data["parameters"] == {"depth": 3, "seed": 7}
        assert (opened.actor, opened.data["reason"], opened.data["evidence"]) == (
            "ann",
            "a new sensor",
            {"actor": "ann"},
        )
        assert story.state.start is not None
        assert opened.data["job_id"] == story.state.start.job_id

    def test_asked_for_by_a_person_does_not_cool_down(self) -> None:
        story = Story(QUIET).serving().promoted().asked(lambda s: ask_start(s, "ann", {}, ""))
        assert kinds(story, story.idle(TWO)) == ["job.opened"]

    def test_has_the_same_id_when_it_is_decided_again(self) -> None:
        one, other = Story(QUIET).serving(), Story(QUIET).serving()
        assert one.plan(one.idle(ONE, accuracy=0.8)) == other.plan(other.idle(ONE, accuracy=0.8))
        assert job_id_for(one.state) != job_id_for(Story(QUIET).state)


class TestCooldown:
    def test_suppresses_and_says_so_once(self) -> None:
        story = Story(QUIET).serving().promoted()
        plan = story.sees(story.idle(TWO, NOW + 23 * HOUR, accuracy=0.9), NOW + 23 * HOUR)
        assert [(d.kind, d.data["suppressed"]) for d in plan.drafts] == [("look.changed", "cooldown")]
        assert plan.look_at == NOW + 24 * HOUR
        assert kinds(story, story.idle(TWO, NOW + 23.5 * HOUR, accuracy=0.9), NOW + 23.5 * HOUR) == []

    def test_ends(self) -> None:
        story = Story(QUIET).serving().promoted()
        end = NOW + 24 * HOUR
        assert kinds(story, story.idle(TWO, end, accuracy=0.8), end)[-1] == "job.opened"

    def test_counts_from_the_jobs_end(self) -> None:
        story = Story(QUIET).serving().opened().running().trained().judged().deployed(NOW + 10 * HOUR)
        plan = story.plan(story.idle(TWO, NOW + 30 * HOUR, accuracy=0.8), NOW + 30 * HOUR)
        assert plan.suppressed == "cooldown"


class TestRecord:
    def test_a_look_that_changes_nothing_is_not_recorded(self) -> None:
        story = Story(QUIET).serving()
        story.sees(story.idle(ONE))
        plan = story.plan(story.idle(ONE, NOW + HOUR, accuracy=0.96), NOW + HOUR)
        assert plan.drafts == ()
        assert plan.verdicts is not None
        assert plan.verdicts["performance"]["answer"] == "no"

    @pytest.mark.parametrize("changed", [{"accuracy": None}, {"psi": None}])
    def test_a_changed_answer_is(self, changed: dict[str, Any]) -> None:
        story = Story(QUIET).serving()
        story.sees(story.idle(ONE))
        assert kinds(story, story.idle(ONE, **changed)) == ["look.changed"]

    def test_a_lasting_unknown_is_told_once(self) -> None:
        story = Story(QUIET).serving()
        story.sees(story.idle(ONE, accuracy=None))
        early, late, later = (NOW + hours * HOUR for hours in (23.9, 24, 48))
        assert kinds(story, story.idle(ONE, early, accuracy=None), early) == []
        (alarm,) = story.sees(story.idle(ONE, late, accuracy=None), late).drafts
        assert (alarm.kind, alarm.data["trigger"], alarm.data["since"]) == (
            "unknown.lasting",
            "performance",
            NOW,
        )
        assert kinds(story, story.idle(ONE, later, accuracy=None), later) == []

    def test_an_unknown_that_ended_may_alarm_again(self) -> None:
        story = Story(QUIET).serving()
        for hours, accuracy in ((0, None), (24, None), (25, 0.95), (26, None)):
            at = NOW + hours * HOUR
            story.sees(story.idle(ONE, at, accuracy=accuracy), at)
        at = NOW + 50 * HOUR
        assert kinds(story, story.idle(ONE, at, accuracy=None), at) == ["unknown.lasting"]


class TestNextLook:
    def test_is_regular(self) -> None:
        story = Story(QUIET).serving()
        assert story.plan(story.idle(ONE)).look_at == NOW + HOUR

    def test_comes_earlier_for_a_slot(self) -> None:
        story = Story(spec_of(trigger={"schedule_expression": "15 12 * * *"})).serving()
        assert story.plan(story.idle(ONE)).look_at == NOW + timedelta(minutes=15)

    def test_comes_soon_when_the_registry_is_away(self) -> None:
        plan = Story().plan(Trouble("away", temporary=True))
        assert plan.look_at == NOW + RETRY

    def test_is_unknown_once_while_the_registry_is_away(self) -> None:
        story = Story().serving()
        (changed,) = story.sees(Trouble("away", temporary=True)).drafts
        answers = {name: verdict["answer"] for name, verdict in changed.data["verdicts"].items()}
        assert answers == dict.fromkeys(("performance", "drift", "schedule"), "unknown")
        again = story.plan(Trouble("away", temporary=True, retry_after=60))
        assert (again.drafts, again.look_at) == ((), NOW + timedelta(minutes=1))

    def test_tells_a_person_who_asked_what_it_waits_for(self) -> None:
        story = Story().serving().asked(lambda state: ask_start(state, "ann", {}, "now"))
        story.sees(Trouble("away", temporary=True))
        assert story.state.verdicts["manual"] == {"answer": "unknown", "reason": "away", "evidence": {}}
        story.sees(story.idle(ONE))
        assert story.state.open_job is not None
        assert "manual" not in story.state.verdicts


class TestWindows:
    def test_the_holdout_is_the_newest_data(self) -> None:
        training, holdout = windows_of(spec_of(), ONE, NOW)
        assert holdout == TimeWindow(NOW - 30 * DAY, NOW)
        assert training == TimeWindow(NOW - 120 * DAY, NOW - 30 * DAY)
        assert windows_of(spec_of(holdout_days=7), None, NOW)[1] == TimeWindow(NOW - 7 * DAY, NOW)

    @given(st.integers(0, 400), st.integers(0, 400), st.integers(1, 60))
    def test_no_row_of_the_holdout_was_trained_on(self, starts: int, ends: int, days: int) -> None:
        first, last = sorted((NOW - starts * DAY, NOW - ends * DAY + 30 * DAY))
        champion = version("1", trained_on=TimeWindow(first, last))
        training, holdout = windows_of(spec_of(holdout_days=days), champion, NOW)
        assert holdout.length == timedelta(0) or not holdout.overlaps(TimeWindow(first, last))
        assert not holdout.overlaps(training)
        assert training.end == holdout.start <= holdout.end == NOW


def test_a_version_brought_back_is_measured_from_then_on() -> None:
    story = Story(QUIET).serving().promoted().asked(lambda s: ask_rollback(s, "ann", "worse"))
    story.sees(ChampionSeen(TWO))
    story.sees(ChampionSeen(ONE), NOW + DAY)
    seen = story.idle(ONE, NOW + 2 * DAY)
    (performance, *_) = seen.observations
    assert getattr(performance, "window", None) == TimeWindow(NOW + DAY, NOW + 2 * DAY)


def test_rows_whose_labels_are_not_due_are_in_no_window() -> None:
    spec = spec_of(label_delay_hours=48, holdout_days=10)
    training, holdout = windows_of(spec, None, NOW)
    assert (holdout.start, holdout.end) == (NOW - 12 * DAY, NOW - 2 * DAY)
    assert training.end == holdout.start
    trained = version("1", trained_on=TimeWindow(NOW - 90 * DAY, NOW - DAY))
    assert windows_of(spec, trained, NOW)[1].length == timedelta(0)
