"""The digest of a model's payload: what it predicts with, without what differs between two loggings."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

from ..ports.errors import Permanent

# MLmodel carries run id, model id and time of logging; registered_model_meta is written by a download.
_METADATA = frozenset({"MLmodel", "registered_model_meta"})
# Python leaves it behind beside a model's own code when that is imported.
_BYTECODE = "__pycache__"


MOST_BYTES = 4 << 30
"""Size of the largest artefact that is used, unless another is set."""
_MOST_FILES = 100_000


def artefact_digest(directory: Path, most_bytes: int = MOST_BYTES) -> str:
    """Hash the payload files of a logged model.

    Names and contents count, times and permissions do not. Two loggings of one model have one digest when
    its serialisation is deterministic: pickle and cloudpickle are, skops numbers its objects by memory
    address and is not.

    Args:
        directory: Directory of the artefact.
        most_bytes: Its files may be so large in all.

    Returns:
        SHA-256 (hex) over the sorted relative names and the digests of their contents.

    Raises:
        Permanent: The directory is missing, holds no payload, or cannot be read; it holds a symbolic link or
            anything else that is neither file nor directory; or it is too large.
    """
    try:
        files = sorted(_payload(directory, most_bytes))
        if not files:
            raise Permanent(f"the artefact in {directory} is missing or empty")
        total = hashlib.sha256()
        for name in files:
            with _opened(directory, name) as stream:
                content = hashlib.file_digest(stream, "sha256").hexdigest()
            # The digest has a fixed length and a name holds no NUL: no two lists of files read the same.
            total.update(f"{name}\0{content}\n".encode())
        return total.hexdigest()
    except OSError as error:
        raise Permanent(f"the artefact in {directory} cannot be read: {error.strerror}") from error


def artefact_bytes(directory: Path) -> int:
    """Add up the sizes of a logged model's files, of those too that do not count for its digest.

    Args:
        directory: Directory of the artefact.

    Raises:
        Permanent: It cannot be read.
    """
    try:
        return sum(found.st_size for _, found in _entries(directory) if stat.S_ISREG(found.st_mode))
    except OSError as error:
        raise Permanent(f"the artefact in {directory} cannot be read: {error.strerror}") from error


def too_large(what: str, most_bytes: int) -> Permanent:
    """The error for an artefact over the limit.

    Args:
        what: Names the artefact.
        most_bytes: The limit.
    """
    size = f"{most_bytes / (1 << 20):g} MiB"
    return Permanent(f"{what} is larger than {size}; raise mlflow.max_artifact_mb if it is meant to be")


def _payload(directory: Path, most_bytes: int) -> Iterator[str]:
    """Relative names of the files that count; everything is looked at, and counts for the size."""
    size = 0
    for number, (name, found) in enumerate(_entries(directory)):
        if not stat.S_ISDIR(found.st_mode):
            _check_kind(directory, name, found.st_mode)
            size += found.st_size
            if name not in _METADATA and _BYTECODE not in name.split("/"):
                yield name
        if size > most_bytes:
            raise too_large(f"the artefact in {directory}", most_bytes)
        if number == _MOST_FILES:
            raise Permanent(f"the artefact in {directory} holds more than {_MOST_FILES} files")


def _entries(directory: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Everything below a directory by its relative name, with what it is itself; nothing for no directory."""
    waiting = [""] if directory.is_dir() else []
    while waiting:
        within = waiting.pop()
        with os.scandir(directory / within) as entries:
            for entry in entries:
                found = entry.stat(follow_symlinks=False)
                name = f"{within}{entry.name}"
                yield name, found
                if stat.S_ISDIR(found.st_mode):
                    waiting.append(f"{name}/")


def _check_kind(directory: Path, name: str, mode: int) -> None:
    if stat.S_ISLNK(mode):
        raise Permanent(
            f"the artefact in {directory} holds a symbolic link, {name}: what it leads to is no part of the "
            "artefact; log the file itself"
        )
    if not stat.S_ISREG(mode):
        raise Permanent(f"the artefact in {directory} holds {name}, which is neither a file nor a directory")


def _opened(directory: Path, name: str) -> BufferedReader:
    """Open a file that was one a moment ago, and nothing that took its place."""
    return open(
        directory / name,
        "rb",
        opener=lambda path, flags: os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK),
    )
