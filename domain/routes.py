"""Who gets which notice: routes by severity, model and owner."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from ..ports.notifier import DEFAULT_TARGET, SEVERITIES, Notice, Severity


class Route(BaseModel):
    """Notices that some targets get; one must fit all that is stated.

    Attributes:
        targets: Who gets them; ``default`` is the one of ``adapters.notifier``.
        severity: Least severity: ``critical`` leaves out warnings, ``info`` nothing.
        models: Names of models, as patterns of a shell (``turbine-*``); empty takes all.
        owners: Owners of models; empty takes all, also models without an owner.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    targets: tuple[Annotated[str, Field(min_length=1)], ...] = Field(min_length=1)
    severity: Severity = "info"
    models: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()

    def takes(self, notice: Notice, owner: str | None) -> bool:
        """Whether its targets get a notice.

        Args:
            notice: The notice.
            owner: Owner of its model; ``None`` when it has none.
        """
        return (
            SEVERITIES.index(notice.severity) <= SEVERITIES.index(self.severity)
            and (not self.models or any(fnmatchcase(notice.model, pattern) for pattern in self.models))
            and (not self.owners or owner in self.owners)
        )


def addressed(notices: Iterable[Notice], routes: Sequence[Route], owner: str | None) -> tuple[Notice, ...]:
    """Address notices: one for every target of every route that takes them, each target once.

    The ids depend on notice and target alone, so that a target gets the same event under one id for ever,
    whatever becomes of the routes.

    Args:
        notices: Notices about one model.
        routes: All routes; what none of them takes goes to the default notifier.
        owner: Owner of the model; ``None`` when it has none.
    """
    return tuple(_to(notice, target) for notice in notices for target in _targets_of(notice, routes, owner))


def _targets_of(notice: Notice, routes: Sequence[Route], owner: str | None) -> Sequence[str]:
    found = (target for route in routes if route.takes(notice, owner) for target in route.targets)
    return list(dict.fromkeys(found)) or [DEFAULT_TARGET]


def _to(notice: Notice, target: str) -> Notice:
    if target == DEFAULT_TARGET:
        return notice
    return replace(notice, id=f"{notice.id}.{target}", target=target)
