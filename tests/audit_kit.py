"""Ledgers on disk, keys and anchors over them, and hands that change what must not be changed."""

import hashlib
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, astuple, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import rfc8785

from autoretrain.adapters.ledger_sqlite import SqliteLedger
from autoretrain.adapters.signing_ed25519 import Ed25519Signer, generate_keys
from autoretrain.domain.sealing import Draft, Head, seal
from autoretrain.entrypoints.anchoring import Anchoring
from autoretrain.ports.anchors import AnchorKeeper
from autoretrain.ports.ledger import Append, Entry

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
DAY = timedelta(days=1)

Entries = tuple[Entry, ...]


@dataclass(frozen=True)
class Keys:
    """A pair of keys."""

    private: str
    public: str

    @classmethod
    def new(cls) -> "Keys":
        return cls(*generate_keys())

    @property
    def signer(self) -> Ed25519Signer:
        return Ed25519Signer(self.private)


def grow(ledger: SqliteLedger, model: str, count: int, note: str = "") -> None:
    """Append so many entries to a stream."""
    stream = ledger.read(model)
    head = Head(stream[-1].chain, stream[-1].seq, stream[-1].hash) if stream else Head()
    drafts = [Draft("note", {"n": head.seq + n, "note": note, "x": 0.1}) for n in range(count)]
    if drafts:
        ledger.append(Append(model, seal(model, head, drafts, NOON), None))


def told_in_days(
    file: Path, days: Sequence[dict[str, int]], keeper: AnchorKeeper, signer: Ed25519Signer, more: int = 0
) -> None:
    """Write a ledger: every day so many entries a stream, and an anchor in the evening; then some more."""
    with closing(SqliteLedger(file)) as ledger:
        anchoring = Anchoring(ledger, keeper, signer)
        for day, counts in enumerate(days):
            for model, count in counts.items():
                grow(ledger, model, count)
            anchoring.make(NOON + day * DAY)
        for model in ledger.models():
            grow(ledger, model, more)


def tamper(file: Path, model: str, change: Callable[[Entries], Entries]) -> None:
    """Rewrite a stream in the file, past every guard of ours."""
    with closing(SqliteLedger(file)) as ledger:
        entries = change(tuple(ledger.read(model)))
    with closing(sqlite3.connect(file)) as database, database:
        for (guard,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            database.execute(f"DROP TRIGGER {guard}")
        database.execute("DELETE FROM entries WHERE model = ?", (model,))
        columns = ", ".join(asdict(entries[0])) if entries else ""
        for entry in entries:
            database.execute(
                f"INSERT INTO entries ({columns}) VALUES ({', '.join('?' * 11)})", astuple(entry)
            )


def edited(at: int) -> Callable[[Entries], Entries]:
    """Entry ``at`` says something else."""
    return lambda entries: (
        *entries[: at - 1], replace(entries[at - 1], actor="mallory"), *entries[at:]
    )  # fmt: skip


def deleted(at: int) -> Callable[[Entries], Entries]:
    """Entry ``at`` is gone."""
    return lambda entries: (*entries[: at - 1], *entries[at:])


def swapped(at: int) -> Callable[[Entries], Entries]:
    """Entry ``at`` and the next one stand in each other's place."""

    def change(entries: Entries) -> Entries:
        one, other = entries[at - 1 : at + 1]
        return (*entries[: at - 1], replace(other, seq=at), replace(one, seq=at + 1), *entries[at + 1 :])

    return change


def truncated(left: int) -> Callable[[Entries], Entries]:
    """What followed entry ``left`` is gone; 0 removes the stream."""
    return lambda entries: entries[:left]


def rechained(at: int) -> Callable[[Entries], Entries]:
    """Entry ``at`` says something else, and every hash from there on fits."""

    def change(entries: Entries) -> Entries:
        done = list(entries[: at - 1])
        for entry in (replace(entries[at - 1], actor="mallory"), *entries[at:]):
            done.append(with_hash(replace(entry, prev=done[-1].hash if done else entry.prev)))
        return tuple(done)

    return change


def with_hash(entry: Entry) -> Entry:
    """The entry with the hash that its content has."""
    content: dict[str, Any] = {name: value for name, value in asdict(entry).items() if name != "hash"}
    return replace(entry, hash=hashlib.sha256(rfc8785.dumps(content)).hexdigest())
