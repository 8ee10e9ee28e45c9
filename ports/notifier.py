"""Messages for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True)
class Notice:
    """A message derived from one ledger entry.

    Attributes:
        id: Stable identity; the same event always has the same id, so that a receiver can drop repeats.
        model: Name of the model.
        event: Kind of event (``started``, ``completed``, ``deployed``, ``deployment_failed``,
            ``rolled_back``, ``needs_approval``, ``conflict``, ``unknown_lasting``).
        severity: How much it should disturb.
        title: One line.
        body: What happened and why, a few lines.
        at: When it happened.
        facts: Names and values worth a table.
    """

    id: str
    model: str
    event: str
    severity: Literal["info", "warning", "critical"]
    title: str
    body: str
    at: datetime
    facts: Mapping[str, str] = field(default_factory=dict)


class Notifier(Protocol):
    """Sends notices."""

    def send(self, notice: Notice) -> None:
        """Send one notice.

        It may be called again with the same notice when an earlier answer was lost: deliver at least once.

        Args:
            notice: What to send.

        Raises:
            Temporary: Not delivered, try again (``retry_after`` when the receiver said when).
            Permanent: It will never be accepted (revoked address, malformed).
        """
        ...
