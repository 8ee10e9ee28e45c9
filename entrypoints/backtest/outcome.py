"""What became of a fleet in a replay, counted from its ledger and measured with one yardstick."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import fmean
from typing import TYPE_CHECKING, Literal

from ...domain.jobs import JobStatus, RetrainingJob
from ...domain.promotion import Outcome as Decided
from ...domain.spec import ModelSpec
from ...domain.state import ModelState
from ...domain.triggers import PerformanceRule
from ...ports.metrics import MetricQuery, MetricSource
from ...ports.registry import ModelVersion
from ...ports.values import TimeWindow
from .tape import Looks, Tape

if TYPE_CHECKING:
    from .replay import Sources

Result = Literal["promoted", "rejected", "inconclusive", "waited", "failed", "unknown"]
RESULTS: tuple[Result, ...] = ("promoted", "rejected", "inconclusive", "waited", "failed", "unknown")
"""What becomes of a job: ``waited`` is for a person, whom no replay has; ``unknown`` is not recorded."""


@dataclass(frozen=True, slots=True)
class Yardstick:
    """How what became of models is measured, the same for every policy that is compared.

    Attributes:
        every: The metric is taken over spans of this length, of the version that served as each began.
        thresholds: The worst acceptable value by model.
        regret: A promotion is regretted when the version it replaced would have been better over so long.
        price: What an hour of training costs, where no cost is recorded; ``None`` when nobody said.
    """

    every: timedelta
    thresholds: Mapping[str, float]
    regret: timedelta = timedelta(days=60)
    price: float | None = None


@dataclass(frozen=True, slots=True)
class Point:
    """The metric over one span.

    Attributes:
        window: The span.
        value: The metric; ``None`` when it is not known.
        version: Which version served as the span began; empty for none.
        below: Whether the value is worse than the threshold; ``None`` when it is not known.
        reason: Why the metric is not known; empty when it is.
    """

    window: TimeWindow
    value: float | None
    version: str
    below: bool | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """What became of one job.

    Attributes:
        job_id: Its identity in the replay.
        at: When it was opened.
        trigger: What proposed it.
        result: How it ended.
        reason: Why, in words.
        trained: Whether a training was started.
        cost: What the training cost; ``None`` when that is not known.
        regretted: Whether the version that it replaced would have been better afterwards; ``None`` when that
            is not known, or nothing was replaced.
    """

    job_id: str
    at: datetime
    trigger: str
    result: Result
    reason: str
    trained: bool
    cost: float | None = None
    regretted: bool | None = None


@dataclass(frozen=True, slots=True)
class ModelOutcome:
    """What became of one model.

    Attributes:
        model: Its name.
        metric: What was measured.
        threshold: The worst acceptable value.
        looks: What the looks said.
        jobs: Its jobs, oldest first.
        points: The metric over the span.
    """

    model: str
    metric: str
    threshold: float
    looks: Looks
    jobs: tuple[JobOutcome, ...]
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a fleet under a policy.

    Attributes:
        policy: Its name.
        models: By model.
        span: What was replayed.
    """

    policy: str
    models: tuple[ModelOutcome, ...]
    span: TimeWindow

    @property
    def jobs(self) -> tuple[JobOutcome, ...]:
        """All jobs."""
        return tuple(job for model in self.models for job in model.jobs)

    @property
    def looks(self) -> int:
        """Looks at idle models."""
        return sum(model.looks.count for model in self.models)

    @property
    def fired(self) -> Mapping[str, int]:
        """How often each trigger said yes."""
        return _sum(model.looks.fired for model in self.models)

    @property
    def held(self) -> Mapping[str, int]:
        """How often a yes started nothing, by reason."""
        return _sum(model.looks.held for model in self.models)

    @property
    def unknown_verdicts(self) -> Mapping[str, int]:
        """How often each trigger could not say."""
        return _sum(model.looks.unknown for model in self.models)

    @property
    def trainings(self) -> int:
        """Jobs whose training was started."""
        return sum(job.trained for job in self.jobs)

    @property
    def results(self) -> Mapping[Result, int]:
        """Jobs by how they ended."""
        counts = Counter(job.result for job in self.jobs)
        return {result: counts[result] for result in RESULTS}

    @property
    def cost(self) -> float | None:
        """What the trainings cost whose cost is known; ``None`` when that is none of them."""
        costs = [job.cost for job in self.jobs if job.cost is not None]
        return sum(costs) if costs else None

    @property
    def unpriced(self) -> int:
        """Trainings whose cost is not known."""
        return sum(job.trained and job.cost is None for job in self.jobs)

    @property
    def regrets(self) -> int:
        """Promotions that are known to have made it worse."""
        return sum(job.regretted is True for job in self.jobs)

    @property
    def below(self) -> timedelta:
        """Time in which the metric is known to be worse than the threshold, over all models."""
        return self._time(lambda point: point.below is True)

    @property
    def not_known(self) -> timedelta:
        """Time in which the metric is not known, over all models."""
        return self._time(lambda point: point.value is None)

    @property
    def mean(self) -> float | None:
        """Mean of the metric over all spans in which it is known; ``None`` when it never is."""
        values = [point.value for model in self.models for point in model.points if point.value is not None]
        return fmean(values) if values else None

    def _time(self, chosen: Callable[[Point], bool]) -> timedelta:
        points = (point for model in self.models for point in model.points)
        return sum((point.window.length for point in points if chosen(point)), timedelta())


