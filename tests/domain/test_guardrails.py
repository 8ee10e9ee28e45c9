"""What must not get worse although a candidate is better on the whole."""

from dataclasses import replace

import pytest

from autoretrain.domain.claims import Claim, Kind
from autoretrain.domain.guardrails import SEGMENT_ALPHA, guard_segments
from autoretrain.domain.promotion import Decision, Outcome
from autoretrain.ports.scorer import Effect, Paired

MARGIN = Claim(Kind.NON_INFERIORITY, 0.02, "absolute")
BETTER = Decision(Outcome.PROMOTE, "improvement@1", "f1 is better", {"metric": "f1"})


def segment(value: float, error: float = 0.004, rows: int = 400, units: int = 31) -> Paired:
    return Paired("f1", 0.9 + value, 0.9, {"absolute": Effect(value, error)}, units, "days", rows)


def guarded(**segments: Paired) -> Decision:
    return guard_segments(BETTER, MARGIN, {f"site={name}": pair for name, pair in segments.items()})


def verdicts(decision: Decision) -> dict[str, str]:
    return {name: each["verdict"] for name, each in decision.numbers["segments"].items()}


def test_without_segments_the_decision_stands() -> None:
    assert guarded() is BETTER


def test_segments_that_hold_are_told_and_promote() -> None:
    decision = guarded(a=segment(0.01), b=segment(-0.005))
    assert decision.outcome is Outcome.PROMOTE
    assert decision.reason == BETTER.reason
    assert verdicts(decision) == {"site=a": "holds", "site=b": "holds"}


def test_better_on_average_and_ten_points_worse_in_a_segment_is_rejected() -> None:
    decision = guarded(a=segment(0.05), b=segment(-0.10, error=0.02))
    assert decision.outcome is Outcome.REJECT
    assert "f1 is better; but it is worse in site=b (f1 0.9000 -> 0.8000, -0.1000, between" in decision.reason
    assert "site=a" not in decision.reason
    assert verdicts(decision) == {"site=a": "holds", "site=b": "worse"}


def test_an_underpowered_segment_keeps_nothing_back() -> None:
    decision = guarded(a=segment(0.01), small=segment(-0.05, error=0.05, rows=12))
    assert decision.outcome is Outcome.PROMOTE
    assert verdicts(decision)["site=small"] == "too few rows"


def test_a_segment_that_could_have_shown_it_and_does_not_is_inconclusive() -> None:
    decision = guarded(a=segment(0.01), b=segment(-0.017))
    assert decision.outcome is Outcome.INCONCLUSIVE
    assert "but it may be worse in site=b" in decision.reason
    assert verdicts(decision)["site=b"] == "open"


@pytest.mark.parametrize("outcome", [Outcome.REJECT, Outcome.INCONCLUSIVE])
def test_what_is_not_promoted_stays_so_with_its_segments_in_view(outcome: Outcome) -> None:
    decision = guard_segments(replace(BETTER, outcome=outcome), MARGIN, {"site=a": segment(-0.1)})
    assert (decision.outcome, decision.reason) == (outcome, BETTER.reason)
    assert verdicts(decision) == {"site=a": "worse"}


def test_among_many_segments_one_has_to_be_worse_beyond_doubt() -> None:
    doubtful = segment(-0.02 - 2.0 * 0.01, error=0.01)  # p is about 0.03
    assert verdicts(guarded(a=doubtful)) == {"site=a": "worse"}
    many = {f"s{number}": segment(0.01) for number in range(10)}
    assert verdicts(guarded(a=doubtful, **many))["site=a"] != "worse"


def test_step_down_goes_on_after_the_first() -> None:
    # p of about 0.0005 and 0.03: the second is compared with the whole of the rest
    first, second = segment(-0.02 - 3.6 * 0.01, error=0.01), segment(-0.02 - 2.0 * 0.01, error=0.01)
    assert verdicts(guarded(a=first, b=second)) == {"site=a": "worse", "site=b": "worse"}
    assert SEGMENT_ALPHA == 0.05


def test_a_segment_without_the_scale_is_left_out() -> None:
    assert guarded(a=replace(segment(0.0), effects={})) is BETTER
