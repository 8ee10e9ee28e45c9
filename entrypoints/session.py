"""One program's way to the controller: the lock, the lease, the clock, and the waiting behind the library."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

from ..domain.asking import Crew
from ..domain.controller import Controller
from ..domain.idle import situation_of, windows_of
from ..domain.jobs import JobStatus, RetrainingJob
from ..domain.sealing import Draft
from ..domain.spec import ModelSpec
from ..domain.state import ModelState, StartRequest
from ..domain.superseding import may_be_superseded
from ..domain.suppression import Held, held_back, signal_answer
from ..domain.trigger_types import TriggerType
from ..domain.verdict import Answer, Verdict
from ..domain.world import Ports
from ..ports.errors import Refused, Temporary, UnknownJob
from ..ports.notifier import Notifier
from ..ports.telemetry import TickReport
from ..ports.values import Pending
from .settings import Settings
from .triggers import RetrainingTrigger

_T = TypeVar("_T")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 0.5  # seconds between two looks at something that is being computed


class Session:
    """Runs the controller for one program, one thread at a time.

    Where no other process runs the loop, ``advance`` does, and gives the lease back after each call; where
    one does, ``advance`` leaves the work to it.

    Args:
        settings: Checked settings.
        ports: The world.
        own: The user's own triggers by name.
        clock: The time; ``None`` takes the system's.
        holder: Identity of this program for its leases.
        overrides: Fields of the trigger configuration that differ from the settings.
        crew: Puts the controller's questions; ``None`` waits for each answer.
        targets: Who is told by the routes of the settings, by name.
    """

    def __init__(
        self,
        settings: Settings,
        ports: Ports,
        own: Mapping[str, RetrainingTrigger],
        clock: Callable[[], datetime] | None,
        holder: str,
        overrides: Mapping[str, Any],
        crew: Crew | None = None,
        targets: Mapping[str, Notifier] | None = None,
    ) -> None:
        self._settings = settings
        self._ports = ports
        self._own = own
        self._clock = clock or (lambda: datetime.now(UTC))
        self._holder = holder
        self._crew = crew
        self._targets = targets or {}
        self._lock = threading.RLock()
        self._keeps_lease = False
        self._controller = self._build(overrides)

    def _build(self, overrides: Mapping[str, Any]) -> Controller:
        fleet = {
            name: spec.model_copy(update={"trigger": spec.trigger.model_copy(update=dict(overrides))})
            for name, spec in self._settings.models.items()
        }
        return Controller(
            self._ports,
            fleet,
            self._holder,
            monotonic=time.monotonic,
            lease_seconds=self._settings.controller.lease_seconds,
            limits=self._settings.limits,
            backend=self._settings.adapters.compute,
            prices=self._settings.prices(),
            crew=self._crew,
            triggers={name: trigger.should_retrain for name, trigger in self._own.items()},
            trigger_types={name: trigger.get_trigger_type() for name, trigger in self._own.items()},
            routes=self._settings.notifier.routes,
            targets=self._targets,
        )

    def reconfigure(self, overrides: Mapping[str, Any]) -> None:
        """Go on with another trigger configuration."""
        with self._lock:
            self._controller = self._build(overrides)

    # -- what is known ------------------------------------------------------------------------------------

    def spec(self, model: str) -> ModelSpec:
        """Settings of a model; raises ``UnknownModel`` when they do not have it."""
        return self._controller.spec(model)

    def check_known(self, model: str) -> None:
        """Raise ``UnknownModel`` for a model that the settings do not have."""
        self._controller.spec(model)

    def state(self, model: str) -> ModelState:
        """What the ledger knows of a model."""
        self.check_known(model)
        with self._lock:
            return self._controller.state(model)

    def states(self) -> list[ModelState]:
        """What the ledger knows of every model of the settings."""
        with self._lock:
            return [self._controller.state(model) for model in self._controller.fleet]

    def history(self, model: str) -> ModelState:
        """What the ledger knows of a model, with all its jobs: ``state`` has the latest ones only."""
        state = self.state(model)
        with self._lock:
            return self._controller.history(model) if state.earlier_jobs else state

    def model_of(self, job_id: str) -> str:
        """The model that a job belongs to; raises ``UnknownJob`` when there is none."""
        states = self.states()
        for state in states:
            if job_id in state.jobs or (state.start and state.start.job_id == job_id):
                return state.model
        for state in states:
            if state.earlier_jobs and job_id in self.history(state.model).jobs:
                return state.model
        raise UnknownJob(f"no model has a job {job_id}; 'autoretrain jobs' lists them")

    def job(self, model: str, job_id: str) -> RetrainingJob:
        """A job as it stands; one that was only asked for is pending."""
        state = self.state(model)
        if job_id in state.jobs:
            return state.jobs[job_id]
        if state.start is None or state.start.job_id != job_id:
            earlier = self.history(model).jobs
            if job_id in earlier:
                return earlier[job_id]
            raise UnknownJob(f"{model} has no job {job_id}; its request was cancelled before it was opened")
        return self._requested(state, state.start)

    def last_job(self, model: str) -> RetrainingJob:
        """The job that was opened, or asked for, last; raises ``Refused`` when there is none."""
        state = self.state(model)
        if state.start is not None:
            return self._requested(state, state.start)
        if state.last_job is None:
            raise Refused(f"{model} has no job yet; start one first")
        return state.last_job

    def _requested(self, state: ModelState, start: StartRequest) -> RetrainingJob:
        now = self._clock()
        champion = state.champion.version if state.champion else None
        training, holdout = windows_of(self._controller.spec(state.model), champion, now)
        asked = state.verdicts.get(TriggerType.MANUAL.value, {})  # there only while nobody can say who serves
        return RetrainingJob(
            job_id=start.job_id,
            model_name=state.model,
            trigger_type=TriggerType.MANUAL,
            status=JobStatus.PENDING,
            created_at=now,
            reason=start.reason,
            training_window=training,
            holdout_window=holdout,
            parameters=start.parameters,
            champion=champion,
            stalled=asked["reason"] if asked.get("answer") == "unknown" else "",
        )

    # -- what is done -------------------------------------------------------------------------------------

    def enrol(self, model: str | None = None) -> None:
        """Begin to watch a model; ``None`` takes every model of the settings."""
        with self._lock:
            self._controller.enrol(self._controller.fleet if model is None else [model], self._clock())

    def judge(self, model: str, trigger: str | None) -> Verdict | Pending:
        """What the triggers, or one of them, say of a model now."""
        with self._lock:
            return self._controller.judge(model, self._clock(), trigger)

    def held_back(self, model: str, verdict: Verdict) -> Held | None:
        """Why no job follows from a verdict now; ``None`` when one does, or the verdict is not yes."""
        if not verdict.is_yes:
            return None
        with self._lock:
            state, spec, now = self._controller.state(model), self._controller.spec(model), self._clock()
            exhausted = self._controller.exhausted(model, now)
        if state.open_job is not None and not may_be_superseded(spec, state, now):
            return Held("open job", None)
        kinds = {name: trigger.get_trigger_type() for name, trigger in self._own.items()}
        answer = signal_answer(spec.combined_rule(kinds), verdict, situation_of(state, None, now))
        return held_back(spec, state, now, answer is Answer.YES, exhausted)

    def request(self, model: str, ask: Callable[[ModelState], Draft]) -> Draft:
        """Append a person's request; see ``Controller.request``."""
        with self._lock:
            return self._controller.request(model, ask, self._clock())

    def advance(self, model: str) -> None:
        """Run the loop for one model's open job, unless another process does."""
        with self._lock, self._leased():
            self._controller.advance(model, self._clock())

    def tick(self) -> TickReport:
        """Run the loop once, for everything that is due, and keep the lease from now on."""
        with self._lock:
            self._keeps_lease = True
            return self._controller.tick(self._clock())

    def release(self) -> None:
        """Hand the leases back."""
        with self._lock:
            self._keeps_lease = False
            self._ports.agenda.release(self._holder)

    @contextmanager
    def _leased(self) -> Iterator[None]:
        """Keep the lease no longer than a call, unless this program runs the loop."""
        try:
            yield
        finally:
            if not self._keeps_lease:
                self._ports.agenda.release(self._holder)


def until(look: Callable[[], _T | None], timeout: float, what: str) -> _T:
    """Look until there is an answer.

    Args:
        look: Returns the answer, or ``None`` when there is none yet.
        timeout: Seconds to look at most.
        what: What is waited for, for the message.

    Raises:
        Temporary: There was none in time.
    """
    deadline, pause = time.monotonic() + timeout, _FIRST_PAUSE
    while True:
        answer = look()
        if answer is not None:
            return answer
        if time.monotonic() >= deadline:
            raise Temporary(f"{what} took longer than {timeout:g} s; it goes on")
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)
