"""What is due, and who may act on it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to act, for as long as it is renewed.

    Attributes:
        epoch: Number of the lease, larger with every change of holder; ``None`` when another holds it.
        holder: Who holds the lease now.
        due: Models to look at, most overdue first; empty when ``epoch`` is ``None``.
        next_due: When the next model wants a look; ``None`` when there is none.
        due_since: The time at which the first of ``due`` wanted its look; ``None`` when nothing is due.
    """

    epoch: int | None
    holder: str
    due: tuple[str, ...] = ()
    next_due: datetime | None = None
    due_since: datetime | None = None


class Agenda(Protocol):
    """Keeps one time a model and one lease over them."""

    def claim(self, now: datetime, holder: str, lease_seconds: float, limit: int = 1000) -> Claim:
        """Take or keep the lease, and say what is due.

        ``now`` decides what is due; the lease runs on the store's own clock. A holder's later call keeps
        its epoch and renews the lease (at a third of its life, so that most calls write nothing). A free or
        expired lease is taken with a new epoch.

        Args:
            now: Time by which models are due.
            holder: Identity of the caller, unique among processes.
            lease_seconds: How long the lease lives without renewal.
            limit: At most so many models.

        Returns:
            The claim; without an epoch when another holds the lease.

        Raises:
            Temporary: The store cannot be reached or is busy.
        """
        ...

    def set_next_look(self, model: str, seq: int, at: datetime, epoch: int) -> None:
        """Say when a model wants to be looked at again, if nothing was appended meanwhile.

        Does nothing when the stream's head is no longer ``seq`` (somebody's request has made it due), when
        the time is already the one set, or when ``epoch`` is not the current lease.
        """
        ...

    def release(self, holder: str) -> None:
        """Give the lease back at once, if the holder has it."""
        ...
