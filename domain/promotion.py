"""Promotion: whether a validated candidate may replace the champion, and why."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

from .trigger_types import TriggerType

SEED_POINT = "seed-point@1"
FIRST_CHAMPION = "first-champion@1"
APPROVAL = "approval@1"
SAFETY = "safety@1"
SUPERIORITY = "superiority@1"
NON_INFERIORITY = "non-inferiority@1"
IMPROVEMENT = "improvement@1"
BY_TRIGGER = "by-trigger@1"
POLICIES = (BY_TRIGGER, SUPERIORITY, NON_INFERIORITY, IMPROVEMENT, APPROVAL, SEED_POINT)
"""Rules a model may be judged by. A rule that changes gets a new version; entries name the one used."""

CLAIM_OF_TRIGGER: Mapping[TriggerType, str] = {
    TriggerType.PERFORMANCE: SUPERIORITY,
    TriggerType.DRIFT: NON_INFERIORITY,
    TriggerType.SCHEDULED: IMPROVEMENT,
    TriggerType.CUSTOM: SUPERIORITY,
    TriggerType.MANUAL: SUPERIORITY,
}
"""What ``by-trigger@1`` asks for. A job started by hand is decided by a person, with that claim's numbers in
view."""


MOST_HOLDOUT_DAYS = 365
"""The longest holdout that can be set."""


class Outcome(Enum):
    """What can come out of a comparison."""

    PROMOTE = "promote"
    REJECT = "reject"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided, by which rule, on which numbers.

    Attributes:
        outcome: Promote, reject or inconclusive. Only promote lets a version serve.
        rule: Name and version of the rule.
        reason: Why, in words.
        numbers: What the rule was given and computed.
    """

    outcome: Outcome
    rule: str
    reason: str
    numbers: Mapping[str, Any] = field(default_factory=dict)


def is_tested(decision: Decision) -> bool:
    """Whether a claim was put to the test, which uses up some of the error rate."""
    return "level" in decision.numbers and "effect" in decision.numbers


def improvement(new: float, old: float, direction: Literal["up", "down"]) -> float | None:
    """Relative improvement as a fraction of the champion's value.

    The seed's formula, ``(new - champion) / champion``, with its sign turned for measures that are better
    when smaller, and by the magnitude of a negative champion.

    Returns:
        The fraction; ``None`` when the champion's value is 0, of which nothing is a fraction.
    """
    if old == 0:
        return None
    gain = new - old if direction == "up" else old - new
    return gain / abs(old)


def compare(
    metric: str,
    direction: Literal["up", "down"],
    new: float | None,
    old: float | None,
    min_improvement: float,
) -> Decision:
    """Apply the seed's rule, ``improvement >= min_improvement``.

    Args:
        metric: The measure compared.
        direction: Which way it is better.
        new: The candidate's value; ``None`` when unknown.
        old: The champion's value on the same rows; ``None`` when unknown.
        min_improvement: Relative improvement asked for.

    Returns:
        Promote or reject; inconclusive when a value is unknown.
    """
    numbers: dict[str, Any] = {
        "metric": metric, "candidate": new, "champion": old, "min_improvement": min_improvement,
    }  # fmt: skip
    if new is None or old is None or not (math.isfinite(new) and math.isfinite(old)):
        whose = "candidate" if new is None or not math.isfinite(new) else "champion"
        return Decision(Outcome.INCONCLUSIVE, SEED_POINT, f"{metric} of the {whose} is unknown", numbers)
    gain = improvement(new, old, direction)
    numbers["improvement"] = gain
    if gain is None:
        # A champion at 0 has no fraction; the rule multiplied out (gain >= min * 0) still says what is meant.
        better = new > 0 if direction == "up" else new < 0
        outcome = Outcome.PROMOTE if better else Outcome.REJECT
        return Decision(outcome, SEED_POINT, f"{metric} went from 0 to {new:.4f}", numbers)
    text = f"{metric} {old:.4f} -> {new:.4f} is {gain:+.2%} against {min_improvement:+.2%} asked for"
    if gain >= min_improvement:
        return Decision(Outcome.PROMOTE, SEED_POINT, text, numbers)
    unreachable = out_of_reach(metric, old, min_improvement)
    return Decision(Outcome.REJECT, SEED_POINT, f"{text}; {unreachable}" if unreachable else text, numbers)


_BOUNDED = ("accuracy", "precision", "recall", "f1", "roc_auc", "r2")


def out_of_reach(metric: str, champion: float, min_improvement: float) -> str:
    """Say so when no candidate could pass: a measure that ends at 1 cannot be 5 % better than 0.96.

    Returns:
        Why, and what can be asked for instead; empty when a candidate could pass.
    """
    if metric in _BOUNDED and champion * (1 + min_improvement) > 1:
        return (
            f"no candidate can reach that from {champion:.4f}, since {metric} ends at 1: ask for less "
            '(promotion.min_improvement), for an absolute difference (promotion.scale = "absolute") or for a '
            'share of the error ("error-reduction")'
        )
    return ""
