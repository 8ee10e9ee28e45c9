"""The rules that never bend, and then the model's own policy."""

import re
from dataclasses import replace
from typing import Any

import pytest
from domain_world import DAY, GOOD, HOUR, NOW, POOR, scored, snapshot, spec_of, version

from autoretrain.domain.jobs import Approval, JobStatus, RetrainingJob
from autoretrain.domain.judgement import judge, judge_approval, needs_person
from autoretrain.domain.promotion import (
    APPROVAL,
    FIRST_CHAMPION,
    SAFETY,
    SEED_POINT,
    Decision,
    Outcome,
    is_tested,
)
from autoretrain.domain.spec import ModelSpec
from autoretrain.domain.spending import Spending, quarter_of
from autoretrain.domain.state import Champion, ModelState
from autoretrain.domain.trigger_types import TriggerType
from autoretrain.domain.validation import validate
from autoretrain.ports.scorer import Effect, Paired, Scores
from autoretrain.ports.values import TimeWindow

SPEC = spec_of()
STATE = ModelState("m", champion=Champion(version("1"), None, None))
HOLDOUT = TimeWindow(NOW - 30 * DAY, NOW)
JOB = RetrainingJob(
    "j", "m", TriggerType.PERFORMANCE, JobStatus.VALIDATION, NOW, "low",
    TimeWindow(NOW - 120 * DAY, HOLDOUT.start), HOLDOUT, champion=version("1"), candidate=version("2"),
)  # fmt: skip
YES = Approval(True, "ann", "looks fine")


def decided(
    scores: Scores | None = None, job: RetrainingJob = JOB, state: ModelState = STATE, spec: ModelSpec = SPEC
) -> Decision:
    result = validate(spec, version("2"), snapshot(HOLDOUT), scores or scored(), NOW)
    return judge(spec, state, job, result)


def approved(
    approval: Approval = YES,
    scores: Scores | None = None,
    job: RetrainingJob = JOB,
    state: ModelState = STATE,
) -> Decision:
    result = validate(SPEC, version("2"), snapshot(HOLDOUT), scores or scored(), NOW)
    return judge_approval(SPEC, state, job, result, approval)


QUARANTINED = replace(STATE, quarantined={version("2").digest: "5"})
WITHDRAWN = replace(STATE, withdrawn_at=NOW)
OVERLAP = replace(JOB, training_window=TimeWindow(NOW - 120 * DAY, HOLDOUT.start + HOUR))
SEEN_BY_CHAMPION = replace(JOB, champion=version("1", trained_on=TimeWindow(NOW - 99 * DAY, NOW - 29 * DAY)))
COPY = replace(JOB, candidate=version("2", digest=version("1").digest))
BARRED: list[tuple[dict[str, Any], Outcome, str]] = [
    ({"scores": scored({**GOOD, "accuracy": 0.84})}, Outcome.REJECT, "below the floor"),
    ({"scores": scored({**GOOD, "accuracy": None})}, Outcome.INCONCLUSIVE, "is unknown"),
    ({"scores": scored(rows=5)}, Outcome.INCONCLUSIVE, "only 5 labelled rows"),
    ({"scores": scored(identical=True)}, Outcome.REJECT, "no change"),
    ({"job": COPY}, Outcome.REJECT, "no change"),
    ({"job": OVERLAP}, Outcome.REJECT, "overlaps the candidate's training rows"),
    ({"job": SEEN_BY_CHAMPION}, Outcome.REJECT, "overlaps the champion's training rows"),
    ({"state": QUARANTINED}, Outcome.REJECT, "same model as version 5, which was rolled back"),
    ({"state": WITHDRAWN}, Outcome.REJECT, "its data ends before the rollback of 2026-03-04 12:00"),
]


@pytest.mark.parametrize(("case", "outcome", "why"), BARRED)
@pytest.mark.parametrize("trigger", TriggerType)
def test_no_trigger_passes_the_rules_that_never_bend(
    case: dict[str, Any], outcome: Outcome, why: str, trigger: TriggerType
) -> None:
    job = replace(case.get("job", JOB), trigger_type=trigger)
    decision = decided(**{**case, "job": job})
    assert (decision.outcome, decision.rule) == (outcome, SAFETY)
    assert why in decision.reason


@pytest.mark.parametrize(("case", "outcome", "why"), BARRED)
def test_no_person_passes_them_either(case: dict[str, Any], outcome: Outcome, why: str) -> None:
    decision = approved(**case)
    assert (decision.outcome, decision.rule) == (outcome, SAFETY)
    assert why in decision.reason


