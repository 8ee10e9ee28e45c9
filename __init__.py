"""AutoRetrain: the retraining controller whose decisions hold.

Names are loaded when they are first used, so that ``import autoretrain`` costs nothing.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autoretrain.adapters.request_router import RequestRouter as RequestRouter
    from autoretrain.domain.config import TriggerConfig as TriggerConfig
    from autoretrain.domain.jobs import JobStatus as JobStatus
    from autoretrain.domain.jobs import RetrainingJob as RetrainingJob
    from autoretrain.domain.trigger_types import TriggerType as TriggerType
    from autoretrain.domain.validation import ValidationResult as ValidationResult
    from autoretrain.entrypoints.pipeline import AutoRetrainPipeline as AutoRetrainPipeline
    from autoretrain.entrypoints.training import training_job as training_job
    from autoretrain.entrypoints.triggers import DataDriftTrigger as DataDriftTrigger
    from autoretrain.entrypoints.triggers import ManualTrigger as ManualTrigger
    from autoretrain.entrypoints.triggers import (
        PerformanceDegradationTrigger as PerformanceDegradationTrigger,
    )
    from autoretrain.entrypoints.triggers import RetrainingTrigger as RetrainingTrigger
    from autoretrain.entrypoints.triggers import ScheduledTrigger as ScheduledTrigger

    RetariningJob = RetrainingJob

__version__ = "0.2.0"

_HOMES = {
    "AutoRetrainPipeline": ("entrypoints.pipeline", "AutoRetrainPipeline"),
    "TriggerConfig": ("domain.config", "TriggerConfig"),
    "TriggerType": ("domain.trigger_types", "TriggerType"),
    "JobStatus": ("domain.jobs", "JobStatus"),
    "RetrainingJob": ("domain.jobs", "RetrainingJob"),
    "RetariningJob": ("domain.jobs", "RetrainingJob"),  # the spelling of the first design document
    "ValidationResult": ("domain.validation", "ValidationResult"),
    "RetrainingTrigger": ("entrypoints.triggers", "RetrainingTrigger"),
    "PerformanceDegradationTrigger": ("entrypoints.triggers", "PerformanceDegradationTrigger"),
    "DataDriftTrigger": ("entrypoints.triggers", "DataDriftTrigger"),
    "ScheduledTrigger": ("entrypoints.triggers", "ScheduledTrigger"),
    "ManualTrigger": ("entrypoints.triggers", "ManualTrigger"),
    "RequestRouter": ("adapters.request_router", "RequestRouter"),
    "training_job": ("entrypoints.training", "training_job"),
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    """Load a public name from its module on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'autoretrain' has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _HOMES[name]
    return getattr(import_module(f"autoretrain.{module}"), attribute)
