"""An open job, phase by phase."""

from datetime import timedelta
from typing import Any

import pytest
from domain_world import DAY, GOOD, HOUR, NOW, POOR, SUCCEEDED, Story, scored, snapshot, spec_of, version

from autoretrain.domain.explain import timeline
from autoretrain.domain.jobs import JobStatus
from autoretrain.domain.plan import (
    POLL,
    RETRY,
    CancelRun,
    ChampionSeen,
    DataSeen,
    NothingSeen,
    Plan,
    RunSeen,
    ScoresSeen,
    Seen,
    SetChampion,
    SubmitTraining,
    Trouble,
)
from autoretrain.domain.requests import ask_approve, ask_cancel, ask_reject
from autoretrain.ports.compute import RunState, RunStatus
from autoretrain.ports.inspector import Answered, Inspection
from autoretrain.ports.predictor import Effort
from autoretrain.ports.values import Pending, TimeWindow

ONE, TWO = version("1"), version("2")
AWAY = Trouble("the registry is away", temporary=True)
BROKEN = Trouble("column 'y' is missing", temporary=False)
WINDOW = TimeWindow(NOW - 30 * DAY, NOW)
SPAN = "2026-02-02 12:00 to 2026-03-04 12:00 UTC"


def kinds(plan: Plan) -> list[str]:
    return [draft.kind for draft in plan.drafts]


def ended(story: Story) -> tuple[JobStatus, str]:
    """How the last job ended."""
    job = story.state.last_job
    assert job is not None
    assert not job.is_open
    return job.status, job.outcome


class TestData:
    def test_both_snapshots_are_there(self) -> None:
        story = Story().serving().opened()
        plan = story.plan(DataSeen(snapshot(WINDOW), snapshot(WINDOW)))
        assert kinds(plan) == ["run.intended"]
        assert plan.drafts[0].key == f"run:{story.job_id}:1"
        assert plan.act == SubmitTraining(story.job_id)

    @pytest.mark.parametrize(
        ("training", "holdout", "why"),
        [
            (
                0,
                1000,
                f"the training window ({SPAN}) has 0 labelled rows, 1 are needed",
            ),
            (
                1,
                99,
                f"the holdout window ({SPAN}) has 99 labelled rows, 100 are needed",
            ),
        ],
    )
    def test_too_few_rows(self, training: int, holdout: int, why: str) -> None:
        story = Story().serving().opened()
        story.sees(DataSeen(snapshot(WINDOW, training), snapshot(WINDOW, holdout)))
        assert ended(story) == (JobStatus.FAILED, why)

    def test_just_enough_rows(self) -> None:
        story = Story().serving().opened()
        assert kinds(story.plan(DataSeen(snapshot(WINDOW, 1), snapshot(WINDOW, 100)))) == ["run.intended"]


class TestTraining:
    def test_an_intent_without_a_run_is_acted_on_again(self) -> None:
        story = Story().serving().opened().running()
        plan = story.plan(RunSeen(RunStatus(RunState.ABSENT)))
        assert (plan.drafts, plan.act, plan.look_at) == ((), SubmitTraining(story.job_id), None)

    @pytest.mark.parametrize("state", [RunState.PENDING, RunState.RUNNING])
    def test_waits(self, state: RunState) -> None:
        plan = Story().serving().opened().running().plan(RunSeen(RunStatus(state)))
        assert (plan.drafts, plan.act, plan.look_at) == ((), None, NOW + POLL)

    def test_a_lost_run_is_tried_again_up_to_the_limit(self) -> None:
        story = Story(spec_of(training={"command": ["x"], "max_attempts": 3})).serving().opened().running()
        lost = RunSeen(RunStatus(RunState.LOST, "the machine is gone"))
        for attempt in (2, 3):
            plan = story.sees(lost)
            assert kinds(plan) == ["run.ended", "run.intended"]
            assert plan.act == SubmitTraining(story.job_id)
            assert story.state.open_job is not None
            assert story.state.open_job.run_key == f"{story.job_id}/train/{attempt}"
            assert story.state.open_job.training is not None
        assert story.sees(lost).act is None
        assert ended(story) == (JobStatus.FAILED, "training lost: the machine is gone")

    @pytest.mark.parametrize(
        ("status", "why"),
        [
            (RunStatus(RunState.FAILED, "deadline of 60 s"), "training failed: deadline of 60 s"),
            (RunStatus(RunState.FAILED, exit_code=3), "training failed: exit status 3"),
        ],
    )
    def test_a_failed_run_is_not_tried_again(self, status: RunStatus, why: str) -> None:
        story = Story().serving().opened().running()
        plan = story.sees(RunSeen(status, log_tail="Traceback"))
        assert ended(story) == (JobStatus.FAILED, f"{why}; it printed last: Traceback")
        assert plan.drafts[0].data["log_tail"] == "Traceback"
        assert story.state.last_job is not None
        assert story.state.last_job.error_message == story.state.last_job.outcome

    def test_no_model_was_logged(self) -> None:
        story = Story().serving().opened().running()
        story.sees(RunSeen(SUCCEEDED))
        status, why = ended(story)
        assert status is JobStatus.FAILED
        assert "logged no model" in why

    def test_a_model_was_logged(self) -> None:
        story = Story().serving().opened().running().trained()
        assert story.kinds[-2:] == ["run.ended", "candidate.found"]
        assert story.state.open_job is not None
        assert story.state.open_job.status is JobStatus.VALIDATION


