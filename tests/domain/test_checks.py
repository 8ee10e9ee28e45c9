"""Guardrails beside the claim, and what they make of a decision."""

from dataclasses import replace
from typing import Any

import pytest
from domain_world import DAY, GOOD, NOW, POOR, scored, snapshot, spec_of, version
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from autoretrain.domain.checks import UNBENDING, Evidence, Guardrail, guard_checks, guardrails_of, kept_back
from autoretrain.domain.codec import guardrail_of
from autoretrain.domain.guardrail_spec import GuardrailSpec
from autoretrain.domain.jobs import Approval, JobStatus, RetrainingJob
from autoretrain.domain.judgement import judge, judge_approval
from autoretrain.domain.promotion import APPROVAL, FIRST_CHAMPION, SAFETY, Decision, Outcome
from autoretrain.domain.sealing import plain
from autoretrain.domain.state import Champion, ModelState
from autoretrain.domain.trigger_types import TriggerType
from autoretrain.domain.validation import validate
from autoretrain.domain.verdict import Verdict, no, unknown, yes
from autoretrain.ports.inspector import Answered, Inspection
from autoretrain.ports.predictor import Effort
from autoretrain.ports.scorer import Effect, Paired
from autoretrain.ports.values import TimeWindow

HOLDOUT = TimeWindow(NOW - 30 * DAY, NOW)
TRAINING = TimeWindow(NOW - 120 * DAY, HOLDOUT.start)
JOB = RetrainingJob(
    "j", "m", TriggerType.PERFORMANCE, JobStatus.VALIDATION, NOW, "low", TRAINING, HOLDOUT,
    champion=version("1"), candidate=version("2"), training=snapshot(TRAINING), holdout=snapshot(HOLDOUT),
)  # fmt: skip
FOUND = Inspection(1000, Answered("whole numbers", low=0, high=1), Answered("whole numbers", low=0, high=1))
NUMBERS = Inspection(1000, Answered("numbers", low=-2.5, high=9.0), labels=(0.0, 10.0))
BETTER = Decision(Outcome.PROMOTE, "improvement@1", "f1 is better", {"metric": "f1"})
MEBIBYTE = 1 << 20
GUARDRAILS = st.builds(
    Guardrail, st.sampled_from([yes(""), no(""), unknown("")]), limit=st.sampled_from(["", "x"])
)


def looked(known: dict[str, Any] | None = None, **limits: Any) -> dict[str, Guardrail]:
    """Guardrails of a job in which all is well but for what is given."""
    given = {"job": JOB, "scores": scored(), "inspection": FOUND, **(known or {})}
    return guardrails_of(GuardrailSpec(**limits), Evidence(**given))


def calibrated(low_high: tuple[float, float] = (0.1, 0.1), **more: Any) -> dict[str, Any]:
    """Scores with a Brier score of the champion and the candidate."""
    champion, candidate = low_high
    return {"scores": scored({**GOOD, "brier": candidate}, {**POOR, "brier": champion}, **more)}


def pair(worse: float, error: float) -> Paired:
    return Paired("brier", 0.1 + worse, 0.1, {"absolute": Effect(-worse, error)}, 31, "days", 1000)


def efforts(candidate: Effort | None, champion: Effort | None = None) -> dict[str, Any]:
    return {"effort": candidate, "champion_effort": champion}


def test_nothing_is_asked_for_and_nothing_keeps_back() -> None:
    found = looked()
    assert kept_back(found) is None
    assert {name for name, each in found.items() if each.limit} == {"classes", "time order"}
    assert found["time order of the champion"].verdict.is_unknown
    assert not found["time order of the champion"].keeps_back


