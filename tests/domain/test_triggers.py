"""Each trigger alone: yes, no, and every way in which it cannot know."""

from dataclasses import replace
from datetime import timedelta
from typing import Any, Literal

import pytest
from domain_world import DAY, HOUR, NOW, version
from hypothesis import given

from autoretrain.domain.slots import ScheduleRule
from autoretrain.domain.trigger_types import TriggerType
from autoretrain.domain.triggers import (
    CustomAnswer,
    CustomQuery,
    CustomRule,
    DriftQuery,
    DriftRule,
    ManualRule,
    Missing,
    Observation,
    PerformanceRule,
    Rule,
    Situation,
    is_pending,
)
from autoretrain.domain.verdict import Answer, Verdict
from autoretrain.entrypoints.testing.strategies import drift_reports, metric_windows
from autoretrain.ports.drift import ColumnDrift, DriftReport
from autoretrain.ports.metrics import MetricQuery, MetricWindow
from autoretrain.ports.values import Pending, TimeWindow

SITUATION = Situation("m", NOW, NOW - 100 * DAY, champion=version("1"))
UNDEPLOYED = replace(SITUATION, champion=None)
ACCURACY = PerformanceRule("accuracy", 0.92, "up", 30 * DAY, 100, 48 * HOUR)
DRIFT = DriftRule(0.25, 30 * DAY, 90 * DAY, 100)
WEEKLY = ScheduleRule("0 0 * * 0")
SUNDAY = NOW.replace(day=1, hour=0)  # the last one before NOW


def answer(rule: Rule, seen: Observation, situation: Situation = SITUATION) -> Verdict:
    """The rule's verdict when this is what it saw."""
    (query,) = rule.needs(situation)
    return rule.judge({query: seen}, situation)


def measured(value: float | None, **more: Any) -> MetricWindow:
    query = MetricQuery("m", "accuracy", TimeWindow(NOW - 30 * DAY, NOW), version("1"))
    return MetricWindow(query, value, **{"rows": 1000, "points": 30, "last_at": NOW, **more})


def column(name: str, psi: float | None, rows: int = 1000, reason: str = "") -> ColumnDrift:
    return ColumnDrift(name, "numeric", psi, 0.5, 1000, rows, reason)