class TestValidation:
    def test_waits_for_predictions(self) -> None:
        plan = Story().serving().opened().running().trained().plan(ScoresSeen(Pending("computing")))
        assert (plan.drafts, plan.look_at) == ((), NOW + POLL)

    def test_a_better_candidate_is_about_to_be_deployed(self) -> None:
        story = Story().serving().opened().running().trained()
        plan = story.sees(ScoresSeen(scored()))
        assert kinds(plan) == ["job.validated", "job.decided", "promotion.intended"]
        assert plan.act == SetChampion(TWO, "1")
        assert [draft.key for draft in plan.drafts[1:]] == [
            f"decision:{story.job_id}",
            f"promotion:{story.job_id}",
        ]

    def test_what_was_found_beside_the_scores_is_recorded_and_decides(self) -> None:
        story = Story(spec_of(promotion={"guardrails": {"max_latency": 2.0}}))
        story.serving().opened().running().trained()
        found = Inspection(1000, Answered("whole numbers", low=0, high=1))
        story.sees(ScoresSeen(scored(), found, Effort(0.5, 3.2, 4096)))
        job = story.state.last_job
        assert job is not None
        assert job.validation is not None
        assert job.validation.guardrails["latency"].value == 3.2
        assert job.validation.guardrails["artefact size"].unit == "MiB"
        assert job.outcome.endswith("; but latency 3.2 s for 1,000 rows is above the limit of 2")
        told = [line for moment in timeline(story.entries, story.job_id) for line in moment.details]
        assert (
            "guardrail latency, at most 2 s: broken: latency 3.2 s for 1,000 rows is above the limit of 2"
            in told
        )
        assert "guardrail loading, no limit: loading 0.5 s" in told

    @pytest.mark.parametrize(
        ("scores", "outcome"),
        [
            (scored(POOR, GOOD), "reject"),
            (scored({**GOOD, "accuracy": 0.5}), "reject"),
            (scored(rows=3), "inconclusive"),
        ],
    )
    def test_any_other_completes_the_job_undeployed(self, scores: Any, outcome: str) -> None:
        story = Story().serving().opened().running().trained().judged(scores)
        job = story.state.last_job
        assert job is not None
        assert (job.status, job.deployed) == (JobStatus.COMPLETED, False)
        assert job.decision is not None
        assert job.decision.outcome.value == outcome
        assert job.error_message is None
        assert story.state.champion is not None
        assert story.state.champion.version == ONE

    def test_a_job_by_hand_waits_for_a_person(self) -> None:
        story = Story().serving().by_hand()
        assert story.kinds[-2:] == ["job.validated", "approval.awaited"]
        assert story.state.open_job is not None
        assert story.state.open_job.awaiting_until == NOW + 7 * DAY

    def test_a_job_by_hand_below_the_floor_does_not(self) -> None:
        story = Story().serving().by_hand(scores=scored({**GOOD, "accuracy": 0.5}))
        assert ended(story)[0] is JobStatus.COMPLETED


