"""The fold: what the ledger says is what happened."""

import json
from dataclasses import replace
from datetime import datetime

import pytest
from domain_world import DAY, HOUR, NOW, Story, scored, spec_of, version
from hypothesis import given
from hypothesis import strategies as st

from autoretrain.domain.fold import KINDS, fold
from autoretrain.domain.jobs import IllegalTransition, JobStatus
from autoretrain.domain.plan import ChampionSeen, NothingSeen, TrafficSeen, Trouble
from autoretrain.domain.requests import (
    ask_adopt,
    ask_approve,
    ask_cancel,
    ask_reject,
    ask_release,
    ask_rollback,
    ask_start,
)
from autoretrain.domain.sealing import Draft, seal, verify
from autoretrain.domain.state import Misses, ModelState
from autoretrain.ports.errors import Permanent


def long_story() -> Story:
    """A life in which every kind of entry occurs."""
    story = Story(spec_of(watch={"days": 4, "on_unknown": "rollback"}), enrolled=NOW).serving().opened()
    story.sees(Trouble("disk full", temporary=True))  # job.stalled
    story.running().trained().judged().deployed()  # watch.begun
    story.sees(story.batch(0.95, NOW + DAY), NOW + DAY)  # watch.batch
    story.sees(story.batch(None, NOW + 3 * DAY), NOW + 3 * DAY)  # watch.missed
    story.sees(story.batch(None, NOW + 8 * DAY), NOW + 8 * DAY)  # watch.ended, request.rollback
    story.sees(ChampionSeen(None))  # rollback.intended
    story.sees(Trouble("revoked", temporary=False), NOW)  # rollback.failed
    story.asked(lambda s: ask_rollback(s, "ann", "it is worse"))
    story.sees(ChampionSeen(version("2")))
    story.sees(ChampionSeen(version("1")))
    story.sees(story.idle(version("7")))  # champion.conflict
    story.asked(lambda s: ask_adopt(s, "ann", "that was me"))
    story.sees(story.idle(version("1")))  # champion.restored
    story.asked(lambda s: ask_release(s, "2", "bob", "it was fine"))
    story.asked(lambda s: ask_rollback(s, "ann", "again"))
    story.sees(Trouble("no route to host", temporary=True))  # rollback.stalled
    story.sees(ChampionSeen(version("1")))
    story.sees(Trouble("it is gone", temporary=False, acting=True))  # rollback.skipped
    story.sees(ChampionSeen(version("1")))  # rollback.failed
    story.asked(lambda s: ask_rollback(s, "ann", "once more"))
    story.sees(ChampionSeen(version("9")))  # champion.conflict and rollback.failed
    story.sees(story.idle(version("1")))  # champion.restored
    for hours, accuracy in ((1, 0.6), (25, 0.95), (26, None), (50, None)):
        # champion.below_floor, champion.above_floor, look.changed, unknown.lasting
        at = NOW + hours * HOUR
        story.sees(story.idle(version("1"), at, accuracy=accuracy), at)
    story.by_hand(NOW + 3 * DAY)
    story.asked(lambda s: ask_reject(s, story.job_id, "bob", "not now"))
    story.sees(NothingSeen())
    story.by_hand(NOW + 4 * DAY)
    story.asked(lambda s: ask_approve(s, story.job_id, "bob", "fine", override=True))
    story.sees(NothingSeen())
    story.deployed().asked(lambda s: ask_start(s, "ann", {}, "again"))
    start = story.state.start
    assert start is not None
    story.asked(lambda s: ask_cancel(s, start.job_id, "ann", "no"))
    canaries(story, NOW + 10 * DAY)
    later, serving = NOW + 30 * DAY, story.state.champion
    assert serving is not None
    story.sees(story.idle(serving.version, later), later)  # slots.missed
    return story


def canaries(story: Story, at: datetime) -> None:
    """One that goes through and leaves a stray behind, and one that is aborted."""
    story.spec, plain = spec_of(canary=CANARY), story.spec
    story.opened(at).running(at).trained("5", at).judged(at=at)  # canary.began
    story.sees(story.traffic(), at)  # canary.applied
    story.sees(TrafficSeen(None), at)  # canary.conflict
    story.sees(story.traffic(), at)
    at += HOUR
    story.sees(story.traffic(at=at), at)  # canary.held
    story.sees(story.traffic(at=at, arms=[(0.9, 0.9)] * 5), at)  # canary.batch
    story.sees(story.traffic(at=at), at)  # canary.step
    story.sees(story.traffic(), at)
    at += HOUR
    story.sees(story.traffic(at=at, arms=[(0.9, 0.9)] * 5), at)
    story.sees(story.traffic(at=at), at)  # canary.passed
    job = story.state.open_job
    assert job is not None
    assert job.canary is not None
    story.deployed(at).sees(TrafficSeen(None, sure=True), at)  # canary.ended, canary.cleared
    serving, at = version("5"), at + 2 * DAY
    story.sees(replace(story.idle(serving, at), split=job.canary.split), at)  # split.stray
    story.sees(story.idle(serving, at), at)  # split.cleared
    story.spec = plain


