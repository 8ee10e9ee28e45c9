"""A job as a person would explain it: texts are pinned, since people read them and nothing else."""

import re
from datetime import timedelta
from typing import Any

import pytest
from domain_world import DAY, GOOD, NOW, POOR, Story, scored, spec_of, version

from autoretrain.domain.in_short import in_short
from autoretrain.domain.plan import NothingSeen, ScoresSeen, Trouble
from autoretrain.domain.requests import ask_approve, ask_cancel, ask_reject
from autoretrain.domain.spec import ModelSpec
from autoretrain.ports.scorer import Effect, Paired, Scale, Scores
from autoretrain.ports.values import TimeWindow

CLAIMS = {"policy": "by-trigger@1", "segments": ["site"]}
BEGUN = NOW - 40 * DAY
OLD = version("1", trained_on=TimeWindow(NOW - 120 * DAY, NOW - 30 * DAY))


def spec(**promotion: Any) -> ModelSpec:
    return spec_of(promotion={**CLAIMS, **promotion}, holdout_days=14)


def compared(old: float, new: float, error: float, **segments: tuple[float, float]) -> Scores:
    """F1 of both versions on 336 rows of 14 days."""
    effects: dict[Scale, Effect] = {"relative": Effect((new - old) / old, error)}
    pair = Paired("f1", new, old, effects, 14, "blocks of 1 day", 336)
    parts = {
        f"site={name}": Paired("f1", b, a, {"relative": Effect((b - a) / a, 0.02)}, 14, "days", 200)
        for name, (a, b) in segments.items()
    }
    return scored(
        {**GOOD, "f1": new}, {**POOR, "f1": old}, rows=336, paired=pair, segments=parts,
        untold={"site=east": "only 12 rows, 30 are needed"},
    )  # fmt: skip


def judged(scores: Scores, of: ModelSpec | None = None) -> Story:
    """A job that a trigger opened, up to its decision."""
    story = Story(of or spec(), enrolled=BEGUN).serving(OLD, BEGUN)
    return story.opened(NOW).running(NOW).trained().judged(scores, NOW)


def told(story: Story) -> dict[str, str]:
    job = story.state.last_job
    assert job is not None
    return in_short(job)


def test_an_inconclusive_one_says_how_many_rows_would_tell_and_when_they_are_there() -> None:
    short = told(judged(compared(0.8743, 0.9341, 0.0385)))
    assert list(short) == [
        "Why it began", "Compared", "Measured", "Asked for", "Segments", "Outcome", "What would change it",
    ]  # fmt: skip
    assert short["Compared"] == (
        "version 2, trained in this job, with version 1, which served; on the same 336 labelled rows of "
        "2026-02-18 12:00 UTC to 2026-03-04 12:00 UTC"
    )
    assert short["Measured"] == (
        "f1 0.9341 against 0.8743: +6.84%, which may be anything between -1.48% and +15.16%; each bound is "
        "wrong once in 40 times (14 blocks of 1 day)"
    )
    assert short["Asked for"] == (
        "to be measured better by 5 %, and surely better at all (superiority@1), at 0.025 of the quarter's "
        "error rate of 0.05: decision 1 of 2026-Q1"
    )
    assert short["Segments"] == "site=east: not compared, only 12 rows, 30 are needed"
    assert short["Outcome"] == (
        "inconclusive, version 1 stays: +6.84% would do, but it may be as little as -1.48%"
    )
    more, better = short["What would change it"].split("; or ")
    found = re.fullmatch(
        r"about (\d+) rows \(336 were there\): holdout_days = (\d+), and at this rate of labels they are "
        r"there about (\S+) \(the next decision of 2026-Q1 is judged at 0.0083, this one was at 0.025\)",
        more,
    )
    assert found is not None
    rows, days = int(found[1]), int(found[2])
    assert rows / 24 <= days < rows / 24 + 1  # 24 labels a day
    assert OLD.trained_on is not None
    assert found[3] == f"{OLD.trained_on.end + timedelta(days=rows / 24):%Y-%m-%d}"
    assert better.endswith("or better, which such a holdout shows in four tries of five")


def test_rows_that_are_there_already_want_a_longer_holdout_alone() -> None:
    story = Story(spec(), enrolled=BEGUN).serving(version("1"), BEGUN).opened(NOW).running(NOW).trained()
    story.judged(compared(0.8743, 0.9341, 0.0385), NOW)  # nobody knows what the champion was trained on
    assert ", and they are there already (" in told(story)["What would change it"]


def test_more_rows_than_anybody_has() -> None:
    short = told(judged(compared(0.8743, 0.8753, 0.0385), spec(policy="improvement@1")))
    assert "more than 365 days have, the longest holdout" in short["What would change it"]


def test_a_rejected_one() -> None:
    short = told(judged(compared(0.8743, 0.8710, 0.012, north=(0.88, 0.87))))
    assert short["Outcome"] == (
        "rejected, version 1 stays: even the upper bound, +2.21%, does not reach +5.00%"
    )
    assert short["Segments"].startswith("site=north 0.8800 -> 0.8700 (200 rows): too few rows; site=east: ")
    assert short["What would change it"] == (
        "a candidate that is truly at +6.01% or better, which such a holdout shows in four tries of five"
    )


def test_a_promoted_one() -> None:
    short = told(judged(compared(0.8743, 0.9441, 0.018)).deployed())
    assert short["Outcome"] == (
        "promoted, version 2 serves from 2026-03-04 12:00 UTC: +7.98% is at least +5.00%, and even the "
        "lower bound, +4.09%, is above 0"
    )
    assert "What would change it" not in short


