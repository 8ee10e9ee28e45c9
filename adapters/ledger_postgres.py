"""The ledger for several controllers: streams, agenda, limits and outbox in one schema of PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from ..ports.agenda import Claim, shard_of
from ..ports.errors import DuplicateKey, LeaseLost, LimitReached, Overtaken, Permanent, Temporary
from ..ports.ledger import Append, Entry
from ..ports.limits import Unit
from ..ports.notifier import Notice
from ..ports.outbox import Backlog, Outgoing
from .micros import from_micros, to_micros
from .postgres_append import AppendStatement, append_statement
from .postgres_connection import Conflict, PostgresDatabase
from .postgres_leases import (
    CLAIM_ALL,
    CLAIM_ONE,
    HOLDS,
    LIVES,
    RELEASE,
    SET_NEXT_LOOK,
    SHARDS,
    claim_of,
)
from .postgres_privileges import Access

_ATTEMPTS = 100  # each lost race for a unit means that another process won it

_READ = f"SELECT {', '.join(field.name for field in fields(Entry))} FROM entries"  # noqa: S608
_READ_AFTER = f"{_READ} WHERE model = %(model)s AND seq > %(after)s ORDER BY seq"
# Jumps from name to name along the index; DISTINCT would walk every entry.
_MODELS = """
WITH RECURSIVE names (model) AS (
    (SELECT model FROM entries ORDER BY model LIMIT 1)
    UNION ALL
    SELECT (SELECT model FROM entries WHERE model > names.model ORDER BY model LIMIT 1)
    FROM names WHERE names.model IS NOT NULL
)
SELECT model FROM names WHERE model IS NOT NULL
"""

_USED = """
SELECT coalesce(sum(units.amount), 0)::bigint FROM unnest(%(scopes)s::text[], %(periods)s::text[])
WITH ORDINALITY AS asked (scope, period, place) LEFT JOIN units USING (scope, period)
GROUP BY place ORDER BY place
"""

_WAITING = """
SELECT id, model, event, severity, title, body, at, facts, target, attempts, error, due_at
FROM outbox WHERE delivered_at IS NULL AND
"""
_DUE = f"""{_WAITING} due_at <= %(now)s
AND (%(target)s::text IS NULL OR target = %(target)s)
AND (%(holder)s::text IS NULL OR shard IN (SELECT shard FROM leases WHERE holder = %(holder)s))
ORDER BY CASE severity WHEN 'critical' THEN 0 WHEN 'warning' THEN 1 ELSE 2 END, position DESC LIMIT %(limit)s
"""  # noqa: S608
_AT_ONCE = 0
"""``due_at`` of a notice that was never tried."""
_DELIVERED = "UPDATE outbox SET delivered_at = %(at)s WHERE id = %(id)s AND delivered_at IS NULL"
# A dead letter stays dead when a late answer tells of another failure.
_POSTPONE = """
UPDATE outbox
SET attempts = attempts + 1, error = %(error)s,
    due_at = CASE WHEN due_at IS NULL THEN NULL ELSE %(until)s::bigint END
WHERE id = %(id)s AND delivered_at IS NULL
"""
# In one order, so that no two wait for one another.
_RESEND = """
WITH asked AS (
    SELECT id FROM outbox WHERE id = ANY (%(ids)s::text[]) AND delivered_at IS NULL ORDER BY id FOR UPDATE
), due AS (
    UPDATE outbox SET attempts = 0, due_at = %(now)s, target = coalesce(%(target)s::text, target)
    FROM asked WHERE outbox.id = asked.id RETURNING outbox.id
)
SELECT count(*) FROM due
"""
_BACKLOG = """
SELECT count(due_at), count(*) - count(due_at),
    min(at) FILTER (WHERE due_at IS NOT NULL), min(at) FILTER (WHERE due_at IS NULL),
    array_agg(DISTINCT target) FILTER (WHERE due_at IS NOT NULL AND target <> '')
