"""Two persons' approval, and jobs that people decide though a trigger started them."""

import pytest
from domain_world import DAY, NOW, Story, scored, spec_of, version

from autoretrain.domain.jobs import JobStatus, RetrainingJob
from autoretrain.domain.plan import NothingSeen, Phase, phase_of
from autoretrain.domain.promotion import APPROVAL, Outcome
from autoretrain.domain.requests import ask_approve, ask_cancel, ask_reject
from autoretrain.ports.errors import Refused

TWO = spec_of(promotion={"approvals": 2})


def waiting() -> Story:
    """A job that ann started, and that two people have to approve."""
    return Story(TWO).serving().by_hand()


def approved_by(story: Story, *actors: str, least: float | None = None, override: bool = False) -> Story:
    for actor in actors:
        why = f"{actor} is sure"
        story.told(ask_approve(story.state, story.job_id, actor, why, least, override))
        story.sees(NothingSeen())
    return story


def last(story: Story) -> RetrainingJob:
    job = story.state.last_job
    assert job is not None
    return job


class TestTwoPeople:
    def test_one_is_not_enough(self) -> None:
        story = approved_by(waiting(), "bob")
        assert phase_of(story.state) is Phase.APPROVAL
        assert (last(story).approval, [a.actor for a in last(story).approvals]) == (None, ["bob"])

    def test_two_let_it_serve(self) -> None:
        story = approved_by(waiting(), "bob", "cy")
        job = last(story)
        assert (job.status, job.decision and job.decision.reason) == (
            JobStatus.DEPLOYING, "approved by bob and cy: bob is sure; cy is sure"
        )  # fmt: skip
        assert job.approval is not None
        assert job.approval.actor == "bob and cy"

    @pytest.mark.parametrize("again", ["bob", "Bob", " BOB "])
    def test_the_same_one_twice_is_refused(self, again: str) -> None:
        story = approved_by(waiting(), "bob")
        with pytest.raises(Refused, match="already; it needs 2 different people, so somebody else has to"):
            ask_approve(story.state, story.job_id, again, "")

    def test_who_started_it_is_never_the_only_one(self) -> None:
        story = approved_by(waiting(), "ann")
        assert phase_of(story.state) is Phase.APPROVAL
        assert last(approved_by(story, "bob")).status is JobStatus.DEPLOYING

    @pytest.mark.parametrize("before", [(), ("bob",)])
    def test_one_reject_ends_it(self, before: tuple[str, ...]) -> None:
        story = approved_by(waiting(), *before)
        story.asked(lambda s: ask_reject(s, story.job_id, "cy", "not yet"))
        story.sees(NothingSeen())
        job = last(story)
        assert (job.status, job.deployed, job.outcome) == (
            JobStatus.COMPLETED, False, "rejected by cy: not yet"
        )  # fmt: skip

    def test_whoever_approved_may_still_reject(self) -> None:
        story = approved_by(waiting(), "bob")
        story.asked(lambda s: ask_reject(s, story.job_id, "bob", "I was wrong"))
        story.sees(NothingSeen())
        assert last(story).outcome == "rejected by bob: I was wrong"

    def test_a_decision_is_not_taken_again(self) -> None:
        story = approved_by(waiting(), "bob", "cy")
        for ask in (ask_approve, ask_reject):
            with pytest.raises(Refused, match="was approved by bob and cy already"):
                ask(story.state, story.job_id, "dee", "")

    def test_the_time_that_one_approved_in_runs_out(self) -> None:
        story = approved_by(waiting(), "bob")
        story.sees(NothingSeen(), NOW + 7 * DAY)
        job = last(story)
        assert (job.status, job.deployed) == (JobStatus.COMPLETED, False)
        assert job.outcome == "only bob approved it within 7 days, 2 people are needed"

    def test_it_can_be_cancelled_in_between(self) -> None:
        story = approved_by(waiting(), "bob")
        story.asked(lambda s: ask_cancel(s, story.job_id, "ann", ""))
        story.sees(NothingSeen())
        assert last(story).status is JobStatus.CANCELLED

    def test_the_stricter_minimum_holds(self) -> None:
        story = approved_by(approved_by(waiting(), "bob", least=0.05), "cy", least=0.2)
        job = last(story)
        assert job.approval is not None
        assert job.approval.min_improvement == 0.2
        assert (job.decision and job.decision.outcome) is Outcome.REJECT

    def test_an_override_needs_both(self) -> None:
        story = approved_by(approved_by(waiting(), "bob", override=True), "cy")
        job = last(story)
        assert job.approval is not None
        assert not job.approval.override
        both = last(approved_by(waiting(), "bob", "cy", override=True))
        assert both.approval is not None
        assert both.approval.override

    def test_how_many_is_said_when_the_waiting_begins(self) -> None:
        story = waiting()
        story.spec = spec_of()  # somebody changes the settings meanwhile
        approved_by(story, "bob")
        assert phase_of(story.state) is Phase.APPROVAL

    def test_the_ledger_has_both(self) -> None:
        story = approved_by(waiting(), "bob", "cy")
        answers = [(e.actor, e.key) for e in story.entries if e.kind == "request.approve"]
        assert answers == [("bob", f"answer:{story.job_id}"), ("cy", f"answer:{story.job_id}:2")]


class TestDecidedByAPerson:
    def test_a_triggered_job_waits_with_its_numbers_in_view(self) -> None:
        spec = spec_of(promotion={"policy": "approval@1"})
        story = Story(spec).serving().opened().running().trained().judged()
        assert phase_of(story.state) is Phase.APPROVAL
        approved_by(story, "bob")
        assert last(story).decision is not None
        assert last(story).decision.rule == APPROVAL  # type: ignore[union-attr]

    def test_by_trigger(self) -> None:
        spec = spec_of(promotion={"policy": {"performance_degradation": "approval@1"}})
        assert spec.promotion.by_person(last(Story(spec).serving().opened()).trigger_type)
        assert spec_of().promotion.by_person(last(waiting()).trigger_type)
        other = spec_of(promotion={"policy": {"data_drift": "approval@1"}})
        assert not other.promotion.by_person(last(Story(other).serving().opened()).trigger_type)

    def test_no_person_is_asked_for_what_no_policy_may_pass(self) -> None:
        spec = spec_of(promotion={"policy": "approval@1"})
        story = Story(spec).serving().opened().running().trained()
        story.judged(scored({"accuracy": 0.5, "f1": 0.5}))
        assert last(story).outcome == "accuracy 0.5000 is below the floor of 0.85"

    def test_a_first_version_is_a_persons_too(self) -> None:
        story = Story(spec_of(promotion={"policy": "approval@1", "first_champion": "floor"}, rule="schedule"))
        story.sees(story.idle(None, NOW + 7 * DAY), NOW + 7 * DAY)
        story.running().trained("1").judged(scored(champion=None))
        assert phase_of(story.state) is Phase.APPROVAL


def test_settings_left_at_their_default_are_no_other_policy() -> None:
    plain = spec_of().digest
    assert spec_of(promotion={"approvals": 1, "pending": "keep"}).digest == plain
    assert len({plain, TWO.digest, spec_of(promotion={"pending": "supersede"}).digest}) == 3


def test_the_candidate_of_the_story_is_another_version() -> None:
    assert last(waiting()).candidate == version("2")
