"""Anchors in a file, one a line: on a disk, share or volume that the ledger's machine cannot rewrite."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ..ports.errors import Overtaken, Permanent, Temporary

_BLOCK = 1 << 16


class FileAnchors:
    """Implements ``AnchorKeeper``: JSON Lines that only grow, on disk when ``keep`` returns.

    A line that a crash cut short was never confirmed; the next ``keep`` removes it.

    Args:
        path: The file; created, with its folder, when it is missing.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path).absolute()

    def keep(self, number: int, text: str) -> None:
        """Append one anchor; see ``AnchorKeeper.keep``. Processes take turns, by a lock on the file."""
        with self._writing() as file:
            end = _end_of(file)
            if end.last == text.encode():
                return
            before = self._number(end.last)
            if before != number - 1:
                raise Overtaken(f"{self._path} ends with anchor {before}; {number} does not follow it")
            file.truncate(file.seek(0, os.SEEK_END) - end.torn)
            file.write((b"" if end.closed else b"\n") + text.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def latest(self) -> str | None:
        """The last line; ``None`` when there is none."""
        with self._reading() as file:
            last = _end_of(file).last if file else None
        return None if last is None else last.decode(errors="replace")

    def kept(self) -> Iterator[str]:
        """All lines; none when there is no file."""
        with self._reading() as file:
            for line in file or ():
                if line.strip() and (line.endswith(b"\n") or _is_json(line)):
                    yield line.decode(errors="replace").strip()

    def _number(self, last: bytes | None) -> int:
        if last is None:
            return 0
        try:
            return int(json.loads(last)["number"])
        except (ValueError, TypeError, KeyError):
            text = f"the last line of {self._path} is no anchor: repair it from a copy, or begin another file"
            raise Permanent(text) from None

    @contextmanager
    def _reading(self) -> Iterator[BinaryIO | None]:
        try:
            with open(self._path, "rb") as file:
                yield file
        except FileNotFoundError:
            yield None
        except OSError as error:
            raise _refusal(error)(f"{self._path} cannot be read: {error.strerror}") from None

    @contextmanager
    def _writing(self) -> Iterator[BinaryIO]:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with open(self._path, "a+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield file
        except OSError as error:
            raise _refusal(error)(f"{self._path} cannot be written to: {error.strerror}") from None


def _refusal(error: OSError) -> type[Temporary | Permanent]:
    lasting = PermissionError | IsADirectoryError | NotADirectoryError | FileExistsError
    return Permanent if isinstance(error, lasting) else Temporary


class _End(NamedTuple):
    """The end of a file."""

    last: bytes | None  # the last whole line; None when there is none
    closed: bool  # whether it has its newline
    torn: int  # bytes of what a crash has left after it


def _end_of(file: BinaryIO) -> _End:
    """Read backwards, since the file may be long."""
    start, tail = file.seek(0, os.SEEK_END), b""
    while start > 0 and b"\n" not in tail.strip():
        size = min(_BLOCK, start)
        start = file.seek(start - size)
        tail = file.read(size) + tail
    *lines, rest = tail.split(b"\n")
    if rest and _is_json(rest):
        return _End(rest, False, 0)
    whole = [line.strip() for line in lines if line.strip()]
    return _End(whole[-1] if whole else None, True, len(rest))


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
