"""The way back."""

from typing import Any

import pytest
from domain_world import DAY, HOUR, NOW, Story, spec_of, version

from autoretrain.domain.plan import (
    RETRY,
    ChampionSeen,
    NothingSeen,
    Phase,
    Plan,
    SetChampion,
    Trouble,
    phase_of,
)
from autoretrain.domain.requests import ask_approve, ask_release, ask_rollback
from autoretrain.domain.rollback import rollback_target
from autoretrain.domain.sealing import Draft

ONE, TWO, THREE = version("1"), version("2"), version("3")


def twice_promoted() -> Story:
    return Story().serving().promoted("2").promoted("3", NOW + 2 * DAY)


def asked(to: str | None = None) -> Story:
    return twice_promoted().asked(lambda s: ask_rollback(s, "ann", "worse at night", to))


def kinds(plan: Plan) -> list[str]:
    return [draft.kind for draft in plan.drafts]


def test_goes_to_the_last_that_served_unless_told() -> None:
    state = twice_promoted().state
    assert rollback_target(state, None) == TWO
    assert rollback_target(state, "1") == ONE
    assert rollback_target(state, "3") is None
    assert rollback_target(state, "99") is None
    assert rollback_target(Story().state, None) is None


def test_is_intended_then_followed_until_the_alias_shows_it() -> None:
    story = asked()
    plan = story.sees(ChampionSeen(THREE))
    assert kinds(plan) == ["rollback.intended"]
    assert plan.act == SetChampion(TWO, "3")
    again = story.plan(ChampionSeen(THREE))
    assert (again.drafts, again.act) == ((), SetChampion(TWO, "3"))
    (done,) = story.sees(ChampionSeen(TWO)).drafts
    accounted = {"who": "ann", "why": "worse at night", "before": "3", "policy": story.spec.digest}
    assert plan.drafts[0].data == {"target": TWO, "expected": "3", **accounted}
    assert done.data == {"target": TWO, "withdrawn": "3", **accounted}
    assert story.state.champion is not None
    assert story.state.champion.version == TWO
    assert story.state.rollback is None


def test_names_the_policy_it_was_intended_under() -> None:
    story = asked()
    intended = story.sees(ChampionSeen(THREE)).drafts[0].data["policy"]
    story.spec = spec_of(cooldown_hours=1)
    (done,) = story.sees(ChampionSeen(TWO)).drafts
    assert done.data["policy"] == intended != story.spec.digest


def test_an_intent_of_an_older_release_is_carried_out() -> None:
    story = asked().told(
        Draft("rollback.intended", {"target": TWO, "expected": "3", "who": "ann", "why": ""})
    )
    (done,) = story.sees(ChampionSeen(TWO)).drafts
    assert done.data["policy"] == story.spec.digest


def test_a_withdrawn_version_is_no_way_back() -> None:
    story = asked()
    story.sees(ChampionSeen(THREE))
    story.sees(ChampionSeen(TWO))
    assert rollback_target(story.state, "3") is None
    assert rollback_target(story.state, None) == ONE
    story.asked(lambda s: ask_release(s, "3", "bob", "it was the sensor"))
    assert rollback_target(story.state, "3") == THREE


@pytest.mark.parametrize("found", [version("9"), None])
def test_somebody_else_moved_the_alias_meanwhile(found: Any) -> None:
    story = asked()
    story.sees(ChampionSeen(THREE))
    plan = story.sees(ChampionSeen(found))
    assert kinds(plan) == ["champion.conflict", "rollback.failed"]
    assert plan.act is None
    assert story.state.rollback is None
    assert not story.state.quarantined


def test_somebody_else_moved_the_alias_before() -> None:
    story = asked()
    plan = story.sees(ChampionSeen(version("9")))
    assert (kinds(plan), plan.act) == (["champion.conflict", "rollback.failed"], None)
    assert plan.drafts[1].data["reason"] == "the champion is version 9, the ledger says 3"
    again = story.asked(lambda s: ask_rollback(s, "ann", "")).sees(ChampionSeen(version("9")))
    assert kinds(again) == ["rollback.failed"]  # the conflict was told


def test_an_alias_that_is_gone_may_be_set_again() -> None:
    """Its version was deleted, say: nobody serves, and nobody's choice is overwritten."""
    story = asked()
    plan = story.sees(ChampionSeen(None))
    assert plan.act == SetChampion(TWO, None)
    assert story.plan(ChampionSeen(None)).act == SetChampion(TWO, None)
    (done,) = story.sees(ChampionSeen(TWO)).drafts
    assert (done.data["target"], done.data["withdrawn"]) == (TWO, "3")
    assert story.state.quarantined == {THREE.digest: "3"}


GONE = Trouble("version 2 is gone", temporary=False, acting=True)
ALTERED = Trouble("its artefact was altered", temporary=False, acting=True)


