"""An SQLite file of ours: opened, migrated, shared by threads, safe beside processes and across forks."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from ..ports.errors import AutoRetrainError, Permanent, Temporary
from .file_system import network_file_system

_TEMPORARY = {
    sqlite3.SQLITE_BUSY: "another process is writing to it",
    sqlite3.SQLITE_LOCKED: "another connection is writing to it",
    sqlite3.SQLITE_PROTOCOL: "another process is opening it",
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_IOERR: "the disk gave an error",
    sqlite3.SQLITE_READONLY: "it is read-only",
    sqlite3.SQLITE_PERM: "access is denied",
    sqlite3.SQLITE_CANTOPEN: "it, or a file beside it, cannot be opened or created",
    sqlite3.SQLITE_NOMEM: "out of memory",
    sqlite3.SQLITE_INTERRUPT: "interrupted",
}
"""Conditions that may pass, by SQLite's primary result code; anything else is permanent."""


@dataclass(frozen=True, slots=True)
class Schema:
    """The tables a file must have, as numbered SQL files beside this module.

    Attributes:
        name: Prefix of the files: ``<name>_0001.sql``, ``<name>_0002.sql`` and so on.
        application_id: Number kept in the file's header, which tells our files from others'.
    """

    name: str
    application_id: int

    def version(self, connection: sqlite3.Connection) -> int:
        """Return the version a file has; 0 when it is new and empty.

        Raises:
            Permanent: The file belongs to something else.
        """
        row = connection.execute(
            "SELECT (SELECT application_id FROM pragma_application_id),"
            " (SELECT user_version FROM pragma_user_version),"
            " EXISTS (SELECT 1 FROM sqlite_master)"
        ).fetchone()
        if tuple(row) == (0, 0, 0):
            return 0
        application_id, version, _ = row
        if application_id != self.application_id or version < 1:
            raise Permanent("it is an SQLite database of something else")
        return int(version)

    @property
    def newest(self) -> int:
        """The version that this release works with."""
        return max(_scripts(self.name))

    def install(self, connection: sqlite3.Connection) -> None:
        """Give a new file its tables, once, whoever else opens it at the same time.

        Raises:
            Permanent: The file belongs to something else, or to an older or newer release.
        """
        if self.version(connection) == self.newest:
            return
        connection.execute("BEGIN EXCLUSIVE")
        version = self.version(connection)
        if 0 < version < self.newest:
            raise Permanent(
                f"its schema is {version}, and this release needs {self.newest}: stop every controller, back "
                "it up, and run 'autoretrain db upgrade'"
            )
        self._bring_up(connection, version)

    def upgrade(self, connection: sqlite3.Connection) -> int:
        """Bring a file of an older release to the newest version, all or nothing.

        Returns:
            The version it had.

        Raises:
            Permanent: The file belongs to something else, or to a newer release.
        """
        connection.execute("BEGIN EXCLUSIVE")
        version = self.version(connection)
        self._bring_up(connection, version)
        return version

    def _bring_up(self, connection: sqlite3.Connection, version: int) -> None:
        if version > self.newest:
            raise Permanent(
                f"its schema is {version}, and this release knows none above {self.newest}: "
                "upgrade autoretrain"
            )
        for number in range(version + 1, self.newest + 1):
            for statement in _statements(_scripts(self.name)[number]):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {self.application_id}")
        connection.execute(f"PRAGMA user_version = {self.newest}")
        connection.commit()


@cache
def _scripts(name: str) -> dict[int, str]:
    """Return the SQL of every version of a schema by its number, in order."""
    files = sorted(Path(__file__).with_name("sql").glob(f"{name}_[0-9][0-9][0-9][0-9].sql"))
    return {int(file.stem[-4:]): file.read_text(encoding="utf-8") for file in files}


