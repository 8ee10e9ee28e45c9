"""The embedded ledger: streams, agenda, limits and outbox in one SQLite file."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, astuple, dataclass, fields, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from ..ports.agenda import SET_BACK, Claim
from ..ports.errors import DuplicateKey, LeaseLost, LimitReached, Overtaken
from ..ports.ledger import Append, Entry
from ..ports.limits import Unit
from ..ports.notifier import Notice
from ..ports.outbox import Backlog, Outgoing
from .micros import from_micros, to_micros
from .sqlite_connection import Database, Schema

_SCHEMA = Schema("sqlite", application_id=0x4152544C)  # "ARTL"

_ENTRY_COLUMNS = ", ".join(field.name for field in fields(Entry))
_INSERT_ENTRY = f"INSERT INTO entries ({_ENTRY_COLUMNS}) VALUES ({', '.join('?' for _ in fields(Entry))})"  # noqa: S608
_READ_ENTRIES = f"SELECT {_ENTRY_COLUMNS} FROM entries WHERE model = ? AND seq > ? ORDER BY seq"  # noqa: S608

# Jumps from name to name along the index; DISTINCT would walk every entry.
_MODELS = """
WITH RECURSIVE names (model) AS (
    SELECT min(model) FROM entries
    UNION ALL
    SELECT (SELECT min(model) FROM entries WHERE model > names.model) FROM names WHERE model IS NOT NULL
)
SELECT model FROM names WHERE model IS NOT NULL
"""

# The controller says when it will look; a request can only make that earlier.
_PLAN_LOOK = """
INSERT INTO agenda (model, next_look) VALUES (?, ?)
ON CONFLICT (model) DO UPDATE SET next_look = excluded.next_look
"""
_HASTEN_LOOK = """
INSERT INTO agenda (model, next_look) VALUES (?, ?)
ON CONFLICT (model) DO UPDATE SET next_look = min(next_look, excluded.next_look)
"""
# One statement, so that it is atomic; it writes no page, and so commits nothing, where nothing changes.
_SET_NEXT_LOOK = """
INSERT INTO agenda (model, next_look)
SELECT :model, :at
WHERE :seq = (SELECT coalesce(max(seq), 0) FROM entries WHERE model = :model)
  AND EXISTS (SELECT 1 FROM leases WHERE shard = 0 AND epoch = :epoch AND holder IS NOT NULL)
ON CONFLICT (model) DO UPDATE SET next_look = excluded.next_look WHERE next_look <> excluded.next_look
"""

_GIVE_BACK = "DELETE FROM units WHERE owner = ? AND period = ''"
_SETTLE = "UPDATE units SET amount = :amount WHERE scope = :scope AND period = :period AND owner = :owner"
# The lowest free unit, unless the owner has one; the sum matters where a limit was lowered meanwhile.
_TAKE = """
INSERT INTO units (scope, period, n, owner, amount)
WITH RECURSIVE taken (places, total) AS (
    SELECT count(*), coalesce(sum(amount), 0) FROM units WHERE scope = :scope AND period = :period
), numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers, taken WHERE n < places)
SELECT :scope, :period, n, :owner, :amount FROM numbers, taken
WHERE (:limit IS NULL OR :limit > total)
  AND n NOT IN (SELECT n FROM units WHERE scope = :scope AND period = :period)
ORDER BY n LIMIT 1
"""
_HAS_TAKEN = "SELECT 1 FROM units WHERE scope = :scope AND period = :period AND owner = :owner"
_AT_ONCE = 0
"""``due_at`` of a notice that was never tried."""

_SET_LEASE = """
UPDATE leases SET holder = ?, epoch = ?, expires_at = ?, seconds = ?, claimed_at = ? WHERE shard = 0
"""
_SET_BACK = SET_BACK // timedelta(microseconds=1)

_INSERT_NOTICE = """
INSERT INTO outbox (id, model, seq, event, severity, title, body, at, facts, target)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO NOTHING
"""
_WAITING = """
SELECT id, model, event, severity, title, body, at, facts, target, attempts, error, due_at
FROM outbox INDEXED BY outbox_waiting
WHERE delivered_at IS NULL AND
"""
_MOST_URGENT = """
ORDER BY CASE severity WHEN 'critical' THEN 0 WHEN 'warning' THEN 1 ELSE 2 END, position DESC
"""
_DUE = f"""{_WAITING} due_at <= :now AND (:target IS NULL OR target = :target) {_MOST_URGENT} LIMIT :limit"""
# A dead letter stays dead when a late answer tells of another failure.
_POSTPONE = """
UPDATE outbox
SET attempts = attempts + 1, error = :error, due_at = CASE WHEN due_at IS NULL THEN NULL ELSE :due_at END
WHERE id = :id AND delivered_at IS NULL
"""
_RESEND = """
UPDATE outbox SET attempts = 0, due_at = :now, target = coalesce(:target, target)
WHERE id = :id AND delivered_at IS NULL
"""
_BACKLOG = """
SELECT count(due_at), count(*) - count(due_at),
       min(CASE WHEN due_at IS NOT NULL THEN at END), min(CASE WHEN due_at IS NULL THEN at END),
       json_group_array(DISTINCT target) FILTER (WHERE due_at IS NOT NULL AND target <> '')
