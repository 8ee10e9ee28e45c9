"""What a user says of a model's canaries."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..ports.errors import Flaws
from ..ports.scorer import DIRECTIONS
from .canary_state import CanaryPlan, CanaryStep

Direction = Literal["up", "down"]


class CanaryStepSpec(BaseModel):
    """One step of a canary.

    Attributes:
        weight: Share of the requests that the candidate gets, in steps of 0.0001; in the shadow, of those
            that are copied to it.
        minutes: Least time for which it is in force.
        samples: Least labelled rows of either arm that were compared.
        kind: Whether users see the candidate's answers (``split``), or it gets copies only (``shadow``).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    weight: float = Field(gt=0.0, le=1.0, allow_inf_nan=False)
    minutes: float = Field(gt=0.0, le=525_600, allow_inf_nan=False)
    samples: int = Field(ge=1)
    kind: Literal["split", "shadow"] = "split"

    @property
    def is_exact(self) -> bool:
        """Whether a router can share as finely as the weight says."""
        return abs(self.weight * 10_000 - round(self.weight * 10_000)) < 1e-6


class CanarySpec(BaseModel):
    """How a candidate is tried on a share of the traffic before it is promoted.

    Attributes:
        steps: What is gone through, in order; none is no canary.
        candidate: Name of the metric of the candidate's arm, as the metric source knows it.
        baseline: Name of the metric of the champion's arm, over the same time.
        direction: Which way both are better; known where ``baseline`` is a measure that we compute.
        tolerance: Largest mean difference that is no harm, in the metric's own units.
        alpha: Chance that a candidate that does no harm is ever aborted for harm, over all looks.
        batch_minutes: Both arms are compared over windows of this length. Rows of one may depend on each
            other, those of two should not.
        lag_minutes: How long requests, labels and scrapes take to be seen. So long after a change of the
            split nothing is read, and each batch is read so long after its end.
        deadline_minutes: A step that has not ended so long after its least time is over.
        on_deadline: Whether it is aborted then, or goes on to be held, and people are told.
        proof: Whether a step ends only when it is shown that there is no harm; else when none is shown and
            the mean difference is within the tolerance.
        ratio_tolerance: By how much of its weight the candidate's share of the rows may be off. Keys of users
            with many requests make it so.
        ratio_alpha: Chance that shares within that are ever taken for a mismatch.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: tuple[CanaryStepSpec, ...] = ()
    candidate: str = ""
    baseline: str = ""
    direction: Direction | None = None
    tolerance: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)
    alpha: float = Field(default=0.05, gt=0.0, lt=0.5)
    batch_minutes: float = Field(default=10.0, gt=0.0, le=10_080, allow_inf_nan=False)
    lag_minutes: float = Field(default=5.0, ge=0.0, le=525_600, allow_inf_nan=False)
    deadline_minutes: float = Field(default=1440.0, gt=0.0, le=525_600, allow_inf_nan=False)
    on_deadline: Literal["abort", "hold"] = "abort"
    proof: bool = False
    ratio_tolerance: float = Field(default=0.1, ge=0.0, lt=1.0)
    ratio_alpha: float = Field(default=0.001, gt=0.0, lt=0.5)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if problems := [*self._step_problems(), *self._metric_problems()]:
            raise Flaws(problems)
        return self

    def _metric_problems(self) -> list[tuple[str, str]]:
        if not self.steps:
            return []
        problems = [
            (name, f"name the metric that measures the {arm}'s arm")
            for name, arm in (("candidate", "candidate"), ("baseline", "champion"))
            if not getattr(self, name)
        ]
        if self.candidate and self.candidate == self.baseline:
            problems.append(("baseline", "is the candidate's, too: name the metric of the champion's arm"))
        if self.direction is None and self.baseline not in DIRECTIONS:
            problems.append(("direction", "say whether the metric is better 'up' or 'down'"))
        return problems

    def _step_problems(self) -> list[tuple[str, str]]:
        split = [(number, step) for number, step in enumerate(self.steps) if step.kind == "split"]
        problems = [
            (f"steps.{number}.weight", "leave some traffic to the champion, to compare with: below 1")
            for number, step in split
            if step.weight == 1
        ]
        problems += [
            (f"steps.{number}.weight", "a share has steps of 0.0001")
            for number, step in enumerate(self.steps)
            if not step.is_exact
        ]
        problems += [
            (f"steps.{number}.weight", f"is not above {before.weight:g}, the weight of the step before")
            for (_, before), (number, step) in pairwise(split)
            if step.weight <= before.weight
        ]
        return problems

    @property
    def plan(self) -> CanaryPlan:
        """The same as values that entries hold."""
        given = self.model_dump(exclude={"steps", "direction"})
        steps = tuple(
            CanaryStep(step.weight, step.minutes, step.samples, step.kind == "shadow") for step in self.steps
        )
        return CanaryPlan(**given, steps=steps, direction=self.direction or DIRECTIONS[self.baseline])
