"""The entries of a watch, told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .story_words import Story, Teller, number, span


def _watch_begun(data: Mapping[str, Any]) -> Story:
    days = data["batches"] * data["batch_seconds"] / 86400
    if data["previous"]:
        baseline = f"version {data['previous']['version']} on the same rows"
    else:
        baseline = f"its holdout, {number(data['baseline'])}"
    return f"Watched for {days:g} days", [
        f"live {data['metric']} against {baseline}; {data['tolerance']:.1%} worse is tolerated",
        f"a version within that is taken back with a chance of {data['alpha']:g} at most",
    ]


def _watched(data: Mapping[str, Any]) -> Story:
    rows = "" if data["rows"] is None else f", {data['rows']} of them"
    between = (
        "" if data["low"] is None else f"; all so far: between {data['low']:+.1%} and {data['high']:+.1%}"
    )
    return f"Watch: {number(data['live'])} against {number(data['baseline'])}", [
        f"rows {span(data['window'])}{rows}",
        f"{data['worse']:+.1%} worse{between} (e-value {data['e_value']:.3g})",
    ]


def _watch_missed(data: Mapping[str, Any]) -> Story:
    return "Watch paused: a batch is unknown", [f"rows {span(data['window'])}", data["reason"]]


def _watch_ended(data: Mapping[str, Any]) -> Story:
    return f"Watch ended: {data['outcome']}", [data["reason"]]


TELLERS: Mapping[str, Teller] = {
    "watch.begun": _watch_begun,
    "watch.batch": _watched,
    "watch.missed": _watch_missed,
    "watch.ended": _watch_ended,
}
"""How each kind of entry is told."""
