"""The watch after a promotion: what it counts, when it takes a version back, and what it never does."""

from datetime import timedelta
from typing import Any

import pytest
from domain_world import DAY, GOOD, HOUR, NOW, Story, scored, snapshot, spec_of, version
from pydantic import ValidationError

from autoretrain.domain.explain import timeline
from autoretrain.domain.notices import notices_of
from autoretrain.domain.plan import ChampionSeen, DataSeen, NothingSeen, Trouble, WatchSeen
from autoretrain.domain.requests import ask_approve, ask_rollback, ask_start
from autoretrain.domain.sealing import load
from autoretrain.domain.sequential import Harm
from autoretrain.domain.watch import standing
from autoretrain.domain.watching import batch_queries, decide_watch
from autoretrain.ports.notifier import Notice
from autoretrain.ports.values import TimeWindow

WEEK = {"days": 7}
BAD = (0.80, 0.82, 0.79, 0.81, 0.80, 0.78, 0.82)
FINE = (0.95, 0.96, 0.94, 0.95, 0.955, 0.945, 0.95)


def watched(**watch: Any) -> Story:
    """Version 2 was promoted over 1 with an accuracy of 0.95 on its holdout, and is watched."""
    return Story(spec_of(watch={**WEEK, **watch})).serving().promoted()


def live(story: Story, *values: float | None, begin: int = 1, **more: Any) -> Story:
    """One batch a day, from the first day on, as long as there is a watch."""
    for day, value in enumerate(values, start=begin):
        at = NOW + day * DAY
        if decide_watch(story.spec, story.state, story.batch(value, at, **more).answers, at):
            story.sees(story.batch(value, at, **more), at)
    return story


def entries(story: Story, kind: str) -> list[Any]:
    return [load(entry.data) for entry in story.entries if entry.kind == kind]


def last_notice(story: Story, kind: str) -> Notice:
    (entry,) = [entry for entry in story.entries if entry.kind == kind][-1:]
    (notice,) = notices_of(story.state, [entry])
    return notice


def taken_back(story: Story) -> Story:
    """The alias goes back."""
    story.sees(ChampionSeen(version("2")))
    story.sees(ChampionSeen(version("1")))
    return story


class TestItsBeginning:
    def test_without_settings_nothing_is_watched(self) -> None:
        story = Story().serving().promoted()
        assert story.state.watch is None
        assert "watch.begun" not in story.kinds

    def test_it_is_recorded_with_the_promotion_and_its_terms(self) -> None:
        story = watched(tolerance=0.03, delay_hours=6)
        assert story.kinds[-3:] == ["promotion.done", "job.closed", "watch.begun"]
        watch = story.state.watch
        assert watch is not None
        assert (watch.job_id, watch.since) == (story.job_id, NOW)
        assert (watch.terms.metric, watch.terms.direction, watch.terms.baseline) == ("accuracy", "up", 0.95)
        assert (watch.terms.batches, watch.terms.tolerance, watch.terms.previous) == (7, 0.03, None)
        assert watch.window == TimeWindow(NOW, NOW + DAY)
        assert watch.due_at == NOW + DAY + 6 * HOUR
        assert watch.until == NOW + 14 * DAY

    def test_a_promotion_by_a_person_is_watched_too(self) -> None:
        story = Story(spec_of(watch=WEEK)).serving().by_hand()
        story.asked(lambda s: ask_approve(s, story.job_id, "bob", "fine"))
        story.sees(NothingSeen())
        assert story.deployed().state.watch is not None

    def test_later_settings_change_no_terms(self) -> None:
        story = watched(tolerance=0.02)
        story.spec = spec_of(watch={**WEEK, "tolerance": 0.5})
        assert entries(live(story, *BAD), "watch.ended")[0]["outcome"] == "harm"

    def test_settings_that_watch_nothing_stop_it(self) -> None:
        story = watched()
        story.spec = spec_of()
        live(story, 0.8)
        assert story.state.watch is not None
        assert story.state.watch.outcome == "stopped"
        assert live(story, *BAD, begin=2).state.rollback is None


