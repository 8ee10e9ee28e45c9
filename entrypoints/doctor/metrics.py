"""Live metrics: every one is asked for once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from ...ports.credentials import without_userinfo
from ...ports.metrics import MetricQuery
from ...ports.values import TimeWindow
from ..pipeline import AutoRetrainPipeline
from ..settings import Settings
from .finding import FEW, Finding, names_of, ok

_TELLS_APART = {
    "prometheus": "the label of the model",
    "cloudwatch": "namespace, region and all dimensions",
}


def metrics(pipeline: AutoRetrainPipeline) -> Iterator[Finding]:
    """Ask for every live metric; re-scored ones need predictions, and are not worth that here."""
    source, models = pipeline.settings.adapters.metrics, pipeline.settings.models
    if source == "rescoring":
        yield ok("metrics", "from re-scoring the champion on recent labelled rows")
        return
    now = datetime.now(UTC)
    window = {model: TimeWindow(now - spec.holdout, now) for model, spec in models.items()}
    queries = [MetricQuery(model, spec.metric, window[model]) for model, spec in models.items()]
    answers = pipeline.ports.metrics.read(queries)
    known = sum(answer.value is not None for answer in answers)
    yield ok("metrics", f"{_place(pipeline.settings)} answers: {known} of {len(answers)} metrics known")
    unknown: dict[tuple[str, str], list[str]] = {}
    for answer in answers:
        if answer.value is None:
            unknown.setdefault((answer.query.metric, answer.reason), []).append(answer.query.model)
    for (metric, reason), lacking in unknown.items():
        fix = f"check {source}.queries.{metric} and {_TELLS_APART[source]}"
        yield from _lacking(metric, reason, lacking, fix)


def _lacking(metric: str, reason: str, models: list[str], fix: str) -> Iterator[Finding]:
    """A line a model; one for all where many have the same trouble."""
    if len(models) > FEW:
        yield Finding("metrics", "warning", f"{metric} of {names_of(models)} is unknown: {reason}", fix)
        return
    for model in models:
        yield Finding(f"models.{model}.metric", "warning", f"{metric} is unknown: {reason}", fix)


def _place(settings: Settings) -> str:
    if settings.adapters.metrics == "prometheus":
        return f"prometheus at {without_userinfo(settings.prometheus.url)}"
    cloudwatch = settings.cloudwatch
    where = cloudwatch.endpoint_url or cloudwatch.region or "the region of the environment"
    return f"cloudwatch, namespace {cloudwatch.namespace}, {where}"