@pytest.mark.parametrize(
    ("name", "known", "limits", "answer", "reason"),
    [
        ("brier", calibrated((0.1, 0.2)), {"max_brier": 0.15}, no, "brier 0.2 is above the limit of 0.15"),
        ("brier", calibrated(), {"max_brier": 0.15}, yes, "brier 0.1 is within the limit of 0.15"),
        ("ece", {}, {"max_ece": 0.05}, unknown, "ece is unknown: it is not computed"),
        ("latency", efforts(Effort(predict_seconds=3.2)), {"max_latency": 2},
         no, "latency 3.2 s for 1,000 rows is above the limit of 2"),
        ("latency", efforts(Effort(predict_seconds=1.5), Effort(predict_seconds=1.0)), {"max_slowdown": 2},
         yes, "latency is 1.5 times the champion's"),
        ("latency", efforts(Effort(predict_seconds=3.0), Effort(predict_seconds=1.0)), {"max_slowdown": 2},
         no, "latency is 3 times the champion's, and at most 2 times is allowed"),
        ("latency", efforts(Effort(predict_seconds=3.0)), {"max_slowdown": 2},
         unknown, "latency cannot be compared with the champion's: nobody measured it"),
        ("latency", efforts(None), {"max_latency": 2}, unknown, "latency is unknown: nobody measured it"),
        ("loading", efforts(Effort(load_seconds=9)), {"max_load_seconds": 5},
         no, "loading 9 s is above the limit of 5"),
        ("artefact size", efforts(Effort(artefact_bytes=3 * MEBIBYTE)), {"max_artifact_mb": 2},
         no, "artefact size 3 MiB is above the limit of 2"),
        ("artefact size", efforts(Effort(artefact_bytes=30), Effort(artefact_bytes=10)), {"max_growth": 2},
         no, "artefact size is 3 times the champion's, and at most 2 times is allowed"),
        ("prediction type", {"inspection": replace(FOUND, candidate=Answered("numbers", ("0", "1")))},
         {"same_schema": True},
         no, "it predicts numbers with scores for 0, 1, the champion whole numbers"),
        ("prediction type", {}, {"same_schema": True}, yes, "it predicts whole numbers"),
        ("range", {"inspection": NUMBERS}, {"lowest": 0},
         no, "predictions lie between -2.5 and 9, labels between 0 and 10, and from 0 is allowed"),
        ("range", {"inspection": NUMBERS}, {"highest": 10},
         yes, "predictions lie between -2.5 and 9, labels between 0 and 10"),
        ("class scores", {}, {"probabilities": True}, no, "the model gives no class scores"),
        ("class scores", {"inspection": replace(FOUND, candidate=Answered("text", ("a",), unfit_scores=3))},
         {"probabilities": True},
         no, "class scores of 3 rows are no probabilities: outside of 0 to 1, or without the sum 1"),
        ("classes", {"inspection": replace(FOUND, strange={"7": 2, "9": 1})}, {},
         no, "it predicts classes that no label of training or holdout has: 7 (2 rows), 9 (1 rows)"),
        ("repeated rows", {"inspection": replace(FOUND, repeated=20)}, {"max_repeated_rows": 0.01},
         no, "20 of 1000 rows of the holdout stand in the training rows, too, and at most 1% may be"),
        ("repeated rows", {"inspection": replace(FOUND, repeated=0)}, {"max_repeated_rows": 0},
         yes, "0 of 1000 rows of the holdout stand in the training rows, too"),
        ("shared groups", {"inspection": replace(FOUND, groups=4, shared=1)}, {"max_shared_groups": 0},
         no, "1 of 4 groups of the holdout are in the training rows, too, and at most 0% may be"),
        ("time order", {"job": replace(JOB, training=snapshot(TimeWindow(TRAINING.start, NOW)))}, {},
         no, "the training rows end on 2026-03-04 11:00 UTC, the holdout begins on 2026-02-02 12:00 UTC"),
    ],
)  # fmt: skip
def test_a_limit_is_kept_broken_or_unknown(
    name: str, known: dict[str, Any], limits: dict[str, Any], answer: Any, reason: str
) -> None:
    found = looked(known, **limits)[name]
    assert (found.verdict.answer, found.verdict.reason) == (answer("").answer, reason)
    assert found.limit
    assert found.keeps_back is not found.verdict.is_yes