@pytest.mark.parametrize(("case", "outcome", "why"), BARRED)
def test_what_is_barred_is_told_with_its_numbers(case: dict[str, Any], outcome: Outcome, why: str) -> None:
    numbers = decided(**case).numbers
    assert numbers.keys() == {"verdict", "rows"}
    assert numbers["rows"] == case.get("scores", scored()).rows


@pytest.mark.parametrize("state", [QUARANTINED, WITHDRAWN])
def test_a_persons_override_lets_a_withdrawn_model_back(state: ModelState) -> None:
    assert approved(replace(YES, override=True), state=state).outcome is Outcome.PROMOTE


@pytest.mark.parametrize(("case", "outcome", "why"), BARRED[:7])
def test_an_override_is_about_nothing_else(case: dict[str, Any], outcome: Outcome, why: str) -> None:
    decision = approved(replace(YES, override=True), **case)
    assert decision.outcome is outcome
    assert why in decision.reason


@pytest.mark.parametrize("after", [HOUR, 30 * DAY])
def test_data_that_goes_on_after_the_rollback_is_new(after: Any) -> None:
    assert decided(state=replace(STATE, withdrawn_at=NOW - after)).outcome is Outcome.PROMOTE


def test_windows_that_touch_do_not_overlap() -> None:
    touching = replace(JOB, champion=version("1", trained_on=TimeWindow(NOW - 99 * DAY, HOLDOUT.start)))
    assert decided(job=touching).outcome is Outcome.PROMOTE


class TestByPolicy:
    def test_a_better_candidate_is_promoted(self) -> None:
        decision = decided()
        assert (decision.outcome, decision.rule) == (Outcome.PROMOTE, SEED_POINT)
        assert decision.numbers["rows"] == 1000
        assert decision.numbers["metric"] == "f1"

    def test_one_that_is_not_better_enough_is_rejected(self) -> None:
        assert decided(scored(GOOD, {**POOR, "f1": 0.94})).outcome is Outcome.REJECT

    def test_an_unknown_comparison_is_inconclusive(self) -> None:
        assert decided(scored({**GOOD, "f1": None})).outcome is Outcome.INCONCLUSIVE

    def test_the_metric_and_its_direction_are_the_specs(self) -> None:
        spec = spec_of(
            task="regression", metric="mae", threshold=2.0, promotion={"floor": 0.5, "min_improvement": 0.25}
        )
        better = scored({"mae": 1.5, "r2": 0.9}, {"mae": 2.0, "r2": 0.8})
        worse = scored({"mae": 2.5, "r2": 0.9}, {"mae": 2.0, "r2": 0.8})
        assert decided(better, spec=spec).outcome is Outcome.PROMOTE
        assert decided(worse, spec=spec).outcome is Outcome.REJECT

    def test_a_first_champion_needs_the_floor_alone(self) -> None:
        first = replace(JOB, champion=None)
        decision = decided(scored(GOOD, None), job=first, state=ModelState("m"))
        assert (decision.outcome, decision.rule) == (Outcome.PROMOTE, FIRST_CHAMPION)
        assert decision.numbers["champion"] is None
        by_hand = decided(
            scored(GOOD, None), job=replace(first, trigger_type=TriggerType.MANUAL), state=ModelState("m")
        )
        assert by_hand.reason == decision.reason == "accuracy 0.9500 is at or above the floor of 0.85"

    def test_a_job_by_hand_proposes_whatever_the_improvement(self) -> None:
        by_hand = replace(JOB, trigger_type=TriggerType.MANUAL)
        decision = decided(scored(POOR, GOOD), job=by_hand)
        assert (decision.outcome, decision.rule) == (Outcome.PROMOTE, APPROVAL)
        assert decision.numbers["would_be"] == {"rule": SEED_POINT, "outcome": Outcome.REJECT}
        assert decision.numbers["improvement"] < 0
        assert not is_tested(decision)


class TestNeedsPerson:
    result = validate(SPEC, version("2"), snapshot(HOLDOUT), scored(), NOW)

    def test_by_hand_always(self) -> None:
        spec = spec_of(promotion={"first_champion": "floor"})
        assert needs_person(spec, replace(JOB, trigger_type=TriggerType.MANUAL), self.result)

    @pytest.mark.parametrize(("policy", "needed"), [("approval", True), ("floor", False)])
    def test_for_a_first_champion_as_set(self, policy: str, needed: bool) -> None:
        spec = spec_of(promotion={"first_champion": policy})
        assert needs_person(spec, replace(JOB, champion=None), self.result) is needed
        assert not needs_person(spec, JOB, self.result)


