"""The one statement of an append: it looks at all that it depends on, and writes everything or nothing.

A refusal writes nothing and raises no error on the server. What happens at the same moment in another
transaction is not seen by the look; there the unique keys refuse, and the locked lease waits.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any

from ..ports.ledger import Append, Entry
from ..ports.limits import Unit
from .micros import to_micros

_GENESIS = "0" * 64
_COLUMNS = tuple(field.name for field in fields(Entry))
_TYPES = {"v": "integer", "seq": "bigint"}
_ENTERED = ", ".join(f"%({name})s::{_TYPES.get(name, 'text')}[]" for name in _COLUMNS)

# The lease is locked, not only read: a new holder waits for this append, or this append for the new holder,
# and then sees its epoch. A plain sub-select would let it be committed after the claim of another.
_LOOKS = """
WITH lease AS MATERIALIZED (
    SELECT FROM leases WHERE shard = %(shard)s AND epoch = %(epoch)s AND holder IS NOT NULL FOR SHARE
), head AS (
    SELECT entries.seq, entries.hash FROM entries WHERE model = %(stream)s ORDER BY seq DESC LIMIT 1
)"""
# The lowest free unit of each that the owner wants and has not; NULL where none is left. Their sum
# matters where a limit was lowered meanwhile, and where a unit is more than one.
_WANTS = """, wanted AS (
    SELECT * FROM unnest(%(scopes)s::text[], %(periods)s::text[], %(limits)s::bigint[], %(amounts)s::bigint[])
    WITH ORDINALITY AS wanted (scope, period, most, amount, place)
), occupied AS (
    SELECT units.scope, units.period, units.n, units.owner, units.amount
    FROM units JOIN wanted USING (scope, period)
    WHERE NOT (%(gives_back)s AND units.owner = %(owner)s AND units.period = '')
), taking AS MATERIALIZED (
    SELECT scope, period, amount, place, CASE
        WHEN most IS NULL OR most > taken.total THEN (
            SELECT min(n) FROM generate_series(0, taken.places::integer) AS n
            WHERE n NOT IN (SELECT n FROM occupied WHERE (scope, period) = (wanted.scope, wanted.period))
        ) END AS n
    FROM wanted, LATERAL (
        SELECT count(*) AS places, coalesce(sum(occupied.amount), 0) AS total
        FROM occupied WHERE (occupied.scope, occupied.period) = (wanted.scope, wanted.period)
    ) AS taken
    WHERE NOT EXISTS (
        SELECT FROM occupied WHERE (scope, period, owner) = (wanted.scope, wanted.period, %(owner)s)
    )
)"""
_VERDICT = """, verdict AS MATERIALIZED (
    SELECT CASE
        WHEN (SELECT version FROM schema_version) <> %(version)s THEN 'schema'
        WHEN %(epoch)s::bigint IS NOT NULL AND NOT EXISTS (SELECT FROM lease) THEN 'lease'
        WHEN coalesce((SELECT head.seq FROM head), 0) <> %(before)s THEN 'head'
        WHEN coalesce((SELECT head.hash FROM head), %(genesis)s) <> %(past)s THEN 'head'
        WHEN EXISTS (SELECT FROM entries WHERE model = %(stream)s AND key = ANY (%(key)s::text[])) THEN 'key'
        {limits}
        ELSE ''
    END AS refusal
)"""
_LIMITS = "WHEN EXISTS (SELECT FROM taking WHERE n IS NULL) THEN 'limit'"
_ENTERS = f""", entered AS (
    INSERT INTO entries ({", ".join(_COLUMNS)})
    SELECT new.* FROM unnest({_ENTERED}) AS new ({", ".join(_COLUMNS)}), verdict
    WHERE verdict.refusal = '' ORDER BY new.seq
)"""  # noqa: S608
# Taking waits for giving back, since both may be about the same row; in one order, so that no two appends
# wait for one another.
_MOVES = """, given AS (
    DELETE FROM units USING verdict
    WHERE verdict.refusal = '' AND %(gives_back)s AND owner = %(owner)s AND period = ''
    RETURNING units.n
), taken AS (
    INSERT INTO units (scope, period, n, owner, amount)
    SELECT scope, period, n, %(owner)s, amount FROM taking, verdict
    WHERE verdict.refusal = '' AND (SELECT count(*) FROM given) >= 0 ORDER BY scope, period
)"""
_SETTLES = """, settled AS (
    UPDATE units SET amount = known.amount
    FROM unnest(%(settled_scopes)s::text[], %(settled_periods)s::text[], %(settled_amounts)s::bigint[])
        AS known (scope, period, amount), verdict
    WHERE verdict.refusal = ''
        AND (units.scope, units.period, units.owner) = (known.scope, known.period, %(owner)s)
)"""
# The controller says when it will look; a request can only make that earlier.
_PLANS = """, planned AS (
    INSERT INTO agenda AS known (model, shard, seq, next_look)
    SELECT %(stream)s, %(shard)s, %(last)s, %(next_look)s::bigint FROM verdict WHERE verdict.refusal = ''
    ON CONFLICT (model) DO UPDATE SET seq = excluded.seq, next_look = CASE
        WHEN %(epoch)s::bigint IS NULL THEN least(known.next_look, excluded.next_look)
        ELSE coalesce(excluded.next_look, known.next_look)
    END
)"""
_TELLS = """, told AS (
    INSERT INTO outbox (id, model, shard, seq, event, severity, title, body, at, facts, target)
    SELECT id, model, shard, %(last)s, event, severity, title, body, at, facts, target
    FROM unnest(
        %(notice_ids)s::text[], %(notice_models)s::text[], %(notice_shards)s::integer[], %(events)s::text[],
        %(severities)s::text[], %(titles)s::text[], %(bodies)s::text[], %(notice_times)s::bigint[],
        %(facts)s::text[], %(targets)s::text[]
    ) WITH ORDINALITY
        AS new (id, model, shard, event, severity, title, body, at, facts, target, place), verdict
    WHERE verdict.refusal = '' ORDER BY new.place
    ON CONFLICT (id) DO NOTHING
)"""
_ANSWER = " SELECT refusal{places} FROM verdict"
_PLACES = ", (SELECT min(place) FROM taking WHERE n IS NULL)"


@dataclass(frozen=True, slots=True)
class AppendStatement:
    """A batch as SQL.

    Attributes:
        text: The statement; its row says why it refused (empty: it did not), and for ``limit`` which of
            ``takes`` was the first without a unit, from 1.
        values: What its placeholders stand for.
        takes: The units it takes, each scope and period once.
    """

    text: str
    values: dict[str, Any]
    takes: tuple[Unit, ...]


def append_statement(batch: Append, version: int, shards: dict[str, int]) -> AppendStatement:
    """Write the statement of a batch.

    Args:
        batch: What to append.
        version: The version that the tables must have.
        shards: The shard of the batch's model, and of each model that its notices are about.

    Raises:
        ValueError: The entries do not follow one another, or are of another model.
    """
    _check_chain(batch)
    takes = tuple({(unit.scope, unit.period): unit for unit in reversed(batch.takes)}.values())[::-1]
    moves = bool(takes or batch.gives_back)
    parts = [
        _LOOKS,
        _WANTS if moves else "",
        _VERDICT.format(limits=_LIMITS if moves else ""),
        _ENTERS,
        _MOVES if moves else "",
        _SETTLES if batch.settles else "",
        _PLANS,
        _TELLS if batch.notices else "",
        _ANSWER.format(places=_PLACES if moves else ""),
    ]
    values = _stream_values(batch, version, shards[batch.model])
    values |= _unit_values(batch, takes) | _notice_values(batch, shards)
    return AppendStatement("".join(parts), values, takes)


def _check_chain(batch: Append) -> None:
    first = batch.entries[0]
    seq, past = first.seq, first.prev
    for entry in batch.entries:
        if (entry.model, entry.seq, entry.prev) != (batch.model, seq, past):
            raise ValueError(f"{batch.model}: entry {entry.seq} does not follow the one before it")
        seq, past = entry.seq + 1, entry.hash


def _stream_values(batch: Append, version: int, shard: int) -> dict[str, Any]:
    columns = {name: [getattr(entry, name) for entry in batch.entries] for name in _COLUMNS}
    return {
        **columns,
        "version": version,
        "stream": batch.model,
        "shard": shard,
        "epoch": batch.epoch,
        "before": batch.entries[0].seq - 1,
        "past": batch.entries[0].prev,
        "genesis": _GENESIS,
        "last": batch.entries[-1].seq,
        "next_look": None if batch.next_look is None else to_micros(batch.next_look),
    }


def _unit_values(batch: Append, takes: tuple[Unit, ...]) -> dict[str, Any]:
    return {
        "owner": batch.owner,
        "gives_back": batch.gives_back,
        "scopes": [unit.scope for unit in takes],
        "periods": [unit.period for unit in takes],
        "limits": [unit.limit for unit in takes],
        "amounts": [unit.amount for unit in takes],
        "settled_scopes": [unit.scope for unit in batch.settles],
        "settled_periods": [unit.period for unit in batch.settles],
        "settled_amounts": [unit.amount for unit in batch.settles],
    }


def _notice_values(batch: Append, shards: dict[str, int]) -> dict[str, Any]:
    notices = batch.notices
    return {
        "notice_ids": [notice.id for notice in notices],
        "notice_models": [notice.model for notice in notices],
        "notice_shards": [shards[notice.model] for notice in notices],
        "events": [notice.event for notice in notices],
        "severities": [notice.severity for notice in notices],
        "titles": [notice.title for notice in notices],
        "bodies": [notice.body for notice in notices],
        "notice_times": [to_micros(notice.at) for notice in notices],
        "facts": [json.dumps(dict(notice.facts), ensure_ascii=False) for notice in notices],
        "targets": [notice.target for notice in notices],
    }
