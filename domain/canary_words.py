"""How a canary stands, in words."""

from __future__ import annotations

from .canary_state import Canary


def step_text(canary: Canary) -> str:
    """Which step it is at, and what share that is."""
    return f"step {canary.number + 1} of {len(canary.plan.steps)}, {canary.step}"


def rows_text(canary: Canary) -> str:
    """Rows of this step that were compared."""
    candidate, baseline = canary.rows
    return f"{candidate:,} rows of the candidate and {baseline:,} of the champion"


def worse_text(canary: Canary) -> str:
    """By how much the candidate is worse so far, and how sure that is."""
    seen, plan = canary.compared, canary.plan
    if not seen.count:
        return "nothing was compared yet"
    measure = f"{plan.candidate} worse by {seen.mean:+.4g} than {plan.baseline}"
    between = (
        f"between {canary.interval[0]:+.4g} and {canary.interval[1]:+.4g}"
        if canary.interval
        else "too few to bound it"
    )
    batches = f"{seen.count} batch{'es' if seen.count != 1 else ''}"
    return f"{measure} ({between}, {batches}; up to {plan.tolerance:g} is no harm)"


def canary_text(canary: Canary) -> str:
    """How it stands, in a line."""
    if canary.ending is not None:
        return f"canary: over, its split is being taken back: {canary.ending.reason}"
    if canary.passed:
        return f"canary: all {len(canary.plan.steps)} steps gone through, being promoted"
    parts = [step_text(canary)]
    if canary.conflict is not None:
        parts.append(f"halted: in force is {canary.conflict}")
    elif canary.since is None:
        parts.append("being put in force")
    else:
        parts.append(f"since {canary.since:%Y-%m-%d %H:%M} UTC, {rows_text(canary)}, {worse_text(canary)}")
    if canary.held:
        parts.append(f"held until {canary.deadline:%Y-%m-%d %H:%M} UTC at most")
    if canary.unknown:
        parts.append(f"unknown: {canary.unknown}")
    return f"canary: {'; '.join(parts)}"
