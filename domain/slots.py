"""The schedule trigger: which cron slot a job answers, and which are missed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from .schedule import count_slots, latest_slot, next_slot
from .trigger_types import TriggerType
from .triggers import Observations, Rule, Situation
from .verdict import Verdict, no, yes

MissedSlots = Literal["latest", "none", "all"]

_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Gap:
    """Consecutive slots that get no job.

    Attributes:
        count: How many.
        first: The oldest.
        last: The newest.
    """

    count: int
    first: datetime
    last: datetime


@dataclass(frozen=True)
class ScheduleRule(Rule):
    """Fires while a cron slot has passed that was not answered.

    Several may have passed while nothing looked, a job ran or a cooldown held. What becomes of them:

    - ``latest``: one job answers the latest; those before it are missed.
    - ``none``: likewise, but a latest slot that is older than ``grace`` is missed, too.
    - ``all``: a job each, oldest first, for the latest ``most``; those before them are missed.

    Attributes:
        expression: Cron expression of five fields.
        time_zone: IANA name of its zone.
        missed_slots: What becomes of slots that passed unanswered.
        grace: How late a slot may be answered under ``none``.
        most: How many slots are made up for under ``all``.
    """

    expression: str
    time_zone: str = "UTC"
    missed_slots: MissedSlots = "latest"
    grace: timedelta = timedelta(hours=1)
    most: int = 10
    name = "schedule"
    type = TriggerType.SCHEDULED

    def slot(self, situation: Situation) -> datetime | None:
        """The slot that a job opened now answers; ``None`` when none is due."""
        latest, answered = self._latest(situation), _answered(situation)
        if latest <= answered or (self.missed_slots == "none" and situation.now - latest > self.grace):
            return None
        if self.missed_slots != "all":
            return latest
        if count_slots(self.expression, self.time_zone, answered, latest) <= self.most:
            return next_slot(self.expression, self.time_zone, answered)
        for _ in range(self.most - 1):
            latest = latest_slot(self.expression, self.time_zone, latest - _TICK)
        return latest

    def missed(self, situation: Situation) -> Gap | None:
        """The slots before the one that is due, or all when none is; ``None`` when there is no such slot."""
        slot, answered = self.slot(situation), _answered(situation)
        last = latest_slot(self.expression, self.time_zone, slot - _TICK) if slot else self._latest(situation)
        if last <= answered:
            return None
        count = count_slots(self.expression, self.time_zone, answered, last)
        return Gap(count, next_slot(self.expression, self.time_zone, answered), last)

    def judge(self, observations: Observations, situation: Situation) -> Verdict:
        """Say yes while a slot is due."""
        slot, latest, answered = self.slot(situation), self._latest(situation), _answered(situation)
        if slot is not None:
            return yes(f"the slot of {slot:%Y-%m-%d %H:%M} UTC ({self.expression}) is due", slot=slot)
        if latest > answered:
            late = f"the slot of {latest:%Y-%m-%d %H:%M} UTC ({self.expression}) was missed"
            return no(f"{late} by more than {self.grace / timedelta(minutes=1):g} minutes", slot=latest)
        return no(f"no slot of {self.expression} since {answered:%Y-%m-%d %H:%M} UTC", slot=latest)

    def _latest(self, situation: Situation) -> datetime:
        return latest_slot(self.expression, self.time_zone, situation.now)


def _answered(situation: Situation) -> datetime:
    """Slots up to this time are settled: those before the watch began, and those answered or given up."""
    return max(situation.watched_since, situation.last_slot or situation.watched_since)