class TestApproval:
    def test_waits(self) -> None:
        story = Story().serving().by_hand()
        plan = story.plan(NothingSeen(), NOW + DAY)
        soon = timedelta(seconds=story.spec.check_every_seconds)  # the alias is watched meanwhile
        assert (plan.drafts, plan.act, plan.look_at) == ((), None, NOW + DAY + soon)
        late = story.plan(NothingSeen(), NOW + 7 * DAY - timedelta(minutes=1))
        assert (late.drafts, late.act, late.look_at) == ((), None, NOW + 7 * DAY)

    def test_expires(self) -> None:
        story = Story().serving().by_hand()
        story.sees(NothingSeen(), NOW + 7 * DAY)
        assert ended(story) == (JobStatus.COMPLETED, "nobody approved it within 7 days")

    def test_approved(self) -> None:
        story = Story().serving().by_hand()
        story.asked(lambda s: ask_approve(s, story.job_id, "bob", "fine"))
        plan = story.sees(NothingSeen())
        assert kinds(plan) == ["job.decided", "promotion.intended"]
        assert plan.act == SetChampion(TWO, "1")
        story.deployed()
        assert ended(story) == (JobStatus.COMPLETED, "approved by bob: fine")

    def test_an_answer_in_time_counts_though_it_is_seen_late(self) -> None:
        story = Story().serving().by_hand()
        story.asked(lambda s: ask_approve(s, story.job_id, "bob", ""), NOW + 6 * DAY)
        assert kinds(story.plan(NothingSeen(), NOW + 8 * DAY)) == ["job.decided", "promotion.intended"]

    def test_rejected(self) -> None:
        story = Story().serving().by_hand()
        story.asked(lambda s: ask_reject(s, story.job_id, "bob", "too risky"))
        assert story.sees(NothingSeen()).act is None
        assert ended(story) == (JobStatus.COMPLETED, "rejected by bob: too risky")

    def test_a_first_champion_has_nobody_to_replace(self) -> None:
        story = Story(enrolled=NOW - 7 * DAY)
        story.sees(story.idle(None))
        story.running().trained().judged(scored(GOOD, None))
        story.asked(lambda s: ask_approve(s, story.job_id, "bob", ""))
        assert story.sees(NothingSeen()).act == SetChampion(TWO, None)
        story.sees(ChampionSeen(TWO))
        assert story.state.champion is not None
        assert story.state.champion.version == TWO


class TestDeployment:
    def deploying(self) -> Story:
        return Story().serving().opened().running().trained().judged()

    def test_the_alias_has_moved(self) -> None:
        story = self.deploying()
        plan = story.sees(ChampionSeen(TWO))
        assert kinds(plan) == ["promotion.done", "job.closed"]
        assert plan.drafts[0].data["before"] == "1"
        assert "is +7.95% against" in ended(story)[1]

    def test_a_promotion_says_who_why_instead_of_whom_and_under_which_policy(self) -> None:
        story = Story().serving().opened().running().trained()
        intended = story.sees(ScoresSeen(scored())).drafts[-1]
        decided_under = story.spec.digest
        story.spec = spec_of(cooldown_hours=1)  # the settings changed in between
        done = story.sees(ChampionSeen(TWO)).drafts[0]
        job = story.state.last_job
        assert job is not None
        accounted = {"who": "controller", "why": job.outcome, "before": "1", "policy": decided_under}
        assert intended.data == {"job_id": job.job_id, "version": TWO, "expected": "1", **accounted}
        assert done.data == {"job_id": job.job_id, "version": TWO, **accounted}

    def test_an_approved_promotion_names_the_person(self) -> None:
        story = Story().serving().by_hand()
        story.asked(lambda s: ask_approve(s, story.job_id, "bob", "fine"))
        intended = story.sees(NothingSeen()).drafts[-1]
        done = story.sees(ChampionSeen(TWO)).drafts[0]
        for draft in (intended, done):
            assert (draft.data["who"], draft.data["why"]) == ("bob", "approved by bob: fine")

    def test_the_alias_has_not_moved_yet(self) -> None:
        plan = self.deploying().plan(ChampionSeen(ONE))
        assert (plan.drafts, plan.act) == ((), SetChampion(TWO, "1"))

    @pytest.mark.parametrize(("found", "label"), [(version("9"), "9"), (None, "None")])
    def test_somebody_else_moved_it(self, found: Any, label: str) -> None:
        story = self.deploying()
        plan = story.sees(ChampionSeen(found))
        assert kinds(plan) == ["champion.conflict", "job.closed"]
        assert plan.act is None
        assert ended(story) == (
            JobStatus.FAILED, f"deployment failed: somebody moved the champion from version 1 to {label}"
        )  # fmt: skip

    def test_an_artefact_that_was_altered_is_not_deployed(self) -> None:
        story = self.deploying()
        story.sees(Trouble("the artefact was altered", temporary=False))
        assert ended(story) == (JobStatus.FAILED, "deployment failed: the artefact was altered")


