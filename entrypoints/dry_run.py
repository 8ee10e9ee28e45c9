"""A dry run: the real controller on a copy of the ledger, before real sources, with hands that do nothing.

It looks as ever: at metrics, drift, rows and the champion. What it would record goes into a ledger in memory
that begins as a copy of the real one; a training that it would start stays open there, so that nothing else
is started beside it. What looks have to compute (snapshots, predictions, comparisons) goes to a directory of
its own.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..adapters.compute_subprocess import SubprocessCompute
from ..adapters.compute_supervisor import REQUEST
from ..adapters.memory import MemoryLedger, MemoryNotifier, MemoryObservations
from ..adapters.mlflow_client import sqlite_file
from ..domain.fold import fold
from ..domain.jobs import RetrainingJob
from ..domain.notices import notices_of
from ..domain.plan import Phase, phase_of
from ..domain.state import ModelState
from ..domain.world import Ports
from ..ports.compute import RunRequest, RunState, RunStatus
from ..ports.errors import AutoRetrainError, Permanent
from ..ports.ledger import Append, Ledger
from ..ports.limits import Limits, Unit
from ..ports.registry import ModelRegistry, ModelVersion
from ..ports.telemetry import Telemetry
from ..ports.tracking import TrainingContext
from .container import build_ports
from .pipeline import AutoRetrainPipeline
from .settings import Secrets, Settings

_LONGEST_END = 20.0
"""Seconds that the end waits for what is being ended."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a controller would do about one model.

    Attributes:
        model: Its name.
        would: ``retrain``; ``wait``, where something holds a retraining back; ``nothing``; or ``leave``,
            where a job, or a person's request, goes on that a controller has to bring to its end first.
        reason: Why, in words.
        held_back: What holds it back; ``None`` when nothing does.
        until: Until when; ``None`` when that cannot be said.
        verdicts: Answer, reason and evidence by trigger, of the look that this is from.
        job: The job that it would open; ``None`` when it would open none.
        tells: Titles and texts of the notices that it would send, beside those of that job.
        adopts: Version that it would take as the champion, as it was found; ``None`` for none.
    """

    model: str
    would: str
    reason: str = ""
    held_back: str | None = None
    until: datetime | None = None
    verdicts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    job: RetrainingJob | None = None
    tells: tuple[str, ...] = ()
    adopts: str | None = None


class DryRun:
    """A controller that does nothing, over the settings of a real one.

    Args:
        settings: Checked settings.
        scratch: An empty directory for what looks compute; removed by the caller.
        telemetry: Told of every turn.
        patient: Whether a call waits for slow parts of the world.
        now: Time of the copy.

    Raises:
        ConfigurationError: A secret that a source needs is missing.
        Temporary: The ledger cannot be read now.
    """

    def __init__(
        self, settings: Settings, scratch: Path, telemetry: Telemetry, patient: bool, now: datetime
    ) -> None:
        self._scratch = scratch
        real = settings.store(Secrets()).ledger()
        known: Ledger | None = real if real.versions()[0] else None
        self.ledger = MemoryLedger()
        self.left = _copied(known, self.ledger, list(settings.models), now)
        self._heads = {model: len(self.ledger.read(model)) for model in settings.models}
        private = _kept_apart(settings, scratch)
        ports = _without_hands(private, self.ledger, real if known else None, telemetry)
        targets = {name: MemoryNotifier() for name in settings.notifier.targets}
        self.pipeline = AutoRetrainPipeline(
            settings=private,
            kind="dry-run",
            patient=patient,
            targets=targets,
            **{name: getattr(ports, name) for name in Ports.__dataclass_fields__},
        )

    def end(self) -> None:
        """End what looks began on this machine and have not finished, so that nothing is left running.

        Raises:
            Temporary: A run cannot be ended now.
        """
        runs = SubprocessCompute(self._scratch / "runs")
        orders = (self._scratch / "runs").glob("*/" + REQUEST)
        keys = [json.loads(order.read_text(encoding="utf-8"))["run"]["key"] for order in orders]
        for key in keys:
            runs.cancel(key)
        deadline = time.monotonic() + _LONGEST_END
        while time.monotonic() < deadline and not all(runs.observe(key).state.ended for key in keys):
            time.sleep(0.05)

    def at_rest(self, state: ModelState) -> bool:
        """Whether nothing would move before the model's next regular look."""
        return state.model in self.left or phase_of(state) in (Phase.IDLE, Phase.TRAINING)

    def findings(self, models: Iterable[str] | None = None) -> list[Finding]:
        """What would be done, model by model; one whose look goes on is left out.

        Args:
            models: Of which models; ``None`` takes all, in the order of the settings.
        """
        found = (
            self._finding(model) for model in (self.pipeline.settings.models if models is None else models)
        )
        return [finding for finding in found if finding is not None]

    def _finding(self, model: str) -> Finding | None:
        if model in self.left:
            return Finding(model, "leave", self.left[model])
        entries = self.ledger.read(model)
        state, before = fold(model, entries), self._heads[model]
        looks = self.pipeline.ports.observations.recent(model)
        said: Mapping[str, Any] = looks[-1].data if looks else {}
        if not said or phase_of(state) is Phase.DATA:
            return None
        known = fold(model, entries[:before])
        notices = notices_of(known, [e for e in entries[before:] if not e.kind.startswith("job.")])
        adopted = state.champion and (known.champion is None or state.champion != known.champion)
        return Finding(
            model=model,
            **_outcome(state, known, said),
            verdicts=said["verdicts"],
            tells=tuple(f"{notice.title}: {notice.body}" for notice in notices),
            adopts=state.champion.version.version if adopted and state.champion else None,
        )


