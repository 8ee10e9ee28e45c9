"""Our tables on a PostgreSQL server: which version they have, and how they come to this release's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from ..ports.errors import Permanent
from .postgres_driver import Session, sql

_OLDEST_SERVER = 130000  # PostgreSQL 13: gen_random_uuid() without an extension

# Every answer is of one snapshot. What to_regclass() tells is of another: of the names that the session
# remembers, which are a moment behind when somebody else has just created them.
_LOOK = """
SELECT current_setting('server_version_num')::integer,
    current_setting('server_encoding'),
    'schema_version' = ANY (tables.names),
    cardinality(tables.names) > 0,
    EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = {name})
FROM (
    SELECT ARRAY (
        SELECT things.relname::text FROM pg_catalog.pg_class AS things
        JOIN pg_catalog.pg_namespace AS spaces ON spaces.oid = things.relnamespace
        WHERE spaces.nspname = {name}
    ) AS names
) AS tables
"""


@cache
def released_scripts() -> Mapping[int, str]:
    """The SQL of every version by its number, in order; one that has been released is never edited."""
    files = sorted(Path(__file__).with_name("sql").glob("postgres_[0-9][0-9][0-9][0-9].sql"))
    return {int(file.stem[-4:]): file.read_text(encoding="utf-8") for file in files}


@dataclass(frozen=True, slots=True)
class PostgresSchema:
    """The schema that holds our tables.

    Attributes:
        name: Its name within the database.
        scripts: The SQL of every version by its number; each brings the one before it up.
    """

    name: str
    scripts: Mapping[int, str] = field(default_factory=released_scripts, repr=False)

    @property
    def newest(self) -> int:
        """The version that this release works with."""
        return max(self.scripts)

    def version(self, session: Session) -> int:
        """Return the version that a database has; 0 when our tables are not there.

        Raises:
            Permanent: The server is too old, the database's encoding is not UTF-8, or the schema holds
                something else.
        """
        server, encoding, ours, occupied, _ = self._look(session)
        if server < _OLDEST_SERVER:
            raise Permanent(f"it is PostgreSQL {server // 10000}, and 13 is the oldest that is supported")
        if encoding != "UTF8":
            raise Permanent(f"its encoding is {encoding}: create a database with ENCODING 'UTF8'")
        if ours:
            return self._recorded(session)
        if occupied:
            raise Permanent(
                f"the schema {self.name} holds tables of something else: name another one with ledger.schema"
            )
        return 0

    def check(self, version: int) -> None:
        """Refuse tables of another release.

        Raises:
            Permanent: They are older or newer; says what to do.
        """
        if version > self.newest:
            known = f"this release knows none above {self.newest}"
            raise Permanent(f"its schema is {version}, and {known}: upgrade autoretrain")
        if version < self.newest:
            raise Permanent(
                f"its schema is {version}, and this release needs {self.newest}: stop every controller, back "
                "it up, and run 'autoretrain db upgrade'"
            )

    def bring_up(self, session: Session) -> int:
        """Create the tables or bring them to the newest version, all or nothing, in the open transaction.

        Of several processes that do so, one waits for the other and finds it done; of several that create
        them, all but one get an ``IntegrityError`` or a ``ProgrammingError`` of a name that is taken.

        Returns:
            The version that there was.

        Raises:
            Permanent: The schema belongs to something else, or to a newer release.
        """
        version = self.version(session)
        self._use(session)
        if version:
            version = session.all_rows(b"SELECT version FROM schema_version FOR UPDATE", None)[0][0][0]
        elif not self._look(session)[4]:
            session.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(self.name)))
        if version > self.newest:
            self.check(version)
        for number in range(version + 1, self.newest + 1):
            session.execute(self.scripts[number].encode())
        if version < self.newest:
            session.execute("UPDATE schema_version SET version = %s", (self.newest,))
        return int(version)

    def _use(self, session: Session) -> None:
        session.execute(search_path(self.name))

    def _look(self, session: Session) -> tuple[int, str, bool, bool, bool]:
        query = sql.SQL(_LOOK).format(name=sql.Literal(self.name))
        server, encoding, ours, occupied, there = session.all_rows(query.as_bytes(session), None)[0][0]
        return server, encoding, ours, occupied, there

    def _recorded(self, session: Session) -> int:
        table = sql.Identifier(self.name, "schema_version")
        query = sql.SQL("SELECT version FROM {}").format(table).as_bytes(session)
        return int(session.all_rows(query, None)[0][0][0])


def search_path(schema: str) -> sql.Composed:
    """The statement that finds our tables by their bare names until the transaction ends.

    ``pg_temp`` comes last: behind PgBouncer, a session may have temporary tables of somebody else.
    """
    return sql.SQL("SET LOCAL search_path TO {}, pg_temp").format(sql.Identifier(schema))