FROM outbox INDEXED BY outbox_waiting
WHERE delivered_at IS NULL
"""


class SqliteLedger:
    """Implements ``Ledger``, ``Agenda``, ``Limits`` and ``Outbox``; safe beside threads, processes and forks.

    There is one shard, and so one controller at a time.

    Every change is one transaction of one commit, on disk when the call returns. The lease is by epoch
    alone: whoever let it expire may go on until another takes it.

    Args:
        path: The file; created, with its folder, when it is missing.
        clock: Seconds since 1970, by which the lease runs; the same for all processes of the machine.
        busy_seconds: How long to wait for other writers before ``Temporary`` is raised.
    """

    def __init__(
        self, path: str | Path, *, clock: Callable[[], float] = time.time, busy_seconds: float = 5.0
    ) -> None:
        self._database = Database(path, _SCHEMA, synchronous="FULL", busy_seconds=busy_seconds)
        self._clock = clock

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

    # Ledger

    def models(self) -> Sequence[str]:
        """Names of all models that have a stream, sorted by code point."""
        with self._database.reading() as connection:
            return [model for (model,) in connection.execute(_MODELS)]

    def read(self, model: str, after: int = 0) -> Sequence[Entry]:
        """Return the entries of a stream with ``seq > after``, in order; empty for an unknown model."""
        with self._database.reading() as connection:
            return [Entry(*row) for row in connection.execute(_READ_ENTRIES, (model, after))]

    def append(self, batch: Append) -> None:
        """Add entries, their notices, units and the next look, all or none, with one commit.

        Raises:
            Overtaken: The first entry does not follow the head.
            LeaseLost: ``epoch`` is given and is not the current lease.
            DuplicateKey: An entry of the same key is there already.
            LimitReached: No unit of one scope is left.
            ValueError: The entries do not follow one another.
            Temporary: The file is busy, full, read-only or away.
            Permanent: The file is damaged or of another schema.
        """
        with self._database.writing() as connection:
            if batch.epoch is not None:
                _require_lease(connection, batch.epoch)
            for entry in batch.entries:
                _insert_entry(connection, entry, batch)
            _move_units(connection, batch)
            if batch.next_look is not None:
                plan = _HASTEN_LOOK if batch.epoch is None else _PLAN_LOOK
                connection.execute(plan, (batch.model, to_micros(batch.next_look)))
            for notice in batch.notices:
                connection.execute(_INSERT_NOTICE, _notice_row(notice, batch.entries[-1].seq))

    # Limits

    def used(self, units: Sequence[Unit]) -> Sequence[int]:
        """How much of each scope and period is taken now."""
        query = "SELECT coalesce(sum(amount), 0) FROM units WHERE scope = ? AND period = ?"
        with self._database.reading() as connection:
            return [connection.execute(query, (unit.scope, unit.period)).fetchone()[0] for unit in units]

    # Agenda

    def claim(
        self, now: datetime, holder: str, lease_seconds: float, limit: int = 1000, model: str | None = None
    ) -> Claim:
        """Take or keep the lease, and say what is due; only reads while the lease needs no renewal.

        ``next_due`` is the earliest time among the models that are not in ``due``.
        """
        limit, at = limit if model is None else 0, to_micros(now)
        with self._database.reading() as connection:
            lease = _lease(connection)
            if lease == lease.after_claim(holder, self._clock(), lease_seconds, at):
                return _claim(connection, lease, holder, now, limit)
        with self._database.writing() as connection:
            before = _lease(connection)
            lease = before.after_claim(holder, self._clock(), lease_seconds, at)
            connection.execute(_SET_LEASE, astuple(lease))
            if lease.claimed_at < before.claimed_at:  # set back: nobody waits for what lies ahead
                connection.execute("UPDATE agenda SET next_look = ? WHERE next_look > ?", (at, at))
            return _claim(connection, lease, holder, now, limit)

    def holds(self, model: str, epoch: int) -> bool:
        """Whether an epoch is still the current lease."""
        with self._database.reading() as connection:
            lease = _lease(connection)
            return lease.holder is not None and lease.epoch == epoch

    def set_next_look(self, model: str, seq: int, at: datetime, epoch: int) -> None:
        """Say when to look again, if ``seq`` is still the head (0: no stream yet) and ``epoch`` the lease."""
        values = {"model": model, "seq": seq, "at": to_micros(at), "epoch": epoch}
        with self._database.writing() as connection:
            connection.execute(_SET_NEXT_LOOK, values)

    def release(self, holder: str) -> None:
        """Give the lease back at once, if the holder has it; its epoch is never current again."""
        with self._database.writing() as connection:
            connection.execute("UPDATE leases SET holder = NULL WHERE shard = 0 AND holder = ?", (holder,))

    def next_look(self, model: str) -> datetime | None:
        """When a controller will look at a model; ``None`` when no time is set. Takes no lease."""
        with self._database.reading() as connection:
            row = connection.execute("SELECT next_look FROM agenda WHERE model = ?", (model,)).fetchone()
            return None if row is None else from_micros(row[0])

    # Outbox

    def due(
        self, now: datetime, limit: int = 20, holder: str | None = None, target: str | None = None
    ) -> Sequence[Outgoing]:
        """Notices whose time has come, the most severe first, then the latest written."""
        with self._database.reading() as connection:
            if holder not in (None, _lease(connection).holder):
                return []
            values = {"now": max(to_micros(now), _AT_ONCE), "target": target, "limit": limit}
            return [_outgoing(row) for row in connection.execute(_DUE, values)]

    def delivered(self, notice_id: str, at: datetime) -> None:
        """Note that a notice has arrived. Repeating it, or an unknown id, changes nothing."""
        with self._database.writing() as connection:
            connection.execute(
                "UPDATE outbox SET delivered_at = ? WHERE id = ? AND delivered_at IS NULL",
                (to_micros(at), notice_id),
            )

    def postpone(self, notice_id: str, until: datetime | None, error: str) -> None:
        """Note a failure; a notice that has arrived meanwhile is left alone."""
        due_at = None if until is None else to_micros(until)
        with self._database.writing() as connection:
            connection.execute(_POSTPONE, {"id": notice_id, "due_at": due_at, "error": error})

    def dead_letters(self) -> Sequence[Outgoing]:
        """Notices that were given up, in the order of their entries."""
        with self._database.reading() as connection:
            rows = connection.execute(f"{_WAITING} due_at IS NULL ORDER BY position")
            return [_outgoing(row) for row in rows]

    def resend(self, notice_ids: Sequence[str], now: datetime, target: str | None = None) -> int:
        """Make notices due at once, with one commit; those that have arrived are left alone."""
        asked = dict.fromkeys(notice_ids)
        rows = [{"id": notice_id, "now": to_micros(now), "target": target} for notice_id in asked]
        with self._database.writing() as connection:
            return connection.executemany(_RESEND, rows).rowcount if rows else 0

    def counts(self) -> Backlog:
        """How many notices wait, and how many were given up."""
        with self._database.reading() as connection:
            waiting, dead, *oldest, targets = connection.execute(_BACKLOG).fetchone()
            first, first_dead = (None if at is None else from_micros(at) for at in oldest)
            return Backlog(waiting, dead, first, first_dead, tuple(sorted(json.loads(targets))))


@dataclass(frozen=True, slots=True)
class _Lease:
    """The row of ``leases``; ``holder`` is ``None`` when it is free."""

    holder: str | None
    epoch: int
    expires_at: float
    seconds: float
    claimed_at: int

    def after_claim(self, holder: str, clock: float, seconds: float, at: int) -> _Lease:
        """Return the lease as a claim leaves it; an equal one when nothing needs to be written."""
        held = self._held_after(holder, clock, seconds)
        if held.holder != holder:
            return self
        if at < self.claimed_at - _SET_BACK:
            return replace(held, claimed_at=at)
        return held if held == self else replace(held, claimed_at=max(at, self.claimed_at))

    def _held_after(self, holder: str, clock: float, seconds: float) -> _Lease:
        remaining = self.expires_at - clock
        # When the clock was set back: over for others, lest it outlive its holder.
        set_back = remaining > self.seconds
        if self.holder is None or remaining <= 0 or (set_back and self.holder != holder):
            return _Lease(holder, self.epoch + 1, clock + seconds, seconds, self.claimed_at)
        renewed_already = self.seconds == seconds and seconds * 2 / 3 <= remaining <= seconds
        if self.holder != holder or renewed_already:
            return self
        return replace(self, expires_at=clock + seconds, seconds=seconds)


def _lease(connection: sqlite3.Connection) -> _Lease:
    row = connection.execute(
        "SELECT holder, epoch, expires_at, seconds, claimed_at FROM leases WHERE shard = 0"
    ).fetchone()
    return _Lease(*row)


def _require_lease(connection: sqlite3.Connection, epoch: int) -> None:
    lease = _lease(connection)
    if lease.holder is None or lease.epoch != epoch:
        raise LeaseLost(
            f"epoch {epoch} is over: the lease is at {lease.epoch}, held by {lease.holder or 'nobody'}"
        )


def _claim(connection: sqlite3.Connection, lease: _Lease, holder: str, now: datetime, limit: int) -> Claim:
    holders = {} if lease.holder is None else {0: lease.holder}
    if lease.holder != holder:
        return Claim(1, holders=holders)
    due = connection.execute(
        "SELECT model, next_look FROM agenda WHERE next_look <= ? ORDER BY next_look, model LIMIT ?",
        (to_micros(now), limit),
    ).fetchall()
    following = connection.execute(
        "SELECT next_look FROM agenda ORDER BY next_look, model LIMIT 1 OFFSET ?", (len(due),)
    ).fetchone()
    return Claim(
        1,
        {0: lease.epoch},
        holders,
        tuple(model for model, _ in due),
        None if following is None else from_micros(following[0]),
        from_micros(due[0][1]) if due else None,
    )


def _insert_entry(connection: sqlite3.Connection, entry: Entry, batch: Append) -> None:
    """Insert an entry; the schema itself refuses one that does not follow, or has a key again."""
    try:
        connection.execute(_INSERT_ENTRY, astuple(entry))
    except sqlite3.IntegrityError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_CONSTRAINT_TRIGGER:
            raise DuplicateKey(f"{batch.model} already has an entry of key {entry.key}") from error
        if entry is not batch.entries[0]:
            raise ValueError(f"{batch.model}: entry {entry.seq} does not follow the one before it") from error
        raise Overtaken(f"{batch.model}: entry {entry.seq} does not follow the head of the stream") from error


def _move_units(connection: sqlite3.Connection, batch: Append) -> None:
    if batch.gives_back:
        connection.execute(_GIVE_BACK, (batch.owner,))
    for unit in batch.settles:
        connection.execute(_SETTLE, _unit_values(unit, batch))
    for unit in batch.takes:
        values = _unit_values(unit, batch)
        if connection.execute(_HAS_TAKEN, values).fetchone():
            continue
        if not connection.execute(_TAKE, values).rowcount:
            raise LimitReached(unit.scope, unit.limit or 0)


def _unit_values(unit: Unit, batch: Append) -> dict[str, Any]:
    return {**asdict(unit), "owner": batch.owner}


def _notice_row(notice: Notice, seq: int) -> tuple[Any, ...]:
    return (
        notice.id,
        notice.model,
        seq,
        notice.event,
        notice.severity,
        notice.title,
        notice.body,
        to_micros(notice.at),
        json.dumps(dict(notice.facts), ensure_ascii=False),
        notice.target,
    )


def _outgoing(row: tuple[Any, ...]) -> Outgoing:
    notice_id, model, event, severity, title, body, at, facts, target, attempts, error, due_at = row
    when, values = from_micros(at), json.loads(facts)
    notice = Notice(notice_id, model, event, severity, title, body, when, values, target)
    next_try = from_micros(due_at) if due_at else None
    return Outgoing(notice, attempts, error, dead=due_at is None, next_try=next_try)
