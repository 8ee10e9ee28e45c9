"""The examination of an installation: every part it needs, asked for real, with what to do where it fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ...ports.errors import ConfigurationError
from ..pipeline import AutoRetrainPipeline
from ..settings import load_settings
from . import installation, ledger, metrics, models, notices, registry, storage, traffic
from .finding import Check, Finding, Unusable, ok, run

__all__ = ["Finding", "examine"]

_CHECKS: dict[str, Check] = {
    "ledger": ledger.ledger,
    "storage": storage.storage,
    "anchors": ledger.anchors,
    "notifier": notices.told,
    "notices": notices.notices,
    "mlflow": registry.registry,
    "metrics": metrics.metrics,
    "data": models.data,
    "gate": models.gate,
    "compute": models.compute,
    "training": models.training,
    "predictions": models.sandbox,
    "traffic": traffic.traffic,
    "controller": ledger.controller,
}
_IN_THE_LEDGER = ("anchors", "notices", "gate", "controller")


def examine(settings: str | Path | None = None) -> list[Finding]:
    """Look at everything; one part that fails does not keep the others from being looked at.

    Args:
        settings: The settings file; ``None`` looks for it.

    Returns:
        At least one finding a part, in the order in which they depend on one another. Where the settings
        cannot be used, or a library is missing, what depends on it is not looked at; and so it is with what
        stands in a ledger that cannot be read.
    """
    try:
        checked = load_settings(settings)
        findings = [
            ok("settings", f"{len(checked.models)} models"),
            *installation.state_directory(checked),
            *installation.libraries(checked),
        ]
        if any(finding.status == "problem" for finding in findings):
            return findings
        pipeline = AutoRetrainPipeline(settings=checked)
    except ConfigurationError as error:
        return [Finding(problem.where, "problem", problem.value, problem.fix) for problem in error.problems]
    return [*findings, *_checked(pipeline)]


def _checked(pipeline: AutoRetrainPipeline) -> Iterator[Finding]:
    left_out: tuple[str, ...] = ()
    for about, check in _CHECKS.items():
        if about in left_out:
            continue
        try:
            yield from run(about, check, pipeline)
        except Unusable:
            left_out = _IN_THE_LEDGER
    if left_out:
        text = f"{', '.join(left_out)} stand in the ledger, and could not be looked at"
        yield Finding("ledger", "warning", text, "mend it first, then ask again")