class TestPerformance:
    def test_rows_whose_labels_are_not_due_are_not_looked_at(self) -> None:
        rule = replace(ACCURACY, label_delay=5 * DAY)
        (query,) = rule.needs(SITUATION)
        assert isinstance(query, MetricQuery)
        assert query.window == TimeWindow(NOW - 35 * DAY, NOW - 5 * DAY)
        late = replace(measured(0.8, last_at=NOW - 6 * DAY), query=query)
        assert rule.judge({query: late}, SITUATION).is_yes
        assert answer(ACCURACY, measured(0.8, last_at=NOW - 6 * DAY)).is_unknown
        assert rule.needs(replace(SITUATION, serving_since=NOW - 4 * DAY)) == ()

    @pytest.mark.parametrize(
        ("value", "expected"), [(0.9199, Answer.YES), (0.92, Answer.NO), (0.95, Answer.NO)]
    )
    def test_fires_below_the_threshold(self, value: float, expected: Answer) -> None:
        assert answer(ACCURACY, measured(value)).answer is expected

    @pytest.mark.parametrize(("value", "expected"), [(2.01, Answer.YES), (2.0, Answer.NO), (1.0, Answer.NO)])
    def test_fires_above_the_threshold_of_an_error(self, value: float, expected: Answer) -> None:
        rule = replace(ACCURACY, metric="mae", threshold=2.0, direction="down")
        assert answer(rule, measured(value)).answer is expected

    def test_says_what_it_saw(self) -> None:
        verdict = answer(ACCURACY, measured(0.88))
        assert verdict.reason == "accuracy 0.8800 is below the threshold of 0.92"
        assert verdict.evidence == {
            "metric": "accuracy",
            "value": 0.88,
            "threshold": 0.92,
            "rows": 1000,
            "points": 30,
            "from": NOW - 30 * DAY,
            "to": NOW,
            "last_at": NOW,
        }

    @pytest.mark.parametrize(("value", "side"), [(0.92, "at"), (0.95, "above")])
    def test_names_the_side_of_the_threshold(self, value: float, side: str) -> None:
        assert f"is {side} the threshold" in answer(ACCURACY, measured(value)).reason

    @pytest.mark.parametrize(
        ("seen", "why"),
        [
            (measured(None, reason="no samples", empty=True), "no samples"),
            (measured(None, reason="the server answered nonsense"), "nonsense"),
            (measured(None), "no value"),
            (measured(0.5, rows=99), "only 99 labelled rows, 100 are needed"),
            (measured(0.5, last_at=NOW - 48 * HOUR - timedelta(seconds=1)), "too old"),
            (measured(float("nan")), "the value is nan"),
            (measured(float("inf")), "the value is inf"),
            (Missing("the server is away"), "the server is away"),
            (Pending("scores are computed"), "scores are computed"),
            (CustomAnswer(True, "an answer to another question"), "another question"),
        ],
    )
    def test_is_unknown(self, seen: Observation, why: str) -> None:
        verdict = answer(ACCURACY, seen)
        assert verdict.is_unknown
        assert why in verdict.reason

    def test_is_unknown_when_nobody_looked(self) -> None:
        assert ACCURACY.judge({}, SITUATION).reason == "accuracy is unknown: not observed"

    def test_counts_are_taken_at_their_boundary(self) -> None:
        assert answer(ACCURACY, measured(0.5, rows=100)).is_yes
        assert answer(ACCURACY, measured(0.5, last_at=NOW - 48 * HOUR)).is_yes

    def test_a_source_that_counts_nothing_is_believed(self) -> None:
        assert answer(ACCURACY, measured(0.5, rows=None, last_at=None)).is_yes

    @pytest.mark.parametrize(
        ("on_missing", "expected"), [(0.0, Answer.NO), (9.0, Answer.YES), (None, Answer.UNKNOWN)]
    )
    def test_what_empty_means_is_the_users_word(self, on_missing: float | None, expected: Answer) -> None:
        errors = replace(ACCURACY, metric="errors", threshold=5.0, direction="down", on_missing=on_missing)
        assert answer(errors, measured(None, rows=0, last_at=None, empty=True)).answer is expected

    def test_only_an_empty_answer_is_replaced(self) -> None:
        errors = replace(ACCURACY, direction="down", on_missing=0.0)
        assert answer(errors, measured(None, reason="unreachable")).is_unknown

    def test_without_a_champion_nothing_is_asked(self) -> None:
        assert ACCURACY.needs(UNDEPLOYED) == ()
        assert "no champion serves yet" in ACCURACY.judge({}, UNDEPLOYED).reason

    def test_a_champion_promoted_this_moment_has_no_window(self) -> None:
        fresh = replace(SITUATION, serving_since=NOW)
        assert ACCURACY.needs(fresh) == ()
        verdict = ACCURACY.judge({}, fresh)
        assert verdict.is_unknown
        assert "only just serves" in verdict.reason

    def test_the_window_is_the_evaluation_window(self) -> None:
        assert _window(SITUATION) == TimeWindow(NOW - 30 * DAY, NOW)

    def test_the_window_starts_at_the_promotion(self) -> None:
        assert _window(replace(SITUATION, serving_since=NOW - 3 * DAY)).start == NOW - 3 * DAY
        assert _window(replace(SITUATION, serving_since=NOW - 60 * DAY)).start == NOW - 30 * DAY

    def test_the_window_starts_after_the_training_rows(self) -> None:
        trained = version("1", trained_on=TimeWindow(NOW - 90 * DAY, NOW - 10 * DAY))
        assert _window(replace(SITUATION, champion=trained)).start == NOW - 10 * DAY
        later = replace(SITUATION, champion=trained, serving_since=NOW - 2 * DAY)
        assert _window(later).start == NOW - 2 * DAY

    @given(metric_windows())
    def test_answers_whatever_comes(self, seen: MetricWindow) -> None:
        verdict = answer(ACCURACY, seen)
        assert not (seen.value is None and not verdict.is_unknown)
        assert not (verdict.is_no and seen.value is not None and seen.value < ACCURACY.threshold)


