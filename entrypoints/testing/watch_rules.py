"""What must hold of every watch, as a function over a model's stream; see ``invariants``."""

from __future__ import annotations

import math
from datetime import datetime
from itertools import zip_longest

from ...domain.sequential import Harm, HarmTest, Moments
from ...domain.watch import WATCHER
from .history import History, Step


def watches_hold(history: History) -> None:
    """Only a version that was promoted is watched, each batch counts once, and only what is shown acts.

    Raises:
        AssertionError: One of these is broken; names it.
    """
    counted: list[float] = []
    next_start: datetime | None = None
    for step, following in zip_longest(history.steps, history.steps[1:]):
        match step.entry.kind:
            case "watch.begun":
                counted, next_start = [], None
                _check_begin(step)
            case "watch.batch" | "watch.missed":
                next_start = _check_batch(step, next_start)
                if step.entry.kind == "watch.batch":
                    counted.append(step.data["worse"])
            case "watch.ended":
                _check_end(step, following, counted)
            case "request.rollback" if step.entry.actor == WATCHER:
                assert step.before.watch is not None, "a watch that never was asked for a rollback"
                assert step.before.watch.outcome in ("harm", "unknown"), "a watch took back without a verdict"


def _check_begin(step: Step) -> None:
    job_id, serving = step.data["job_id"], step.before.champion
    assert serving is not None, "a watch over nothing"
    assert serving.job_id == job_id, f"the watch of job {job_id} began, and another version serves"
    assert step.before.watch is None, "a watch began within another"


def _check_batch(step: Step, next_start: datetime | None) -> datetime:
    window, watch, serving = step.data["window"], step.before.watch, step.before.champion
    start, end = (datetime.fromisoformat(window[name]) for name in ("start", "end"))
    name = f"entry {step.entry.seq} ({step.entry.kind})"
    assert watch is not None, f"{name}: there is no watch"
    assert not watch.outcome, f"{name}: the watch has ended"
    assert serving is not None, f"{name}: nothing serves"
    assert serving.job_id == step.data["job_id"], f"{name}: another version serves"
    assert start == (next_start or watch.since), f"{name}: a batch was left out, or counted twice"
    assert end <= datetime.fromisoformat(step.entry.at), f"{name}: the batch is not over"
    if step.entry.kind == "watch.batch":
        assert math.isfinite(step.data["live"]), f"rule 5: {name} counts what is unknown"
    return end


def _check_end(step: Step, following: Step | None, counted: list[float]) -> None:
    watch, outcome = step.before.watch, step.data["outcome"]
    assert watch is not None, "a watch ended that never began"
    assert not watch.outcome, "a watch ended twice"
    seen = Moments()
    for sample in counted:
        seen = seen.after(sample)
    shown = HarmTest(watch.terms.tolerance, watch.terms.alpha).read(seen).harm is Harm.SHOWN
    assert shown == (outcome == "harm"), (
        f"harm is {'' if shown else 'not '}shown, and the watch says {outcome}"
    )
    if outcome == "kept":
        assert len(counted) == watch.terms.batches, "rule 5: a watch with unknown batches was passed"
    asked = following is not None and following.entry.kind == "request.rollback"
    assert asked == step.data["rollback"], "a verdict of the watch asked for no way back"
    if following is not None and asked:
        assert following.entry.at == step.entry.at, "the way back was asked for later than the verdict"