FROM outbox WHERE delivered_at IS NULL
"""


class PostgresLedger:
    """Implements Ledger, Agenda, Limits and Outbox; threads, processes and forks may share it.

    Several controllers share the models by their shards. Every call is one transaction in one message, on
    disk when it returns; PgBouncer may stand between, in any mode. Text with characters that PostgreSQL
    cannot keep (NUL) is escaped, and comes back as it was.

    Args:
        dsn: Connection string of libpq, ``key=value`` or a URL.
        schema: Name of the schema within the database; created where the role may.
        clock: Seconds since 1970, by which leases run; ``None`` takes the server's, which all share.
        statement_seconds: How long a statement may wait for others before ``Temporary`` is raised.

    Raises:
        Permanent: The connection string cannot be read. Nothing is connected to yet.
    """

    def __init__(
        self,
        dsn: str,
        *,
        schema: str = "autoretrain",
        clock: Callable[[], float] | None = None,
        statement_seconds: float = 10.0,
    ) -> None:
        self.database = PostgresDatabase(dsn, schema, statement_seconds=statement_seconds)
        self._clock = clock

    def close(self) -> None:
        """Close the connections. A later call opens others."""
        self.database.close()

    def upgrade(self) -> tuple[int, int]:
        """Bring the tables to this release's version; see ``PostgresDatabase.upgrade``."""
        return self.database.upgrade()

    def versions(self) -> tuple[int, int]:
        """The version that the tables have (0: none are there), and this release's. Creates nothing."""
        return self.database.version(), self.database.schema.newest

    def access(self) -> Access:
        """What the role may do with the tables, and what it lacks. Creates nothing."""
        return self.database.access()

    @property
    def place(self) -> str:
        """Server and database, without credentials."""
        return self.database.place

    # Ledger

    def models(self) -> Sequence[str]:
        """Names of all models that have a stream, sorted by code point."""
        (rows,) = self.database.run(_MODELS)
        return sorted(model for (model,) in rows)

    def read(self, model: str, after: int = 0) -> Sequence[Entry]:
        """Return the entries of a stream with ``seq > after``, in order; empty for an unknown model."""
        (rows,) = self.database.run(_READ_AFTER, {"model": model, "after": after})
        return [Entry(*row) for row in rows]

    def append(self, batch: Append) -> None:
        """Add entries, their notices, units and the next look, all or none, with one statement.

        Raises:
            Overtaken: The first entry does not follow the head.
            LeaseLost: ``epoch`` is given and is not the current lease of the model's shard.
            DuplicateKey: An entry of the same key is there already.
            LimitReached: No unit of one scope is left.
            ValueError: The entries do not follow one another.
            Temporary: The server is away, busy, full or read-only; nothing was written, unless the connection
                was lost before its answer.
            Permanent: The database cannot be used, or the tables are of another release.
        """
        shards = {name: self._shard(name) for name in (batch.model, *(each.model for each in batch.notices))}
        statement = append_statement(batch, self.database.schema.newest, shards)
        for _ in range(_ATTEMPTS):
            try:
                (((refusal, *place),),) = self.database.run(statement.text, statement.values)
            except Conflict as conflict:
                if conflict.constraint not in ("units_place", "units_owner"):
                    raise _overtaken_by(conflict, batch) from conflict.__cause__
            else:
                return self._check(refusal, place, batch, statement)
        raise Temporary(f"{self.database.place}: too many processes want the same units; nothing was written")

    def _check(self, refusal: str, place: Sequence[int], batch: Append, statement: AppendStatement) -> None:
        """Raise what a refusal means; an empty one is none."""
        if refusal == "schema":
            raise Permanent(
                f"{self.database.place}: its tables are of another release now; upgrade this process"
            )
        if refusal == "lease":
            raise LeaseLost(f"{batch.model}: the lease of epoch {batch.epoch} is over")
        if refusal == "head":
            raise _overtaken(batch)
        if refusal == "key":
            raise _duplicate(batch)
        if refusal == "limit":
            unit = statement.takes[place[0] - 1]
            raise LimitReached(unit.scope, unit.limit or 0)

    # Limits

    def used(self, units: Sequence[Unit]) -> Sequence[int]:
        """How much of each scope and period is taken now."""
        values = {"scopes": [unit.scope for unit in units], "periods": [unit.period for unit in units]}
        (rows,) = self.database.run(_USED, values)
        return [count for (count,) in rows]

    # Agenda

    def claim(
        self, now: datetime, holder: str, lease_seconds: float, limit: int = 1000, model: str | None = None
    ) -> Claim:
        """Take or keep leases, and say what is due; only reads while nothing has to be taken or renewed.

        ``next_due`` is the earliest time among the models that are not in ``due``.
        """
        values = {"now": to_micros(now), "holder": holder, "seconds": float(lease_seconds), "limit": limit}
        if model is not None:
            (rows,) = self._timed(CLAIM_ONE, {**values, "shard": self._shard(model)})
            return claim_of(rows, holder)
        rows, due, later = self._timed(CLAIM_ALL, values)
        return claim_of(rows, holder, due, later, limit)

    def holds(self, model: str, epoch: int) -> bool:
        """Whether an epoch is still the current lease of a model's shard."""
        (rows,) = self.database.run(HOLDS, {"shard": self._shard(model), "epoch": epoch})
        return bool(rows)

    def set_next_look(self, model: str, seq: int, at: datetime, epoch: int) -> None:
        """Say when to look again, if ``seq`` is still the head (0: no stream yet) and ``epoch`` the lease."""
        values = {
            "model": model,
            "seq": seq,
            "at": to_micros(at),
            "epoch": epoch,
            "shard": self._shard(model),
        }
        self.database.run(SET_NEXT_LOOK, values)

    def release(self, holder: str) -> None:
        """Give back at once every lease that the holder has; their epochs are never current again."""
        self.database.run(RELEASE, {"holder": holder})

    def next_look(self, model: str) -> datetime | None:
        """When a controller will look at a model; ``None`` when no time is set. Takes no lease."""
        (rows,) = self.database.run("SELECT next_look FROM agenda WHERE model = %(model)s", {"model": model})
        return from_micros(rows[0][0]) if rows and rows[0][0] is not None else None

    def controllers(self) -> Sequence[str]:
        """Who runs the loop now, sorted."""
        (rows,) = self._timed(f"SELECT holder FROM controllers WHERE {LIVES} ORDER BY holder", {})  # noqa: S608
        return [holder for (holder,) in rows]

    def weaknesses(self) -> Sequence[str]:
        """What the server is set to that a ledger should not have, each with its consequence."""
        (((fsync, pages, standby),),) = self.database.run(
            "SELECT current_setting('fsync'), current_setting('full_page_writes'), pg_is_in_recovery()"
        )
        found = [
            f"{name} is off"
            for name, value in (("fsync", fsync), ("full_page_writes", pages))
            if value == "off"
        ]
        told = [f"{what}: a crash of the server's machine loses or damages entries" for what in found]
        return [*told, *(["it is a standby: nothing can be written"] if standby else [])]

    # Outbox

    def due(
        self, now: datetime, limit: int = 20, holder: str | None = None, target: str | None = None
    ) -> Sequence[Outgoing]:
        """Notices whose time has come, the most severe first, then the latest written."""
        at = max(to_micros(now), _AT_ONCE)
        values = {"now": at, "limit": limit, "holder": holder, "target": target}
        (rows,) = self.database.run(_DUE, values)
        return [_outgoing(row) for row in rows]

    def delivered(self, notice_id: str, at: datetime) -> None:
        """Note that a notice has arrived. Repeating it, or an unknown id, changes nothing."""
        self.database.run(_DELIVERED, {"id": notice_id, "at": to_micros(at)})

    def postpone(self, notice_id: str, until: datetime | None, error: str) -> None:
        """Note a failure; a notice that has arrived meanwhile is left alone."""
        due_at = None if until is None else to_micros(until)
        self.database.run(_POSTPONE, {"id": notice_id, "until": due_at, "error": error})

    def dead_letters(self) -> Sequence[Outgoing]:
        """Notices that were given up, in the order in which they were written."""
        (rows,) = self.database.run(f"{_WAITING} due_at IS NULL ORDER BY position")
        return [_outgoing(row) for row in rows]

    def resend(self, notice_ids: Sequence[str], now: datetime, target: str | None = None) -> int:
        """Make notices due at once; those that have arrived are left alone."""
        values = {"ids": list(notice_ids), "now": to_micros(now), "target": target}
        (((count,),),) = self.database.run(_RESEND, values)
        return int(count)

    def counts(self) -> Backlog:
        """How many notices wait, and how many were given up."""
        (((waiting, dead, *oldest, targets),),) = self.database.run(_BACKLOG)
        first, first_dead = (None if at is None else from_micros(at) for at in oldest)
        return Backlog(waiting, dead, first, first_dead, tuple(sorted(targets or ())))

    def _shard(self, model: str) -> int:
        return shard_of(model, SHARDS)

    def _timed(self, statements: str, values: dict[str, Any]) -> list[list[tuple[Any, ...]]]:
        """Run statements with a clock in them."""
        clock = "clock_timestamp()"
        if self._clock is not None:
            clock, values = "to_timestamp(%(clock)s)", {**values, "clock": self._clock()}
        return self.database.run(statements.replace("{clock}", clock), values)


def _overtaken_by(conflict: Conflict, batch: Append) -> Exception:
    """What it means that another transaction came first."""
    if conflict.constraint in ("entries_pkey", "entries_follow"):
        return _overtaken(batch)
    if conflict.constraint == "entries_key":
        return _duplicate(batch)
    return Permanent(f"{batch.model}: the tables refuse the entry ({conflict.constraint})")


def _overtaken(batch: Append) -> Overtaken:
    return Overtaken(f"{batch.model}: entry {batch.entries[0].seq} does not follow the head of the stream")


def _duplicate(batch: Append) -> DuplicateKey:
    keys = ", ".join(entry.key for entry in batch.entries if entry.key is not None)
    return DuplicateKey(f"{batch.model} already has an entry of key {keys}")


def _outgoing(row: tuple[Any, ...]) -> Outgoing:
    notice_id, model, event, severity, title, body, at, facts, target, attempts, error, due_at = row
    when, values = from_micros(at), json.loads(facts)
    notice = Notice(notice_id, model, event, severity, title, body, when, values, target)
    next_try = from_micros(due_at) if due_at else None
    return Outgoing(notice, attempts, error, dead=due_at is None, next_try=next_try)
