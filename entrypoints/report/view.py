"""What the page shows of each model, in words and pictures, from its stream and looks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ...domain.checks import Guardrail
from ...domain.explain import Moment, timeline
from ...domain.fold import fold
from ...domain.in_short import in_short
from ...domain.jobs import JobStatus, RetrainingJob
from ...domain.promotion import Outcome
from ...domain.sealing import Fault, load, verify
from ...domain.state import ModelState
from ...ports.ledger import Entry
from ...ports.observations import Look
from ...ports.scorer import DIRECTIONS, Scale
from .history import History, Series, history_of
from .plots import Frame, Score, score_plot, time_plot

WIDE, NARROW = 960, 370
"""Widths in which plots over time are drawn; the page shows the one that fits, so that text stays legible."""


@dataclass(frozen=True, slots=True)
class Plot:
    """A signal over time, drawn for two widths of page.

    Attributes:
        series: What is drawn.
        wide: SVG for a desk.
        narrow: SVG for a telephone.
    """

    series: Series
    wide: str
    narrow: str


@dataclass(frozen=True, slots=True)
class JobView:
    """One job.

    Attributes:
        anchor: Its place in the page.
        job: The job.
        badge: What came of it, in a word or two.
        tone: How to colour that: good, bad, wait or plain.
        short: The job in short, by heading.
        story: Its timeline.
        scores: Measures of both versions, empty before validation.
        plot: SVG of the scores; empty when there are none.
        guardrails: What else was looked at, by name, what is broken or unknown first.
    """

    anchor: str
    job: RetrainingJob
    badge: str
    tone: str
    short: Mapping[str, str]
    story: tuple[Moment, ...]
    scores: tuple[Score, ...]
    plot: str
    guardrails: tuple[tuple[str, Guardrail], ...] = ()


@dataclass(frozen=True, slots=True)
class ModelView:
    """One model.

    Attributes:
        anchor: Its place in the page.
        state: What the ledger knows.
        entries: Number of entries in its stream, those after a fault included.
        fault: The first entry that cannot be trusted; ``None`` when all can. What follows it is not shown.
        history: What happened over time.
        plots: Signals that were ever known.
        jobs: Its jobs, newest first.
    """

    anchor: str
    state: ModelState
    entries: int
    fault: Fault | None
    history: History
    plots: tuple[Plot, ...]
    jobs: tuple[JobView, ...]

    @property
    def open_job(self) -> JobView | None:
        """The job that can still move; ``None`` when there is none."""
        return next((view for view in self.jobs if view.job.is_open), None)

    @property
    def last_decided(self) -> JobView | None:
        """The latest job that was decided; ``None`` when none was."""
        return next((view for view in self.jobs if view.job.decision is not None), None)


def view_of(
    model: str, anchor: str, entries: Sequence[Entry], looks: Iterable[Look], now: datetime
) -> ModelView:
    """Gather what the page shows of a model.

    Args:
        model: Its name.
        anchor: Its place in the page; a prefix of every id in its section.
        entries: Its whole stream.
        looks: Its rolling record.
        now: Right end of the plots.

    Returns:
        The view. Entries from the first fault on are counted, not believed.

    Raises:
        Permanent: An entry is of a newer version than this program knows.
    """
    fault = verify(model, entries)
    trusted = entries if fault is None else _before(entries, fault)
    state = fold(model, trusted)
    history = history_of(trusted, looks)
    stories = _stories(trusted)
    jobs = [
        _job_view(job, stories[job.job_id], f"{anchor}-j{number}")
        for number, job in enumerate(state.jobs.values(), start=1)
    ]
    return ModelView(
        anchor=anchor,
        state=state,
        entries=len(entries),
        fault=fault,
        history=history,
        plots=_plots(model, history, anchor, now),
        jobs=tuple(reversed(jobs)),
    )


def _before(entries: Sequence[Entry], fault: Fault) -> Sequence[Entry]:
    first = next(place for place, entry in enumerate(entries) if entry.seq == fault.seq)
    return entries[:first]


def _plots(model: str, history: History, anchor: str, now: datetime) -> tuple[Plot, ...]:
    begin = history.begin
    if begin is None:
        return ()
    begin = min(begin, now - timedelta(hours=1))  # an axis needs a length
    drawn = []
    for name, series in (("p", history.performance), ("d", history.drift)):
        if series is not None:
            label = _described(model, series)
            wide, narrow = (
                time_plot(history, series, Frame(begin, now, width), f"{anchor}-{name}{width}", label)
                for width in (WIDE, NARROW)
            )
            drawn.append(Plot(series, wide, narrow))
    return tuple(drawn)


def _described(model: str, series: Series) -> str:
    """The plot in one sentence, for those who do not see it."""
    values = [sample.value for sample in series.known if sample.value is not None]
    last = series.known[-1]
    what = "largest PSI of any feature" if series.name == "PSI" else series.name
    bound = "" if series.threshold is None else f", threshold {series.threshold:g}"
    return (
        f"{what} of {model} over time: {min(values):.4g} to {max(values):.4g}, "
        f"{values[-1]:.4g} on {last.at:%Y-%m-%d %H:%M} UTC{bound}"
    )


def _stories(entries: Sequence[Entry]) -> dict[str, tuple[Moment, ...]]:
    """The timeline of every job, each told from the few entries that can concern it."""
    about: dict[str, dict[int, Entry]] = {}
    rollbacks: dict[int, Entry] = {}
    before: Entry | None = None
    for entry in entries:
        job_id = load(entry.data).get("job_id")
        if job_id is not None:
            own = about.setdefault(job_id, {})
            if entry.kind == "job.opened" and before is not None:
                own[before.seq] = before  # the look that led to it
            own[entry.seq] = entry
        elif entry.kind == "rollback.done":
            rollbacks[entry.seq] = entry
        before = entry
    return {
        job_id: timeline([entry for _, entry in sorted((own | rollbacks).items())], job_id)
        for job_id, own in about.items()
    }


def _job_view(job: RetrainingJob, story: tuple[Moment, ...], anchor: str) -> JobView:
    badge, tone = _outcome(job)
    scores = _scores(job)
    drawn = any(score.values for score in scores)
    label = f"Scores on the holdout of job {job.job_id}: " + "; ".join(_score_text(score) for score in scores)
    plot = score_plot(scores, f"{anchor}-s", label) if drawn else ""
    return JobView(anchor, job, badge, tone, in_short(job), story, scores, plot, _guardrails(job))


def _guardrails(job: RetrainingJob) -> tuple[tuple[str, Guardrail], ...]:
    """Those that keep back, then those that are kept, then those without a limit."""
    found = job.validation.guardrails if job.validation else {}
    return tuple(sorted(found.items(), key=lambda each: (not each[1].keeps_back, not each[1].limit)))


def _outcome(job: RetrainingJob) -> tuple[str, str]:
    if job.rolled_back_at is not None:
        return "promoted, then rolled back", "bad"
    if job.deployed:
        return "promoted", "good"
    if job.is_open:
        return ("waits for a person" if job.awaiting_until else _going(job)), "wait"
    if job.status is not JobStatus.COMPLETED:
        return job.status.value, "bad" if job.status is JobStatus.FAILED else "plain"
    if job.decision is None:
        return "not promoted", "plain"
    if job.canary is not None:
        return "canary aborted", "bad"
    return {Outcome.REJECT: "rejected"}.get(job.decision.outcome, "inconclusive"), "bad"


def _going(job: RetrainingJob) -> str:
    canary = job.canary
    if canary is None:
        return job.status.value
    return f"canary, step {canary.number + 1} of {len(canary.plan.steps)}"


def _scores(job: RetrainingJob) -> tuple[Score, ...]:
    result = job.validation
    if result is None:
        return ()
    floor, required, between = result.verdict.evidence, _required(job), _between(job)
    champion = result.champion_metrics or {}
    return tuple(
        Score(
            name=name,
            candidate=value,
            champion=champion.get(name),
            floor=floor.get("floor") if floor.get("measure") == name else None,
            required=required.get(name),
            between=between.get(name),
        )
        for name, value in result.metrics.items()
    )


def _required(job: RetrainingJob) -> Mapping[str, float]:
    """The value that the promotion rule asked of the compared measure; empty when it asked for none."""
    numbers = job.decision.numbers if job.decision else {}
    least, champion, metric = (numbers.get(key) for key in ("min_improvement", "champion", "metric"))
    if "bar" in numbers:
        least = numbers["bar"]
    if least is None or champion is None or metric is None:
        return {}
    return {metric: _value_at(least, numbers.get("scale", "relative"), champion, numbers)}


def _between(job: RetrainingJob) -> Mapping[str, tuple[float, float]]:
    """Bounds of the candidate's value of the compared measure; empty when none were told."""
    numbers = job.decision.numbers if job.decision else {}
    if "low" not in numbers:
        return {}
    metric, champion, scale = numbers["metric"], numbers["champion"], numbers["scale"]
    low, high = (_value_at(numbers[side], scale, champion, numbers) for side in ("low", "high"))
    end = 1.0 if DIRECTIONS.get(metric) == "up" else math.inf  # an interval knows no end of its measure
    return {metric: (min(low, high, end), min(max(low, high), end))}


def _value_at(effect: float, scale: Scale, champion: float, numbers: Mapping[str, Any]) -> float:
    """The value of a measure that differs by an effect from the champion's."""
    up, best = _is_up(numbers), numbers.get("best")
    perfect: float = (1.0 if up else 0.0) if best is None else best
    base = {"absolute": 1.0, "relative": abs(champion), "error-reduction": abs(perfect - champion)}
    return champion + base[scale] * effect if up else champion - base[scale] * effect


def _is_up(numbers: Mapping[str, Any]) -> bool:
    """Whether more is better; a decision about a user's own measure says so itself."""
    direction = numbers.get("direction") or DIRECTIONS.get(numbers["metric"], "up")
    return bool(direction == "up")


def _score_text(score: Score) -> str:
    parts = (
        ("candidate", score.candidate),
        ("champion", score.champion),
        ("floor", score.floor),
        ("asked for", score.required),
        ("at least", score.between and score.between[0]),
        ("at most", score.between and score.between[1]),
    )
    told = ", ".join(f"{name} {value:.4f}" for name, value in parts if value is not None)
    return f"{score.name} {told or 'unknown'}"
