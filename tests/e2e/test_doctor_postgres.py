"""The doctor before a ledger on PostgreSQL: what a role lacks, and tables of another release, or none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from postgres_server import Postgres, unused_schema
from project_kit import Project

from autoretrain.adapters.ledger_postgres import PostgresLedger
from autoretrain.adapters.postgres_privileges import grants
from autoretrain.entrypoints.doctor import Finding, examine

from services import ROOT

pytestmark = [pytest.mark.service, pytest.mark.xdist_group("postgres")]

_IN_THE_LEDGER = {"anchors", "notices", "controller"}


@pytest.fixture
def schema(postgres: Postgres) -> Iterator[str]:
    """A schema with the tables, which another role than their owner's is let into."""
    name = unused_schema()
    with closing(PostgresLedger(postgres.dsn(), schema=name)) as owner:
        owner.upgrade()
    for statement in grants(name, "guest"):
        postgres.sql(statement, "autoretrain")
    yield name
    postgres.sql(f"DROP SCHEMA {name} CASCADE", "autoretrain")


def found(folder: Path, postgres: Postgres, schema: str, **dsn: str) -> list[Finding]:
    """What the doctor says, asked as the role of the controller."""
    given = postgres.dsn(**{"user": "guest", "password": "", **dsn})
    more = f'ledger.store = "postgres"\nledger.dsn = "{given}"\nledger.schema = "{schema}"\n'
    Project.create(folder, more=more)
    return examine(folder)


def of_ledger(findings: list[Finding]) -> list[Finding]:
    return [each for each in findings if each.about == "ledger"]


def test_all_that_is_needed(tmp_path: Path, postgres: Postgres, schema: str) -> None:
    allowed, whole, *careless = of_ledger(found(tmp_path, postgres, schema))
    place = f"PostgreSQL at 127.0.0.1:{postgres.port}, database autoretrain"
    assert (allowed.status, whole.status) == ("ok", "ok")
    assert allowed.text.startswith(f"{place}: PostgreSQL 1")
    assert allowed.text.endswith(" permits guest all that is needed")
    assert whole.text == f"{place}: 0 streams, all whole"
    assert [each.text.partition(":")[0] for each in careless] == ["fsync is off", "full_page_writes is off"]


def test_each_table_is_named_with_the_statement_that_mends_it(
    tmp_path: Path, postgres: Postgres, schema: str
) -> None:
    postgres.sql(f"REVOKE INSERT, UPDATE ON {schema}.outbox FROM guest", "autoretrain")
    postgres.sql(f"REVOKE DELETE ON {schema}.units FROM guest", "autoretrain")
    findings = found(tmp_path, postgres, schema)
    units, outbox, whole, *warned = of_ledger(findings)
    assert units.text.endswith("database autoretrain: the role guest may not DELETE on units")
    assert outbox.text.endswith("the role guest may not INSERT, UPDATE on outbox")
    grant = f'as owner of the schema: GRANT INSERT, UPDATE ON "{schema}".outbox TO "guest";'
    assert (outbox.status, outbox.fix) == ("problem", grant)
    assert "all whole" in whole.text  # what can be read is looked at
    assert {each.about for each in findings} >= _IN_THE_LEDGER
    assert not [each for each in warned if each.status == "problem"]


@pytest.mark.parametrize(
    ("revoked", "says"),
    [
        ("USAGE ON SCHEMA {schema}", "may not use the schema"),
        ("SELECT ON {schema}.schema_version", "may not SELECT on schema_version"),
    ],
)
def test_a_ledger_that_cannot_be_read_is_told_once(
    tmp_path: Path, postgres: Postgres, schema: str, revoked: str, says: str
) -> None:
    postgres.sql(f"REVOKE {revoked.format(schema=schema)} FROM guest", "autoretrain")
    findings = found(tmp_path, postgres, schema)
    lacking, left_out = of_ledger(findings)
    assert (lacking.status, says in lacking.text) == ("problem", True)
    assert "GRANT" in lacking.fix
    assert (
        left_out.text == "anchors, notices, gate, controller stand in the ledger, and could not be looked at"
    )
    assert not _IN_THE_LEDGER & {each.about for each in findings}
    assert "mlflow" in {each.about for each in findings}


def test_a_table_that_is_gone(tmp_path: Path, postgres: Postgres, schema: str) -> None:
    postgres.sql(f"DROP TABLE {schema}.agenda", "autoretrain")
    gone, _ = of_ledger(found(tmp_path, postgres, schema))
    assert (gone.status, gone.text.endswith("the table agenda is gone")) == ("problem", True)


@pytest.mark.parametrize(
    ("version", "says"),
    [
        (1, "its schema is 1, and this release needs {newest}: stop every controller, back it up, and run "),
        (9, "its schema is 9, and this release knows none above {newest}: upgrade autoretrain"),
    ],
)
def test_tables_of_another_release(
    tmp_path: Path, postgres: Postgres, schema: str, version: int, says: str
) -> None:
    postgres.sql(f"UPDATE {schema}.schema_version SET version = {version}", "autoretrain")
    allowed, other, _ = of_ledger(found(tmp_path, postgres, schema))
    assert (allowed.status, other.status) == ("ok", "problem")
    newest = len(list((ROOT / "adapters" / "sql").glob("postgres_*.sql")))
    assert says.format(newest=newest) in other.text


@pytest.mark.parametrize(
    ("role", "status", "says"),
    [
        ("guest", "problem", "the tables are not there yet, and the role guest may not create them"),
        ("ann", "warning", "the tables are not there yet"),
    ],
)
def test_tables_that_are_not_there_are_not_made(
    tmp_path: Path, postgres: Postgres, monkeypatch: pytest.MonkeyPatch, role: str, status: str, says: str
) -> None:
    name = unused_schema()
    monkeypatch.setenv("AUTORETRAIN_LEDGER_DSN", postgres.dsn(user=role))
    absent, _ = of_ledger(found(tmp_path, postgres, name))
    assert (absent.status, absent.text.endswith(says)) == (status, True)
    assert "autoretrain db upgrade" in absent.fix
    there = postgres.sql(f"SELECT count(*) FROM pg_namespace WHERE nspname = '{name}'", "autoretrain")
    assert there == [(0,)]


def test_a_server_that_lets_nobody_in_or_is_not_there(tmp_path: Path, postgres: Postgres) -> None:
    for number, (changes, says) in enumerate(
        [({"user": "ann"}, "it refuses user or password"), ({"port": "1"}, "no connection")]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        away, left_out = of_ledger(found(folder, postgres, "autoretrain", **changes))
        assert (away.status, left_out.status) == ("problem", "warning")
        assert says in away.text