CANARY = {
    "candidate": "accuracy_new",
    "baseline": "accuracy_old",
    "direction": "up",
    "steps": [{"weight": weight, "minutes": 10, "samples": 10} for weight in (0.1, 0.5)],
}
STORY = long_story()


def test_the_story_tells_every_kind() -> None:
    assert KINDS - set(STORY.kinds) == set()
    assert verify("m", STORY.entries) is None


@given(st.integers(0, len(STORY.entries)))
def test_a_fold_goes_on_where_it_stopped(place: int) -> None:
    half = fold("m", STORY.entries[:place])
    assert fold("m", STORY.entries[place:], half) == fold("m", STORY.entries) == STORY.state


@given(st.integers(0, len(STORY.entries)))
def test_there_is_never_more_than_one_open_job(place: int) -> None:
    state = fold("m", STORY.entries[:place])
    assert sum(job.is_open for job in state.jobs.values()) <= 1
    assert state.head.seq == place


def test_nothing_is_known_of_an_empty_stream() -> None:
    assert fold("m", ()) == ModelState("m")


@pytest.mark.parametrize("change", [{"kind": "job.teleported"}, {"v": 2}])
def test_what_is_newer_than_the_program_is_refused(change: dict[str, object]) -> None:
    entry = replace(STORY.entries[0], **change)  # type: ignore[arg-type]
    with pytest.raises(Permanent, match="is newer than this program; upgrade autoretrain"):
        fold("m", [entry])


def test_an_entry_against_the_table_is_refused() -> None:
    story = Story().serving().promoted()
    closed = Draft("job.closed", {"job_id": story.job_id, "status": "failed", "reason": "again"})
    with pytest.raises(IllegalTransition, match="cannot go from completed to failed"):
        story.told(closed)


class TestAJob:
    def test_is_opened_with_its_evidence(self) -> None:
        job = Story().serving().opened().state.open_job
        assert job is not None
        assert job.status is JobStatus.PENDING
        assert job.reason == "accuracy 0.8000 is below the threshold of 0.92"
        assert job.evidence["value"] == 0.8
        assert job.metrics_before == {"accuracy": 0.8}
        assert job.champion == version("1")
        assert (job.created_at, job.started_at, job.training) == (NOW, None, None)

    def test_collects_what_happens_to_it(self) -> None:
        story = Story().serving().opened().running(NOW + DAY)
        job = story.state.open_job
        assert job is not None
        assert (job.status, job.attempt, job.started_at) == (JobStatus.RUNNING, 1, NOW + DAY)
        job = story.trained().judged(at=NOW + DAY).state.open_job
        assert job is not None
        assert (job.status, job.candidate) == (JobStatus.DEPLOYING, version("2"))
        assert job.improvement_pct == pytest.approx((0.95 - 0.88) / 0.88)
        assert job.metrics_after is not None
        assert (job.metrics_after["f1"], job.champion_metrics and job.champion_metrics["f1"]) == (0.95, 0.88)
        story.deployed(NOW + 2 * DAY)
        done = story.state.last_job
        assert done is not None
        assert (done.status, done.deployed, done.deployed_at) == (JobStatus.COMPLETED, True, NOW + 2 * DAY)
        assert (done.completed_at, done.error_message) == (NOW + 2 * DAY, None)
        assert story.state.open_job is None

    def test_promotion_changes_the_champion(self) -> None:
        state = Story().serving().promoted().state
        assert state.champion is not None
        assert (state.champion.version.version, state.champion.since) == ("2", NOW)
        assert [champion.version.version for champion in state.served] == ["1"]

    def test_a_rollback_is_noted_on_the_job_and_does_not_reopen_it(self) -> None:
        story = Story().serving().promoted()
        story.asked(lambda s: ask_rollback(s, "ann", "worse"))
        story.sees(ChampionSeen(version("2")))
        story.sees(ChampionSeen(version("1")), NOW + DAY)
        job = story.state.last_job
        assert job is not None
        assert (job.status, job.rolled_back_at) == (JobStatus.COMPLETED, NOW + DAY)
        assert dict(story.state.quarantined) == {version("2").digest: "2"}
        assert story.state.withdrawn_at == NOW + DAY


