"""What was recorded of the past: metrics, drift, who served, and what trainings came to."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Any

from ...domain.fold import fold
from ...domain.jobs import RetrainingJob
from ...domain.sealing import load
from ...domain.state import Champion
from ...domain.validation import ValidationResult
from ...ports.ledger import Entry
from ...ports.observations import Look
from ...ports.registry import ModelVersion
from ...ports.scorer import Scores
from ...ports.values import TimeWindow

_BEFORE_ALL = datetime(1, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Sample:
    """One recorded value of a metric.

    Attributes:
        at: When it was taken.
        value: The value; finite.
        rows: Labelled predictions behind it; ``None`` when nobody counted.
        since: Beginning of the window that it is the mean of; ``None`` for the value of a moment.
        last_at: Time of the newest row or point behind it.
    """

    at: datetime
    value: float
    rows: int | None = None
    since: datetime | None = None
    last_at: datetime | None = None


class Samples:
    """Samples of one metric of one model in time order, with sums that make a mean over any window cheap.

    Args:
        samples: In any order; of several at one time the last is kept.
    """

    def __init__(self, samples: Iterable[Sample]) -> None:
        by_time = {sample.at: sample for sample in samples}
        self.all = tuple(by_time[at] for at in sorted(by_time))
        self.times = [sample.at for sample in self.all]
        self.counted = all(sample.rows is not None for sample in self.all)
        weights = [float(sample.rows or 0) if self.counted else 1.0 for sample in self.all]
        values = (weight * sample.value for weight, sample in zip(weights, self.all, strict=True))
        self._weights = [0.0, *accumulate(weights)]
        self._sums = [0.0, *accumulate(values)]

    def within(self, window: TimeWindow) -> tuple[int, int]:
        """Indices of the first sample in a window, and of the first behind it."""
        return bisect_left(self.times, window.start), bisect_left(self.times, window.end)

    def mean(self, first: int, end: int) -> float | None:
        """Mean of some samples, by their rows where these were counted; ``None`` when there are none."""
        weight = self._weights[end] - self._weights[first]
        return (self._sums[end] - self._sums[first]) / weight if weight > 0 else None

    def rows(self, first: int, end: int) -> int | None:
        """Rows behind some samples; ``None`` when nobody counted."""
        return round(self._weights[end] - self._weights[first]) if self.counted else None

    def latest(self, at: datetime) -> Sample | None:
        """The last sample until a time; ``None`` when there is none."""
        found = bisect_right(self.times, at)
        return self.all[found - 1] if found else None


@dataclass(frozen=True, slots=True)
class Drifts:
    """Population stability indices at one time.

    Attributes:
        at: When they were computed.
        psi: By feature; ``None`` where it could not be computed.
    """

    at: datetime
    psi: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Training:
    """A training of the past, and what its candidate was judged by.

    Attributes:
        window: Rows it was trained on.
        holdout: Rows it was judged on.
        parameters: Its configuration.
        version: What it gave; ``None`` when it failed.
        failure: Why it failed; empty when it did not.
        champion: Label of the version it was judged against; ``None`` when there was none.
        scores: Measures of both; ``None`` when they were never taken.
        seconds: How long it took, all attempts together; ``None`` when unknown.
        cost: What it cost; ``None`` when unknown.
    """

    window: TimeWindow
    holdout: TimeWindow
    parameters: Mapping[str, Any]
    version: ModelVersion | None
    failure: str
    champion: str | None
    scores: Scores | None
    seconds: float | None
    cost: float | None


@dataclass
class History:
    """What was recorded of one model.

    Attributes:
        samples: By metric.
        drifts: In time order.
        trainings: In time order.
        reigns: Who served, in time order; one whose beginning is unknown served from the first.
        entries: Its stream.
    """

    samples: dict[str, Samples] = field(default_factory=dict)
    drifts: list[Drifts] = field(default_factory=list)
    trainings: list[Training] = field(default_factory=list)
    reigns: list[Champion] = field(default_factory=list)
    entries: tuple[Entry, ...] = ()

    def served_at(self, at: datetime) -> ModelVersion | None:
        """Who served at a time; ``None`` for nobody."""
        begun = [reign.version for reign in self.reigns if reign.since is None or reign.since <= at]
        return begun[-1] if begun else None

    def strangers(self, version: str, window: TimeWindow, tolerance: timedelta) -> list[str]:
        """Other versions that served in a window for longer than a tolerance."""
        starts = [reign.since or _BEFORE_ALL for reign in self.reigns]
        ends = [*starts[1:], window.end]
        return [
            reign.version.version
            for reign, start, end in zip(self.reigns, starts, ends, strict=False)
            if reign.version.version != version
            and min(end, window.end) - max(start, window.start) > tolerance
        ]

    def drift_at(self, at: datetime) -> Drifts | None:
        """The last drift until a time."""
        found = bisect_right(self.drifts, at, key=lambda drift: drift.at)
        return self.drifts[found - 1] if found else None

    def before(self, at: datetime) -> tuple[Entry, ...]:
        """The stream until a time, without a job that was open then."""
        entries = tuple(entry for entry in self.entries if datetime.fromisoformat(entry.at) < at)
        job = fold("", entries).open_job if entries else None
        if job is None:
            return entries
        key = next(
            entry.seq
            for entry in entries
            if entry.kind == "job.opened" and load(entry.data)["job_id"] == job.job_id
        )
        return entries[: key - 1]

    @property
    def times(self) -> Iterator[datetime]:
        """Every time at which something was recorded."""
        for samples in self.samples.values():
            yield from samples.times
        yield from (drift.at for drift in self.drifts)
        yield from (datetime.fromisoformat(entry.at) for entry in self.entries)


def recorded(model: str, entries: Sequence[Entry], looks: Iterable[Look]) -> History:
    """Read what the ledger and the record of looks hold of a model.

    Args:
        model: Its name.
        entries: Its stream.
        looks: Its rolling record; changed looks that fell out of it are filled in from the stream.
    """
    state = fold(model, entries)
    reigns = [*state.served, *([state.champion] if state.champion else [])]
    trainings = [
        _training(job, _runs(entries, job.job_id))
        for job in state.jobs.values()
        if job.started_at is not None
    ]
    told = {datetime.fromisoformat(e.at): load(e.data) for e in entries if e.kind == "look.changed"}
    seen = sorted((told | {look.at: look.data for look in looks}).items())
    metrics: dict[str, list[Sample]] = {}
    for at, data in seen:
        for metric, sample in _samples(at, data["verdicts"]):
            metrics.setdefault(metric, []).append(sample)
    drifts = [drift for at, data in seen if (drift := _drifts(at, data["verdicts"]))]
    samples = {metric: Samples(some) for metric, some in metrics.items()}
    return History(samples, drifts, trainings, reigns, tuple(entries))


def _samples(at: datetime, verdicts: Mapping[str, Any]) -> Iterator[tuple[str, Sample]]:
    told = verdicts.get("performance", {}).get("evidence", {})
    value = told.get("value")
    if isinstance(value, int | float) and math.isfinite(value) and told.get("from"):
        last = told.get("last_at")
        yield (
            str(told["metric"]),
            Sample(at, float(value), told.get("rows"), _time(told["from"]), _time(last) if last else None),
        )


def _drifts(at: datetime, verdicts: Mapping[str, Any]) -> Drifts | None:
    told = verdicts.get("drift", {}).get("evidence", {})
    columns, blind = told.get("columns", {}), told.get("unknown_columns", {})
    psi = {name: None if name in blind else column.get("psi") for name, column in columns.items()}
    return Drifts(at, psi) if psi else None


def _time(value: Any) -> datetime:
    return value if isinstance(value, datetime) else datetime.fromisoformat(value)


def _runs(entries: Sequence[Entry], job_id: str) -> float | None:
    """Seconds of a job's attempts; ``None`` when nobody knows."""
    ended = [load(entry.data) for entry in entries if entry.kind == "run.ended" and job_id in entry.data]
    seconds = [data["seconds"] for data in ended if data.get("seconds") is not None]
    return sum(seconds) if seconds else None


def _training(job: RetrainingJob, seconds: float | None) -> Training:
    failure = "" if job.candidate else job.error_message or job.outcome or "it did not end"
    return Training(
        job.training_window,
        job.holdout_window,
        job.parameters,
        job.candidate,
        failure,
        job.champion.version if job.champion else None,
        _scores(job.validation) if job.validation else None,
        seconds,
        job.cost,
    )


def _scores(told: ValidationResult) -> Scores:
    return Scores(
        rows=told.rows,
        candidate=told.metrics,
        champion=told.champion_metrics,
        unknown=told.unknown,
        identical=told.identical,
        paired=told.paired,
        unpaired=told.unpaired,
        segments=told.segments,
        untold=told.untold,
    )