def _statements(script: str) -> Iterator[str]:
    """Split a script; ``executescript`` would commit the transaction that guards the migration."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


class Database:
    """One file and one connection to it, which the threads of a process take in turns.

    The file is opened at first use. After any error of SQLite the connection is given up, and the next
    call opens another: what remained of a failed transaction cannot leak into a later one.

    Args:
        path: The file; created, with its folder, when it is missing.
        schema: Its tables.
        synchronous: ``FULL`` when a commit must survive a power failure, ``NORMAL`` when it need not.
        busy_seconds: How long to wait for other writers, in this process and in others.
    """

    def __init__(
        self,
        path: str | Path,
        schema: Schema,
        *,
        synchronous: Literal["FULL", "NORMAL"],
        busy_seconds: float,
    ) -> None:
        # Absolute, since it is opened again later, when the working directory may be another.
        self._path = Path(path).absolute()
        self._schema = schema
        self._synchronous = synchronous
        self._busy_seconds = busy_seconds
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        with _REGISTERED:
            _DATABASES.add(self)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Hold one consistent view; other processes may write meanwhile.

        Raises:
            Temporary: The file is busy, or cannot be reached.
            Permanent: The file is damaged, or of another schema.
        """
        with self._transaction("BEGIN DEFERRED") as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Hold the only write transaction; committed at the end, undone by any exception.

        Raises:
            Temporary: The file is busy, full, read-only, or cannot be reached.
            Permanent: The file is damaged, or of another schema.
        """
        with self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection

    def close(self) -> None:
        """Close the file. A later call opens it again."""
        with self._lock:
            self._discard()
            self._identity = None

    def versions(self) -> tuple[int, int]:
        """The version that the file has, and the one of this release; 0 for a file that is not there.

        Raises:
            Temporary: Another process is using it, or it cannot be reached.
            Permanent: It is damaged, or of something else.
        """
        with self._lock:
            if self._found() is None:
                return 0, self._schema.newest
            try:
                with closing(self._opened(install=False)) as connection:
                    return self._schema.version(connection), self._schema.newest
            except (sqlite3.Error, OSError) as error:
                raise self._explained(error) from error

    @property
    def place(self) -> str:
        """The path of the file."""
        return str(self._path)

    def upgrade(self) -> tuple[int, int]:
        """Bring the file of an older release to the newest schema. A missing file is created.

        Returns:
            The version it had (0 for a new file), and the one it has now.

        Raises:
            Temporary: Another process is using it, or the disk is full or read-only.
            Permanent: It is damaged, or of something else or of a newer release.
        """
        with self._lock:
            try:
                with closing(self._opened(install=False)) as connection:
                    return self._schema.upgrade(connection), self._schema.newest
            except (sqlite3.Error, OSError) as error:
                raise self._explained(error) from error
            except Permanent as error:
                raise Permanent(f"{self._path}: {error}") from None

    def pause(self) -> None:
        """Keep every thread out and close the file, until :meth:`resume`."""
        self._lock.acquire()
        self._discard()

    def resume(self) -> None:
        """Let threads in again after :meth:`pause`."""
        self._lock.release()

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        if not self._lock.acquire(timeout=self._busy_seconds):
            raise Temporary(f"{self._path}: another thread is using it; nothing was written")
        try:
            connection = self._connected()
            connection.execute(begin)
            yield connection
            connection.commit()
        except (sqlite3.Error, OSError) as error:
            self._discard()
            raise self._explained(error) from error
        except BaseException:
            self._undo()
            raise
        finally:
            self._lock.release()

    def _connected(self) -> sqlite3.Connection:
        if self._identity is not None and self._identity != self._found():
            # SQLite would go on writing into a file that no longer has a name.
            raise Permanent(f"{self._path} was deleted or replaced while in use: restore it, then restart")
        if self._connection is None:
            self._connection = self._opened()
            self._identity = self._found()
        return self._connection

    def _found(self) -> tuple[int, int] | None:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino

    def _opened(self, install: bool = True) -> sqlite3.Connection:
        """Open the file, trying again while other processes create it.

        Switching a new file to WAL needs the file alone, and SQLite does not wait for that.
        """
        deadline = time.monotonic() + self._busy_seconds
        while True:
            try:
                return self._opened_once(install)
            except sqlite3.OperationalError as error:
                if _primary_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                    raise
                time.sleep(0.005)

    def _opened_once(self, install: bool) -> sqlite3.Connection:
        with suppress(OSError):  # what is wrong with the folder, SQLite will say
            self._path.parent.mkdir(parents=True, exist_ok=True)
        self._refuse_network()
        connection = sqlite3.connect(
            self._path, timeout=self._busy_seconds, isolation_level=None, check_same_thread=False
        )
        try:
            self._schema.version(connection)  # before anything is changed in a file that may not be ours
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            connection.execute("PRAGMA fullfsync = ON")  # macOS: fsync alone does not reach the disk there
            connection.execute("PRAGMA foreign_keys = ON")
            if install:
                self._schema.install(connection)
        except Permanent as error:
            connection.close()
            raise Permanent(f"{self._path}: {error}") from None
        except BaseException:
            connection.close()
            raise
        return connection

    def _refuse_network(self) -> None:
        """SQLite's locks and shared memory hold on one machine only: over a network a file is damaged."""
        kind = network_file_system(self._path)
        if kind is not None:
            raise Permanent(
                f"{self._path} is on a network file system ({kind}), where SQLite damages its files: set "
                "'state' in autoretrain.toml to a directory on a local disk, or keep the ledger in "
                "PostgreSQL (ledger.store)"
            )

    def _undo(self) -> None:
        if self._connection is not None:
            try:
                self._connection.rollback()
            except sqlite3.Error:
                self._discard()

    def _discard(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.rollback()  # closing alone leaves it open while a cursor is still referred to
            with suppress(sqlite3.Error):
                connection.close()

    def _explained(self, error: sqlite3.Error | OSError) -> AutoRetrainError:
        if isinstance(error, OSError):
            return Temporary(f"{self._path}: {error.strerror}; nothing was written")
        reason = _TEMPORARY.get(_primary_code(error))
        if reason is None:
            return Permanent(f"{self._path}: not a database of ours, or damaged ({error})")
        return Temporary(f"{self._path}: {reason} ({error}); nothing was written")


def _primary_code(error: sqlite3.Error) -> int:
    """Return SQLite's primary result code; 0 when the error did not come from SQLite itself."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


# A process that forks must have no database open: SQLite would take the parent's locks for the child's own,
# and the parent could remove the log that the child is writing to. So connections are closed before a fork
# and opened again on both sides.
_REGISTERED = threading.Lock()
_DATABASES: weakref.WeakSet[Database] = weakref.WeakSet()
_paused: list[Database] = []


def _before_fork() -> None:
    _REGISTERED.acquire()
    for database in _DATABASES:
        database.pause()
        _paused.append(database)


def _after_fork() -> None:
    while _paused:
        _paused.pop().resume()
    _REGISTERED.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
