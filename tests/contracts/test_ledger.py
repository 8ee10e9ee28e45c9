"""The contracts of ledger, agenda, limits and outbox over every store."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path

import pytest
from postgres_server import Postgres, unused_schema

from autoretrain.adapters.ledger_postgres import PostgresLedger
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


@pytest.mark.service
@pytest.mark.xdist_group("postgres")
class TestPostgresLedger(
    LedgerContract, AgendaContract, ShardedAgendaContract, LimitsContract, OutboxContract
):
    @pytest.fixture(autouse=True)
    def _server(self, postgres: Postgres) -> None:
        self.dsn = postgres.dsn()

    def make_store(self, folder: Path, clock: Callable[[], float]) -> AbstractContextManager[LedgerStore]:
        return closing(PostgresLedger(self.dsn, schema=unused_schema(), clock=clock))


class TestPostgresLedgerThroughPgBouncer(TestPostgresLedger):
    @pytest.fixture(autouse=True)
    def _server(self, postgres: Postgres, pgbouncer: int) -> None:
        self.dsn = postgres.dsn(port=pgbouncer)
