"""The stores that the crash sweep is run over: a line each."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from postgres_server import running_postgres, unused_schema

from autoretrain.adapters.ledger_postgres import PostgresLedger
from autoretrain.adapters.ledger_sqlite import SqliteLedger
from autoretrain.adapters.observations_postgres import PostgresObservations
from autoretrain.adapters.observations_sqlite import SqliteObservations
from autoretrain.entrypoints.testing.store import LedgerStore
from autoretrain.ports.observations import Observations

Make = Callable[[Path], AbstractContextManager[str]]
"""Makes a new, empty place, with a folder to use, and clears it away afterwards; gives its address."""


@dataclass(frozen=True)
class Store:
    """A technology that the sweep can be run over.

    Attributes:
        running: Runs what the store needs, for as long as a sweep lasts; gives what makes places in it.
        ledger: Opens the ledger at an address, in any process; leases run on the clock, in seconds.
        observations: Opens the record of looks at an address, in any process.
    """

    running: Callable[[], AbstractContextManager[Make]]
    ledger: Callable[[str, Callable[[], float]], LedgerStore]
    observations: Callable[[str], Observations]


@contextmanager
def _schemas() -> Iterator[Make]:
    """A server; its places are schemas, with the address ``SCHEMA DSN``."""
    with running_postgres() as server:

        @contextmanager
        def made(_: Path) -> Iterator[str]:
            schema = unused_schema()
            yield f"{schema} {server.dsn()}"
            server.sql(f"DROP SCHEMA {schema} CASCADE", dbname="autoretrain")

        yield made


def _postgres_ledger(address: str, clock: Callable[[], float]) -> LedgerStore:
    schema, dsn = address.split(" ", 1)
    return PostgresLedger(dsn, schema=schema, clock=clock)


def _postgres_observations(address: str) -> Observations:
    schema, dsn = address.split(" ", 1)
    return PostgresObservations(dsn, schema=schema)


STORES: Mapping[str, Store] = {
    "postgres": Store(_schemas, _postgres_ledger, _postgres_observations),
    "sqlite": Store(
        running=lambda: nullcontext(lambda folder: nullcontext(str(folder))),
        ledger=lambda address, clock: SqliteLedger(Path(address, "ledger.db"), clock=clock),
        observations=lambda address: SqliteObservations(Path(address, "observations.db")),
    ),
}
