"""Canonical text, hashes, and the chain that makes an edit of the ledger visible."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from numbers import Integral, Real
from typing import Any

from ..ports.ledger import ENTRY_VERSION, Entry

GENESIS = "0" * 64
CONTROLLER = "controller"
_LARGEST_INT = 2**53 - 1  # beyond it RFC 8785 (IEEE 754 doubles) cannot hold an integer exactly
_TAGS = ("float:", "int:", "str:")


@dataclass(frozen=True, slots=True)
class Draft:
    """An entry before it has a place in the stream.

    Attributes:
        kind: What it says.
        data: The details.
        key: Identity within the model; ``None`` when it may be said again.
        actor: Who says it.
    """

    kind: str
    data: Mapping[str, Any] = field(default_factory=dict)
    key: str | None = None
    actor: str = CONTROLLER


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a stream.

    Attributes:
        chain: Identity of the stream; empty before its first entry.
        seq: Sequence number of the last entry; 0 before the first.
        hash: Hash of the last entry; 64 zeros before the first.
    """

    chain: str = ""
    seq: int = 0
    hash: str = GENESIS


@dataclass(frozen=True, slots=True)
class Fault:
    """The first entry of a stream that cannot be trusted; or an anchor that cannot.

    Attributes:
        model: Name of the model; empty when it is an anchor.
        seq: Sequence number where the chain breaks, or of the first entry that is missing; 0 for an anchor.
        reason: What is wrong, in words.
        anchor: Number of the anchor that shows it, or that is no good itself; ``None`` when the chain shows
            it, and for an anchor that cannot be read.
    """

    model: str
    seq: int
    reason: str
    anchor: int | None = None

    def __str__(self) -> str:
        if self.model:
            return f"{self.model}: entry {self.seq}: {self.reason}"
        return f"anchor {self.anchor}: {self.reason}" if self.anchor else f"anchors: {self.reason}"


def canonical(value: Any) -> str:
    """Return the RFC 8785 text of a value.

    Dataclasses become objects, datetimes ISO 8601 text in UTC, enums their values; NaN, infinities and
    integers that a double cannot hold become tagged strings (``float:NaN``, ``int:9007199254740993``).
    """
    import rfc8785

    return rfc8785.dumps(plain(value)).decode()


def digest_of(value: Any) -> str:
    """SHA-256 (hex) over the canonical text of a value."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def load(text: str) -> Any:
    """Return the value of a canonical text, with tagged numbers restored."""
    return _restored(json.loads(text, parse_int=_number))


def timestamp(at: datetime) -> str:
    """ISO 8601 text in UTC with microseconds, as entries hold it."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def seal(model: str, head: Head, drafts: Sequence[Draft], at: datetime) -> tuple[Entry, ...]:
    """Give drafts their place, and chain them to the head.

    Args:
        model: Name of the model.
        head: End of the stream they follow.
        drafts: What to say, in order.
        at: When it was decided.

    Returns:
        Entries ready to be appended.
    """
    when = timestamp(at)
    chain = head.chain or hashlib.sha256(f"{model}|{when}".encode()).hexdigest()[:16]
    seq, prev = head.seq, head.hash
    sealed = []
    for draft in drafts:
        seq += 1
        content = {
            "v": ENTRY_VERSION,
            "chain": chain,
            "model": model,
            "seq": seq,
            "at": when,
            "kind": draft.kind,
            "key": draft.key,
            "actor": draft.actor,
            "data": canonical(draft.data),
            "prev": prev,
        }
        prev = _hash(content)
        sealed.append(Entry(**content, hash=prev))  # type: ignore[arg-type]
    return tuple(sealed)


def verify(model: str, entries: Iterable[Entry]) -> Fault | None:
    """Walk a stream from its first entry.

    Returns:
        The first fault; ``None`` when every entry is where and what it was when it was written. What was
        cut off at the end, and a stream removed or rewritten as a whole, cannot be seen from inside.
    """
    head = Head()
    for entry in entries:
        fault = _fault(model, head, entry)
        if fault is not None:
            return Fault(model, entry.seq, fault)
        head = Head(entry.chain, entry.seq, entry.hash)
    return None


def _hash(content: Mapping[str, Any]) -> str:
    """SHA-256 over an entry's other fields, which are plain text and small numbers: nothing is tagged."""
    import rfc8785

    return hashlib.sha256(rfc8785.dumps(dict(content))).hexdigest()


def _fault(model: str, head: Head, entry: Entry) -> str | None:
    content = {name: value for name, value in asdict(entry).items() if name != "hash"}
    if _hash(content) != entry.hash:
        return "its content does not match its hash: it was edited"
    if entry.seq != head.seq + 1:
        return f"it follows entry {head.seq}: entries are missing or out of order"
    if entry.prev != head.hash:
        return "it does not follow the entry before it: one of them was replaced"
    if entry.model != model or (head.chain and entry.chain != head.chain):
        return "it belongs to another stream"
    return None


def plain(value: Any) -> Any:
    """Reduce a value to JSON values that RFC 8785 can write; see ``canonical`` for what becomes of which."""
    if isinstance(value, str):
        return f"str:{_text(value)}" if value.startswith(_TAGS) else _text(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Real):
        return _plain_number(value)
    if isinstance(value, datetime):
        return timestamp(value)
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value) and not isinstance(value, type):
        return {name: plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, Mapping):
        return {_text(str(name)): plain(item) for name, item in value.items()}
    if isinstance(value, Iterable):
        return [plain(item) for item in value]
    raise TypeError(f"the ledger cannot hold a {type(value).__name__}: {value!r}")


def _text(value: str) -> str:
    """Escape lone surrogates, which have no UTF-8 bytes: a log or a file name may hold them."""
    return value if value.isascii() else value.encode(errors="backslashreplace").decode()


def _plain_number(value: Real) -> int | float | str:
    """Numbers of any library (numpy's, say) as Python's own."""
    if isinstance(value, Integral):
        return int(value) if abs(int(value)) <= _LARGEST_INT else f"int:{int(value)}"
    number = float(value)
    if math.isnan(number):
        return "float:NaN"
    if math.isinf(number):
        return "float:Infinity" if number > 0 else "float:-Infinity"
    return number


def _number(digits: str) -> int | float:
    """A number written without a point: beyond what is tagged it was a float, shortened to its digits."""
    return int(digits) if abs(int(digits)) <= _LARGEST_INT else float(digits)


def _restored(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _restored(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_restored(item) for item in value]
    if isinstance(value, str) and value.startswith(_TAGS):
        tag, _, text = value.partition(":")
        return {"float": float, "int": int, "str": str}[tag](text)
    return value
