"""What entries do to a canary, and to a split that a job left behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from ..ports.traffic import Split
from . import canary_state
from .canary_state import Canary
from .fold_step import Line, Step, moved_job, with_job
from .jobs import JobStatus
from .state import ModelState

_OfCanary = Callable[[Canary, datetime, Mapping[str, Any]], Canary]


def _canary_began(state: ModelState, line: Line) -> ModelState:
    return moved_job(state, line, JobStatus.DEPLOYING, canary=canary_state.begun(line.at, line.data))


def _canary(state: ModelState, line: Line, after: _OfCanary) -> ModelState:
    canary = state.jobs[line.data["job_id"]].canary
    assert canary is not None  # noqa: S101  (canary.began comes first)
    return with_job(state, line, canary=after(canary, line.at, line.data), stalled="")


def _canary_ended(state: ModelState, line: Line) -> ModelState:
    state = _canary(state, line, canary_state.ended)
    candidate = state.jobs[line.data["job_id"]].candidate
    if candidate is None or not line.data["withdraws"]:
        return state
    return replace(state, quarantined={**state.quarantined, candidate.digest: candidate.version})


def _canary_cleared(state: ModelState, line: Line) -> ModelState:
    return with_job(state, line, stalled="")


def _stray(state: ModelState, line: Line) -> ModelState:
    return replace(state, stray=Split(**line.data["split"]))


def _stray_cleared(state: ModelState, line: Line) -> ModelState:
    return replace(state, stray=None)


STEPS: Mapping[str, Step] = {
    "canary.began": _canary_began,
    "canary.step": partial(_canary, after=canary_state.stepped),
    "canary.applied": partial(_canary, after=canary_state.applied),
    "canary.batch": partial(_canary, after=canary_state.compared),
    "canary.held": partial(_canary, after=canary_state.held),
    "canary.conflict": partial(_canary, after=canary_state.moved),
    "canary.passed": partial(_canary, after=canary_state.passed),
    "canary.ended": _canary_ended,
    "canary.cleared": _canary_cleared,
    "split.stray": _stray,
    "split.cleared": _stray_cleared,
}
"""What each kind of entry does."""
