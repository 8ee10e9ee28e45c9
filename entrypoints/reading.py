"""The light reading path: the ledger folded into views, without checked settings, container or library.

A command that only looks should answer at once, also where the settings do not pass their check or an extra
is not installed. So this module imports the standard library, the fold, and the adapter of the one ledger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..domain.explain import Moment, timeline
from ..domain.fold import fold
from ..domain.jobs import RetrainingJob
from ..domain.sealing import Fault
from ..domain.state import ModelState
from ..ports.errors import ConfigurationError, Problem, Refused, UnknownJob, UnknownModel
from ..ports.ledger import Ledger
from ..ports.notifier import DEFAULT_TARGET
from ..ports.outbox import Outgoing
from .audit import chains_alone, examine
from .settings_file import DEFAULT_STATE, find_settings_file, read_toml
from .settings_file import FILE_NAME as FILE_NAME
from .stores import Store, store_of_file

_FAR_AHEAD = datetime(9999, 12, 31, tzinfo=UTC)
_ALL = 2**31 - 1


class States:
    """The state of every model, folded as far as the ledger goes at each call.

    Args:
        ledger: Where the streams are.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._known: dict[str, ModelState] = {}

    def __getitem__(self, model: str) -> ModelState:
        known = self._known.get(model, ModelState(model))
        state = fold(model, self._ledger.read(model, known.head.seq), known)
        self._known[model] = state
        return state


class Installation:
    """What can be read of an installation, changing nothing in it but the next try of a notice.

    Args:
        settings: The settings file, or a directory that holds it; ``None`` looks for it.

    Raises:
        ConfigurationError: There is no settings file, it is not TOML, or it names no usable state directory.
    """

    def __init__(self, settings: str | Path | None = None) -> None:
        found = place_of(settings)
        self.fleet: tuple[str, ...] = found.models
        self.settings_file = found.settings_file
        self.has_audit = found.has_audit
        self.targets: tuple[str, ...] = found.targets
        self.store = found.store
        self.state_dir = found.store.state_dir
        ledger = found.store.ledger()
        # A ledger that is not there is not created by looking for it.
        self._ledger = ledger if ledger.versions()[0] else None
        self._states = States(self._ledger) if self._ledger else None

    @property
    def ledger(self) -> Ledger | None:
        """The ledger; ``None`` before there is one."""
        return self._ledger

    def models(self) -> list[str]:
        """Names of all models of the settings and of the ledger, sorted."""
        recorded: Sequence[str] = self._ledger.models() if self._ledger else ()
        return sorted({*self.fleet, *recorded})

    def state(self, model: str) -> ModelState:
        """What the ledger knows of a model.

        Raises:
            UnknownModel: Neither settings nor ledger have it.
        """
        known = self.models()
        if model not in known:
            raise UnknownModel(f"there is no model {model!r}; there are: {', '.join(known) or 'none'}")
        return self._states[model] if self._states else ModelState(model)

    def states(self) -> list[ModelState]:
        """What the ledger knows of all models, sorted by name."""
        return [self._states[model] if self._states else ModelState(model) for model in self.models()]

    def find_job(self, prefix: str) -> tuple[str, str]:
        """Find a job by its identity, or by a beginning of it that no other job has.

        Returns:
            Name of its model, and its whole identity.

        Raises:
            UnknownJob: No model has such a job.
            Refused: Several jobs begin so; names them.
        """
        found = [
            (state.model, job_id)
            for state in self.states()
            for job_id in job_ids(state)
            if prefix and job_id.startswith(prefix)
        ]
        exact = [(model, job_id) for model, job_id in found if job_id == prefix]
        if len(exact or found) > 1:
            named = ", ".join(f"{job_id} ({model})" for model, job_id in found)
            raise Refused(f"several jobs begin with {prefix}: {named}")
        if not found:
            raise UnknownJob(f"no model has a job {prefix}; 'autoretrain jobs' lists them")
        return (exact or found)[0]

    def job(self, model: str, job_id: str) -> RetrainingJob | None:
        """A job as it stands; ``None`` when it was asked for and is not opened yet."""
        return self.state(model).jobs.get(job_id)

    def timeline(self, model: str, job_id: str) -> tuple[Moment, ...]:
        """The story of a job; empty for an unknown one."""
        return timeline(self._ledger.read(model), job_id) if self._ledger else ()

    def next_look(self, model: str) -> datetime | None:
        """When a controller will look at a model; ``None`` when no time is set.

        The agenda's own methods take the lease, which a command that only looks must not do.
        """
        return self._ledger.next_look(model) if self._ledger else None

    def undelivered(self) -> list[Outgoing]:
        """Notices that wait, the most urgent first, then those that were given up, oldest first."""
        if self._ledger is None:
            return []
        return [*self._ledger.due(_FAR_AHEAD, limit=_ALL), *self._ledger.dead_letters()]

    def find_notices(self, prefix: str) -> list[str]:
        """Identities of notices that have not arrived, by a beginning that those of one event alone have.

        Raises:
            Refused: None begins so, or those of several events do; names them.
        """
        ids = [outgoing.notice.id for outgoing in self.undelivered()]
        found = [notice_id for notice_id in ids if prefix and notice_id.startswith(prefix)]
        if not found:
            raise Refused(
                f"no notice {prefix or repr(prefix)} waits or was given up; 'autoretrain notices' lists them"
            )
        if prefix in found:
            return [prefix]
        if len({notice_id.partition(".")[0] for notice_id in found}) > 1:
            raise Refused(f"several notices begin with {prefix}: {', '.join(found)}")
        return found

    def resend(self, notice_ids: Sequence[str], now: datetime, to: str | None = None) -> int:
        """Make notices due at once; returns how many are. See ``Outbox.resend``.

        Args:
            notice_ids: Identities.
            now: Time of the next try.
            to: Target that gets them from now on; ``None`` leaves that as it is.

        Raises:
            Refused: The settings have no such target.
        """
        if to not in (None, DEFAULT_TARGET, *self.targets):
            known = ", ".join((*self.targets, DEFAULT_TARGET))
            raise Refused(f"there is no target {to!r} in the settings; there are {known}")
        target = "" if to == DEFAULT_TARGET else to
        return self._ledger.resend(notice_ids, now, target) if self._ledger else 0

    def faults(self) -> list[Fault]:
        """Walk every stream by its chain; the first fault of each that has one, empty when all are whole."""
        return list(examine(self._ledger, chains_alone()).faults)