def test_a_schedule_remembers_its_slot() -> None:
    story = Story(enrolled=NOW - 7 * DAY).serving()
    story.sees(story.idle(version("1")))
    assert story.state.last_job is not None
    assert story.state.last_job.trigger_type.value == "scheduled"
    assert story.state.last_slot == NOW.replace(day=1, hour=0)


def test_entries_hold_json_that_any_language_reads() -> None:
    for entry in STORY.entries:
        assert isinstance(json.loads(entry.data), dict)


def test_the_same_story_is_sealed_to_the_same_bytes() -> None:
    again = long_story()
    assert again.entries == STORY.entries
    assert seal("m", again.state.head, (Draft("x"),), NOW) == seal("m", STORY.state.head, (Draft("x"),), NOW)


def four_promotions() -> Story:
    story = Story().serving()
    for number in range(4):
        story.promoted(str(number + 2), NOW + 3 * number * DAY)
    return story


class TestRecentJobs:
    def test_only_ended_jobs_before_the_latest_are_left_out(self) -> None:
        story = four_promotions()
        whole = fold("m", story.entries)
        jobs = list(whole.jobs)
        assert len(jobs) == 4

        for keep in (1, 2, 3):
            kept = fold("m", story.entries, keep_jobs=keep)
            assert list(kept.jobs) == jobs[-keep:]
            assert kept.earlier_jobs == 4 - keep
            assert replace(kept, jobs=whole.jobs, earlier_jobs=0) == whole

    def test_entry_by_entry_is_the_same_as_all_at_once(self) -> None:
        story = four_promotions()
        state = ModelState("m")
        for entry in story.entries:
            state = fold("m", [entry], state, keep_jobs=2)
        assert state == fold("m", story.entries, keep_jobs=2)


