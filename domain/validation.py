"""Validation: a candidate's measures on held-out rows, and the floor below which nothing serves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from ..ports.data import Snapshot
from ..ports.registry import ModelVersion
from ..ports.scorer import Paired, Scores
from .checks import Guardrail
from .sealing import digest_of
from .verdict import Verdict, no, unknown, yes

if TYPE_CHECKING:
    from .spec import ModelSpec


@dataclass(frozen=True, slots=True)
class ValidationResult:
    """What the holdout says of a candidate.

    Attributes:
        verdict: Whether it is fit to serve: yes, no or unknown, with the reason.
        rows: Labelled rows it was judged on.
        metrics: The candidate's measures by name; ``None`` where one cannot be computed.
        champion_metrics: The champion's on the same rows; ``None`` when there is no champion.
        validation_hash: SHA-256 over model, version, metrics and data digests.
        validation_timestamp: When it was judged.
        identical: Whether candidate and champion predict the same for every row.
        unknown: Why a measure is ``None``, by name.
        paired: The difference between both on the same rows, and how well it is known; ``None`` without a
            champion, and where it cannot be told.
        unpaired: Why it cannot be told; empty otherwise.
        segments: The same among the rows of each segment, where it can be told.
        untold: Why it cannot be told of the other segments, by segment.
        guardrails: What else it must not spoil, by name; empty where nobody looked.
        unscored: Why there is a champion and no measure of it; empty otherwise.
    """

    verdict: Verdict
    rows: int
    metrics: Mapping[str, float | None]
    champion_metrics: Mapping[str, float | None] | None
    validation_hash: str
    validation_timestamp: datetime
    identical: bool = False
    unknown: Mapping[str, str] = field(default_factory=dict)
    paired: Paired | None = None
    unpaired: str = ""
    segments: Mapping[str, Paired] = field(default_factory=dict)
    untold: Mapping[str, str] = field(default_factory=dict)
    guardrails: Mapping[str, Guardrail] = field(default_factory=dict)
    unscored: str = ""

    @property
    def is_valid(self) -> bool:
        """Whether the candidate is proven fit to serve. Unknown is not."""
        return self.verdict.is_yes

    @property
    def accuracy(self) -> float | None:
        """Share of right predictions; ``None`` for a regressor."""
        return self.metrics.get("accuracy")

    @property
    def precision(self) -> float | None:
        """Precision; ``None`` for a regressor or when undefined."""
        return self.metrics.get("precision")

    @property
    def recall(self) -> float | None:
        """Recall; ``None`` for a regressor or when undefined."""
        return self.metrics.get("recall")

    @property
    def f1_score(self) -> float | None:
        """Harmonic mean of precision and recall; ``None`` for a regressor or when undefined."""
        return self.metrics.get("f1")

    @property
    def mae(self) -> float | None:
        """Mean absolute error in units of the label; ``None`` for a classifier."""
        return self.metrics.get("mae")

    @property
    def rmse(self) -> float | None:
        """Root mean squared error in units of the label; ``None`` for a classifier."""
        return self.metrics.get("rmse")

    @property
    def r2(self) -> float | None:
        """Coefficient of determination; ``None`` for a classifier or when undefined."""
        return self.metrics.get("r2")


def validate(
    spec: ModelSpec,
    candidate: ModelVersion,
    holdout: Snapshot,
    scores: Scores,
    at: datetime,
    guardrails: Mapping[str, Guardrail] | None = None,
    unscored: str = "",
) -> ValidationResult:
    """Judge a candidate alone.

    Args:
        spec: The model's settings.
        candidate: The version that was scored.
        holdout: The rows it was scored on.
        scores: Its measures, and the champion's.
        at: Now.
        guardrails: What was found of each; ``None`` where nobody looked.
        unscored: Why there is a champion and no measure of it; empty otherwise.

    Returns:
        The result. Its verdict is unknown when there are too few rows or the floor's measure is missing.
    """
    seal = {
        "model": candidate.model,
        "version": candidate.version,
        "artefact": candidate.digest,
        "data": holdout.sha256,
        "metrics": dict(scores.candidate),
        "champion_metrics": None if scores.champion is None else dict(scores.champion),
    }
    return ValidationResult(
        verdict=_if_covered(spec, holdout, above_floor(spec, scores)),
        rows=scores.rows,
        metrics=dict(scores.candidate),
        champion_metrics=None if scores.champion is None else dict(scores.champion),
        validation_hash=digest_of(seal),
        validation_timestamp=at,
        identical=scores.identical,
        unknown=dict(scores.unknown),
        paired=scores.paired,
        unpaired=scores.unpaired,
        segments=dict(scores.segments),
        untold=dict(scores.untold),
        guardrails=dict(guardrails or {}),
        unscored=unscored,
    )


def _if_covered(spec: ModelSpec, holdout: Snapshot, verdict: Verdict) -> Verdict:
    """Unknown where too few rows have a label: which ones have it may depend on what it is."""
    least, share = spec.min_label_coverage, holdout.coverage
    if not least or (share is not None and share >= least):
        return verdict
    told = (
        "nobody counted the rows without a label"
        if share is None
        else f"only {share:.1%} of its rows have a label"
    )
    return unknown(f"{told}, {least:.0%} are needed (min_label_coverage)", coverage=share, rows=holdout.rows)


def above_floor(spec: ModelSpec, scores: Scores) -> Verdict:
    """Whether the candidate's own measures let it serve at all."""
    measure, floor = spec.floor_measure, spec.floor
    value = scores.candidate.get(measure)
    evidence = {"measure": measure, "value": value, "floor": floor, "rows": scores.rows}
    if scores.rows < spec.min_holdout_rows:
        return unknown(f"only {scores.rows} labelled rows, {spec.min_holdout_rows} are needed", **evidence)
    if value is None or not math.isfinite(value):
        return unknown(f"{measure} is unknown: {scores.unknown.get(measure, 'not computed')}", **evidence)
    if value < floor:
        return no(f"{measure} {value:.4f} is below the floor of {floor:g}", **evidence)
    return yes(f"{measure} {value:.4f} is at or above the floor of {floor:g}", **evidence)
