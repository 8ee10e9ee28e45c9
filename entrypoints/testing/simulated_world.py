"""A whole world in memory that only moves when it is told to.

``World`` holds every port and the levers that people, time and misfortune pull; ``watched`` gives one process
its ports, broken as its ``Faults`` say, with what took effect written down.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from ...adapters.memory import (
    MemoryCompute,
    MemoryDataSource,
    MemoryDrift,
    MemoryLedger,
    MemoryMetrics,
    MemoryNotifier,
    MemoryObservations,
    MemoryPredictor,
    MemoryRegistry,
    MemoryRouter,
    MemoryTelemetry,
    Model,
    Row,
)
from ...adapters.memory_inspector import MemoryInspector
from ...adapters.memory_scorer import MemoryScorer
from ...domain.canary_spec import CanarySpec, CanaryStepSpec
from ...domain.config import TriggerConfig
from ...domain.spec import ModelSpec, PromotionSpec, TrainingSpec
from ...domain.world import Ports
from ...ports.compute import RunRequest, RunState, RunStatus
from ...ports.data import Snapshot
from ...ports.errors import Permanent, Temporary
from ...ports.ledger import Append
from ...ports.metrics import MetricQuery, MetricWindow
from ...ports.notifier import Digest, Notice
from ...ports.predictor import Predictions
from ...ports.registry import ModelRegistry, ModelVersion
from ...ports.scorer import Scores, ScoringTask
from ...ports.traffic import Split
from ...ports.values import Pending
from .faults import Faults, Weather
from .history import History, Move, Record, Scoring, Share

LEASE_SECONDS = 20.0
"""Life of a lease in a simulation, on the world's clock."""

_ROW_EVERY = timedelta(hours=8)
_ROWS_A_BATCH = 1000

ARMS = ("candidate_accuracy", "champion_accuracy")
"""Metrics of the arms of a canary."""


# -- the world ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Training:
    """What the next training runs of a model do.

    Attributes:
        outcome: How a run ends, or that it goes on; ``none`` and ``two`` succeed and log so many
            models.
        boundary: Where the model that it logs divides the classes. The truth is at 0.5, and accuracy about
            ``1 - abs(boundary - 0.5)``.
        again: Whether two runs with the same boundary give the same artefact.
        cost: What a run that has ended has cost; ``None`` when nobody knows.
    """

    outcome: Literal["succeeds", "fails", "lost", "hangs", "none", "two"] = "succeeds"
    boundary: float = 0.5
    again: bool = True
    cost: float | None = None


class ReluctantNotifier(MemoryNotifier):
    """A notifier that can be told to refuse."""

    def __init__(self) -> None:
        super().__init__()
        self.refusal: Temporary | Permanent | None = None

    def send(self, notice: Notice) -> None:
        """Keep one notice, or refuse it."""
        if self.refusal is not None:
            raise self.refusal
        super().send(notice)

    def send_digest(self, digest: Digest) -> None:
        """Keep the notices of a digest, or refuse it."""
        if self.refusal is not None:
            raise self.refusal
        super().send_digest(digest)


class LiveMetrics(MemoryMetrics):
    """Metrics in memory; those of the arms of a canary are on as many rows as the split in force says.

    Args:
        router: Whose splits are in force.

    Attributes:
        arms: How good candidate and champion are on the traffic, by model; ``None`` is unknown. Equally good
            where it does not say.
    """

    def __init__(self, router: MemoryRouter) -> None:
        super().__init__()
        self._router = router
        self.arms: dict[str, tuple[float | None, float | None]] = {}

    def read(self, queries: Sequence[MetricQuery]) -> Sequence[MetricWindow]:
        """Answer every query."""
        return [
            self._arm(query) if query.metric in ARMS else answer
            for query, answer in zip(queries, super().read(queries), strict=True)
        ]

    def _arm(self, query: MetricQuery) -> MetricWindow:
        split = self._router.splits.get(query.model)
        place = ARMS.index(query.metric)
        value = self.arms.get(query.model, (0.9, 0.9))[place]
        share = (split.weight, 1.0 if split.shadow else 1 - split.weight)[place] if split else 1.0 - place
        rows = round(_ROWS_A_BATCH * share)
        if value is None or not rows:
            return MetricWindow(query, None, "no samples", empty=True)
        return MetricWindow(query, value, "", rows, rows, query.window.end)