def _window(situation: Situation) -> TimeWindow:
    (query,) = ACCURACY.needs(situation)
    assert isinstance(query, MetricQuery)
    assert query.champion == situation.champion
    return query.window


class TestDrift:
    @pytest.mark.parametrize(("psi", "expected"), [(0.25, Answer.NO), (0.2501, Answer.YES), (0.0, Answer.NO)])
    def test_fires_above_the_threshold(self, psi: float, expected: Answer) -> None:
        assert answer(DRIFT, DriftReport((column("x", psi),))).answer is expected

    def test_names_the_worst_feature(self) -> None:
        seen = DriftReport((column("a", 0.3), column("b", 0.5), column("c", 0.1)), page="drift.html")
        verdict = answer(DRIFT, seen)
        assert verdict.reason == "PSI of b is 0.500, above 0.25 (2 of 3 features drifted)"
        assert verdict.evidence["page"] == "drift.html"
        assert verdict.evidence["columns"]["b"] == {"psi": 0.5, "ks_p": 0.5}

    def test_one_drifted_feature_is_enough_though_another_is_blind(self) -> None:
        verdict = answer(DRIFT, DriftReport((column("a", None, reason="constant"), column("b", 0.5))))
        assert verdict.is_yes
        assert verdict.evidence["unknown_columns"] == {"a": "constant"}

    @pytest.mark.parametrize(
        ("blind", "why"),
        [
            (column("a", None, reason="constant"), "a: constant"),
            (column("a", 0.1, rows=99), "a: too few rows"),
            (column("a", 9.9, rows=99), "a: too few rows"),
            (column("a", float("nan")), "a: "),
            (column("a", float("inf")), "a: "),
        ],
    )
    def test_a_blind_feature_leaves_it_unknown(self, blind: ColumnDrift, why: str) -> None:
        verdict = answer(DRIFT, DriftReport((blind, column("b", 0.1))))
        assert verdict.is_unknown
        assert why in verdict.reason

    def test_enough_rows_at_the_boundary(self) -> None:
        assert answer(DRIFT, DriftReport((column("a", 0.5, rows=100),))).is_yes

    @pytest.mark.parametrize(
        ("seen", "why"),
        [
            (DriftReport(()), "no features to compare"),
            (Missing("the current window has no rows"), "no rows"),
            (Pending("computing"), "computing"),
        ],
    )
    def test_is_unknown(self, seen: Observation, why: str) -> None:
        verdict = answer(DRIFT, seen)
        assert verdict.is_unknown
        assert why in verdict.reason

    def test_an_error_rate_asks_for_more_than_luck(self) -> None:
        """200 features and 30 looks: 0.05 / 6000 for the one that differs most."""
        rule = replace(DRIFT, alpha=0.05, looks=30)
        others = [replace(column(f"f{n}", 0.05), ks_p=0.5) for n in range(199)]

        def judged(p: float) -> Verdict:
            return answer(rule, DriftReport((replace(column("a", 0.6), ks_p=p), *others)))

        assert judged(8.3e-6).is_yes
        assert judged(8.4e-6).is_no
        assert "which may be luck (at an error rate of 0.05)" in judged(8.4e-6).reason
        assert answer(rule, DriftReport((replace(column("a", 0.25), ks_p=0.0),))).is_no

    def test_an_error_rate_leaves_what_has_no_p_value_unknown(self) -> None:
        rule = replace(DRIFT, alpha=0.05)
        blind = replace(column("a", 0.6), ks_p=None)
        assert answer(DRIFT, DriftReport((blind,))).is_yes
        assert answer(rule, DriftReport((blind,))).is_unknown
        assert "a: no p-value" in answer(rule, DriftReport((blind,))).reason
        of_shares = replace(blind, kind="categorical", chi2_p=0.0)
        assert answer(rule, DriftReport((of_shares,))).is_yes

    def test_without_a_champion_nothing_is_asked(self) -> None:
        assert DRIFT.needs(UNDEPLOYED) == ()
        assert DRIFT.judge({}, UNDEPLOYED).reason == "drift is unknown: no champion serves yet"

    def test_is_unknown_when_nobody_looked(self) -> None:
        assert DRIFT.judge({}, SITUATION).reason == "drift is unknown: not observed"

    def test_compares_with_the_training_rows(self) -> None:
        trained_on = TimeWindow(NOW - 200 * DAY, NOW - 60 * DAY)
        (query,) = DRIFT.needs(replace(SITUATION, champion=version("1", trained_on=trained_on)))
        assert query == DriftQuery("m", trained_on, TimeWindow(NOW - 30 * DAY, NOW))

    def test_an_adopted_champion_is_compared_with_the_rows_before(self) -> None:
        (query,) = DRIFT.needs(SITUATION)
        assert isinstance(query, DriftQuery)
        assert query.reference == TimeWindow(NOW - 120 * DAY, NOW - 30 * DAY)

    @pytest.mark.parametrize(("ended", "starts"), [(NOW - 5 * DAY, NOW - 5 * DAY), (NOW + DAY, NOW)])
    def test_current_rows_are_never_training_rows(self, ended: Any, starts: Any) -> None:
        trained = version("1", trained_on=TimeWindow(NOW - 200 * DAY, ended))
        (query,) = DRIFT.needs(replace(SITUATION, champion=trained))
        assert isinstance(query, DriftQuery)
        assert query.current == TimeWindow(starts, NOW)

    @given(drift_reports())
    def test_answers_whatever_comes(self, report: DriftReport) -> None:
        verdict = answer(DRIFT, report)
        enough = [c for c in report.columns if min(c.reference_rows, c.current_rows) >= DRIFT.min_rows]
        known = [c.psi for c in enough if c.psi is not None]
        assert verdict.is_yes == any(psi > DRIFT.threshold for psi in known)
        if verdict.is_no:
            assert len(known) == len(report.columns) > 0


