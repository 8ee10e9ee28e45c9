"""Back from the ledger's JSON to the values it was written from."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from ..ports.data import Snapshot
from ..ports.registry import ModelVersion
from ..ports.scorer import Effect, Paired
from ..ports.values import TimeWindow
from .checks import Guardrail
from .promotion import Decision, Outcome
from .validation import ValidationResult
from .verdict import Answer, Verdict
from .watch import Terms


def time_of(text: str) -> datetime:
    """Aware datetime of an ISO 8601 text."""
    return datetime.fromisoformat(text)


def window_of(data: Mapping[str, Any]) -> TimeWindow:
    """Window from its JSON."""
    return TimeWindow(time_of(data["start"]), time_of(data["end"]))


def version_of(data: Mapping[str, Any]) -> ModelVersion:
    """Model version from its JSON."""
    trained_on = data.get("trained_on")
    return ModelVersion(**{**data, "trained_on": window_of(trained_on) if trained_on else None})


def snapshot_of(data: Mapping[str, Any]) -> Snapshot:
    """Snapshot from its JSON."""
    return Snapshot(
        **{
            **data,
            "window": window_of(data["window"]),
            "features": tuple(data["features"]),
            "first_at": time_of(data["first_at"]) if data["first_at"] else None,
            "last_at": time_of(data["last_at"]) if data["last_at"] else None,
        }
    )


def verdict_of(data: Mapping[str, Any]) -> Verdict:
    """Verdict from its JSON."""
    return Verdict(Answer(data["answer"]), data["reason"], data["evidence"])


def validation_of(data: Mapping[str, Any]) -> ValidationResult:
    """Validation from its JSON."""
    return ValidationResult(
        **{
            **data,
            "verdict": verdict_of(data["verdict"]),
            "validation_timestamp": time_of(data["validation_timestamp"]),
            "paired": paired_of(data["paired"]) if data.get("paired") else None,  # 0.2.0 did not write it
            "segments": {name: paired_of(each) for name, each in data.get("segments", {}).items()},
            "guardrails": {name: guardrail_of(each) for name, each in data.get("guardrails", {}).items()},
        }
    )


def guardrail_of(data: Mapping[str, Any]) -> Guardrail:
    """Guardrail from its JSON."""
    return Guardrail(**{**data, "verdict": verdict_of(data["verdict"])})


def paired_of(data: Mapping[str, Any]) -> Paired:
    """Comparison of two versions from its JSON."""
    effects = {scale: Effect(**effect) for scale, effect in data["effects"].items()}
    discordant = tuple(data["discordant"]) if data["discordant"] else None
    return Paired(**{**data, "effects": effects, "discordant": discordant})


def decision_of(data: Mapping[str, Any]) -> Decision:
    """Decision from its JSON."""
    return Decision(Outcome(data["outcome"]), data["rule"], data["reason"], data["numbers"])


def terms_of(data: Mapping[str, Any]) -> Terms:
    """Terms of a watch from its JSON."""
    return Terms(
        metric=data["metric"],
        direction=data["direction"],
        batch=timedelta(seconds=data["batch_seconds"]),
        delay=timedelta(seconds=data["delay_seconds"]),
        min_rows=data["min_rows"],
        batches=data["batches"],
        deadline=timedelta(seconds=data["deadline_seconds"]),
        tolerance=data["tolerance"],
        alpha=data["alpha"],
        baseline=data["baseline"],
        previous=version_of(data["previous"]) if data["previous"] else None,
        on_unknown=data["on_unknown"],
    )