@dataclass(frozen=True, slots=True)
class Place:
    """What a settings file says without being checked as a whole.

    Attributes:
        settings_file: The file.
        models: Names of its models.
        has_audit: Whether it has a section ``audit``.
        store: Where the ledger is.
        targets: Names of ``notifier.targets``.
    """

    settings_file: Path
    models: tuple[str, ...]
    has_audit: bool
    store: Store
    targets: tuple[str, ...] = ()


def place_of(settings: str | Path | None = None) -> Place:
    """Find an installation by its settings file.

    Args:
        settings: The file, or a directory that holds it; ``None`` looks for it.

    Raises:
        ConfigurationError: There is no settings file, it is not TOML, or it names no usable place.
        MissingExtra: The driver of the store is not installed.
    """
    file = find_settings_file(settings)
    values = read_toml(file)
    models, state = values.get("models", {}), values.get("state", DEFAULT_STATE)
    problems = [
        Problem(name, repr(value), f"must be {wanted}")
        for name, value, kind, wanted in (
            ("models", models, dict, "a table"),
            ("state", state, str, "a path"),
        )
        if not isinstance(value, kind)
    ]
    if problems:
        raise ConfigurationError(problems)
    store = store_of_file(values, (file.parent / state).absolute())
    return Place(file, tuple(models), "audit" in values, store, _targets(values.get("notifier")))


def _targets(notifier: Any) -> tuple[str, ...]:
    """Names of targets, as far as they can be read; the settings' own check says what is wrong."""
    targets = notifier.get("targets") if isinstance(notifier, dict) else None
    return tuple(targets) if isinstance(targets, dict) else ()


def job_ids(state: ModelState) -> list[str]:
    """Identities of a model's jobs, oldest first; one that is asked for and not opened yet comes last."""
    return [*state.jobs, *([state.start.job_id] if state.start else [])]
