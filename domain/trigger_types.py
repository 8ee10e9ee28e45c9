"""The kinds of triggers there are."""

from enum import Enum


class TriggerType(Enum):
    """What can propose a retraining."""

    PERFORMANCE = "performance_degradation"
    DRIFT = "data_drift"
    SCHEDULED = "scheduled"
    MANUAL = "manual"
    CUSTOM = "custom"
