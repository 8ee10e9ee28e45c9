"""Ports that answer from records, and say when these cannot tell."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from ...domain.guardrail_spec import GuardrailSpec
from ...domain.sealing import canonical
from ...domain.spec import ModelSpec
from ...ports.compute import RunRequest, RunState, RunStatus
from ...ports.data import Snapshot, SnapshotRequest
from ...ports.drift import ColumnDrift, DriftReport
from ...ports.errors import ChampionMoved, Permanent
from ...ports.inspector import Answered, Inspection, InspectionTask
from ...ports.metrics import MetricQuery, MetricWindow
from ...ports.predictor import Predictions
from ...ports.registry import ModelVersion
from ...ports.scorer import DIRECTIONS, Scores, ScoringTask
from ...ports.tracking import TrainingContext
from ...ports.values import TimeWindow
from .records import History, Sample, Training
from .replay import Sources

_ENOUGH = 10**9
"""Rows of a window, for all that anybody recorded: that they are not known is said where it matters."""

_NEAR = timedelta(days=1)
"""A look, or who served, this long before or after is taken for that of the moment."""

NOBODY_KNOWS = "?"
"""Label of the champion of a model whose ledger was not kept."""


@dataclass
class Records:
    """The past of a fleet, from records alone.

    Attributes:
        histories: By model.
        recorded_by: The settings under which it was recorded.
        tolerance: How far apart the rows of a recorded and of a replayed training may begin or end, and still
            be taken for the same.
    """

    histories: Mapping[str, History]
    recorded_by: Mapping[str, ModelSpec]
    tolerance: timedelta = timedelta(days=1)

    def sources(self, fleet: Mapping[str, ModelSpec], span: TimeWindow) -> Sources:
        """The past as one policy meets it, from a time on."""
        streams = {model: self.histories[model].before(span.start) for model in fleet}
        guarded = {model for model, spec in fleet.items() if spec.promotion.guardrails != GuardrailSpec()}
        trainings = _Trainings(self, {model: self._first(model, span) for model in fleet}, guarded)
        return Sources(
            metrics=_Metrics(self),
            drift=_Drift(self, fleet, trainings),
            data=trainings,
            compute=trainings,
            registry=trainings,
            tracker=trainings,
            predictor=trainings,
            scorer=trainings,
            inspector=trainings,
            unknown=trainings.unknown,
            seconds=trainings.seconds,
            streams={model: entries for model, entries in streams.items() if entries},
            measured=_Measured(self),
            changes=_Changes(self),
        )

    def _first(self, model: str, span: TimeWindow) -> ModelVersion | None:
        """Who served at the beginning; whoever was found there, where the ledger begins later."""
        reigns = self.histories[model].reigns
        if not reigns and not self.histories[model].entries:
            label = NOBODY_KNOWS
            return ModelVersion(model, label, sha256(model.encode()).hexdigest(), f"recorded:{model}")
        found = self.histories[model].served_at(span.start)
        adopted = reigns[0].version if reigns and reigns[0].job_id is None else None
        return found or adopted


class _Changes:
    """When what is observed may change: something is recorded, leaves a window, or is too old."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._times: dict[str, list[datetime]] = {}

    def __call__(self, spec: ModelSpec, now: datetime) -> datetime:
        """The first such time after a time."""
        if spec.name not in self._times:
            self._times[spec.name] = sorted(self._all(spec))
        times = self._times[spec.name]
        found = bisect_right(times, now)
        return times[found] if found < len(times) else datetime.max.replace(tzinfo=UTC)

    def _all(self, spec: ModelSpec) -> set[datetime]:
        history = self._records.histories[spec.name]
        window = timedelta(days=spec.trigger.evaluation_window_days)
        stale = timedelta(hours=spec.stale_after_hours)
        samples = history.samples.get(spec.metric)
        times = {
            at + later
            for sample in (samples.all if samples else ())
            for at in {sample.at, sample.last_at or sample.at}
            for later in (timedelta(), window, stale, _NEAR)
        }
        times |= {drift.at + later for drift in history.drifts for later in (timedelta(), _NEAR)}
        times |= {
            reign.since + later
            for reign in history.reigns
            if reign.since is not None
            for later in (timedelta(), _NEAR, window - _NEAR, window, window + _NEAR)
        }
        # A window does not hold what lies at its very end.
        return {at + moment for at in times for moment in (timedelta(), timedelta(microseconds=1))}


