"""What is PostgreSQL's own in the ledger for several controllers: locks, processes, forks, schemas, text."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import fields, replace
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from postgres_server import Postgres, unused_schema

from autoretrain.adapters.ledger_postgres import PostgresLedger
from autoretrain.adapters.postgres_append import append_statement
from autoretrain.adapters.postgres_connection import PostgresDatabase
from autoretrain.adapters.postgres_driver import Session, escaped, parameters_of, unescaped
from autoretrain.adapters.postgres_leases import SHARDS
from autoretrain.adapters.postgres_schema import PostgresSchema, released_scripts
from autoretrain.domain.sealing import verify
from autoretrain.entrypoints.testing.store import (
    LEASE_SECONDS,
    NOW,
    ManualClock,
    notice,
    request,
    sealed_entries,
)
from autoretrain.ports.agenda import shard_of
from autoretrain.ports.errors import LeaseLost, LimitReached, Permanent, Temporary
from autoretrain.ports.ledger import Append
from autoretrain.ports.limits import Unit

pytestmark = [pytest.mark.service, pytest.mark.xdist_group("postgres")]

SECONDS = 30  # how long a helper process may take at most, far more than it needs

PRELUDE = """
import json, os, sys, time
from autoretrain.adapters.ledger_postgres import PostgresLedger
from autoretrain.entrypoints.testing.store import NOW, notice, request, sealed_entries
from autoretrain.ports.errors import LeaseLost, LimitReached, Overtaken, Temporary
from autoretrain.ports.ledger import Append
from autoretrain.ports.limits import Unit

