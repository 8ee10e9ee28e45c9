"""Leases of shards and the agenda, as SQL: what a claim does, and what it says.

``{clock}`` stands for the time: the server's own, or that of a test.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from ..ports.agenda import SET_BACK, Claim
from .micros import from_micros

SHARDS = 32
"""Rows of ``leases``: at most so many controllers have something to do."""

_SET_BACK = SET_BACK // timedelta(microseconds=1)

# A lease lives while it is held and renewed in time; a clock that was set back ends it, too.
LIVES = "(expires_at > {clock} AND expires_at <= {clock} + make_interval(secs => seconds))"
_FRESH = (
    "(seconds = %(seconds)s AND expires_at - {clock}"
    " BETWEEN make_interval(secs => %(seconds)s * 2 / 3) AND make_interval(secs => %(seconds)s))"
)
_UNTIL = "{clock} + make_interval(secs => %(seconds)s)"
# Each statement of a claim changes nothing where nothing needs to be changed, and then the whole claim only
# reads. The controllers are counted by their own rows, each kept alive by its own claims.
_ATTEND = f"""
INSERT INTO controllers (holder, expires_at, seconds)
SELECT %(holder)s, {_UNTIL}, %(seconds)s
WHERE NOT EXISTS (SELECT FROM controllers WHERE holder = %(holder)s AND {_FRESH})
ON CONFLICT (holder) DO UPDATE SET expires_at = excluded.expires_at, seconds = excluded.seconds;
DELETE FROM controllers WHERE holder IN (
    SELECT holder FROM controllers WHERE NOT {LIVES} FOR UPDATE SKIP LOCKED
);
"""  # noqa: S608
_RENEW = f"""
WITH mine AS (
    SELECT shard FROM leases WHERE holder = %(holder)s AND expires_at > {{clock}} AND NOT {_FRESH}
    ORDER BY shard FOR UPDATE
)
UPDATE leases SET expires_at = {_UNTIL}, seconds = %(seconds)s, claimed_at = greatest(claimed_at, %(now)s)
FROM mine WHERE leases.shard = mine.shard;
"""  # noqa: S608
_SHARE = f"(SELECT ceil({SHARDS}::numeric / greatest(count(*), 1)) FROM controllers WHERE {LIVES})"  # noqa: S608
_GIVE_BACK = f"""
WITH held AS (
    SELECT shard, row_number() OVER (ORDER BY shard) AS place
    FROM leases WHERE holder = %(holder)s AND {LIVES}
)
UPDATE leases SET holder = NULL FROM held
WHERE leases.shard = held.shard AND leases.holder = %(holder)s AND held.place > {_SHARE};
"""  # noqa: S608
_TAKE = f"""
WITH free AS ({{free}})
UPDATE leases SET holder = %(holder)s, epoch = epoch + 1, expires_at = {_UNTIL}, seconds = %(seconds)s,
    claimed_at = greatest(claimed_at, %(now)s)
FROM free WHERE leases.shard = free.shard;
"""  # noqa: S608
_FREE = f"(holder IS NULL OR NOT {LIVES})"
# What another claim is taking just now is left to it.
_FREE_SHARE = f"""
    SELECT shard FROM leases WHERE {_FREE} ORDER BY shard
    LIMIT greatest({_SHARE} - (SELECT count(*) FROM leases WHERE holder = %(holder)s AND {LIVES}), 0)
    FOR UPDATE SKIP LOCKED
"""  # noqa: S608
# Here another claim is waited for, so that the answer can say who has the shard.
_FREE_ONE = f"SELECT shard FROM leases WHERE shard = %(shard)s AND {_FREE} FOR UPDATE"  # noqa: S608
# After a controller's clock was set back nobody waits for what lies ahead.
_REWIND = f"""
WITH back AS (
    SELECT shard FROM leases WHERE holder = %(holder)s AND {LIVES} AND claimed_at > %(now)s + {_SET_BACK}
    ORDER BY shard FOR UPDATE
), noted AS (
    UPDATE leases SET claimed_at = %(now)s FROM back WHERE leases.shard = back.shard
)
UPDATE agenda SET next_look = %(now)s FROM back
WHERE agenda.shard = back.shard AND agenda.next_look > %(now)s;
"""  # noqa: S608
_LEASES = f"SELECT shard, epoch, holder FROM leases WHERE holder IS NOT NULL AND {LIVES};"  # noqa: S608
_AWAITED = f"""
SELECT model, next_look, shard FROM agenda
WHERE next_look {{compared}} %(now)s AND shard IN (
    SELECT shard FROM leases WHERE holder = %(holder)s AND {LIVES}
)
ORDER BY next_look, model LIMIT {{limit}};
"""  # noqa: S608
CLAIM_ALL = "".join(
    (
        _ATTEND,
        _RENEW,
        _GIVE_BACK,
        _TAKE.replace("{free}", _FREE_SHARE),
        _REWIND,
        _LEASES,
        _AWAITED.replace("{compared}", "<=").replace("{limit}", "%(limit)s + 1"),
        _AWAITED.replace("{compared}", ">").replace("{limit}", "1"),
    )
)
CLAIM_ONE = "".join((_RENEW, _TAKE.replace("{free}", _FREE_ONE), _LEASES))

HOLDS = "SELECT 1 FROM leases WHERE shard = %(shard)s AND epoch = %(epoch)s AND holder IS NOT NULL"
# The agenda's own row says which entry is the head, since a request that is being appended is not seen in the
# entries yet; it locks nothing where nothing would change.
SET_NEXT_LOOK = f"""
WITH lease AS (
    {HOLDS}
    AND NOT EXISTS (SELECT FROM agenda WHERE model = %(model)s AND (next_look = %(at)s OR seq <> %(seq)s))
    AND (%(seq)s = 0 OR EXISTS (SELECT FROM agenda WHERE model = %(model)s))
    FOR SHARE
)
INSERT INTO agenda AS known (model, shard, seq, next_look)
SELECT %(model)s, %(shard)s, 0, %(at)s FROM lease
ON CONFLICT (model) DO UPDATE SET next_look = excluded.next_look WHERE known.seq = %(seq)s
"""  # noqa: S608
RELEASE = """
UPDATE leases SET holder = NULL WHERE holder = %(holder)s;
DELETE FROM controllers WHERE holder = %(holder)s
"""

Rows = Sequence[tuple[Any, ...]]


def claim_of(rows: Rows, holder: str, due: Rows = (), later: Rows = (), limit: int = 0) -> Claim:
    """Put together what the statements of a claim have found.

    Args:
        rows: Shard, epoch and holder of every lease that lives.
        holder: Whose claim it is.
        due: Model, time and shard of what is due; may hold one more than the limit.
        later: The same of what comes next.
        limit: At most so many are due.

    Returns:
        The claim. A shard that was lost between two of the statements is left out.
    """
    leases = {shard: epoch for shard, epoch, owner in sorted(rows) if owner == holder}
    ready = [(model, at) for model, at, shard in due if shard in leases]
    following = [*ready[limit:], *((model, at) for model, at, shard in later if shard in leases)]
    return Claim(
        SHARDS,
        leases,
        {shard: owner for shard, _, owner in sorted(rows)},
        tuple(model for model, _ in ready[:limit]),
        from_micros(following[0][1]) if following else None,
        from_micros(ready[0][1]) if ready and limit else None,
    )
