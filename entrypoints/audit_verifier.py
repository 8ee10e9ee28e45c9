"""Check an export of AutoRetrain's ledger, without AutoRetrain.

    python verify_autoretrain_audit.py audit.jsonl --public-key audit.key.pub

It needs Python 3.11 and, for the signatures, the library ``cryptography``. Without it, or without a public
key, chains and anchors are checked all the same, and it says that signatures were not.

What is checked:

1. Every entry's SHA-256 over its other fields, its place, and its link to the entry before.
2. Every anchor's signature, its root over the heads it names, and its link to the anchor before.
3. Every anchored head: that entry must be there, with that hash. So what was cut off, rewritten or removed
   as a whole is found, up to the last anchor.

Exit code 0: all of it holds. 1: nothing is wrong, but signatures were not checked. 2: something is wrong; the
first bad entry of each stream is named.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

FORMAT, VERSION = "autoretrain-audit", 1
GENESIS = "0" * 64
WHOLE, INCOMPLETE, FAULTY = 0, 1, 2
ENTRY_FIELDS = {"v", "chain", "model", "seq", "at", "kind", "key", "actor", "data", "prev", "hash"}
ANCHOR_FIELDS = {"v", "at", "heads", "key", "number", "prev", "root", "signature"}
HEAD_FIELDS = {"chain", "hash", "model", "seq"}
NUMBERS = {"v", "seq", "number"}


class UnreadableError(Exception):
    """The file is no export."""


def canonical(value: Any) -> bytes:
    r"""RFC 8785 text of entries and anchors, which hold strings, null and whole numbers below 2^53, no more.

    For these ``json.dumps`` suffices: the standard's hard part is floating point, and there is none (an
    entry's ``data`` is a string that holds JSON, hashed as the string it is). Its escapes are the standard's:
    the short forms, ``\u00xx`` in lower case for other control characters, everything else as it is. The
    standard sorts members by UTF-16 code units and ``sort_keys`` by code points, which differ only beyond
    U+FFFF; all names here are fixed and ASCII.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(
        errors="surrogatepass"
    )


def sha256(value: Any) -> str:
    """Digest of a value's canonical text, in hex."""
    return hashlib.sha256(canonical(value)).hexdigest()


def without(value: dict[str, Any], *names: str) -> dict[str, Any]:
    """The object with some members left out."""
    return {name: item for name, item in value.items() if name not in names}


def is_sound(value: Any, names: set[str], nullable: Iterable[str] = ()) -> bool:
    """Whether it is an object of just these members: whole numbers from 1, a list of heads, and strings."""
    return (
        isinstance(value, dict)
        and value.keys() == names
        and all(
            type(item) is int and 1 <= item < 2**53
            if name in NUMBERS
            else isinstance(item, list if name == "heads" else str) or (item is None and name in nullable)
            for name, item in value.items()
        )
    )


# -- signatures ---------------------------------------------------------------------------------------------


class Signatures:
    """Checks signatures of anchors, where key and library are there.

    Attributes:
        unchecked: Why they are not checked; empty when they are.
    """

    def __init__(self, public_key: str | None) -> None:
        self.unchecked = ""
        self._keys: dict[str, Any] = {}
        if public_key is None:
            self.unchecked = "no public key was given (--public-key FILE)"
            return
        try:
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
            from cryptography.hazmat.primitives.serialization import load_pem_public_key
        except ImportError:
            self.unchecked = "the library cryptography is not installed"
            return
        with open(public_key, encoding="utf-8") as file:
            blocks = re.findall(
                r"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", file.read(), re.DOTALL
            )
        for key in (load_pem_public_key(block.encode()) for block in blocks):
            if isinstance(key, Ed25519PublicKey):
                self._keys[key.public_bytes_raw().hex()] = key
        if not self._keys:
            raise UnreadableError(f"{public_key} holds no public key of Ed25519")

    def objection(self, anchor: dict[str, Any]) -> str:
        """What is wrong with the signature of an anchor; empty when nothing is."""
        if self.unchecked:
            return ""
        key = self._keys.get(anchor["key"])
        if key is None:
            return f"it is signed with another key than yours ({anchor['key'][:16]})"
        from cryptography.exceptions import InvalidSignature

        try:
            key.verify(bytes.fromhex(anchor["signature"]), canonical(without(anchor, "heads", "signature")))
        except (ValueError, InvalidSignature):
            return "its signature does not fit: it was edited, or forged"
        return ""


# -- anchors ------------------------------------------------------------------------------------------------


