"""The contract of the rolling record over every implementation, and what is SQLite's own."""

from __future__ import annotations

import sqlite3
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path

import pytest
from postgres_server import Postgres, unused_schema

from autoretrain.adapters.ledger_sqlite import SqliteLedger
from autoretrain.adapters.memory import MemoryObservations
from autoretrain.adapters.observations_postgres import PostgresObservations
from autoretrain.adapters.observations_sqlite import SqliteObservations
from autoretrain.entrypoints.testing.observations import ObservationsContract, look
from autoretrain.ports.errors import Permanent
from autoretrain.ports.observations import Observations


class TestSqliteObservations(ObservationsContract):
    def make_observations(self, folder: Path, keep: int) -> AbstractContextManager[Observations]:
        return closing(SqliteObservations(folder / "looks.db", keep=keep))


class TestMemoryObservations(ObservationsContract):
    def make_observations(self, folder: Path, keep: int) -> AbstractContextManager[Observations]:
        return nullcontext(MemoryObservations(keep=keep))


@pytest.mark.service
@pytest.mark.xdist_group("postgres")
class TestPostgresObservations(ObservationsContract):
    @pytest.fixture(autouse=True)
    def _server(self, postgres: Postgres, pgbouncer: int) -> None:
        self.dsn = postgres.dsn(port=pgbouncer)

    def make_observations(self, folder: Path, keep: int) -> AbstractContextManager[Observations]:
        return closing(PostgresObservations(self.dsn, schema=unused_schema(), keep=keep))


def test_looks_outlive_the_process_and_the_file_stays_bounded(tmp_path: Path) -> None:
    path = tmp_path / "looks.db"
    for start in (0, 100):
        with closing(SqliteObservations(path, keep=10)) as observations:
            observations.record([look(start + minutes) for minutes in range(30)])

    with closing(SqliteObservations(path, keep=10)) as observations:
        assert list(observations.recent("m")) == [look(minutes) for minutes in range(120, 130)]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM looks").fetchone() == (10,)


def test_a_smaller_bound_is_reached_with_the_next_look(tmp_path: Path) -> None:
    path = tmp_path / "looks.db"
    with closing(SqliteObservations(path, keep=10)) as observations:
        observations.record([look(minutes) for minutes in range(10)])

    with closing(SqliteObservations(path, keep=3)) as observations:
        observations.record([look(10)])

        assert list(observations.recent("m")) == [look(8), look(9), look(10)]


def test_the_file_of_the_ledger_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with closing(SqliteLedger(path)) as ledger:
        ledger.models()

    with closing(SqliteObservations(path)) as observations, pytest.raises(Permanent, match="something else"):
        observations.recent("m")
