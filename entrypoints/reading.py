"""The light reading path: the ledger folded into views, without checked settings, container or library.

A command that only looks should answer at once, also where the settings do not pass their check or an extra
is not installed. So this module imports the standard library, the fold, and the adapter of the one ledger.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from ..domain.explain import Moment, timeline
from ..domain.jobs import RetrainingJob
from ..domain.sealing import Fault, verify
from ..domain.state import ModelState, fold
from ..ports.errors import ConfigurationError, Problem, Refused, UnknownJob, UnknownModel
from ..ports.ledger import Ledger
from .settings_file import DEFAULT_STATE, find_settings_file, read_toml
from .settings_file import FILE_NAME as FILE_NAME
from .stores import Store, store_of_file


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
    """What can be read of an installation without changing anything in it.

    Args:
        settings: The settings file, or a directory that holds it; ``None`` looks for it.

    Raises:
        ConfigurationError: There is no settings file, it is not TOML, or it names no usable state directory.
    """

    def __init__(self, settings: str | Path | None = None) -> None:
        fleet, self.store = place_of(settings)
        self.fleet: tuple[str, ...] = tuple(fleet)
        self.state_dir = self.store.state_dir
        ledger = self.store.ledger()
        # A ledger that is not there is not created by looking for it.
        self._ledger = ledger if ledger.versions()[0] else None
        self._states = States(self._ledger) if self._ledger else None

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

    def faults(self) -> list[Fault]:
        """Walk every stream; the first fault of each that has one, empty when all are whole."""
        if self._ledger is None:
            return []
        found = (verify(model, self._ledger.read(model)) for model in self._ledger.models())
        return [fault for fault in found if fault is not None]


def place_of(settings: str | Path | None = None) -> tuple[dict[str, Any], Store]:
    """Find the models of a settings file, as they stand there, and the store of its ledger.

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
    return models, store_of_file(values, (file.parent / state).absolute())


def job_ids(state: ModelState) -> list[str]:
    """Identities of a model's jobs, oldest first; one that is asked for and not opened yet comes last."""
    return [*state.jobs, *([state.start.job_id] if state.start else [])]
