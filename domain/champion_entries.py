"""What entries do to the champion: who serves, since when, and what was withdrawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from .codec import version_of
from .fold_step import Line, Step, with_job
from .state import BelowFloor, Champion, ModelState, Rollback


def _adopted(state: ModelState, line: Line) -> ModelState:
    version = version_of(line.data["version"])
    return replace(_serving(state, Champion(version, None, None)), adopt=False)


def _conflict(state: ModelState, line: Line) -> ModelState:
    return replace(state, conflict=line.data["found"] or "none", adopt=False)


def _restored(state: ModelState, line: Line) -> ModelState:
    return replace(state, conflict=None, adopt=False)


def _below_floor(state: ModelState, line: Line) -> ModelState:
    said = {name: line.data[name] for name in ("measure", "value", "floor", "source")}
    return replace(state, below_floor=BelowFloor(line.at, **said))


def _above_floor(state: ModelState, line: Line) -> ModelState:
    return replace(state, below_floor=None)


def _override(state: ModelState, line: Line) -> ModelState:
    if line.data["what"] == "adopt":
        return replace(state, adopt=True)
    kept = {digest: label for digest, label in state.quarantined.items() if label != line.data["version"]}
    return replace(state, quarantined=kept)


def _promoted(state: ModelState, line: Line) -> ModelState:
    job = state.jobs[line.data["job_id"]]
    assert job.candidate is not None  # noqa: S101  (deploying is reached through candidate.found only)
    state = with_job(state, line, deployed=True, deployed_at=line.at)
    return _serving(state, Champion(job.candidate, line.at, job.job_id))


def _rollback_asked(state: ModelState, line: Line) -> ModelState:
    return replace(state, rollback=Rollback(line.actor, line.data["reason"], line.data["to"]))


def _rolling_back(state: ModelState, line: Line) -> ModelState:
    assert state.rollback is not None  # noqa: S101  (only decided for a request)
    data = line.data
    going = replace(
        state.rollback,
        target=version_of(data["target"]),
        expected=data["expected"],
        policy=data.get("policy", ""),
        stalled="",
    )
    return replace(state, rollback=going)


def _rollback_stalled(state: ModelState, line: Line) -> ModelState:
    assert state.rollback is not None  # noqa: S101  (only one that goes on can wait)
    return replace(state, rollback=replace(state.rollback, stalled=line.data["reason"]))


def _rollback_skipped(state: ModelState, line: Line) -> ModelState:
    assert state.rollback is not None  # noqa: S101  (only a target that was chosen is given up)
    skipped = {**state.rollback.skipped, line.data["version"]["version"]: line.data["reason"]}
    return replace(state, rollback=replace(state.rollback, target=None, expected=None, skipped=skipped))


def _rolled_back(state: ModelState, line: Line) -> ModelState:
    withdrawn, target = state.champion, version_of(line.data["target"])
    assert withdrawn is not None  # noqa: S101  (rollback.intended asks for a champion)
    jobs = dict(state.jobs)
    if withdrawn.job_id in jobs:
        jobs[withdrawn.job_id] = replace(jobs[withdrawn.job_id], rolled_back_at=line.at)
    earlier = next((c for c in reversed(state.served) if c.version.version == target.version), None)
    state = _serving(state, Champion(target, line.at, earlier.job_id if earlier else None))
    return replace(
        state,
        jobs=jobs,
        quarantined={**state.quarantined, withdrawn.version.digest: withdrawn.version.version},
        withdrawn_at=line.at,
        rollback=None,
    )


def _rollback_failed(state: ModelState, line: Line) -> ModelState:
    return replace(state, rollback=None)


def _serving(state: ModelState, champion: Champion) -> ModelState:
    served = state.served if state.champion is None else (*state.served, state.champion)
    return replace(state, champion=champion, served=served, conflict=None, below_floor=None, watch=None)


STEPS: Mapping[str, Step] = {
    "champion.adopted": _adopted,
    "champion.conflict": _conflict,
    "champion.restored": _restored,
    "champion.below_floor": _below_floor,
    "champion.above_floor": _above_floor,
    "request.rollback": _rollback_asked,
    "request.override": _override,
    "promotion.done": _promoted,
    "rollback.intended": _rolling_back,
    "rollback.stalled": _rollback_stalled,
    "rollback.skipped": _rollback_skipped,
    "rollback.done": _rolled_back,
    "rollback.failed": _rollback_failed,
}
"""What each kind of entry does."""