def _sum(counts: Iterable[Mapping[str, int]]) -> Mapping[str, int]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return dict(sorted(total.items()))


def outcome_of(
    policy: str,
    fleet: Mapping[str, ModelSpec],
    states: Mapping[str, ModelState],
    sources: Sources,
    tape: Tape,
    span: TimeWindow,
    yardstick: Yardstick,
) -> Outcome:
    """Count and measure what a replay has left.

    Args:
        policy: Name of the policy.
        fleet: Its settings.
        states: What the replay's ledger knows, with all jobs.
        sources: The past, which is asked for the metric once more.
        tape: The looks.
        span: What was replayed.
        yardstick: How it is measured.
    """
    models = [
        ModelOutcome(
            name,
            spec.metric,
            yardstick.thresholds[name],
            tape.looks[name],
            tuple(_jobs(spec, states[name], sources, span, yardstick)),
            tuple(_points(spec, states[name], sources.measured or sources.metrics, span, yardstick)),
        )
        for name, spec in fleet.items()
    ]
    return Outcome(policy, tuple(models), span)


def _points(
    spec: ModelSpec, state: ModelState, metrics: MetricSource, span: TimeWindow, yardstick: Yardstick
) -> Iterator[Point]:
    windows = list(_windows(span, yardstick.every))
    serving = [_champion_at(state, window.start) for window in windows]
    queries = [
        MetricQuery(spec.name, spec.metric, window, champion)
        for window, champion in zip(windows, serving, strict=True)
    ]
    threshold = yardstick.thresholds[spec.name]
    for query, answer in zip(queries, metrics.read(queries), strict=True):
        value = answer.value if query.champion is not None else None
        below = None if value is None else _is_worse(spec, value, threshold)
        reason = answer.reason if query.champion is not None else "nobody served"
        yield Point(query.window, value, query.champion.version if query.champion else "", below, reason)


def _windows(span: TimeWindow, every: timedelta) -> Iterator[TimeWindow]:
    start = span.start
    while start < span.end:
        yield TimeWindow(start, min(start + every, span.end))
        start += every


def _champion_at(state: ModelState, at: datetime) -> ModelVersion | None:
    """Who served; a version whose beginning is unknown served from the first."""
    reigns = [*state.served, *([state.champion] if state.champion else [])]
    begun = [reign.version for reign in reigns if reign.since is None or reign.since <= at]
    return begun[-1] if begun else None


def _is_worse(spec: ModelSpec, value: float, than: float) -> bool:
    rule = spec.rules()["performance"]
    assert isinstance(rule, PerformanceRule)  # noqa: S101  (it is built so)
    return value < than if rule.direction == "up" else value > than


def _jobs(
    spec: ModelSpec, state: ModelState, sources: Sources, span: TimeWindow, yardstick: Yardstick
) -> Iterator[JobOutcome]:
    for job in state.jobs.values():
        if job.created_at < span.start:
            continue  # of the past before it
        unknown = sources.unknown.get(job.job_id, "")
        yield JobOutcome(
            job.job_id,
            job.created_at,
            job.trigger_type.value,
            _result(job, unknown),
            unknown or (job.decision.reason if job.decision else "") or job.outcome or job.reason,
            job.started_at is not None,
            _cost(job, sources, yardstick),
            _regretted(spec, job, sources.measured or sources.metrics, span, yardstick),
        )


def _result(job: RetrainingJob, unknown: str) -> Result:
    if job.deployed:
        return "promoted"
    if job.decision is not None and job.decision.outcome is Decided.REJECT:
        return "rejected"  # as below the floor, which is known of the candidate alone
    if unknown:
        return "unknown"
    if job.decision is not None and job.status is JobStatus.COMPLETED:
        return "inconclusive"
    return "failed" if job.status is JobStatus.FAILED else "waited"


def _cost(job: RetrainingJob, sources: Sources, yardstick: Yardstick) -> float | None:
    seconds = sources.seconds.get(job.job_id)
    if job.cost is not None or seconds is None or yardstick.price is None:
        return job.cost
    return seconds / 3600 * yardstick.price


def _regretted(
    spec: ModelSpec, job: RetrainingJob, metrics: MetricSource, span: TimeWindow, yardstick: Yardstick
) -> bool | None:
    """Whether the replaced version would have been better over the time after a promotion."""
    if not job.deployed or job.deployed_at is None or job.champion is None or job.candidate is None:
        return None
    window = TimeWindow(job.deployed_at, min(job.deployed_at + yardstick.regret, span.end))
    if not window.length:
        return None
    versions = (job.candidate, job.champion)
    new, old = (
        answer.value
        for answer in metrics.read([MetricQuery(spec.name, spec.metric, window, each) for each in versions])
    )
    return None if new is None or old is None else _is_worse(spec, new, old)