def _outcome(state: ModelState, known: ModelState, said: Mapping[str, Any]) -> dict[str, Any]:
    """What follows for a model that was looked at."""
    new = [job for job in state.jobs.values() if job.job_id not in known.jobs]
    if new:
        return {"would": "retrain", "reason": new[-1].reason, "job": new[-1]}
    if said["suppressed"]:
        fired = [verdict["reason"] for verdict in said["verdicts"].values() if verdict["answer"] == "yes"]
        held, until = said["suppressed"], state.suppressed_until
        return {"would": "wait", "reason": "; ".join(fired), "held_back": held, "until": until}
    return {"would": "nothing"}


def _copied(real: Ledger | None, copy: MemoryLedger, models: Sequence[str], now: datetime) -> dict[str, str]:
    """Copy the streams; what goes on in them is left alone.

    Returns:
        Models that are not looked at, with the reason.
    """
    left = {}
    for model in models:
        entries = tuple(real.read(model)) if real else ()
        if not entries:
            continue
        going = _going_on(model, entries)
        if going:
            left[model] = going
        copy.append(Append(model, entries, epoch=None, next_look=None if going else now))
    return left


def _going_on(model: str, entries: Sequence[Any]) -> str:
    """What a controller has to bring to its end before it looks at the triggers; empty when nothing is."""
    try:
        state = fold(model, entries)
    except AutoRetrainError as error:
        return str(error)
    job = state.open_job
    if job is not None:
        stands = "waits for a person" if job.waits_for_person else f"goes on ({job.status.value})"
        return f"job {job.job_id} {stands}"
    if state.rollback is not None:
        return f"a rollback goes on, asked for by {state.rollback.actor}"
    return f"a retraining is asked for by {state.start.actor}" if state.start else ""


def _kept_apart(settings: Settings, scratch: Path) -> Settings:
    """The same settings with a state directory of its own; the registry stays the real one.

    Runs of this machine need no object storage; those of a cluster do, to reach their rows.
    """
    database = sqlite_file(settings.tracking_uri)
    there = database is None or database.exists()  # MLflow would create it
    tracking = settings.tracking_uri if there else None
    changes: dict[str, Any] = {
        "state": scratch.absolute(),
        "mlflow": settings.mlflow.model_copy(update={"tracking_uri": tracking}),
    }
    if settings.adapters.compute == "subprocess":
        changes["storage"] = settings.storage.model_copy(update={"url": None})
    return settings.model_copy(update=changes)


def _without_hands(
    settings: Settings, ledger: MemoryLedger, real: Limits | None, telemetry: Telemetry
) -> Ports:
    """Ports that look at the world and change nothing in it."""
    looks = build_ports(
        settings,
        {
            "ledger": ledger,
            "observations": MemoryObservations(),
            "notifier": MemoryNotifier(),
            "telemetry": telemetry,
        },
    )
    return replace(
        looks,
        limits=_Limits(ledger, real) if real else ledger,
        registry=_Registry(looks.registry),
        compute=_Compute(),  # predictions and comparisons keep theirs
        tracker=_Tracker(),
        router=None,  # it ends before a canary would begin, and takes back no split
    )


class _Limits:
    """Implements Limits: what is really taken, and what would be."""

    def __init__(self, copy: Limits, real: Limits) -> None:
        self._copy, self._real = copy, real

    def used(self, units: Sequence[Unit]) -> Sequence[int]:
        """Sum both."""
        both = zip(self._copy.used(units), self._real.used(units), strict=True)
        return [one + other for one, other in both]


class _Registry:
    """Implements ModelRegistry: who serves, and nothing moved."""

    def __init__(self, real: ModelRegistry) -> None:
        self._real = real

    def champions(self, models: Sequence[str]) -> Mapping[str, ModelVersion]:
        """Ask the real one."""
        return self._real.champions(models)

    def candidate(self, model: str, job_id: str) -> ModelVersion | None:
        """No training has made one."""
        return None

    def set_champion(self, version: ModelVersion, expected: str | None) -> None:
        """Refuse: nothing comes so far in a dry run."""
        raise Permanent("a dry run moves no alias")


class _Compute:
    """Implements Compute: trainings that never begin, and never end."""

    def submit(self, run: RunRequest) -> None:
        """Start nothing."""

    def observe(self, key: str) -> RunStatus:
        """It would run."""
        return RunStatus(RunState.RUNNING)

    def cancel(self, key: str) -> None:
        """There is nothing to end."""

    def log_tail(self, key: str, lines: int = 50) -> str:
        """Nothing was printed."""
        return ""


class _Tracker:
    """Implements ExperimentTracker: opens no run."""

    def open_run(self, context: TrainingContext) -> Mapping[str, str]:
        """Give a training nothing."""
        return {}

    def annotate(self, version: ModelVersion, metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
        """Write nothing down."""


def clock() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)
