"""A job that waits for a person, and a newer one that takes its place, where the settings let it."""

import pytest
from domain_world import DAY, HOUR, NOW, Story, spec_of, version

from autoretrain.domain.jobs import JobStatus
from autoretrain.domain.limits import owner_of
from autoretrain.domain.plan import ChampionSeen, NothingSeen, Phase, phase_of
from autoretrain.domain.requests import ask_approve, ask_cancel, ask_reject, ask_start
from autoretrain.domain.superseding import may_be_superseded
from autoretrain.ports.errors import JobAlreadyOpen, Refused

GIVES_WAY = spec_of(promotion={"pending": "supersede"}, rule="performance")
LATER = NOW + 25 * HOUR


def waiting() -> Story:
    return Story(GIVES_WAY).serving().by_hand()


def low(story: Story, at: object = LATER) -> Story:
    story.sees(story.idle(version("1"), at, accuracy=0.9), at)  # type: ignore[arg-type]
    return story


class TestByATrigger:
    def test_the_waiting_job_ends_and_the_next_begins_at_once(self) -> None:
        story = waiting()
        old = story.job_id
        plan = story.plan(story.idle(version("1"), LATER, accuracy=0.9), LATER)
        assert [draft.kind for draft in plan.drafts] == ["job.closed", "look.changed", "job.opened"]
        low(story)
        ended, begun = story.state.jobs[old], story.state.open_job
        assert begun is not None
        assert begun.job_id != old
        assert (ended.status, ended.deployed, begun.status) == (JobStatus.COMPLETED, False, JobStatus.PENDING)
        assert ended.outcome == (
            f"superseded by job {begun.job_id}: accuracy 0.9000 is below the threshold of 0.92"
        )
        assert owner_of(plan.drafts) == begun.job_id  # its units are the new one's

    def test_not_before_it_has_waited_as_long_as_a_cooldown(self) -> None:
        story = low(waiting(), NOW + 23 * HOUR)
        assert phase_of(story.state) is Phase.APPROVAL
        assert (story.state.suppressed, story.state.suppressed_until) == ("cooldown", NOW + 24 * HOUR)

    def test_what_wants_no_retraining_leaves_it(self) -> None:
        story = waiting()
        plan = story.sees(story.idle(version("1"), LATER), LATER)
        assert phase_of(story.state) is Phase.APPROVAL
        assert plan.look_at == LATER + HOUR

    def test_it_is_looked_at_when_its_time_is_over(self) -> None:
        story = waiting()
        almost = NOW + 7 * DAY - HOUR / 2
        assert story.plan(story.idle(version("1"), almost), almost).look_at == NOW + 7 * DAY

    def test_a_champion_that_was_moved_is_told_and_starts_nothing(self) -> None:
        story = waiting()
        story.sees(story.idle(version("7"), LATER, accuracy=0.9), LATER)
        assert (story.state.conflict, phase_of(story.state)) == ("7", Phase.APPROVAL)

    def test_triggers_are_looked_at_only_while_nothing_else_ends_it(self) -> None:
        story = waiting()
        assert may_be_superseded(GIVES_WAY, story.state, LATER)
        assert not may_be_superseded(spec_of(), story.state, LATER)
        assert not may_be_superseded(GIVES_WAY, story.state, NOW + 7 * DAY)
        story.asked(lambda s: ask_approve(s, story.job_id, "bob", ""))
        assert not may_be_superseded(GIVES_WAY, story.state, LATER)

    def test_after_a_rejection_the_cooldown_begins_anew(self) -> None:
        story = waiting()
        story.asked(lambda s: ask_reject(s, story.job_id, "bob", ""), LATER)
        story.sees(NothingSeen(), LATER)
        low(story, LATER + HOUR)
        assert (story.state.open_job, story.state.suppressed) == (None, "cooldown")


class TestByAPerson:
    def test_the_waiting_job_ends_and_theirs_begins(self) -> None:
        story = waiting()
        old = story.job_id
        story.asked(lambda s: ask_start(s, "cy", {}, "new rows", supersede=True), NOW + HOUR)
        start = story.state.start
        assert start is not None
        story.sees(NothingSeen(), NOW + HOUR)
        assert story.state.jobs[old].outcome == f"superseded by job {start.job_id}: cy asked for it"
        story.sees(story.idle(version("1"), NOW + HOUR), NOW + HOUR)
        assert story.job_id == start.job_id

    def test_it_is_refused_where_jobs_are_kept(self) -> None:
        story = waiting()
        with pytest.raises(JobAlreadyOpen):
            ask_start(story.state, "cy", {}, "")

    @pytest.mark.parametrize("steps", [1, 2, 3])
    def test_work_that_goes_on_does_not_give_way(self, steps: int) -> None:
        story = Story(GIVES_WAY).serving().opened()
        for step in (story.running, story.trained, story.judged)[: steps - 1]:
            step()
        with pytest.raises(JobAlreadyOpen):
            ask_start(story.state, "cy", {}, "", supersede=True)

    def test_nor_one_that_was_answered(self) -> None:
        story = waiting()
        story.asked(lambda s: ask_approve(s, story.job_id, "bob", ""))
        with pytest.raises(JobAlreadyOpen):
            ask_start(story.state, "cy", {}, "", supersede=True)

    @pytest.mark.parametrize("answer", [ask_approve, ask_reject])
    def test_one_that_gives_way_takes_no_answer(self, answer: object) -> None:
        story = waiting()
        story.asked(lambda s: ask_start(s, "cy", {}, "", supersede=True))
        with pytest.raises(Refused, match=r"gives way to job .*, which cy asked for"):
            answer(story.state, story.job_id, "bob", "")  # type: ignore[operator]

    def test_taken_back_in_time_the_job_waits_on(self) -> None:
        story = waiting()
        story.asked(lambda s: ask_start(s, "cy", {}, "", supersede=True))
        start = story.state.start
        assert start is not None
        story.asked(lambda s: ask_cancel(s, start.job_id, "cy", ""))
        story.sees(NothingSeen())
        assert phase_of(story.state) is Phase.APPROVAL
        story.asked(lambda s: ask_approve(s, story.job_id, "bob", ""))
        story.sees(NothingSeen())
        story.sees(ChampionSeen(version("2")))
        assert story.state.champion is not None
        assert story.state.champion.version == version("2")
