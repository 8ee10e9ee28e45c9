"""A database on a PostgreSQL server: opened late, shared by threads, safe across forks and restarts.

Every call is one message: a few statements that the server runs as one transaction. So no process ever
stops, or is stopped, in the middle of a transaction; nothing is left in a session that PgBouncer gives to
somebody else; and a call costs one round trip.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from ..ports.errors import Permanent, Temporary
from .postgres_driver import Rows, Session, parameters_of, place_of, psycopg
from .postgres_errors import explained, first_line
from .postgres_privileges import Access, access_of
from .postgres_schema import PostgresSchema, search_path

_SPARE_SECONDS = 5.0  # what an answer may take beyond the time that its statements have on the server
_ATTEMPTS = 5
_CAME_BETWEEN = ("40001", "40P01")  # undone as a whole, by no fault of ours: the same again
_CREATED_MEANWHILE = ("23505", "42P06", "42P07", "42710", "42723")
_NOT_KNOWN_YET = ("3F000", "42P01")  # created so lately that this session does not remember the name


class Conflict(Exception):
    """A constraint refused a change; nothing was written. It never leaves the adapters.

    Args:
        constraint: Its name.
    """

    def __init__(self, constraint: str) -> None:
        super().__init__(constraint)
        self.constraint = constraint


class PostgresDatabase:
    """One schema of one database, and the connections of this process to it.

    Nothing is opened before the first call; that also creates the tables, where there are none and the role
    may. A connection whose server has hung up meanwhile is replaced before it is used.

    Args:
        dsn: Connection string of libpq; what it leaves out comes from libpq's own variables and files.
        schema: Name of the schema that holds our tables, or all about it.
        connections: How many calls run at the same time; others wait for them.
        statement_seconds: How long a statement may take on the server.

    Raises:
        Permanent: The connection string cannot be read.
    """

    def __init__(
        self,
        dsn: str,
        schema: str | PostgresSchema = "autoretrain",
        *,
        connections: int = 8,
        statement_seconds: float = 10.0,
    ) -> None:
        self._parameters = parameters_of(dsn)
        self.place = place_of(self._parameters)
        self.schema = PostgresSchema(schema) if isinstance(schema, str) else schema
        self._connections = connections
        self._seconds = statement_seconds
        self._prefix = (
            f"{search_path(self.schema.name).as_string(None)};"
            f"SET LOCAL statement_timeout = {round(statement_seconds * 1000)};"
        )
        self._idle: list[Session] = []
        self._inherited: list[Session] = []
        self._start_anew()
        with _REGISTERED:
            _DATABASES.add(self)

    def run(
        self, statements: str, values: Mapping[str, Any] | None = None, *, durable: bool = True
    ) -> list[Rows]:
        """Run statements as one transaction, in one message.

        Args:
            statements: SQL, divided by semicolons; placeholders as ``%(name)s``.
            values: What the placeholders stand for.
            durable: Whether the commit waits for the disk, whatever the server is set to.

        Returns:
            The rows of each statement that has some to give, in order.

        Raises:
            Conflict: A constraint refused it; nothing was written.
            Temporary: The server is away, busy, full or read-only. Nothing was written, unless the
                connection was lost: then nobody knows.
            Permanent: It cannot be used: credentials, database, privileges, tables of another release.
        """
        commit = f"SET LOCAL synchronous_commit = {'on' if durable else 'off'};"
        message = (self._prefix + commit + statements).encode()
        for _ in range(_ATTEMPTS - 1):
            try:
                return self._sent(message, values)
            except psycopg.Error as error:
                if error.sqlstate not in _CAME_BETWEEN:
                    raise self._meaning(error) from error
        with self._explaining():
            return self._sent(message, values)

    def version(self) -> int:
        """The version that the tables have; 0 when they are not there. Creates nothing.

        Raises:
            Temporary: The server is away.
            Permanent: It cannot be used, or the schema holds something else.
        """
        with self._explaining():
            session = self._session()
            try:
                version = self.schema.version(session)
            finally:
                session.close()
        return version

    def upgrade(self) -> tuple[int, int]:
        """Create the tables, or bring them to the newest version; waits for another process that does so.

        Returns:
            The version they had (0: there were none), and the one they have now.

        Raises:
            Temporary: The server is away.
            Permanent: It cannot be used, the role may not change it, or the tables are of a newer release.
        """
        with self._explaining():
            session = self._session(limited=False)
            try:
                before = self._bring_up(session)
            finally:
                session.close()
        return before, self.schema.newest

    def access(self) -> Access:
        """What the role may do with our tables, and what it lacks. Creates nothing.

        Raises:
            Temporary: The server is away.
            Permanent: It cannot be used.
        """
        with self._explaining():
            session = self._session()
            try:
                return access_of(session, self.schema.name)
            finally:
                session.close()

    def close(self) -> None:
        """Close the connections that nobody uses. A later call opens others."""
        with self._lock:
            idle, self._idle = self._idle, []
        for session in idle:
            session.close()

    def _start_anew(self) -> None:
        """Begin without connections: those of the parent are left alone, and not even closed."""
        self._inherited += self._idle
        self._idle = []
        self._lock = threading.Lock()
        self._slots = threading.BoundedSemaphore(self._connections)

    # Connections

    def _sent(self, message: bytes, values: Mapping[str, Any] | None) -> list[Rows]:
        if not self._slots.acquire(timeout=self._seconds):
            raise Temporary(f"{self.place}: all {self._connections} connections are in use")
        try:
            session = self._idle_session() or self._opened()
            try:
                return session.all_rows(message, values)
            finally:
                self._put_back(session)
        finally:
            self._slots.release()

    def _idle_session(self) -> Session | None:
        while True:
            with self._lock:
                if not self._idle:
                    return None
                session = self._idle.pop()
            if session.is_quiet:
                return session
            session.close()

    def _put_back(self, session: Session) -> None:
        """Keep a connection for the next call, unless something is wrong with it."""
        if session.is_idle:
            with self._lock:
                self._idle.append(session)
        else:
            with suppress(psycopg.Error):
                session.close()

    def _opened(self) -> Session:
        """A new connection to tables of this release; creates them where there are none."""
        session = self._session()
        try:
            with self._explaining():
                version = self.schema.version(session) or self._created(session)
                self.schema.check(version)
        except BaseException:
            session.close()
            raise
        return session

    def _session(self, limited: bool = True) -> Session:
        return Session.open(self._parameters, self._seconds + _SPARE_SECONDS if limited else None)

    def _created(self, session: Session) -> int:
        try:
            self._bring_up(session)
        except psycopg.errors.InsufficientPrivilege as error:
            name, role = self.schema.name, session.info.user
            raise Permanent(
                f"the schema {name} has no tables yet, and {role} may not create them ({first_line(error)}): "
                f"run 'autoretrain db upgrade' as a role that may, or let its owner CREATE SCHEMA {name} "
                f"AUTHORIZATION {role}"
            ) from error
        return self.schema.newest

    def _bring_up(self, session: Session) -> int:
        for _ in range(_ATTEMPTS - 1):
            try:
                return self._brought_up(session)
            except (psycopg.IntegrityError, psycopg.ProgrammingError) as error:
                if error.sqlstate not in (*_CREATED_MEANWHILE, *_NOT_KNOWN_YET):
                    raise
        return self._brought_up(session)

    def _brought_up(self, session: Session) -> int:
        with session.transaction():
            return self.schema.bring_up(session)

    # Errors

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            raise self._meaning(error) from error
        except Permanent as error:
            if self.place in str(error):
                raise
            raise Permanent(f"{self.place}: {error}") from error.__cause__

    def _meaning(self, error: psycopg.Error) -> Exception:
        if (error.sqlstate or "")[:2] == "23" and error.diag.constraint_name:
            return Conflict(error.diag.constraint_name)
        return explained(error, self.place)


_REGISTERED = threading.Lock()
_DATABASES: weakref.WeakSet[PostgresDatabase] = weakref.WeakSet()


def _after_fork() -> None:
    for database in _DATABASES:
        database._start_anew()
    _REGISTERED.release()


# A child must not speak on its parent's connections.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_REGISTERED.acquire, after_in_parent=_REGISTERED.release, after_in_child=_after_fork
    )
