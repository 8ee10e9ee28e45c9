"""The ledgers that the crash sweep is run over: a line each."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from autoretrain.adapters.ledger_sqlite import SqliteLedger
from autoretrain.entrypoints.testing.store import LedgerStore


@dataclass(frozen=True)
class Store:
    """A ledger that the sweep can be run over.

    Attributes:
        made: Makes a new, empty place for one, with a folder to use, and clears it away afterwards; gives its
            address.
        opened: Opens the one at an address, in any process; leases may run on the clock, in seconds.
    """

    made: Callable[[Path], AbstractContextManager[str]]
    opened: Callable[[str, Callable[[], float]], LedgerStore]


@contextmanager
def _file(folder: Path) -> Iterator[str]:
    yield str(folder / "ledger.db")


STORES: Mapping[str, Store] = {
    "sqlite": Store(_file, lambda address, clock: SqliteLedger(address, clock=clock)),
}