@dataclass
class Link:
    """An anchor among the anchors."""

    number: int
    prev: str
    good: bool


@dataclass
class Mark:
    """What anchors say of one entry; named by the oldest that says it."""

    hash: str
    number: int
    label: str


class Anchors:
    """All anchors of the export."""

    def __init__(self, signatures: Signatures) -> None:
        self._signatures = signatures
        self._faults: list[str] = []
        self.read = 0
        self.links: dict[str, Link] = {}
        self.marks: dict[str, dict[int, list[Mark]]] = defaultdict(lambda: defaultdict(list))

    def add(self, anchor: Any) -> None:
        """Take an anchor in; one that is no good proves nothing."""
        self.read += 1
        if not (is_sound(anchor, ANCHOR_FIELDS) and all(is_sound(h, HEAD_FIELDS) for h in anchor["heads"])):
            self._faults.append(f"anchors: line {self.read}: it is no anchor")
            return
        number, objection = anchor["number"], self._signatures.objection(anchor)
        if anchor["v"] != VERSION:
            objection = f"it is of version {anchor['v']}, newer than this script"
        if not objection and sha256(anchor["heads"]) != anchor["root"]:
            objection = "its heads do not match its root: they were edited"
        if objection:
            self._faults.append(f"anchor {number}: {objection}")
        else:
            self._note(anchor)
        digest = sha256(without(anchor, "heads", "signature"))
        if digest not in self.links or not self.links[digest].good:
            self.links[digest] = Link(number, anchor["prev"], not objection)

    def _note(self, anchor: dict[str, Any]) -> None:
        number = anchor["number"]
        label = f"anchor {number} ({anchor['at'][:16].replace('T', ' ')} UTC)"
        for head in anchor["heads"]:
            marks = self.marks[head["model"]][head["seq"]]
            same = [mark for mark in marks if mark.hash == head["hash"]]
            if not same:
                marks.append(Mark(head["hash"], number, label))
            elif number < same[0].number:
                same[0].number, same[0].label = number, label
            marks.sort(key=lambda mark: mark.number)

    def faults(self) -> Iterator[str]:
        """What is wrong with the anchors themselves."""
        yield from self._faults
        by_number: dict[int, list[tuple[str, Link]]] = defaultdict(list)
        for digest, link in self.links.items():
            by_number[link.number].append((digest, link))
        for link in sorted(self.links.values(), key=lambda link: link.number):
            reason = self._broken(link, by_number.get(link.number - 1, [])) if link.good else ""
            if reason:
                yield f"anchor {link.number}: {reason}"

    def _broken(self, link: Link, before: list[tuple[str, Link]]) -> str:
        if link.number == 1:
            return "" if link.prev == GENESIS else "it is the first, and names one before it"
        if any(digest == link.prev or not other.good for digest, other in before):
            return ""
        if before:
            return f"it does not follow anchor {link.number - 1}: one of them was replaced"
        return f"it follows anchor {link.number - 1}, which is missing"


# -- streams ------------------------------------------------------------------------------------------------


@dataclass
class Stream:
    """One stream, as far as it was walked."""

    model: str
    seq: int = 0
    hash: str = GENESIS
    chain: str = ""
    proven: int = 0
    fault: str = ""
    marks: dict[int, list[Mark]] = field(default_factory=dict)

    def walk(self, entry: dict[str, Any]) -> None:
        """Take the next entry; nothing after the first fault counts."""
        if not self.fault:
            reason = self._chain_fault(entry) or self._contradiction(entry)
            self.fault = f"{self.model}: entry {entry['seq']}: {reason}" if reason else ""
            self.seq, self.hash, self.chain = entry["seq"], entry["hash"], entry["chain"]

    def _chain_fault(self, entry: dict[str, Any]) -> str:
        if sha256(without(entry, "hash")) != entry["hash"]:
            return "its content does not match its hash: it was edited"
        if entry["seq"] != self.seq + 1:
            return f"it follows entry {self.seq}: entries are missing or out of order"
        if entry["prev"] != self.hash:
            return "it does not follow the entry before it: one of them was replaced"
        if self.chain and entry["chain"] != self.chain:
            return "it belongs to another stream"
        return ""

    def _contradiction(self, entry: dict[str, Any]) -> str:
        for mark in self.marks.get(entry["seq"], []):
            if mark.hash != entry["hash"]:
                first, last = self.proven + 1, entry["seq"]
                which = f"one of entries {first} to {last}" if first < last else "it"
                return f"it is not the entry that {mark.label} knows: {which} was rewritten"
            self.proven = entry["seq"]
        return ""

    def end(self) -> str:
        """The fault of the whole stream; empty when it has none."""
        known = max(self.marks, default=0)
        if self.fault or known <= self.seq:
            return self.fault
        label = self.marks[known][-1].label
        if self.seq == 0:
            return f"{self.model}: entry 1: the stream is gone: {label} knows {known} entries"
        return (
            f"{self.model}: entry {self.seq + 1}: it is missing: {label} knows {known} entries, "
            f"and what followed entry {self.seq} was cut off"
        )