class World:
    """Every port in memory, a clock, and the levers that people and misfortune pull.

    Args:
        fleet: Settings by model name; ``small_fleet()`` unless given.
        start: Time at the beginning.
        shards: Over how many shards the models are spread.
    """

    def __init__(
        self,
        fleet: Mapping[str, ModelSpec] | None = None,
        start: datetime = datetime(2026, 1, 1, tzinfo=UTC),
        *,
        shards: int = 1,
    ) -> None:
        self.fleet = dict(fleet or small_fleet())
        self.now = start
        self.ledger = MemoryLedger(clock=self.clock, shards=shards)
        self.observations = MemoryObservations(keep=100)
        self.router = MemoryRouter()
        self.metrics = LiveMetrics(self.router)
        self.drift = MemoryDrift()
        self.data = MemoryDataSource()
        self.compute = MemoryCompute(self._run)
        self.registry = MemoryRegistry()
        self.predictor = MemoryPredictor(self.registry, self.data)
        self.scorer = MemoryScorer(self.data, self.predictor)
        self.notifier = ReluctantNotifier()
        self.telemetry = MemoryTelemetry(keep=10)
        self.training = dict.fromkeys(self.fleet, Training())
        self.record = Record(self.compute.started)
        self.weather = Weather(lambda: self.pass_time(LEASE_SECONDS + 1))
        self._filled = {model: start - timedelta(days=60) for model in self.fleet}
        for model in self.fleet:
            self.data.add(model, ())
            self.add_rows(model)

    def clock(self) -> float:
        """The world's time in seconds; leases run on it."""
        return self.now.timestamp()

    def pass_time(self, seconds: float) -> None:
        """Move the clock, for models and for leases; less than 0 sets it back."""
        self.now += timedelta(seconds=seconds)

    def ports(self) -> Ports:
        """Every port, unbroken."""
        ledger = self.ledger
        return Ports(
            ledger,
            ledger,
            ledger,
            ledger,
            self.observations,
            self.metrics,
            self.drift,
            self.data,
            self.compute,
            self.registry,
            self.registry,
            self.predictor,
            self.scorer,
            self.notifier,
            self.telemetry,
            MemoryInspector(self.data, self.predictor),
            self.router,
        )

    def add_rows(self, model: str) -> None:
        """Let the labelled rows arrive that have come into being since the last call."""
        while self._filled[model] < self.now:
            at = self._filled[model]
            x = at.timestamp() / _ROW_EVERY.total_seconds() * 0.618 % 1.0  # evenly spread, without chance
            self.data.add(model, [Row(at, {"x": x}, int(x > 0.5))])
            self._filled[model] = at + _ROW_EVERY

    def serve(self, model: str, boundary: float) -> ModelVersion:
        """Let somebody else register a version and move the champion alias to it."""
        version = self.registry.register(model, divide_at(boundary), artefact_of(model, boundary))
        self.move_alias(model, version.version)
        return version

    def move_alias(self, model: str, label: str | None) -> None:
        """Let somebody else move the champion alias, or remove it."""
        before = self.registry.aliases.pop(model, None)
        if label is not None:
            self.registry.aliases[model] = label
        self.record.moves.append(Move(model, before, label, ours=False))

    def delete_version(self, version: ModelVersion) -> None:
        """Let somebody else delete a version, and the champion alias with it if it points there."""
        before = self.registry.aliases.get(version.model)
        self.registry.delete_version(version)
        if self.registry.aliases.get(version.model) != before:
            self.record.moves.append(Move(version.model, before, None, ours=False))

    def _run(self, run: RunRequest) -> RunStatus:
        model, job_id = run.environment["AUTORETRAIN_MODEL_NAME"], run.environment["AUTORETRAIN_JOB_ID"]
        training = self.training[model]
        match training.outcome:
            case "hangs":
                return RunStatus(RunState.RUNNING, seconds=1.0)
            case "fails":
                return RunStatus(RunState.FAILED, "out of memory", 137, 1.0, cost=training.cost)
            case "lost":
                return RunStatus(RunState.LOST, "the node is gone", cost=training.cost)
        for n in range({"none": 0, "two": 2}.get(training.outcome, 1)):
            marks = (n,) if training.again else (n, job_id)
            self.registry.log(
                job_id, divide_at(training.boundary), artefact_of(model, training.boundary, *marks)
            )
        return RunStatus(RunState.SUCCEEDED, exit_code=0, seconds=1.0, cost=training.cost)


def small_fleet() -> dict[str, ModelSpec]:
    """Two classifiers with short windows: one halts at a foreign champion, one adopts it.

    Of the second, two people approve what was started by hand, and what waits for them gives way.
    """
    trigger = TriggerConfig(evaluation_window_days=10, training_window_days=30)
    shared: dict[str, Any] = {
        "trigger": trigger,
        "min_rows": 10,
        "min_holdout_rows": 10,
        "training": TrainingSpec(command=("train",), max_attempts=2),
    }
    return {
        "churn": ModelSpec(name="churn", promotion=PromotionSpec(approval_days=2), **shared),
        "fraud": ModelSpec(
            name="fraud",
            rule="performance & ~drift | schedule",
            promotion=PromotionSpec(
                first_champion="floor",
                on_conflict="adopt",
                min_improvement=0.0,
                approval_days=2,
                approvals=2,
                pending="supersede",
            ),
            **shared,
        ),
    }