STAGES = {
    "pending": lambda: Story().serving().opened(),
    "running": lambda: Story().serving().opened().running(),
    "validation": lambda: Story().serving().opened().running().trained(),
    "deploying": lambda: Story().serving().opened().running().trained().judged(),
}


@pytest.mark.parametrize("stage", STAGES)
class TestTrouble:
    def test_of_a_while_is_noted_once(self, stage: str) -> None:
        story = STAGES[stage]()
        assert kinds(story.plan(AWAY)) == ["job.stalled"]
        assert story.sees(AWAY).look_at == NOW + RETRY
        again = story.plan(AWAY, NOW + RETRY)
        assert (again.drafts, again.look_at) == ((), NOW + 2 * RETRY)
        assert story.state.open_job is not None
        assert (story.state.open_job.status.value, story.state.open_job.stalled) == (stage, AWAY.reason)

    def test_waits_as_long_as_it_was_told(self, stage: str) -> None:
        assert STAGES[stage]().plan(Trouble("busy", True, 90.0)).look_at == NOW + 0.025 * HOUR

    def test_of_another_kind_is_noted_again(self, stage: str) -> None:
        story = STAGES[stage]()
        story.sees(AWAY)
        assert kinds(story.plan(Trouble("disk full", temporary=True))) == ["job.stalled"]

    def test_for_good_fails_the_job(self, stage: str) -> None:
        story = STAGES[stage]()
        story.sees(BROKEN)
        prefix = "deployment failed: " if stage == "deploying" else ""
        assert ended(story) == (JobStatus.FAILED, prefix + BROKEN.reason)


class TestCancelled:
    def cancelled(self, story: Story) -> Story:
        return story.asked(lambda s: ask_cancel(s, story.job_id, "ann", "wrong data"))

    @pytest.mark.parametrize(
        ("story", "seen"),
        [
            (Story().serving().opened(), NothingSeen()),
            (Story().serving().opened(), AWAY),
            (Story().serving().opened(), DataSeen(snapshot(WINDOW), snapshot(WINDOW))),
            (Story().serving().opened().running().trained(), ScoresSeen(scored())),
            (Story().serving().opened().running().trained(), BROKEN),
            (Story().serving().by_hand(), NothingSeen()),
        ],
    )
    def test_ends_at_once_when_nothing_runs(self, story: Story, seen: Seen) -> None:
        plan = self.cancelled(story).sees(seen)
        assert plan.act is None
        assert ended(story) == (JobStatus.CANCELLED, "cancelled by ann: wrong data")

    @pytest.mark.parametrize("state", [RunState.PENDING, RunState.RUNNING])
    def test_ends_the_run_first(self, state: RunState) -> None:
        story = self.cancelled(Story().serving().opened().running())
        plan = story.sees(RunSeen(RunStatus(state)))
        assert (plan.drafts, plan.look_at) == ((), NOW + POLL)
        assert plan.act == CancelRun(f"{story.job_id}/train/1")

    @pytest.mark.parametrize("state", [RunState.ABSENT, RunState.FAILED, RunState.LOST, RunState.SUCCEEDED])
    def test_ends_when_the_run_has(self, state: RunState) -> None:
        story = self.cancelled(Story().serving().opened().running())
        story.sees(RunSeen(RunStatus(state), TWO if state is RunState.SUCCEEDED else None))
        assert ended(story) == (JobStatus.CANCELLED, "cancelled by ann: wrong data")
        assert story.state.last_job is not None
        assert story.state.last_job.candidate is None
