"""The seed's triggers, as objects that answer for themselves, and the base class for your own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

from ..domain.trigger_types import TriggerType
from ..domain.verdict import Verdict


class RetrainingTrigger(ABC):
    """A trigger. Subclass it for a rule of your own; give it to ``AutoRetrainPipeline(triggers=[...])``.

    Attributes:
        name: Name in settings (``rule = "performance & my_trigger"``), entries and metrics. A trigger that no
            rule names is asked beside it: any yes proposes a retraining.
    """

    name: str = "custom"

    @abstractmethod
    def should_retrain(self, model_name: str) -> tuple[bool, str]:
        """Say whether a model should be retrained, and why.

        Called by the controller at every look at an idle model, so it should answer quickly. An exception
        makes the answer unknown, with its text as the reason; unknown starts nothing.

        Args:
            model_name: Name of the model.

        Returns:
            The answer and its reason.
        """

    @abstractmethod
    def get_trigger_type(self) -> TriggerType:
        """What kind of trigger it is; jobs it starts are recorded under it."""


class Judge(Protocol):
    """What our triggers ask: an ``AutoRetrainPipeline`` is one."""

    def judge(self, model_name: str, trigger: str | None = None) -> Verdict:
        """Return the verdict of one trigger on a model."""
        ...


class _BuiltIn(RetrainingTrigger):
    """A trigger of ours, bound to a pipeline's sources, settings and clock."""

    type: TriggerType

    def __init__(self, pipeline: Judge) -> None:
        self._pipeline = pipeline

    def should_retrain(self, model_name: str) -> tuple[bool, str]:
        """Look now. Unknown is not yes; its reason says what is missing."""
        verdict = self._pipeline.judge(model_name, self.name)
        return verdict.is_yes, verdict.reason

    def get_trigger_type(self) -> TriggerType:
        """What kind of trigger it is."""
        return self.type


class PerformanceDegradationTrigger(_BuiltIn):
    """Fires when the live metric is worse than its threshold."""

    name = "performance"
    type = TriggerType.PERFORMANCE


class DataDriftTrigger(_BuiltIn):
    """Fires when a feature's population stability index exceeds its threshold."""

    name = "drift"
    type = TriggerType.DRIFT


class ScheduledTrigger(_BuiltIn):
    """Fires when a cron slot has passed that led to no job yet."""

    name = "schedule"
    type = TriggerType.SCHEDULED


class ManualTrigger(_BuiltIn):
    """Fires while somebody's request to start waits."""

    name = "manual"
    type = TriggerType.MANUAL