def trying(spec: ModelSpec) -> ModelSpec:
    """The same model, whose candidates are tried in the shadow and on two shares of the traffic."""
    canary = CanarySpec(
        candidate=ARMS[0],
        baseline=ARMS[1],
        direction="up",
        tolerance=0.01,
        batch_minutes=60,
        deadline_minutes=1440,
        steps=(
            CanaryStepSpec(weight=1.0, minutes=60, samples=100, kind="shadow"),
            CanaryStepSpec(weight=0.1, minutes=120, samples=100),
            CanaryStepSpec(weight=0.5, minutes=120, samples=500),
        ),
    )
    return spec.model_copy(update={"canary": canary})


def divide_at(boundary: float) -> Model:
    """A classifier of rows with one feature, ``x``."""
    return lambda features: int(features["x"] > boundary)


def artefact_of(*marks: object) -> str:
    """Digest of an artefact that is told by these marks."""
    return hashlib.sha256(repr(marks).encode()).hexdigest()


# -- what is written down beside the ledger -----------------------------------------------------------------


class _Watching:
    """Stands in for a port: writes down what took effect, for the invariants."""

    def __init__(self, port: Any, record: Record, faults: Faults) -> None:
        self._port = port
        self._record = record
        self._faults = faults

    @property
    def _late(self) -> bool:
        """Whether whoever called has lost the lease by now, or is not there any more."""
        return self._faults.overtaken or self._faults.weather.landing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)


class _WatchedLedger(_Watching):
    def append(self, batch: Append) -> None:
        self._port.append(batch)
        self._record.notices.extend(batch.notices)


class _WatchedRegistry(_Watching):
    def set_champion(self, version: ModelVersion, expected: str | None) -> None:
        before = alias_of(self._port, version.model)
        try:
            self._port.set_champion(version, expected)
        finally:
            after = alias_of(self._port, version.model)
            if after != before:
                move = Move(version.model, before, after, ours=True, late=self._late)
                self._record.moves.append(move)


class _WatchedRouter(_Watching):
    def apply(self, split: Split, expected: Split | None) -> None:
        before = self._port.in_force(split.model)
        self._port.apply(split, expected)
        if before != split:
            self._record.shares.append(Share(split.model, before, split, late=self._late))

    def clear(self, model: str, expected: Split) -> None:
        before = self._port.in_force(model)
        self._port.clear(model, expected)
        if before is not None:
            self._record.shares.append(Share(model, before, None, late=self._late))


class _WatchedPredictor(_Watching):
    def predict(self, version: ModelVersion, snapshot: Snapshot) -> Predictions | Pending:
        answer: Predictions | Pending = self._port.predict(version, snapshot)
        if isinstance(answer, Predictions):
            self._record.predicted[answer.sha256] = (version.digest, snapshot.sha256)
        return answer


class _WatchedScorer(_Watching):
    def score(
        self,
        task: ScoringTask,
        snapshot: Snapshot,
        candidate: Predictions,
        champion: Predictions | None = None,
    ) -> Scores:
        answer: Scores = self._port.score(task, snapshot, candidate, champion)
        other = champion.sha256 if champion else None
        self._record.scorings.append(Scoring(snapshot.sha256, candidate.sha256, other))
        return answer


class _WatchedNotifier(_Watching):
    def send(self, notice: Notice) -> None:
        self._port.send(notice)
        self._record.delivered[notice.id] += 1

    def send_digest(self, digest: Digest) -> None:
        self._port.send_digest(digest)
        self._record.delivered.update(name for line in digest.lines for name in line.ids)


def alias_of(registry: ModelRegistry, model: str) -> str | None:
    """Version label of the champion; ``None`` when there is none."""
    if hasattr(registry, "aliases"):  # ours, which says it though the artefact of the version is gone
        label: str | None = registry.aliases.get(model)
        return label
    champion = registry.champions([model]).get(model)
    return champion.version if champion else None


def watched(ports: Ports, record: Record, faults: Faults) -> Ports:
    """The ports of one process: broken as its faults say, with what took effect written down."""
    watchers: dict[str, Callable[[Any, Record, Faults], Any]] = {
        "ledger": _WatchedLedger,
        "registry": _WatchedRegistry,
        "router": _WatchedRouter,
        "predictor": _WatchedPredictor,
        "scorer": _WatchedScorer,
        "notifier": _WatchedNotifier,
    }
    seen = {name: watch(getattr(ports, name), record, faults) for name, watch in watchers.items()}
    return faults.around(replace(ports, **seen))


def histories_of(ports: Ports, fleet: Mapping[str, ModelSpec]) -> list[History]:
    """The streams of a fleet, replayed."""
    return [History.of(spec, ports.ledger.read(name)) for name, spec in fleet.items()]
