"""The grants of docs/operations.md: enough for a controller, and not one too many."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, closing
from datetime import timedelta
from pathlib import Path

import pytest
from postgres_server import Postgres, unused_schema

from autoretrain.adapters.ledger_postgres import PostgresLedger
from autoretrain.adapters.observations_postgres import PostgresObservations
from autoretrain.adapters.postgres_privileges import PRIVILEGES, grants
from autoretrain.entrypoints.testing.agenda import AgendaContract, ShardedAgendaContract
from autoretrain.entrypoints.testing.ledger import LedgerContract
from autoretrain.entrypoints.testing.limits import LimitsContract
from autoretrain.entrypoints.testing.observations import ObservationsContract
from autoretrain.entrypoints.testing.outbox import OutboxContract
from autoretrain.entrypoints.testing.store import LEASE_SECONDS, NOW, LedgerStore, notice, sealed_entries
from autoretrain.ports.errors import Permanent
from autoretrain.ports.ledger import Append
from autoretrain.ports.limits import Unit
from autoretrain.ports.observations import Look, Observations

from services import ROOT

pytestmark = [pytest.mark.service, pytest.mark.xdist_group("postgres")]

ROLE = "guest"
UNIT = Unit("trainings of the fleet", "", 1)


def documented(schema: str) -> list[str]:
    """The statements of the page, for a schema of the test's and a role of the server's."""
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    block = page.split("<!-- grants: begin -->")[1].split("<!-- grants: end -->")[0]
    statements = re.findall("^GRANT .*;$", block, flags=re.MULTILINE)
    return [each.replace("autoretrain", schema).replace("controller;", f"{ROLE};") for each in statements]


def granted(postgres: Postgres, schema: str) -> str:
    """Create the tables as their owner, and let the other role in by the page; how it connects."""
    with closing(PostgresLedger(postgres.dsn(), schema=schema)) as owner:
        owner.upgrade()
    for statement in documented(schema):
        postgres.sql(statement, "autoretrain")
    return postgres.dsn(user=ROLE)


@pytest.fixture
def schema() -> str:
    return unused_schema()


def all_ways(ledger: PostgresLedger, looks: PostgresObservations) -> None:
    """Everything that a controller and a person ever ask of the ledger, once."""
    ledger.models()
    claim = ledger.claim(NOW, "A", LEASE_SECONDS)
    past = ledger.read("m")
    entries = sealed_entries("m", 1, after=past[-1] if past else None)
    told = notice(f"n{entries[0].seq}")
    epoch = claim.epoch_of("m")
    assert epoch is not None
    ledger.append(Append("m", entries, epoch, NOW, (told,), (UNIT,), owner="j"))
    after = sealed_entries("m", 1, after=entries[0])
    ledger.append(Append("m", after, epoch, settles=(UNIT,), gives_back=True, owner="j"))
    ledger.used([UNIT])
    ledger.holds("m", epoch)
    ledger.set_next_look("m", entries[0].seq + 1, NOW + timedelta(hours=1), epoch)
    ledger.next_look("m")
    ledger.postpone(told.id, None, "away")
    ledger.resend([told.id], NOW)
    ledger.delivered(told.id, NOW)
    ledger.due(NOW, holder="A")
    ledger.dead_letters()
    ledger.counts()
    ledger.controllers()
    ledger.weaknesses()
    ledger.versions()
    looks.record([Look("m", NOW + timedelta(seconds=entries[0].seq), {})])
    looks.recent("m")
    ledger.release("A")
    ledger.claim(NOW, "A", LEASE_SECONDS, model="m")
    ledger.release("A")


def test_the_page_has_the_list_of_the_product(schema: str) -> None:
    assert documented(schema) == [each.replace('"', "") for each in grants(schema, ROLE)]


def test_each_privilege_is_needed_and_named_where_it_is_missing(postgres: Postgres, schema: str) -> None:
    dsn = granted(postgres, schema)
    single = [("SCHEMA " + schema, "USAGE")]
    single += [(f"{schema}.{table}", each) for table, several in PRIVILEGES.items() for each in several]
    with ExitStack() as stack:
        ledger = stack.enter_context(closing(PostgresLedger(dsn, schema=schema)))
        looks = stack.enter_context(closing(PostgresObservations(dsn, schema=schema, keep=2)))
        for on, privilege in single:
            all_ways(ledger, looks)
            assert ledger.access().lacks == ()
            postgres.sql(f"REVOKE {privilege} ON {on} FROM {ROLE}", "autoretrain")
            with pytest.raises(Permanent, match=r"autoretrain doctor"):
                all_ways(ledger, looks)
            (lack,) = ledger.access().lacks
            assert (privilege in lack.text, on.rpartition(".")[2].rpartition(" ")[2] in lack.text) == (
                True,
                True,
            )
            postgres.sql(lack.fix, "autoretrain")
        all_ways(ledger, looks)


def test_entries_cannot_be_made_changeable_by_this_role(postgres: Postgres, schema: str) -> None:
    import psycopg

    dsn = granted(postgres, schema)
    with psycopg.connect(dsn, autocommit=True) as session:
        for statement in (
            f"ALTER TABLE {schema}.entries DISABLE TRIGGER entries_stay",
            f"DELETE FROM {schema}.entries",
            f"UPDATE {schema}.entries SET data = ''",
            f"TRUNCATE {schema}.entries CASCADE",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute(statement.encode())


@pytest.mark.slow
class TestLedgerByTheGrants(
    LedgerContract, AgendaContract, ShardedAgendaContract, LimitsContract, OutboxContract
):
    @pytest.fixture(autouse=True)
    def _server(self, postgres: Postgres) -> None:
        self.postgres = postgres

    def make_store(self, folder: Path, clock: Callable[[], float]) -> AbstractContextManager[LedgerStore]:
        schema = unused_schema()
        return closing(PostgresLedger(granted(self.postgres, schema), schema=schema, clock=clock))


@pytest.mark.slow
class TestObservationsByTheGrants(ObservationsContract):
    @pytest.fixture(autouse=True)
    def _server(self, postgres: Postgres) -> None:
        self.postgres = postgres

    def make_observations(self, folder: Path, keep: int) -> AbstractContextManager[Observations]:
        schema = unused_schema()
        return closing(PostgresObservations(granted(self.postgres, schema), schema=schema, keep=keep))
