"""The ledger's ports in memory, for dry runs, simulations and the testing kit."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from ..ports.agenda import SET_BACK, Claim, shard_of
from ..ports.errors import DuplicateKey, LeaseLost, LimitReached, Overtaken
from ..ports.ledger import Append, Entry
from ..ports.limits import Unit
from ..ports.notifier import SEVERITIES
from ..ports.observations import Look
from ..ports.outbox import Backlog, Outgoing

_GENESIS = "0" * 64


@dataclass(frozen=True, slots=True)
class _Lease:
    """Who may act on a shard; ``holder`` is empty when it is free."""

    holder: str = ""
    epoch: int = 0
    expires: float = 0.0
    seconds: float = 0.0

    def lives(self, clock: float) -> bool:
        """Whether its holder has renewed it in time; a clock that was set back ends it, too."""
        return bool(self.holder) and 0 < self.expires - clock <= self.seconds

    def renewed(self, clock: float, seconds: float) -> _Lease:
        """The same lease with its whole life before it, once a third of that has gone."""
        if self.seconds == seconds and seconds * 2 / 3 <= self.expires - clock <= seconds:
            return self
        return replace(self, expires=clock + seconds, seconds=seconds)

    def taken(self, holder: str, clock: float, seconds: float) -> _Lease:
        """The lease of a new holder."""
        return _Lease(holder, self.epoch + 1, clock + seconds, seconds)


class MemoryLedger:
    """Implements Ledger, Agenda, Limits and Outbox as one store, as their transactions need it.

    Args:
        clock: The store's own clock, in seconds; only leases use it.
        shards: Over how many shards the models are spread.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time, shards: int = 1) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._streams: dict[str, list[Entry]] = {}
        self._looks: dict[str, datetime] = {}
        self._outbox: dict[str, Outgoing | None] = {}  # None: it has arrived, and its id is taken
        self._leases = [_Lease() for _ in range(shards)]
        self._controllers: dict[str, _Lease] = {}  # a life each, so that the shards are shared fairly
        self._claimed_at: dict[int, datetime] = {}  # the latest time of a claim, by shard
        self._units: dict[tuple[str, str, int], tuple[str, int]] = {}  # owner and amount

    # Ledger

    def models(self) -> Sequence[str]:
        """Names of all models that have a stream, sorted."""
        return sorted(self._streams)

    def read(self, model: str, after: int = 0) -> Sequence[Entry]:
        """Entries of a stream after a sequence number."""
        with self._lock:
            return tuple(self._streams.get(model, [])[after:])

    def append(self, batch: Append) -> None:
        """Add entries, all or none."""
        with self._lock:
            if batch.epoch is not None and not self.holds(batch.model, batch.epoch):
                raise LeaseLost(f"{batch.model}: the lease of epoch {batch.epoch} is over")
            stream = self._streams.get(batch.model, [])
            self._check_head(stream, batch.entries[0])
            self._check_keys(stream, batch)
            self._units = self._units_after(batch)
            self._streams[batch.model] = [*stream, *batch.entries]
            if batch.next_look is not None:
                look = self._looks.get(batch.model, batch.next_look)
                earlier = batch.epoch is None  # a request never makes a model wait longer
                self._looks[batch.model] = min(look, batch.next_look) if earlier else batch.next_look
            for notice in batch.notices:
                self._outbox.setdefault(notice.id, Outgoing(notice, 0))

    @staticmethod
    def _check_head(stream: Sequence[Entry], first: Entry) -> None:
        seq, digest = (stream[-1].seq, stream[-1].hash) if stream else (0, _GENESIS)
        if (first.seq, first.prev) != (seq + 1, digest):
            raise Overtaken(f"{first.model} is at entry {seq}, not {first.seq - 1}")

    @staticmethod
    def _check_keys(stream: Sequence[Entry], batch: Append) -> None:
        keys = Counter(entry.key for entry in (*stream, *batch.entries) if entry.key is not None)
        for entry in batch.entries:
            if entry.key is not None and keys[entry.key] > 1:
                raise DuplicateKey(f"{batch.model} already has an entry {entry.key!r}")

    def _units_after(self, batch: Append) -> dict[tuple[str, str, int], tuple[str, int]]:
        settled = {(unit.scope, unit.period, batch.owner): unit.amount for unit in batch.settles}
        units = {
            (scope, period, n): (owner, settled.get((scope, period, owner), amount))
            for (scope, period, n), (owner, amount) in self._units.items()
            if not batch.gives_back or (period, owner) != ("", batch.owner)
        }
        for unit in batch.takes:
            taken = {n: one for (*of, n), one in units.items() if of == [unit.scope, unit.period]}
            if any(owner == batch.owner for owner, _ in taken.values()):
                continue
            if unit.limit is not None and sum(amount for _, amount in taken.values()) >= unit.limit:
                raise LimitReached(unit.scope, unit.limit)
            free = next(n for n in range(len(taken) + 1) if n not in taken)
            units[unit.scope, unit.period, free] = (batch.owner, unit.amount)
        return units

    # Limits

    def used(self, units: Sequence[Unit]) -> Sequence[int]:
        """How much of each scope and period is taken."""
        with self._lock:
            taken: Counter[tuple[str, str]] = Counter()
            for (scope, period, _), (_, amount) in self._units.items():
                taken[scope, period] += amount
            return [taken[unit.scope, unit.period] for unit in units]

    # Agenda

    def claim(
        self, now: datetime, holder: str, lease_seconds: float, limit: int = 1000, model: str | None = None
    ) -> Claim:
        """Take or keep leases, and say what is due."""
        with self._lock:
            clock = self._clock()
            self._renew(holder, clock, lease_seconds)
            if model is not None:
                self._take([shard_of(model, len(self._leases))], holder, clock, lease_seconds)
                return self._claimed(holder, clock, now, 0)
            self._share(holder, clock, lease_seconds)
            self._rewind(self._held(holder, clock), now)
            return self._claimed(holder, clock, now, limit)

    def _rewind(self, shards: Sequence[int], now: datetime) -> None:
        """After a clock was set back, make due what lies ahead."""
        for shard in shards:
            if now < self._claimed_at.get(shard, now) - SET_BACK:
                ahead = (name for name, at in self._looks.items() if at > now)
                for name in [name for name in ahead if shard_of(name, len(self._leases)) == shard]:
                    self._looks[name] = now
                self._claimed_at[shard] = now
            self._claimed_at[shard] = max(now, self._claimed_at.get(shard, now))

    def _renew(self, holder: str, clock: float, seconds: float) -> None:
        self._leases = [
            lease.renewed(clock, seconds) if lease.holder == holder and lease.expires > clock else lease
            for lease in self._leases
        ]

    def _share(self, holder: str, clock: float, seconds: float) -> None:
        """Take free shards up to the fair share, or give back what is beyond it."""
        self._controllers[holder] = _Lease().taken(holder, clock, seconds)
        self._controllers = {name: life for name, life in self._controllers.items() if life.lives(clock)}
        share = -(-len(self._leases) // len(self._controllers))
        held = self._held(holder, clock)
        for shard in held[share:]:
            self._leases[shard] = replace(self._leases[shard], holder="")
        free = [shard for shard, lease in enumerate(self._leases) if not lease.lives(clock)]
        self._take(free[: max(share - len(held), 0)], holder, clock, seconds)

    def _take(self, shards: Sequence[int], holder: str, clock: float, seconds: float) -> None:
        for shard in shards:
            if not self._leases[shard].lives(clock):
                self._leases[shard] = self._leases[shard].taken(holder, clock, seconds)

    def _held(self, holder: str, clock: float) -> list[int]:
        leases = enumerate(self._leases)
        return [shard for shard, lease in leases if lease.holder == holder and lease.lives(clock)]

    def _claimed(self, holder: str, clock: float, now: datetime, limit: int) -> Claim:
        held = set(self._held(holder, clock))
        waiting = sorted(
            (at, name) for name, at in self._looks.items() if shard_of(name, len(self._leases)) in held
        )
        due = tuple(name for at, name in waiting if at <= now)[:limit]
        following = waiting[len(due) :]
        return Claim(
            len(self._leases),
            {shard: self._leases[shard].epoch for shard in sorted(held)},
            {shard: lease.holder for shard, lease in enumerate(self._leases) if lease.lives(clock)},
            due,
            following[0][0] if following else None,
            waiting[0][0] if due else None,
        )

    def holds(self, model: str, epoch: int) -> bool:
        """Whether an epoch is still the current lease of a model's shard."""
        with self._lock:
            lease = self._leases[shard_of(model, len(self._leases))]
            return bool(lease.holder) and lease.epoch == epoch

    def set_next_look(self, model: str, seq: int, at: datetime, epoch: int) -> None:
        """Say when a model wants to be looked at again, if nothing was appended meanwhile."""
        with self._lock:
            if self.holds(model, epoch) and len(self._streams.get(model, [])) == seq:
                self._looks[model] = at

    def next_look(self, model: str) -> datetime | None:
        """When a model wants to be looked at; ``None`` when no time is set."""
        with self._lock:
            return self._looks.get(model)

    def release(self, holder: str) -> None:
        """Give the leases back at once."""
        with self._lock:
            self._controllers.pop(holder, None)
            self._leases = [
                replace(lease, holder="") if lease.holder == holder else lease for lease in self._leases
            ]

    # Outbox

    def due(
        self, now: datetime, limit: int = 20, holder: str | None = None, target: str | None = None
    ) -> Sequence[Outgoing]:
        """Notices whose time has come, the most severe first, then the latest written."""
        with self._lock:
            waiting = [outgoing for outgoing in self._undelivered(dead=False) if _is_due(outgoing, now)]
            ours = [
                outgoing
                for outgoing in reversed(waiting)
                if target in (None, outgoing.notice.target) and self._sends(holder, outgoing.notice.model)
            ]
            return tuple(sorted(ours, key=_rank)[:limit])

    def _sends(self, holder: str | None, model: str) -> bool:
        return holder in (None, self._leases[shard_of(model, len(self._leases))].holder)

    def delivered(self, notice_id: str, at: datetime) -> None:
        """Note that a notice has arrived."""
        with self._lock:
            if self._outbox.get(notice_id) is not None:
                self._outbox[notice_id] = None

    def postpone(self, notice_id: str, until: datetime | None, error: str) -> None:
        """Note a failure: try again later, or give up."""
        with self._lock:
            outgoing = self._outbox.get(notice_id)
            if outgoing is not None:
                dead = outgoing.dead or until is None
                self._outbox[notice_id] = replace(
                    outgoing,
                    attempts=outgoing.attempts + 1,
                    error=error,
                    dead=dead,
                    next_try=None if dead else until,
                )

    def dead_letters(self) -> Sequence[Outgoing]:
        """Notices that were given up, in the order in which they were written."""
        with self._lock:
            return tuple(self._undelivered(dead=True))

    def resend(self, notice_ids: Sequence[str], now: datetime, target: str | None = None) -> int:
        """Make notices due at once."""
        with self._lock:
            found = {name: outgoing for name in notice_ids if (outgoing := self._outbox.get(name))}
            for name, outgoing in found.items():
                to = outgoing.notice.target if target is None else target
                notice = replace(outgoing.notice, target=to)
                self._outbox[name] = replace(outgoing, notice=notice, attempts=0, dead=False, next_try=now)
            return len(found)

    def counts(self) -> Backlog:
        """How many wait, and how many were given up."""
        with self._lock:
            waiting = [outgoing.notice.at for outgoing in self._undelivered(dead=False)]
            dead = [outgoing.notice.at for outgoing in self._undelivered(dead=True)]
            targets = {outgoing.notice.target for outgoing in self._undelivered(dead=False)} - {""}
            oldest = min(waiting, default=None), min(dead, default=None)
            return Backlog(len(waiting), len(dead), *oldest, tuple(sorted(targets)))

    def _undelivered(self, *, dead: bool) -> list[Outgoing]:
        """In the order in which they were written."""
        return [each for each in self._outbox.values() if each is not None and each.dead is dead]


class MemoryObservations:
    """Implements Observations.

    Args:
        keep: Looks kept of each model.
    """

    def __init__(self, *, keep: int = 10_000) -> None:
        self._keep = keep
        self._looks: dict[str, deque[Look]] = {}

    def record(self, looks: Sequence[Look]) -> None:
        """Keep looks; a second one at the same time replaces the first."""
        for look in looks:
            kept = self._looks.get(look.model, deque())
            others = [other for other in kept if other.at != look.at]
            copy = replace(look, data=json.loads(json.dumps(look.data)))  # what any store would keep: JSON
            self._looks[look.model] = deque(sorted([*others, copy], key=_time), maxlen=self._keep)

    def recent(self, model: str, after: datetime | None = None) -> Sequence[Look]:
        """Looks of a model, oldest first."""
        return tuple(look for look in self._looks.get(model, ()) if after is None or look.at > after)


def _time(look: Look) -> datetime:
    return look.at


def _is_due(outgoing: Outgoing, now: datetime) -> bool:
    return outgoing.next_try is None or outgoing.next_try <= now


def _rank(outgoing: Outgoing) -> int:
    return SEVERITIES.index(outgoing.notice.severity)
