"""The audit of a ledger: every stream walked, and held against anchors; and its export.

Light, as a command that only looks must be: settings, keepers and signatures are in ``anchoring``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields

from ..domain.anchors import Evidence
from ..domain.sealing import Fault
from ..ports.ledger import Entry, Ledger

EXPORT_FORMAT = "autoretrain-audit"
EXPORT_VERSION = 1
_FIELDS = tuple(field.name for field in fields(Entry))


@dataclass(frozen=True, slots=True)
class Examination:
    """What was found.

    Attributes:
        faults: Anchors that are no good, then the first fault of each stream that has one.
        streams: How many streams were walked.
        entries: How many entries they have.
    """

    faults: tuple[Fault, ...]
    streams: int
    entries: int


def chains_alone() -> Evidence:
    """No anchors: what a stream shows by itself."""
    return Evidence(lambda anchor: "")


def examine(ledger: Ledger | None, evidence: Evidence) -> Examination:
    """Walk every stream there is, and every one that an anchor knows.

    Args:
        ledger: The ledger; ``None`` when there is none (yet, or any more).
        evidence: Anchors to hold it against.

    Raises:
        Temporary: The ledger cannot be read now.
        Permanent: It is damaged beyond reading.
    """
    faults, entries = evidence.faults(), 0
    models = sorted({*(ledger.models() if ledger else ()), *evidence.models})
    for model in models:
        stream = ledger.read(model) if ledger else ()
        entries += len(stream)
        fault = evidence.hold(model, stream)
        faults += [fault] if fault else []
    return Examination(tuple(faults), len(models), entries)


def export(ledger: Ledger | None, anchors: Iterable[str]) -> Iterator[str]:
    """Write the whole record as JSON Lines: a header, anchors, entries, and an end with their numbers.

    The same ledger and anchors give the same lines. ``audit_verifier`` checks them, without this package.

    Args:
        ledger: The ledger; ``None`` when there is none.
        anchors: Lines of anchors, as they were kept; read before the streams, so that a running controller
            cannot make them newer than what is exported.
    """
    kept, streams, entries = list(anchors), 0, 0
    yield _line({"format": EXPORT_FORMAT, "v": EXPORT_VERSION})
    for text in kept:
        yield _line({"anchor": _value(text)})
    for model in ledger.models() if ledger else ():
        streams += 1
        for entry in ledger.read(model) if ledger else ():
            entries += 1
            yield _line({"entry": {name: getattr(entry, name) for name in _FIELDS}})
    yield _line({"end": {"anchors": len(kept), "entries": entries, "streams": streams}})


def _value(text: str) -> object:
    """An anchor as an object; what is damaged beyond that, as the text it is."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _line(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
