"""Holm's step-down procedure: which of several findings stand, when each had its chance to be luck."""

from __future__ import annotations

from collections.abc import Mapping


def holm(p_values: Mapping[str, float], alpha: float) -> tuple[str, ...]:
    """Which hypotheses are rejected (Holm 1979, Scandinavian Journal of Statistics 6:65).

    Args:
        p_values: By name; they may depend on one another in any way.
        alpha: Chance that any true hypothesis is rejected.

    Returns:
        Their names, the smallest p-value first.
    """
    ordered = sorted(p_values, key=lambda name: p_values[name])
    for place, name in enumerate(ordered):
        if p_values[name] > alpha / (len(ordered) - place):
            return tuple(ordered[:place])
    return tuple(ordered)
