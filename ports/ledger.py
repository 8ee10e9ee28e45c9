"""The ledger: one append-only stream of entries a model. It is the authority on what happened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from .limits import Unit
from .notifier import Notice

ENTRY_VERSION = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One immutable line of a model's stream. The domain seals it; adapters store and return it unchanged.

    Attributes:
        v: Version of the entry's format.
        chain: Identity of the stream, chosen when it begins.
        model: Name of the model.
        seq: Position in the stream, from 1 without gaps.
        at: When it was decided: ISO 8601 in UTC with microseconds, ``2026-01-31T00:00:00.000000Z``.
        kind: What it says (``job.opened``, ``request.approve``).
        key: Identity of what it records, unique within the model, or ``None``.
        actor: Who: ``controller`` or a person's name.
        data: Canonical JSON text (RFC 8785) of the details.
        prev: ``hash`` of the entry before; 64 zeros for the first.
        hash: SHA-256 (hex) over the canonical JSON of all other fields.
    """

    v: int
    chain: str
    model: str
    seq: int
    at: str
    kind: str
    key: str | None
    actor: str
    data: str
    prev: str
    hash: str


@dataclass(frozen=True, slots=True)
class Append:
    """Entries to be added to one stream in one transaction.

    Attributes:
        model: Name of the model.
        entries: Sealed entries with consecutive sequence numbers; at least one.
        epoch: The lease of the model's shard under which the controller acts; ``None`` for a person's
            request, which needs none.
        next_look: When the model is due again; ``None`` leaves it as it is.
        notices: Messages put into the outbox in the same transaction.
        takes: Units taken in the same transaction, one each; a unit that the owner has already is kept.
        settles: Units whose amount is known better now. One that the owner has not is left alone.
        gives_back: Whether every unit that the owner has in use is given back in the same transaction, before
            anything is taken. What a period has spent stays spent.
        owner: Who takes and gives back units: a job's identity.
    """

    model: str
    entries: tuple[Entry, ...]
    epoch: int | None
    next_look: datetime | None = None
    notices: tuple[Notice, ...] = ()
    takes: tuple[Unit, ...] = ()
    settles: tuple[Unit, ...] = ()
    gives_back: bool = False
    owner: str = ""


class Ledger(Protocol):
    """Reads and extends streams."""

    def models(self) -> Sequence[str]:
        """Names of all models that have a stream, sorted."""
        ...

    def read(self, model: str, after: int = 0) -> Sequence[Entry]:
        """Return the entries of a stream with ``seq > after``, in order; empty for an unknown model.

        Raises:
            Temporary: The store cannot be reached or is busy.
            Permanent: The store is damaged or of another schema.
        """
        ...

    def append(self, batch: Append) -> None:
        """Add entries, all or none, durably before it returns.

        Args:
            batch: What to add. Its first entry's ``seq`` must be the head's plus one.

        Raises:
            Overtaken: The head has moved (or the first ``prev`` is not its hash); nothing was written.
            LeaseLost: ``epoch`` is given and is no longer the current lease of the model's shard; nothing was
                written.
            LimitReached: Nothing of one scope is left; nothing was written.
            DuplicateKey: An entry of the same key is there already; nothing was written.
            Temporary: The store is busy, full or away; nothing was written, unless the answer was lost
                (then the next append is overtaken).
        """
        ...