class TestHarm:
    def test_takes_the_version_back_at_the_look_that_shows_it(self) -> None:
        story = live(watched(), *BAD)
        assert story.kinds[-3:] == ["watch.batch", "watch.ended", "request.rollback"]
        assert story.state.watch is not None
        assert story.state.watch.reason == entries(story, "watch.ended")[0]["reason"]
        assert story.entries[-1].actor == "watch"
        assert story.entries[-1].at == story.entries[-3].at
        assert len(entries(story, "watch.batch")) < 7  # before the time was up
        taken_back(story)
        champion = story.state.champion
        assert champion is not None
        assert champion.version == version("1")
        assert dict(story.state.quarantined) == {version("2").digest: "2"}
        assert entries(story, "rollback.done")[0]["who"] == "watch"
        assert (
            "accuracy is 15.3% worse than the 0.9500 of its holdout"
            in entries(story, "rollback.done")[0]["why"]
        )

    def test_is_told_with_its_numbers(self) -> None:
        story = live(watched(), *BAD)
        (ended,) = entries(story, "watch.ended")
        assert (ended["outcome"], ended["rollback"]) == ("harm", True)
        batch = entries(story, "watch.batch")[-1]
        assert batch["e_value"] >= 20
        assert batch["low"] > 0.02
        assert batch["harm"] == Harm.SHOWN.value
        notice = last_notice(story, "watch.ended")
        assert (notice.event, notice.severity) == ("watch_ended", "warning")
        assert notice.body.endswith("batches of 1 day; it is taken back")

    def test_after_it_there_is_no_flip_flop(self) -> None:
        """The version before is not watched, so nothing can bring back what was withdrawn."""
        story = taken_back(live(watched(), *BAD))
        count = len(story.entries)
        assert story.state.watch is None
        live(story, *BAD, begin=8)
        assert len(story.entries) == count

    def test_is_not_seen_in_a_version_that_is_as_good_as_its_holdout(self) -> None:
        story = live(watched(), *FINE)
        assert entries(story, "watch.ended")[0]["outcome"] == "kept"
        assert story.state.rollback is None
        notice = last_notice(story, "watch.ended")
        assert (notice.severity, "the version serves on" in notice.body) == ("info", True)

    def test_within_the_tolerance_is_none(self) -> None:
        story = live(watched(tolerance=0.3), *BAD)
        assert entries(story, "watch.ended")[0]["outcome"] == "kept"
        assert entries(story, "watch.ended")[0]["reason"].startswith("no harm: accuracy is 15")

    def test_that_cannot_be_told_at_the_end_is_said(self) -> None:
        story = live(watched(), 0.95, 0.90, 0.96, 0.89, 0.97, 0.92, 0.91)
        assert "no harm was shown, and none excluded" in entries(story, "watch.ended")[0]["reason"]

    def test_of_a_measure_that_falls_is_a_rise(self) -> None:
        story = Story(
            spec_of(
                task="regression",
                metric="mae",
                threshold=3.0,
                promotion={"floor": 0.5},
                watch=WEEK,
                rule="manual",
            )
        ).serving()
        story.by_hand(scores=scored({"mae": 1.0, "r2": 0.9}, {"mae": 1.4, "r2": 0.8}))
        story.asked(lambda s: ask_approve(s, story.job_id, "bob", "fine"))
        story.sees(NothingSeen())
        story.deployed()
        live(story, 1.5, 1.6, 1.55, 1.5, 1.62, 1.58)
        assert entries(story, "watch.batch")[0]["worse"] == pytest.approx(0.5)
        assert story.state.rollback is not None

    def test_without_a_version_to_go_back_to_calls_a_person(self) -> None:
        story = Story(spec_of(watch=WEEK, promotion={"first_champion": "floor"}))
        story.asked(lambda s: ask_start(s, "ann", {}, "the first"))
        story.sees(story.idle(None))
        story.running().trained().judged(scored(champion=None))
        story.asked(lambda s: ask_approve(s, story.job_id, "bob", "fine"))
        story.sees(NothingSeen())
        live(story.deployed(), *BAD)
        assert story.state.rollback is None
        (ended,) = entries(story, "watch.ended")
        assert (ended["outcome"], ended["rollback"]) == ("harm", False)
        assert "cannot go back to an earlier version" in ended["reason"]
        assert last_notice(story, "watch.ended").severity == "critical"

    def test_is_seen_while_a_retraining_goes_on(self) -> None:
        story = watched()
        story.asked(lambda s: ask_start(s, "ann", {}, "new data"))
        story.sees(story.idle(version("2"), NOW + DAY), NOW + DAY)
        live(story, *BAD)
        assert story.state.open_job is not None
        taken_back(story)
        assert story.state.champion is not None
        assert story.state.champion.version == version("1")
        assert story.state.open_job is not None  # it goes on to its own decision


