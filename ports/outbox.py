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
        attempts: How often it was tried.
        error: What went wrong the last time; empty before the first try.
        dead: True when it was given up.
    """

    notice: Notice
    attempts: int
    error: str = ""
    dead: bool = False


class Outbox(Protocol):
    """Holds notices until they are delivered."""

    def due(self, now: datetime, limit: int = 20, holder: str | None = None) -> Sequence[Outgoing]:
        """Notices whose time has come, oldest first; neither delivered nor given up.

        Args:
            now: Time by which they are due.
            limit: At most so many.
            holder: Only of models whose shard this holder has the lease of, so that no two controllers send
                the same notice; ``None`` takes all.
        """
        ...

    def delivered(self, notice_id: str, at: datetime) -> None:
        """Note that a notice has arrived. Repeating it changes nothing."""
        ...

    def postpone(self, notice_id: str, until: datetime | None, error: str) -> None:
        """Note a failure: try again at ``until``, or give up when it is ``None`` (a dead letter)."""
        ...

    def dead_letters(self) -> Sequence[Outgoing]:
        """Notices that were given up, oldest first."""
        ...