class TestSchedule:
    def test_fires_for_the_slot_that_passed(self) -> None:
        verdict = WEEKLY.judge({}, SITUATION)
        assert verdict.is_yes
        assert verdict.evidence == {"slot": SUNDAY}

    def test_does_not_fire_twice(self) -> None:
        verdict = WEEKLY.judge({}, replace(SITUATION, last_slot=SUNDAY))
        assert verdict.is_no
        assert "2026-03-01 00:00" in verdict.reason

    def test_slots_missed_meanwhile_run_once(self) -> None:
        weeks_ago = replace(SITUATION, last_slot=SUNDAY - 35 * DAY)
        verdict = WEEKLY.judge({}, weeks_ago)
        assert verdict.evidence["slot"] == SUNDAY
        assert WEEKLY.judge({}, replace(weeks_ago, last_slot=verdict.evidence["slot"])).is_no

    @pytest.mark.parametrize(
        ("after", "expected"), [(timedelta(0), Answer.YES), (timedelta(seconds=-1), Answer.NO)]
    )
    def test_fires_in_the_moment_of_the_slot(self, after: timedelta, expected: Answer) -> None:
        situation = replace(SITUATION, now=SUNDAY + after, last_slot=SUNDAY - 7 * DAY)
        assert WEEKLY.judge({}, situation).answer is expected

    @pytest.mark.parametrize("enrolled", [SUNDAY, NOW])
    def test_slots_before_enrolment_are_not_ours(self, enrolled: Any) -> None:
        assert WEEKLY.judge({}, replace(SITUATION, watched_since=enrolled)).is_no

    def test_needs_nothing_and_no_champion(self) -> None:
        assert WEEKLY.needs(SITUATION) == ()
        assert WEEKLY.judge({}, UNDEPLOYED).is_yes

    def test_is_meant_in_its_zone(self) -> None:
        kolkata = ScheduleRule("0 0 * * 0", "Asia/Kolkata").judge({}, SITUATION)
        assert kolkata.evidence["slot"] == SUNDAY - 5.5 * HOUR


