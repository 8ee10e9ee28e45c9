"""The public names of AutoRetrain under the path of its first design document.

``greenlang`` and ``greenlang.ml`` are namespace packages, so that other distributions may live beside this
one.
"""

from typing import TYPE_CHECKING, Any

import autoretrain

if TYPE_CHECKING:
    from autoretrain import AutoRetrainPipeline as AutoRetrainPipeline
    from autoretrain import DataDriftTrigger as DataDriftTrigger
    from autoretrain import JobStatus as JobStatus
    from autoretrain import ManualTrigger as ManualTrigger
    from autoretrain import PerformanceDegradationTrigger as PerformanceDegradationTrigger
    from autoretrain import RequestRouter as RequestRouter
    from autoretrain import RetariningJob as RetariningJob
    from autoretrain import RetrainingJob as RetrainingJob
    from autoretrain import RetrainingTrigger as RetrainingTrigger
    from autoretrain import ScheduledTrigger as ScheduledTrigger
    from autoretrain import TriggerConfig as TriggerConfig
    from autoretrain import TriggerType as TriggerType
    from autoretrain import ValidationResult as ValidationResult
    from autoretrain import __version__ as __version__
    from autoretrain import training_job as training_job

__all__ = [*autoretrain.__all__]


def __getattr__(name: str) -> Any:
    """Hand on a public name of ``autoretrain``, loaded on first use (PEP 562)."""
    if name not in autoretrain.__all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(autoretrain, name)