class TestATargetThatCannotServe:
    def test_gives_way_to_the_next_that_served(self) -> None:
        story = asked()
        story.sees(ChampionSeen(THREE))
        plan = story.sees(GONE)
        assert [(d.kind, d.data) for d in plan.drafts] == [
            ("rollback.skipped", {"version": TWO, "reason": "version 2 is gone"})
        ]
        assert (plan.act, plan.look_at) == (None, None)
        assert story.sees(ChampionSeen(THREE)).act == SetChampion(ONE, "3")
        (done,) = story.sees(ChampionSeen(ONE)).drafts
        assert (done.data["target"], done.data["withdrawn"]) == (ONE, "3")
        assert story.state.quarantined == {THREE.digest: "3"}

    def test_halts_when_none_is_left_and_says_why(self) -> None:
        story = asked()
        for trouble in (GONE, ALTERED):
            story.sees(ChampionSeen(THREE))
            story.sees(trouble)
        plan = story.sees(ChampionSeen(THREE))
        (failed,) = plan.drafts
        assert (failed.kind, plan.act) == ("rollback.failed", None)
        assert failed.data["reason"] == (
            "no earlier version that served is left to go back to (version 2 cannot serve: version 2 is "
            "gone; version 1 cannot serve: its artefact was altered)"
        )
        assert story.state.champion is not None
        assert story.state.champion.version == THREE
        assert not story.state.quarantined

    def test_is_not_replaced_when_a_person_named_it(self) -> None:
        story = asked(to="2")
        story.sees(ChampionSeen(THREE))
        story.sees(GONE)
        (failed,) = story.sees(ChampionSeen(THREE)).drafts
        assert failed.data["reason"] == "version 2 cannot serve: version 2 is gone"

    def test_is_tried_again_by_the_next_rollback(self) -> None:
        story = asked("2")
        for seen in (ChampionSeen(THREE), GONE, ChampionSeen(THREE)):
            story.sees(seen)
        assert rollback_target(story.state, None) == TWO

    def test_a_registry_that_refuses_to_be_looked_at_says_nothing_about_it(self) -> None:
        story = asked()
        story.sees(ChampionSeen(THREE))
        assert kinds(story.sees(Trouble("wrong password", temporary=False))) == ["rollback.failed"]


def test_nothing_is_left_to_go_back_to_when_it_is_decided() -> None:
    story = Story().serving().promoted().asked(lambda s: ask_rollback(s, "ann", ""))
    story.sees(ChampionSeen(TWO))
    story.sees(ChampionSeen(ONE))
    story.asked(lambda s: ask_release(s, "2", "ann", "")).asked(lambda s: ask_rollback(s, "ann", "", "2"))
    story.state.quarantined[TWO.digest] = "2"  # type: ignore[index]
    (failed,) = story.plan(ChampionSeen(ONE)).drafts
    assert failed.data["reason"] == "no earlier version that served is left to go back to"


@pytest.mark.parametrize(("after", "wait"), [(None, RETRY), (3600.0, HOUR)])
def test_waits_for_a_registry_that_is_away(after: float | None, wait: Any) -> None:
    story = asked()
    plan = story.sees(Trouble("away", True, after))
    assert (kinds(plan), plan.look_at) == (["rollback.stalled"], NOW + wait)
    again = story.plan(Trouble("away", True, after, acting=True))
    assert (again.drafts, again.look_at) == ((), NOW + wait)  # told once
    assert story.sees(ChampionSeen(THREE)).act == SetChampion(TWO, "3")
    assert story.state.rollback is not None
    assert story.state.rollback.stalled == ""


def test_gives_up_when_the_registry_refuses() -> None:
    story = asked()
    (failed,) = story.sees(Trouble("the artefact is gone", temporary=False)).drafts
    assert (failed.kind, failed.data["reason"]) == ("rollback.failed", "the artefact is gone")
    assert story.state.rollback is None


class TestBesideAJob:
    def test_a_promotion_that_began_is_settled_first(self) -> None:
        story = Story().serving().promoted().opened(NOW + 2 * DAY).running().trained("3").judged()
        story.asked(lambda s: ask_rollback(s, "ann", ""))
        assert phase_of(story.state) is Phase.DEPLOYMENT
        story.deployed()
        assert phase_of(story.state) is Phase.ROLLBACK
        assert story.sees(ChampionSeen(THREE)).act == SetChampion(TWO, "3")

    def test_otherwise_it_comes_before_the_job(self) -> None:
        story = Story().serving().promoted().opened(NOW + 2 * DAY)
        assert phase_of(story.state) is Phase.DATA
        story.asked(lambda s: ask_rollback(s, "ann", ""))
        assert phase_of(story.state) is Phase.ROLLBACK

    def test_a_candidate_of_data_from_before_does_not_come_after_it(self) -> None:
        story = Story().serving().promoted().by_hand(NOW + DAY, label="3")
        story.asked(lambda s: ask_rollback(s, "ann", "the data is bad"), NOW + 2 * DAY)
        story.sees(ChampionSeen(TWO), NOW + 2 * DAY)
        story.sees(ChampionSeen(ONE), NOW + 2 * DAY)
        story.asked(lambda s: ask_approve(s, story.job_id, "ann", ""), NOW + 2 * DAY)
        assert story.sees(NothingSeen(), NOW + 2 * DAY).act is None
        assert story.state.last_job is not None
        assert not story.state.last_job.deployed