class TestWhatAnEntryLeavesBehind:
    """Fields that later decisions rest on, entry by entry."""

    def test_adopting_ends_with_the_answer(self) -> None:
        story = Story().serving()
        story.told(Draft("champion.conflict", {"found": None}))
        assert story.state.conflict == "none"
        story.told(Draft("champion.conflict", {"found": "9"}))
        story.asked(lambda s: ask_adopt(s, "ann", "that was me"))
        assert story.state.adopt
        restored = story.told(Draft("champion.restored", {})).state
        assert (restored.conflict, restored.adopt) == (None, False)

    def test_an_adopted_version_has_no_past(self) -> None:
        champion = Story().serving().state.champion
        assert champion is not None
        assert (champion.version, champion.since, champion.job_id) == (version("1"), None, None)

    def test_a_look_of_an_older_release_says_less(self) -> None:
        state = Story().told(Draft("look.changed", {"verdicts": {}, "suppressed": "cooldown"})).state
        assert (state.suppressed, state.suppressed_until) == ("cooldown", None)
        assert (state.steadiness.answer, state.steadiness.flapping) == ("", False)

    def test_missed_slots_add_up_over_gaps(self) -> None:
        def gap(count: int, first: object, last: object) -> Draft:
            data = {"count": count, "first": first, "last": last, "policy": "latest"}
            return Draft("slots.missed", data)

        state = Story().told(gap(3, NOW - 3 * DAY, NOW - DAY)).told(gap(2, NOW, NOW + DAY)).state
        assert state.missed == Misses(5, 2, NOW, NOW + DAY, "latest")

    def test_a_job_keeps_what_it_was_asked_for(self) -> None:
        story = Story().serving().by_hand()
        job = story.state.open_job
        assert job is not None
        assert dict(job.parameters) == {"depth": 3}
        assert job.policy == story.spec.digest
        assert story.state.start is None

    def test_opening_a_job_begins_the_count_of_steady_answers_anew(self) -> None:
        story = Story().serving()
        data = {"verdicts": {}, "suppressed": "not long enough", "answer": "yes"}
        story.told(Draft("look.changed", data))
        story.told(Draft("look.changed", {**data, "answer": "unknown"}), at=NOW + HOUR)
        story.told(Draft("look.changed", data), at=NOW + DAY)
        assert (story.state.steadiness.since, story.state.steadiness.before) == (NOW + DAY, 3600.0)
        state = story.opened(NOW + DAY).state
        assert (state.steadiness.answer, state.steadiness.since, state.steadiness.before) == ("", None, 0.0)

    @pytest.mark.parametrize("step", ["run.intended", "job.validated"])
    def test_what_stalled_a_job_is_over_when_it_goes_on(self, step: str) -> None:
        story = Story().serving().opened()
        if step == "job.validated":
            story.running().trained()
        story.told(Draft("job.stalled", {"job_id": story.job_id, "reason": "away"}))
        assert story.state.jobs[story.job_id].stalled == "away"
        _ = story.running() if step == "run.intended" else story.judged()
        assert step in story.kinds
        assert story.state.jobs[story.job_id].stalled == ""

    def test_without_a_champion_nothing_is_compared(self) -> None:
        story = Story()
        story.asked(lambda s: ask_start(s, "ann", {}, "the first"))
        story.sees(story.idle(None))
        job = story.running().trained().judged(scored(champion=None)).state.last_job
        assert job is not None
        assert (job.champion, job.champion_metrics, job.improvement_pct) == (None, None, None)

    @pytest.mark.parametrize("approve", [True, False])
    def test_nobody_is_waited_for_after_an_answer(self, approve: bool) -> None:
        story = Story().serving().by_hand()
        assert story.state.jobs[story.job_id].awaiting_until is not None
        if approve:
            story.asked(lambda s: ask_approve(s, story.job_id, "bob", "fine"))
        else:
            story.asked(lambda s: ask_reject(s, story.job_id, "bob", "no"))
        story.sees(NothingSeen())
        assert story.state.jobs[story.job_id].awaiting_until is None

    def test_nobody_is_waited_for_after_the_end(self) -> None:
        story = Story().serving().by_hand(at=NOW)
        story.sees(NothingSeen(), NOW + 30 * DAY)
        job = story.state.jobs[story.job_id]
        assert (job.status, job.awaiting_until, job.error_message) == (JobStatus.COMPLETED, None, None)

    def test_a_way_back_that_is_given_up_leaves_no_target(self) -> None:
        story = Story().serving().promoted()
        story.asked(lambda s: ask_rollback(s, "ann", "worse"))
        rollback = story.state.rollback
        assert rollback is not None
        assert (rollback.target, rollback.expected) == (None, None)
        assert (rollback.policy, rollback.stalled) == ("", "")
        story.sees(ChampionSeen(version("2")))
        going = story.state.rollback
        assert going is not None
        assert (going.target, going.expected, going.policy) == (version("1"), "2", story.spec.digest)
        story.told(Draft("rollback.skipped", {"version": version("1"), "reason": "it is gone"}))
        left = story.state.rollback
        assert left is not None
        assert (left.target, left.expected, dict(left.skipped)) == (None, None, {"1": "it is gone"})

    def test_a_version_that_comes_back_is_still_its_jobs(self) -> None:
        story = Story().serving().promoted("2")
        first = story.job_id
        story.promoted("3", NOW + 3 * DAY)
        story.asked(lambda s: ask_rollback(s, "ann", "worse"))
        story.sees(ChampionSeen(version("3")))
        story.sees(ChampionSeen(version("2")))
        back = story.state.champion
        assert back is not None
        assert (back.version, back.job_id) == (version("2"), first)

    def test_an_adopted_version_that_comes_back_is_nobodys(self) -> None:
        story = Story().serving().promoted("2")
        story.asked(lambda s: ask_rollback(s, "ann", "worse"))
        story.sees(ChampionSeen(version("2")))
        story.sees(ChampionSeen(version("1")))
        back = story.state.champion
        assert back is not None
        assert (back.version, back.since, back.job_id) == (version("1"), NOW, None)

    def test_a_target_that_never_served_is_nobodys(self) -> None:
        story = Story().serving().promoted("2")
        story.asked(lambda s: ask_rollback(s, "ann", "worse"))
        story.sees(ChampionSeen(version("2")))
        account = {"who": "ann", "why": "worse", "before": "2", "policy": ""}
        story.told(Draft("rollback.done", {"target": version("9"), **account}))
        back = story.state.champion
        assert back is not None
        assert (back.version, back.job_id) == (version("9"), None)

    def test_a_new_model_has_done_nothing_yet(self) -> None:
        state = ModelState("m")
        assert (state.adopt, state.suppressed, state.suppressed_until) == (False, "", None)
        assert (state.withdrawn_at, state.conflict, state.steadiness.answer) == (None, None, "")
        assert (state.enrolled_at, state.missed, state.looked_at) == (None, None, None)
