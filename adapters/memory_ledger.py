"""The ledger's ports in memory, for dry runs, simulations and the testing kit."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from ..ports.agenda import Claim
from ..ports.errors import DuplicateKey, LeaseLost, Overtaken
from ..ports.ledger import Append, Entry
from ..ports.notifier import SEVERITIES
from ..ports.observations import Look
from ..ports.outbox import Backlog, Outgoing

_GENESIS = "0" * 64


class MemoryLedger:
    """Implements Ledger, Agenda and Outbox as one store, as their transactions need it.

    Args:
        clock: The store's own clock, in seconds; only leases use it.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._streams: dict[str, list[Entry]] = {}
        self._looks: dict[str, datetime] = {}
        self._outbox: dict[str, Outgoing | None] = {}  # None: it has arrived, and its id is taken
        self._holder = ""
        self._epoch = 0
        self._expires = float("-inf")

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
            self._check_lease(batch.epoch)
            stream = self._streams.get(batch.model, [])
            self._check_head(stream, batch.entries[0])
            known = {entry.key for entry in stream if entry.key is not None}
            for entry in batch.entries:
                if entry.key in known:
                    raise DuplicateKey(f"{batch.model} already has an entry {entry.key!r}")
                if entry.key is not None:
                    known.add(entry.key)
            self._streams[batch.model] = [*stream, *batch.entries]
            if batch.next_look is not None:
                look = self._looks.get(batch.model, batch.next_look)
                earlier = batch.epoch is None  # a request never makes a model wait longer
                self._looks[batch.model] = min(look, batch.next_look) if earlier else batch.next_look
            for notice in batch.notices:
                self._outbox.setdefault(notice.id, Outgoing(notice, 0))

    def _check_lease(self, epoch: int | None) -> None:
        if epoch is not None and (epoch != self._epoch or not self._holder):
            raise LeaseLost(f"the lease of epoch {epoch} is over")

    @staticmethod
    def _check_head(stream: Sequence[Entry], first: Entry) -> None:
        seq, digest = (stream[-1].seq, stream[-1].hash) if stream else (0, _GENESIS)
        if (first.seq, first.prev) != (seq + 1, digest):
            raise Overtaken(f"{first.model} is at entry {seq}, not {first.seq - 1}")

    # Agenda

    def claim(self, now: datetime, holder: str, lease_seconds: float, limit: int = 1000) -> Claim:
        """Take or keep the lease, and say what is due."""
        with self._lock:
            clock = self._clock()
            if self._holder not in ("", holder) and clock < self._expires:
                return Claim(None, self._holder)
            if self._holder != holder or clock >= self._expires:
                self._epoch += 1
                self._expires = float("-inf")
            if not lease_seconds * 2 / 3 <= self._expires - clock <= lease_seconds:
                self._expires = clock + lease_seconds
            self._holder = holder
            waiting = sorted((at, model) for model, at in self._looks.items())
            due = tuple(model for at, model in waiting if at <= now)[:limit]
            following = waiting[len(due) :]
            next_due = following[0][0] if following else None
            return Claim(self._epoch, holder, due, next_due, waiting[0][0] if due else None)

    def set_next_look(self, model: str, seq: int, at: datetime, epoch: int) -> None:
        """Say when a model wants to be looked at again, if nothing was appended meanwhile."""
        with self._lock:
            if epoch == self._epoch and self._holder and len(self._streams.get(model, [])) == seq:
                self._looks[model] = at

    def release(self, holder: str) -> None:
        """Give the lease back at once."""
        with self._lock:
            if self._holder == holder:
                self._holder, self._expires = "", float("-inf")

    # Outbox

    def due(self, now: datetime, limit: int = 20) -> Sequence[Outgoing]:
        """Notices whose time has come, the most severe first, then the latest written."""
        with self._lock:
            waiting = [outgoing for outgoing in self._undelivered(dead=False) if _is_due(outgoing, now)]
            latest_first = reversed(waiting)
            return tuple(sorted(latest_first, key=_rank)[:limit])

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

    def resend(self, notice_ids: Sequence[str], now: datetime) -> int:
        """Make notices due at once."""
        with self._lock:
            found = {name: outgoing for name in notice_ids if (outgoing := self._outbox.get(name))}
            for name, outgoing in found.items():
                self._outbox[name] = replace(outgoing, attempts=0, dead=False, next_try=now)
            return len(found)

    def counts(self) -> Backlog:
        """How many wait, and how many were given up."""
        with self._lock:
            waiting = [outgoing.notice.at for outgoing in self._undelivered(dead=False)]
            dead = [outgoing.notice.at for outgoing in self._undelivered(dead=True)]
            return Backlog(len(waiting), len(dead), min(waiting, default=None), min(dead, default=None))

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
