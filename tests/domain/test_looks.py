"""Which looks become entries, what they say of those that did not, and how steady the answers are."""

from datetime import datetime, timedelta
from typing import Any

from domain_world import DAY, HOUR, NOW, Story, spec_of
from hypothesis import given
from hypothesis import strategies as st

from autoretrain.domain.looks import changed_look, since_last_change
from autoretrain.domain.plan import Trouble
from autoretrain.domain.sealing import Draft, load
from autoretrain.domain.state import ModelState
from autoretrain.domain.steadiness import FLAPPING, Steadiness
from autoretrain.domain.suppression import Held
from autoretrain.domain.verdict import Answer
from autoretrain.ports.observations import Look

MINUTE = timedelta(minutes=1)


def verdicts(answer: Answer) -> dict[str, Any]:
    return {"performance": {"answer": answer.value, "reason": "", "evidence": {}}}


def look(at: datetime, answer: str = "no", suppressed: str = "") -> Look:
    return Look("m", at, {"verdicts": {"performance": {"answer": answer}}, "suppressed": suppressed})


class TestSteadiness:
    def test_a_yes_counts_from_its_first_look(self) -> None:
        steady = Steadiness().after(NOW, "yes", "", flapping=False)
        assert steady.confirmed_at(NOW + HOUR, 3 * HOUR) == NOW + 3 * HOUR
        assert Steadiness().confirmed_at(NOW, 3 * HOUR) == NOW + 3 * HOUR

    @given(st.lists(st.tuples(st.sampled_from(["yes", "no", "unknown"]), st.integers(1, 500)), max_size=20))
    def test_only_the_time_of_yes_since_the_last_no_counts(self, story: list[tuple[str, int]]) -> None:
        steady, now, lasted, before = Steadiness(), NOW, 0, ""
        for answer, minutes in story:
            if answer != before:  # as it is recorded
                steady = steady.after(now, answer, "", flapping=False)
            lasted = 0 if answer == "no" else lasted + (minutes if answer == "yes" else 0)
            now, before = now + minutes * MINUTE, answer
        confirmed = steady.confirmed_at(now, DAY)
        assert confirmed == now + DAY - lasted * MINUTE

    def test_a_clock_that_was_set_back_confirms_nothing(self) -> None:
        steady = Steadiness().after(NOW, "yes", "", False).after(NOW - DAY, "unknown", "", False)
        assert steady.confirmed_at(NOW - DAY, HOUR) == NOW - DAY + HOUR

    def test_while_it_flaps_nobody_knows(self) -> None:
        steady = Steadiness().after(NOW, "yes", "", flapping=True)
        assert steady.confirmed_at(NOW + DAY, HOUR) is None
        assert steady.confirmed_at(NOW, timedelta(0)) == NOW  # where nothing is asked, nothing is missing

    def test_what_was_yes_while_it_flapped_does_not_count(self) -> None:
        steady = Steadiness().after(NOW, "yes", "", flapping=True)
        steady = steady.after(NOW + HOUR, "yes", "", flapping=False)
        assert steady.confirmed_at(NOW + HOUR, DAY) == NOW + HOUR + DAY

    def test_a_job_begins_anew(self) -> None:
        steady = Steadiness().after(NOW, "yes", "", False).from_now_on()
        assert steady.confirmed_at(NOW + DAY, HOUR) == NOW + DAY + HOUR


class TestChangedLooks:
    @given(st.lists(st.tuples(st.sampled_from([Answer.YES, Answer.NO]), st.integers(1, 1200)), max_size=80))
    def test_no_more_than_so_many_in_any_hour(self, story: list[tuple[Answer, int]]) -> None:
        told, now = Story(spec_of()).told(Draft("model.enrolled")), NOW
        for answer, seconds in story:
            drafts = changed_look(told.spec, told.state, verdicts(answer), answer, None, now)
            told.told(*drafts, at=now)
            now += timedelta(seconds=seconds)
        at = [datetime.fromisoformat(e.at) for e in told.entries if e.kind == "look.changed"]
        assert all(sum(begin <= moment < begin + HOUR for moment in at) <= FLAPPING for begin in at)

    def test_the_last_of_them_says_that_it_flaps_and_a_calm_hour_that_it_does_not(self) -> None:
        told = Story(spec_of())
        for minute in range(30):
            answer = Answer.YES if minute % 2 else Answer.NO
            at = NOW + minute * MINUTE
            told.told(*changed_look(told.spec, told.state, verdicts(answer), answer, None, at), at=at)
        looks = [load(entry.data) for entry in told.entries if entry.kind == "look.changed"]
        assert [data["flapping"] for data in looks] == [False] * 5 + [True]
        late = NOW + 2 * HOUR
        (settled,) = changed_look(told.spec, told.state, verdicts(Answer.YES), Answer.YES, None, late)
        assert settled.data["flapping"] is False
        told.told(settled, at=late)
        assert changed_look(told.spec, told.state, verdicts(Answer.YES), Answer.YES, None, late) == ()

    def test_another_end_is_another_reason(self) -> None:
        told = Story(spec_of())
        for until in (NOW + HOUR, NOW + HOUR, NOW + DAY):
            held = Held("budget", until)
            drafts = changed_look(told.spec, told.state, verdicts(Answer.YES), Answer.YES, held, NOW)
            told.told(*drafts)
        assert told.kinds.count("look.changed") == 2
        assert told.state.suppressed_until == NOW + DAY

    def test_an_entry_of_the_first_release_knows_less(self) -> None:
        told = Story().told(
            Draft("look.changed", {"verdicts": verdicts(Answer.YES), "suppressed": "cooldown", "looks": 3})
        )
        assert (told.state.suppressed, told.state.suppressed_until) == ("cooldown", None)
        assert told.state.steadiness.since is None
        drafts = changed_look(
            told.spec, told.state, verdicts(Answer.YES), Answer.YES, Held("cooldown", NOW + DAY), NOW
        )
        assert len(drafts) == 1  # it says until when


class TestLooksInBetween:
    state = ModelState("m", looked_at=NOW)

    def test_are_those_after_the_last_changed_one(self) -> None:
        looks = [look(NOW), look(NOW + MINUTE), look(NOW + 2 * MINUTE, "yes"), look(NOW + 3 * MINUTE)]
        told = since_last_change(looks, self.state, NOW + 3 * MINUTE)
        assert (told["looks"], told["looks_lost"], told["changes"]) == (2, False, 1)

    def test_that_fell_out_of_the_record_are_said_to_be_lost(self) -> None:
        looks = [look(NOW + MINUTE), look(NOW + 2 * MINUTE)]
        told = since_last_change(looks, self.state, NOW + 3 * MINUTE)
        assert (told["looks"], told["looks_lost"]) == (2, True)
        assert since_last_change([], self.state, NOW + MINUTE)["looks_lost"] is True

    def test_cannot_be_told_from_later_ones_once_the_clock_was_set_back(self) -> None:
        told = since_last_change([look(NOW)], self.state, NOW - HOUR)
        assert (told["looks"], told["looks_lost"]) == (0, True)

    def test_of_a_model_that_was_never_looked_at_are_none(self) -> None:
        told = since_last_change([], ModelState("m"), NOW)
        assert (told["looks"], told["looks_lost"]) == (0, False)


def test_a_look_that_sees_nothing_is_kept_when_it_is_new() -> None:
    """Else the record could not show that the looks after it are all there."""

    story = Story().serving()
    assert story.sees(Trouble("away", temporary=True)).verdicts is not None
    assert story.sees(Trouble("away", temporary=True)).verdicts is None
