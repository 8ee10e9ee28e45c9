"""A past of labelled rows: every version is trained for real, and scored on what came after.

Policies share what they have in common: rows, trainings and predictions are had once, whoever asks for them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from ...adapters.metrics_rescoring import RescoringMetrics
from ...domain.sealing import canonical
from ...domain.spec import ModelSpec
from ...ports.compute import RunRequest, RunState, RunStatus
from ...ports.data import DataSource, Snapshot, SnapshotRequest
from ...ports.drift import DriftDetector, DriftReport
from ...ports.errors import ChampionMoved, Permanent
from ...ports.inspector import Inspector
from ...ports.metrics import MetricQuery, MetricWindow
from ...ports.predictor import Predictions, Predictor
from ...ports.registry import ModelVersion
from ...ports.scorer import Scorer
from ...ports.tracking import TrainingContext
from ...ports.values import Pending, TimeWindow
from .replay import Sources

_T = TypeVar("_T")
_PAUSE = 0.05  # seconds between two looks at something that is being computed


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training came to.

    Attributes:
        version: The version; ``None`` when it failed.
        seconds: How long it took; ``None`` when unknown.
        reason: Why it failed; empty when it did not.
    """

    version: ModelVersion | None
    seconds: float | None
    reason: str = ""


Train = Callable[[str, Snapshot, Mapping[str, Any]], Trained]
"""Trains a model, named, on rows with parameters; called once for each."""


def awaited(ask: Callable[[], _T | Pending]) -> _T:
    """Ask until the answer is there: the time of a replay stands still meanwhile."""
    while isinstance(answer := ask(), Pending):
        time.sleep(_PAUSE)
    return answer


@dataclass
class LabelledRows:
    """The past of a fleet whose rows are there.

    Attributes:
        data: Where the rows are.
        predictor: Predicts for them with a version that ``train`` gave.
        scorer: Measures predictions.
        inspector: Looks rows and predictions over.
        train: Trains on them.
        drift: Compares them; without one, drift is unknown.
    """

    data: DataSource
    predictor: Predictor
    scorer: Scorer
    inspector: Inspector
    train: Train
    drift: DriftDetector | None = None
    _snapshots: dict[SnapshotRequest, Snapshot] = field(default_factory=dict)
    _predictions: dict[tuple[str, str], Predictions] = field(default_factory=dict)
    _reports: dict[tuple[str, str], DriftReport] = field(default_factory=dict)
    _trained: dict[tuple[str, str, str], Trained] = field(default_factory=dict)
    _windows: dict[tuple[str, str, str, TimeWindow], MetricWindow] = field(default_factory=dict)

    def sources(self, fleet: Mapping[str, ModelSpec], champions: Mapping[str, ModelVersion]) -> Sources:
        """The past as one policy meets it.

        Args:
            fleet: The policy's settings.
            champions: Who serves at the beginning, by model.
        """
        trainings = _Trainings(self, champions)
        tasks = {name: spec.scoring for name, spec in fleet.items()}
        return Sources(
            metrics=_SharedMetrics(self, RescoringMetrics(self, self, self.scorer, tasks)),
            drift=self,
            data=self,
            compute=trainings,
            registry=trainings,
            tracker=trainings,
            predictor=self,
            scorer=self.scorer,
            inspector=self.inspector,
            seconds=trainings.seconds,
        )

    def trained(self, model: str, rows: Snapshot, parameters: Mapping[str, Any]) -> Trained:
        """Train, or say what the same training came to before."""
        key = (model, rows.sha256, canonical(parameters))
        if key not in self._trained:
            self._trained[key] = self.train(model, rows, parameters)
        return self._trained[key]

    # DataSource, Predictor and DriftDetector, each asked once for the same thing

    def snapshot(self, request: SnapshotRequest) -> Snapshot:
        """Copy the rows of a window; the past does not change."""
        if request not in self._snapshots:
            self._snapshots[request] = self.data.snapshot(request)
        return self._snapshots[request]

    def predict(self, version: ModelVersion, snapshot: Snapshot) -> Predictions:
        """Predict, and wait for it."""
        key = (version.digest, snapshot.sha256)
        if key not in self._predictions:
            self._predictions[key] = awaited(lambda: self.predictor.predict(version, snapshot))
        return self._predictions[key]

    def compare(self, reference: Snapshot, current: Snapshot) -> DriftReport:
        """Compare two snapshots, and wait for it."""
        drift = self.drift
        if drift is None:
            raise Permanent("nothing compares rows in this backtest")
        key = (reference.sha256, current.sha256)
        if key not in self._reports:
            self._reports[key] = awaited(lambda: drift.compare(reference, current))
        return self._reports[key]


