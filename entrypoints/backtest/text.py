"""The comparison as text: what is told of each policy, and what the numbers do not say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta

from .outcome import Outcome

TITLES = (
    "policy", "looks", "fired", "held", "trainings", "promoted", "rejected", "inconclusive", "unknown",
    "failed", "regretted", "cost", "below", "not known", "mean",
)  # fmt: skip
"""What ``row_of`` tells, in its order."""


def row_of(outcome: Outcome) -> tuple[str, ...]:
    """What is told of one policy, in the order of ``TITLES``."""
    results = outcome.results
    return (
        outcome.policy,
        str(outcome.looks),
        counts(outcome.fired),
        counts(outcome.held),
        str(outcome.trainings),
        str(results["promoted"]),
        str(results["rejected"]),
        str(results["inconclusive"] + results["waited"]),
        str(results["unknown"]),
        str(results["failed"]),
        str(outcome.regrets),
        _cost(outcome),
        days(outcome.below),
        days(outcome.not_known),
        "unknown" if outcome.mean is None else f"{outcome.mean:.4f}",
    )


def counts(of: Mapping[str, int]) -> str:
    """Numbers by name in one cell."""
    return ", ".join(f"{number} {name}" for name, number in of.items()) or "0"


def days(time: timedelta) -> str:
    """A time in days, over all models."""
    return f"{time / timedelta(days=1):.4g} d"


def _cost(outcome: Outcome) -> str:
    if outcome.cost is None:
        return "unknown" if outcome.trainings else "0"
    return f"{outcome.cost:.2f}" + (f" + {outcome.unpriced} unknown" if outcome.unpriced else "")


def remarks(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """What a reader of the table has to know, in sentences."""
    for outcome in outcomes:
        total = sum((point.window.length for each in outcome.models for point in each.points), timedelta())
        if outcome.not_known:
            yield (
                f"{outcome.policy}: the metric is not known for {days(outcome.not_known)} of {days(total)}: "
                f"{_most(point.reason for each in outcome.models for point in each.points if point.reason)}"
            )
        if outcome.results["unknown"]:
            yield (
                f"{outcome.policy}: what {outcome.results['unknown']} jobs would have come to is not known: "
                f"{_most(job.reason for job in outcome.jobs if job.result == 'unknown')}"
            )
        if waited := outcome.results["waited"]:
            yield f"{outcome.policy}: {waited} jobs waited for a person, and ended undeployed"


def _most(reasons: Iterator[str]) -> str:
    """The commonest reason, and how many others there are."""
    told: dict[str, int] = {}
    for reason in reasons:
        told[reason] = told.get(reason, 0) + 1
    first = max(told, key=lambda reason: told[reason])
    return first if len(told) == 1 else f"{first} (and {len(told) - 1} other reasons)"
