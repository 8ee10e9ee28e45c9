"""Metrics of models from Amazon CloudWatch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ..ports.errors import Permanent, Temporary
from ..ports.metrics import MetricQuery, MetricWindow
from .cloudwatch_client import MOST_POINTS, MOST_SERIES, CloudWatch, Deadline, Points, Series
from .cloudwatch_errors import QueryRefused, UnusableAnswer
from .window_means import counted_mean, plain_mean

_KEPT = timedelta(days=455)
"""CloudWatch forgets what is older."""

_GRAINS = ((timedelta(days=63), 3600), (timedelta(days=15), 300))
"""By age of the start of a window: of what its period, in seconds, must be a multiple."""

_FINEST = 60

_MARGIN = timedelta(hours=1)
"""Windows near such an age count as older: for too fine a period CloudWatch says nothing at all."""

_LONGEST_NAME = 1024


@dataclass(frozen=True, slots=True)
class CloudWatchQuery:
    """How one metric is asked for.

    Attributes:
        metric: Name of the metric in CloudWatch.
        statistic: What is made of the samples of a period: ``Average``, ``Minimum``, ``p90`` …
        count_metric: Metric that says how many labelled predictions are behind a point, with the same
            dimensions. Points are then weighted by it. ``None`` takes ``metric`` itself where
            ``count_statistic`` is set.
        count_statistic: Statistic of that number; ``None`` takes ``Sum`` where ``count_metric`` is set.
            ``None`` for both weights all points alike.
    """

    metric: str
    statistic: str = "Average"
    count_metric: str | None = None
    count_statistic: str | None = None

    @property
    def count(self) -> tuple[str, str] | None:
        """Metric and statistic of the number of predictions; ``None`` when there is none."""
        if self.count_metric is None and self.count_statistic is None:
            return None
        return self.count_metric or self.metric, self.count_statistic or "Sum"


class CloudWatchMetrics:
    """Means over windows, from ``GetMetricData``.

    A point is the statistic of one period, and its time the start of that period. Only periods that lie
    wholly within a window count, so that nothing of a champion before reaches the mean of the one that
    serves: the start of a window is rounded up to the next period and its end down. CloudWatch keeps periods
    of 60 s for 15 days, of 300 s for 63, of an hour for 455; the period of an older window is raised to that.
    A window that begins earlier is unknown, since CloudWatch would answer with its end only.

    Many models share one call: those of one metric and period, as long as there are at most 500 series and
    100,800 points; further pages are fetched. The answer for a model is complete or unknown: partial data,
    an internal error, a message of CloudWatch's or a series that is missing in the answer are reasons.

    A busy CloudWatch is asked again after 0.5, 1 and 2 seconds, or when it says, as long as there is time.

    Args:
        namespace: Namespace of the metrics.
        queries: How each metric is asked for, by its name.
        region: Region of AWS; ``None`` takes that of the environment or of the profile.
        endpoint_url: Address to ask instead of the public one, as of a VPC endpoint.
        model_dimension: Dimension that holds the model's name.
        dimensions: Further dimensions, the same for all models. CloudWatch takes a metric with other
            dimensions, also with fewer, for another metric.
        period_seconds: Seconds that a point stands for; a multiple of 60.
        timeout: Seconds for one reading, all its calls, pages and pauses together.
        clock: The time of day, which decides how old a window is.
        sleep: Waits for so many seconds.
        monotonic: Stopwatch in seconds.

    Raises:
        ValueError: A number or the address cannot be used.
    """

    def __init__(
        self,
        namespace: str,
        queries: Mapping[str, CloudWatchQuery],
        *,
        region: str | None = None,
        endpoint_url: str | None = None,
        model_dimension: str = "model",
        dimensions: Mapping[str, str] | None = None,
        period_seconds: int = 300,
        timeout: float = 30,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        if period_seconds <= 0 or period_seconds % _FINEST:
            raise ValueError("period_seconds must be a multiple of 60")
        if not timeout > 0:
            raise ValueError("timeout must be above 0")
        self._cloudwatch = CloudWatch(
            namespace, region=region, endpoint_url=endpoint_url, sleep=sleep, monotonic=monotonic
        )
        self._queries = dict(queries)
        self._model_dimension = model_dimension
        self._dimensions = dict(dimensions or {})
        self._period = period_seconds
        self._timeout = timeout
        self._clock = clock

    def read(self, queries: Sequence[MetricQuery]) -> Sequence[MetricWindow]:
        """Answer every query; see ``MetricSource.read``.

        What CloudWatch does not take of one metric is the reason of its windows alone. After any other
        failure nothing more is asked, and what has been answered by then is kept.

        Raises:
            Temporary: No call was answered, and the first failure may pass.
            Permanent: No call was answered, and the first failure will stay.
        """
        now = self._clock()
        looked_at = {query: self._span(query, now) for query in queries}
        windows = {query: _unknown(query, why) for query, why in looked_at.items() if isinstance(why, str)}
        spans = {query: span for query, span in looked_at.items() if isinstance(span, _Span)}
        failures: list[Temporary | Permanent] = []
        answered = False
        deadline = self._cloudwatch.deadline(self._timeout)
        for batch in self._batches(spans):
            try:
                windows |= self._answer(batch, deadline)
                answered = True
            except QueryRefused as refused:
                failures.append(refused)
                windows |= {query: _unknown(query, str(refused)) for query in batch.spans}
            except (Temporary, Permanent) as failure:
                failures.append(failure)
                break
        if failures and not answered:
            raise failures[0]
        return [windows.get(query) or _unknown(query, str(failures[-1])) for query in queries]

    def _span(self, query: MetricQuery, now: datetime) -> _Span | str:
        """The periods of a window, or why it cannot be asked for."""
        if query.metric not in self._queries:
            known = ", ".join(sorted(self._queries)) or "none"
            return f"no CloudWatch query is set for the metric {query.metric!r} (set: {known})"
        if not _can_be_a_dimension(query.model):
            return "the name of the model cannot be a dimension's value: that takes ASCII, and no colon first"
        age = now - query.window.start
        if age > _KEPT:
            return f"the window begins {age.days} days ago, and CloudWatch keeps {_KEPT.days}"
        span = _Span.within(query, _period(self._period, age))
        if span.start >= span.end:
            return f"the window holds no whole period of {span.period} s"
        return span

    def _batches(self, spans: Mapping[MetricQuery, _Span]) -> Iterator[_Batch]:
        alike: dict[tuple[str, int], dict[MetricQuery, _Span]] = {}
        for query, span in spans.items():
            alike.setdefault((query.metric, span.period), {})[query] = span
        for (metric, _), members in alike.items():
            yield from _filled(self._queries[metric], members)

    def _answer(self, batch: _Batch, deadline: Deadline) -> dict[MetricQuery, MetricWindow]:
        models = batch.models
        asked = [self._series(model, *which) for model in models for which in batch.asked]
        start, end = (datetime.fromtimestamp(at, UTC) for at in (batch.whole.start, batch.whole.end))
        try:
            found = self._cloudwatch.read(asked, start, end, batch.whole.period, deadline)
        except UnusableAnswer as trouble:
            return {query: _unknown(query, str(trouble)) for query in batch.spans}
        each = len(batch.asked)
        by_model = {model: found[n * each : (n + 1) * each] for n, model in enumerate(models)}
        return {query: _window(query, span, *by_model[query.model]) for query, span in batch.spans.items()}

    def _series(self, model: str, metric: str, statistic: str) -> Series:
        return Series(metric, statistic, {self._model_dimension: model, **self._dimensions})


@dataclass(frozen=True, slots=True)
class _Span:
    """Whole periods: seconds since the epoch, multiples of the period; the end is not part of it."""

    start: int
    end: int
    period: int

    @classmethod
    def within(cls, query: MetricQuery, period: int) -> _Span:
        """The periods that lie wholly within a window."""
        first = math.ceil(query.window.start.timestamp() / period)
        return cls(first * period, math.floor(query.window.end.timestamp() / period) * period, period)

    def joined(self, other: _Span) -> _Span:
        """From the earlier start to the later end."""
        return _Span(min(self.start, other.start), max(self.end, other.end), self.period)

    @property
    def points(self) -> int:
        return (self.end - self.start) // self.period


@dataclass(frozen=True, slots=True)
class _Batch:
    """Windows that are asked for in one call, all of one metric and period."""

    query: CloudWatchQuery
    spans: Mapping[MetricQuery, _Span]
    whole: _Span

    @property
    def models(self) -> list[str]:
        return list(dict.fromkeys(query.model for query in self.spans))

    @property
    def asked(self) -> list[tuple[str, str]]:
        """Metric and statistic of what is read of each model."""
        value = (self.query.metric, self.query.statistic)
        return [value, self.query.count] if self.query.count else [value]


def _filled(query: CloudWatchQuery, members: Mapping[MetricQuery, _Span]) -> Iterator[_Batch]:
    """As few calls as hold them, with windows of like starts together: a call has one start for all."""
    each = 2 if query.count else 1
    chosen: dict[MetricQuery, _Span] = {}
    models: set[str] = set()
    whole: _Span | None = None
    for member, span in sorted(members.items(), key=lambda item: (item[1].start, item[0].model)):
        wider = whole.joined(span) if whole else span
        series = each * len(models | {member.model})
        if whole and (series > MOST_SERIES or series * wider.points > MOST_POINTS):
            yield _Batch(query, chosen, whole)
            chosen, models, wider = {}, set(), span
        chosen[member], whole = span, wider
        models.add(member.model)
    if whole:
        yield _Batch(query, chosen, whole)


def _window(
    query: MetricQuery, span: _Span, values: Points | str, counts: Points | str | None = None
) -> MetricWindow:
    if isinstance(values, str):
        return _unknown(query, values)
    points = sorted((at, value) for at, value in values.items() if span.start <= at <= span.end - span.period)
    if not points:
        return _unknown(query, "CloudWatch has no sample in the window", empty=True)
    if counts is None:
        return plain_mean(query, points)
    if isinstance(counts, str):
        return _unknown(query, f"count of labelled predictions: {counts}")
    if not counts:
        return _unknown(query, "count of labelled predictions: CloudWatch has none for this model")
    return counted_mean(query, points, counts)


def _period(wanted: int, age: timedelta) -> int:
    """The shortest period that is kept at this age, and not below the one that is wanted; in seconds."""
    grain = next((grain for limit, grain in _GRAINS if age > limit - _MARGIN), _FINEST)
    return math.ceil(wanted / grain) * grain


def _can_be_a_dimension(model: str) -> bool:
    printable = model.isascii() and model.isprintable() and bool(model.strip())
    return printable and len(model) <= _LONGEST_NAME and not model.startswith(":")


def _unknown(query: MetricQuery, reason: str, *, empty: bool = False) -> MetricWindow:
    return MetricWindow(query, None, reason, empty=empty)
