"""The real controller, led through the past: nothing here decides, and time moves from look to look."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from ...adapters.memory import MemoryNotifier, MemoryTelemetry
from ...adapters.memory_ledger import MemoryLedger
from ...domain.controller import Controller
from ...domain.limits import LimitSettings
from ...domain.spec import ModelSpec
from ...domain.state import ModelState
from ...domain.world import Ports
from ...ports.compute import Compute
from ...ports.data import DataSource
from ...ports.drift import DriftDetector
from ...ports.inspector import Inspector
from ...ports.ledger import Append, Entry
from ...ports.metrics import MetricSource
from ...ports.predictor import Predictor
from ...ports.registry import ModelRegistry
from ...ports.scorer import Scorer
from ...ports.tracking import ExperimentTracker
from ...ports.values import TimeWindow
from .outcome import Outcome, Yardstick, outcome_of
from .tape import Tape


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


Progress = Callable[[Policy, datetime], None]
"""Told of the time that the replay of a policy has come to."""


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
        inspector: What else is found in rows and predictions.
        unknown: Jobs whose outcome the past does not tell, by id, with the reason; grows in the replay.
        seconds: How long trainings took, by job id, where it is known. Grows likewise.
        streams: Entries up to the beginning, by model; a model without any is enrolled then.
        measured: What the yardstick reads; ``None`` for ``metrics``.
        changes: When an observation of a model may be another than now, for the first time after a time;
            ``None`` for at any time.
    """

    metrics: MetricSource
    drift: DriftDetector
    data: DataSource
    compute: Compute
    registry: ModelRegistry
    tracker: ExperimentTracker
    predictor: Predictor
    scorer: Scorer
    inspector: Inspector
    unknown: Mapping[str, str] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    streams: Mapping[str, Sequence[Entry]] = field(default_factory=dict)
    measured: MetricSource | None = None
    changes: Callable[[ModelSpec, datetime], datetime] | None = None


class _Ledger(MemoryLedger):
    """A ledger of a replay: nobody is told of what would have happened."""

    def append(self, batch: Append) -> None:
        super().append(replace(batch, notices=()))

    def look_at(self, model: str, at: datetime) -> None:
        self._looks[model] = at


_NEVER_REGULARLY = {"check_every_seconds": timedelta(days=36_500).total_seconds()}
"""Regular looks are planned by the replay."""


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
    progress: Progress = lambda policy, at: None,
) -> Outcome:
    """Lead the controller through a span of the past under one policy.

    The clock stands still while a job runs: trainings and predictions take no time of the replay. Nobody
    answers: a job that waits for a person ends undeployed when its time is over.

    Args:
        policy: What is tried.
        sources: The past; for this replay alone, since it remembers who serves.
        span: From the first look to the end.
        yardstick: How what became of the models is measured, the same for every policy.
        progress: Told of each time at which the controller looks.

    Returns:
        What would have happened, and what cannot be known.

    Raises:
        Temporary: A part of the world that is asked for real is away.
    """
    clock, tape = _Clock(span.start), Tape()
    ledger = _Ledger(clock=clock.seconds)
    for model, entries in sources.streams.items():
        ledger.append(Append(model, tuple(entries), None, span.start))
    controller = Controller(
        _ports(sources, ledger, tape),
        {model: spec.model_copy(update=_NEVER_REGULARLY) for model, spec in policy.fleet.items()},
        "backtest",
        monotonic=time.monotonic,
        limits=policy.limits,
        backend=policy.backend,
        prices=policy.prices,
    )
    controller.enrol(policy.fleet, span.start)
    with _quiet():
        while (due := min(ledger.next_look(model) or span.end for model in policy.fleet)) < span.end:
            clock.now = max(due, clock.now)
            progress(policy, clock.now)
            asked = {model: ledger.next_look(model) or span.end for model in policy.fleet}
            controller.tick(clock.now)
            for model in (model for model, at in asked.items() if at <= clock.now):
                regular = _regular_look(policy.fleet[model], controller.state(model), sources, clock.now)
                _plan_look(model, ledger, tape, clock.now, regular, span.end)
    states = {model: controller.history(model) for model in policy.fleet}
    return outcome_of(policy.name, policy.fleet, states, sources, tape, span, yardstick)


@dataclass(frozen=True, slots=True)
class _Regular:
    """The next regular look that counts.

    Attributes:
        every: Between two regular looks.
        change: The first of them at or after this may differ from the last look.
    """

    every: timedelta
    change: datetime


def _regular_look(spec: ModelSpec, state: ModelState, sources: Sources, now: datetime) -> _Regular:
    """When a regular look may come to something else than the one just made.

    Deciding is a pure function of what is known, what is seen, and the times at which something ends, which
    the controller names by itself. A verdict that has to last counts its looks; and the look of the moment in
    which a job ends opens no other, whatever it sees.
    """
    every = timedelta(seconds=spec.check_every_seconds)
    just_ended = state.last_job is not None and state.last_job.completed_at == now
    if sources.changes is None or spec.for_hours > 0 or just_ended:
        return _Regular(every, now + every)
    return _Regular(every, sources.changes(spec, now))


def _plan_look(
    model: str, ledger: _Ledger, tape: Tape, now: datetime, regular: _Regular, end: datetime
) -> None:
    """Leave out the regular looks that would come to the same, and count them."""
    steps = max(-((now - min(regular.change, end)) // regular.every), 1)
    at = min(now + steps * regular.every, ledger.next_look(model) or end)
    if at > now:
        ledger.look_at(model, at)
        tape.repeat(model, -((now - min(at, end)) // regular.every) - 1)


@contextmanager
def _quiet() -> Iterator[None]:
    """What the controller would log of the past is no news of today."""
    log = logging.getLogger("autoretrain")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(before)


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
        inspector=sources.inspector,
    )
