"""A job told as a timeline."""

from domain_world import DAY, NOW, Story, spec_of, version

from autoretrain.domain.explain import held_text, timeline
from autoretrain.domain.plan import ChampionSeen, NothingSeen, RunSeen, Trouble
from autoretrain.domain.requests import ask_approve, ask_cancel, ask_reject, ask_rollback
from autoretrain.domain.sealing import Draft
from autoretrain.ports.compute import RunState, RunStatus


def titles(story: Story) -> list[str]:
    return [moment.title for moment in timeline(story.entries, story.job_id)]


def test_a_promotion_and_its_rollback() -> None:
    story = Story().serving().promoted().asked(lambda s: ask_rollback(s, "ann", "worse"))
    story.sees(ChampionSeen(version("2")))
    story.sees(ChampionSeen(version("1")))
    told = timeline(story.entries, story.job_id)
    assert [moment.title for moment in told[:-1]] == [
        "Triggers looked at",
        "Job opened (performance_degradation)",
        "Training submitted (attempt 1)",
        "Training succeeded after 3.0 s",
        "Candidate: version 2",
        "Validated on 1000 rows: yes",
        "Decision: promote (seed-point@1)",
        "Promotion of version 2 begun",
        "Version 2 serves",
        "Job completed",
    ]
    assert "f1: 0.9500 (champion 0.8800)" in told[5].details
    policy = f"settings {story.spec.digest[:12]}"
    assert told[-3].details[0] == "in place of 1"
    reason = "f1 0.8800 -> 0.9500 is +7.95% against +5.00% asked for"
    assert [reason in moment.details for moment in told].count(True) == 1  # by the decision, once
    assert told[-3].details[1] == "controller"
    assert told[-3].details[2] == policy
    assert told[-1].details == ("in place of 2", "ann: worse", policy)
    assert {moment.at for moment in told} == {NOW}


def test_entries_of_an_older_release_tell_what_they_say() -> None:
    story = Story().serving().opened().running().trained().judged()
    job = story.job_id
    story.told(Draft("promotion.done", {"job_id": job, "version": version("2"), "before": "1"}))
    story.told(Draft("job.closed", {"job_id": job, "status": "completed", "reason": ""}))
    story.asked(lambda s: ask_rollback(s, "ann", ""))
    older = {"target": version("1"), "expected": "2", "who": "ann", "why": ""}
    story.told(Draft("rollback.intended", older), Draft("rollback.done", {**older, "withdrawn": "2"}))
    told = timeline(story.entries, job)
    assert [moment.details for moment in told[-3:]] == [("in place of 1",), (), ("in place of 2", "ann")]


def test_what_people_did() -> None:
    story = Story().serving().by_hand()
    story.asked(lambda s: ask_reject(s, story.job_id, "bob", "too risky"))
    story.sees(NothingSeen())
    told = timeline(story.entries, story.job_id)
    assert (told[0].title, told[0].details, told[0].actor) == (
        "Retraining asked for", ("a new sensor", "with depth=3"), "ann"
    )  # fmt: skip
    rejected = next(moment for moment in told if moment.title == "Rejected")
    assert (rejected.actor, rejected.details) == ("bob", ("too risky",))


def test_an_approval_with_a_minimum() -> None:
    story = Story().serving().by_hand()
    story.asked(lambda s: ask_approve(s, story.job_id, "bob", "fine", 0.05, override=True))
    assert any(moment.actor == "bob" for moment in timeline(story.entries, story.job_id))


def test_what_went_wrong() -> None:
    story = Story().serving().opened()
    story.sees(Trouble("the disk is full", temporary=True))
    story.running()
    story.sees(RunSeen(RunStatus(RunState.FAILED, exit_code=3), log_tail="Traceback"))
    told = timeline(story.entries, story.job_id)
    text = " ".join(detail for moment in told for detail in moment.details)
    assert "the disk is full" in text
    assert "exit status 3" in text
    assert told[-1].title == "Job failed"


def test_a_cancelled_job() -> None:
    story = Story().serving().opened().asked(lambda s: ask_cancel(s, next(iter(s.jobs)), "ann", "wrong data"))
    story.sees(NothingSeen())
    assert titles(story)[-1] == "Job cancelled"


def test_no_such_job() -> None:
    assert timeline(Story().serving().promoted().entries, "j7") == ()


def test_slots_that_were_missed_and_what_held_back() -> None:
    begin = NOW - 30 * DAY
    story = Story(spec_of(rule="schedule", cooldown_hours=240), enrolled=begin).serving()
    story.opened()
    first, looked, opened = timeline(story.entries, story.job_id)[:3]
    assert (first.title, first.details) == (
        "3 cron slots got no job", ("2026-02-08 00:00 UTC to 2026-02-22 00:00 UTC", "missed_slots = latest")
    )  # fmt: skip
    assert (looked.title, opened.title) == ("Triggers looked at", "Job opened (scheduled)")


def test_why_nothing_is_started() -> None:
    assert held_text("cooldown", NOW) == (
        "cooldown (the last job ended too short a time ago) until 2026-03-04 12:00 UTC"
    )
    assert held_text("for", None, flapping=True) == "for (the triggers change their mind too fast)"
    assert held_text("limit", None) == "limit"
