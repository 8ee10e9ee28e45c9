"""What entries of the regular looks do to a model: verdicts, missed slots, lasting doubt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from .codec import time_of
from .fold_step import Line, Step
from .state import Misses, ModelState


def _enrolled(state: ModelState, line: Line) -> ModelState:
    return replace(state, enrolled_at=line.at)


def _looked(state: ModelState, line: Line) -> ModelState:
    data = line.data
    answer, until, flapping = data.get("answer", ""), data.get("until"), data.get("flapping", False)  # 0.1.0
    unknown = [name for name, verdict in data["verdicts"].items() if verdict["answer"] == "unknown"]
    return replace(
        state,
        verdicts=data["verdicts"],
        suppressed=data["suppressed"],
        suppressed_until=time_of(until) if until else None,
        steadiness=state.steadiness.after(line.at, answer, data["suppressed"], flapping),
        looked_at=line.at,
        unknown_since={name: state.unknown_since.get(name, line.at) for name in unknown},
        alarmed=state.alarmed & frozenset(unknown),
    )


def _missed(state: ModelState, line: Line) -> ModelState:
    data = line.data
    total = (state.missed.total if state.missed else 0) + data["count"]
    first, last = time_of(data["first"]), time_of(data["last"])
    missed = Misses(total, data["count"], first, last, data["policy"])
    return replace(state, missed=missed)


def _alarmed(state: ModelState, line: Line) -> ModelState:
    return replace(state, alarmed=state.alarmed | {line.data["trigger"]})


STEPS: Mapping[str, Step] = {
    "model.enrolled": _enrolled,
    "look.changed": _looked,
    "slots.missed": _missed,
    "unknown.lasting": _alarmed,
}
"""What each kind of entry does."""
