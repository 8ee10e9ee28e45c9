"""Which store keeps the ledger, and the adapters over it: for the container, and for commands that only look.

So this module imports the standard library alone; an adapter is imported when it is built.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..ports.errors import ConfigurationError, Permanent, Problem

if TYPE_CHECKING:
    from ..adapters.ledger_postgres import PostgresLedger
    from ..adapters.ledger_sqlite import SqliteLedger
    from ..adapters.observations_postgres import PostgresObservations
    from ..adapters.observations_sqlite import SqliteObservations

DSN_VARIABLE = "AUTORETRAIN_LEDGER_DSN"
LEDGER_FILE, OBSERVATIONS_FILE = "ledger.db", "observations.db"
DEFAULT_SCHEMA = "autoretrain"
SCHEMA_PATTERN = r"[a-z_][a-z0-9_]{0,62}"
KINDS = ("sqlite", "postgres")

PASSWORD_FIX = (
    f"holds a password: leave it out here, and set {DSN_VARIABLE} (the whole connection string, or only its "
    "password), PGPASSWORD or ~/.pgpass"
)
_PASSWORD = re.compile(r"://[^/?#@]*:[^/?#]*@|(^|[\s?&])(ssl)?password\s*=", re.IGNORECASE)


def holds_password(dsn: str) -> bool:
    """Whether a connection string holds a password, in any form that libpq reads."""
    return bool(_PASSWORD.search(dsn))


@dataclass(frozen=True, slots=True)
class Store:
    """Where ledger, agenda, limits, outbox and the record of looks are.

    Attributes:
        state_dir: Directory of everything else, and of SQLite's files.
        kind: The technology.
        dsn: Connection string of PostgreSQL, with its password; empty on SQLite.
        schema: Name of the schema on PostgreSQL.
    """

    state_dir: Path
    kind: Literal["sqlite", "postgres"] = "sqlite"
    dsn: str = field(default="", repr=False)
    schema: str = DEFAULT_SCHEMA

    def ledger(self) -> SqliteLedger | PostgresLedger:
        """Build the adapter of ledger, agenda, limits and outbox; nothing is opened yet.

        Raises:
            ConfigurationError: The connection string cannot be read.
            MissingExtra: The driver is not installed.
        """
        if self.kind == "sqlite":
            from ..adapters.ledger_sqlite import SqliteLedger

            return SqliteLedger(self.state_dir / LEDGER_FILE)
        from ..adapters.ledger_postgres import PostgresLedger

        return PostgresLedger(self.dsn, schema=self.schema)

    def observations(self) -> SqliteObservations | PostgresObservations:
        """Build the adapter of the record of looks; nothing is opened yet."""
        if self.kind == "sqlite":
            from ..adapters.observations_sqlite import SqliteObservations

            return SqliteObservations(self.state_dir / OBSERVATIONS_FILE)
        from ..adapters.observations_postgres import PostgresObservations

        return PostgresObservations(self.dsn, schema=self.schema)


def store_of(state_dir: Path, kind: str, dsn: str | None, schema: str, secret: str | None) -> Store:
    """Put the settings and the secret together.

    Args:
        state_dir: See ``Store``.
        kind: ``ledger.store``.
        dsn: ``ledger.dsn``; ``None`` when it is not set.
        schema: ``ledger.schema``.
        secret: ``AUTORETRAIN_LEDGER_DSN``: what it names wins over ``dsn``; ``None`` when it is not set.

    Raises:
        ConfigurationError: PostgreSQL is asked for, and nothing says where it is.
        MissingExtra: The driver is not installed.
    """
    if kind == "sqlite":
        return Store(state_dir)
    if not (dsn or secret):
        fix = f'is missing: write "host=db.example dbname=autoretrain", or set {DSN_VARIABLE}'
        raise ConfigurationError([Problem("ledger.dsn", "", fix)])
    from ..adapters.postgres_driver import merged_dsn

    merged = ""
    for where, given in (("ledger.dsn", dsn), (DSN_VARIABLE, secret)):
        try:
            merged = merged_dsn(merged, given or "")
        except Permanent as error:
            raise ConfigurationError([Problem(where, "", str(error))]) from None
    return Store(state_dir, "postgres", merged, schema)


def store_of_file(values: Mapping[str, Any], state_dir: Path) -> Store:
    """Find the store from the plain values of a settings file, and the environment.

    Raises:
        ConfigurationError: The section ``ledger`` cannot be used; every problem at once.
        MissingExtra: The driver is not installed.
    """
    section = values.get("ledger", {})
    if not isinstance(section, Mapping):
        raise ConfigurationError([Problem("ledger", "", "must be a table")])
    kind, dsn = section.get("store", "sqlite"), section.get("dsn")
    schema = section.get("schema", DEFAULT_SCHEMA)
    problems = []
    if kind not in KINDS:
        problems.append(Problem("ledger.store", repr(kind), "must be 'sqlite' or 'postgres'"))
    if dsn is not None and not isinstance(dsn, str):
        problems.append(Problem("ledger.dsn", "", "must be text"))
    elif dsn and holds_password(dsn):
        problems.append(Problem("ledger.dsn", "", PASSWORD_FIX))
    if not (isinstance(schema, str) and re.fullmatch(SCHEMA_PATTERN, schema)):
        problems.append(Problem("ledger.schema", repr(schema), f"must match {SCHEMA_PATTERN}"))
    if problems:
        raise ConfigurationError(problems)
    return store_of(state_dir, str(kind), dsn, schema, os.environ.get(DSN_VARIABLE))
