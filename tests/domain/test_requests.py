"""What people may ask, and what they are told when they may not."""

import re
from collections.abc import Callable

import pytest
from domain_world import DAY, NOW, Story, scored, version

from autoretrain.domain.plan import ChampionSeen, ScoresSeen
from autoretrain.domain.requests import (
    ask_adopt,
    ask_approve,
    ask_cancel,
    ask_reject,
    ask_release,
    ask_rollback,
    ask_start,
)
from autoretrain.domain.sealing import Draft
from autoretrain.domain.state import ModelState
from autoretrain.ports.errors import JobAlreadyOpen, Refused, UnknownJob

Ask = Callable[[ModelState], Draft]


def refused(story: Story, ask: Ask, why: str, error: type[Exception] = Refused) -> None:
    with pytest.raises(error, match=re.escape(why)):
        ask(story.state)


class TestStart:
    def test_asks(self) -> None:
        draft = ask_start(Story().serving().state, "ann", {"depth": 3}, "a new sensor")
        assert (draft.kind, draft.actor) == ("request.start", "ann")
        assert draft.key == f"start:{draft.data['job_id']}"
        assert draft.data["parameters"] == {"depth": 3}

    def test_while_a_job_is_open(self) -> None:
        story = Story().serving().opened()
        why = f"m already has an open job: {story.job_id}"
        refused(story, lambda s: ask_start(s, "ann", {}, ""), why, JobAlreadyOpen)

    def test_while_one_is_asked_for(self) -> None:
        story = Story().serving().asked(lambda s: ask_start(s, "ann", {}, ""))
        assert story.state.start is not None
        why = f"m already has an open job: {story.state.start.job_id}"
        refused(story, lambda s: ask_start(s, "bob", {}, ""), why, JobAlreadyOpen)


def test_a_minimum_where_none_can_be_shown_is_refused_and_uses_up_no_answer() -> None:
    story = Story().serving().opened().running().trained()
    story.sees(ScoresSeen(scored(champion=None), unscored="the champion cannot be scored: gone"))
    why = "no improvement can be shown (the champion cannot be scored: gone); approve it without a minimum"
    refused(story, lambda s: ask_approve(s, story.job_id, "bob", "", 0.05), why)
    assert ask_approve(story.state, story.job_id, "bob", "").kind == "request.approve"


@pytest.mark.parametrize("answer", [ask_approve, ask_reject])
class TestAnswer:
    def test_to_a_job_that_waits(self, answer: Callable[..., Draft]) -> None:
        story = Story().serving().by_hand()
        draft = answer(story.state, story.job_id, "bob", "because")
        assert (draft.key, draft.actor, draft.data["reason"]) == (f"answer:{story.job_id}", "bob", "because")

    def test_to_no_job(self, answer: Callable[..., Draft]) -> None:
        refused(Story(), lambda s: answer(s, "j7", "bob", ""), "m has no job j7", UnknownJob)

    def test_to_a_job_that_does_not_wait(self, answer: Callable[..., Draft]) -> None:
        story = Story().serving().opened().running()
        why = f"job {story.job_id} does not wait for a person: it is running"
        refused(story, lambda s: answer(s, story.job_id, "bob", ""), why)

    @pytest.mark.parametrize(("before", "word"), [(ask_approve, "approved"), (ask_reject, "rejected")])
    def test_to_a_job_that_was_answered(
        self, answer: Callable[..., Draft], before: Callable[..., Draft], word: str
    ) -> None:
        story = Story().serving().by_hand()
        story.asked(lambda s: before(s, story.job_id, "ann", ""))
        why = f"job {story.job_id} was {word} by ann already"
        refused(story, lambda s: answer(s, story.job_id, "bob", ""), why)