class TestUnknown:
    @pytest.mark.parametrize(
        ("value", "more", "reason"),
        [
            (None, {}, "no samples"),
            (float("nan"), {}, "the value is nan"),
            (0.99, {"rows": 19}, "only 19 labelled rows, 20 are needed"),
        ],
    )
    def test_waits_and_then_counts_as_missed_and_never_as_good(
        self, value: float | None, more: dict[str, Any], reason: str
    ) -> None:
        story = watched()
        at = NOW + DAY
        assert decide_watch(story.spec, story.state, story.batch(value, at, **more).answers, at) == ()
        story.sees(story.batch(value, NOW + 2 * DAY, **more), NOW + 2 * DAY)
        watch = story.state.watch
        assert watch is not None
        assert (watch.missed, watch.moments.count, watch.paused) == (1, 0, reason)
        assert watch.window.start == NOW + DAY
        assert standing(watch) == f"accuracy, 0 of 7 batches of 1 day; paused: {reason}"

    def test_that_becomes_known_in_time_is_counted(self) -> None:
        story = watched()
        at = NOW + DAY + 20 * HOUR
        story.sees(story.batch(0.94, at), at)
        assert entries(story, "watch.batch")[0]["window"]["end"] == "2026-03-05T12:00:00.000000Z"

    def test_pauses_the_watch_which_then_needs_longer(self) -> None:
        story = watched()
        story.sees(story.batch(None, NOW + 2 * DAY), NOW + 2 * DAY)
        live(story, *FINE[:6], begin=3)
        assert story.state.watch is not None
        assert (story.state.watch.outcome, story.state.watch.paused) == ("", "")
        live(story, FINE[6], begin=9)
        assert story.state.watch.moments.count == 7
        assert story.state.watch.outcome == "kept"

    def test_is_told_when_a_pause_begins_and_not_again(self) -> None:
        story = watched()
        told: list[Notice] = []
        for day in (2, 3, 4):
            before = story.state
            story.sees(story.batch(None, NOW + day * DAY), NOW + day * DAY)
            told += notices_of(before, story.entries[-1:])
        assert [notice.event for notice in told] == ["watch_paused"]
        assert "a batch of the live metric is unknown: no samples" in told[0].body

    @pytest.mark.parametrize(
        ("policy", "severity", "back"),
        [("keep", "warning", False), ("page", "critical", False), ("rollback", "warning", True)],
    )
    def test_at_the_deadline_policy_decides(self, policy: str, severity: str, back: bool) -> None:
        story = watched(on_unknown=policy)
        live(story, 0.95, 0.94, 0.95)
        live(story, *[None] * 11, begin=4)
        (ended,) = entries(story, "watch.ended")
        assert (ended["outcome"], ended["rollback"]) == ("unknown", back)
        assert ended["reason"] == "3 of 7 batches were known after 14 days (accuracy: no samples)"
        assert (story.state.rollback is not None) is back
        assert last_notice(story, "watch.ended").severity == severity

    def test_a_batch_that_is_known_comes_before_the_deadline(self) -> None:
        """After a long outage of the controller the batches are there, and decide."""
        story = watched(on_unknown="rollback")
        at = NOW + 60 * DAY
        for _ in range(7):
            story.sees(story.batch(0.95, at), at)
        assert story.state.watch is not None
        assert story.state.watch.outcome == "kept"

    def test_is_every_batch_while_the_alias_is_elsewhere(self) -> None:
        story = watched()
        story.sees(story.idle(version("9"), NOW + HOUR), NOW + HOUR)  # champion.conflict
        assert batch_queries(story.state, NOW + DAY) == ()
        story.sees(WatchSeen(), NOW + 2 * DAY)
        assert (
            entries(story, "watch.missed")[0]["reason"] == "the champion alias is not where the ledger says"
        )

    def test_is_all_where_the_holdout_gave_no_value(self) -> None:
        story = Story(spec_of(watch={**WEEK, "metric": "roc_auc"})).serving().promoted()
        story.sees(WatchSeen(), NOW + 2 * DAY)
        assert entries(story, "watch.missed")[0]["reason"] == "the holdout gave no roc_auc to compare with"


