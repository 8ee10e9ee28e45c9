"""A champion below the floor: an alarm of its own, and no reason to promote anything.

The floor is about what may begin to serve. A champion that was adopted, or has become worse, may lie below
it; people should know, whatever the triggers and the gate make of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from .jobs import RetrainingJob
from .sealing import Draft
from .spec import ModelSpec
from .state import ModelState
from .validation import ValidationResult

LEAST = timedelta(days=1)
"""An episode lasts so long at least: a measure that wavers about the floor tells of itself once a day."""


@dataclass(frozen=True, slots=True)
class Measured:
    """How the champion was measured.

    Attributes:
        value: Of the floor's measure.
        rows: Labelled rows behind it; ``None`` where the source does not count them.
        source: ``live`` for the metric that is watched, ``holdout`` for that of a job.
    """

    value: float
    rows: int | None
    source: Literal["live", "holdout"]


def measured_live(
    spec: ModelSpec, state: ModelState, verdicts: Mapping[str, Mapping[str, Any]]
) -> Measured | None:
    """What a look knows of the floor's measure; ``None`` where it is not watched, or is unknown.

    Nor is it known while the alias points elsewhere: the metric is another version's then.
    """
    verdict = verdicts.get("performance")
    evidence = verdict["evidence"] if verdict and verdict["answer"] != "unknown" else {}
    if state.conflict is not None or evidence.get("metric") != spec.floor_measure or not evidence["points"]:
        return None  # without a sample the value is what an empty answer counts as
    return Measured(evidence["value"], evidence["rows"], "live")


def measured_on_holdout(
    spec: ModelSpec, state: ModelState, job: RetrainingJob, result: ValidationResult
) -> Measured | None:
    """What a validation says of the version that serves; ``None`` where it says too little.

    It does when another version was scored beside the candidate, or the rows are too few.
    """
    value = (result.champion_metrics or {}).get(spec.floor_measure)
    serves = state.champion and job.champion and state.champion.version.version == job.champion.version
    if value is None or not serves or result.rows < spec.min_holdout_rows:
        return None
    return Measured(value, result.rows, "holdout")


def floor_alarm(
    spec: ModelSpec, state: ModelState, measured: Measured | None, now: datetime
) -> tuple[Draft, ...]:
    """Tell that the champion is below the floor, once an episode, and that it is so no more.

    Args:
        spec: The model's settings.
        state: What the ledger knows. An episode ends with its champion, too, which needs no entry.
        measured: How the champion was measured; ``None`` says nothing, and ends nothing.
        now: Time of the look.
    """
    if measured is None or state.champion is None:
        return ()
    going, is_below = state.below_floor, measured.value < spec.floor
    said = {
        "version": state.champion.version.version,
        "measure": spec.floor_measure,
        "value": measured.value,
        "floor": spec.floor,
        "rows": measured.rows,
        "source": measured.source,
    }
    if going is None:
        return (Draft("champion.below_floor", said),) if is_below else ()
    over = not is_below and measured.source == going.source and now - going.since >= LEAST
    return (Draft("champion.above_floor", {**said, "since": going.since}),) if over else ()
