"""Messages for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

Severity = Literal["info", "warning", "critical"]

SEVERITIES: tuple[Severity, ...] = ("critical", "warning", "info")
"""Most severe first."""

DEFAULT_TARGET = "default"
"""What people call the default notifier; ``Notice.target`` is empty for it."""


@dataclass(frozen=True, slots=True)
class Notice:
    """A message derived from one ledger entry.

    Attributes:
        id: Stable identity; the same event always has the same id, so that a receiver can drop repeats.
        model: Name of the model.
        event: Kind of event (``started``, ``completed``, ``deployed``, ``deployment_failed``,
            ``rolled_back``, ``rollback_failed``, ``needs_approval``, ``conflict``, ``unknown_lasting``,
            ``watch_paused``, ``watch_ended``).
        severity: How much it should disturb.
        title: One line.
        body: What happened and why, a few lines.
        at: When it happened.
        facts: Names and values worth a table.
        target: Name of the one it is for; empty for the default notifier. A notice that several are to get is
            one for each of them, with an id of its own.
    """

    id: str
    model: str
    event: str
    severity: Severity
    title: str
    body: str
    at: datetime
    facts: Mapping[str, str] = field(default_factory=dict)
    target: str = ""


@dataclass(frozen=True, slots=True)
class DigestLine:
    """Notices of one severity, event and model within a digest; one of them stands for all.

    Attributes:
        notices: Newest first; never empty.
    """

    notices: tuple[Notice, ...]

    @property
    def newest(self) -> Notice:
        """The one that is told."""
        return self.notices[0]

    @property
    def ids(self) -> tuple[str, ...]:
        """Identities of all of them, newest first."""
        return tuple(notice.id for notice in self.notices)


@dataclass(frozen=True, slots=True)
class Digest:
    """Many notices as one message, for a receiver who would otherwise get them one by one.

    Attributes:
        id: Stable identity: the same notices always make the same digest.
        severity: The most severe of its notices'.
        title: One line: how many there are, of which severity.
        since: When the oldest of them happened.
        until: When the newest of them happened.
        lines: The most severe first, and the newest first among equals; never empty.
    """

    id: str
    severity: Severity
    title: str
    since: datetime
    until: datetime
    lines: tuple[DigestLine, ...]


class Notifier(Protocol):
    """Sends notices, one by one. One that can take many at a time is a ``DigestNotifier``, too."""

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


class DigestNotifier(Protocol):
    """What a notifier has besides ``send`` when many notices are better read as one message."""

    def send_digest(self, digest: Digest) -> None:
        """Send many notices as one message, which must show every id, and what the newest of each line says.

        Called only when a backlog has gathered. A digest that is refused is taken apart and sent one by one.

        Args:
            digest: What to send; at most 100 notices.

        Raises:
            Temporary: Not delivered, try again (``retry_after`` when the receiver said when).
            Permanent: This message will never be accepted; none of its notices counts as delivered.
        """
        ...