class TestTheVersionBefore:
    def test_is_scored_on_the_same_rows(self) -> None:
        story = watched(baseline="previous")
        asked = batch_queries(story.state, NOW + DAY)
        assert [query.champion for query in asked] == [version("2"), version("1")]
        assert {query.window for query in asked} == {TimeWindow(NOW, NOW + DAY)}

    def test_makes_a_bad_week_for_both_no_harm(self) -> None:
        story = watched(baseline="previous")
        for day, value in enumerate(BAD, start=1):
            at = NOW + day * DAY
            story.sees(story.batch(value, at, before=value - 0.001), at)
        assert entries(story, "watch.ended")[0]["outcome"] == "kept"

    def test_is_better_and_is_taken_back_to(self) -> None:
        story = live(watched(baseline="previous"), *BAD, before=0.90)
        assert story.state.rollback is not None
        assert "worse than version 1 (between" in story.state.rollback.reason

    def test_that_cannot_be_scored_leaves_the_batch_unknown(self) -> None:
        story = watched(baseline="previous")
        at = NOW + 2 * DAY
        seen = story.batch(0.9, at)
        answers = {query: each for query, each in seen.answers.items() if query.champion == version("2")}  # type: ignore[union-attr]
        story.sees(WatchSeen(answers), at)
        assert entries(story, "watch.missed")[0]["reason"] == "not observed"

    def test_is_the_holdout_where_there_is_none(self) -> None:
        story = Story(spec_of(watch={**WEEK, "baseline": "previous"}))
        story.asked(lambda s: ask_start(s, "ann", {}, "the first"))
        story.sees(story.idle(None))
        story.running().trained().judged(scored(champion=None))
        story.asked(lambda s: ask_approve(s, story.job_id, "bob", "fine"))
        story.sees(NothingSeen())
        watch = story.deployed().state.watch
        assert watch is not None
        assert (watch.terms.baseline, watch.terms.previous) == (GOOD["accuracy"], None)


class TestItsPlace:
    def test_a_new_promotion_ends_the_old_watch_and_begins_its_own(self) -> None:
        story = live(watched(), *BAD[:3])
        first = story.job_id
        story.promoted("3", NOW + 3 * DAY)
        watch = story.state.watch
        assert watch is not None
        assert watch.job_id == story.job_id != first
        assert (watch.moments.count, watch.since) == (0, NOW + 3 * DAY)

    def test_a_persons_rollback_ends_it(self) -> None:
        story = watched()
        story.asked(lambda s: ask_rollback(s, "ann", "worse"))
        assert decide_watch(story.spec, story.state, story.batch(0.8, NOW + DAY).answers, NOW + DAY) == ()
        assert taken_back(story).state.watch is None

    def test_it_is_looked_at_in_time_whatever_else_is_waited_for(self) -> None:
        story = watched()
        idle = story.plan(
            story.idle(version("2"), NOW + 23 * HOUR + timedelta(minutes=30)), NOW + 23.5 * HOUR
        )
        assert idle.look_at == NOW + DAY
        story.asked(lambda s: ask_start(s, "ann", {}, "new data"))
        story.sees(story.idle(version("2")))
        job = story.state.open_job
        assert job is not None
        story.sees(DataSeen(snapshot(job.training_window), snapshot(job.holdout_window)))
        wait = story.plan(Trouble("away", temporary=True, retry_after=10 * 86400))
        assert wait.look_at == NOW + DAY

    def test_it_is_part_of_the_story_of_its_job(self) -> None:
        story = taken_back(live(watched(), 0.8, None, None, *BAD))
        told = timeline(story.entries, story.job_id)
        titles = [moment.title for moment in told]
        assert titles[-1] == "Rolled back to version 1"
        assert titles[-2] == "Watch ended: harm"
        begun = next(moment for moment in told if moment.title == "Watched for 7 days")
        assert begun.details[0] == "live accuracy against its holdout, 0.9500; 2.0% worse is tolerated"
        assert "Watch: 0.8000 against 0.9500" in titles
        assert "Watch paused: a batch is unknown" in titles


class TestSettings:
    @pytest.mark.parametrize(
        ("watch", "told"),
        [
            ({"days": 3}, "watch.days: 3 batches can never show harm at alpha 0.05; watch 4 or more"),
            ({"days": 7, "metric": "latency"}, "watch.metric: latency is not computed on a holdout"),
            ({"days": 7, "deadline_days": 6}, "watch.deadline_days: all batches are known after 7 days"),
            ({"days": -1}, "watch.days"),
            ({"days": 7, "alpha": 0.5}, "watch.alpha"),
            ({"days": 7, "on_unknown": "pray"}, "watch.on_unknown"),
        ],
    )
    def test_that_cannot_work_are_refused(self, watch: dict[str, Any], told: str) -> None:
        with pytest.raises(ValidationError) as caught:
            spec_of(watch=watch)
        assert told in str(caught.value)

    def test_a_watch_that_is_off_may_say_anything(self) -> None:
        assert spec_of(metric="latency", direction="down", threshold=1.0).watch.days == 0

    def test_only_a_watch_that_is_on_is_another_policy(self) -> None:
        plain = spec_of().digest
        assert spec_of(watch={"tolerance": 0.5}).digest == plain
        assert spec_of(watch=WEEK).digest != plain
        assert spec_of(watch={**WEEK, "tolerance": 0.5}).digest != spec_of(watch=WEEK).digest

    def test_batches_of_hours(self) -> None:
        watch = spec_of(watch={"days": 1, "batch_days": 0.125}).watch
        assert (watch.batches, watch.deadline) == (8, timedelta(days=2))
