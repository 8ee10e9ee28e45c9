"""What PostgreSQL's errors mean to us: by SQLSTATE, or by their words where that is all there is."""

from __future__ import annotations

from ..ports.errors import AutoRetrainError, Permanent, Temporary
from .postgres_driver import psycopg

_TEMPORARY = {
    "25006": "it is read-only (a standby, perhaps); point ledger.dsn at the primary",
    "53100": "its disk is full",
    "53200": "it is out of memory",
    "53300": "it has no connection left; lower the number of its users, or raise max_connections",
    "55P03": "another transaction holds what this one needs",
    "57014": "the statement took too long",
    "57P01": "it is shutting down",
    "57P02": "it has crashed, and restarts",
    "57P03": "it is starting or stopping",
    "58030": "its disk gave an error",
    "40001": "another transaction came between",
    "40P01": "two transactions waited for one another",
}
_TEMPORARY_CLASSES = {
    "08": "the connection was lost",
    "40": "the transaction was undone",
    "53": "it lacks a resource",
    "55": "something is in use",
    "57": "somebody interrupted it",
    "58": "its system gave an error",
}

_WRONG_CREDENTIALS = (
    "it refuses user or password: check ledger.dsn, and the password in AUTORETRAIN_LEDGER_DSN, "
    "PGPASSWORD or ~/.pgpass"
)
_NO_DATABASE = "there is no such database: create it (CREATE DATABASE …), or correct ledger.dsn"
_PERMANENT = {
    "3D000": _NO_DATABASE,
    "42501": "the role may not do that: autoretrain doctor names the GRANT that it lacks",
    "42P01": "a table is missing, or the role may not use the schema: run 'autoretrain doctor', "
    "'autoretrain db status'",
    "42703": "a column is missing: run 'autoretrain db status'",
    "54000": "a name is too long for it",
    "XX001": "it is damaged: restore it from a backup",
    "XX002": "an index of it is damaged: REINDEX it",
}

# Before there is a session, libpq gives no SQLSTATE, and PgBouncer the same one for everything.
_WORDS = {
    "password authentication failed": _WRONG_CREDENTIALS,
    "authentication failed": _WRONG_CREDENTIALS,
    "no password supplied": _WRONG_CREDENTIALS,
    "no such user": _WRONG_CREDENTIALS,
    "no pg_hba.conf entry": "its pg_hba.conf lets nobody in from here as this user; add a line there",
    "no such database": _NO_DATABASE,
    "unsupported startup parameter": "PgBouncer refuses a parameter of ledger.dsn: leave it out, or name it "
    "in its ignore_startup_parameters",
    "invalid connection option": "ledger.dsn has an option that libpq does not know: check its spelling",
    "invalid sslmode": "ledger.dsn has an sslmode that libpq does not know",
    "certificate verify failed": "its certificate is not one to be trusted: check sslrootcert",
}


def explained(error: psycopg.Error, where: str) -> AutoRetrainError:
    """Return the error of ours that a psycopg error means.

    Args:
        error: What psycopg raised.
        where: The server and the database, without credentials.
    """
    text = first_line(error)
    state = error.sqlstate or ""
    if reason := _permanent(state, text):
        return Permanent(f"{where}: {reason} ({text})")
    if reason := _TEMPORARY.get(state) or _TEMPORARY_CLASSES.get(state[:2]):
        return Temporary(f"{where}: {reason} ({text})")
    if not state and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return Temporary(f"{where}: no connection, or it was lost ({text})")
    return Permanent(f"{where}: {type(error).__name__}: {text}")


def first_line(error: psycopg.Error) -> str:
    """What the server says, in one line and without the values that it was given."""
    return (error.diag.message_primary or str(error).strip() or type(error).__name__).splitlines()[0]


def _permanent(state: str, text: str) -> str | None:
    if state in _PERMANENT:
        return _PERMANENT[state]
    if state[:2] == "28":
        return _WRONG_CREDENTIALS
    if state not in ("", "08P01"):
        return None
    if 'database "' in text and "does not exist" in text:
        return _NO_DATABASE
    return next((reason for words, reason in _WORDS.items() if words in text), None)