@pytest.mark.parametrize(
    ("given_pair", "answer", "words"),
    [
        (pair(0.0, 0.004), yes, "is not worse by 0.02"),
        (pair(0.05, 0.004), no, "a change between +0.0432 and +0.0568, is worse by 0.02"),
        (pair(0.015, 0.02), unknown, "may be worse by 0.02; about"),
    ],
)  # fmt: skip
def test_a_margin_is_shown_by_the_interval_of_the_difference(
    given_pair: Paired, answer: Any, words: str
) -> None:
    verdict = looked(calibrated(guarded={"brier": given_pair}), brier_margin=0.02)["brier"].verdict
    assert verdict.answer is answer("").answer
    assert words in verdict.reason


def test_a_margin_that_cannot_be_compared_is_unknown() -> None:
    known = calibrated(unguarded={"brier": "the rows make only 3 blocks of 1 day; 6 are needed"})
    verdict = looked(known, brier_margin=0.02)["brier"].verdict
    assert verdict.is_unknown
    assert verdict.reason == (
        "the difference in brier is unknown: the rows make only 3 blocks of 1 day; 6 are needed"
    )


def test_without_a_champion_there_is_nothing_to_be_worse_than() -> None:
    known = {"scores": scored({**GOOD, "brier": 0.1}, None), "job": replace(JOB, champion=None)}
    known |= efforts(Effort(1.0, 1.0, 10))
    found = looked(known, brier_margin=0.02, max_slowdown=2, max_growth=2, same_schema=True)
    assert kept_back(found) is None
    assert "time order of the champion" not in found


def test_two_limits_of_one_thing_are_both_told() -> None:
    known = efforts(Effort(predict_seconds=3.0), Effort(predict_seconds=1.0))
    found = looked(known, max_latency=2, max_slowdown=2)["latency"]
    assert (found.value, found.champion) == (3.0, 1.0)
    assert found.limit == "at most 2 s, at most 2 times the champion's"
    assert found.verdict.reason.count(";") == 1


class TestDecision:
    @pytest.mark.parametrize(
        ("verdict", "outcome"), [(no("slow"), Outcome.REJECT), (unknown("slow?"), Outcome.INCONCLUSIVE)]
    )
    def test_a_broken_or_unknown_limit_keeps_a_promotion_back(
        self, verdict: Verdict, outcome: Outcome
    ) -> None:
        decision = guard_checks(BETTER, {"latency": Guardrail(verdict, 3.0, 1.0, "at most 2 s")})
        assert (decision.outcome, decision.reason) == (outcome, f"f1 is better; but {verdict.reason}")
        assert decision.numbers["guardrails"] == {
            "latency": {
                "candidate": 3.0,
                "champion": 1.0,
                "limit": "at most 2 s",
                "verdict": verdict.answer,
            }
        }

    def test_what_has_no_limit_keeps_nothing_back(self) -> None:
        assert guard_checks(BETTER, {"latency": Guardrail(no("slow"))}) is BETTER

    def test_what_is_broken_is_told_before_what_is_unknown(self) -> None:
        both = {"a": Guardrail(unknown("who knows"), limit="x"), "b": Guardrail(no("slow"), limit="y")}
        assert guard_checks(BETTER, both).reason == "f1 is better; but slow"

    @given(st.sampled_from(list(Outcome)), st.lists(GUARDRAILS))
    def test_a_guardrail_never_promotes(self, outcome: Outcome, rails: list[Guardrail]) -> None:
        before = replace(BETTER, outcome=outcome)
        decision = guard_checks(before, {str(number): each for number, each in enumerate(rails)})
        held = any(each.keeps_back for each in rails)
        if outcome is not Outcome.PROMOTE:
            assert decision.outcome is outcome
        else:
            assert (decision.outcome is Outcome.PROMOTE) is not held


SLOW = {"latency": Guardrail(no("latency 3 s is above the limit of 2"), 3.0, None, "at most 2 s")}
SPEC = spec_of()


