"""What the contracts of ledger, agenda, limits and outbox share: one store, a clock, and sealed entries.

The four ports share transactions, so one class implements them. Subclass their contracts over it, together,
and let pytest run them::

    class TestMyLedger(LedgerContract, AgendaContract, LimitsContract, OutboxContract):
        def make_store(self, folder, clock):
            return closing(MyLedger(folder / "ledger", clock=clock))
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import pytest

from ...domain.sealing import Draft, Head, seal
from ...ports.agenda import Agenda
from ...ports.ledger import Append, Entry, Ledger
from ...ports.limits import Limits
from ...ports.notifier import Notice
from ...ports.outbox import Outbox

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
LEASE_SECONDS = 60.0


class LedgerStore(Ledger, Agenda, Limits, Outbox, Protocol):
    """The four ports that share transactions, and therefore an implementation."""


@dataclass
class ManualClock:
    """A clock of seconds that a test moves by hand.

    Attributes:
        seconds: The time it shows.
    """

    seconds: float = 1_000_000.0

    def __call__(self) -> float:
        """Return the time it shows."""
        return self.seconds


def sealed_entries(
    model: str, count: int, after: Entry | None = None, keys: Sequence[str | None] = ()
) -> tuple[Entry, ...]:
    """Return entries that continue a stream, sealed as the domain seals them.

    Args:
        model: Name of the model.
        count: How many.
        after: The head they follow; ``None`` to begin a stream.
        keys: Keys of the first entries; the others have none.

    Returns:
        The entries, in order.
    """
    head = Head() if after is None else Head(after.chain, after.seq, after.hash)
    padded = [*keys, *[None] * (count - len(keys))]
    drafts = [Draft("look.noted", {"n": head.seq + n, "text": "ü €"}, key) for n, key in enumerate(padded, 1)]
    return seal(model, head, drafts, NOW)


def request(entries: tuple[Entry, ...], next_look: datetime | None = None, *notices: Notice) -> Append:
    """Return the append of a person, who holds no lease."""
    return Append(entries[0].model, entries, None, next_look, notices)


def notice(name: str, minutes: int = 0) -> Notice:
    """Return a notice about the model ``m``, some minutes after ``NOW``."""
    at = NOW + timedelta(minutes=minutes)
    return Notice(name, "m", "started", "info", "Begun", "Why:\nü €", at, {"psi": "0.3", "b": "ü"})


class StoreContract(ABC):
    """Gives the contracts below a new store for each test."""

    @abstractmethod
    def make_store(self, folder: Path, clock: Callable[[], float]) -> AbstractContextManager[LedgerStore]:
        """Return a context that opens a new, empty store and closes it at the end.

        Args:
            folder: An empty folder that the store may use.
            clock: The store's own clock, in seconds, by which leases run.
        """

    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture
    def store(self, tmp_path: Path, clock: ManualClock) -> Iterator[LedgerStore]:
        with self.make_store(tmp_path, clock) as store:
            yield store
