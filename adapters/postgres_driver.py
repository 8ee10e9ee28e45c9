"""psycopg as we use it: any text, one message a call, and no waiting for a server that says nothing."""

from __future__ import annotations

import re
import select
from collections.abc import Mapping
from typing import Any, Self

from ..ports.errors import MissingExtra, Permanent

try:
    import psycopg as psycopg
except ImportError as error:
    raise MissingExtra("psycopg", "postgres") from error

from psycopg import sql as sql
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus
from psycopg.types.string import StrDumper, TextLoader

Rows = list[tuple[Any, ...]]

_DEFAULTS = {
    "connect_timeout": "5",
    "fallback_application_name": "autoretrain",
    "keepalives": "1",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
"""What libpq is told unless the user says otherwise; a vanished server is noticed within a minute."""

_ESCAPE = "\x1a"


def escaped(text: str) -> str:
    """Return text that PostgreSQL can keep: without NUL; ``unescaped`` gives the original back."""
    if "\x00" in text or _ESCAPE in text:
        return text.replace(_ESCAPE, f"{_ESCAPE}1").replace("\x00", f"{_ESCAPE}0")
    return text


def unescaped(text: str) -> str:
    """Return what ``escaped`` was given."""
    if _ESCAPE in text:
        return text.replace(f"{_ESCAPE}0", "\x00").replace(f"{_ESCAPE}1", _ESCAPE)
    return text


class _Dumper(StrDumper):
    def dump(self, obj: str) -> Any:
        return super().dump(escaped(obj))


class _Loader(TextLoader):
    def load(self, data: Any) -> Any:
        return unescaped(str(super().load(data)))


class Session(psycopg.Connection[tuple[Any, ...]]):
    """A connection in which every call is one message, and has a deadline.

    Attributes:
        deadline: Seconds that an answer may take; ``None`` waits for ever.
    """

    deadline: float | None = None

    @classmethod
    def open(cls, parameters: Mapping[str, str], deadline: float | None) -> Self:
        """Connect.

        Args:
            parameters: As libpq names them.
            deadline: See the attribute.

        Raises:
            psycopg.Error: No server can be reached, or it refuses.
        """
        session = cls.connect(
            **parameters,  # type: ignore[arg-type]
            autocommit=True,
            prepare_threshold=None,  # PgBouncer gives the session to somebody else after each transaction
            cursor_factory=psycopg.ClientCursor,  # puts the values into the message, so that it is one
        )
        session.deadline = deadline
        session.adapters.register_dumper(str, _Dumper)
        session.adapters.register_loader("text", _Loader)
        return session

    def __del__(self, __warn: Any = None) -> None:
        """Say nothing: what is open is closed by the end of the process."""

    def wait(self, gen: PQGen[Any], interval: float = 0.1, timeout: float | None = None) -> Any:
        """Wait for an answer, and hang up when there is none in time."""
        try:
            return super().wait(gen, interval, self.deadline if timeout is None else timeout)
        except psycopg.OperationalError:
            if self.pgconn.transaction_status != TransactionStatus.ACTIVE:
                raise
            self.pgconn.finish()  # whatever it says later is no answer to the next question
            raise psycopg.OperationalError("no answer in time") from None

    def all_rows(self, message: bytes, values: Mapping[str, Any] | None) -> list[Rows]:
        """Send a message, and return the rows of each of its statements that has some to give."""
        found = []
        with self.cursor() as cursor:
            cursor.execute(message, values)
            while True:
                if cursor.description is not None:
                    found.append(cursor.fetchall())
                if not cursor.nextset():
                    return found

    @property
    def is_idle(self) -> bool:
        """Whether it is connected, and between transactions."""
        return self.info.transaction_status == TransactionStatus.IDLE

    @property
    def is_quiet(self) -> bool:
        """Whether the server has said nothing since the last answer; the last thing it says is goodbye."""
        poll = select.poll()
        try:
            poll.register(self.fileno(), select.POLLIN | select.POLLHUP | select.POLLERR)
        except psycopg.OperationalError:
            return False
        return not poll.poll(0)


def parameters_of(dsn: str) -> dict[str, str]:
    """Read a connection string over our defaults; raises ``Permanent`` as ``merged_dsn`` does."""
    return {**_DEFAULTS, **_read(dsn), "client_encoding": "utf8"}


def merged_dsn(dsn: str, other: str) -> str:
    """Lay one connection string over another.

    Args:
        dsn: ``key=value`` pairs or a URL, as libpq takes them.
        other: What it names wins.

    Raises:
        Permanent: One cannot be read. It is not repeated, since it may hold a password.
    """
    return make_conninfo("", **{**_read(dsn), **_read(other)})


def _read(dsn: str) -> dict[str, str]:
    fix = "in a URL, write : / @ % of a password as %3A %2F %40 %25; in key=value, quote values with spaces"
    try:
        if "\x00" in dsn:
            raise ValueError("libpq would read no further than that")
        given = {name: str(value) for name, value in conninfo_to_dict(dsn).items() if value is not None}
    except (psycopg.Error, ValueError):
        raise Permanent(f"libpq cannot read this connection string: {fix}") from None
    if "@" in given.get("host", ""):
        raise Permanent(f"this connection string has an @ in the name of its host: {fix}")
    return given


def place_of(parameters: Mapping[str, str]) -> str:
    """Say which database parameters lead to, without credentials."""
    if service := parameters.get("service"):
        return f"PostgreSQL, service {service}"
    host = parameters.get("host") or parameters.get("hostaddr") or "local"
    address = host if re.search("[/,]", host) else f"{host}:{parameters.get('port', '5432')}"
    return f"PostgreSQL at {address}, database {parameters.get('dbname') or 'of the user'}"