class _Metrics:
    """Implements MetricSource: what was measured, as long as the version asked about served."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def read(self, queries: Sequence[MetricQuery]) -> Sequence[MetricWindow]:
        """Answer every query."""
        return [self._answer(query) for query in queries]

    def _answer(self, query: MetricQuery) -> MetricWindow:
        history = self._records.histories[query.model]
        stranger = self._of_another(query, query.window)
        samples = history.samples.get(query.metric)
        if stranger or samples is None:
            reason = stranger or f"{query.metric} is not recorded"
            return MetricWindow(query, None, reason, empty=samples is None)
        latest = samples.latest(query.window.end)
        if latest is not None and latest.since is not None:
            return self._looked(query, latest)
        first, end = samples.within(query.window)
        value = samples.mean(first, end)
        if value is None:
            return MetricWindow(query, None, "no samples are recorded in the window", empty=first == end)
        last = samples.all[end - 1].at
        return MetricWindow(query, value, points=end - first, rows=samples.rows(first, end), last_at=last)

    def _looked(self, query: MetricQuery, sample: Sample) -> MetricWindow:
        """The answer that a look got, where it asked about the same window."""
        assert sample.since is not None  # noqa: S101  (the caller chose it)
        if query.window.end - sample.at > _NEAR:
            return MetricWindow(
                query, None, f"nobody looked since {sample.at:%Y-%m-%d %H:%M} UTC", empty=True
            )
        length = sample.at - sample.since
        if abs(sample.since - query.window.start) > _NEAR + (query.window.end - sample.at):
            days = length / timedelta(days=1)
            return MetricWindow(
                query, None, f"it is recorded over {days:.1f} days, and asked for over others"
            )
        return MetricWindow(
            query, sample.value, points=1, rows=sample.rows, last_at=sample.last_at or sample.at
        )

    def _of_another(self, query: MetricQuery, window: TimeWindow) -> str:
        """Why what was measured is not of the champion asked about; empty when it is."""
        version = query.champion.version if query.champion else ""
        history = self._records.histories[query.model]
        strangers = history.strangers(version, window, _NEAR)
        if not strangers:
            return ""
        return f"version {version} did not serve then: what was measured is of version {strangers[0]}"


class _Measured(_Metrics):
    """Implements MetricSource for the yardstick: the mean of all that was taken in a span."""

    def _answer(self, query: MetricQuery) -> MetricWindow:
        samples = self._records.histories[query.model].samples.get(query.metric)
        if samples is None:
            return MetricWindow(query, None, f"{query.metric} is not recorded", empty=True)
        first, end = samples.within(query.window)
        taken = samples.all[first:end]
        begun = min((sample.since or query.window.start for sample in taken), default=query.window.start)
        stranger = self._of_another(query, TimeWindow(min(begun, query.window.start), query.window.end))
        value = None if stranger else samples.mean(first, end)
        return MetricWindow(query, value, stranger or ("" if taken else "no samples"), points=len(taken))


class _Drift:
    """Implements DriftDetector."""

    def __init__(self, records: Records, fleet: Mapping[str, ModelSpec], trainings: _Trainings) -> None:
        self._records = records
        self._fleet = fleet
        self._trainings = trainings

    def compare(self, reference: Snapshot, current: Snapshot) -> DriftReport:
        """Answer with what was found for the same champion at that time."""
        model, at = current.model, current.window.end
        history = self._records.histories[model]
        serving, served = self._trainings.champions([model]).get(model), history.served_at(at)
        if serving is not None and served is not None and serving.version != served.version:
            raise Permanent(
                f"version {serving.version} did not serve then: drift is that of version {served.version}"
            )
        asked = self._fleet[model].trigger.evaluation_window_days
        told = self._records.recorded_by[model].trigger.evaluation_window_days
        if asked != told:
            raise Permanent(f"drift is recorded over {told} days, and asked for over {asked}")
        found = history.drift_at(at)
        if found is None or at - found.at > _NEAR:
            raise Permanent("no drift is recorded")
        columns = (_column(name, psi) for name, psi in found.psi.items())
        return DriftReport(tuple(columns))


def _column(name: str, psi: float | None) -> ColumnDrift:
    reason = "it could not be computed" if psi is None else ""
    return ColumnDrift(name, "numeric", psi, None, _ENOUGH, _ENOUGH, reason)


@dataclass
class _Trainings:
    """Implements all that a job needs, for one replay: trainings of the past, where there was one like it."""

    records: Records
    serving: dict[str, ModelVersion | None]
    guarded: Set[str]  # models with limits on more than their scores
    unknown: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    _matched: dict[str, Training | None] = field(default_factory=dict)  # by job
    _labels: dict[str, tuple[ModelVersion, TimeWindow]] = field(default_factory=dict)  # by predictions
    _runs: dict[str, str] = field(default_factory=dict)  # job by key of its run

    # DataSource

    def snapshot(self, request: SnapshotRequest) -> Snapshot:
        """Name the rows of a window; nobody has them."""
        told = repr((request.model, request.window, request.labelled))
        return Snapshot(
            model=request.model,
            window=request.window,
            uri=f"recorded:{request.model}",
            rows=_ENOUGH,
            sha256=sha256(told.encode()).hexdigest(),
            features=(),
            label="label" if request.labelled else None,
            time="at",
            first_at=request.window.start,
            last_at=request.window.end - timedelta(microseconds=1),  # no row lies at the end itself
        )

    # ExperimentTracker

    def open_run(self, context: TrainingContext) -> Mapping[str, str]:
        """Find the training of the past that is nearest to the one that is asked for."""
        self._matched[context.job_id] = self._nearest(context)
        return {}

    def _nearest(self, context: TrainingContext) -> Training | None:
        asked, tolerance = context.data.window, self.records.tolerance
        alike = [
            training
            for training in self.records.histories[context.model].trainings
            if abs(training.window.end - asked.end) <= tolerance
            and abs(training.window.length - asked.length) <= tolerance
            and canonical(training.parameters) == canonical(context.parameters)
        ]
        return min(alike, key=lambda training: abs(training.window.end - asked.end), default=None)

    def annotate(self, version: ModelVersion, metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
        """Versions of the past are left as they are."""

    # Compute

    def submit(self, run: RunRequest) -> None:
        """Remember whose run it is."""
        self._runs[run.key] = run.labels["job"]

    def observe(self, key: str) -> RunStatus:
        """Say how the training of the past ended; one that there was not has failed, for all we know."""
        job_id = self._runs.get(key)
        if job_id is None:
            return RunStatus(RunState.ABSENT)
        training = self._matched[job_id]
        if training is None:
            self.unknown[job_id] = "no training on these rows, with these parameters, is recorded"
            return RunStatus(RunState.FAILED, self.unknown[job_id])
        if training.seconds is not None:
            self.seconds[job_id] = training.seconds
        state = RunState.SUCCEEDED if training.version else RunState.FAILED
        return RunStatus(state, training.failure, seconds=training.seconds, cost=training.cost)

    def cancel(self, key: str) -> None:
        """Nothing runs that could be cancelled."""

    def log_tail(self, key: str, lines: int = 50) -> str:
        """What was printed is not looked up."""
        return ""

    # ModelRegistry

    def champions(self, models: Sequence[str]) -> Mapping[str, ModelVersion]:
        """Say which version of each model serves in this replay."""
        return {name: version for name in models if (version := self.serving.get(name)) is not None}

    def candidate(self, model: str, job_id: str) -> ModelVersion | None:
        """The version that the training of the past gave."""
        training = self._matched.get(job_id)
        return replace(training.version, job_id=job_id) if training and training.version else None

    def set_champion(self, version: ModelVersion, expected: str | None) -> None:
        """Let a version serve in this replay."""
        serving = self.serving.get(version.model)
        found = serving.version if serving else None
        if found not in (expected, version.version):
            raise ChampionMoved(version.model, expected, found)
        self.serving[version.model] = version

    # Predictor and Scorer

    def predict(self, version: ModelVersion, snapshot: Snapshot) -> Predictions:
        """Name the predictions of a version; nobody has them."""
        digest = sha256(f"{version.model}/{version.version}/{snapshot.sha256}".encode()).hexdigest()
        self._labels[digest] = (version, snapshot.window)
        return Predictions(f"recorded:{version.version}", digest, snapshot.rows)

    def score(
        self,
        task: ScoringTask,
        snapshot: Snapshot,
        candidate: Predictions,
        champion: Predictions | None = None,
    ) -> Scores:
        """Give the scores of the past, as far as they are of the same versions and rows."""
        version, window = self._labels[candidate.sha256]
        against = self._labels[champion.sha256][0].version if champion else None
        job_id = version.job_id or ""
        training = self._matched[job_id]
        assert training is not None  # noqa: S101  (it gave the candidate)
        scores, why = _scores_of(training, window, self.records.tolerance)
        if not why:
            scores, why = _against(training, scores, version.version, against, task)
        if why:
            self.unknown[job_id] = why
        return scores

    # Inspector

    def inspect(
        self,
        task: InspectionTask,
        training: Snapshot,
        holdout: Snapshot,
        candidate: Predictions,
        champion: Predictions | None = None,
    ) -> Inspection:
        """Find nothing: nobody has these rows and predictions. Where limits depend on them, say so."""
        version, _ = self._labels[candidate.sha256]
        if version.model in self.guarded:
            self.unknown[version.job_id or ""] = "what its guardrails have to look at is not recorded"
        return Inspection(holdout.rows, Answered("not recorded"))


def _scores_of(training: Training, window: TimeWindow, tolerance: timedelta) -> tuple[Scores, str]:
    """The candidate's scores on a holdout, and why they are not known."""
    scores, told = training.scores, training.holdout
    apart = max(abs(told.start - window.start), abs(told.end - window.end))
    why = (
        "it was never scored"
        if scores is None
        else "it was scored on other rows"
        if apart > tolerance
        else ""
    )
    if scores is None or why:
        return Scores(_ENOUGH, {}, {}, dict.fromkeys(DIRECTIONS, why), unpaired=why), why
    return scores, ""


def _against(
    training: Training, scores: Scores, version: str, champion: str | None, task: ScoringTask
) -> tuple[Scores, str]:
    """The scores of a candidate against a champion, and why the difference is not known."""
    if champion == version:  # the same training is the nearest once more
        return replace(scores, champion=scores.candidate, identical=True, paired=None), ""
    if champion is None:
        return replace(scores, champion=None, paired=None), ""
    if champion != training.champion:
        why = f"it was compared with version {training.champion}, and never with version {champion}"
        return replace(scores, champion={}, identical=False, paired=None, unpaired=why), why
    measured = scores.paired.measure if scores.paired else task.compared
    told = {name.partition("=")[0] for name in (*scores.segments, *scores.untold)}
    if measured != task.compared or not told.issuperset(task.segments):
        wanted = ", ".join([str(task.compared), *task.segments])
        why = f"the difference is recorded for {measured}, and not for {wanted}"
        return replace(scores, paired=None, unpaired=why), why
    return scores, ""