def decided(guardrails: dict[str, Guardrail], job: RetrainingJob = JOB, champion: Any = POOR) -> Decision:
    state = ModelState("m", champion=Champion(version("1"), None, None) if champion else None)
    result = validate(SPEC, version("2"), snapshot(HOLDOUT), scored(GOOD, champion), NOW, guardrails)
    return judge(SPEC, state, job, result)


class TestGate:
    def test_the_point_rule_is_guarded_too(self) -> None:
        decision = decided(SLOW)
        assert decision.outcome is Outcome.REJECT
        assert decision.reason.endswith("asked for; but latency 3 s is above the limit of 2")

    def test_so_is_a_first_champion(self) -> None:
        decision = decided(SLOW, replace(JOB, champion=None), None)
        assert (decision.outcome, decision.rule) == (Outcome.REJECT, FIRST_CHAMPION)

    @pytest.mark.parametrize("champion", [POOR, None])
    def test_a_person_sees_it_and_may_let_it_pass(self, champion: Any) -> None:
        job = replace(JOB, trigger_type=TriggerType.MANUAL, champion=version("1") if champion else None)
        decision = decided(SLOW, job, champion)
        assert (decision.outcome, decision.rule) == (Outcome.PROMOTE, APPROVAL)
        assert decision.numbers["would_be"]["outcome"] is Outcome.REJECT
        assert decision.reason.endswith("; but latency 3 s is above the limit of 2")

    @pytest.mark.parametrize("name", UNBENDING)
    def test_no_person_lets_a_leak_pass(self, name: str) -> None:
        leak = {name: Guardrail(no("it has seen the answers"), limit="none")}
        result = validate(SPEC, version("2"), snapshot(HOLDOUT), scored(), NOW, leak)
        state = ModelState("m", champion=Champion(version("1"), None, None))
        yes_all = Approval(True, "ann", "", override=True)
        for decision in (decided(leak), judge_approval(SPEC, state, JOB, result, yes_all)):
            assert (decision.outcome, decision.rule) == (Outcome.REJECT, SAFETY)
            assert decision.reason == "it has seen the answers"

    def test_what_was_recorded_is_read_back(self) -> None:
        found = looked(efforts(Effort(1.0, 2.0, 3)), max_latency=1)
        for each in found.values():
            assert guardrail_of(plain(each)) == each


class TestSpec:
    def test_limits_change_the_policy_and_their_absence_does_not(self) -> None:
        assert spec_of(promotion={"guardrails": {}}).digest == SPEC.digest
        assert spec_of(promotion={"guardrails": {"max_latency": 1}}).digest != SPEC.digest

    def test_every_limit_that_does_not_fit_is_told_at_once(self) -> None:
        with pytest.raises(ValidationError) as caught:
            spec_of(promotion={"guardrails": {"lowest": 0, "max_shared_groups": 0}})
        assert "promotion.guardrails.lowest: is of a regressor, so remove it" in str(caught.value)
        assert "promotion.guardrails.max_shared_groups: needs promotion.group" in str(caught.value)

    def test_a_regressor_has_no_calibration(self) -> None:
        regressor = {"task": "regression", "metric": "mae", "threshold": 2.0}
        with pytest.raises(ValidationError, match="max_ece: is of a classifier, so remove it"):
            spec_of(**regressor, promotion={"floor": 0.5, "guardrails": {"max_ece": 0.1}})

    def test_a_range_begins_below_its_end(self) -> None:
        with pytest.raises(ValidationError, match="must be below highest, which is 1"):
            GuardrailSpec(lowest=1, highest=1)

    def test_what_is_asked_of_scorer_and_inspector(self) -> None:
        spec = spec_of(promotion={"guardrails": {"ece_margin": 0.02, "max_repeated_rows": 0}})
        assert (spec.scoring.guarded, spec.inspection.repeated) == (("ece",), True)
        assert (SPEC.scoring.guarded, SPEC.inspection.repeated) == ((), False)
