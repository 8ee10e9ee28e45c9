"""Guardrails: what must not get worse although a candidate is better on the whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..ports.scorer import Paired
from .claims import Claim, detectable, interval_of, told
from .holm import holm
from .promotion import Decision, Outcome
from .student import upper_tail

SEGMENT_ALPHA = 0.05
"""Chance that any segment is taken to be worse by the margin although none is."""


@dataclass(frozen=True, slots=True)
class Segment:
    """What the rows of a segment say.

    Attributes:
        name: Column and value.
        pair: Both versions on its rows.
        value: The effect there.
        low: Not less than this, at ``SEGMENT_ALPHA`` for this segment alone.
        high: Not more than this, likewise.
        harmed: How likely so bad an effect is, were the true one not worse than the margin.
        holds: Whether it is shown not to be worse by the margin.
        tells: Whether its rows are enough to show that of a candidate that is as good as the champion.
    """

    name: str
    pair: Paired
    value: float
    low: float
    high: float
    harmed: float
    holds: bool
    tells: bool


def guard_segments(decision: Decision, claim: Claim, segments: Mapping[str, Paired]) -> Decision:
    """Keep back a promotion that would harm a segment.

    A segment that is shown to be worse by the margin rejects (Holm 1979 over all segments); one whose rows
    could have shown that it is not, and do not, makes it inconclusive. One with too few rows is reported.

    Args:
        decision: What the comparison on all rows came to.
        claim: Non-inferiority, with the margin of a segment.
        segments: Comparisons by segment; where it is empty the decision stands.

    Returns:
        The decision, with what each segment says among its numbers.
    """
    seen = [seen for name, pair in segments.items() if (seen := _look_at(name, pair, claim)) is not None]
    if not seen:
        return decision
    worse = _worse(seen)
    numbers = {**decision.numbers, "segments": {each.name: _told(each, each in worse) for each in seen}}
    decision = replace(decision, numbers=numbers)
    if decision.outcome is not Outcome.PROMOTE:
        return decision
    if worse:
        text = f"{decision.reason}; but it is worse in {_names(worse, claim)}"
        return replace(decision, outcome=Outcome.REJECT, reason=text)
    open_ = [each for each in seen if each.tells and not each.holds]
    if open_:
        text = f"{decision.reason}; but it may be worse in {_names(open_, claim)}"
        return replace(decision, outcome=Outcome.INCONCLUSIVE, reason=text)
    return decision


def _look_at(name: str, pair: Paired, claim: Claim) -> Segment | None:
    effect = pair.effects.get(claim.scale)
    if effect is None:
        return None
    found = interval_of(pair, effect, SEGMENT_ALPHA)
    distance = claim.least - effect.value
    reach = effect.error_at(claim.least) * effect.high
    harmed = upper_tail(distance / reach, pair.units - 1) if reach else float(distance <= 0)
    shows = detectable(claim, pair, pair.rows, SEGMENT_ALPHA)
    return Segment(
        name=name,
        pair=pair,
        value=found.value,
        low=found.low,
        high=found.high,
        harmed=harmed,
        holds=found.low > claim.least,
        tells=shows is not None and shows <= 0,
    )


def _worse(segments: list[Segment]) -> list[Segment]:
    """Segments that are worse by the margin, by Holm's step-down procedure."""
    rejected = holm({each.name: each.harmed for each in segments}, SEGMENT_ALPHA)
    by_name = {each.name: each for each in segments}
    return [by_name[name] for name in rejected]


def _names(segments: list[Segment], claim: Claim) -> str:
    return ", ".join(
        f"{each.name} ({each.pair.measure} {each.pair.champion:.4f} -> {each.pair.candidate:.4f}, "
        f"{told(each.value, claim.scale)}, between {told(each.low, claim.scale)} and "
        f"{told(each.high, claim.scale)}, {each.pair.rows} rows)"
        for each in segments
    )


def _told(segment: Segment, worse: bool) -> dict[str, Any]:
    verdict = "worse" if worse else "holds" if segment.holds else "open" if segment.tells else "too few rows"
    return {
        "candidate": segment.pair.candidate,
        "champion": segment.pair.champion,
        "rows": segment.pair.rows,
        "effect": segment.value,
        "low": segment.low,
        "high": segment.high,
        "verdict": verdict,
    }