class _SharedMetrics:
    """Implements MetricSource: what one policy has seen of a version, the next need not compute again."""

    def __init__(self, rows: LabelledRows, metrics: RescoringMetrics) -> None:
        self._known = rows._windows
        self._metrics = metrics

    def read(self, queries: Sequence[MetricQuery]) -> Sequence[MetricWindow]:
        """Answer every query."""
        missing = [query for query in queries if _key(query) not in self._known]
        for query, answer in zip(missing, self._metrics.read(missing), strict=True):
            self._known[_key(query)] = answer
        return [replace(self._known[_key(query)], query=query) for query in queries]


def _key(query: MetricQuery) -> tuple[str, str, str, TimeWindow]:
    return (query.model, query.metric, query.champion.digest if query.champion else "", query.window)


class _Trainings:
    """Implements Compute, ModelRegistry and ExperimentTracker for one replay: who serves is its own."""

    def __init__(self, rows: LabelledRows, champions: Mapping[str, ModelVersion]) -> None:
        self._rows = rows
        self._champions = dict(champions)
        self._contexts: dict[str, TrainingContext] = {}
        self._outcomes: dict[str, Trained] = {}  # by key of the run
        self._candidates: dict[str, ModelVersion] = {}  # by job
        self.seconds: dict[str, float] = {}

    def open_run(self, context: TrainingContext) -> Mapping[str, str]:
        """Remember what is to be trained."""
        self._contexts[context.job_id] = context
        return {}

    def annotate(self, version: ModelVersion, metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
        """Leave versions as they are: the scores stand in the replay's ledger."""

    def submit(self, run: RunRequest) -> None:
        """Train, at once."""
        job_id = run.labels["job"]
        context = self._contexts[job_id]
        trained = self._rows.trained(context.model, context.data, context.parameters)
        self._outcomes[run.key] = trained
        if trained.seconds is not None:
            self.seconds[job_id] = trained.seconds
        if trained.version is not None:
            self._candidates[job_id] = replace(trained.version, job_id=job_id)

    def observe(self, key: str) -> RunStatus:
        """Say how a training ended."""
        trained = self._outcomes.get(key)
        if trained is None:
            return RunStatus(RunState.ABSENT)
        state = RunState.FAILED if trained.version is None else RunState.SUCCEEDED
        return RunStatus(state, trained.reason, seconds=trained.seconds)

    def cancel(self, key: str) -> None:
        """Nothing runs that could be cancelled."""

    def log_tail(self, key: str, lines: int = 50) -> str:
        """What trainings printed is told with their failure."""
        return ""

    def champions(self, models: Sequence[str]) -> Mapping[str, ModelVersion]:
        """Say which version of each model serves in this replay."""
        return {name: self._champions[name] for name in models if name in self._champions}

    def candidate(self, model: str, job_id: str) -> ModelVersion | None:
        """The version that a job's training gave."""
        return self._candidates.get(job_id)

    def set_champion(self, version: ModelVersion, expected: str | None) -> None:
        """Let a version serve in this replay."""
        serving = self._champions.get(version.model)
        found = serving.version if serving else None
        if found not in (expected, version.version):
            raise ChampionMoved(version.model, expected, found)
        self._champions[version.model] = version


__all__ = ["LabelledRows", "Train", "Trained", "awaited"]