class TestAChampionThatCannotBeScored:
    """Nothing can be compared, and it must not keep every candidate out: a person decides."""

    def judged(
        self, new: dict[str, float] = GOOD, approval: Approval | None = None, **promotion: Any
    ) -> Decision:
        spec = spec_of(promotion=promotion)
        holdout, scores = snapshot(HOLDOUT), scored(new, None)
        result = validate(
            spec, version("2"), holdout, scores, NOW, unscored="the champion cannot be scored: gone"
        )
        assert needs_person(spec, JOB, result)
        if approval is not None:
            return judge_approval(spec, STATE, JOB, result, approval)
        return judge(spec, STATE, JOB, result)

    @pytest.mark.parametrize("policy", [SEED_POINT, "superiority@1", "by-trigger@1"])
    def test_is_put_to_a_person(self, policy: str) -> None:
        decision = self.judged(policy=policy, first_champion="floor")
        assert (decision.outcome, decision.rule) == (Outcome.PROMOTE, APPROVAL)
        assert decision.numbers["would_be"]["outcome"] is Outcome.INCONCLUSIVE
        assert "the champion cannot be scored: gone" in decision.reason
        assert not is_tested(decision)

    def test_below_the_floor_it_is_no_question(self) -> None:
        low = {**GOOD, "accuracy": 0.84}
        assert self.judged(low).outcome is Outcome.REJECT
        assert self.judged(low, approval=YES).outcome is Outcome.REJECT

    def test_a_minimum_cannot_be_shown(self) -> None:
        assert self.judged(approval=YES).outcome is Outcome.PROMOTE
        assert self.judged(approval=replace(YES, min_improvement=0.01)).outcome is Outcome.INCONCLUSIVE


class TestByAPerson:
    def test_approved(self) -> None:
        decision = approved(scores=scored(POOR, GOOD))
        assert (decision.outcome, decision.rule) == (Outcome.PROMOTE, APPROVAL)
        assert decision.reason == "approved by ann: looks fine"
        assert approved(replace(YES, reason="")).reason == "approved by ann"

    def test_rejected(self) -> None:
        decision = approved(replace(YES, approved=False))
        assert (decision.outcome, decision.reason) == (Outcome.REJECT, "rejected by ann: looks fine")

    @pytest.mark.parametrize(("least", "outcome"), [(0.05, Outcome.PROMOTE), (0.1, Outcome.REJECT)])
    def test_approved_with_a_minimum(self, least: float, outcome: Outcome) -> None:
        decision = approved(replace(YES, min_improvement=least))
        assert (decision.outcome, decision.rule) == (outcome, SEED_POINT)
        assert decision.numbers["approved_by"] == "ann"

    def test_a_minimum_means_nothing_without_a_champion(self) -> None:
        first = replace(JOB, champion=None)
        decision = approved(replace(YES, min_improvement=0.5), scored(GOOD, None), first, ModelState("m"))
        assert decision.outcome is Outcome.PROMOTE


class TestAgainstAnotherChampion:
    """The champion changed while the job was under way: its numbers are about a version that left."""

    state = replace(STATE, champion=Champion(version("4"), None, None))

    def test_nothing_is_decided(self) -> None:
        decision = decided(state=self.state)
        assert (decision.outcome, decision.rule) == (Outcome.INCONCLUSIVE, SAFETY)
        assert decision.reason == "it was judged against version 1, and would replace version 4"
        assert approved(state=self.state).outcome is Outcome.INCONCLUSIVE

    def test_a_person_may_let_it_pass(self) -> None:
        assert approved(replace(YES, override=True), state=self.state).outcome is Outcome.PROMOTE


def compared(value: float, error: float = 0.01, **more: Any) -> Scores:
    """Good scores, and a difference over 31 days that is the same on every scale."""
    effect = Effect(value, error)
    pair = Paired(
        "f1", 0.9 * (1 + value), 0.9, {"relative": effect, "absolute": effect}, 31, "days", 1000, 1.0
    )
    return scored(paired=pair, **more)


CALIBRATED = spec_of(promotion={"policy": "by-trigger@1"})


