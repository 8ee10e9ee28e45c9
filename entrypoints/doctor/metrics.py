"""Live metrics: every one is asked for once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from ...ports.metrics import MetricQuery
from ...ports.values import TimeWindow
from ..pipeline import AutoRetrainPipeline
from .finding import Finding, ok


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
    yield ok("metrics", f"{source} answers")
    tells_apart = {
        "prometheus": "the label of the model",
        "cloudwatch": "namespace, region and all dimensions",
    }
    for answer in answers:
        if answer.value is None:
            where, metric = f"models.{answer.query.model}.metric", answer.query.metric
            fix = f"check {source}.queries.{metric} and {tells_apart[source]}"
            yield Finding(where, "warning", f"{metric} is unknown: {answer.reason}", fix)
