"""The table a job moves along."""

from dataclasses import fields, replace
from datetime import datetime

import pytest
from domain_world import DAY, NOW
from hypothesis import given
from hypothesis import strategies as st

from autoretrain.domain.jobs import Approval, IllegalTransition, JobStatus, RetrainingJob
from autoretrain.domain.trigger_types import TriggerType
from autoretrain.ports.values import TimeWindow

# As the plan has it, written down a second time.
TABLE = {
    "pending": {"running", "failed", "cancelled"},
    "running": {"validation", "failed", "cancelled"},
    "validation": {"deploying", "completed", "failed", "cancelled"},
    "deploying": {"completed", "failed", "cancelled"},
    "completed": set(),
    "failed": set(),
    "cancelled": set(),
}


def job(status: JobStatus = JobStatus.PENDING, at: datetime = NOW) -> RetrainingJob:
    training, holdout = TimeWindow(at - 40 * DAY, at - 30 * DAY), TimeWindow(at - 30 * DAY, at)
    return RetrainingJob("j", "m", TriggerType.DRIFT, status, at, "PSI", training, holdout, stalled="away")


@pytest.mark.parametrize("before", JobStatus)
@pytest.mark.parametrize("after", JobStatus)
def test_moves_along_the_table_and_nowhere_else(before: JobStatus, after: JobStatus) -> None:
    if after.value in TABLE[before.value]:
        moved = job(before).with_status(after)
        assert (moved.status, moved.stalled) == (after, "")
    else:
        with pytest.raises(IllegalTransition, match=f"cannot go from {before.value} to {after.value}"):
            job(before).with_status(after)


@given(st.lists(st.sampled_from(JobStatus), max_size=12))
def test_whatever_is_tried_ends_in_a_final_state_that_stays(tries: list[JobStatus]) -> None:
    current, ended = job(), None
    for status in tries:
        try:
            current = current.with_status(status)
        except IllegalTransition:
            continue
        assert ended is None, "it moved after its end"
        ended = current.status if current.status.final else None
    assert current.is_open == (ended is None)


def test_final_states() -> None:
    final = {status.value for status in JobStatus if status.final}
    assert final == {"completed", "failed", "cancelled"}


def test_each_attempt_has_its_own_run() -> None:
    assert [replace(job(), attempt=n).run_key for n in (1, 2)] == ["j/train/1", "j/train/2"]


def test_a_job_that_was_only_opened_knows_nothing_yet() -> None:
    known = {"job_id", "model_name", "trigger_type", "status", "created_at", "reason"}
    known |= {"training_window", "holdout_window"}
    opened = RetrainingJob(**{name: getattr(job(), name) for name in known})
    later = {field.name: getattr(opened, field.name) for field in fields(opened) if field.name not in known}
    texts = {"policy", "decision_policy", "outcome", "cancel_reason", "stalled"}
    facts = {
        "deployed": False,
        "attempt": 0,
        "priced_attempts": 0,
        "approvals": (),
        "approvals_needed": 1,
        "parameters": {},
        "evidence": {},
        "metrics_before": {},
    }
    assert later == {**dict.fromkeys(later), **dict.fromkeys(texts, ""), **facts}


def test_an_answer_asks_for_nothing_and_overrides_nothing_unless_it_says_so() -> None:
    answer = Approval(True, "ann", "fine")
    assert (answer.min_improvement, answer.override) == (None, False)
