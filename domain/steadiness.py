"""How steady the triggers' answers are: since when they say yes, and whether they flap."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

FLAPPING = 6
"""So many changes within ``WITHIN`` are flapping; no more than that are recorded in any such time."""

WITHIN = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Steadiness:
    """What the changed looks of a model say of its answers over time.

    Attributes:
        answer: What the signals said together; empty before the first look and after a job was opened.
        since: Since when that is yes without a break; ``None`` when it is not.
        before: Seconds that it had been yes before that, since the last no, with nothing but unknown in
            between.
        changes: Times and reasons of the last changed looks, oldest first.
        flapping: Whether there were so many that not all are recorded.
    """

    answer: str = ""
    since: datetime | None = None
    before: float = 0.0
    changes: tuple[tuple[datetime, str], ...] = ()
    flapping: bool = False

    def after(self, at: datetime, answer: str, reason: str, flapping: bool) -> Steadiness:
        """Add a changed look: unknown stops the clock of a yes, no and flapping set it to zero.

        Args:
            at: Its time.
            answer: What the signals said together; empty when the entry does not tell.
            reason: Why nothing was done though the rule said yes.
            flapping: Whether changes are no longer all recorded.
        """
        since, before = self.since, self.before
        if flapping or answer not in ("yes", "unknown"):
            since, before = None, 0.0
        elif answer == "yes":
            since = since or at
        elif self.since is not None:
            since, before = None, before + max((at - self.since).total_seconds(), 0.0)
        changes = (*self.changes, (at, reason))[-FLAPPING:]
        return Steadiness(answer, since, before, changes, flapping)

    def from_now_on(self) -> Steadiness:
        """A job was opened: the next one needs a yes that lasts anew."""
        return replace(self, answer="", since=None, before=0.0)

    def confirmed_at(self, now: datetime, wanted: timedelta) -> datetime | None:
        """When a yes of now will have lasted for so long, unknown not counted.

        Returns:
            A time that may have passed; ``None`` while flapping, when nobody knows since when it is yes.
        """
        if self.flapping and wanted:
            return None
        return (self.since or now) + wanted - timedelta(seconds=self.before)

    def reasons(self, now: datetime) -> list[str]:
        """Reasons of the changed looks of the last while."""
        return [reason for at, reason in self.changes if now - at < WITHIN]