def test_one_that_a_segment_keeps_back() -> None:
    short = told(judged(compared(0.8743, 0.9441, 0.018, north=(0.88, 0.70))))
    assert "but it is worse in site=north" in short["Outcome"]
    assert short["What would change it"] == "a candidate that is no worse in these segments"


def test_a_gate_that_nobody_can_pass_names_the_alternatives() -> None:
    short = told(judged(compared(0.96, 0.97, 0.0005)))
    assert short["Outcome"].startswith("rejected, version 1 stays: no candidate can reach that from 0.9600")
    assert "What would change it" not in short


def test_other_claims_in_words() -> None:
    drift = told(judged(compared(0.8743, 0.8753, 0.0005), spec(policy="non-inferiority@1")).deployed())
    assert drift["Asked for"].startswith("to be surely not worse by 2 % (non-inferiority@1)")
    assert drift["Outcome"].endswith("even the lower bound, +0.01%, is above -2.00%")
    regular = told(judged(compared(0.8743, 0.8753, 0.0385), spec(policy="improvement@1")))
    assert regular["Asked for"].startswith("to be surely better at all (improvement@1)")


class TestPeople:
    def by_hand(self, **promotion: Any) -> Story:
        story = Story(spec(**promotion), enrolled=BEGUN).serving(OLD, BEGUN)
        return story.by_hand(NOW, compared(0.8743, 0.9341, 0.0385))

    def test_who_is_waited_for_with_the_numbers_in_view(self) -> None:
        story = self.by_hand(approvals=2)
        story.asked(lambda s: ask_approve(s, story.job_id, "bob", "fine"))
        short = told(story)
        assert short["Why it began"] == "ann asked for it on 2026-03-04 12:00 UTC: a new sensor"
        assert "between -1.48% and +15.16% (14 blocks of 1 day)" in short["Measured"]
        assert short["Asked for"] == (
            "a person's decision; the rule would have asked to be measured better by 5 %, and surely better "
            "at all (superiority@1)"
        )
        assert short["Outcome"] == (
            "waits for 2 different people until 2026-03-11 12:00 UTC, bob approved already; then it ends "
            "undeployed"
        )
        assert short["What would change it"].startswith("autoretrain approve ")

    def test_what_they_had_in_view_stays_with_their_answer(self) -> None:
        story = self.by_hand()
        story.asked(lambda s: ask_reject(s, story.job_id, "bob", "not now"))
        story.sees(NothingSeen(), NOW)
        short = told(story)
        assert "between -1.48% and +15.16%" in short["Measured"]
        assert short["Outcome"] == "rejected, version 1 stays: rejected by bob: not now"

    def test_nobody_answered(self) -> None:
        story = self.by_hand()
        story.sees(NothingSeen(), NOW + 8 * DAY)
        short = told(story)
        assert short["Outcome"] == "not promoted, version 1 stays: nobody approved it within 7 days"
        assert short["What would change it"].endswith("autoretrain start m begins anew")


@pytest.mark.parametrize(
    ("scores", "outcome", "change"),
    [
        (scored(POOR, POOR), "f1 0.8800 -> 0.8800 is +0.00% against +5.00% asked for",
         "a candidate that is measured better by 5 % or more"),
        (scored({**GOOD, "accuracy": 0.5}), "accuracy 0.5000 is below the floor of 0.85",
         "a candidate at or above the floor"),
        (scored(identical=True), "no change: it predicts as the champion does", None),
    ],
)  # fmt: skip
def test_without_intervals(scores: Scores, outcome: str, change: str | None) -> None:
    short = told(Story().serving().opened().running().trained().judged(scores))
    assert short["Outcome"] == f"rejected, version 1 stays: {outcome}"
    assert short.get("What would change it") == change


def test_a_first_version() -> None:
    story = Story(spec_of(rule="schedule", promotion={"first_champion": "floor"}), enrolled=NOW - 8 * DAY)
    story.sees(story.idle(None))
    short = told(story.running().trained("1").judged(scored(champion=None)).deployed())
    assert short["Compared"].startswith(
        "version 1, trained in this job, with nothing, since no version served"
    )
    assert short["Measured"] == "f1 0.9500; accuracy 0.9500 is at or above the floor of 0.85"
    assert short["Asked for"] == "a first version has to reach the floor (first-champion@1)"


def test_a_champion_that_cannot_be_scored() -> None:
    story = Story(spec()).serving().opened().running().trained()
    why = "the champion cannot be scored: its artefact was altered"
    story.sees(ScoresSeen(scored(champion=None), unscored=why))
    short = told(story)
    assert short["Compared"].startswith(
        f"version 2, trained in this job, with nothing: {why}; on 1000 labelled"
    )
    assert short["Measured"] == "f1 0.9500; accuracy 0.9500 is at or above the floor of 0.85"
    assert short["Outcome"].startswith("waits for a person until 2026-03-11")


def test_jobs_without_a_comparison() -> None:
    story = Story().serving().opened()
    assert list(told(story)) == ["Why it began"]
    story.sees(Trouble("the disk is full", temporary=False))
    assert told(story)["Outcome"] == "failed: the disk is full"
    story = Story().serving().opened()
    story.asked(lambda s: ask_cancel(s, story.job_id, "ann", "wrong rows"))
    story.sees(NothingSeen())
    assert told(story)["Outcome"] == "cancelled: cancelled by ann: wrong rows"
    story = judged(scored())
    assert told(story)["Outcome"].startswith("inconclusive, version 1 stays: the difference in f1 is unknown")
