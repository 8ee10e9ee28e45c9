"""Claims: what has to be shown of a candidate before it may replace the champion, and whether it was.

A claim is about an effect: how much better the candidate is, on a scale of one's choice. Its interval comes
from the scorer's paired statistics; a promotion that should not be has at most the stated probability.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from statistics import NormalDist
from typing import Any

from ..ports.scorer import Effect, Paired, Scale
from .promotion import IMPROVEMENT, NON_INFERIORITY, SUPERIORITY, Decision, Outcome, out_of_reach
from .student import critical, upper_tail

_MOST_TIMES = 1000
"""No holdout grows by the square of this."""

_POWER = 0.8
"""Rows that are said to be needed show a true effect of this size four times in five."""


class Kind(Enum):
    """What is claimed of a candidate; the value names the policy and its version."""

    SUPERIORITY = SUPERIORITY
    NON_INFERIORITY = NON_INFERIORITY
    IMPROVEMENT = IMPROVEMENT


@dataclass(frozen=True, slots=True)
class Claim:
    """What has to be shown.

    Attributes:
        kind: Superiority: better by ``margin`` as measured, and surely better at all. Non-inferiority: surely
            not worse by ``margin``. Improvement: surely better at all.
        margin: On the scale; 0 or more.
        scale: How the effect is expressed.
    """

    kind: Kind
    margin: float
    scale: Scale

    @property
    def words(self) -> str:
        """What is claimed, for people."""
        match self.kind:
            case Kind.SUPERIORITY:
                return f"better by {told(self.margin, self.scale, sign=False)}"
            case Kind.NON_INFERIORITY:
                return f"not worse by {told(self.margin, self.scale, sign=False)}"
            case Kind.IMPROVEMENT:
                return "better at all"

    @property
    def least(self) -> float:
        """The effect that the interval has to lie above."""
        return -self.margin if self.kind is Kind.NON_INFERIORITY else 0.0

    @property
    def bar(self) -> float:
        """The effect that has to be measured."""
        return self.margin if self.kind is Kind.SUPERIORITY else self.least


@dataclass(frozen=True, slots=True)
class Interval:
    """An effect between its one-sided bounds.

    Attributes:
        value: As measured.
        low: Not less than this, at the level.
        high: Not more than this, at the level.
        level: Probability with which either bound is wrong.
    """

    value: float
    low: float
    high: float
    level: float


def interval_of(pair: Paired, effect: Effect, level: float) -> Interval:
    """Bounds of an effect: all values that the rows do not contradict.

    Of a fraction they are Fieller's (1954, Journal of the Royal Statistical Society B 16:175): those whose
    difference from what was measured is no larger than the error they would have, were they true.

    Args:
        pair: The comparison that the effect is of.
        effect: The effect.
        level: One-sided, between 0 and a half.
    """
    student = critical(level, pair.units - 1)
    low, high = _bound(effect, -student * effect.low), _bound(effect, student * effect.high)
    return Interval(effect.value, low, high, level)


def _bound(effect: Effect, reach: float) -> float:
    """Where ``effect.value - bound == -reach * effect.error_at(bound)``; infinite where the base may be 0."""
    own, square = effect.error_at(0) ** 2, reach**2
    known = 1 - square * effect.base_error**2
    if known <= 0:
        return math.copysign(math.inf, reach)
    middle = effect.value - square * effect.shared
    root = math.sqrt(max(middle**2 - known * (effect.value**2 - square * own), 0.0))
    return (middle + math.copysign(root, reach)) / known


def judge_claim(claim: Claim, pair: Paired, level: float, rows_a_day: float | None = None) -> Decision:
    """Say whether a claim was shown.

    Args:
        claim: What has to be shown.
        pair: Both versions on the same rows.
        level: Probability of a promotion when the claim is only just not true.
        rows_a_day: Labelled rows a day, to say how long a holdout would have to be; ``None`` when unknown.

    Returns:
        Promote when it was shown, reject when it was shown not to be so, inconclusive when the rows cannot
        tell, with the number that could.
    """
    numbers = {**_numbers(claim, pair), "level": level}
    effect = pair.effects.get(claim.scale)
    if effect is None:
        text = (
            f"{pair.measure} of the champion is {pair.champion:.4g}, of which nothing is a fraction; "
            'promotion.scale = "absolute" compares the difference'
        )
        return Decision(Outcome.INCONCLUSIVE, claim.kind.value, text, numbers)
    found = interval_of(pair, effect, level)
    numbers |= {"effect": found.value, "low": found.low, "high": found.high}
    numbers["p"] = _p_value(claim, pair, effect)
    text = _measured(claim, pair, found)
    unreachable = out_of_reach(pair.measure, pair.champion, claim.margin) if _is_relative(claim) else ""
    if unreachable:
        return Decision(Outcome.REJECT, claim.kind.value, f"{text}; {unreachable}", numbers)
    if _shown(claim, found, numbers["p"]):
        return Decision(Outcome.PROMOTE, claim.kind.value, f"{text}: {claim.words}", numbers)
    if _refuted(claim, found):
        return Decision(Outcome.REJECT, claim.kind.value, f"{text}: not {claim.words}", numbers)
    needed = rows_needed(claim, pair, effect, level)
    numbers["rows_needed"] = needed
    return Decision(
        Outcome.INCONCLUSIVE,
        claim.kind.value,
        f"{text}: may be {claim.words} or not; {_what_would_tell(pair, needed, rows_a_day)}",
        numbers,
    )


def rows_needed(claim: Claim, pair: Paired, effect: Effect, level: float) -> int | None:
    """Rows that would settle the claim, either way, four times in five, if the effect is as measured.

    Args:
        claim: What has to be shown.
        pair: The comparison so far.
        effect: Its effect, on the claim's scale.
        level: One-sided.

    Returns:
        The number, by the normal approximation; ``None`` when the effect lies where none would, or none that
        anybody has.
    """
    proven = effect.value >= claim.bar
    distance = effect.value - claim.least if proven else claim.bar - effect.value
    stretch = effect.low if proven else effect.high
    reach = (critical(level, pair.units - 1) * stretch + NormalDist().inv_cdf(_POWER)) * effect.error
    if reach > distance * _MOST_TIMES:
        return None
    return math.ceil(pair.rows * (reach / distance) ** 2) if distance > 0 else None


def detectable(claim: Claim, pair: Paired, rows: int, level: float) -> float | None:
    """The effect that a holdout shows four times in five.

    Args:
        claim: What will have to be shown.
        pair: An earlier comparison of the same model; how its differences spread is taken to stay.
        rows: Rows of the holdout.
        level: One-sided.

    Returns:
        An effect on the claim's scale, above ``claim.least``; ``None`` when it is not defined.
    """
    effect = pair.effects.get(claim.scale)
    if effect is None or rows <= 0:
        return None
    reach = critical(level, pair.units - 1) * effect.low + NormalDist().inv_cdf(_POWER)
    return claim.least + reach * effect.error * math.sqrt(pair.rows / rows)


def told(value: float, scale: Scale, *, sign: bool = True) -> str:
    """An effect for people: percent of something, or a difference."""
    if scale == "absolute":
        return f"{value:+.4f}" if sign else f"{value:.4g}"
    percent = f"{value:+.2%}" if sign else f"{100 * value:.3g} %"
    return percent if scale == "relative" else f"{percent} of the error"


def mid_p(better: int, worse: int) -> float:
    """McNemar's one-sided mid-p value: how likely so many rows are won by luck.

    ``P(X > better) + P(X = better) / 2`` with ``X`` binomial over all rows that only one version got right,
    a half each (Fagerland, Lydersen and Laake 2013, BMC Medical Research Methodology 13:91). For independent
    rows alone.

    Args:
        better: Rows only the candidate got right.
        worse: Rows only the champion got right.
    """
    rows = better + worse
    logs = [_log_binomial(rows, k) for k in range(better, rows + 1)]
    first, *rest = (math.exp(value - rows * math.log(2)) for value in logs)
    return math.fsum(rest) + first / 2


def _log_binomial(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _p_value(claim: Claim, pair: Paired, effect: Effect) -> float:
    """Probability of such an effect, or a larger one, when the true one is ``claim.least``."""
    if pair.discordant is not None and claim.least == 0:
        return mid_p(*pair.discordant)
    distance = effect.value - claim.least
    error = effect.error_at(claim.least)
    if error == 0:
        return 0.0 if distance > 0 else 1.0
    stretch = effect.low if distance > 0 else 1.0
    return upper_tail(distance / (error * stretch), pair.units - 1)


def _shown(claim: Claim, found: Interval, p: float) -> bool:
    return found.value >= claim.bar and p < found.level


def _refuted(claim: Claim, found: Interval) -> bool:
    """Whether even the upper bound does not reach what is claimed."""
    return found.high <= claim.bar


def _is_relative(claim: Claim) -> bool:
    return claim.kind is Kind.SUPERIORITY and claim.scale == "relative"


def _measured(claim: Claim, pair: Paired, found: Interval) -> str:
    low, value, high = (told(each, claim.scale) for each in (found.low, found.value, found.high))
    return (
        f"{pair.measure} {pair.champion:.4f} -> {pair.candidate:.4f} is {value}, between {low} and {high} "
        f"at a level of {found.level:.2g} a side ({pair.units} {pair.unit})"
    )


def _what_would_tell(pair: Paired, needed: int | None, rows_a_day: float | None) -> str:
    if needed is None:
        return "with a difference like this no number of rows would show it"
    text = f"about {needed} rows would tell, {pair.rows} were there"
    if rows_a_day:
        text += f" (a holdout of {needed / rows_a_day:.3g} days)"
    return text


def _numbers(claim: Claim, pair: Paired) -> dict[str, Any]:
    return {
        "metric": pair.measure,
        "candidate": pair.candidate,
        "champion": pair.champion,
        "rows": pair.rows,
        "claim": claim.words,
        "bar": claim.bar,
        "least": claim.least,
        "scale": claim.scale,
        "units": pair.units,
        "unit": pair.unit,
        "dependence": pair.dependence,
    }
