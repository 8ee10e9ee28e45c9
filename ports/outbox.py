"""Notices waiting to be sent, written in the same transaction as the entries they tell of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from .notifier import Notice


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A notice on its way.

    Attributes:
        notice: The message.
        attempts: How often it was tried since it was written, or since it was last sent again by request.
        error: What went wrong the last time; empty before the first failure.
        dead: True when it was given up.
        next_try: Not before this time; ``None`` when it is due at once, or was given up.
    """

    notice: Notice
    attempts: int
    error: str = ""
    dead: bool = False
    next_try: datetime | None = None


@dataclass(frozen=True, slots=True)
class Backlog:
    """What has not arrived.

    Attributes:
        waiting: Notices that are still to be sent, due or not.
        dead: Notices that were given up.
        oldest_waiting: When the oldest waiting one happened (``Notice.at``); ``None`` when none waits.
        oldest_dead: When the oldest dead one happened; ``None`` when there is none.
        targets: Names of whom the waiting ones are for, sorted, without those for the default notifier.
    """

    waiting: int
    dead: int
    oldest_waiting: datetime | None = None
    oldest_dead: datetime | None = None
    targets: tuple[str, ...] = ()


class Outbox(Protocol):
    """Holds notices until they are delivered.

    Every notice is in one of three states: waiting (with a time of its next try), dead, or delivered. A
    notice comes in waiting and due at once, with the append that brings it; one whose id is known already,
    in whatever state, is not taken a second time. Nothing leaves ``delivered``.

    Every method raises ``Temporary`` when the store cannot be reached or is busy.
    """

    def due(
        self, now: datetime, limit: int = 20, holder: str | None = None, target: str | None = None
    ) -> Sequence[Outgoing]:
        """Waiting notices whose time has come (``next_try <= now``).

        The most severe first (critical, warning, info), and among equals those written last; so a backlog
        of old news never stands before what is urgent now. A time far ahead lists all that waits.

        Args:
            now: Time by which they are due. A notice that was never tried is due whatever the time is.
            limit: At most so many.
            holder: Only of models whose shard this holder has the lease of, so that no two controllers send
                the same notice; ``None`` takes all.
            target: Only those for this one (empty: the default notifier); ``None`` takes all.
        """
        ...

    def delivered(self, notice_id: str, at: datetime) -> None:
        """Note that a notice has arrived, also one that was given up.

        Repeating it, or an unknown id, changes nothing.
        """
        ...

    def postpone(self, notice_id: str, until: datetime | None, error: str) -> None:
        """Note a failed try: try again at ``until``, or give up when it is ``None`` (a dead letter).

        Counts an attempt and keeps the error. For an unknown id, or one that was delivered, nothing changes;
        a dead letter stays dead.
        """
        ...

    def dead_letters(self) -> Sequence[Outgoing]:
        """Notices that were given up, in the order in which they were written."""
        ...

    def resend(self, notice_ids: Sequence[str], now: datetime, target: str | None = None) -> int:
        """Make notices due at once, all in one transaction: a person wants them sent again.

        Dead letters wait again; for those that wait, the next try is now. Attempts begin at 0, and the last
        error is kept until the next failure. Delivered and unknown ones are left alone.

        Args:
            notice_ids: Identities; may be empty, or hold one twice.
            now: Time of the next try.
            target: Whom they are for from now on (empty: the default notifier); ``None`` changes nothing in
                that. Their ids stay.

        Returns:
            How many notices are due now because of it.
        """
        ...

    def counts(self) -> Backlog:
        """How many wait and how many were given up. Costs what has not arrived, not what was ever sent."""
        ...
