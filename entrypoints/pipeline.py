"""The library: the seed's API over the controller, with or without a controller running beside it."""

from __future__ import annotations

import getpass
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..domain import requests
from ..domain.config import TriggerConfig
from ..domain.controller import Controller
from ..domain.explain import Moment, timeline
from ..domain.idle import windows_of
from ..domain.jobs import JobStatus, RetrainingJob, TriggerType
from ..domain.sealing import Draft, Fault, canonical, verify
from ..domain.state import ModelState
from ..domain.validation import ValidationResult
from ..domain.verdict import Verdict
from ..domain.world import Ports
from ..ports.errors import (
    ConfigurationError,
    LeaseLost,
    Problem,
    Refused,
    Temporary,
    UnknownJob,
)
from ..ports.telemetry import TickReport
from ..ports.values import Pending
from .settings import Secrets, Settings, check_rules, load_settings
from .triggers import (
    DataDriftTrigger,
    ManualTrigger,
    PerformanceDegradationTrigger,
    RetrainingTrigger,
    ScheduledTrigger,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

PORTS = tuple(field.name for field in fields(Ports))
"""Names under which a port can be replaced."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 0.5  # seconds between two looks at something that is being computed


class AutoRetrainPipeline:
    """Watches, retrains, judges and promotes the models of one installation.

    Thread-safe. Where no controller runs, its calls run the loop themselves, for the model they are about;
    where one runs, they leave the work to it and wait for what the ledger shows.

    Args:
        config: Trigger configuration; fields set explicitly override the settings file, for this instance.
        settings: Checked settings, or the path of a settings file; ``None`` looks for ``autoretrain.toml``
            (``$AUTORETRAIN_SETTINGS``, then this directory).
        triggers: Your own triggers, asked for every model.
        clock: The time, as an aware datetime; ``None`` takes the system's.
        actor: Who asks; recorded with every request. ``None`` takes the user's name.
        kind: What this process is, for the lease (``library``, ``run``).
        **ports: Replacements by port name (``metrics=…``, ``ledger=…``; see ``PORTS``). A ledger that is also
            agenda and outbox, as ours are, replaces all three.

    Raises:
        ConfigurationError: Settings that cannot be used; every problem at once.
    """

    def __init__(
        self,
        config: TriggerConfig | None = None,
        *,
        settings: Settings | str | Path | None = None,
        triggers: Sequence[RetrainingTrigger] = (),
        clock: Callable[[], datetime] | None = None,
        actor: str | None = None,
        kind: str = "library",
        **ports: Any,
    ) -> None:
        from .container import holder_name

        self.settings = settings if isinstance(settings, Settings) else load_settings(settings)
        self._clock = clock or (lambda: datetime.now(UTC))
        self._actor = actor or getpass.getuser()
        self._holder = holder_name(kind)
        self._own = {trigger.name: trigger for trigger in triggers}
        check_rules(self.settings, {name: t.get_trigger_type() for name, t in self._own.items()})
        self.ports = _build_ports(self.settings, ports)
        self._lock = threading.RLock()
        self._keeps_lease = False
        self.config = config or TriggerConfig()
        self._controller = self._build(self.config.model_dump(include=self.config.model_fields_set))

    def _build(self, overrides: Mapping[str, Any]) -> Controller:
        self._overrides = dict(overrides)
        fleet = {
            name: spec.model_copy(update={"trigger": spec.trigger.model_copy(update=self._overrides)})
            for name, spec in self.settings.models.items()
        }
        return Controller(
            self.ports,
            fleet,
            self._holder,
            monotonic=time.monotonic,
            lease_seconds=self.settings.controller.lease_seconds,
            triggers={name: trigger.should_retrain for name, trigger in self._own.items()},
            trigger_types={name: trigger.get_trigger_type() for name, trigger in self._own.items()},
        )

    # -- triggers -----------------------------------------------------------------------------------------

    def configure_trigger(
        self,
        metric_threshold: float | None = None,
        drift_threshold: float | None = None,
        schedule: str | None = None,
        *,
        evaluation_window_days: int | None = None,
        training_window_days: int | None = None,
        time_zone: str | None = None,
    ) -> None:
        """Change the triggers of this instance; the settings file stays as it is.

        Args:
            metric_threshold: Lowest acceptable accuracy (or F1; R² for a regressor), 0 to 1.
            drift_threshold: Largest acceptable PSI, 0 to 1.
            schedule: Cron expression of five fields.
            evaluation_window_days: Recent data to judge, 1 to 365.
            training_window_days: Data to train on, 7 to 730.
            time_zone: IANA name of the schedule's zone.

        Raises:
            ConfigurationError: Values out of range; every problem at once, and nothing was changed.
        """
        from pydantic import ValidationError

        given = {
            "performance_metric_threshold": metric_threshold,
            "drift_threshold": drift_threshold,
            "schedule_expression": schedule,
            "evaluation_window_days": evaluation_window_days,
            "training_window_days": training_window_days,
            "time_zone": time_zone,
        }
        changes = {name: value for name, value in given.items() if value is not None}
        try:
            checked = TriggerConfig.model_validate({**self.config.model_dump(exclude_unset=True), **changes})
        except ValidationError as error:
            problems = [
                Problem(str(item["loc"][0]), repr(item["input"]), item["msg"]) for item in error.errors()
            ]
            raise ConfigurationError(problems) from None
        with self._lock:
            self.config = checked
            self._controller = self._build(checked.model_dump(include=checked.model_fields_set))

    @property
    def triggers(self) -> list[RetrainingTrigger]:
        """All triggers: the four of ours, bound to this instance, and your own."""
        ours = (PerformanceDegradationTrigger, DataDriftTrigger, ScheduledTrigger, ManualTrigger)
        return [*(trigger(self) for trigger in ours), *self._own.values()]

    def check_retrain_needed(self, model_name: str, timeout: float = 600.0) -> bool:
        """Say whether the triggers want a model retrained now. Starts nothing.

        Args:
            model_name: Name of the model.
            timeout: Seconds to wait for observations that are being computed.

        Returns:
            True for a proven yes. Unknown is False, and is logged with its reason; ``judge`` returns it.

        Raises:
            UnknownModel: The settings have no such model.
        """
        verdict = self.judge(model_name, timeout=timeout)
        if verdict.is_unknown:
            _log.warning("%s: whether to retrain is unknown: %s", model_name, verdict.reason)
        return verdict.is_yes

    def judge(self, model_name: str, trigger: str | None = None, timeout: float = 600.0) -> Verdict:
        """Return the triggers' verdict: yes, no or unknown, with reason and evidence.

        Args:
            model_name: Name of the model.
            trigger: A single trigger by name; ``None`` asks the model's whole rule.
            timeout: Seconds to wait for observations that are being computed.

        Raises:
            UnknownModel: The settings have no such model.
            Refused: There is no such trigger.
        """

        def look() -> Verdict | None:
            with self._lock:
                self._controller.enrol([model_name], self._clock())
                verdict = self._controller.judge(model_name, self._clock(), trigger)
            return None if isinstance(verdict, Pending) else verdict

        return _until(look, timeout, f"the verdict on {model_name}")

    # -- jobs ---------------------------------------------------------------------------------------------

    def start_retrain_job(
        self, model_name: str, training_config: Mapping[str, Any] | None = None, *, reason: str = ""
    ) -> str:
        """Start a retraining.

        Args:
            model_name: Name of the model.
            training_config: Handed to the training command, over the settings' parameters; JSON values.
            reason: Why, for the record.

        Returns:
            Identity of the job.

        Raises:
            UnknownModel: The settings have no such model.
            JobAlreadyOpen: The model has an open job.
            ConfigurationError: ``training_config`` holds something that is no JSON value.
        """
        parameters = dict(training_config or {})
        try:
            canonical(parameters)
        except (TypeError, ValueError) as error:
            fix = f"must hold JSON values only: {error}"
            raise ConfigurationError([Problem("training_config", "", fix)]) from None
        draft = self._request(model_name, lambda s: requests.ask_start(s, self._actor, parameters, reason))
        self._advance(model_name)
        return str(draft.data["job_id"])

    def get_job_status(self, job_id: str) -> RetrainingJob:
        """Return a job as it stands now, after taking it as far as it goes.

        Raises:
            UnknownJob: No model has such a job.
        """
        model = self._model_of(job_id)
        self._advance(model)
        return self._job(model, job_id)

    def wait(self, job_id: str, timeout: float = 3600.0) -> RetrainingJob:
        """Wait until a job has ended, or waits for a person.

        Args:
            job_id: The job.
            timeout: Seconds to wait at most.

        Raises:
            UnknownJob: No model has such a job.
            Temporary: It took longer; the job goes on.
        """
        model = self._model_of(job_id)

        def look() -> RetrainingJob | None:
            self._advance(model)
            job = self._job(model, job_id)
            answered = job.approval is not None or job.cancelled_by is not None
            waits = job.awaiting_until is not None and not answered
            return job if not job.is_open or waits else None

        return _until(look, timeout, f"job {job_id}")

    def validate_new_model(self, model_name: str, timeout: float = 3600.0) -> ValidationResult:
        """Return the validation of the model's open job, waiting for it; else that of its last job.

        The candidate is never looked at a second time: what is returned is what the ledger recorded.

        Args:
            model_name: Name of the model.
            timeout: Seconds to wait at most.

        Raises:
            UnknownModel: The settings have no such model.
            Refused: There is no job, or it ended without a validation; the text says why.
            Temporary: It took longer; the job goes on.
        """
        job = self._last_job(model_name)
        job = self.wait(job.job_id, timeout)
        if job.validation is None:
            raise Refused(f"job {job.job_id} has no validation: it is {job.status.value} ({job.outcome})")
        return job.validation

    def deploy_if_better(
        self, model_name: str, job_id: str, min_improvement: float = 0.05, timeout: float = 3600.0
    ) -> bool:
        """Approve a job that was started by hand, if its candidate improves enough.

        Floor and validation hold whatever is asked for. For a job that a trigger started, and for one that
        was decided already, the recorded decision is returned.

        Args:
            model_name: Name of the model.
            job_id: The job.
            min_improvement: Relative improvement asked for; 0.05 is 5 %, 0 is the least.
            timeout: Seconds to wait at most.

        Returns:
            Whether the candidate was promoted; the job's ``outcome`` says why not.

        Raises:
            ConfigurationError: ``min_improvement`` is negative or not a number.
            Refused: The job was decided with another minimum.
            UnknownJob: The model has no such job.
            Temporary: It took longer; the job goes on.
        """
        if not 0 <= min_improvement < float("inf"):
            fix = "must be 0 or more (0.05 is 5 %)"
            raise ConfigurationError([Problem("min_improvement", repr(min_improvement), fix)])
        self._known(model_name)
        if self._model_of(job_id) != model_name:
            raise UnknownJob(f"{model_name} has no job {job_id}")
        job = self.wait(job_id, timeout)
        if job.is_open and job.approval is None:
            self.approve(job_id, min_improvement=min_improvement)
            job = self.wait(job_id, timeout)
        asked = job.approval.min_improvement if job.approval else None
        if asked is not None and asked != min_improvement:
            raise Refused(f"job {job_id} was decided with a minimum of {asked:g}, not {min_improvement:g}")
        return job.deployed

    def approve(
        self, job_id: str, reason: str = "", *, min_improvement: float | None = None, override: bool = False
    ) -> None:
        """Let the candidate of a waiting job serve; floor and validation still hold.

        Args:
            job_id: The job.
            reason: Why, for the record.
            min_improvement: Relative improvement asked for on top; ``None`` for none.
            override: Also let back what a rollback keeps out.

        Raises:
            UnknownJob: No model has such a job.
            Refused: It does not wait for a person.
        """
        model = self._model_of(job_id)
        self._request(
            model,
            lambda s: requests.ask_approve(s, job_id, self._actor, reason, min_improvement, override),
        )
        self._advance(model)

    def reject(self, job_id: str, reason: str = "") -> None:
        """Refuse the candidate of a waiting job.

        Raises:
            UnknownJob: No model has such a job.
            Refused: It does not wait for a person.
        """
        model = self._model_of(job_id)
        self._request(model, lambda s: requests.ask_reject(s, job_id, self._actor, reason))
        self._advance(model)

    def cancel(self, job_id: str, reason: str = "") -> None:
        """End a job before its outcome; returns when it is asked for, ``wait`` waits for the end.

        Raises:
            UnknownJob: No model has such a job.
            Refused: It has ended, or its promotion has begun.
        """
        model = self._model_of(job_id)
        self._request(model, lambda s: requests.ask_cancel(s, job_id, self._actor, reason))
        self._advance(model)

    def rollback(
        self, model_name: str, reason: str = "", *, to: str | None = None, timeout: float = 60.0
    ) -> str:
        """Take the champion back.

        Args:
            model_name: Name of the model.
            reason: Why, for the record.
            to: Version to go back to; ``None`` takes the last one that served.
            timeout: Seconds to wait at most.

        Returns:
            Version that serves now.

        Raises:
            UnknownModel: The settings have no such model.
            Refused: There is nothing to go back to, or the alias could not be moved.
            Temporary: It took longer; the rollback goes on.
        """
        before = self._state(model_name).withdrawn_at
        self._request(model_name, lambda s: requests.ask_rollback(s, self._actor, reason, to))

        def look() -> ModelState | None:
            self._advance(model_name)
            state = self._state(model_name)
            return None if state.rollback else state

        state = _until(look, timeout, f"the rollback of {model_name}")
        if state.withdrawn_at == before or state.champion is None:
            raise Refused(f"{model_name} was not rolled back; 'autoretrain show {model_name}' says why")
        return state.champion.version.version

    def adopt_champion(self, model_name: str, reason: str = "") -> None:
        """Accept the champion alias as somebody else set it, which ends a conflict.

        Raises:
            Refused: Alias and ledger agree.
        """
        self._request(model_name, lambda s: requests.ask_adopt(s, self._actor, reason))

    def release_version(self, model_name: str, version: str, reason: str = "") -> None:
        """Let a version that was rolled back come into question again.

        Raises:
            Refused: It is not withdrawn.
        """
        self._request(model_name, lambda s: requests.ask_release(s, version, self._actor, reason))

    # -- views --------------------------------------------------------------------------------------------

    def list_recent_jobs(self, model_name: str, limit: int = 10) -> list[RetrainingJob]:
        """Return the latest jobs of a model, newest first.

        Raises:
            UnknownModel: The settings have no such model.
        """
        jobs = list(self._state(model_name).jobs.values())
        return jobs[::-1][: max(limit, 0)]

    @property
    def job_history(self) -> dict[str, RetrainingJob]:
        """All jobs of all models by identity."""
        with self._lock:
            states = [self._controller.state(model) for model in self._controller.fleet]
        return {job_id: job for state in states for job_id, job in state.jobs.items()}

    def explain(self, job_id: str) -> tuple[Moment, ...]:
        """Tell the story of a job: trigger, evidence, runs, scores, decision and why.

        Raises:
            UnknownJob: No model has such a job.
        """
        model = self._model_of(job_id)
        return timeline(self.ports.ledger.read(model), job_id)

    def verify_audit(self) -> list[Fault]:
        """Walk every stream; returns the first fault of each that has one, empty when all are whole."""
        ledger = self.ports.ledger
        found = (verify(model, ledger.read(model)) for model in ledger.models())
        return [fault for fault in found if fault is not None]

    # -- the loop -----------------------------------------------------------------------------------------

    def enrol(self) -> None:
        """Begin to watch every model of the settings."""
        with self._lock:
            self._controller.enrol(self._controller.fleet, self._clock())

    def tick(self) -> TickReport:
        """Run the loop once, for everything that is due."""
        with self._lock:
            self._keeps_lease = True
            return self._controller.tick(self._clock())

    def attach(self, scheduler: Any, seconds: float | None = None) -> Any:
        """Run the loop inside an application's own APScheduler, instead of a process of its own.

        Args:
            scheduler: A scheduler of APScheduler 3, background or asyncio.
            seconds: Time between two ticks; ``None`` takes ``controller.wait_seconds``.

        Returns:
            The scheduler's job; remove it, then call ``release``, to stop.
        """
        self.enrol()
        return scheduler.add_job(
            self.tick,
            "interval",
            seconds=seconds or self.settings.controller.wait_seconds,
            id="autoretrain",
            max_instances=1,
            coalesce=True,
            replace_existing=True,
        )

    def release(self) -> None:
        """Hand the lease back, so that another process may act at once."""
        with self._lock:
            self._keeps_lease = False
            self.ports.agenda.release(self._holder)

    # -- inside -------------------------------------------------------------------------------------------

    def _request(self, model: str, ask: Callable[[ModelState], Draft]) -> Draft:
        with self._lock:
            return self._controller.request(model, ask, self._clock())

    def _advance(self, model: str) -> None:
        """Run the loop for one model, unless a controller does."""
        with self._lock, self._leased(), suppress(LeaseLost):  # whoever has it now goes on with the work
            self._controller.advance(model, self._clock())

    @contextmanager
    def _leased(self) -> Iterator[None]:
        """Keep the lease no longer than a call, unless this instance runs the loop."""
        try:
            yield
        finally:
            if not self._keeps_lease:
                self.ports.agenda.release(self._holder)

    def _known(self, model: str) -> None:
        self._controller.spec(model)

    def _state(self, model: str) -> ModelState:
        self._known(model)
        with self._lock:
            return self._controller.state(model)

    def _last_job(self, model: str) -> RetrainingJob:
        state = self._state(model)
        if state.start is not None:
            return self._job(model, state.start.job_id)
        if state.last_job is None:
            raise Refused(f"{model} has no job yet; start one first")
        return state.last_job

    def _model_of(self, job_id: str) -> str:
        with self._lock:
            for model in self._controller.fleet:
                state = self._controller.state(model)
                if job_id in state.jobs or (state.start and state.start.job_id == job_id):
                    return model
        raise UnknownJob(f"no model has a job {job_id}; 'autoretrain jobs' lists them")

    def _job(self, model: str, job_id: str) -> RetrainingJob:
        state = self._state(model)
        if job_id in state.jobs:
            return state.jobs[job_id]
        start = state.start
        if start is None or start.job_id != job_id:
            raise UnknownJob(f"{model} has no job {job_id}; its request was cancelled before it was opened")
        now = self._clock()
        champion = state.champion.version if state.champion else None
        training, holdout = windows_of(self._controller.spec(model), champion, now)
        asked = state.verdicts.get(TriggerType.MANUAL.value, {})  # there only while nobody can say who serves
        return RetrainingJob(
            job_id=job_id,
            model_name=model,
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


def _build_ports(settings: Settings, replacements: Mapping[str, Any]) -> Ports:
    """Ports from the container, with the caller's own in place of ours."""
    from dependency_injector import providers

    from .container import Container

    unknown = sorted(set(replacements) - set(PORTS))
    if unknown:
        raise TypeError(f"there is no port named {', '.join(unknown)}; there are {', '.join(PORTS)}")
    container = Container(settings=settings, secrets=Secrets())
    for name, port in _with_ledger(replacements).items():
        container.providers[name].override(providers.Object(port))
    return Ports(**{name: container.providers[name]() for name in PORTS})


def _with_ledger(replacements: Mapping[str, Any]) -> dict[str, Any]:
    ledger = replacements.get("ledger")
    both = {"agenda": "claim", "outbox": "delivered"}
    same = {name: ledger for name, method in both.items() if hasattr(ledger, method)}
    return {**same, **replacements}


def _until(look: Callable[[], _T | None], timeout: float, what: str) -> _T:
    """Look until there is an answer."""
    deadline, pause = time.monotonic() + timeout, _FIRST_PAUSE
    while True:
        answer = look()
        if answer is not None:
            return answer
        if time.monotonic() >= deadline:
            raise Temporary(f"{what} took longer than {timeout:g} s; it goes on")
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)