ledger = PostgresLedger(sys.argv[1], schema=sys.argv[2])
name = sys.argv[3]
"""


@pytest.fixture
def schema() -> str:
    return unused_schema()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def ledger(postgres: Postgres, schema: str, clock: ManualClock) -> Iterator[PostgresLedger]:
    with closing(PostgresLedger(postgres.dsn(), schema=schema, clock=clock)) as ledger:
        yield ledger


@contextmanager
def another(postgres: Postgres, schema: str, **options: Any) -> Iterator[PostgresLedger]:
    with closing(PostgresLedger(postgres.dsn(), schema=schema, **options)) as ledger:
        yield ledger


def start(script: str, dsn: str, schema: str, name: str = "A") -> subprocess.Popen[str]:
    """Start a process that has a ``ledger`` and a ``name``."""
    source = PRELUDE + textwrap.dedent(script)
    return subprocess.Popen(
        [sys.executable, "-c", source, dsn, schema, name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], line: str = "") -> list[str]:
    """Return the lines a process printed, once it has ended well."""
    output, errors = process.communicate(line, timeout=SECONDS)
    assert process.returncode == 0, errors
    return output.splitlines()


class OpenAppend:
    """A transaction of somebody else: an append, as the adapter writes it, that is not committed yet."""

    def __init__(self, postgres: Postgres, schema: str, batch: Append, *, locked: bool = True) -> None:
        self._session = Session.open(parameters_of(postgres.dsn()), SECONDS)
        statement = append_statement(
            batch, max(released_scripts()), {batch.model: shard_of(batch.model, SHARDS)}
        )
        text = statement.text if locked else statement.text.replace(" FOR SHARE", "")
        assert (text != statement.text) is not locked
        self._session.all_rows(f"BEGIN; SET LOCAL search_path TO {schema}".encode(), None)
        ((((refusal, *_),)),) = self._session.all_rows(text.encode(), statement.values)
        assert refusal == ""

    def commit(self) -> None:
        self._session.all_rows(b"COMMIT", None)
        self._session.close()


def waits(future: Future[Any]) -> bool:
    """Whether a call is still waiting after a moment in which it would have ended."""
    time.sleep(0.3)
    return not future.done()


class TestLease:
    """Of an append under an old lease and a claim of a new one, either comes first, and both know which."""

    def test_a_plain_sub_select_lets_a_stale_append_pass_after_a_new_claim(
        self, postgres: Postgres, schema: str, ledger: PostgresLedger, clock: ManualClock
    ) -> None:
        """Why the lease is locked: this is what happens when it is only looked at."""
        epoch = ledger.claim(NOW, "A", LEASE_SECONDS).epoch_of("m")
        stale = OpenAppend(postgres, schema, Append("m", sealed_entries("m", 1), epoch), locked=False)
        clock.seconds += 2 * LEASE_SECONDS

        taken = ledger.claim(NOW, "B", LEASE_SECONDS, model="m")
        seen = list(ledger.read("m"))
        stale.commit()

        assert taken.epoch_of("m") is not None
        assert seen == []
        assert len(ledger.read("m")) == 1  # behind the back of the new holder

    def test_a_claim_waits_for_an_append_that_has_locked_the_lease(
        self, postgres: Postgres, schema: str, ledger: PostgresLedger, clock: ManualClock
    ) -> None:
        epoch = ledger.claim(NOW, "A", LEASE_SECONDS).epoch_of("m")
        appending = OpenAppend(postgres, schema, Append("m", sealed_entries("m", 1), epoch))
        clock.seconds += 2 * LEASE_SECONDS

        share = ledger.claim(NOW, "B", LEASE_SECONDS)
        with ThreadPoolExecutor(1) as pool:
            claim = pool.submit(ledger.claim, NOW, "B", LEASE_SECONDS, model="m")
            assert waits(claim)
            appending.commit()
            taken = claim.result(SECONDS)

        assert len(share.leases) == SHARDS - 1  # a controller does not wait; it takes the others
        assert taken.epoch_of("m") is not None
        assert len(ledger.read("m")) == 1
        with pytest.raises(LeaseLost):
            ledger.append(Append("m", sealed_entries("m", 1, after=ledger.read("m")[0]), epoch))

    def test_an_append_waits_for_a_claim_and_sees_that_it_has_lost(
        self, postgres: Postgres, schema: str, ledger: PostgresLedger
    ) -> None:
        epoch = ledger.claim(NOW, "A", LEASE_SECONDS).epoch_of("m")
        with psycopg.connect(postgres.dsn()) as claiming, ThreadPoolExecutor(1) as pool:
            claiming.execute(f"UPDATE {schema}.leases SET holder = 'B', epoch = epoch + 1".encode())
            append = pool.submit(ledger.append, Append("m", sealed_entries("m", 1), epoch))
            assert waits(append)
            claiming.commit()

            with pytest.raises(LeaseLost):
                append.result(SECONDS)

        assert list(ledger.read("m")) == []

    def test_after_a_claim_no_append_of_the_old_holder_passes(
        self, postgres: Postgres, schema: str, ledger: PostgresLedger, clock: ManualClock
    ) -> None:
        """The same as a race, without knowing who comes first."""

        def write_until_lost(epoch: int | None) -> int:
            stream = ledger.read("m")
            head, written = stream[-1] if stream else None, 0
            while True:
                entries = sealed_entries("m", 1, after=head)
                try:
                    ledger.append(Append("m", entries, epoch))
                except LeaseLost:
                    return written
                head, written = entries[0], written + 1

        with another(postgres, schema, clock=clock) as other, ThreadPoolExecutor(1) as pool:
            for number in range(6):
                epoch = ledger.claim(NOW, f"A{number}", LEASE_SECONDS, model="m").epoch_of("m")
                writing = pool.submit(write_until_lost, epoch)
                before = len(other.read("m"))
                while len(other.read("m")) < before + 3:
                    time.sleep(0.005)
                clock.seconds += 2 * LEASE_SECONDS
                assert other.claim(NOW, f"B{number}", LEASE_SECONDS, model="m").epoch_of("m")
                head = len(other.read("m"))
                writing.result(SECONDS)

                assert len(other.read("m")) == head
                clock.seconds += 2 * LEASE_SECONDS

        assert verify("m", ledger.read("m")) is None

    def test_a_process_stopped_past_its_lease_writes_nothing_more(
        self, postgres: Postgres, schema: str
    ) -> None:
        script = """
            epoch, head = ledger.claim(NOW, name, 1.0, model="m").epoch_of("m"), None
            while True:
                head = sealed_entries("m", 1, after=head)[0]
                try:
                    ledger.append(Append("m", (head,), epoch))
                except LeaseLost as lost:
                    print(lost)
                    break
                print(head.seq, flush=True)
            """
        process = start(script, postgres.dsn(), schema)
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(5)][-1] == "5\n"
        process.send_signal(signal.SIGSTOP)
        with another(postgres, schema) as other:
            deadline = time.monotonic() + SECONDS
            while other.claim(NOW, "B", 60.0, model="m").epoch_of("m") is None:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            head = len(other.read("m"))
            process.send_signal(signal.SIGCONT)
            *_, last = finish(process)

            assert "lease of epoch 1 is over" in last
            assert len(other.read("m")) == head
            other.append(request(sealed_entries("m", 1, after=other.read("m")[-1])))

    def test_a_request_that_is_being_appended_stays_due(
        self, postgres: Postgres, schema: str, ledger: PostgresLedger
    ) -> None:
        """The look that the controller sets meanwhile must not hide it."""
        epoch = ledger.claim(NOW, "A", LEASE_SECONDS).epoch_of("m")
        assert epoch is not None
        ledger.append(Append("m", sealed_entries("m", 1), epoch, NOW + timedelta(hours=1)))
        asked = OpenAppend(postgres, schema, request(sealed_entries("m", 1, after=ledger.read("m")[0]), NOW))

        with ThreadPoolExecutor(1) as pool:
            setting = pool.submit(ledger.set_next_look, "m", 1, NOW + timedelta(days=1), epoch)
            assert waits(setting)
            asked.commit()
            setting.result(SECONDS)

        assert ledger.next_look("m") == NOW

    def test_a_claim_that_needs_no_renewal_only_reads(
        self, postgres: Postgres, ledger: PostgresLedger, clock: ManualClock
    ) -> None:
        epoch = ledger.claim(NOW, "A", LEASE_SECONDS).epoch_of("m")
        assert epoch is not None
        ledger.append(Append("m", sealed_entries("m", 1), epoch, NOW))
        clock.seconds += LEASE_SECONDS / 4
        next_transaction = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text"
        before = postgres.sql(next_transaction)

        ledger.claim(NOW, "A", LEASE_SECONDS)
        ledger.claim(NOW, "A", LEASE_SECONDS, model="m")
        ledger.claim(NOW, "B", LEASE_SECONDS, model="m")
        ledger.set_next_look("m", 1, NOW, epoch)
        ledger.set_next_look("m", 0, NOW + timedelta(hours=1), epoch)
        ledger.set_next_look("m", 1, NOW + timedelta(hours=1), epoch + 1)
        assert ledger.holds("m", epoch)

        assert postgres.sql(next_transaction) == before

    def test_leases_run_on_the_clock_of_the_server(self, postgres: Postgres, schema: str) -> None:
        with another(postgres, schema) as ledger:
            first = ledger.claim(NOW, "A", 60.0, model="m").epoch_of("m")
            held = ledger.claim(NOW, "B", 60.0, model="m")
            left = f"SELECT max(expires_at) - now() FROM {schema}.leases WHERE holder = 'A'"
            assert timedelta(0) < postgres.sql(left, "autoretrain")[0][0] <= timedelta(seconds=60)
            older = f"UPDATE {schema}.leases SET expires_at = expires_at - interval '61 s'"
            postgres.sql(older, "autoretrain")
            second = ledger.claim(NOW, "B", 60.0, model="m").epoch_of("m")

            assert (first, held.holder_of("m"), second) == (1, "A", 2)

    def test_who_runs_the_loop_is_known(self, ledger: PostgresLedger, clock: ManualClock) -> None:
        ledger.claim(NOW, "A", LEASE_SECONDS)
        ledger.claim(NOW, "B", LEASE_SECONDS)
        ledger.claim(NOW, "library", LEASE_SECONDS, model="m")
        assert list(ledger.controllers()) == ["A", "B"]

        ledger.release("A")
        assert list(ledger.controllers()) == ["B"]
        clock.seconds += 2 * LEASE_SECONDS
        assert list(ledger.controllers()) == []


class TestProcesses:
    def test_of_processes_that_race_one_wins_each_place(self, postgres: Postgres, schema: str) -> None:
        """They also create the tables at the same moment."""
        script = """
            sys.stdin.readline()
            won = 0
            while won < 15:
                head = (ledger.read("m") or [None])[-1]
                try:
                    entries = sealed_entries("m", 1, after=head)
                    ledger.append(request(entries))
                    print(entries[0].seq)
                    won += 1
                except Overtaken:
                    pass
            """
        racers = [start(script, postgres.dsn(), schema) for _ in range(3)]
        won = [int(line) for lines in _all_finished(racers) for line in lines]

        assert sorted(won) == list(range(1, 46))
        with another(postgres, schema) as ledger:
            assert verify("m", ledger.read("m")) is None

    def test_processes_that_claim_share_the_shards(self, postgres: Postgres, schema: str) -> None:
        script = """
            import threading
            told = threading.Event()
            threading.Thread(target=lambda: (sys.stdin.readline(), told.set()), daemon=True).start()
            while not told.wait(0.02):
                leases = dict(ledger.claim(NOW, name, 60.0).leases)
            print(json.dumps(leases))
            """
        with another(postgres, schema) as ledger:
            ledger.models()  # the tables are there
        claimers = [start(script, postgres.dsn(), schema, name) for name in ("A", "B", "C")]
        held = f"SELECT count(*) FROM {schema}.leases WHERE holder IS NOT NULL GROUP BY holder ORDER BY 1"
        deadline = time.monotonic() + SECONDS
        while postgres.sql(held, "autoretrain") != [(10,), (11,), (11,)]:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        shares = [set(json.loads(lines[-1])) for lines in _all_finished(claimers)]

        assert sorted(len(share) for share in shares) == [10, 11, 11]
        assert len(set().union(*shares)) == SHARDS

    def test_a_budget_of_one_starts_one(self, postgres: Postgres, schema: str) -> None:
        script = """
            sys.stdin.readline()
            unit = Unit("jobs of the fleet", "2026-01-31", 1)
            try:
                ledger.append(Append(name, sealed_entries(name, 1), None, takes=(unit,), owner=name))
                print("won")
            except LimitReached:
                print("none left")
            """
        racers = [start(script, postgres.dsn(), schema, name) for name in ("A", "B", "C")]
        told = sorted(lines[0] for lines in _all_finished(racers))

        assert told == ["none left", "none left", "won"]

    def test_a_fork_shares_no_connection(self, postgres: Postgres, ledger: PostgresLedger) -> None:
        ledger.append(request(sealed_entries("m", 1)))
        backend = "SELECT pg_backend_pid()"
        ours = ledger.database.run(backend)
        context = multiprocessing.get_context("fork")
        here, there = context.Pipe()
        child = context.Process(target=_ask_twice, args=(ledger, there, backend))

        child.start()
        theirs = here.recv()
        assert ledger.database.run(backend) == ours
        here.send("go on")
        child.join(SECONDS)

        assert theirs != ours
        assert child.exitcode == 0
        assert ledger.database.run(backend) == ours  # not closed by the end of the child

    def test_threads_do_not_wait_for_one_another(
        self, postgres: Postgres, schema: str, ledger: PostgresLedger
    ) -> None:
        ledger.models()
        with psycopg.connect(postgres.dsn()) as blocking, ThreadPoolExecutor(1) as pool:
            blocking.execute(f"LOCK TABLE {schema}.units".encode())
            slow = pool.submit(ledger.used, [Unit("scope", "", 1)])
            assert waits(slow)
            assert list(ledger.models()) == []
            assert not slow.done()
            blocking.rollback()
            assert list(slow.result(SECONDS)) == [0]


def _all_finished(processes: list[subprocess.Popen[str]]) -> list[list[str]]:
    """Let processes go at the same moment, and return what each printed."""
    time.sleep(0.2)
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return [finish(process) for process in processes]


def _ask_twice(ledger: PostgresLedger, pipe: Connection, question: str) -> None:
    pipe.send(ledger.database.run(question))
    pipe.recv()
    ledger.database.run(question)
    ledger.close()
    sys.exit(0)


class TestSession:
    def test_nothing_is_left_in_the_sessions_of_pgbouncer(
        self, postgres: Postgres, pgbouncer: int, schema: str
    ) -> None:
        with closing(PostgresLedger(postgres.dsn(port=pgbouncer), schema=schema)) as ledger:
            ledger.claim(NOW, "A", LEASE_SECONDS)
            ledger.append(request(sealed_entries("m", 2), NOW, notice("n")))
        left = "SELECT current_setting('search_path'), current_setting('statement_timeout'),"
        left += " (SELECT count(*) FROM pg_prepared_statements),"
        left += " (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory')"
        with psycopg.connect(
            postgres.dsn(port=pgbouncer), autocommit=True, prepare_threshold=None
        ) as session:
            assert session.execute(left.encode()).fetchone() == ('"$user", public', "0", 0, 0)

    def test_temporary_tables_of_others_are_not_ours(self, ledger: PostgresLedger) -> None:
        ledger.append(request(sealed_entries("m", 1)))
        ledger.database.run("CREATE TEMPORARY TABLE pg_temp.entries (model text)")

        assert len(ledger.read("m")) == 1

    @pytest.mark.parametrize("isolation", ["serializable", "repeatable read"])
    def test_no_isolation_level_is_relied_on(self, postgres: Postgres, schema: str, isolation: str) -> None:
        level = isolation.replace(" ", "\\\\ ")
        dsn = postgres.dsn(options=f"-c default_transaction_isolation={level}")
        unit = Unit("race", "2026-01-31", 2)

        def race(name: str) -> bool:
            with closing(PostgresLedger(dsn, schema=schema)) as ledger:
                try:
                    ledger.append(Append(name, sealed_entries(name, 1), None, takes=(unit,), owner=name))
                except (LimitReached, Temporary):
                    return False
                return True

        with closing(PostgresLedger(dsn, schema=schema)) as ledger, ThreadPoolExecutor(4) as pool:
            assert ledger.database.run("SHOW transaction_isolation") == [[(isolation,)]]
            won = sum(pool.map(race, [f"racer-{n}" for n in range(6)]))

            assert 1 <= won <= 2
            assert list(ledger.used([unit])) == [won]
            assert len(ledger.models()) == won

    def test_a_commit_waits_for_the_disk_whatever_the_role_is_set_to(
        self, postgres: Postgres, schema: str
    ) -> None:
        dsn = postgres.dsn(options="-c synchronous_commit=off")
        with closing(PostgresDatabase(dsn, schema)) as database:
            assert database.run("SHOW synchronous_commit") == [[("on",)]]
            assert database.run("SHOW synchronous_commit", durable=False) == [[("off",)]]

    def test_the_application_has_a_name(self, postgres: Postgres, schema: str) -> None:
        question = "SELECT current_setting('application_name')"
        for more, name in (({}, "autoretrain"), ({"application_name": "night shift"}, "night shift")):
            with closing(PostgresDatabase(postgres.dsn(**more), schema)) as database:
                assert database.run(question) == [[(name,)]]


class TestText:
    @given(st.text(alphabet="\x00\x1a01a"))
    def test_any_text_comes_back(self, text: str) -> None:
        assert "\x00" not in escaped(text)
        assert unescaped(escaped(text)) == text

    def test_what_postgresql_cannot_keep_comes_back_with_the_same_hash(self, ledger: PostgresLedger) -> None:
        model = "a\x00b\x1a0\\'%s"
        entries = sealed_entries(model, 2, keys=["\x00", "\x1a"])
        told = replace(notice("n\x00"), model=model, body="\x00\x1a\x1a0", facts={"\x00": "\x1a"})

        ledger.append(Append(model, entries, None, NOW, (told,)))
        ledger.postpone("n\x00", None, "\x00")

        assert list(ledger.models()) == [model]
        assert tuple(ledger.read(model)) == entries
        assert verify(model, ledger.read(model)) is None
        assert [(dead.notice, dead.error) for dead in ledger.dead_letters()] == [(told, "\x00")]
        assert ledger.claim(NOW, "A", LEASE_SECONDS).due == (model,)

    def test_names_are_in_the_order_of_their_code_points_in_any_locale(self, ledger: PostgresLedger) -> None:
        names = ["\U0001f525", "\uffff", "ä", "b", "a", "Z", "_", " "]
        for name in names:
            ledger.append(request(sealed_entries(name, 1), NOW))

        assert list(ledger.models()) == sorted(names)
        assert list(ledger.claim(NOW, "A", LEASE_SECONDS).due) == sorted(names)

    def test_a_name_that_is_too_long_is_refused_in_words(self, ledger: PostgresLedger) -> None:
        name = os.urandom(6000).hex()
        with pytest.raises(Permanent, match="a name is too long"):
            ledger.append(request(sealed_entries(name, 1)))


class TestTables:
    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE entries SET data = '{}' WHERE seq = 1",
            "DELETE FROM entries WHERE seq = 3",
            "TRUNCATE entries CASCADE",
            "INSERT INTO entries SELECT model, 9, v, chain, at, kind, 'k', actor, data, hash, '' FROM head",
            "INSERT INTO entries SELECT model, 4, v, chain, at, kind, 'k', actor, data, prev, '' FROM head",
        ],
    )
    def test_the_database_itself_protects_entries(
        self, postgres: Postgres, schema: str, ledger: PostgresLedger, statement: str
    ) -> None:
        entries = sealed_entries("m", 3)
        ledger.append(request(entries, None, notice("n")))

        head = "CREATE TEMPORARY VIEW head AS SELECT * FROM entries WHERE seq = 3"
        with pytest.raises(psycopg.IntegrityError, match="an entry"):
            postgres.sql(f"SET search_path TO {schema}; {head}; {statement}", "autoretrain")

        assert tuple(ledger.read("m")) == entries

    def test_entries_that_do_not_follow_one_another_are_the_callers_mistake(
        self, ledger: PostgresLedger
    ) -> None:
        entries = sealed_entries("m", 3)

        with pytest.raises(ValueError, match="entry 3 does not follow"):
            ledger.append(request((entries[0], entries[2])))

        assert list(ledger.models()) == []

    def test_a_newer_schema_is_refused(self, postgres: Postgres, schema: str, ledger: PostgresLedger) -> None:
        ledger.models()
        postgres.sql(f"UPDATE {schema}.schema_version SET version = 99", "autoretrain")

        with another(postgres, schema) as other:
            with pytest.raises(Permanent, match=r"schema is 99.*upgrade autoretrain"):
                other.models()
            with pytest.raises(Permanent, match=r"schema is 99.*upgrade autoretrain"):
                other.upgrade()
            assert other.versions() == (99, 3)

    def test_a_process_of_the_old_release_is_refused_once_the_tables_are_upgraded(
        self, postgres: Postgres, schema: str, ledger: PostgresLedger
    ) -> None:
        ledger.append(request(sealed_entries("m", 1)))
        self._newer(postgres, schema).upgrade()

        with pytest.raises(Permanent, match="of another release now"):
            ledger.append(request(sealed_entries("m", 1, after=ledger.read("m")[0])))

    def test_an_older_schema_is_refused_until_it_is_upgraded(
        self, postgres: Postgres, schema: str, ledger: PostgresLedger
    ) -> None:
        entries = sealed_entries("m", 2)
        ledger.append(request(entries))
        newer = self._newer(postgres, schema)
        with pytest.raises(Permanent, match=r"schema is 3, .* needs 4: .*autoretrain db upgrade"):
            newer.run("SELECT 1")

        assert newer.upgrade() == (3, 4)
        assert newer.upgrade() == (4, 4)
        assert newer.run("SELECT count(*), count(added) FROM entries") == [[(2, 0)]]

    def test_notices_of_before_there_were_targets_go_to_the_default_one(
        self, postgres: Postgres, schema: str, ledger: PostgresLedger
    ) -> None:
        first = PostgresSchema(schema, {1: released_scripts()[1]})
        with closing(PostgresDatabase(postgres.dsn(), first)) as older:
            older.upgrade()
        (entry,) = sealed_entries("m", 1)
        row = {field.name: getattr(entry, field.name) for field in fields(entry)}
        told = "(id, model, shard, seq, event, severity, title, body, at, facts)"
        values = "('n', 'm', 0, 1, 'started', 'info', 'Told', 'because', 0, '{}')"
        with psycopg.connect(postgres.dsn()) as connection:
            columns, places = ", ".join(row), ", ".join(f"%({name})s" for name in row)
            insert = f"INSERT INTO {schema}.entries ({columns}) VALUES ({places})"
            connection.execute(insert.encode(), row)
            connection.execute(f"INSERT INTO {schema}.outbox {told} VALUES {values}".encode())

        assert ledger.upgrade() == (1, 3)

        (waiting,) = ledger.due(NOW, target="")
        assert (waiting.notice.id, waiting.notice.target) == ("n", "")
        assert ledger.counts().targets == ()

    def test_of_upgrades_at_once_one_does_it_and_the_others_find_it_done(
        self, postgres: Postgres, schema: str
    ) -> None:
        with ThreadPoolExecutor(4) as pool:
            created = list(pool.map(lambda _: self._first(postgres, schema).upgrade(), range(4)))
            upgraded = list(pool.map(lambda _: self._newer(postgres, schema).upgrade(), range(4)))

        assert sorted(created) == [(0, 3), (3, 3), (3, 3), (3, 3)]
        assert sorted(upgraded) == [(3, 4), (4, 4), (4, 4), (4, 4)]

    def test_what_there_is_is_told_by_one_snapshot(self, postgres: Postgres, schema: str) -> None:
        """Else a connection that opens while another creates the tables takes them for somebody else's."""
        tables = PostgresSchema(schema)
        with closing(Session.open(parameters_of(postgres.dsn()), None)) as session, session.transaction():
            session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            assert tables.version(session) == 0
            self._first(postgres, schema).upgrade()
            assert tables.version(session) == 0

    def test_an_upgrade_that_fails_changes_nothing(self, postgres: Postgres, schema: str) -> None:
        self._first(postgres, schema).upgrade()
        broken = self._newer(postgres, schema, "ALTER TABLE entries ADD COLUMN added text; SELECT 1 / 0")

        with pytest.raises(Permanent, match="division by zero"):
            broken.upgrade()

        assert self._first(postgres, schema).version() == 3
        self._newer(postgres, schema).upgrade()

    def test_the_tables_of_something_else_are_left_alone(self, postgres: Postgres, schema: str) -> None:
        postgres.sql(f"CREATE SCHEMA {schema} CREATE TABLE runs (id integer)", "autoretrain")
        postgres.sql(f"GRANT ALL ON SCHEMA {schema} TO ann", "autoretrain")
        with another(postgres, schema) as ledger:
            for act in (ledger.models, ledger.upgrade, ledger.versions):
                with pytest.raises(Permanent, match=r"tables of something else: .*ledger\.schema"):
                    act()

    def test_looking_for_the_tables_creates_none(self, postgres: Postgres, schema: str) -> None:
        with another(postgres, schema) as ledger:
            assert ledger.versions() == (0, 3)
        found = postgres.sql(f"SELECT count(*) FROM pg_namespace WHERE nspname = '{schema}'", "autoretrain")
        assert found == [(0,)]

    def test_an_empty_schema_that_was_given_to_the_role_is_enough(
        self, postgres: Postgres, schema: str
    ) -> None:
        guest = postgres.dsn(user="guest")
        with closing(PostgresLedger(guest, schema=schema)) as ledger:
            fix = f"guest may not create .* CREATE SCHEMA {schema} AUTHORIZATION guest"
            with pytest.raises(Permanent, match=fix):
                ledger.models()
            postgres.sql(f"CREATE SCHEMA {schema} AUTHORIZATION guest", "autoretrain")
            assert list(ledger.models()) == []

    def test_another_role_needs_to_be_let_in(
        self, postgres: Postgres, schema: str, ledger: PostgresLedger
    ) -> None:
        ledger.models()
        with (
            closing(PostgresLedger(postgres.dsn(user="guest"), schema=schema)) as stranger,
            pytest.raises(Permanent, match=r"the role may not do that: .*GRANT"),
        ):
            stranger.models()

    def test_a_database_of_another_encoding_is_refused(self, postgres: Postgres, schema: str) -> None:
        postgres.sql("CREATE DATABASE old OWNER ann ENCODING 'SQL_ASCII' TEMPLATE template0")
        with (
            closing(PostgresLedger(postgres.dsn(dbname="old"), schema=schema)) as ledger,
            pytest.raises(Permanent, match=r"database old: its encoding is SQL_ASCII: .*ENCODING 'UTF8'"),
        ):
            ledger.models()

    @staticmethod
    def _first(postgres: Postgres, schema: str) -> PostgresDatabase:
        return PostgresDatabase(postgres.dsn(), schema)

    @staticmethod
    def _newer(
        postgres: Postgres, schema: str, script: str = "ALTER TABLE entries ADD COLUMN added text"
    ) -> PostgresDatabase:
        """The database as the next release sees it."""
        scripts: Mapping[int, str] = {**released_scripts(), 4: script}
        return PostgresDatabase(postgres.dsn(), PostgresSchema(schema, scripts))
