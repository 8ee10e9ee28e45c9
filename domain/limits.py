"""Limits across models: jobs and cost a day, trainings at once; of the fleet and of parts of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, Field

from ..ports.limits import Unit
from .jobs import JobStatus, RetrainingJob
from .sealing import Draft
from .spec import ModelSpec
from .state import ModelState
from .trigger_types import TriggerType

_COST = "cost of "
_MILLIONTHS = 1_000_000
"""Costs are counted in whole millionths, so that their sum is exact."""
_MOST = 10**15
"""No limit is above that, so that what costs more may count as that."""


class Limit(BaseModel):
    """What a part of the fleet may use.

    Attributes:
        jobs_per_day: Jobs opened by triggers in a calendar day (UTC); ``None`` for any number. A person's
            request is neither counted nor held back.
        concurrent_trainings: Trainings at the same time, whoever asked for them; ``None`` for any number.
        cost_per_day: No job is opened by a trigger once the jobs of a calendar day (UTC) have cost so much;
            one that trains counts with the most that it may cost. A person's request is counted, and not held
            back; ``None`` for any sum.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    jobs_per_day: int | None = Field(default=None, ge=0)
    concurrent_trainings: int | None = Field(default=None, ge=1)
    cost_per_day: float | None = Field(default=None, ge=0, le=1e9, allow_inf_nan=False)


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
        costs: Limit of cost a day by scope, in millionths.
        attempts: Most training attempts of a job.
        attempt_cost: The most that one of them costs, in millionths.
    """

    jobs: Mapping[str, int]
    trainings: Mapping[str, int]
    costs: Mapping[str, int]
    attempts: int
    attempt_cost: int

    @classmethod
    def of(cls, limits: LimitSettings, spec: ModelSpec, backend: str, price: float = 0.0) -> Ration:
        """The ration of one model.

        Args:
            limits: What holds across models.
            spec: The model's settings.
            backend: Name of the compute backend it trains on.
            price: The highest price of an hour at which it trains there.
        """
        parts = list(limits.of(spec, backend))
        hours = spec.training.deadline_seconds / 3600
        return cls(
            {f"jobs of {name}": part.jobs_per_day for name, part in parts if part.jobs_per_day is not None},
            {
                f"trainings of {name}": part.concurrent_trainings
                for name, part in parts
                if part.concurrent_trainings is not None
            },
            {
                f"{_COST}{name}": round(part.cost_per_day * _MILLIONTHS)
                for name, part in parts
                if part.cost_per_day is not None
            },
            spec.training.max_attempts,
            math.ceil(min(price * hours * _MILLIONTHS, _MOST)),
        )

    def of_a_day(self, now: datetime) -> tuple[Unit, ...]:
        """Units that a job opened by a trigger takes from its day."""
        day = _day(now)
        return tuple(Unit(scope, day, limit) for scope, limit in self.jobs.items()) + self._costs(now, None)

    def _costs(self, opened: datetime, job: RetrainingJob | None, limited: bool = True) -> tuple[Unit, ...]:
        """What a job counts with, on the day on which it was opened; ``None`` for one that begins."""
        amount = self.attempts * self.attempt_cost if job is None else self._cost_of(job)
        return tuple(
            Unit(scope, _day(opened), limit if limited else None, amount)
            for scope, limit in self.costs.items()
        )

    def _cost_of(self, job: RetrainingJob) -> int:
        """What a job has cost, and the most for attempts that may follow or whose cost nobody knows."""
        trains = job.status in (JobStatus.PENDING, JobStatus.RUNNING)
        attempts = max(self.attempts, job.attempt) if trains else job.attempt
        known = round(min((job.cost or 0.0) * _MILLIONTHS, _MOST))
        return known + (attempts - job.priced_attempts) * self.attempt_cost

    def at_once(self) -> tuple[Unit, ...]:
        """Units that a training takes for as long as it runs."""
        return tuple(Unit(scope, "", limit) for scope, limit in self.trainings.items())

    def taken_by(self, drafts: Iterable[Draft], now: datetime) -> tuple[Unit, ...]:
        """Units that entries take when they are recorded."""
        units: tuple[Unit, ...] = ()
        for draft in drafts:
            if draft.kind == "job.opened":
                manual = draft.data["trigger_type"] is TriggerType.MANUAL
                units += self._costs(now, None, limited=False) if manual else self.of_a_day(now)
            if draft.kind == "run.intended":
                units += self.at_once()
        return units

    def settled_by(self, drafts: Sequence[Draft], after: ModelState) -> tuple[Unit, ...]:
        """Units whose amount entries make known better.

        Args:
            drafts: The entries.
            after: The model's state with these entries in it.
        """
        job = after.jobs.get(owner_of(drafts)) if gives_back(drafts) else None
        return () if job is None else self._costs(job.created_at, job)


def _day(at: datetime) -> str:
    return at.astimezone(UTC).date().isoformat()


def gives_back(drafts: Iterable[Draft]) -> bool:
    """Whether entries end what a job has in use."""
    return any(draft.kind in ("run.ended", "job.closed") for draft in drafts)


def owner_of(drafts: Iterable[Draft]) -> str:
    """The job that entries are about; empty when they are about none.

    The one that they open, where they end another: that one waited for a person, and has nothing in use.
    """
    about = [draft for draft in drafts if "job_id" in draft.data]
    opened = (draft for draft in about if draft.kind == "job.opened")
    return next((str(draft.data["job_id"]) for draft in (*opened, *about)), "")


def exhausted(units: Sequence[Unit], used: Sequence[int]) -> str:
    """Which limit leaves nothing, in words that stay the same for its whole period; empty when none does."""
    taken = zip(units, used, strict=True)
    full = [unit for unit, count in taken if unit.limit is not None and count >= unit.limit]
    return "; ".join(f"{unit.scope}: {_in_words(unit)} a day" for unit in full)


def _in_words(unit: Unit) -> str:
    costs = unit.scope.startswith(_COST) and unit.limit is not None
    return f"{unit.limit / _MILLIONTHS:.12g}" if costs and unit.limit is not None else str(unit.limit)
