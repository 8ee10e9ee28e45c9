"""What is due, and who may act on it.

Models are spread over shards by their name, and whoever acts on a model holds the lease of its shard.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

SET_BACK = timedelta(minutes=1)
"""A claim whose time lies further than this before an earlier one's comes from a clock that was set back."""


def shard_of(model: str, shards: int) -> int:
    """The shard of a model: the same for every process, store and release.

    Args:
        model: Name of the model.
        shards: How many shards there are.

    Returns:
        A number from 0 to ``shards - 1``.
    """
    return int.from_bytes(hashlib.sha256(model.encode()).digest()[:8]) % shards


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to act on some shards, for as long as it is renewed.

    Attributes:
        shards: How many shards there are in all.
        leases: Epoch by shard, of the shards the caller holds now. An epoch is larger with every change of
            holder.
        holders: Who holds each shard now, by shard; a free one is absent.
        due: Models to look at, all in shards the caller holds, most overdue first.
        next_due: When the next of the caller's models wants a look; ``None`` when there is none.
        due_since: The time at which the first of ``due`` wanted its look; ``None`` when nothing is due.
    """

    shards: int
    leases: Mapping[int, int] = field(default_factory=dict)
    holders: Mapping[int, str] = field(default_factory=dict)
    due: tuple[str, ...] = ()
    next_due: datetime | None = None
    due_since: datetime | None = None

    def epoch_of(self, model: str) -> int | None:
        """Epoch under which the caller may act on a model; ``None`` when it may not."""
        return self.leases.get(shard_of(model, self.shards))

    def holder_of(self, model: str) -> str | None:
        """Who may act on a model now; ``None`` when nobody does."""
        return self.holders.get(shard_of(model, self.shards))


class Agenda(Protocol):
    """Keeps one time a model, and one lease a shard."""

    def claim(
        self, now: datetime, holder: str, lease_seconds: float, limit: int = 1000, model: str | None = None
    ) -> Claim:
        """Take or keep leases, and say what is due.

        ``now`` decides what is due; leases run on the store's own clock. A holder's later call keeps its
        epochs and renews its leases (at a third of their life, so that most calls write nothing). A free or
        expired lease is taken with a new epoch. A holder that claims without ``model`` takes free shards up
        to its fair share among all holders that do so, and gives back at once what it holds beyond that.

        After a clock was set back by more than ``SET_BACK``, every model whose look lies ahead is due: nobody
        waits for an hour that comes twice, nor for a day that a clock had run ahead.

        Args:
            now: Time by which models are due.
            holder: Identity of the caller, unique among processes.
            lease_seconds: How long a lease lives without renewal.
            limit: At most so many models.
            model: Take or keep the shard of this model only, and leave ``due`` empty; ``None`` claims as a
                controller does.

        Returns:
            The claim; without leases when others hold them all.

        Raises:
            Temporary: The store cannot be reached or is busy.
        """
        ...

    def holds(self, model: str, epoch: int) -> bool:
        """Whether ``epoch`` is still the current lease of a model's shard; asked just before an act.

        Raises:
            Temporary: The store cannot be reached or is busy.
        """
        ...

    def set_next_look(self, model: str, seq: int, at: datetime, epoch: int) -> None:
        """Say when a model wants to be looked at again, if nothing was appended meanwhile.

        Does nothing when the stream's head is no longer ``seq`` (somebody's request has made it due), when
        the time is already the one set, or when ``epoch`` is not the current lease of the model's shard.
        """
        ...

    def release(self, holder: str) -> None:
        """Give back at once every lease that the holder has."""
        ...
