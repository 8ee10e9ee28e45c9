"""The ledger on PostgreSQL in bad weather: a server that is killed, silent, full, or not to be had."""

from __future__ import annotations

import socket
import subprocess
import sys
import textwrap
import threading
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field

import psutil
import psycopg
import pytest
from postgres_server import (
    PASSWORD,
    Postgres,
    free_port,
    running_pgbouncer,
    running_postgres,
    running_standby,
    small_disk,
    unused_schema,
)

from autoretrain.adapters import postgres_connection
from autoretrain.adapters.ledger_postgres import PostgresLedger
from autoretrain.adapters.postgres_connection import PostgresDatabase
from autoretrain.domain.sealing import verify
from autoretrain.entrypoints.testing.store import NOW, notice, request, sealed_entries
from autoretrain.ports.errors import AutoRetrainError, Overtaken, Permanent, Temporary

pytestmark = [pytest.mark.service, pytest.mark.xdist_group("postgres-weather")]

SECONDS = 60

WRITER = """
import sys, time
from autoretrain.adapters.ledger_postgres import PostgresLedger
from autoretrain.entrypoints.testing.store import NOW, notice, request, sealed_entries
from autoretrain.ports.errors import Overtaken, Temporary

ledger = PostgresLedger(sys.argv[1], schema=sys.argv[2])
while True:
    try:
        head = (ledger.read("m") or [None])[-1]
        entries = sealed_entries("m", 3, after=head)
        ledger.append(request(entries, NOW, notice(f"n{entries[-1].seq}")))
        print(entries[-1].seq, flush=True)
    except (Temporary, Overtaken) as error:
        print(type(error).__name__, flush=True)
        time.sleep(0.1)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """A server of this module's own, whose commits are on disk."""
    with running_postgres(durable=True) as server:
        yield server


@pytest.fixture
def schema() -> str:
    return unused_schema()


@pytest.fixture
def ledger(server: Postgres, schema: str) -> Iterator[PostgresLedger]:
    with closing(PostgresLedger(server.dsn(), schema=schema)) as ledger:
        ledger.models()
        yield ledger


