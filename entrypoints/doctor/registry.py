"""MLflow: what is there, and what may be written."""

from __future__ import annotations

from collections.abc import Iterator

from ..pipeline import AutoRetrainPipeline
from .finding import Finding, ok


def registry(pipeline: AutoRetrainPipeline) -> Iterator[Finding]:
    """Whether MLflow answers, and who serves."""
    models = sorted(pipeline.settings.models)
    champions = pipeline.ports.registry.champions(models)
    yield ok("mlflow", f"answers, {len(champions)} of {len(models)} models have a champion")
    for model in models:
        if model not in champions:
            fix = f"set the alias 'champion' in MLflow, or train the first one: autoretrain start {model}"
            yield Finding(f"models.{model}", "warning", "no champion serves", fix)
