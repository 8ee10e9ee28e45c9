"""The seed's trigger configuration."""

from __future__ import annotations

from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, field_validator

from .schedule import check_expression
from .slots import MissedSlots


class TriggerConfig(BaseModel):
    """When a model should be retrained.

    Attributes:
        performance_metric_threshold: Lowest acceptable accuracy (or F1; R² for a regressor), 0 to 1.
        drift_threshold: Largest acceptable population stability index of any feature, 0 to 1.
        schedule_expression: Cron expression of five fields.
        evaluation_window_days: Days of recent data that performance and drift are judged on, 1 to 365.
        training_window_days: Days of data that a training gets, 7 to 730.
        time_zone: IANA name of the zone in which the cron expression is meant, and a day's jobs are counted.
        missed_slots: What becomes of cron slots that passed while nobody looked, a job ran or a cooldown
            held: one job for the ``latest``, ``none`` for those over ``slot_grace_minutes`` late, or a job
            each (``all``), oldest first. Each that gets none is counted in the ledger.
        slot_grace_minutes: How late the latest slot may be answered where ``missed_slots`` is ``none``.
        max_missed: How many slots are made up for at most where ``missed_slots`` is ``all``, the latest ones.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    performance_metric_threshold: float = Field(default=0.92, ge=0.0, le=1.0, allow_inf_nan=False)
    drift_threshold: float = Field(default=0.25, ge=0.0, le=1.0, allow_inf_nan=False)
    schedule_expression: str = "0 0 * * 0"
    evaluation_window_days: int = Field(default=30, ge=1, le=365)
    training_window_days: int = Field(default=90, ge=7, le=730)
    time_zone: str = "UTC"
    missed_slots: MissedSlots = "latest"
    slot_grace_minutes: float = Field(default=60.0, ge=0, allow_inf_nan=False)
    max_missed: int = Field(default=10, ge=1, le=1000)

    @field_validator("schedule_expression")
    @classmethod
    def _cron(cls, value: str) -> str:
        return check_expression(value)

    @field_validator("time_zone")
    @classmethod
    def _zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError):
            raise ValueError("not a time zone; use an IANA name such as Europe/Berlin") from None
        return value
