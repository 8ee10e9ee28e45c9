"""The contracts of ledger, agenda, limits and outbox over every store."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path

from autoretrain.adapters.ledger_sqlite import SqliteLedger
from autoretrain.adapters.memory import MemoryLedger
from autoretrain.entrypoints.testing.agenda import AgendaContract, ShardedAgendaContract
from autoretrain.entrypoints.testing.ledger import LedgerContract
from autoretrain.entrypoints.testing.limits import LimitsContract
from autoretrain.entrypoints.testing.outbox import OutboxContract
from autoretrain.entrypoints.testing.store import LedgerStore


class TestSqliteLedger(LedgerContract, AgendaContract, LimitsContract, OutboxContract):
    def make_store(self, folder: Path, clock: Callable[[], float]) -> AbstractContextManager[LedgerStore]:
        return closing(SqliteLedger(folder / "ledger.db", clock=clock))


class TestMemoryLedger(LedgerContract, AgendaContract, LimitsContract, OutboxContract):
    def make_store(self, folder: Path, clock: Callable[[], float]) -> AbstractContextManager[LedgerStore]:
        return nullcontext(MemoryLedger(clock=clock))


class TestShardedMemoryLedger(
    LedgerContract, AgendaContract, ShardedAgendaContract, LimitsContract, OutboxContract
):
    def make_store(self, folder: Path, clock: Callable[[], float]) -> AbstractContextManager[LedgerStore]:
        return nullcontext(MemoryLedger(clock=clock, shards=8))
