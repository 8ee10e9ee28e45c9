"""The rolling record of looks in an SQLite file of its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from ..ports.observations import Look
from .micros import from_micros, to_micros
from .sqlite_connection import Database, Schema

_SCHEMA = Schema("observations", application_id=0x4152544F)  # "ARTO"

_RECORD = """
INSERT INTO looks (model, at, data) VALUES (?, ?, ?)
ON CONFLICT (model, at) DO UPDATE SET data = excluded.data
"""
_FORGET = """
DELETE FROM looks WHERE model = :model AND at IN (
    SELECT at FROM looks WHERE model = :model ORDER BY at
    LIMIT max(0, (SELECT looks FROM totals WHERE model = :model) - :keep)
)
"""

_BEFORE_ALL = -(2**63)


class SqliteObservations:
    """Implements ``Observations``; may be shared by threads, processes and forks.

    A commit does not wait for the disk: a power failure may take the newest looks with it.

    Args:
        path: The file; created, with its folder, when it is missing. Not the ledger's.
        keep: How many looks of each model are kept, the latest by their time.
    """

    def __init__(self, path: str | Path, *, keep: int = 10_000) -> None:
        self._database = Database(path, _SCHEMA, synchronous="NORMAL", busy_seconds=5.0)
        self._keep = keep

    def close(self) -> None:
        """Close the file. A later call opens it again."""
        self._database.close()

    def upgrade(self) -> tuple[int, int]:
        """Bring the file of an older release to this release's schema; see ``Database.upgrade``."""
        return self._database.upgrade()

    def versions(self) -> tuple[int, int]:
        """The version that the file has, and the one of this release; see ``Database.versions``."""
        return self._database.versions()

    @property
    def place(self) -> str:
        """The path of the file."""
        return self._database.place

    def record(self, looks: Sequence[Look]) -> None:
        """Keep looks, all or none. A second look of a model at the same time replaces the first.

        Raises:
            Temporary: The file is busy, full, read-only or away.
            Permanent: The file is damaged or of another schema.
        """
        rows = [(look.model, to_micros(look.at), json.dumps(look.data, ensure_ascii=False)) for look in looks]
        models = sorted({look.model for look in looks})
        with self._database.writing() as connection:
            connection.executemany(_RECORD, rows)
            connection.executemany(_FORGET, [{"model": model, "keep": self._keep} for model in models])

    def recent(self, model: str, after: datetime | None = None) -> Sequence[Look]:
        """Looks of a model with ``at > after``, oldest first.

        Raises:
            Temporary: The file is busy or away.
            Permanent: The file is damaged or of another schema.
        """
        since = _BEFORE_ALL if after is None else to_micros(after)
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT at, data FROM looks WHERE model = ? AND at > ? ORDER BY at", (model, since)
            )
            return [Look(model, from_micros(at), json.loads(data)) for at, data in rows]
