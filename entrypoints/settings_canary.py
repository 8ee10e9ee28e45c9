"""What the canaries of models ask of other sections of the settings."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from ..ports.errors import Problem

if TYPE_CHECKING:
    from .settings import Settings


def canary_flaws(settings: Settings) -> Iterator[tuple[str, str]]:
    """What a server of metrics is not asked for, though a canary compares it: each field once.

    Args:
        settings: Settings that are otherwise checked.
    """
    source = settings.adapters.metrics
    if source == "rescoring":
        return
    told: dict[tuple[str, str], None] = {}
    for name, spec in settings.models.items():
        if spec.canary.steps:
            for arm in (spec.canary.candidate, spec.canary.baseline):
                told |= dict.fromkeys(_unasked(settings, source, arm))
            told |= dict.fromkeys(_too_short(settings, source, name))
    yield from told


def _unasked(settings: Settings, source: str, metric: str) -> Iterator[tuple[str, str]]:
    query = getattr(settings, source).queries.get(metric)
    if query is None:
        yield f"{source}.queries.{metric}", "say how it is asked for: a canary compares it"
    elif source == "prometheus" and query.count is None:
        yield (
            f"{source}.queries.{metric}.count",
            "write the PromQL of its labelled rows: a canary counts them",
        )
    elif source == "cloudwatch" and not (query.count_metric or query.count_statistic):
        yield f"{source}.queries.{metric}.count_metric", "name the number of its rows: a canary counts them"


def _too_short(settings: Settings, source: str, model: str) -> Iterator[tuple[str, str]]:
    """A point stands for a step before it, which must not be of another share, or another batch."""
    canary, server = settings.models[model].canary, getattr(settings, source)
    seconds = server.step_seconds if source == "prometheus" else server.period_seconds
    for field in ("batch_minutes", "lag_minutes"):
        if getattr(canary, field) * 60 < seconds:
            least = f"must be {seconds / 60:g} or more, since a point of {source} stands for so long"
            yield f"models.{model}.canary.{field}", least


def canary_problems(settings: Settings, given: Collection[str]) -> Iterator[Problem]:
    """What a canary cannot do without, and neither the settings nor the caller provide.

    Args:
        settings: Checked settings.
        given: Names of the ports that the caller provides.
    """
    for name, spec in settings.models.items():
        if not spec.canary.steps:
            continue
        if "router" not in given and not settings.traffic.shares(name):
            field = "traffic.router" if settings.traffic.router == "none" else f"traffic.models.{name}"
            found = repr(settings.traffic.router) if settings.traffic.router == "none" else ""
            yield Problem(field, found, f"say who shares its requests, as models.{name}.canary does")
        if "metrics" not in given and settings.adapters.metrics == "rescoring":
            fix = f"tells no arms apart, as models.{name}.canary wants; take prometheus or cloudwatch"
            yield Problem("adapters.metrics", "'rescoring'", fix)
