"""``autoretrain db``, tables of another release, and a ledger on PostgreSQL, as a user meets them."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from cli_project import Project, until
from postgres_server import PASSWORD, Postgres, unused_schema

from autoretrain.adapters.ledger_postgres import PostgresLedger
from autoretrain.adapters.ledger_sqlite import SqliteLedger
from autoretrain.entrypoints.cli.main import run
from autoretrain.entrypoints.container import build_ports
from autoretrain.entrypoints.service import exclusive
from autoretrain.entrypoints.settings import load_settings
from autoretrain.entrypoints.stores import holds_password
from autoretrain.entrypoints.testing.store import NOW, request, sealed_entries
from autoretrain.ports.errors import ConfigurationError

FIXTURE = Path(__file__).parent.parent / "fixtures" / "ledger-0.1.0.db"
MODELS = '\n[models.m.training]\ncommand = ["true"]\n'
DSN = "AUTORETRAIN_LEDGER_DSN"


class Said:
    """What a command printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def by(self, *arguments: str, code: int = 0) -> str:
        """Standard output of a command, or its standard error when it is to fail."""
        self._capsys.readouterr()
        found = run(arguments)
        captured = self._capsys.readouterr()
        assert found == code, captured
        assert "unexpected" not in captured.err
        return captured.out if code == 0 or captured.out else captured.err


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    return Said(capsys)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with settings and nothing else, which is the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(DSN, raising=False)
    (tmp_path / "autoretrain.toml").write_text(MODELS)
    return tmp_path


class TestSqlite:
    def test_what_is_not_there_yet_is_said_and_not_created(self, home: Path, said: Said) -> None:
        told = said.by("db", "status")

        assert f"{home}/.autoretrain/ledger.db: not there yet" in told
        assert sorted(path.name for path in home.iterdir()) == ["autoretrain.toml"]

    def test_tables_are_created_and_found(self, home: Path, said: Said) -> None:
        assert "ledger.db: schema created at 4" in said.by("db", "upgrade")
        assert "ledger.db: schema is at 4 already" in said.by("db", "upgrade")
        ledger, observations = json.loads(said.by("db", "status", "--json"))
        assert (ledger["part"], ledger["version"], ledger["needed"]) == ("ledger", 4, 4)
        assert (observations["part"], observations["version"]) == ("observations", 1)

    @pytest.mark.parametrize(
        "command",
        [
            "jobs",
            "jobs --json",
            "show m",
            "audit verify",
            "notices",
            "start m",
            "run --once",
            "run --until-idle",
        ],
    )
    def test_tables_of_an_older_release_are_refused_with_what_to_do(
        self, home: Path, said: Said, command: str
    ) -> None:
        self._older(home)

        told = said.by(*command.split(), code=2)

        assert "schema is 1, and this release needs 4" in told
        assert "run 'autoretrain db upgrade'" in told

    def test_tables_of_an_older_release_are_upgraded(self, home: Path, said: Said) -> None:
        self._older(home)

        assert "run 'autoretrain db upgrade'" in said.by("db", "status", code=2)
        assert "ledger.db: schema brought from 1 to 4" in said.by("db", "upgrade")

        assert "as this release needs it" in said.by("db", "status")
        assert "version 3 promoted" in said.by("jobs", "churn")
        assert "all whole" in said.by("audit", "verify")

    def test_a_downgrade_is_refused(self, home: Path, said: Said) -> None:
        said.by("db", "upgrade")
        with closing(sqlite3.connect(home / ".autoretrain" / "ledger.db")) as database:
            database.execute("PRAGMA user_version = 99")

        for command in ("upgrade", "status"):
            assert "upgrade autoretrain" in said.by("db", command, code=2)

    def test_nothing_is_upgraded_under_a_controller(self, home: Path, said: Said) -> None:
        self._older(home)
        with exclusive(home / ".autoretrain"):
            assert "another 'autoretrain run'" in said.by("db", "upgrade", code=2)
        with closing(SqliteLedger(home / ".autoretrain" / "ledger.db")) as ledger:
            assert ledger.versions() == (1, 4)

    @staticmethod
    def _older(home: Path) -> None:
        (home / ".autoretrain").mkdir()
        shutil.copy(FIXTURE, home / ".autoretrain" / "ledger.db")


