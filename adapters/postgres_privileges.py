"""What a role has to be allowed in our schema on PostgreSQL, and which of it one lacks.

The list stands here and not in the statements, which are many: a test takes each of it away by itself, and
sees what no longer works.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .postgres_driver import Session, sql

PRIVILEGES: Mapping[str, tuple[str, ...]] = {
    "schema_version": ("SELECT",),
    "entries": ("SELECT", "INSERT"),
    "leases": ("SELECT", "UPDATE"),
    "controllers": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "agenda": ("SELECT", "INSERT", "UPDATE"),
    "units": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "outbox": ("SELECT", "INSERT", "UPDATE"),
    "looks": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "looks_totals": ("SELECT", "INSERT", "UPDATE"),
}
"""By table. ``USAGE`` of the schema comes before them all."""

# By the catalogue alone, which everybody may read: names of our tables cannot be used without USAGE.
_ROLE = """
SELECT current_setting('server_version'), current_user, spaces.oid IS NOT NULL,
    coalesce(has_schema_privilege(spaces.oid, 'USAGE'), false),
    coalesce(
        has_schema_privilege(spaces.oid, 'CREATE'), has_database_privilege(current_database(), 'CREATE')
    ),
    EXISTS (SELECT FROM pg_catalog.pg_class WHERE relnamespace = spaces.oid AND relname = 'schema_version')
FROM (SELECT {schema} AS name) AS ours LEFT JOIN pg_catalog.pg_namespace AS spaces ON nspname = ours.name
"""
_LACKING = """
SELECT wanted.name, wanted.privilege, things.oid IS NULL
FROM unnest(%(tables)s::text[], %(privileges)s::text[]) WITH ORDINALITY AS wanted (name, privilege, place)
LEFT JOIN pg_catalog.pg_class AS things ON relname = wanted.name
    AND relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = {schema})
WHERE things.oid IS NULL OR NOT has_table_privilege(things.oid, wanted.privilege)
ORDER BY place
"""


@dataclass(frozen=True, slots=True)
class Lack:
    """Something that is not allowed, or not there.

    Attributes:
        text: What, in words.
        fix: The statement that allows it, for the owner of the schema; empty where none does.
        blinds: Whether nothing can be read without it.
    """

    text: str
    fix: str
    blinds: bool


@dataclass(frozen=True, slots=True)
class Access:
    """What a role finds on a server.

    Attributes:
        server: Version of the server.
        role: Name of the role.
        has_tables: Whether our tables are there.
        may_create: Whether the role may create them.
        lacks: What it lacks to work with them.
    """

    server: str
    role: str
    has_tables: bool
    may_create: bool
    lacks: tuple[Lack, ...]


def grants(schema: str, role: str) -> list[str]:
    """The statements that allow a role all that it needs, and no more; for the owner of the schema."""
    return [_grant("USAGE", f"SCHEMA {_name(schema)}", role), *_table_grants(PRIVILEGES, schema, role)]


def access_of(session: Session, schema: str) -> Access:
    """Look at what the role of a connection may do in a schema. Changes nothing."""
    literal = sql.Literal(schema)
    role_query = sql.SQL(_ROLE).format(schema=literal).as_bytes(session)
    server, role, exists, usage, may_create, has_tables = session.all_rows(role_query, None)[0][0]
    lacks: list[Lack] = []
    if exists and not usage:
        usage_fix = _grant("USAGE", f"SCHEMA {_name(schema)}", role)
        lacks.append(Lack(f"may not use the schema {schema} (USAGE)", usage_fix, blinds=True))
    if has_tables:
        pairs = [(table, each) for table, privileges in PRIVILEGES.items() for each in privileges]
        values = {"tables": [table for table, _ in pairs], "privileges": [each for _, each in pairs]}
        query = sql.SQL(_LACKING).format(schema=literal).as_bytes(session)
        lacks += _lacks(session.all_rows(query, values)[0], schema, role)
    return Access(server.split()[0], role, has_tables, may_create, tuple(lacks))


def _lacks(rows: list[tuple[str, str, bool]], schema: str, role: str) -> list[Lack]:
    lacking: dict[str, list[str]] = {}
    for table, privilege, _ in rows:
        lacking.setdefault(table, []).append(privilege)
    gone = {table for table, _, absent in rows if absent}
    found = [Lack(f"the table {table} is gone", "", blinds=True) for table in lacking if table in gone]
    for table, privileges in lacking.items():
        if table not in gone:
            (fix,) = _table_grants({table: tuple(privileges)}, schema, role)
            found.append(Lack(f"may not {', '.join(privileges)} on {table}", fix, "SELECT" in privileges))
    return found


def _table_grants(privileges: Mapping[str, tuple[str, ...]], schema: str, role: str) -> list[str]:
    return [_grant(", ".join(each), f"{_name(schema)}.{table}", role) for table, each in privileges.items()]


def _grant(what: str, on: str, role: str) -> str:
    return f"GRANT {what} ON {on} TO {_name(role)};"


def _name(name: str) -> str:
    return sql.Identifier(name).as_string(None)
