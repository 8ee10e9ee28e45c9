"""What a holdout can show is told before the training, from how the last comparison spread."""

from __future__ import annotations

import math
from typing import Any

import pytest
from domain_world import DAY, GOOD, NOW, POOR, Story, scored, snapshot, spec_of

from autoretrain.domain.explain import timeline
from autoretrain.domain.jobs import JobStatus
from autoretrain.domain.notices import notices_of
from autoretrain.domain.plan import DataSeen, Plan
from autoretrain.domain.power import unreachable_gate
from autoretrain.domain.requests import ask_start
from autoretrain.domain.state import ModelState
from autoretrain.ports.scorer import Effect, Paired

LATER = NOW + 3 * DAY
Z80 = 0.8416
T_OF_400 = 2.4041
"""Quantile of Student at the level of a second decision (0.05 / 6), 399 degrees of freedom: scipy says so."""


def compared(error: float) -> Paired:
    """The candidate is 8 % better, as measured on 1000 rows."""
    return Paired("f1", 0.95, 0.88, {"relative": Effect(0.08, error)}, 400, "days", 1000)


def served(error: float = 0.02, **promotion: Any) -> Story:
    """A model whose first job was decided by a comparison."""
    story = Story(spec_of(promotion={"policy": "by-trigger@1", **promotion})).serving()
    return story.opened().running().trained().judged(scored(paired=compared(error))).deployed()


def second(story: Story, rows: int) -> Plan:
    """Its second job, when the snapshots are there."""
    story.opened(LATER)
    job = story.state.open_job
    assert job is not None
    return story.sees(DataSeen(snapshot(job.training_window), snapshot(job.holdout_window, rows)), LATER)


def power(story: Story) -> Any:
    job = story.state.last_job
    assert job is not None
    return job.power


def test_says_what_so_many_rows_show() -> None:
    story = served()
    second(story, 4000)
    seen = power(story)
    shows = (T_OF_400 + Z80) * 0.02 / 2  # twice as sharp as 1000 rows
    assert seen["shows"] == pytest.approx(shows, rel=1e-3)
    assert (seen["rows"], seen["enough"], seen["claim"]) == (4000, True, "better by 5 %")
    assert seen["level"] == pytest.approx(0.05 / 6)
    assert seen["text"] == "4000 rows show differences from about 3.25 % on, four times in five"


def test_says_that_a_claim_cannot_be_shown_and_trains_all_the_same() -> None:
    story = served()
    plan = second(story, 1000)
    assert power(story)["enough"] is False
    assert power(story)["text"].endswith("from about 6.49 % on, four times in five; 5 % cannot be shown")
    assert plan.act is not None
    told = [moment for moment in timeline(story.entries, story.job_id) if "submitted" in moment.title]
    assert "5 % cannot be shown" in " ".join(told[0].details)
    (notice,) = notices_of(story.state, story.entries[-1:])
    assert (notice.event, notice.severity) == ("underpowered", "info")


def test_enough_is_no_news() -> None:
    story = served()
    second(story, 4000)
    assert notices_of(story.state, story.entries[-1:]) == ()


def test_can_end_a_job_that_could_show_nothing() -> None:
    story = served(underpowered="stop")
    second(story, 1000)
    job = story.state.last_job
    assert job is not None
    assert (job.status, job.attempt) == (JobStatus.FAILED, 0)
    assert job.outcome.startswith("not trained: 1000 rows show differences from about 6.49 %")
    enough = served(underpowered="stop")
    assert second(enough, 4000).act is not None


def test_never_ends_a_persons_job() -> None:
    story = served(underpowered="stop")
    story.asked(lambda state: ask_start(state, "ann", {}, "a look"), LATER)
    champion = story.state.champion
    assert champion is not None
    story.sees(story.idle(champion.version, LATER), LATER)
    story.running(LATER)
    assert story.state.open_job is not None


def test_not_worse_is_about_a_candidate_that_is_as_good() -> None:
    story = served(error=0.002, policy="non-inferiority@1")
    second(story, 1000)
    assert power(story)["enough"] is True
    assert "that a candidate of -1.35% or more is not worse by 2 %" in power(story)["text"]
    blunt = served(error=0.02, policy="non-inferiority@1")
    second(blunt, 1000)
    assert power(blunt)["text"].endswith("of one that is as good as the champion they cannot")


def test_better_at_all_has_no_least_difference() -> None:
    story = served(policy="improvement@1")
    second(story, 1000)
    assert (power(story)["enough"], math.isfinite(power(story)["shows"])) == (True, True)


def test_without_an_earlier_comparison_it_is_not_known() -> None:
    story = Story(spec_of(promotion={"policy": "by-trigger@1", "underpowered": "stop"})).serving()
    story.opened().running()
    assert (power(story)["shows"], power(story)["enough"]) == (None, None)
    assert "no earlier comparison" in power(story)["text"]
    assert story.state.open_job is not None  # unknown is no reason to stop
    other = Story(spec_of(promotion={"policy": "by-trigger@1", "metric": "recall"})).serving()
    other.opened().running().trained().judged(scored(paired=compared(0.02))).deployed().opened(LATER).running(
        LATER
    )
    assert power(other)["shows"] is None


def test_the_point_rule_shows_nothing() -> None:
    story = Story().serving().opened().running()
    assert power(story) is None
    assert '"power"' not in story.entries[-1].data


def reached(f1: float, **promotion: Any) -> str:
    """What is said of a gate whose champion got so far on the holdout that it was promoted on."""
    story = Story(spec_of(promotion=promotion)).serving().opened().running().trained()
    story.judged(scored({**GOOD, "f1": f1})).deployed()
    return unreachable_gate(story.spec, story.state)


def test_a_gate_that_no_candidate_can_pass_is_told_where_the_champion_is_known() -> None:
    assert "no candidate can reach that from 0.9600" in reached(0.96)
    assert '"error-reduction"' in reached(0.96)
    assert reached(0.95) == ""
    assert reached(0.96, min_improvement=0.04) == ""
    for scale in ("absolute", "error-reduction"):
        assert (
            unreachable_gate(
                spec_of(promotion={"policy": "superiority@1", "scale": scale}), champion_of(0.96)
            )
            == ""
        )
    assert unreachable_gate(spec_of(promotion={"policy": "superiority@1"}), champion_of(0.96)) != ""
    assert unreachable_gate(spec_of(promotion={"policy": "improvement@1"}), champion_of(0.96)) == ""


def champion_of(f1: float) -> ModelState:
    story = Story().serving().opened().running().trained()
    return story.judged(scored({**GOOD, "f1": f1})).deployed().state


def test_a_champion_that_was_never_scored_is_not_known() -> None:
    assert unreachable_gate(spec_of(), Story().serving().state) == ""
    rejected = Story().serving().opened().running().trained().judged(scored(POOR, {**GOOD, "f1": 0.97}))
    assert "from 0.9700" in unreachable_gate(rejected.spec, rejected.state)
