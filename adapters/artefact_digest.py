"""The digest of a model's payload: what it predicts with, without what differs between two loggings."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ..ports.errors import Permanent

# MLmodel carries run id, model id and time of logging; registered_model_meta is written by a download.
_METADATA = frozenset({"MLmodel", "registered_model_meta"})
# Python leaves it behind beside a model's own code when that is imported.
_BYTECODE = "__pycache__"


def artefact_digest(directory: Path) -> str:
    """Hash the payload files of a logged model.

    Names and contents count, times and permissions do not. Two loggings of one model have one digest when
    its serialisation is deterministic: pickle and cloudpickle are, skops numbers its objects by memory
    address and is not.

    Args:
        directory: Directory of the artefact.

    Returns:
        SHA-256 (hex) over the sorted relative names and the digests of their contents.

    Raises:
        Permanent: The directory is missing, holds no payload, or cannot be read.
    """
    try:
        files = sorted((path.relative_to(directory).as_posix(), path) for path in _payload(directory))
        if not files:
            raise Permanent(f"the artefact in {directory} is missing or empty")
        total = hashlib.sha256()
        for name, path in files:
            with path.open("rb") as stream:
                content = hashlib.file_digest(stream, "sha256").hexdigest()
            # The digest has a fixed length and a name holds no NUL: no two lists of files read the same.
            total.update(f"{name}\0{content}\n".encode())
        return total.hexdigest()
    except OSError as error:
        raise Permanent(f"the artefact in {directory} cannot be read: {error.strerror}") from error


def _payload(directory: Path) -> list[Path]:
    return [
        path
        for path in directory.rglob("*")
        if path.is_file()
        and path.relative_to(directory).as_posix() not in _METADATA
        and _BYTECODE not in path.parts
    ]
