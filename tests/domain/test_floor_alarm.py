"""A champion below the floor is told of, once an episode, and is no reason to promote."""

from datetime import datetime
from typing import Any

import pytest
from domain_world import DAY, HOUR, NOW, Story, scored, spec_of, version

from autoretrain.domain.notices import notices_of
from autoretrain.domain.spec import ModelSpec
from autoretrain.domain.tally import Standing

WATCHED = spec_of(rule="performance & drift")  # so that low accuracy alone starts nothing
BAD = {"accuracy": 0.8, "f1": 0.8}


def serving(spec: ModelSpec = WATCHED) -> Story:
    return Story(spec).serving()


def seen(story: Story, accuracy: float | None, at: datetime = NOW, **more: Any) -> Story:
    champion = story.state.champion
    assert champion is not None
    story.sees(story.idle(champion.version, at, accuracy=accuracy, **more), at)
    return story


def told(story: Story) -> list[str]:
    return [kind for kind in story.kinds if kind.endswith("_floor")]


class TestTheMetricThatIsWatched:
    def test_tells_once(self) -> None:
        story = serving()
        for hours in range(4):
            seen(story, 0.84 - hours / 100, NOW + hours * HOUR)
        assert told(story) == ["champion.below_floor"]
        below = story.state.below_floor
        assert below is not None
        assert (below.since, below.value, below.floor, below.source) == (NOW, 0.84, 0.85, "live")

    @pytest.mark.parametrize("accuracy", [0.85, 0.9])
    def test_at_the_floor_is_well(self, accuracy: float) -> None:
        assert told(seen(serving(), accuracy)) == []

    def test_tells_of_the_recovery_and_of_the_next_time(self) -> None:
        story = seen(seen(seen(serving(), 0.8), 0.9, NOW + DAY), 0.8, NOW + 2 * DAY)
        assert told(story) == ["champion.below_floor", "champion.above_floor", "champion.below_floor"]

    def test_one_that_wavers_tells_once_a_day(self) -> None:
        story = serving()
        for minutes in range(0, 3 * 24 * 60, 30):
            seen(story, 0.86 if minutes % 60 else 0.84, NOW + minutes * HOUR / 60)
        assert len(told(story)) == 5

    @pytest.mark.parametrize(
        ("accuracy", "more"),
        [(None, {}), (0.8, {"rows": 3}), (0.8, {"last_at": NOW - 30 * DAY}), (float("nan"), {})],
    )
    def test_what_is_unknown_begins_and_ends_nothing(
        self, accuracy: float | None, more: dict[str, Any]
    ) -> None:
        assert told(seen(serving(), accuracy, **more)) == []
        story = seen(serving(), 0.8)
        seen(story, accuracy, NOW + DAY, **{**more, **({"rows": 3} if "last_at" in more else {})})
        assert story.state.below_floor is not None

    def test_what_an_empty_answer_counts_as_is_no_measure(self) -> None:
        story = serving(spec_of(rule="performance & drift", on_missing=0.0))
        assert told(seen(story, None, points=0)) == []

    def test_what_another_version_measures_is_not_the_champions(self) -> None:
        story = serving()
        for _ in range(2):
            story.sees(story.idle(version("7"), accuracy=0.5))
        assert (story.state.conflict, told(story)) == ("7", [])

    def test_another_measure_says_nothing_of_the_floor(self) -> None:
        story = serving(spec_of(rule="performance & drift", metric="f1"))
        assert told(seen(story, 0.5)) == []


class TestTheGate:
    def test_tells_of_the_champion_that_it_scored(self) -> None:
        story = serving(spec_of()).opened()
        assert told(story) == ["champion.below_floor"]  # seen live already: 0.80
        story = Story(spec_of(metric="f1", threshold=0.9)).serving().opened().running().trained()
        story.judged(scored({"accuracy": 0.84, "f1": 0.84}, BAD))
        assert told(story) == ["champion.below_floor"]
        assert story.state.below_floor is not None
        assert story.state.below_floor.source == "holdout"

    def test_it_promotes_nothing_for_it(self) -> None:
        story = serving(spec_of()).opened().running().trained()
        story.judged(scored({"accuracy": 0.84, "f1": 0.84}, BAD))
        job = story.state.last_job
        assert job is not None
        assert (job.deployed, job.outcome) == (False, "accuracy 0.8400 is below the floor of 0.85")
        assert story.state.below_floor is not None

    def test_a_new_champion_ends_it(self) -> None:
        story = serving(spec_of()).opened().running().trained().judged(scored(champion=BAD))
        assert story.state.below_floor is not None
        assert story.deployed().state.below_floor is None

    def test_too_few_rows_say_nothing(self) -> None:
        story = Story(spec_of(metric="f1", threshold=0.9)).serving().opened().running().trained()
        assert told(story.judged(scored(champion=BAD, rows=20))) == []

    def test_the_holdout_of_a_job_does_not_end_what_was_seen_live(self) -> None:
        story = seen(serving(), 0.8).by_hand(NOW + 2 * DAY)
        assert told(story) == ["champion.below_floor"]


def test_people_are_told_of_both() -> None:
    story = seen(seen(serving(), 0.8), 0.9, NOW + DAY)
    first, second = (e for e in story.entries if e.kind.endswith("_floor"))
    [below], [above] = notices_of(story.state, [first]), notices_of(story.state, [second])
    assert (below.event, below.severity, below.body) == (
        "champion_below_floor", "critical",
        "version 1 serves with live accuracy 0.8000 on 1000 rows, below the floor of 0.85",
    )  # fmt: skip
    assert (above.event, above.severity) == ("champion_above_floor", "info")


def test_how_many_there_are_is_exported() -> None:
    standing, story = Standing(), seen(serving(), 0.8)
    standing.note(story.state)
    assert standing.below_floor == 1
    standing.forget("m")
    assert standing.below_floor == 0
    standing.note(story.state)
    standing.note(seen(story, 0.9, NOW + DAY).state)
    assert standing.below_floor == 0


def test_the_version_of_the_story_is_the_one_that_serves() -> None:
    champion = serving().state.champion
    assert champion is not None
    assert champion.version == version("1")
