"""A canary: steps, the comparison at the same time, and every way to end."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from domain_world import DAY, NOW, Story, scored, spec_of, version
from pydantic import ValidationError

from autoretrain.domain.canary_spec import CanarySpec
from autoretrain.domain.canary_state import Canary
from autoretrain.domain.canary_words import canary_text
from autoretrain.domain.explain import timeline
from autoretrain.domain.fold import fold
from autoretrain.domain.jobs import JobStatus, RetrainingJob
from autoretrain.domain.notices import notices_of
from autoretrain.domain.plan import (
    ApplySplit,
    ChampionSeen,
    ClearSplit,
    NothingSeen,
    Phase,
    Plan,
    ScoresSeen,
    SetChampion,
    TrafficSeen,
    Trouble,
    phase_of,
)
from autoretrain.domain.requests import (
    ask_approve,
    ask_cancel,
    ask_reject,
    ask_release,
    ask_rollback,
    ask_start,
)
from autoretrain.domain.sealing import load
from autoretrain.domain.state import ModelState
from autoretrain.ports.errors import Refused
from autoretrain.ports.traffic import Split
from autoretrain.ports.values import TimeWindow

MINUTE = timedelta(minutes=1)
PLAN: dict[str, Any] = {
    "candidate": "accuracy_new",
    "baseline": "accuracy_old",
    "direction": "up",
    "tolerance": 0.01,
    "steps": [
        {"weight": 0.1, "minutes": 30, "samples": 100},
        {"weight": 0.5, "minutes": 60, "samples": 500},
    ],
}
SAME, WORSE = (0.95, 0.95), (0.90, 0.95)
FOREIGN = Split("m", "1", "9", 0.3, salt="theirs")


def canary_of(**changes: Any) -> dict[str, Any]:
    return {**PLAN, **changes}


def begun(**changes: Any) -> Story:
    """A candidate that passed the gate, and whose first split is intended."""
    story = Story(spec_of(canary=canary_of(**changes))).serving().opened().running().trained().judged()
    assert phase_of(story.state) is Phase.CANARY
    return story


def applied(**changes: Any) -> Story:
    """Its first split is in force since NOW."""
    story = begun(**changes)
    story.sees(story.traffic())
    return story


def job_of(story: Story) -> RetrainingJob:
    job = story.state.last_job
    assert job is not None
    return job


def canary(story: Story) -> Canary:
    found = job_of(story).canary
    assert found is not None
    return found


def goes_on(story: Story, minutes: float, arms: tuple[float | None, float | None] = SAME) -> Plan:
    """Look once, so many minutes after the step began, with the same arms over all batches that are due."""
    since = canary(story).since
    assert since is not None
    at = since + minutes * MINUTE
    due = canary(story).due_batches(at)
    return story.sees(story.traffic(at=at, arms=[arms] * len(due)), at)


def through(story: Story) -> Story:
    """Both steps, without harm."""
    goes_on(story, 40)
    goes_on(story, 40)
    at = NOW + DAY
    story.sees(story.traffic(at=at), at)
    goes_on(story, 70)
    goes_on(story, 70)
    return story


def told(story: Story) -> list[str]:
    """What people heard, in order."""
    state, events = ModelState("m"), []
    for entry in story.entries:
        events += [notice.event for notice in notices_of(state, [entry])]
        state = fold("m", [entry], state)
    return events


class TestItBegins:
    def test_after_the_gate_with_its_whole_plan(self) -> None:
        story = Story(spec_of(canary=PLAN)).serving().opened().running().trained()
        plan = story.sees(ScoresSeen(scored()), NOW)
        assert [draft.kind for draft in plan.drafts] == ["job.validated", "job.decided", "canary.began"]
        split = Split("m", "1", "2", 0.1, salt=story.job_id)
        assert plan.act == ApplySplit(split, None)
        assert canary(story).plan == story.spec.canary.plan
        assert (job_of(story).status, canary(story).since) == (JobStatus.DEPLOYING, None)

    def test_a_first_model_has_nobody_to_be_compared_with(self) -> None:
        story = Story(spec_of(canary=PLAN, promotion={"first_champion": "floor"}))
        story.sees(story.idle(None, accuracy=None))
        story.asked(lambda state: ask_start(state, "ann", {}, "the first"))
        story.sees(story.idle(None))
        story.running().trained().judged(scored(champion=None))
        story.asked(lambda state: ask_approve(state, story.job_id, "ann", "the first"))
        plan = story.sees(NothingSeen())
        assert isinstance(plan.act, SetChampion)
        assert job_of(story).canary is None

    def test_an_approval_by_a_person_leads_to_it_too(self) -> None:
        story = Story(spec_of(canary=PLAN)).serving().by_hand()
        story.asked(lambda state: ask_approve(state, story.job_id, "ann", "fine"))
        assert isinstance(story.sees(NothingSeen()).act, ApplySplit)

    def test_a_model_without_steps_is_promoted_at_once(self) -> None:
        story = Story().serving().opened().running().trained().judged()
        assert phase_of(story.state) is Phase.DEPLOYMENT


class TestTheSplit:
    def test_is_put_in_force_where_nothing_is(self) -> None:
        story = begun()
        assert story.sees(TrafficSeen(None)).act == ApplySplit(canary(story).split, None)
        assert "canary.applied" not in story.kinds

    def test_is_made_sure_of_by_whoever_only_finds_it(self) -> None:
        story = begun()
        plan = story.sees(story.traffic(sure=False))
        assert (plan.drafts, plan.act) == ((), ApplySplit(canary(story).split, None))
        story.sees(story.traffic())
        assert canary(story).since == NOW

    def test_of_somebody_else_halts_and_is_left_alone(self) -> None:
        story = applied()
        plan = story.sees(story.traffic(FOREIGN), NOW + MINUTE)
        assert (plan.act, [draft.kind for draft in plan.drafts]) == (None, ["canary.conflict"])
        assert canary(story).conflict == str(FOREIGN)
        again = story.sees(story.traffic(FOREIGN), NOW + 2 * MINUTE)
        assert (again.act, again.drafts) == (None, ())

    @pytest.mark.parametrize("found", [None, FOREIGN])
    def test_that_somebody_took_away_is_not_put_back(self, found: Split | None) -> None:
        story = applied()
        story.sees(story.traffic(found), NOW + MINUTE)
        assert story.sees(story.traffic(found), NOW + 2 * MINUTE).act is None

    def test_that_is_no_split_at_all_halts_too(self) -> None:
        story = applied()
        story.sees(TrafficSeen(None, "something that is no split"), NOW + MINUTE)
        assert canary(story).conflict == "something that is no split"

    def test_set_back_by_a_person_begins_the_step_anew(self) -> None:
        story = applied()
        goes_on(story, 20)
        assert canary(story).rows != (0, 0)
        story.sees(story.traffic(FOREIGN), NOW + 21 * MINUTE)
        later = NOW + 50 * MINUTE
        assert story.sees(story.traffic(sure=False), later).act is not None
        story.sees(story.traffic(), later)
        back = canary(story)
        assert (back.since, back.rows, back.conflict, back.read_until) == (later, (0, 0), None, None)

    def test_changed_under_our_salt_is_somebody_elses_all_the_same(self) -> None:
        story = applied()
        theirs = replace(canary(story).split, weight=0.9)
        story.asked(lambda state: ask_cancel(state, story.job_id, "ann", "stop"))
        story.sees(NothingSeen())
        assert story.sees(TrafficSeen(theirs)).act is None
        assert job_of(story).status is JobStatus.CANCELLED
        assert str(theirs) in job_of(story).outcome

    def test_that_stays_foreign_is_the_end_at_the_deadline_and_is_left(self) -> None:
        story = applied(deadline_minutes=60)
        story.sees(story.traffic(FOREIGN), NOW + MINUTE)
        late = NOW + 3 * 60 * MINUTE
        story.sees(story.traffic(FOREIGN), late)
        plan = story.sees(TrafficSeen(FOREIGN), late)
        assert plan.act is None
        assert job_of(story).status is JobStatus.COMPLETED
        assert "left as it is" in job_of(story).outcome

    def test_of_a_job_that_has_ended_is_taken_back_first(self) -> None:
        story = through(applied())
        stray = canary(story).split
        story.sees(ChampionSeen(version("2")), NOW + DAY)
        story.sees(TrafficSeen(None, sure=True), NOW + DAY)
        later = NOW + 5 * DAY
        plan = story.sees(replace(story.idle(version("2"), later), split=stray), later)
        assert ([draft.kind for draft in plan.drafts], plan.act) == (["split.stray"], ClearSplit(stray))
        again = story.sees(replace(story.idle(version("2"), later), split=stray), later)
        assert (again.drafts, again.act) == ((), ClearSplit(stray))
        story.sees(story.idle(version("2"), later), later)
        assert story.state.stray is None
        assert "split.cleared" in story.kinds

    def test_of_nobody_we_know_is_not_ours_to_clear(self) -> None:
        story = Story(spec_of(canary=PLAN)).serving()
        plan = story.plan(replace(story.idle(version("1")), split=FOREIGN))
        assert plan.act is None


class TestAStep:
    def test_reads_nothing_before_rows_have_had_time_to_be_seen(self) -> None:
        story = applied()  # a lag of 5 minutes before the first batch of 10, and after it
        assert canary(story).due_batches(NOW + 19 * MINUTE) == ()
        [batch] = canary(story).due_batches(NOW + 20 * MINUTE)
        assert (batch.start, batch.end) == (NOW + 5 * MINUTE, NOW + 15 * MINUTE)

    def test_looks_again_when_the_next_batch_can_be_read(self) -> None:
        story = applied()
        assert goes_on(story, 0).look_at == NOW + 20 * MINUTE

    def test_takes_least_time(self) -> None:
        story = applied()
        goes_on(story, 29)
        plan = goes_on(story, 29)
        assert (plan.drafts, plan.look_at) == ((), NOW + 30 * MINUTE)

    def test_takes_least_rows_of_either_arm(self) -> None:
        story = applied(steps=[{"weight": 0.1, "minutes": 20, "samples": 201}])
        goes_on(story, 30)
        goes_on(story, 30)
        assert canary(story).held == "samples"
        goes_on(story, 40)
        assert isinstance(goes_on(story, 40).act, SetChampion)

    def test_leads_to_the_next_under_the_same_salt(self) -> None:
        story = applied()
        before = canary(story).split
        goes_on(story, 40)
        plan = goes_on(story, 40)
        assert plan.act == ApplySplit(replace(before, weight=0.5), before)
        assert canary(story).rows == (0, 0)
        assert canary(story).compared.count == 3  # the evidence is kept over the steps

    def test_is_not_ended_by_what_was_unknown(self) -> None:
        story = applied()
        goes_on(story, 40, (None, 0.95))
        plan = goes_on(story, 40, (None, 0.95))
        assert (plan.act, canary(story).held) == (None, "unknown")
        assert canary(story).rows == (0, 0)

    def test_waits_for_the_last_batch_and_gives_up_those_before(self) -> None:
        story = applied()
        goes_on(story, 40, (None, None))
        unknown = [load(e.data) for e in story.entries if e.kind == "canary.batch"]
        assert [batch["worse"] for batch in unknown] == [None, None]  # the third may still become known
        assert canary(story).read_until == NOW + 25 * MINUTE
        goes_on(story, 41)
        assert canary(story).read_until == NOW + 35 * MINUTE
        assert canary(story).compared.count == 1

    def test_goes_on_when_the_source_is_back(self) -> None:
        story = applied()
        plan = story.sees(story.traffic(unread="no route to host"), NOW + 40 * MINUTE)
        assert (plan.act, canary(story).held) == (None, "unknown")
        goes_on(story, 45)
        assert isinstance(goes_on(story, 45).act, ApplySplit)

    @pytest.mark.parametrize("rows", [(None, 900), (0, 900)])
    def test_rows_that_nobody_counted_are_no_samples(self, rows: tuple[int | None, int]) -> None:
        story = applied()
        at = NOW + 30 * MINUTE
        story.sees(story.traffic(at=at, arms=[SAME, SAME], rows=rows), at)
        assert canary(story).compared.count == 0

    def test_many_batches_are_read_in_one_look(self) -> None:
        story = applied()
        assert len(canary(story).due_batches(NOW + 30 * DAY)) == 100

    def test_in_the_shadow_shows_nobody_the_candidates_answers(self) -> None:
        steps = [{"weight": 1.0, "minutes": 30, "samples": 10, "kind": "shadow"}, *PLAN["steps"]]
        story = applied(steps=steps)
        assert (canary(story).split.shadow, canary(story).split.weight) == (True, 1.0)
        goes_on(story, 40)  # as many rows in either arm
        plan = goes_on(story, 40)
        assert isinstance(plan.act, ApplySplit)
        assert not plan.act.split.shadow


class TestHarm:
    def test_that_is_shown_aborts_and_withdraws_the_version(self) -> None:
        story = applied()
        noise = random.Random(1)
        for minutes in range(20, 200, 10):
            if canary(story).ending is None:
                goes_on(story, minutes, (0.80 + noise.gauss(0, 0.01), 0.95))
        ending = canary(story).ending
        assert ending is not None
        assert "harm is shown in step 1 of 2 (10 %)" in ending.reason
        assert canary(story).compared.count <= 6
        assert story.state.quarantined == {version("2").digest: "2"}

    def test_that_comes_with_the_load_is_not_hidden_by_a_good_step_before(self) -> None:
        story = applied(steps=[{"weight": 0.1, "minutes": 300, "samples": 100}, PLAN["steps"][1]])
        noise = random.Random(4)

        def arms(by: float) -> tuple[float, float]:
            return 0.95 - by + noise.gauss(0, 0.01), 0.95 + noise.gauss(0, 0.01)

        for minutes in range(20, 310, 10):
            goes_on(story, minutes, arms(0.0))
        goes_on(story, 310)
        goes_on(story, 310)
        assert canary(story).number == 1
        at = NOW + DAY
        story.sees(story.traffic(at=at), at)
        for minutes in range(20, 310, 10):
            if canary(story).ending is None:
                goes_on(story, minutes, arms(0.1))
        assert canary(story).ending is not None
        assert canary(story).within.count <= 6

    def test_leads_the_traffic_back_before_the_job_ends(self) -> None:
        story = applied()
        split = canary(story).split
        goes_on(story, 120, (0.5, 0.95))
        assert phase_of(story.state) is Phase.CLEARING
        assert story.sees(TrafficSeen(split)).act == ClearSplit(split)
        assert job_of(story).is_open
        unsure = story.sees(TrafficSeen(None))
        assert unsure.act == ClearSplit(split)  # what was found cleared may be half of it
        story.sees(TrafficSeen(None, sure=True))
        job = job_of(story)
        assert (job.status, job.deployed) == (JobStatus.COMPLETED, False)
        assert story.state.champion is not None
        assert story.state.champion.version.version == "1"

    def test_keeps_the_version_out_until_a_person_lets_it_back(self) -> None:
        story = applied()
        goes_on(story, 120, (0.5, 0.95))
        story.sees(TrafficSeen(None, sure=True))
        later = NOW + 3 * DAY
        story.opened(later).running(later).trained("3", later, digest=version("2").digest)
        story.judged(at=later)
        job = job_of(story)
        assert job.decision is not None
        assert job.decision.reason == "it is the same model as version 2, which was rolled back or withdrawn"
        story.asked(lambda state: ask_release(state, "2", "ann", "it was the feed"))
        assert not story.state.quarantined

    def test_is_by_direction(self) -> None:
        story = applied(direction="down")
        goes_on(story, 120, (0.5, 0.95))  # an error that is smaller
        assert canary(story).ending is None
        assert canary(story).compared.mean < 0

    def test_that_is_neither_shown_nor_excluded_is_waited_for(self) -> None:
        story = applied(deadline_minutes=60)
        for minutes, value in ((20, 0.90), (30, 0.97), (40, 0.90)):
            goes_on(story, minutes, (value, 0.95))
        plan = goes_on(story, 40)
        assert (plan.act, canary(story).held) == (None, "doubt")
        goes_on(story, 50, (0.99, 0.95))
        assert isinstance(goes_on(story, 50).act, ApplySplit)

    def test_must_be_excluded_where_proof_is_asked_for(self) -> None:
        story = applied(proof=True)
        goes_on(story, 40)
        assert goes_on(story, 40).act is None
        assert canary(story).held == "proof"
        for minutes in range(50, 120, 10):
            goes_on(story, minutes, (0.95 + minutes / 1e4, 0.95))
        assert isinstance(goes_on(story, 110).act, ApplySplit)


class TestTheSampleRatio:
    def test_is_checked_before_the_arms_are_compared(self) -> None:
        story = applied()
        at = NOW + 40 * MINUTE
        story.sees(story.traffic(at=at, arms=[WORSE] * 3, rows=(400, 600)), at)
        ending = canary(story).ending
        assert ending is not None
        assert "the comparison cannot be read" in ending.reason
        assert "40.00% where 10.00% was meant" in ending.reason
        assert not story.state.quarantined  # nothing was shown of the version

    def test_sees_that_the_candidate_gets_nothing(self) -> None:
        story = applied()
        at = NOW + 40 * MINUTE
        story.sees(story.traffic(at=at, arms=[(None, 0.95)] * 3, rows=(0, 900)), at)
        ending = canary(story).ending
        assert ending is not None
        assert "got 0 of 1,800 rows" in ending.reason

    def test_allows_for_keys_with_many_requests(self) -> None:
        rows = (115_000, 885_000)
        for tolerance, ended in ((0.1, True), (0.2, False)):
            story = applied(ratio_tolerance=tolerance)
            at = NOW + 20 * MINUTE
            story.sees(story.traffic(at=at, arms=[SAME], rows=rows), at)
            assert (canary(story).ending is not None) is ended

    def test_in_the_shadow_both_arms_get_the_same(self) -> None:
        story = applied(steps=[{"weight": 1.0, "minutes": 30, "samples": 10, "kind": "shadow"}])
        at = NOW + 20 * MINUTE
        story.sees(story.traffic(at=at, arms=[SAME], rows=(100, 1000)), at)
        assert canary(story).ending is not None


class TestTheEnd:
    def test_moves_the_alias_and_then_takes_the_split_back(self) -> None:
        story = through(applied())
        assert phase_of(story.state) is Phase.DEPLOYMENT
        split = canary(story).split
        story.sees(ChampionSeen(version("2")), NOW + DAY)
        job = job_of(story)
        assert (job.deployed, job.is_open, phase_of(story.state)) == (True, True, Phase.CLEARING)
        assert story.sees(TrafficSeen(split), NOW + DAY).act == ClearSplit(split)
        story.sees(TrafficSeen(None, sure=True), NOW + DAY)
        job = job_of(story)
        assert (job.status, job.deployed) == (JobStatus.COMPLETED, True)
        assert job.decision is not None
        assert job.outcome == job.decision.reason

    def test_a_moved_alias_fails_the_deployment_and_takes_the_split_back(self) -> None:
        story = through(applied())
        story.sees(ChampionSeen(version("9")), NOW + DAY)
        assert phase_of(story.state) is Phase.CLEARING
        story.sees(TrafficSeen(None, sure=True), NOW + DAY)
        assert job_of(story).status is JobStatus.FAILED

    def test_a_moved_alias_is_waited_for_before(self) -> None:
        story = applied()
        story.sees(ChampionSeen(version("9")), NOW + MINUTE)
        assert story.state.conflict == "9"
        goes_on(story, 40)
        plan = goes_on(story, 40)
        assert (plan.act, canary(story).held) == (None, "champion")

    def test_another_champion_ends_it(self) -> None:
        spec = spec_of(canary=PLAN, promotion={"on_conflict": "adopt"})
        story = Story(spec).serving().opened().running().trained().judged()
        story.sees(story.traffic())
        story.sees(ChampionSeen(version("9")), NOW + MINUTE)
        story.sees(NothingSeen(), NOW + MINUTE)
        ending = canary(story).ending
        assert ending is not None
        assert ending.reason == "it was compared with version 1, and would replace version 9"

    def test_a_refusal_of_the_alias_takes_the_split_back(self) -> None:
        story = through(applied())
        story.sees(Trouble("the artefact was altered", temporary=False, acting=True), NOW + DAY)
        assert phase_of(story.state) is Phase.CLEARING
        story.sees(TrafficSeen(None, sure=True), NOW + DAY)
        assert job_of(story).outcome == "deployment failed: the artefact was altered"

    @pytest.mark.parametrize(("policy", "ends"), [("abort", True), ("hold", False)])
    def test_a_hold_has_a_time_to_live(self, policy: str, ends: bool) -> None:
        story = applied(deadline_minutes=60, on_deadline=policy)
        goes_on(story, 95, (None, None))
        goes_on(story, 95, (None, None))
        assert (canary(story).ending is not None) is ends
        assert canary(story).held == ("unknown" if ends else "deadline") or ends
        if not ends:
            plan = goes_on(story, 96, (None, None))
            assert (plan.drafts, plan.act) == ((), None)


class TestPeople:
    def test_may_cancel_it(self) -> None:
        story = applied()
        story.asked(lambda state: ask_cancel(state, story.job_id, "ann", "a holiday"))
        story.sees(NothingSeen())
        assert phase_of(story.state) is Phase.CLEARING
        with pytest.raises(Refused, match="being deployed"):
            ask_cancel(story.state, story.job_id, "ann", "again")
        story.sees(TrafficSeen(None, sure=True))
        assert (job_of(story).status, job_of(story).outcome) == (
            JobStatus.CANCELLED,
            "cancelled by ann: a holiday",
        )

    def test_may_reject_it_though_somebody_has_approved(self) -> None:
        story = Story(spec_of(canary=PLAN)).serving().by_hand()
        story.asked(lambda state: ask_approve(state, story.job_id, "ann", "fine"))
        story.sees(NothingSeen())
        story.asked(lambda state: ask_reject(state, story.job_id, "bob", "complaints"))
        with pytest.raises(Refused, match="rejected by bob already"):
            ask_reject(story.state, story.job_id, "ann", "me too")
        story.sees(NothingSeen())
        story.sees(TrafficSeen(None, sure=True))
        assert job_of(story).outcome == "rejected by bob: complaints"

    def test_may_roll_back_meanwhile(self) -> None:
        story = Story(spec_of()).serving().promoted()
        story.spec = spec_of(canary=PLAN)
        later = NOW + 3 * DAY
        story.opened(later).running(later).trained("3", later).judged(at=later)
        story.asked(lambda state: ask_rollback(state, "ann", "complaints"), later)
        assert phase_of(story.state) is Phase.CANARY
        story.sees(NothingSeen(), later)
        story.sees(TrafficSeen(None, sure=True), later)
        assert phase_of(story.state) is Phase.ROLLBACK

    def test_cannot_stop_what_is_being_promoted(self) -> None:
        story = through(applied())
        with pytest.raises(Refused, match="being deployed"):
            ask_cancel(story.state, story.job_id, "ann", "")
        with pytest.raises(Refused, match="does not wait for a person"):
            ask_reject(story.state, story.job_id, "ann", "")


class TestTrouble:
    def test_of_the_router_is_waited_for_and_told_once(self) -> None:
        story = begun()
        away = Trouble("no route to host", temporary=True)
        assert story.sees(away).look_at is not None
        assert job_of(story).stalled == "no route to host"
        assert story.sees(away).drafts == ()
        story.sees(story.traffic())
        assert job_of(story).stalled == ""

    def test_that_lasts_ends_it_at_the_deadline(self) -> None:
        story = applied(deadline_minutes=60)
        story.sees(Trouble("away", temporary=True), NOW + 91 * MINUTE)
        assert phase_of(story.state) is Phase.CLEARING

    def test_a_router_that_refuses_ends_it(self) -> None:
        story = begun()
        story.sees(Trouble("nginx: bad config", temporary=False, acting=True))
        ending = canary(story).ending
        assert ending is not None
        assert ending.reason == "the traffic router refuses: nginx: bad config"

    @pytest.mark.parametrize("temporary", [True, False])
    def test_never_leaves_a_split_behind(self, temporary: bool) -> None:
        story = applied()
        goes_on(story, 120, (0.5, 0.95))
        for day in range(1, 30):
            plan = story.sees(Trouble("away", temporary=temporary), NOW + day * DAY)
            assert plan.look_at is not None
        assert job_of(story).is_open
        assert "canary_stuck" in told(story)


class TestInWords:
    def test_it_is_told_in_a_line(self) -> None:
        story = applied()
        goes_on(story, 30)
        text = canary_text(canary(story))
        assert text.startswith(
            "canary: step 1 of 2, 10 %; since 2026-03-04 12:00 UTC, 200 rows of the candidate"
        )
        story.sees(story.traffic(FOREIGN), NOW + 31 * MINUTE)
        assert f"halted: in force is {FOREIGN}" in canary_text(canary(story))

    def test_its_batches_are_told_together(self) -> None:
        story = applied()
        goes_on(story, 30, (0.9, 0.95))
        goes_on(story, 50, (None, 0.95))
        moments = [moment for moment in timeline(story.entries, story.job_id) if "compared" in moment.title]
        [moment] = moments
        assert moment.title == "Canary compared over 2 of 3 batches"
        assert moment.details == (
            "2026-03-04 12:05 UTC to 2026-03-04 12:35 UTC",
            "candidate 0.9000 on 200 rows",
            "champion 0.9500 on 1800 rows",
            "worse by +0.05 in the mean of the batches",
            "the candidate's accuracy_new is unknown: no samples",
        )

    def test_people_hear_of_steps_and_ends(self) -> None:
        story = applied()
        goes_on(story, 120, (0.5, 0.95))
        story.sees(TrafficSeen(None, sure=True))
        assert told(story)[-3:] == ["canary_step", "canary_aborted", "completed"]


class TestTheSettings:
    def test_say_everything_that_is_wrong(self) -> None:
        steps = [
            {"weight": 0.5, "minutes": 1, "samples": 1},
            {"weight": 0.25, "minutes": 1, "samples": 1},
            {"weight": 1.0, "minutes": 1, "samples": 1},
            {"weight": 0.00001, "minutes": 1, "samples": 1, "kind": "shadow"},
        ]
        with pytest.raises(ValidationError) as caught:
            CanarySpec(steps=steps)
        for said in (
            "steps.1.weight: is not above 0.5",
            "steps.2.weight: leave some traffic",
            "steps.3.weight: a share has steps of 0.0001",
            "candidate: name the metric",
            "baseline: name the metric",
            "direction: say whether",
        ):
            assert said in str(caught.value)

    def test_an_unused_canary_changes_no_policy(self) -> None:
        assert spec_of().digest == spec_of(canary={"tolerance": 0.5}).digest
        assert spec_of().digest != spec_of(canary=PLAN).digest

    def test_a_running_canary_keeps_its_plan(self) -> None:
        story = applied()
        story.spec = spec_of(canary=canary_of(steps=PLAN["steps"][:1]))
        goes_on(story, 40)
        assert isinstance(goes_on(story, 40).act, ApplySplit)  # the second step is still to come


@pytest.mark.slow
def test_looking_after_every_batch_aborts_no_more_than_alpha_of_those_that_do_no_harm() -> None:
    noise, aborted, canaries = random.Random(7), 0, 300
    steps = [{"weight": weight, "minutes": 100, "samples": 1} for weight in (0.1, 0.3, 0.5)]
    for _ in range(canaries):
        story = applied(steps=steps, tolerance=0.0, deadline_minutes=100_000)
        while canary(story).ending is None and len(story.entries) < 60:
            since = canary(story).since or NOW
            due = (canary(story).next_batch or TimeWindow(since, since)).end + 5 * MINUTE
            at = max(due, since)
            arms = [(0.9 + noise.gauss(0, 0.02), 0.9 + noise.gauss(0, 0.02))]
            story.sees(story.traffic(at=at, arms=arms if canary(story).due_batches(at) else ()), at)
            if canary(story).passed:
                break
        aborted += canary(story).ending is not None
    assert aborted <= 0.05 * canaries + 3 * (0.05 * 0.95 * canaries) ** 0.5
    print(f"{aborted} of {canaries} aborted")