# -- the export ---------------------------------------------------------------------------------------------


def lines_of(path: str) -> Iterator[dict[str, Any]]:
    """The objects of the file, one a line.

    Raises:
        UnreadableError: A line is no object, or holds a name twice.
    """
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                value = json.loads(line, object_pairs_hook=_members, parse_constant=_refused)
            except (ValueError, RecursionError) as error:
                raise UnreadableError(f"line {number} cannot be read: {error}") from None
            if not isinstance(value, dict):
                raise UnreadableError(f"line {number} is no object")
            yield value


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return members


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


class Export:
    """An export, walked line by line: anchors come before entries, so that one pass is enough at any length.

    Attributes:
        anchors: Its anchors.
        entries: How many entries were walked.
    """

    def __init__(self, signatures: Signatures) -> None:
        self.anchors = Anchors(signatures)
        self.entries = 0
        self._streams: dict[str, Stream] = {}
        self._end: Any = None

    def walk(self, lines: Iterable[dict[str, Any]]) -> None:
        """Take in all lines.

        Raises:
            UnreadableError: It is no export, or of a newer version.
        """
        for place, line in enumerate(lines):
            if place == 0:
                _check_header(line)
            elif "anchor" in line:
                self.anchors.add(line["anchor"])
            elif "entry" in line:
                self._take(line["entry"], place + 1)
            else:
                self._end = line.get("end")

    def _take(self, entry: Any, line: int) -> None:
        if not is_sound(entry, ENTRY_FIELDS, nullable={"key"}):
            raise UnreadableError(f"line {line} is no entry")
        self.entries += 1
        model = entry["model"]
        if model not in self._streams:
            self._streams[model] = Stream(model, marks=self.anchors.marks.get(model, {}))
        self._streams[model].walk(entry)

    def faults(self) -> Iterator[str]:
        """All that is wrong: the export as a file, its anchors, and the first bad entry of every stream."""
        counted = {"anchors": self.anchors.read, "entries": self.entries, "streams": len(self._streams)}
        if self._end != counted:
            yield f"the export is not whole: it says {self._end}, and holds {counted}"
        yield from self.anchors.faults()
        for model in sorted({*self._streams, *self.anchors.marks}):
            stream = self._streams.get(model) or Stream(model, marks=self.anchors.marks[model])
            if fault := stream.end():
                yield fault


def _check_header(line: dict[str, Any]) -> None:
    if line.get("format") != FORMAT:
        raise UnreadableError("it is no export of 'autoretrain audit export'")
    if line.get("v") != VERSION:
        raise UnreadableError(f"it is of version {line.get('v')}, and this script knows {VERSION}")


def main(arguments: list[str] | None = None) -> int:
    """Check one export, and say what was found.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(description="Check an export of AutoRetrain's ledger.")
    parser.add_argument("export", help="file that 'autoretrain audit export' wrote")
    parser.add_argument("--public-key", metavar="FILE", help="public keys that anchors must be signed with")
    asked = parser.parse_args(arguments)
    try:
        signatures = Signatures(asked.public_key)
        export = Export(signatures)
        export.walk(lines_of(asked.export))
    except (UnreadableError, OSError, ValueError) as error:
        sys.stderr.write(f"{asked.export}: {error}\n")
        return FAULTY
    faults = list(export.faults())
    sys.stderr.writelines(f"{fault}\n" for fault in faults)
    anchors = len(export.anchors.links)
    unchecked = anchors > 0 and signatures.unchecked
    if unchecked:
        sys.stderr.write(f"not checked: signatures: {unchecked}\n")
    if not faults:
        held = f", held against {anchors} anchors" if anchors else "; there are no anchors"
        sys.stdout.write(f"all whole: {export.entries} entries{held}\n")
    return FAULTY if faults else INCOMPLETE if unchecked else WHOLE


if __name__ == "__main__":
    sys.exit(main())
