"""The library: the seed's API over the controller, with or without a controller running beside it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..domain import requests
from ..domain.anchors import Anchor
from ..domain.config import TriggerConfig
from ..domain.explain import Moment, timeline
from ..domain.jobs import Approval, RetrainingJob, is_same_person
from ..domain.sealing import Fault, canonical, load
from ..domain.state import ModelState
from ..domain.suppression import Held
from ..domain.validation import ValidationResult
from ..domain.verdict import Verdict
from ..ports.anchors import AnchorKeeper
from ..ports.errors import (
    ConfigurationError,
    Problem,
    Refused,
    Temporary,
    UnknownJob,
)
from ..ports.notifier import Notifier
from ..ports.telemetry import TickReport
from ..ports.values import Pending
from .audit import chains_alone, examine
from .people import current_user
from .session import Session, until
from .settings import Settings, check_rules, load_settings
from .side_by_side import SideBySide
from .triggers import (
    DataDriftTrigger,
    ManualTrigger,
    PerformanceDegradationTrigger,
    RetrainingTrigger,
    ScheduledTrigger,
)

if TYPE_CHECKING:
    from .anchoring import Anchoring

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


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
        kind: What this process is, for its leases (``library``, ``run``).
        patient: Whether a call waits for slow parts of the world. A loop does not: what takes longer than
            ``controller.patience_seconds`` is taken up by a later tick, and delays no other model.
        **ports: Replacements by port name (``metrics=…``, ``ledger=…``; ``container.PORTS`` lists them). A
            ledger that is also agenda, limits and outbox, as ours are, replaces all four. ``anchors=…``
            replaces the keeper of anchors, ``targets={…}`` notifiers of ``notifier.targets`` by name.

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
        patient: bool = True,
        **ports: Any,
    ) -> None:
        from .container import build_keeper, build_ports, holder_name
        from .targets import build_targets

        self.settings = settings if isinstance(settings, Settings) else load_settings(settings)
        self.config = config or TriggerConfig()
        self._actor = actor or current_user()
        self._own = {trigger.name: trigger for trigger in triggers}
        check_rules(self.settings, {name: t.get_trigger_type() for name, t in self._own.items()})
        self.anchor_keeper: AnchorKeeper | None = ports.pop("anchors", None) or build_keeper(self.settings)
        given = dict(ports.pop("targets", None) or {})
        self.targets: Mapping[str, Notifier] = {**build_targets(self.settings, given), **given}
        self.ports = build_ports(self.settings, ports)
        self._clock = clock or (lambda: datetime.now(UTC))
        self._session = Session(
            self.settings,
            self.ports,
            self._own,
            self._clock,
            holder_name(kind),
            _explicit(self.config),
            crew=None if patient else SideBySide(self.settings.controller.patience_seconds),
            targets=self.targets,
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
        self.config = checked
        self._session.reconfigure(_explicit(checked))

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
        self._session.enrol(model_name)

        def look() -> Verdict | None:
            verdict = self._session.judge(model_name, trigger)
            return None if isinstance(verdict, Pending) else verdict

        return until(look, timeout, f"the verdict on {model_name}")

    def held_back(self, model_name: str, verdict: Verdict | None = None) -> Held | None:
        """Say why no job would be opened now though the triggers want one, and until when.

        Args:
            model_name: Name of the model.
            verdict: What ``judge`` returned; ``None`` judges now.

        Returns:
            The reason: ``open job``, ``conflict``, ``cooldown``, ``budget`` or ``for``. ``None`` when nothing
            stands in the way, or the triggers want none.

        Raises:
            UnknownModel: The settings have no such model.
        """
        return self._session.held_back(model_name, self.judge(model_name) if verdict is None else verdict)

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
            JobAlreadyOpen: The model has an open job. One that waits for a person gives way by
                ``promotion.pending = "supersede"``.
            ConfigurationError: ``training_config`` holds something that is no JSON value.
        """
        parameters = dict(training_config or {})
        try:
            canonical(parameters)
        except (TypeError, ValueError) as error:
            fix = f"must hold JSON values only: {error}"
            raise ConfigurationError([Problem("training_config", "", fix)]) from None
        supersede = self._session.spec(model_name).promotion.pending == "supersede"
        draft = self._session.request(
            model_name, lambda s: requests.ask_start(s, self._actor, parameters, reason, supersede)
        )
        self._session.advance(model_name)
        return str(draft.data["job_id"])

    def get_job_status(self, job_id: str) -> RetrainingJob:
        """Return a job as it stands now, after taking it as far as it goes.

        Raises:
            UnknownJob: No model has such a job.
        """
        model = self._session.model_of(job_id)
        self._session.advance(model)
        return self._session.job(model, job_id)

    def wait(self, job_id: str, timeout: float = 3600.0) -> RetrainingJob:
        """Wait until a job has ended, or waits for a person.

        Args:
            job_id: The job.
            timeout: Seconds to wait at most.

        Raises:
            UnknownJob: No model has such a job.
            Temporary: It took longer; the job goes on.
        """
        model = self._session.model_of(job_id)

        def look() -> RetrainingJob | None:
            self._session.advance(model)
            job = self._session.job(model, job_id)
            waits = job.waits_for_person and self._session.state(model).start is None
            return job if not job.is_open or waits else None

        return until(look, timeout, f"job {job_id}")

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
        job = self._session.last_job(model_name)
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
            Whether the candidate was promoted; the job's ``outcome`` says why not. False as well while a
            second person has to approve (``promotion.approvals``); the job is open then.

        Raises:
            ConfigurationError: ``min_improvement`` is negative or not a number.
            Refused: The job was decided with another minimum, or its champion cannot be scored; ``approve``
                needs no minimum.
            UnknownJob: The model has no such job.
            Temporary: It took longer; the job goes on.
        """
        _require_minimum(min_improvement)
        self._session.check_known(model_name)
        if self._session.model_of(job_id) != model_name:
            raise UnknownJob(f"{model_name} has no job {job_id}")
        job = self.wait(job_id, timeout)
        if job.waits_for_person and self._own_approval(job) is None:
            self.approve(job_id, min_improvement=min_improvement)
            job = self.wait(job_id, timeout)
        answer = self._own_approval(job) or job.approval
        asked = answer.min_improvement if answer else None
        if asked is not None and asked != min_improvement:
            raise Refused(f"job {job_id} was decided with a minimum of {asked:g}, not {min_improvement:g}")
        return job.deployed

    def _own_approval(self, job: RetrainingJob) -> Approval | None:
        """This caller's approval of a job; ``None`` where they gave none."""
        own = (each for each in job.approvals if is_same_person(each.actor, self._actor))
        return next(own, None)

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
            Refused: It does not wait for a person, or you approved it already and somebody else has to; or an
                improvement is asked for, and the champion cannot be scored.
            ConfigurationError: ``min_improvement`` is negative or not a number.
        """
        if min_improvement is not None:
            _require_minimum(min_improvement)
        model = self._session.model_of(job_id)
        self._session.request(
            model,
            lambda s: requests.ask_approve(s, job_id, self._actor, reason, min_improvement, override),
        )
        self._session.advance(model)

    def reject(self, job_id: str, reason: str = "") -> None:
        """Refuse the candidate of a waiting job.

        Raises:
            UnknownJob: No model has such a job.
            Refused: It does not wait for a person.
        """
        model = self._session.model_of(job_id)
        self._session.request(model, lambda s: requests.ask_reject(s, job_id, self._actor, reason))
        self._session.advance(model)

    def cancel(self, job_id: str, reason: str = "") -> None:
        """End a job before its outcome; returns when it is asked for, ``wait`` waits for the end.

        Raises:
            UnknownJob: No model has such a job.
            Refused: It has ended, or its promotion has begun.
        """
        model = self._session.model_of(job_id)
        self._session.request(model, lambda s: requests.ask_cancel(s, job_id, self._actor, reason))
        self._session.advance(model)

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
        before = self._session.state(model_name)
        self._session.request(model_name, lambda s: requests.ask_rollback(s, self._actor, reason, to))

        def look() -> ModelState | None:
            self._session.advance(model_name)
            state = self._session.state(model_name)
            return None if state.rollback else state

        try:
            state = until(look, timeout, f"the rollback of {model_name}")
        except Temporary as late:
            going = self._session.state(model_name).rollback
            raise Temporary(f"{late}: {going.stalled}" if going and going.stalled else str(late)) from None
        if state.withdrawn_at == before.withdrawn_at or state.champion is None:
            raise Refused(f"{model_name} was not rolled back: {self._failure(model_name, before.head.seq)}")
        return state.champion.version.version

    def _failure(self, model_name: str, after: int) -> str:
        """Why the last rollback failed."""
        entries = self.ports.ledger.read(model_name, after)
        reasons = [load(entry.data)["reason"] for entry in entries if entry.kind == "rollback.failed"]
        return str(reasons[-1])

    def adopt_champion(self, model_name: str, reason: str = "") -> None:
        """Accept the champion alias as somebody else set it, which ends a conflict.

        Raises:
            Refused: Alias and ledger agree.
        """
        self._session.request(model_name, lambda s: requests.ask_adopt(s, self._actor, reason))

    def release_version(self, model_name: str, version: str, reason: str = "") -> None:
        """Let a version that was rolled back come into question again.

        Raises:
            Refused: It is not withdrawn.
        """
        self._session.request(model_name, lambda s: requests.ask_release(s, version, self._actor, reason))

    # -- views --------------------------------------------------------------------------------------------

    def list_recent_jobs(self, model_name: str, limit: int = 10) -> list[RetrainingJob]:
        """Return the latest jobs of a model, newest first.

        Raises:
            UnknownModel: The settings have no such model.
        """
        state = self._session.state(model_name)
        if limit > len(state.jobs):
            state = self._session.history(model_name)
        jobs = list(state.jobs.values())
        return jobs[::-1][: max(limit, 0)]

    @property
    def job_history(self) -> dict[str, RetrainingJob]:
        """All jobs of all models by identity."""
        histories = (self._session.history(state.model) for state in self._session.states())
        return {job_id: job for state in histories for job_id, job in state.jobs.items()}

    def explain(self, job_id: str) -> tuple[Moment, ...]:
        """Tell the story of a job: trigger, evidence, runs, scores, decision and why.

        Raises:
            UnknownJob: No model has such a job.
        """
        model = self._session.model_of(job_id)
        return timeline(self.ports.ledger.read(model), job_id)

    def verify_audit(self) -> list[Fault]:
        """Walk every stream, and hold it against the anchors, where the settings keep some.

        Returns:
            Anchors that are no good, and the first fault of each stream with one; empty when all are whole.

        Raises:
            ConfigurationError: Anchors are kept, and no public key is there to check them with.
            MissingExtra: Anchors are kept, and cryptography is not installed.
            Temporary: The place of the anchors is away.
        """
        from .anchor_keys import evidence_of

        keeper = self.anchor_keeper
        evidence = chains_alone() if keeper is None else evidence_of(self.settings, keeper)
        return list(examine(self.ports.ledger, evidence).faults)

    def anchor_audit(self) -> Anchor:
        """Sign the ends of all streams, and keep that where the settings say.

        Raises:
            ConfigurationError: The settings keep no anchors, or name no usable private key.
            Refused: The ledger has no entry yet.
            Temporary: The place of the anchors is away.
        """
        return self.anchoring().make(self._clock())

    def anchoring(self) -> Anchoring:
        """What makes anchors here; see ``anchor_audit`` for what is raised."""
        from .anchor_keys import read_signer
        from .anchoring import Anchoring

        keeper = self.anchor_keeper
        if keeper is None:
            fix = "set it to 'file', 'mlflow' or 'command', and say where"
            raise ConfigurationError([Problem("audit.keeper", "'none'", fix)])
        return Anchoring(self.ports.ledger, keeper, read_signer(self.settings))

    # -- the loop -----------------------------------------------------------------------------------------

    def enrol(self) -> None:
        """Begin to watch every model of the settings."""
        self._session.enrol()

    def tick(self) -> TickReport:
        """Run the loop once, for everything that is due."""
        return self._session.tick()

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
        self._session.release()


def _explicit(config: TriggerConfig) -> dict[str, Any]:
    """The fields that somebody set, which override the settings file."""
    return config.model_dump(include=config.model_fields_set)


def _require_minimum(improvement: float) -> None:
    if not 0 <= improvement < float("inf"):
        fix = "must be 0 or more (0.05 is 5 %)"
        raise ConfigurationError([Problem("min_improvement", repr(improvement), fix)])