class TestCancel:
    @pytest.mark.parametrize(
        "story",
        [
            Story().serving().opened(),
            Story().serving().opened().running(),
            Story().serving().opened().running().trained(),
            Story().serving().by_hand(),
        ],
    )
    def test_of_an_open_job(self, story: Story) -> None:
        draft = ask_cancel(story.state, story.job_id, "ann", "")
        assert (draft.kind, draft.key) == ("request.cancel", f"cancel:{story.job_id}")

    def test_of_one_that_was_only_asked_for(self) -> None:
        story = Story().serving().asked(lambda s: ask_start(s, "ann", {}, ""))
        start = story.state.start
        assert start is not None
        story.asked(lambda s: ask_cancel(s, start.job_id, "ann", ""))
        assert story.state.start is None

    def test_of_none(self) -> None:
        refused(Story(), lambda s: ask_cancel(s, "j7", "ann", ""), "m has no job j7", UnknownJob)

    def test_of_one_that_has_ended(self) -> None:
        story = Story().serving().promoted()
        why = f"job {story.job_id} is completed; there is nothing to cancel"
        refused(story, lambda s: ask_cancel(s, story.job_id, "ann", ""), why)

    def test_of_one_that_is_being_deployed(self) -> None:
        story = Story().serving().opened().running().trained().judged()
        why = f"job {story.job_id} is being deployed; let it end, then roll back"
        refused(story, lambda s: ask_cancel(s, story.job_id, "ann", ""), why)

    def test_twice(self) -> None:
        story = Story().serving().opened()
        story.asked(lambda s: ask_cancel(s, story.job_id, "ann", ""))
        why = f"job {story.job_id} is being cancelled already (asked by ann)"
        refused(story, lambda s: ask_cancel(s, story.job_id, "bob", ""), why)


class TestRollback:
    def test_asks(self) -> None:
        draft = ask_rollback(Story().serving().promoted().state, "ann", "worse", "1")
        assert (draft.kind, draft.actor, draft.data) == (
            "request.rollback",
            "ann",
            {"to": "1", "reason": "worse"},
        )

    def test_may_be_asked_again_another_day(self) -> None:
        assert ask_rollback(Story().serving().promoted().state, "ann", "").key is None

    def test_without_a_way_back(self) -> None:
        why = "m cannot go back to an earlier version: served before: none; serving now: 1; withdrawn: none"
        refused(Story().serving(), lambda s: ask_rollback(s, "ann", ""), why)

    def test_to_a_version_that_never_served(self) -> None:
        why = "m cannot go back to version 9: served before: 1; serving now: 2; withdrawn: none"
        refused(Story().serving().promoted(), lambda s: ask_rollback(s, "ann", "", "9"), why)

    def test_to_one_that_was_withdrawn(self) -> None:
        story = Story().serving().promoted().asked(lambda s: ask_rollback(s, "ann", ""))
        story.sees(ChampionSeen(version("2")))
        story.sees(ChampionSeen(version("1")))
        refused(story, lambda s: ask_rollback(s, "ann", "", "2"), "serving now: 1; withdrawn: 2")

    def test_twice(self) -> None:
        story = Story().serving().promoted().asked(lambda s: ask_rollback(s, "ann", ""))
        refused(story, lambda s: ask_rollback(s, "bob", ""), "a rollback of m goes on already (asked by ann)")


class TestOverride:
    def test_adopt(self) -> None:
        story = Story().serving()
        why = "the champion of m is as the ledger says; there is nothing to adopt"
        refused(story, lambda s: ask_adopt(s, "ann", ""), why)
        story.sees(story.idle(version("7")))
        draft = ask_adopt(story.state, "ann", "mine")
        assert draft.data == {"what": "adopt", "version": "7", "reason": "mine"}

    def test_release(self) -> None:
        story = Story().serving().promoted()
        why = "version 2 of m is not withdrawn; withdrawn: none"
        refused(story, lambda s: ask_release(s, "2", "ann", ""), why)
        story.asked(lambda s: ask_rollback(s, "ann", ""), NOW + DAY)
        story.sees(ChampionSeen(version("2")))
        story.sees(ChampionSeen(version("1")))
        story.asked(lambda s: ask_release(s, "2", "ann", "it was the sensor"))
        assert not story.state.quarantined
