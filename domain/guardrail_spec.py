"""What a user says of guardrails: limits that a candidate has to keep, however good it is."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..ports.errors import Flaws

_OF_CLASSES = ("max_brier", "brier_margin", "max_ece", "ece_margin", "probabilities")
_OF_NUMBERS = ("lowest", "highest")


class GuardrailSpec(BaseModel):
    """Limits beside the claim. What is not set is told, and keeps nothing back.

    Attributes:
        max_brier: Largest Brier score of the candidate.
        brier_margin: By how much its Brier score may be worse than the champion's, in absolute terms, at 95 %
            confidence; rows that cannot tell make the decision inconclusive.
        max_ece: Largest expected calibration error of the candidate.
        ece_margin: By how much that may be worse than the champion's, likewise.
        max_latency: Most seconds for predicting 1,000 rows in a batch, on the machine of the prediction run.
        max_slowdown: Most times the champion's time for the same rows.
        max_load_seconds: Most seconds for loading the model, its libraries included.
        max_artifact_mb: Largest size of the artefact, in MiB.
        max_growth: Most times the size of the champion's artefact.
        same_schema: Whether predictions must be of the champion's type, with scores for the same classes.
        probabilities: Whether class scores must be there, lie between 0 and 1, and add up to 1.
        lowest: Smallest number that a regressor may predict.
        highest: Largest number that a regressor may predict.
        max_repeated_rows: Largest share of the holdout's rows whose features and label stand in the training
            rows, too, at whatever time; 0 for none. Looking for them reads both.
        max_shared_groups: Largest share of the holdout's groups (``promotion.group``) that the training rows
            have, too; 0 for new groups alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_brier: float | None = Field(default=None, gt=0.0, le=2.0)
    brier_margin: float | None = Field(default=None, gt=0.0, le=2.0)
    max_ece: float | None = Field(default=None, gt=0.0, le=1.0)
    ece_margin: float | None = Field(default=None, gt=0.0, le=1.0)
    max_latency: float | None = Field(default=None, gt=0.0, allow_inf_nan=False)
    max_slowdown: float | None = Field(default=None, gt=0.0, allow_inf_nan=False)
    max_load_seconds: float | None = Field(default=None, gt=0.0, allow_inf_nan=False)
    max_artifact_mb: float | None = Field(default=None, gt=0.0, allow_inf_nan=False)
    max_growth: float | None = Field(default=None, gt=0.0, allow_inf_nan=False)
    same_schema: bool = False
    probabilities: bool = False
    lowest: float | None = Field(default=None, allow_inf_nan=False)
    highest: float | None = Field(default=None, allow_inf_nan=False)
    max_repeated_rows: float | None = Field(default=None, ge=0.0, le=1.0)
    max_shared_groups: float | None = Field(default=None, ge=0.0, le=1.0)

    @model_validator(mode="after")
    def _between(self) -> Self:
        if self.lowest is not None and self.highest is not None and self.lowest >= self.highest:
            raise Flaws([("lowest", f"must be below highest, which is {self.highest:g}")])
        return self

    def problems(
        self, task: Literal["classification", "regression"], group: str | None
    ) -> list[tuple[str, str]]:
        """What does not fit the rest of a model's settings, by field.

        Args:
            task: What kind of model it is.
            group: Column that says which rows belong together; ``None`` for none.
        """
        others = _OF_NUMBERS if task == "classification" else _OF_CLASSES
        kind = "regressor" if task == "classification" else "classifier"
        found = [
            (name, f"is of a {kind}, so remove it")
            for name in others
            if getattr(self, name) is not None and getattr(self, name) is not False
        ]
        if self.max_shared_groups is not None and group is None:
            found.append(("max_shared_groups", "needs promotion.group, the column that names the groups"))
        return [(f"promotion.guardrails.{name}", fix) for name, fix in found]

    @property
    def compared(self) -> tuple[str, ...]:
        """Measures in which the candidate is compared with the champion."""
        margins = {"brier": self.brier_margin, "ece": self.ece_margin}
        return tuple(name for name, margin in margins.items() if margin is not None)
