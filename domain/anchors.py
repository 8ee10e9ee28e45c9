"""Anchors: a signed root over the heads of all streams, and how a ledger is held against them.

A chain alone misses what was cut off at its end, a stream rewritten from some entry on with hashes that fit,
and one removed as a whole. An anchor that is kept elsewhere knows where every stream ended at its time: that
entry must still be there, with its hash.

An anchor is one line of RFC 8785 text::

    {"at":…, "heads":[{"chain":…,"hash":…,"model":…,"seq":…}, …], "key":…, "number":…, "prev":…, "root":…,
     "signature":…, "v":1}

``root`` is SHA-256 over the text of ``heads``. What is signed (Ed25519) is the text of everything but heads
and signature; its SHA-256 is the anchor's own hash, which the next anchor names as ``prev``. So a signature
stands for all heads and for all anchors before.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from ..ports.ledger import Entry
from .sealing import GENESIS, Fault, timestamp, verify

ANCHOR_VERSION = 1
_NUMBERS = ("number", "seq", "v")


@dataclass(frozen=True, slots=True)
class AnchoredHead:
    """Where a stream ended.

    Attributes:
        chain: Identity of the stream.
        hash: Hash of its last entry.
        model: Name of the model.
        seq: Sequence number of its last entry.
    """

    chain: str
    hash: str
    model: str
    seq: int


@dataclass(frozen=True, slots=True)
class Anchor:
    """All streams at one time.

    Attributes:
        at: When: ISO 8601 in UTC with microseconds.
        heads: The ends of all streams, by name of the model.
        key: Public key of the signature: 32 bytes in hex.
        number: Its place among the anchors, from 1.
        prev: Hash of the anchor before; 64 zeros for the first.
        root: SHA-256 (hex) over the heads.
        signature: Ed25519 over ``statement``, in hex; empty before it is signed.
        v: Version of the format.
    """

    at: str
    heads: tuple[AnchoredHead, ...]
    key: str
    number: int
    prev: str
    root: str
    signature: str = ""
    v: int = ANCHOR_VERSION

    @property
    def statement(self) -> bytes:
        """What is signed."""
        return _text(_plain(self, "heads", "signature"))

    @property
    def hash(self) -> str:
        """SHA-256 (hex) over the statement: what the next anchor names."""
        return hashlib.sha256(self.statement).hexdigest()

    def signed(self, signature: str) -> Anchor:
        """The anchor with its signature."""
        return replace(self, signature=signature)

    @property
    def text(self) -> str:
        """The line that is kept."""
        return _text({**_plain(self), "heads": list(map(_plain, self.heads))}).decode()

    @property
    def label(self) -> str:
        """The anchor in a sentence."""
        return f"anchor {self.number} ({self.at[:16].replace('T', ' ')} UTC)"


def unsigned(before: Anchor | None, heads: Iterable[AnchoredHead], at: datetime, key: str) -> Anchor:
    """The next anchor, to be signed.

    Args:
        before: The latest that is kept; ``None`` when there is none.
        heads: The ends of all streams.
        at: When they were read.
        key: Public key that will sign it, in hex.
    """
    ordered = tuple(sorted(heads, key=lambda head: head.model))
    number, prev = (before.number + 1, before.hash) if before else (1, GENESIS)
    return Anchor(timestamp(at), ordered, key, number, prev, _root(ordered))


def head_of(entry: Entry) -> AnchoredHead:
    """The end of a stream whose last entry this is."""
    return AnchoredHead(entry.chain, entry.hash, entry.model, entry.seq)


def anchor_of(text: str) -> Anchor:
    """Read an anchor; its signature and root are not checked.

    Raises:
        ValueError: It is none, or of a newer version; the text says which.
    """
    try:
        values = json.loads(text)
        heads = tuple(AnchoredHead(**head) for head in values.pop("heads"))
        anchor = Anchor(**values, heads=heads)
        sound = _is_sound(anchor) and all(map(_is_sound, heads))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        sound = False
    if not sound:
        raise ValueError("it is no anchor")
    if anchor.v > ANCHOR_VERSION:
        raise ValueError(f"it is of version {anchor.v}, newer than this program: upgrade autoretrain")
    return anchor


@dataclass(frozen=True, slots=True)
class _Mark:
    """What anchors say of one entry of a stream; named by the oldest anchor that says it."""

    seq: int
    hash: str
    anchor: int
    label: str


@dataclass(frozen=True, slots=True)
class _Link:
    """An anchor among the anchors."""

    number: int
    hash: str
    prev: str
    good: bool


class Evidence:
    """What a set of anchors proves: added one by one in any order, then held against streams.

    Two different anchors of one number are no fault: two controllers may have made them at the same time.

    Args:
        objection: Says what is wrong with the signature of an anchor; empty when nothing is.
    """

    def __init__(self, objection: Callable[[Anchor], str]) -> None:
        self._objection = objection
        self._links: dict[str, _Link] = {}
        self._marks: dict[str, dict[tuple[int, str], _Mark]] = defaultdict(dict)
        self._faults: list[Fault] = []
        self._added = 0

    @property
    def anchors(self) -> int:
        """How many different anchors could be read."""
        return len(self._links)

    @property
    def models(self) -> set[str]:
        """Names of all models whose stream an anchor knows."""
        return set(self._marks)

    def add(self, text: str) -> None:
        """Add an anchor. One that is no good is a fault, and proves nothing."""
        self._added += 1
        try:
            anchor = anchor_of(text)
        except ValueError as error:
            self._faults.append(Fault("", 0, f"line {self._added}: {error}"))
            return
        objection = self._objection(anchor) or _altered(anchor)
        if objection:
            self._faults.append(Fault("", 0, objection, anchor.number))
        else:
            self._note(anchor)
        known = self._links.get(anchor.hash)
        if known is None or not known.good:
            self._links[anchor.hash] = _Link(anchor.number, anchor.hash, anchor.prev, not objection)

    def _note(self, anchor: Anchor) -> None:
        for head in anchor.heads:
            marks = self._marks[head.model]
            known = marks.get((head.seq, head.hash))
            if known is None or anchor.number < known.anchor:
                marks[head.seq, head.hash] = _Mark(head.seq, head.hash, anchor.number, anchor.label)

    def faults(self) -> list[Fault]:
        """What is wrong with the anchors themselves: forged, edited, or missing from among them."""
        numbers: dict[int, list[_Link]] = defaultdict(list)
        for link in self._links.values():
            numbers[link.number].append(link)
        broken = []
        for link in sorted(self._links.values(), key=lambda link: link.number):
            reason = _broken(link, numbers.get(link.number - 1, ())) if link.good else ""
            if reason:
                broken.append(Fault("", 0, reason, link.number))
        return [*self._faults, *broken]

    def hold(self, model: str, entries: Sequence[Entry]) -> Fault | None:
        """Walk a stream from its first entry, along its own chain and along what the anchors say of it.

        Args:
            model: Name of the model.
            entries: Its entries, in order; none for a stream that is not there.

        Returns:
            The first fault; ``None`` when there is none up to the last anchor.
        """
        marks = sorted(self._marks.get(model, {}).values(), key=lambda mark: (mark.seq, mark.anchor))
        anchored = {mark.seq for mark in marks}
        hashes = {entry.seq: entry.hash for entry in entries if entry.seq in anchored}
        broken = verify(model, entries)
        contradicted = _contradiction(model, marks, hashes)
        if broken and not (contradicted and contradicted.seq < broken.seq):
            return broken
        return contradicted or _cut_off(model, marks, entries[-1].seq if entries else 0)


def _contradiction(model: str, marks: Sequence[_Mark], hashes: Mapping[int, str]) -> Fault | None:
    """The first entry that is there, and is not the one that an anchor knows."""
    proven = 0
    for mark in marks:
        found = hashes.get(mark.seq)
        if found is not None and found != mark.hash:
            which = f"one of entries {proven + 1} to {mark.seq}" if proven + 1 < mark.seq else "it"
            reason = f"it is not the entry that {mark.label} knows: {which} was rewritten"
            return Fault(model, mark.seq, reason, mark.anchor)
        proven = mark.seq
    return None


def _cut_off(model: str, marks: Sequence[_Mark], last: int) -> Fault | None:
    """What anchors know beyond the last entry that is there."""
    if not marks or marks[-1].seq <= last:
        return None
    mark = marks[-1]
    if last == 0:
        return Fault(model, 1, f"the stream is gone: {mark.label} knows {mark.seq} entries", mark.anchor)
    reason = (
        f"it is missing: {mark.label} knows {mark.seq} entries, and what followed entry {last} was cut off"
    )
    return Fault(model, last + 1, reason, mark.anchor)


def _broken(link: _Link, before: Sequence[_Link]) -> str:
    if link.number == 1:
        return "" if link.prev == GENESIS else "it is the first, and names one before it"
    if any(other.hash == link.prev or not other.good for other in before):
        return ""
    if before:
        return f"it does not follow anchor {link.number - 1}: one of them was replaced"
    return f"it follows anchor {link.number - 1}, which is missing"


def _altered(anchor: Anchor) -> str:
    return "" if _root(anchor.heads) == anchor.root else "its heads do not match its root: they were edited"


def _root(heads: Sequence[AnchoredHead]) -> str:
    return hashlib.sha256(_text(list(map(_plain, heads)))).hexdigest()


def _plain(value: Anchor | AnchoredHead, *left_out: str) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__dataclass_fields__ if name not in left_out}


def _text(value: Any) -> bytes:
    """RFC 8785, by the standard library, at a tenth of the time: an anchor may name ten thousand streams.

    It is the same text for strings and whole numbers below 2^53, which is all that anchors hold, under fixed
    names in ASCII.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _is_sound(value: Anchor | AnchoredHead) -> bool:
    """Whether every field has its type: whole numbers from 1, and text that has UTF-8 bytes."""
    return all(
        type(item) is int and 1 <= item < 2**53 if name in _NUMBERS else isinstance(item, str) and _utf8(item)
        for name, item in _plain(value, "heads").items()
    )


def _utf8(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)
