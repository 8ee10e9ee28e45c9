"""What follows from a watch: a batch at a time, until harm is shown, the watch is complete, or time is up."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from ..ports.errors import Refused
from ..ports.metrics import MetricQuery, MetricWindow
from .jobs import RetrainingJob
from .plan import Phase, phase_of
from .requests import ask_rollback
from .sealing import Draft
from .sequential import Harm
from .spec import ModelSpec
from .state import ModelState
from .triggers import Missing, Observation, Observations
from .watch import WATCHER, Watch, compared, length_of


def watch_begun(spec: ModelSpec, state: ModelState, job: RetrainingJob) -> tuple[Draft, ...]:
    """The entry with which the watch over a promoted version begins; nothing where the settings want none.

    Args:
        spec: The model's settings.
        state: What the ledger knows, the version before as champion.
        job: The job whose candidate now serves.
    """
    watch = spec.watch
    if not watch.days:
        return ()
    metric = spec.watched_metric
    previous = state.champion.version if state.champion and watch.baseline == "previous" else None
    measured = job.validation.metrics.get(metric) if job.validation and previous is None else None
    terms = {
        "metric": metric,
        "direction": spec.directions[metric],
        "batch_seconds": watch.batch_days * 86400,
        "delay_seconds": watch.delay_hours * 3600,
        "min_rows": watch.min_rows,
        "batches": watch.batches,
        "deadline_seconds": watch.deadline.total_seconds(),
        "tolerance": watch.tolerance,
        "alpha": watch.alpha,
        "baseline": measured,
        "previous": previous,
        "on_unknown": watch.on_unknown,
        "policy": spec.digest,
    }
    data = {"job_id": job.job_id, "version": job.candidate, **terms}
    return (Draft("watch.begun", data, key=f"watch:{job.job_id}"),)


def goes_on(state: ModelState) -> Watch | None:
    """The watch that goes on and may act; ``None`` while the champion is being moved."""
    watch = state.watch
    moving = phase_of(state) in (Phase.DEPLOYMENT, Phase.ROLLBACK)
    return None if watch is None or watch.outcome or moving or state.champion is None else watch


def batch_queries(state: ModelState, now: datetime) -> tuple[MetricQuery, ...]:
    """What has to be read for the next batch: the version's metric, and that of the version before it.

    Returns:
        Nothing before the batch is due, or where no answer could be compared with anything.
    """
    watch = goes_on(state)
    if watch is None or now < watch.due_at or _lacking(state, watch):
        return ()
    return _queries(state, watch)


def decide_watch(
    spec: ModelSpec, state: ModelState, answers: Observations, now: datetime
) -> tuple[Draft, ...]:
    """What the watch records now.

    Args:
        spec: The model's settings.
        state: What the ledger knows.
        answers: Observations to ``batch_queries``, as far as they are there.
        now: Time of the look.

    Returns:
        Nothing while the next batch is not due, or may still become known. Else the batch, or that it was
        missed, and the end of the watch; where harm is shown or policy wants it, the request that takes the
        version back.
    """
    watch = goes_on(state)
    if watch is None:
        return ()
    if not spec.watch.days:
        return (_ended(watch, "stopped", "the settings watch no promotion any more"),)
    reason = "the next batch is not over"
    if now >= watch.due_at:
        batch = _batch(state, watch, answers)
        if isinstance(batch, _Batch):
            return _known(state, watch, batch)
        reason = batch
    if now >= watch.until:
        return _out_of_time(state, watch, reason)
    return (_missed(watch, reason),) if now >= watch.gives_up_at else ()


def next_watch(spec: ModelSpec, state: ModelState, now: datetime) -> datetime | None:
    """When the watch wants to be looked at; ``None`` where there is none."""
    watch = goes_on(state)
    if watch is None:
        return None
    again = now + timedelta(seconds=spec.check_every_seconds)
    return min((at for at in (watch.due_at, watch.gives_up_at, watch.until) if at > now), default=again)


# -- a batch ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Batch:
    """A batch that is known: both values, and by which fraction of the baseline the version was worse."""

    live: float
    baseline: float
    worse: float
    rows: int | None


def _queries(state: ModelState, watch: Watch) -> tuple[MetricQuery, ...]:
    serving = state.champion.version if state.champion else None
    versions = (serving,) if watch.terms.previous is None else (serving, watch.terms.previous)
    return tuple(MetricQuery(state.model, watch.terms.metric, watch.window, version) for version in versions)


def _lacking(state: ModelState, watch: Watch) -> str:
    """Why no answer could be used; empty when it could."""
    if state.conflict is not None:
        return "the champion alias is not where the ledger says"
    if watch.terms.baseline is None and watch.terms.previous is None:
        return f"the holdout gave no {watch.terms.metric} to compare with"
    return ""


def _batch(state: ModelState, watch: Watch, answers: Observations) -> _Batch | str:
    """The next batch, or why it is unknown."""
    if lacking := _lacking(state, watch):
        return lacking
    seen = [answers.get(query, Missing("not observed")) for query in _queries(state, watch)]
    for each in seen:
        if doubt := _doubt(watch, each):
            return doubt
    values = [each.value for each in seen if isinstance(each, MetricWindow) and each.value is not None]
    live, baseline = values[0], values[1] if watch.terms.previous else watch.terms.baseline
    assert baseline is not None  # noqa: S101  (else it is lacking)
    if baseline == 0:
        return f"{watch.terms.metric} of the baseline is 0, and no fraction of it can be told"
    lost = baseline - live if watch.terms.direction == "up" else live - baseline
    rows = seen[0].rows if isinstance(seen[0], MetricWindow) else None
    return _Batch(live, baseline, lost / abs(baseline), rows)


def _doubt(watch: Watch, seen: Observation) -> str:
    """Why an answer must not be used; empty when it may."""
    if not isinstance(seen, MetricWindow):
        return getattr(seen, "reason", "not observed")
    if seen.value is None or not math.isfinite(seen.value):
        return seen.reason or f"the value is {seen.value}"
    if seen.rows is not None and seen.rows < watch.terms.min_rows:
        return f"only {seen.rows} labelled rows, {watch.terms.min_rows} are needed"
    return ""


# -- what is recorded ---------------------------------------------------------------------------------------


def _known(state: ModelState, watch: Watch, batch: _Batch) -> tuple[Draft, ...]:
    terms, after = watch.terms, replace(watch, moments=watch.moments.after(batch.worse))
    reading, count = after.reading, after.moments.count
    low, high = reading.interval or (None, None)
    drafts = (
        _about(
            watch,
            "watch.batch",
            live=batch.live,
            baseline=batch.baseline,
            worse=batch.worse,
            rows=batch.rows,
            harm=reading.harm,
            e_value=reading.e_value,
            low=low,
            high=high,
        ),
    )
    shown_by = f"{compared(after)}; {count} batches of {length_of(terms.batch)}"
    if reading.harm is Harm.SHOWN:
        return (*drafts, *_taken_back(state, watch, "harm", shown_by))
    if count < terms.batches:
        return drafts
    harmless = "no harm" if reading.harm is Harm.EXCLUDED else "no harm was shown, and none excluded"
    return (*drafts, _ended(watch, "kept", f"{harmless}: {shown_by}"))


def _out_of_time(state: ModelState, watch: Watch, reason: str) -> tuple[Draft, ...]:
    terms = watch.terms
    known = f"{watch.moments.count} of {terms.batches} batches were known after {length_of(terms.deadline)}"
    text = f"{known} ({terms.metric}: {reason})"
    if terms.on_unknown == "rollback":
        return _taken_back(state, watch, "unknown", text)
    return (_ended(watch, "unknown", text),)


def _taken_back(state: ModelState, watch: Watch, outcome: str, reason: str) -> tuple[Draft, ...]:
    """The end of the watch, and the request for the way back where there is one."""
    try:
        request = ask_rollback(state, WATCHER, reason)
    except Refused as refused:
        return (_ended(watch, outcome, f"{reason}; {refused}"),)
    return (_ended(watch, outcome, reason, back=True), request)


def _missed(watch: Watch, reason: str) -> Draft:
    return _about(watch, "watch.missed", reason=reason)


def _about(watch: Watch, kind: str, **data: Any) -> Draft:
    """An entry of the next batch; its key lets no batch count twice."""
    told = {"job_id": watch.job_id, "number": watch.number, "window": watch.window, **data}
    return Draft(kind, told, key=f"watch:{watch.job_id}:{watch.number}")


def _ended(watch: Watch, outcome: str, reason: str, back: bool = False) -> Draft:
    told = {
        "job_id": watch.job_id,
        "outcome": outcome,
        "reason": reason,
        "rollback": back,
        "on_unknown": watch.terms.on_unknown,
    }
    return Draft("watch.ended", told, key=f"watch-ended:{watch.job_id}")
