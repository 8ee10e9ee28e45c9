"""The rolling record of looks, beside the ledger on PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

from ..ports.observations import Look
from .micros import from_micros, to_micros
from .postgres_connection import PostgresDatabase

_BEFORE_ALL = -(2**63)

# In one order, so that no two processes wait for one another.
_RECORD = """
INSERT INTO looks (model, at, data)
SELECT * FROM unnest(%(models)s::text[], %(times)s::bigint[], %(data)s::text[]) AS new (model, at, data)
ORDER BY model, at
ON CONFLICT (model, at) DO UPDATE SET data = excluded.data;
DELETE FROM looks USING looks_totals AS kept CROSS JOIN LATERAL (
    SELECT oldest.at FROM looks AS oldest WHERE oldest.model = kept.model ORDER BY oldest.at
    LIMIT greatest(kept.looks - %(keep)s, 0)
) AS surplus
WHERE kept.model = ANY (%(models)s::text[]) AND kept.looks > %(keep)s
    AND looks.model = kept.model AND looks.at = surplus.at
"""
_RECENT = "SELECT at, data FROM looks WHERE model = %(model)s AND at > %(after)s ORDER BY at"


class PostgresObservations:
    """Implements ``Observations``; may be shared by threads, processes and forks.

    A commit does not wait for the disk: a crash of the server may take the newest looks with it.

    Args:
        dsn: Connection string of libpq; the ledger's.
        schema: Name of the schema; the ledger's.
        keep: How many looks of each model are kept, the latest by their time.

    Raises:
        Permanent: The connection string cannot be read. Nothing is connected to yet.
    """

    def __init__(self, dsn: str, *, schema: str = "autoretrain", keep: int = 10_000) -> None:
        self._database = PostgresDatabase(dsn, schema)
        self._keep = keep

    def close(self) -> None:
        """Close the connections. A later call opens others."""
        self._database.close()

    def record(self, looks: Sequence[Look]) -> None:
        """Keep looks, all or none. A second look of a model at the same time replaces the first.

        Raises:
            Temporary: The server is away, busy, full or read-only.
            Permanent: The database cannot be used, or the tables are of another release.
        """
        latest = {(look.model, to_micros(look.at)): look.data for look in looks}
        values = {
            "models": [model for model, _ in latest],
            "times": [at for _, at in latest],
            "data": [json.dumps(data, ensure_ascii=False) for data in latest.values()],
            "keep": self._keep,
        }
        self._database.run(_RECORD, values, durable=False)

    def recent(self, model: str, after: datetime | None = None) -> Sequence[Look]:
        """Looks of a model with ``at > after``, oldest first.

        Raises:
            Temporary: The server is away.
            Permanent: The database cannot be used, or the tables are of another release.
        """
        since = _BEFORE_ALL if after is None else to_micros(after)
        (rows,) = self._database.run(_RECENT, {"model": model, "after": since})
        return [Look(model, from_micros(at), json.loads(data)) for at, data in rows]