class TestServer:
    def test_killed_amid_appends_nothing_acknowledged_is_lost(self, server: Postgres, schema: str) -> None:
        """Power fails twice; the writer goes on by itself as soon as the server is back."""
        writer = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), server.dsn(), schema],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            told: list[str] = []
            for _ in range(2):
                told += _lines_until(writer, lambda lines: sum(map(str.isdigit, lines)) >= 10)
                server.kill()
                told += _lines_until(writer, lambda lines: "Temporary" in lines)
                server.start()
            told += _lines_until(writer, lambda lines: sum(map(str.isdigit, lines)) >= 5)
        finally:
            writer.kill()
            told += writer.communicate(timeout=SECONDS)[0].split()
        acknowledged = [int(line) for line in told if line.isdigit()]

        with closing(PostgresLedger(server.dsn(), schema=schema)) as ledger:
            entries = ledger.read("m")
            assert verify("m", entries) is None
            assert len(acknowledged) >= 25
            assert acknowledged == sorted(set(acknowledged))
            assert entries[-1].seq >= acknowledged[-1]
            assert len(entries) % 3 == 0
            assert len(ledger.due(NOW, limit=10_000)) == len(entries) / 3

    def test_a_restart_is_not_noticed_by_who_writes_afterwards(
        self, server: Postgres, ledger: PostgresLedger
    ) -> None:
        entries = sealed_entries("m", 2)
        ledger.append(request(entries[:1]))
        server.stop()
        with pytest.raises(Temporary, match=r"PostgreSQL at 127\.0\.0\.1:\d+, database autoretrain: no conn"):
            ledger.read("m")
        server.start()

        ledger.append(request(entries[1:]))

        assert tuple(ledger.read("m")) == entries

    def test_a_session_that_is_ended_while_it_waits_has_written_nothing(
        self, server: Postgres, schema: str, ledger: PostgresLedger
    ) -> None:
        epoch = ledger.claim(NOW, "A", 60.0).epoch_of("m")
        assert epoch is not None
        with psycopg.connect(server.dsn()) as blocking, ThreadPoolExecutor(1) as pool:
            blocking.execute(f"LOCK TABLE {schema}.entries".encode())
            append = pool.submit(ledger.append, request(sealed_entries("m", 1)))
            _until(lambda: _ended_waiting_sessions(server) > 0)
            with pytest.raises(Temporary, match="shutting down"):
                append.result(SECONDS)
            blocking.rollback()

        assert list(ledger.read("m")) == []

    def test_an_append_whose_answer_was_lost_is_overtaken_when_repeated(
        self, server: Postgres, schema: str, ledger: PostgresLedger
    ) -> None:
        batch = request(sealed_entries("m", 1), NOW, notice("n"))
        with (
            _cable(server.port) as cable,
            closing(PostgresLedger(server.dsn(port=cable.port), schema=schema)) as remote,
        ):
            remote.models()
            cable.cut_at_answer_to(b"INSERT INTO entries")
            with pytest.raises(Temporary, match="no connection, or it was lost"):
                remote.append(batch)
            _until(lambda: len(ledger.read("m")) == 1)

            with pytest.raises(Overtaken):
                remote.append(batch)

        assert len(ledger.due(NOW)) == 1

    def test_who_waits_for_a_lock_is_told_in_time(
        self, server: Postgres, schema: str, ledger: PostgresLedger
    ) -> None:
        with (
            psycopg.connect(server.dsn()) as blocking,
            closing(PostgresLedger(server.dsn(), schema=schema, statement_seconds=0.5)) as hasty,
        ):
            blocking.execute(f"LOCK TABLE {schema}.entries".encode())
            with pytest.raises(Temporary, match="took too long"):
                hasty.append(request(sealed_entries("m", 1)))
            blocking.rollback()
            hasty.append(request(sealed_entries("m", 1)))

    def test_a_silent_server_is_given_up(
        self, server: Postgres, schema: str, ledger: PostgresLedger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(postgres_connection, "_SPARE_SECONDS", 0.5)
        with closing(PostgresDatabase(server.dsn(), schema, statement_seconds=1.0)) as database:
            (((pid,),),) = database.run("SELECT pg_backend_pid()")
            backend = psutil.Process(pid)
            backend.suspend()
            try:
                with pytest.raises(Temporary, match="no answer in time"):
                    database.run("SELECT 1")
            finally:
                backend.resume()
            assert database.run("SELECT 1") == [[(1,)]]

    def test_a_server_without_connections_left_is_asked_again(
        self, server: Postgres, ledger: PostgresLedger
    ) -> None:
        server.sql("ALTER ROLE ann CONNECTION LIMIT 0")
        try:
            ledger.close()
            with pytest.raises(Temporary, match="too many connections"):
                ledger.models()
        finally:
            server.sql("ALTER ROLE ann CONNECTION LIMIT -1")
        ledger.models()

    def test_a_read_only_server_is_read_and_not_written(
        self, server: Postgres, schema: str, ledger: PostgresLedger
    ) -> None:
        ledger.append(request(sealed_entries("m", 1)))
        standby = server.dsn(options="-c default_transaction_read_only=on")
        with closing(PostgresLedger(standby, schema=schema)) as reading:
            assert len(reading.read("m")) == 1
            for act in (
                lambda: reading.append(request(sealed_entries("m", 1, after=reading.read("m")[0]))),
                lambda: reading.claim(NOW, "A", 60.0),
            ):
                with pytest.raises(Temporary, match=r"read-only \(a standby, perhaps\)"):
                    act()

    def test_a_full_disk_refuses_whole_appends_and_goes_on_when_there_is_room(self) -> None:
        with (
            running_postgres(on=small_disk(), wal_init_zero="on", max_wal_size="32MB") as server,
            closing(PostgresLedger(server.dsn())) as ledger,
        ):
            ledger.append(request(sealed_entries("m", 1), NOW, notice("n1")))
            ballast = server.folder / "ballast"
            with suppress(OSError), ballast.open("wb", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass
            head, refused = ledger.read("m")[-1], ""
            while not refused:  # what was set aside in the tables is used up first
                entries = sealed_entries("m", 20, after=head)
                try:
                    ledger.append(request(entries, NOW, notice(f"n{entries[-1].seq}")))
                except Temporary as error:
                    refused = str(error)
                else:
                    head = entries[-1]
                    assert head.seq < 20_000
            assert "its disk is full" in refused
            assert ledger.read("m")[-1] == head

            ballast.unlink()
            ledger.append(request(sealed_entries("m", 1, after=head), NOW, notice("after")))

            assert verify("m", ledger.read("m")) is None
            assert len(ledger.due(NOW, limit=10_000)) == (head.seq - 1) / 20 + 2

    def test_a_standby_is_read_and_takes_over(self, schema: str) -> None:
        """With both in the connection string, the ledger goes on by itself when the standby is promoted."""
        with running_postgres() as primary, running_standby(primary) as standby:
            entries = sealed_entries("m", 2)
            both = primary.dsn(
                host="127.0.0.1,127.0.0.1",
                port=f"{primary.port},{standby.port}",
                target_session_attrs="read-write",
            )
            with (
                closing(PostgresLedger(both, schema=schema)) as ledger,
                closing(PostgresLedger(standby.dsn(), schema=schema)) as copy,
            ):
                ledger.append(request(entries[:1]))
                _until(lambda: copy.versions()[0] and len(copy.read("m")) == 1)
                for act in (
                    lambda: copy.append(request(entries[1:])),
                    lambda: copy.claim(NOW, "A", 60.0),
                    lambda: copy.release("A"),
                ):
                    with pytest.raises(Temporary, match=r"read-only \(a standby, perhaps\)"):
                        act()
                assert "it is a standby: nothing can be written" in copy.weaknesses()

                primary.kill()
                with pytest.raises(Temporary):
                    ledger.append(request(entries[1:]))
                standby.sql("SELECT pg_promote()")
                ledger.append(request(entries[1:]))

                assert tuple(copy.read("m")) == entries

    @pytest.mark.parametrize(
        ("state", "kind", "says"),
        [
            ("53100", Temporary, "its disk is full"),
            ("53200", Temporary, "out of memory"),
            ("53300", Temporary, "no connection left"),
            ("53400", Temporary, "lacks a resource"),
            ("57P01", Temporary, "shutting down"),
            ("57P03", Temporary, "starting or stopping"),
            ("58030", Temporary, "its disk gave an error"),
            ("40001", Temporary, "another transaction came between"),
            ("40P01", Temporary, "waited for one another"),
            ("55P03", Temporary, "another transaction holds"),
            ("08006", Temporary, "connection was lost"),
            ("XX001", Permanent, "restore it from a backup"),
            ("42P01", Permanent, "autoretrain db status"),
            ("28P01", Permanent, "refuses user or password"),
            ("22P05", Permanent, "nobody knows this one"),
        ],
    )
    def test_what_the_server_says_is_told_in_words(
        self, ledger: PostgresLedger, state: str, kind: type[AutoRetrainError], says: str
    ) -> None:
        raising = f"DO $$ BEGIN RAISE EXCEPTION 'nobody knows this one' USING ERRCODE = '{state}'; END $$"
        with pytest.raises(kind, match=says) as caught:
            ledger.database.run(raising)
        assert type(caught.value) is kind
        assert "database autoretrain" in str(caught.value)


class TestWayIn:
    @pytest.mark.parametrize(
        ("wrong", "kind", "says"),
        [
            ({"password": "hunter2"}, Permanent, "refuses user or password: .*AUTORETRAIN_LEDGER_DSN"),
            ({"password": ""}, Permanent, "refuses user or password"),
            ({"user": "nobody"}, Permanent, "pg_hba.conf lets nobody in"),
            ({"dbname": "nowhere"}, Permanent, "database nowhere: there is no such database: create it"),
            ({"port": "1"}, Temporary, "127.0.0.1:1, database autoretrain: no connection"),
            ({"host": "nowhere.invalid"}, Temporary, "nowhere.invalid:"),
        ],
    )
    def test_a_wrong_address_or_password(
        self,
        server: Postgres,
        monkeypatch: pytest.MonkeyPatch,
        wrong: dict[str, str],
        kind: type[AutoRetrainError],
        says: str,
    ) -> None:
        monkeypatch.delenv("PGPASSWORD", raising=False)
        monkeypatch.setenv("PGPASSFILE", "/nonexistent")
        with (
            closing(PostgresLedger(server.dsn(**wrong))) as ledger,
            pytest.raises(kind, match=says) as caught,
        ):
            ledger.models()
        _tells_no_secret(caught.value, ledger)

    @pytest.mark.parametrize(
        "dsn",
        [
            f"host=127.0.0.1 password={PASSWORD} x",  # a blank that is not quoted
            f"postgresql://ann:{PASSWORD}@[127/autoretrain",
            "postgresql://ann:open@sesame@127.0.0.1/autoretrain",
            "hosst=127.0.0.1 password=sesame",
            "password=sesame\x00",
        ],
    )
    def test_a_connection_string_that_cannot_be_read_is_not_repeated(self, dsn: str) -> None:
        with pytest.raises(Permanent, match="connection string") as caught:
            PostgresLedger(dsn)
        _tells_no_secret(caught.value, None)

    def test_pgbouncer_has_words_of_its_own(self, server: Postgres) -> None:
        with running_pgbouncer(server) as port:
            for wrong, says in (
                ({"password": "hunter2"}, "refuses user or password"),
                ({"user": "nobody"}, "refuses user or password"),
                ({"dbname": "nowhere"}, "no such database"),
                ({"options": "-c work_mem=1MB"}, "PgBouncer refuses a parameter"),
            ):
                with closing(PostgresLedger(server.dsn(port=port, **wrong))) as ledger:
                    with pytest.raises(Permanent, match=says) as caught:
                        ledger.models()
                    _tells_no_secret(caught.value, ledger)


def _tells_no_secret(error: BaseException, ledger: PostgresLedger | None) -> None:
    told = "".join(traceback.format_exception(error)) + repr(ledger) + repr(ledger and vars(ledger))
    assert not any(secret in told for secret in (PASSWORD, "sesame", "hunter2"))


def _lines_until(process: subprocess.Popen[str], enough: object) -> list[str]:
    assert process.stdout is not None
    assert callable(enough)
    lines: list[str] = []
    while not enough(lines):
        line = process.stdout.readline()
        assert line, "the writer has ended"
        lines.append(line.strip())
    return lines


def _until(done: object) -> None:
    assert callable(done)
    deadline = time.monotonic() + SECONDS
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _ended_waiting_sessions(server: Postgres) -> int:
    """End every session that waits for a lock; how many there were."""
    waiting = "FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND usename = 'ann'"
    return len(server.sql(f"SELECT pg_terminate_backend(pid) {waiting}"))


@dataclass
class Cable:
    """A way to the server that breaks after a question was asked, and before its answer is heard."""

    server: int
    port: int = field(default_factory=free_port)
    _last_words: bytes | None = None

    def cut_at_answer_to(self, words: bytes) -> None:
        self._last_words = words

    def carry(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self.server)) as server:
            back = threading.Thread(target=self._pour, args=(server, client), daemon=True)
            back.start()
            while data := client.recv(1 << 16):
                if self._last_words and self._last_words in data:
                    self._last_words = None
                    client.shutdown(socket.SHUT_RDWR)
                    server.sendall(data)
                    break
                server.sendall(data)
            else:
                server.shutdown(socket.SHUT_WR)
            back.join(SECONDS)

    @staticmethod
    def _pour(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(1 << 16):
                target.sendall(data)
        except OSError:
            source.shutdown(socket.SHUT_RDWR)


@contextmanager
def _cable(server: int) -> Iterator[Cable]:
    cable = Cable(server)
    with socket.create_server(("127.0.0.1", cable.port)) as listening:

        def listen() -> None:
            while True:
                try:
                    client, _ = listening.accept()
                except OSError:
                    return
                threading.Thread(target=cable.carry, args=(client,), daemon=True).start()

        threading.Thread(target=listen, daemon=True).start()
        yield cable
        listening.shutdown(socket.SHUT_RDWR)