class TestManual:
    def test_fires_while_a_request_waits(self) -> None:
        assert ManualRule().judge({}, SITUATION).is_no
        verdict = ManualRule().judge({}, replace(SITUATION, start_requested="a new sensor"))
        assert (verdict.is_yes, verdict.reason) == (True, "a new sensor")

    def test_a_request_needs_no_reason(self) -> None:
        assert (
            ManualRule().judge({}, replace(SITUATION, start_requested="")).reason == "asked for by a person"
        )


class TestCustom:
    rule = CustomRule("season", TriggerType.SCHEDULED)

    @pytest.mark.parametrize(("fired", "expected"), [(True, Answer.YES), (False, Answer.NO)])
    def test_passes_the_answer_on(self, fired: bool, expected: Answer) -> None:
        verdict = answer(self.rule, CustomAnswer(fired, "winter comes"))
        assert (verdict.answer, verdict.reason) == (expected, "season: winter comes")

    def test_code_that_fails_is_unknown(self) -> None:
        assert answer(self.rule, Missing("it raised")).reason == "season is unknown: it raised"
        assert self.rule.judge({}, SITUATION).is_unknown


class TestCombinations:
    def test_drift_proposes_and_performance_confirms(self) -> None:
        rule = DRIFT & ACCURACY
        drift, metric = rule.needs(SITUATION)
        drifted: Observation = DriftReport((column("x", 0.9),))
        assert rule.judge({drift: drifted, metric: measured(0.95)}, SITUATION).is_no
        assert rule.judge({drift: drifted, metric: Missing("away")}, SITUATION).is_unknown
        assert rule.judge({drift: drifted, metric: measured(0.8)}, SITUATION).is_yes

    def test_unknown_does_not_hide_a_yes(self) -> None:
        rule = DRIFT | WEEKLY
        assert rule.judge({}, SITUATION).is_yes
        assert rule.judge({}, replace(SITUATION, last_slot=SUNDAY)).is_unknown

    def test_not_unknown_is_unknown(self) -> None:
        assert (~DRIFT).judge({}, SITUATION).is_unknown
        assert (~WEEKLY).judge({}, SITUATION).is_no

    def test_asks_each_question_once(self) -> None:
        assert len((DRIFT | (DRIFT & ACCURACY)).needs(SITUATION)) == 2

    def test_is_made_of_its_single_rules(self) -> None:
        assert list((DRIFT | ~(ACCURACY & WEEKLY)).leaves()) == [DRIFT, ACCURACY, WEEKLY]

    def test_the_cause_is_the_first_that_says_yes(self) -> None:
        assert (DRIFT | WEEKLY | ACCURACY).cause({}, SITUATION) is WEEKLY
        assert (WEEKLY & ManualRule()).cause({}, replace(SITUATION, start_requested="x")) is WEEKLY
        assert (~WEEKLY).cause({}, SITUATION) is WEEKLY

    @pytest.mark.parametrize("operator", ["&", "|"])
    def test_three_members_combine_pairwise(self, operator: Literal["&", "|"]) -> None:
        fired, quiet = ManualRule(), WEEKLY
        situation = replace(SITUATION, last_slot=SUNDAY, start_requested="x")
        all_three = (fired & fired & quiet) if operator == "&" else (quiet | quiet | fired)
        assert all_three.judge({}, situation).is_yes is (operator == "|")


def test_what_is_still_being_computed() -> None:
    (metric,), (drift,) = ACCURACY.needs(SITUATION), DRIFT.needs(SITUATION)
    custom = CustomQuery("m", "season")
    assert not is_pending([metric, drift, custom], {metric: measured(0.9), drift: Missing("away")})
    assert is_pending([drift], {drift: Pending("computing")})
    assert is_pending([metric], {metric: measured(None, pending=True)})
    assert not is_pending([custom], {drift: Pending("another question")})