class TestPlace:
    """Where PostgreSQL is, and what must not stand in the file."""

    @pytest.mark.parametrize(
        ("section", "where", "says"),
        [
            ('store = "mysql"', "ledger.store", "sqlite"),
            ('store = "postgres"', "ledger.dsn", f"is missing: .*{DSN}"),
            ('store = "postgres"\ndsn = "host=db password=sesame"', "ledger.dsn", f"holds a password.*{DSN}"),
            ('store = "postgres"\ndsn = "postgresql://ann:sesame@db/x"', "ledger.dsn", "holds a password"),
            ('store = "postgres"\ndsn = "host=db sesame"', "ledger.dsn", "cannot read"),
            ('store = "postgres"\ndsn = "host=db"\nschema = "No; DROP"', "ledger.schema", "match"),
            ("dsn = 5", "ledger.dsn", ""),
        ],
    )
    @pytest.mark.parametrize("command", ["jobs", "run --once"])
    def test_a_wrong_section_names_field_and_fix(
        self, home: Path, said: Said, section: str, where: str, says: str, command: str
    ) -> None:
        (home / "autoretrain.toml").write_text(f"[ledger]\n{section}\n{MODELS}")

        told = said.by(*command.split(), code=2)

        assert told.startswith(f"autoretrain: {where}")
        assert re.search(says, told)
        assert "sesame" not in told

    def test_a_wrong_variable_is_named(self, home: Path, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
        (home / "autoretrain.toml").write_text(f'[ledger]\nstore = "postgres"\n{MODELS}')
        monkeypatch.setenv(DSN, "postgresql://ann:open@sesame@db/x")

        for command in ("jobs", "check"):
            told = said.by(command, code=2)
            assert told.startswith(f"autoretrain: {DSN}: ")
            assert "sesame" not in told

    @pytest.mark.parametrize(
        ("dsn", "holds"),
        [
            ("host=db user=ann", False),
            ("postgresql://ann@db:5432/x?sslmode=require", False),
            ("postgresql://db/x?options=a:b@c", False),
            ("service=nightly passfile=/etc/pass", False),
            ("host=db password=x", True),
            ("PASSWORD = x", True),
            ("postgresql://ann:x@db/y", True),
            ("postgres://db/y?user=ann&password=x", True),
        ],
    )
    def test_a_password_is_seen_in_every_form(self, dsn: str, holds: bool) -> None:
        assert holds_password(dsn) is holds

    def test_all_of_it_is_one_store(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (home / "autoretrain.toml").write_text(f'[ledger]\nstore = "postgres"\ndsn = "host=db"\n{MODELS}')
        monkeypatch.setenv(DSN, "password=sesame")
        settings = load_settings(home)

        ports = build_ports(settings, {})

        assert isinstance(ports.ledger, PostgresLedger)
        assert len({id(port) for port in (ports.ledger, ports.agenda, ports.limits, ports.outbox)}) == 1
        assert type(ports.observations).__name__ == "PostgresObservations"
        assert ports.ledger.place == "PostgreSQL at db:5432, database of the user"
        assert "sesame" not in repr(settings) + repr(ports) + repr(vars(ports.ledger))

    def test_nothing_is_built_from_a_section_that_is_wrong(self, home: Path) -> None:
        (home / "autoretrain.toml").write_text(f'[ledger]\nstore = "postgres"\n{MODELS}')
        with pytest.raises(ConfigurationError, match=r"ledger\.dsn: is missing"):
            build_ports(load_settings(home), {})


@pytest.mark.service
@pytest.mark.xdist_group("postgres")
class TestPostgres:
    @pytest.fixture
    def schema(self) -> str:
        return unused_schema()

    @pytest.fixture
    def home(self, home: Path, postgres: Postgres, schema: str, monkeypatch: pytest.MonkeyPatch) -> Path:
        """The same directory, with its ledger on PostgreSQL."""
        monkeypatch.setenv(DSN, f"password='{PASSWORD}'")
        (home / "autoretrain.toml").write_text(_section(postgres, schema) + MODELS)
        return home

    def test_looking_creates_nothing(self, home: Path, said: Said, postgres: Postgres, schema: str) -> None:
        assert "database autoretrain: not there yet" in said.by("db", "status")
        assert "no jobs yet" in said.by("jobs")
        assert "not yet" in said.by("show", "m")
        assert "all whole" in said.by("audit", "verify")

        found = postgres.sql(f"SELECT count(*) FROM pg_namespace WHERE nspname = '{schema}'", "autoretrain")
        assert found == [(0,)]
        assert sorted(path.name for path in home.iterdir()) == ["autoretrain.toml"]

    def test_tables_are_created_found_and_read(
        self, home: Path, said: Said, postgres: Postgres, schema: str
    ) -> None:
        assert "schema created at 3" in said.by("db", "upgrade")
        assert "schema is at 3 already" in said.by("db", "upgrade")
        (row,) = json.loads(said.by("db", "status", "--json"))
        assert (row["version"], row["needed"]) == (3, 3)
        with closing(PostgresLedger(postgres.dsn(), schema=schema)) as ledger:
            ledger.append(request(sealed_entries("m", 3)))

        assert "all whole: 3 entries" in said.by("audit", "verify")

    def test_a_newer_schema_is_refused(self, home: Path, said: Said, postgres: Postgres, schema: str) -> None:
        said.by("db", "upgrade")
        postgres.sql(f"UPDATE {schema}.schema_version SET version = 99", "autoretrain")

        for command in ("jobs", "audit verify", "db upgrade", "db status", "run --once"):
            assert "upgrade autoretrain" in said.by(*command.split(), code=2)

    def test_a_wrong_password_is_told_without_it(
        self, home: Path, said: Said, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(DSN, "password=hunter2")

        for command in ("jobs", "db status", "db upgrade", "run --once", "start m"):
            told = said.by(*command.split(), code=2)
            assert "it refuses user or password" in told
            assert "hunter2" not in told

    def test_a_server_that_is_away_may_be_asked_again(
        self, home: Path, said: Said, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(DSN, "port=1")

        assert "no connection" in said.by("jobs", code=1)

    @pytest.mark.slow
    def test_two_run_beside_one_another_and_one_trains(
        self, tmp_path: Path, postgres: Postgres, schema: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As processes, until the job that one of them is asked for waits for approval."""
        monkeypatch.setenv(DSN, f"password='{PASSWORD}'")
        project = Project.create(tmp_path)
        file = tmp_path / "autoretrain.toml"
        file.write_text(_section(postgres, schema) + file.read_text())
        running = [project.spawn("run") for _ in range(2)]
        try:
            with closing(PostgresLedger(postgres.dsn(), schema=schema)) as ledger:
                until(lambda: ledger.versions()[0] and len(ledger.controllers()) == 2, 120)
                job_id = project.ask("start", "boiler")
                until(lambda: project.read("jobs")[0]["awaiting_until"], 120)

                assert project.trainings == [job_id]
                assert not (tmp_path / ".autoretrain" / "ledger.db").exists()
                for process in running:
                    process.terminate()
                assert [process.wait(60) for process in running] == [0, 0]
                assert list(ledger.controllers()) == []
                assert ledger.claim(NOW, "C", 60.0).leases
        finally:
            project.stop()
            for process in running:
                process.kill()
                process.wait()


def _section(postgres: Postgres, schema: str) -> str:
    dsn = postgres.dsn(password="")
    return f'[ledger]\nstore = "postgres"\ndsn = "{dsn}"\nschema = "{schema}"\n'
