"""What entries do to the watch over a promoted version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from .codec import terms_of
from .fold_step import Line, Step
from .state import ModelState
from .watch import Watch


def _watch_begun(state: ModelState, line: Line) -> ModelState:
    return replace(state, watch=Watch(line.data["job_id"], line.at, terms_of(line.data)))


def _watch_batch(state: ModelState, line: Line) -> ModelState:
    watch = _watch_of(state)
    moments = watch.moments.after(line.data["worse"])
    return replace(state, watch=replace(watch, moments=moments, paused=""))


def _watch_missed(state: ModelState, line: Line) -> ModelState:
    watch = _watch_of(state)
    return replace(state, watch=replace(watch, missed=watch.missed + 1, paused=line.data["reason"]))


def _watch_ended(state: ModelState, line: Line) -> ModelState:
    ended = replace(_watch_of(state), outcome=line.data["outcome"], reason=line.data["reason"])
    return replace(state, watch=ended)


def _watch_of(state: ModelState) -> Watch:
    assert state.watch is not None  # noqa: S101  (watch.begun comes first)
    return state.watch


STEPS: Mapping[str, Step] = {
    "watch.begun": _watch_begun,
    "watch.batch": _watch_batch,
    "watch.missed": _watch_missed,
    "watch.ended": _watch_ended,
}
"""What each kind of entry does."""
