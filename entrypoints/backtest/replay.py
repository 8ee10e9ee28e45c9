"""The real controller, led through the past: nothing here decides, and time moves from look to look."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from ...adapters.memory import MemoryNotifier, MemoryTelemetry
from ...adapters.memory_ledger import MemoryLedger
from ...domain.controller import Controller
from ...domain.limits import LimitSettings
from ...domain.spec import ModelSpec
from ...domain.world import Ports
from ...ports.compute import Compute
from ...ports.data import DataSource
from ...ports.drift import DriftDetector
from ...ports.ledger import Append, Entry
from ...ports.metrics import MetricSource
from ...ports.predictor import Predictor
from ...ports.registry import ModelRegistry
from ...ports.scorer import Scorer
from ...ports.tracking import ExperimentTracker
from ...ports.values import TimeWindow
from .outcome import Outcome, Yardstick, outcome_of
from .tape import Tape

Progress = Callable[[datetime], None]
"""Told of the time that a replay has come to."""


@dataclass(frozen=True)
class Policy:
    """What is tried: settings of a fleet, under a name.

    Attributes:
        name: How it is called in tables and plots.
        fleet: Settings by model name.
        limits: What holds across models.
        backend: Name of the compute backend, for its limits.
        prices: The highest price of an hour at which a model trains, by its name, for limits of cost.
    """

    name: str
    fleet: Mapping[str, ModelSpec]
    limits: LimitSettings = field(default_factory=LimitSettings)
    backend: str = "subprocess"
    prices: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Sources:
    """The past, as one policy meets it. Every port answers at once: nothing in it may be ``Pending``.

    Attributes:
        metrics: Live metrics.
        drift: Drift.
        data: Rows.
        compute: Trainings.
        registry: Versions, and which of them serves in this replay.
        tracker: Tracked runs.
        predictor: Predictions.
        scorer: Scores.
        unknown: Jobs whose outcome the past does not tell, by id, with the reason. Grows while it is replayed.
        seconds: How long trainings took, by job id, where it is known. Grows likewise.
        streams: Entries up to the beginning, by model; a model without any is enrolled then.
    """

    metrics: MetricSource
    drift: DriftDetector
    data: DataSource
    compute: Compute
    registry: ModelRegistry
    tracker: ExperimentTracker
    predictor: Predictor
    scorer: Scorer
    unknown: Mapping[str, str] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    streams: Mapping[str, Sequence[Entry]] = field(default_factory=dict)


class _Ledger(MemoryLedger):
    """A ledger of a replay: nobody is told of what would have happened."""

    def append(self, batch: Append) -> None:
        super().append(replace(batch, notices=()))


class _Clock:
    def __init__(self, now: datetime) -> None:
        self.now = now

    def seconds(self) -> float:
        return self.now.timestamp()


def replay(
    policy: Policy,
    sources: Sources,
    span: TimeWindow,
    yardstick: Yardstick,
    progress: Progress = lambda at: None,
) -> Outcome:
    """Lead the controller through a span of the past under one policy.

    The clock stands still while a job runs: trainings and predictions take no time of the replay. Nobody
    answers: a job that waits for a person ends undeployed when its time is over.

    Args:
        policy: What is tried.
        sources: The past; for this replay alone, since it remembers who serves.
        span: From the first look to the end.
        yardstick: How what became of the models is measured, the same for every policy.
        progress: Told of each time at which somebody looks.

    Returns:
        What would have happened, and what cannot be known.

    Raises:
        Temporary: A part of the world that is asked for real is away.
    """
    clock, tape = _Clock(span.start), Tape()
    ledger = _Ledger(clock=clock.seconds)
    ports = _ports(sources, ledger, tape)
    for model, entries in sources.streams.items():
        ledger.append(Append(model, tuple(entries), None, span.start))
    controller = Controller(
        ports,
        policy.fleet,
        "backtest",
        monotonic=time.monotonic,
        limits=policy.limits,
        backend=policy.backend,
        prices=policy.prices,
    )
    controller.enrol(policy.fleet, span.start)
    while (due := _next_look(ledger, policy)) < span.end:
        clock.now = max(due, clock.now)
        progress(clock.now)
        controller.tick(clock.now)
    states = {model: controller.history(model) for model in policy.fleet}
    return outcome_of(policy.name, policy.fleet, states, sources, tape, span, yardstick)


def _next_look(ledger: MemoryLedger, policy: Policy) -> datetime:
    return min(at for model in policy.fleet if (at := ledger.next_look(model)) is not None)


def _ports(sources: Sources, ledger: MemoryLedger, tape: Tape) -> Ports:
    return Ports(
        ledger=ledger,
        agenda=ledger,
        limits=ledger,
        outbox=ledger,
        observations=tape,
        metrics=sources.metrics,
        drift=sources.drift,
        data=sources.data,
        compute=sources.compute,
        registry=sources.registry,
        tracker=sources.tracker,
        predictor=sources.predictor,
        scorer=sources.scorer,
        notifier=MemoryNotifier(),
        telemetry=MemoryTelemetry(keep=1),
    )



