"""For the program that serves a model: which version answers this request.

Nothing here needs more than the standard library, or raises because of what stands in a file.
"""

from __future__ import annotations

import hashlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..ports.traffic import Split
from .split_text import split_of

_log = logging.getLogger(__name__)

Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Route:
    """Who answers one request.

    Attributes:
        arm: ``champion`` or ``candidate``: the label of what is measured.
        version: The version that answers; ``None`` for whatever the champion alias says.
        copy_to: Version that gets a copy of the request, and whose answer nobody sees; ``None`` for none.
    """

    arm: Literal["champion", "candidate"] = "champion"
    version: str | None = None
    copy_to: str | None = None


_REST = Route()


class RequestRouter:
    """Decides by a file that the controller writes; for any number of threads.

    The file is read again when it has changed: asking whether it has is one call of the system. One that is
    missing, or that cannot be read as a split, leaves every request to the champion.

    Args:
        path: The file of one model, as ``HashRouter`` writes it.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = str(path)
        self._seen: tuple[Stamp | None, Split | None] = (None, None)

    def version_for(self, request_key: str) -> Route:
        """Say who answers a request.

        Args:
            request_key: What stands for whoever asks (a user, a device): one key has one answer, also on
                other machines, and a weight that is raised takes nobody back to the champion.

        Returns:
            The route. Equal keys under one split have equal routes.
        """
        split = self._split()
        if split is None:
            return _REST
        is_chosen = place_of(split.salt, request_key) < split.parts
        if split.shadow:
            return Route(version=split.champion, copy_to=split.candidate if is_chosen else None)
        if is_chosen:
            return Route("candidate", split.candidate)
        return Route(version=split.champion)

    def _split(self) -> Split | None:
        """The split in the file, read when it has changed since the last look."""
        seen, split = self._seen
        try:
            stamp = _stamp(self._path)
            if stamp != seen:
                split = self._read()
                self._seen = (stamp, split)
        except OSError:  # no file is no split
            self._seen = (None, None)
            return None
        return split

    def _read(self) -> Split | None:
        try:
            return split_of(Path(self._path).read_text(encoding="utf-8"))
        except ValueError as error:
            _log.warning("%s is no split, so the champion serves everybody: %s", self._path, error)
            return None


def place_of(salt: str, request_key: str) -> int:
    """The place of a key, in ten-thousandths of all keys.

    It is the first eight bytes of SHA-256 over salt, a newline and the key in UTF-8, read as a big-endian
    number, times 10,000 over 2^64: any other program comes to the same.

    Args:
        salt: Salt of the split.
        request_key: The key.

    Returns:
        0 to 9,999, each as likely as the others.
    """
    digest = hashlib.sha256(f"{salt}\n{request_key}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") * 10_000 >> 64


def _stamp(path: str) -> Stamp:
    found = os.stat(path)
    return found.st_ino, found.st_mtime_ns, found.st_size
