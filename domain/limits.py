"""Limits across models: jobs a day and trainings at once, of the fleet and of parts of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, Field

from ..ports.limits import Unit
from .sealing import Draft
from .spec import ModelSpec
from .trigger_types import TriggerType


class Limit(BaseModel):
    """What a part of the fleet may use.

    Attributes:
        jobs_per_day: Jobs opened by triggers in a calendar day (UTC); ``None`` for any number. A person's
            request is neither counted nor held back.
        concurrent_trainings: Trainings at the same time, whoever asked for them; ``None`` for any number.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    jobs_per_day: int | None = Field(default=None, ge=0)
    concurrent_trainings: int | None = Field(default=None, ge=1)


class LimitSettings(BaseModel):
    """Limits that hold for all controllers together.

    Attributes:
        fleet: For all models.
        groups: For the models of a group, by its name.
        compute: For the models that train on a compute backend, by its name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fleet: Limit = Field(default_factory=Limit)
    groups: dict[str, Limit] = Field(default_factory=dict)
    compute: dict[str, Limit] = Field(default_factory=dict)

    def of(self, spec: ModelSpec, backend: str) -> Iterator[tuple[str, Limit]]:
        """Limits that a model is under, with what people call each part.

        Args:
            spec: The model's settings.
            backend: Name of the compute backend it trains on.
        """
        yield "the fleet", self.fleet
        if spec.group is not None and spec.group in self.groups:
            yield f"group {spec.group}", self.groups[spec.group]
        if backend in self.compute:
            yield backend, self.compute[backend]


@dataclass(frozen=True, slots=True)
class Ration:
    """What the limits allow a model.

    Attributes:
        jobs: Limit of jobs a day by scope.
        trainings: Limit of trainings at once by scope.
    """

    jobs: Mapping[str, int]
    trainings: Mapping[str, int]

    @classmethod
    def of(cls, limits: LimitSettings, spec: ModelSpec, backend: str) -> Ration:
        """The ration of one model."""
        parts = list(limits.of(spec, backend))
        return cls(
            {f"jobs of {name}": part.jobs_per_day for name, part in parts if part.jobs_per_day is not None},
            {
                f"trainings of {name}": part.concurrent_trainings
                for name, part in parts
                if part.concurrent_trainings is not None
            },
        )

    def jobs_on(self, now: datetime) -> tuple[Unit, ...]:
        """Units that a job opened by a trigger takes from its day."""
        day = now.astimezone(UTC).date().isoformat()
        return tuple(Unit(scope, day, limit) for scope, limit in self.jobs.items())

    def at_once(self) -> tuple[Unit, ...]:
        """Units that a training takes for as long as it runs."""
        return tuple(Unit(scope, "", limit) for scope, limit in self.trainings.items())

    def taken_by(self, drafts: Iterable[Draft], now: datetime) -> tuple[Unit, ...]:
        """Units that entries take when they are recorded."""
        units: tuple[Unit, ...] = ()
        for draft in drafts:
            if draft.kind == "job.opened" and draft.data["trigger_type"] is not TriggerType.MANUAL:
                units += self.jobs_on(now)
            if draft.kind == "run.intended":
                units += self.at_once()
        return units


def gives_back(drafts: Iterable[Draft]) -> bool:
    """Whether entries end what a job has in use."""
    return any(draft.kind in ("run.ended", "job.closed") for draft in drafts)


def owner_of(drafts: Iterable[Draft]) -> str:
    """The job that entries are about; empty when they are about none."""
    return next((str(draft.data["job_id"]) for draft in drafts if "job_id" in draft.data), "")


def exhausted(units: Sequence[Unit], used: Sequence[int]) -> str:
    """Which limit leaves nothing, in words that stay the same for its whole period; empty when none does."""
    full = [unit for unit, count in zip(units, used, strict=True) if count >= unit.limit]
    return "; ".join(f"{unit.scope}: {unit.limit} a day" for unit in full)