class TestByTrigger:
    @pytest.mark.parametrize(
        ("trigger", "value", "rule", "outcome"),
        [
            (TriggerType.PERFORMANCE, 0.06, "superiority@1", Outcome.PROMOTE),
            (TriggerType.PERFORMANCE, 0.04, "superiority@1", Outcome.INCONCLUSIVE),
            (TriggerType.PERFORMANCE, 0.01, "superiority@1", Outcome.REJECT),
            (TriggerType.DRIFT, 0.01, "non-inferiority@1", Outcome.PROMOTE),
            (TriggerType.DRIFT, -0.01, "non-inferiority@1", Outcome.INCONCLUSIVE),
            (TriggerType.DRIFT, -0.05, "non-inferiority@1", Outcome.REJECT),
            (TriggerType.SCHEDULED, 0.03, "improvement@1", Outcome.PROMOTE),
            (TriggerType.SCHEDULED, 0.01, "improvement@1", Outcome.INCONCLUSIVE),
            (TriggerType.SCHEDULED, -0.03, "improvement@1", Outcome.REJECT),
            (TriggerType.CUSTOM, 0.04, "superiority@1", Outcome.INCONCLUSIVE),
        ],
    )
    def test_each_trigger_has_its_claim(
        self, trigger: TriggerType, value: float, rule: str, outcome: Outcome
    ) -> None:
        decision = decided(compared(value), job=replace(JOB, trigger_type=trigger), spec=CALIBRATED)
        assert (decision.rule, decision.outcome) == (rule, outcome)
        assert is_tested(decision)

    def test_a_trigger_can_be_given_another(self) -> None:
        spec = spec_of(promotion={"policy": {"data_drift": "improvement@1"}})
        drifted, slow = (
            replace(JOB, trigger_type=kind) for kind in (TriggerType.DRIFT, TriggerType.PERFORMANCE)
        )
        assert decided(compared(0.03), job=drifted, spec=spec).rule == "improvement@1"
        assert decided(compared(0.06), job=slow, spec=spec).rule == "superiority@1"

    def test_a_margin_is_the_models_own(self) -> None:
        spec = spec_of(promotion={"policy": "non-inferiority@1", "margin": 0.06})
        assert decided(compared(-0.03), spec=spec).outcome is Outcome.PROMOTE

    def test_each_decision_of_a_quarter_is_surer_than_the_last(self) -> None:
        first = decided(compared(0.06), spec=CALIBRATED).numbers
        third = replace(STATE, spending=Spending(quarter_of(NOW), 2))
        later = decided(compared(0.06, error=0.026), state=third, spec=CALIBRATED)
        assert (first["level"], first["decision"]) == (pytest.approx(0.025), 1)
        assert (later.numbers["level"], later.numbers["decision"]) == (pytest.approx(0.05 / 12), 3)
        assert later.outcome is Outcome.INCONCLUSIVE
        assert decided(compared(0.06, error=0.026), spec=CALIBRATED).outcome is Outcome.PROMOTE

    def test_how_long_a_holdout_would_tell_goes_by_the_rows_of_this_one(self) -> None:
        scores = compared(0.04)
        reason = decided(scores, spec=CALIBRATED).reason
        told = re.search(r"about (\d+) rows would tell, .*a holdout of ([\d.]+) days", reason)
        assert told, reason
        a_day = scores.rows / (JOB.holdout_window.length / DAY)
        assert float(told[2]) == pytest.approx(int(told[1]) / a_day, rel=0.02)

    def test_a_difference_that_cannot_be_told_is_inconclusive_and_spends_nothing(self) -> None:
        scores = scored(unpaired="the rows make only 3 blocks of 1 day; 6 are needed")
        decision = decided(scores, spec=CALIBRATED)
        assert (decision.outcome, decision.rule) == (Outcome.INCONCLUSIVE, "superiority@1")
        assert "only 3 blocks" in decision.reason
        assert not is_tested(decision)

    def test_a_person_sees_the_interval_and_spends_nothing(self) -> None:
        by_hand = replace(JOB, trigger_type=TriggerType.MANUAL)
        decision = decided(compared(0.04), job=by_hand, spec=CALIBRATED)
        assert (decision.outcome, decision.rule) == (Outcome.PROMOTE, APPROVAL)
        assert "is +4.00%, between" in decision.reason
        assert decision.numbers["would_be"]["outcome"] is Outcome.INCONCLUSIVE
        assert not is_tested(decision)

    def test_says_how_much_of_the_holdout_was_used_before(self) -> None:
        tested = decided(compared(0.01), spec=CALIBRATED)
        half = TimeWindow(HOLDOUT.start - 15 * DAY, HOLDOUT.start + 15 * DAY)
        quarter = TimeWindow(HOLDOUT.start + 10 * DAY, HOLDOUT.start + 20 * DAY)
        earlier = {
            "a": replace(JOB, job_id="a", holdout_window=half, decision=tested),
            "b": replace(JOB, job_id="b", holdout_window=quarter, decision=tested),
            "c": replace(JOB, job_id="c", decision=decided()),
        }
        numbers = decided(compared(0.06), state=replace(STATE, jobs=earlier), spec=CALIBRATED).numbers
        assert numbers["reused"] == pytest.approx(20 / 30)
        assert decided(compared(0.06), spec=CALIBRATED).numbers["reused"] == 0
