"""Small files that others read while we write them, and that several processes write."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..ports.errors import Permanent, Temporary

_LASTING = PermissionError | IsADirectoryError | NotADirectoryError | FileExistsError


def read_text(path: Path) -> str | None:
    """Read a file; ``None`` when there is none. What is no text is read as it may be.

    Raises:
        Temporary: It cannot be read now.
        Permanent: It may not be read, or is no file.
    """
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _ours(error, path, "read") from None


def replace_text(path: Path, text: str | None) -> None:
    """Put other contents in a file's place, on disk when this returns; a reader sees the old or the new.

    Args:
        path: The file.
        text: Its contents; ``None`` removes it.

    Raises:
        Temporary: It cannot be written now.
        Permanent: It may not be written.
    """
    draft = path.with_name(f".{path.name}.new")
    try:
        if text is None:
            path.unlink(missing_ok=True)
        else:
            with draft.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, path)
        _sync(path.parent)
    except OSError as error:
        raise _ours(error, path, "written") from None


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Keep other processes that ask for the same folder waiting; the folder is made when it is not there.

    Raises:
        Temporary: Nothing can be written there now.
        Permanent: Nothing may be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("a")
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError as error:
        raise _ours(error, folder, "written") from None
    with lock:
        yield


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _ours(error: OSError, path: Path, done: str) -> Temporary | Permanent:
    kind = Permanent if isinstance(error, _LASTING) else Temporary
    return kind(f"{path} cannot be {done}: {error.strerror}")
