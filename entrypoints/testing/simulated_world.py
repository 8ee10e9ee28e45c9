"""A whole world in memory that only moves when it is told to, and can be broken at every call.

``World`` holds every port and the levers that people, time and misfortune pull. ``Faults`` stands between one
process and its ports, and can let the process die, or an answer be lost, before and after every single call.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, Literal, TypeVar

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
    MemoryScorer,
    MemoryTelemetry,
    Model,
    Row,
)
from ...domain.config import TriggerConfig
from ...domain.spec import ModelSpec, PromotionSpec, TrainingSpec
from ...domain.world import Ports
from ...ports.compute import RunRequest, RunState, RunStatus
from ...ports.data import Snapshot
from ...ports.errors import Permanent, Temporary
from ...ports.ledger import Append
from ...ports.notifier import Digest, Notice
from ...ports.predictor import Predictions
from ...ports.registry import ModelRegistry, ModelVersion
from ...ports.scorer import Scores, ScoringTask
from ...ports.values import Pending
from .invariants import History, Move, Record, Scoring

_T = TypeVar("_T")

_ROW_EVERY = timedelta(hours=8)


# -- faults -------------------------------------------------------------------------------------------------


class Crash(BaseException):
    """The process dies here. No ``except Exception`` may survive it."""


class Fault(Enum):
    """What can go wrong at a call of a port."""

    CRASH_BEFORE = "the process dies before the call"
    CRASH_AFTER = "the process dies after the call took effect"
    AWAY = "the other side is away"
    ANSWER_LOST = "the call took effect, and its answer is lost"


Mishap = Fault | Callable[[], None]
"""A fault, or something that happens elsewhere while the caller is paused just before its call."""


class Faults:
    """Counts the calls of one process, and breaks those that a plan names.

    Attributes:
        calls: Calls so far, of all ports together.
        met: Mishaps that have happened so far.
        overtaken: Whether another controller has taken the lease while this process was paused.
    """

    def __init__(self) -> None:
        self.calls = 0
        self.met = 0
        self.overtaken = False
        self._plan: dict[int, Mishap] = {}

    def plan(self, mishaps: Mapping[int, Mishap]) -> None:
        """Replace the plan.

        Args:
            mishaps: What goes wrong, by number of the call, counted from the next one as 0.
        """
        self._plan = {self.calls + offset: mishap for offset, mishap in mishaps.items()}

    def around(self, ports: Ports) -> Ports:
        """The same ports, with this plan in between."""
        return Ports(
            **{part.name: _Between(self, part.name, getattr(ports, part.name)) for part in fields(ports)}
        )

    def through(self, part: str, call: Callable[[], _T]) -> _T:
        """Make one call, or let it go wrong as planned.

        Raises:
            Crash: The plan says that the process dies here.
            Temporary: The plan says that the other side is away, or its answer lost.
        """
        mishap = self._plan.pop(self.calls, None)
        self.calls += 1
        self.met += mishap is not None
        if mishap is Fault.CRASH_BEFORE:
            raise Crash(part)
        if mishap is Fault.AWAY and part != "telemetry":  # which must not raise
            raise Temporary(f"{part} is away")
        if callable(mishap):
            mishap()
        answer = call()
        if mishap is Fault.CRASH_AFTER:
            raise Crash(part)
        if mishap is Fault.ANSWER_LOST and part != "telemetry":
            raise Temporary(f"the answer of {part} was lost")
        return answer


class _Between:
    """Stands in for a port: every call of a method goes through the faults."""

    def __init__(self, faults: Faults, part: str, port: Any) -> None:
        self._faults = faults
        self._part = part
        self._port = port

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._port, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            return self._faults.through(self._part, lambda: method(*args, **kwargs))

        return call


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
    """

    outcome: Literal["succeeds", "fails", "lost", "hangs", "none", "two"] = "succeeds"
    boundary: float = 0.5
    again: bool = True


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


class World:
    """Every port in memory, a clock, and the levers that people and misfortune pull.

    Args:
        fleet: Settings by model name; ``small_fleet()`` unless given.
        start: Time at the beginning.
    """

    def __init__(
        self, fleet: Mapping[str, ModelSpec] | None = None, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    ) -> None:
        self.fleet = dict(fleet or small_fleet())
        self.now = start
        self.ledger = MemoryLedger(clock=self.clock)
        self.observations = MemoryObservations(keep=100)
        self.metrics = MemoryMetrics()
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
        self._filled = {model: start - timedelta(days=60) for model in self.fleet}
        for model in self.fleet:
            self.data.add(model, ())
            self.add_rows(model)

    def clock(self) -> float:
        """The world's time in seconds; leases run on it."""
        return self.now.timestamp()

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

    def _run(self, run: RunRequest) -> RunStatus:
        model, job_id = run.environment["AUTORETRAIN_MODEL_NAME"], run.environment["AUTORETRAIN_JOB_ID"]
        training = self.training[model]
        match training.outcome:
            case "hangs":
                return RunStatus(RunState.RUNNING, seconds=1.0)
            case "fails":
                return RunStatus(RunState.FAILED, "out of memory", 137, 1.0)
            case "lost":
                return RunStatus(RunState.LOST, "the node is gone")
        for n in range({"none": 0, "two": 2}.get(training.outcome, 1)):
            marks = (n,) if training.again else (n, job_id)
            self.registry.log(
                job_id, divide_at(training.boundary), artefact_of(model, training.boundary, *marks)
            )
        return RunStatus(RunState.SUCCEEDED, exit_code=0, seconds=1.0)


def small_fleet() -> dict[str, ModelSpec]:
    """Two classifiers with short windows: one halts at a foreign champion, one adopts it."""
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
                first_champion="floor", on_conflict="adopt", min_improvement=0.0, approval_days=2
            ),
            **shared,
        ),
    }


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
                move = Move(version.model, before, after, ours=True, late=self._faults.overtaken)
                self._record.moves.append(move)


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
    champion = registry.champions([model]).get(model)
    return champion.version if champion else None


def watched(ports: Ports, record: Record, faults: Faults) -> Ports:
    """The ports of one process: broken as its faults say, with what took effect written down."""
    watchers: dict[str, Callable[[Any, Record, Faults], Any]] = {
        "ledger": _WatchedLedger,
        "registry": _WatchedRegistry,
        "predictor": _WatchedPredictor,
        "scorer": _WatchedScorer,
        "notifier": _WatchedNotifier,
    }
    seen = {name: watch(getattr(ports, name), record, faults) for name, watch in watchers.items()}
    return faults.around(replace(ports, **seen))


def histories_of(ports: Ports, fleet: Mapping[str, ModelSpec]) -> list[History]:
    """The streams of a fleet, replayed."""
    return [History.of(spec, ports.ledger.read(name)) for name, spec in fleet.items()]
