"""The entries of a canary, told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .story_words import Story, Teller, span


def compared(batches: Sequence[Mapping[str, Any]]) -> Story:
    """Tell batches together.

    Args:
        batches: What entries say of batches that follow on one another, at least one.
    """
    known = [data for data in batches if data["worse"] is not None]
    window = {"start": batches[0]["window"]["start"], "end": batches[-1]["window"]["end"]}
    title = f"Canary compared over {len(known)} of {len(batches)} batches" if known else "Canary not compared"
    details = [span(window), *(_arms(known) if known else ())]
    if len(known) < len(batches):
        details.append(next(data["reason"] for data in reversed(batches) if data["worse"] is None))
    return title, details


def _arms(batches: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Both arms over all these batches, and the difference as far as it is known since the canary began."""
    for name, arm in (("candidate", "candidate"), ("champion", "baseline")):
        rows = sum(data[arm]["rows"] for data in batches)
        mean = sum(data[arm]["value"] * data[arm]["rows"] for data in batches) / rows
        yield f"{name} {mean:.4f} on {rows} rows"
    mean = sum(data["worse"] for data in batches) / len(batches)
    yield f"worse by {mean:+.4g} in the mean of the batches"
    if batches[-1]["interval"]:
        low, high = batches[-1]["interval"]
        yield f"since the canary began between {low:+.4g} and {high:+.4g}"


def _canary_began(data: Mapping[str, Any]) -> Story:
    plan = data["plan"]
    steps = [
        f"{100 * step['weight']:.4g} %{' in the shadow' if step['shadow'] else ''} for {step['minutes']:g} "
        f"minutes and {step['samples']} rows an arm"
        for step in plan["steps"]
    ]
    compares = f"{plan['candidate']} against {plan['baseline']}, up to {plan['tolerance']:g} worse is no harm"
    return f"Canary begun, {len(steps)} steps", [*steps, compares]


def _canary_step(data: Mapping[str, Any]) -> Story:
    return f"Canary step {data['number'] + 1} begun", [_shared(data["split"])]


def _canary_applied(data: Mapping[str, Any]) -> Story:
    return f"Canary step {data['number'] + 1} of {data['steps']} is in force", [_shared(data["split"])]


def _shared(split: Mapping[str, Any]) -> str:
    how = "copied" if split["shadow"] else "sent"
    return f"{100 * split['weight']:.4g} % {how} to version {split['candidate']}"


def _canary_held(data: Mapping[str, Any]) -> Story:
    return "Canary held", [data["reason"]]


def _canary_conflict(data: Mapping[str, Any]) -> Story:
    return "Somebody changed the traffic", [f"in force is {data['found']}, not {data['expected']}"]


def _canary_passed(data: Mapping[str, Any]) -> Story:
    return "Canary passed", [data["reason"]]


def _canary_ended(data: Mapping[str, Any]) -> Story:
    withdrawn = "the version is withdrawn" if data["withdraws"] else ""
    return "Canary aborted" if data["aborted"] else "Canary over", [data["reason"], withdrawn]


def _canary_cleared(data: Mapping[str, Any]) -> Story:
    left = f"left as it is: {data['left']}" if data["left"] else ""
    return "Traffic is with the champion" if not left else "Traffic is as somebody else set it", [left]


TELLERS: Mapping[str, Teller] = {
    "canary.began": _canary_began,
    "canary.step": _canary_step,
    "canary.applied": _canary_applied,
    "canary.held": _canary_held,
    "canary.conflict": _canary_conflict,
    "canary.passed": _canary_passed,
    "canary.ended": _canary_ended,
    "canary.cleared": _canary_cleared,
}
"""How each kind of entry is told."""
