"""What people are told, and that it is the same every time."""

from collections.abc import Callable

import pytest
from domain_world import DAY, NOW, Story, spec_of, version

from autoretrain.domain.fold import fold
from autoretrain.domain.notices import notices_of
from autoretrain.domain.plan import ChampionSeen, NothingSeen, Trouble
from autoretrain.domain.requests import ask_approve, ask_cancel, ask_rollback
from autoretrain.domain.sealing import seal
from autoretrain.domain.state import ModelState
from autoretrain.ports.notifier import Notice

BROKEN = Trouble("the disk is gone", temporary=False)


def told(story: Story) -> list[Notice]:
    """Notices of a story, each entry appended by itself."""
    notices: list[Notice] = []
    state = ModelState("m")
    for entry in story.entries:
        notices += notices_of(state, [entry])
        state = fold("m", [entry], state)
    return notices


def failed_deployment() -> Story:
    story = Story().serving().opened().running().trained().judged()
    story.sees(BROKEN)
    return story


def cancelled() -> Story:
    story = Story().serving().opened()
    story.asked(lambda s: ask_cancel(s, story.job_id, "ann", ""))
    story.sees(NothingSeen())
    return story


def failed() -> Story:
    story = Story().serving().opened()
    story.sees(BROKEN)
    return story


def rolled_back(found: str) -> Story:
    story = Story().serving().promoted().asked(lambda s: ask_rollback(s, "ann", "worse"))
    story.sees(ChampionSeen(version("2")))
    story.sees(ChampionSeen(version(found)))
    return story


def conflict() -> Story:
    story = Story().serving()
    story.sees(story.idle(version("7")))
    return story


def lasting() -> Story:
    story = Story(spec_of(rule="performance")).serving()
    for at in (NOW, NOW + DAY):
        story.sees(story.idle(version("1"), at, accuracy=None, reason="the server is away"), at)
    return story


@pytest.mark.parametrize(
    ("tell", "event", "severity", "title", "body"),
    [
        (lambda: Story().serving().opened(), "started", "info", "Retraining of m started",
         "performance_degradation: accuracy 0.8000 is below the threshold of 0.92"),
        (lambda: Story().serving().by_hand(), "needs_approval", "warning", "m waits for your approval",
         "accuracy 0.9500 is at or above the floor of 0.85; f1 0.8800 -> 0.9500 is +7.95% against "
         "+5.00% asked for; "
         "it waits until 2026-03-11T12:00:00.000000Z"),
        (lambda: Story().serving().promoted(), "completed", "info", "Retraining of m completed",
         "f1 0.8800 -> 0.9500 is +7.95% against +5.00% asked for"),
        (failed, "completed", "warning", "Retraining of m failed", "the disk is gone"),
        (cancelled, "completed", "info", "Retraining of m cancelled", "cancelled by ann"),
        (failed_deployment, "deployment_failed", "critical", "Deployment of m failed",
         "deployment failed: the disk is gone"),
        (lambda: rolled_back("1"), "rolled_back", "warning", "m rolled back",
         "version 2 withdrawn, 1 serves (ann: worse)"),
        (lambda: rolled_back("9"), "rollback_failed", "critical", "Rollback of m failed",
         "somebody moved the champion to version 9"),
        (conflict, "conflict", "critical", "Somebody moved the champion of m",
         "the champion alias points at version 7, the ledger says 1"),
        (lasting, "unknown_lasting", "warning", "performance of m stays unknown",
         "since 2026-03-04T12:00:00.000000Z: accuracy is unknown: the server is away"),
    ],
)  # fmt: skip
def test_the_last_notice(tell: Callable[[], Story], event: str, severity: str, title: str, body: str) -> None:
    story = tell()
    notice = told(story)[-1]
    assert (notice.event, notice.severity, notice.title, notice.body) == (event, severity, title, body)
    assert notice.model == notice.facts["model"] == "m"


def test_a_promotion_is_told_with_its_reason() -> None:
    notices = told(Story().serving().promoted())
    alarm, *notices = notices
    assert alarm.event == "champion_below_floor"  # accuracy 0.80 was what opened the job
    assert [notice.event for notice in notices] == ["started", "deployed", "completed"]
    assert notices[1].body.startswith("version 2 serves in place of 1: f1 0.8800 -> 0.9500")
    assert {notice.facts["job"] for notice in notices} == {Story().serving().opened().job_id}


def test_a_first_champion_serves_in_place_of_none() -> None:
    story = Story(enrolled=NOW - 7 * DAY)
    story.sees(story.idle(None))
    story.running().trained().judged()
    story.asked(lambda s: ask_approve(s, story.job_id, "ann", ""))
    story.sees(NothingSeen())
    story.deployed()
    assert "serves in place of none" in told(story)[-2].body


def test_a_quiet_look_is_not_told() -> None:
    story = Story().serving()
    story.sees(story.idle(version("1")))
    assert told(story) == []


def test_ids_are_of_the_entries_alone() -> None:
    story = Story().serving().promoted()
    notices = told(story)
    assert told(Story().serving().promoted()) == notices
    assert len({notice.id for notice in notices}) == len(notices)
    assert {notice.id for notice in notices} <= {entry.hash[:32] for entry in story.entries}


def test_entries_of_one_append_are_told_from_the_state_before_it() -> None:
    story = Story().serving().opened().running().trained().judged()
    plan = story.plan(ChampionSeen(version("2")))
    entries = seal("m", story.state.head, plan.drafts, NOW)
    assert [notice.event for notice in notices_of(story.state, entries)] == ["deployed", "completed"]
