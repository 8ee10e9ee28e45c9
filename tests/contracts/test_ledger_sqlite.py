"""What is SQLite's own in the embedded ledger: processes, crashes, disks, files, schemas."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import astuple, fields
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from autoretrain.adapters.ledger_sqlite import SqliteLedger
from autoretrain.domain.sealing import verify
from autoretrain.entrypoints.testing.store import (
    LEASE_SECONDS,
    NOW,
    ManualClock,
    notice,
    request,
    sealed_entries,
)
from autoretrain.ports.errors import Overtaken, Permanent, Temporary
from autoretrain.ports.ledger import Append
from autoretrain.ports.limits import Unit

from services import ROOT

FIXTURE = Path(__file__).parent.parent / "fixtures" / "ledger-0.1.0.db"

SQL = ROOT / "adapters" / "sql"

SECONDS = 30  # how long a helper process may take at most, far more than it needs

PRELUDE = """
import os, resource, signal, sys
from autoretrain.adapters.ledger_sqlite import SqliteLedger
from autoretrain.entrypoints.testing.store import NOW, notice, request, sealed_entries
from autoretrain.ports.errors import AutoRetrainError, Overtaken

path = sys.argv[1]
ledger = SqliteLedger(path)

def add(count=1, *notices):
    head = (ledger.read("m") or [None])[-1]
    entries = sealed_entries("m", count, after=head)
    ledger.append(request(entries, NOW, *notices))
    return entries[-1].seq
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "ledger.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[SqliteLedger]:
    with closing(SqliteLedger(path, busy_seconds=0.05)) as ledger:
        yield ledger


def start(script: str, path: Path) -> subprocess.Popen[str]:
    """Start a process that has ``ledger`` and ``add`` over a file."""
    source = PRELUDE + textwrap.dedent(script)
    return subprocess.Popen(
        [sys.executable, "-c", source, str(path)],
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


def connect(path: Path, check_same_thread: bool = True) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=check_same_thread)


class TestProcesses:
    def test_of_processes_that_race_one_wins_each_place(self, path: Path) -> None:
        """They also create the file at the same moment."""
        script = """
            sys.stdin.readline()
            won = 0
            while won < 40:
                try:
                    print(add())
                    won += 1
                except Overtaken:
                    pass
            """
        racers = [start(script, path) for _ in range(3)]

        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("go\n")
            racer.stdin.flush()
        won = [int(line) for racer in racers for line in finish(racer)]

        assert sorted(won) == list(range(1, 121))
        with closing(SqliteLedger(path)) as ledger:
            assert verify("m", ledger.read("m")) is None
            assert len(ledger.read("m")) == 120

    def test_killed_while_appending_nothing_acknowledged_is_lost(self, path: Path) -> None:
        script = """
            while True:
                seq = add(3, notice(f"n{os.urandom(8).hex()}"))
                print(seq, flush=True)
            """
        for _ in range(3):
            process = start(script, path)
            assert process.stdout is not None
            acknowledged = [int(process.stdout.readline()) for _ in range(15)]
            process.send_signal(signal.SIGKILL)
            acknowledged += [int(line) for line in process.communicate(timeout=SECONDS)[0].split()]

            with closing(SqliteLedger(path)) as ledger:
                entries = ledger.read("m")
                assert verify("m", entries) is None
                assert entries[-1].seq >= acknowledged[-1]
                assert entries[-1].seq % 3 == 0
                assert len(ledger.due(NOW, limit=10_000)) == len(entries) / 3

    def test_a_lease_outlives_its_holder_until_it_expires(self, path: Path) -> None:
        finish(start("ledger.claim(NOW, 'A', 60.0); os._exit(0)", path))
        clock = ManualClock(time.time())

        with closing(SqliteLedger(path, clock=clock)) as ledger:
            held = ledger.claim(NOW, "B", LEASE_SECONDS)
            clock.seconds += 70
            taken = ledger.claim(NOW, "B", LEASE_SECONDS)

        assert (held.epoch_of("m"), held.holder_of("m")) == (None, "A")
        assert taken.epoch_of("m") == 2

    def test_a_fork_shares_no_connection(self, path: Path, ledger: SqliteLedger) -> None:
        """Were a connection open across the fork, the parent's close would remove the child's log."""
        ledger.append(request(sealed_entries("m", 1)))
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()
        child = context.Process(target=_append_twice, args=(ledger, theirs))

        child.start()
        assert ours.recv() == 2  # the child has the file open
        ledger.append(request(sealed_entries("n", 1)))
        ledger.close()
        ours.send("go on")
        child.join(SECONDS)

        assert child.exitcode == 0
        assert len(ledger.read("m")) == 3
        assert len(ledger.read("n")) == 1


def _append_twice(ledger: SqliteLedger, pipe: Connection) -> None:
    ledger.append(request(sealed_entries("m", 1, after=ledger.read("m")[-1])))
    pipe.send(2)
    pipe.recv()
    ledger.append(request(sealed_entries("m", 1, after=ledger.read("m")[-1])))
    os._exit(0)  # as a killed process: nothing is closed, nothing tidied up


class TestDisk:
    def test_a_full_disk_refuses_and_loses_nothing(self, path: Path) -> None:
        script = """
            add()
            used = os.path.getsize(path + "-wal")
            _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (used + 100_000, hard))
            try:
                for number in range(1000):
                    print("added", add(2, notice(f"n{number}")))
            except AutoRetrainError as error:
                print(type(error).__name__, error)
            print("kept", len(ledger.read("m")), len(ledger.due(NOW, limit=1000)))
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            print("added", add(2, notice("after")))
            """
        *added, refused, kept, after = finish(start(script, path))

        last = int(added[-1].removeprefix("added "))
        assert len(added) >= 2
        assert refused.startswith("Temporary")
        assert str(path) in refused
        assert kept == f"kept {last} {len(added)}"
        assert after == f"added {last + 2}"
        with closing(SqliteLedger(path)) as ledger:
            assert verify("m", ledger.read("m")) is None

    def test_a_read_only_file_can_be_read(self) -> None:
        script = """
            add()
            ledger.close()
            os.chmod(path, 0o444)
            if os.geteuid() == 0:
                os.setuid(65534)  # nothing is read-only for root
            print(len(ledger.read("m")))
            try:
                add()
            except AutoRetrainError as error:
                print(type(error).__name__, error)
            print(len(ledger.read("m")))
            """
        with tempfile.TemporaryDirectory() as folder:  # tmp_path is closed to other users
            Path(folder).chmod(0o777)
            before, refused, after = finish(start(script, Path(folder) / "ledger.db"))

        assert (before, after) == ("1", "1")
        assert refused.startswith("Temporary")
        assert "read-only" in refused

    def test_a_folder_that_cannot_be_made_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")

        with pytest.raises(Temporary, match=r"file/ledger\.db: .*cannot be opened"):
            SqliteLedger(tmp_path / "file" / "ledger.db").models()

    def test_a_file_that_is_removed_while_in_use_is_missed(self, path: Path, ledger: SqliteLedger) -> None:
        entries = sealed_entries("m", 2)
        ledger.append(request(entries[:1]))
        path.rename(path.with_name("moved.db"))

        with pytest.raises(Permanent, match="deleted or replaced"):
            ledger.append(request(entries[1:]))
        assert not path.exists()

        path.with_name("moved.db").rename(path)
        ledger.append(request(entries[1:]))
        assert tuple(ledger.read("m")) == entries

    def test_a_folder_that_goes_away_is_temporary(self, path: Path, ledger: SqliteLedger) -> None:
        entries = sealed_entries("m", 1)
        ledger.append(request(entries))
        folder, aside = path.parent, path.parent.with_name("aside")
        folder.rename(aside)
        folder.write_text("in the way")

        with pytest.raises(Temporary, match="Not a directory"):
            ledger.read("m")

        folder.unlink()
        aside.rename(folder)
        assert tuple(ledger.read("m")) == entries


class TestBusy:
    def test_a_file_that_stays_busy_is_temporary(self, path: Path, ledger: SqliteLedger) -> None:
        entries = sealed_entries("m", 2)
        ledger.append(request(entries[:1]))
        with closing(connect(path)) as other:
            other.execute("BEGIN IMMEDIATE")

            with pytest.raises(Temporary, match="another process is writing"):
                ledger.append(request(entries[1:]))
            assert tuple(ledger.read("m")) == entries[:1]

        ledger.append(request(entries[1:]))
        assert tuple(ledger.read("m")) == entries

    def test_a_new_file_that_others_are_opening_is_waited_for(self, path: Path) -> None:
        """SQLite itself does not wait where a journal mode is changed."""
        path.parent.mkdir()
        with closing(connect(path, check_same_thread=False)) as other:
            other.execute("BEGIN IMMEDIATE")
            timer = threading.Timer(0.1, other.rollback)
            timer.start()

            with closing(SqliteLedger(path)) as ledger:
                assert list(ledger.models()) == []
            timer.join()

    def test_an_idle_tick_writes_nothing(self, path: Path) -> None:
        clock = ManualClock()
        with closing(SqliteLedger(path, clock=clock, busy_seconds=0.05)) as ledger:
            epoch = ledger.claim(NOW, "A", LEASE_SECONDS).epoch_of("m")
            assert epoch is not None
            clock.seconds += 0.2 * LEASE_SECONDS
            with closing(connect(path)) as other:
                other.execute("BEGIN IMMEDIATE")  # whoever wants to write now fails

                assert ledger.claim(NOW, "A", LEASE_SECONDS).epoch_of("m") == epoch
                assert ledger.claim(NOW, "B", LEASE_SECONDS).epoch_of("m") is None
                assert list(ledger.due(NOW)) == []
                clock.seconds += 0.2 * LEASE_SECONDS
                with pytest.raises(Temporary):
                    ledger.claim(NOW, "A", LEASE_SECONDS)

    def test_a_look_at_the_same_time_commits_nothing(self, path: Path, ledger: SqliteLedger) -> None:
        epoch = ledger.claim(NOW, "A", LEASE_SECONDS).epoch_of("m")
        assert epoch is not None
        ledger.set_next_look("m", 0, NOW, epoch)
        with closing(connect(path)) as other:
            before = other.execute("PRAGMA data_version").fetchone()
            ledger.set_next_look("m", 0, NOW, epoch)
            ledger.set_next_look("m", 1, NOW.replace(hour=13), epoch)
            ledger.set_next_look("m", 0, NOW.replace(hour=13), epoch + 1)

            assert other.execute("PRAGMA data_version").fetchone() == before


class TestFile:
    def test_a_text_file_is_refused_and_left_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "notes.txt"
        path.write_text("dear diary\n" * 200)

        with pytest.raises(Permanent, match=r"notes\.txt: not a database"):
            SqliteLedger(path).read("m")

        assert path.read_text() == "dear diary\n" * 200

    def test_a_database_of_something_else_is_refused_and_left_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "mlflow.db"
        with closing(connect(path)) as other:
            other.execute("CREATE TABLE runs (id)")
        content = path.read_bytes()

        with pytest.raises(Permanent, match=r"mlflow\.db: .*something else"):
            SqliteLedger(path).append(request(sealed_entries("m", 1)))

        assert path.read_bytes() == content

    def test_a_newer_schema_is_refused(self, path: Path, ledger: SqliteLedger) -> None:
        ledger.append(request(sealed_entries("m", 1)))
        ledger.close()
        with closing(connect(path)) as other:
            other.execute("PRAGMA user_version = 99")

        with pytest.raises(Permanent, match=r"schema is 99.*upgrade autoretrain"):
            ledger.read("m")
        with pytest.raises(Permanent, match=r"schema is 99.*upgrade autoretrain"):
            ledger.upgrade()

    def test_an_older_schema_is_refused_until_it_is_upgraded(self, path: Path) -> None:
        path.parent.mkdir()
        shutil.copy(FIXTURE, path)
        with closing(SqliteLedger(path)) as ledger:
            with pytest.raises(Permanent, match=r"schema is 1, .* needs 4: .*autoretrain db upgrade"):
                ledger.models()

            assert ledger.upgrade() == (1, 4)
            assert ledger.upgrade() == (4, 4)

            assert [verify(model, ledger.read(model)) for model in ledger.models()] == [None, None]
            assert ledger.used([Unit("trainings", "", 1)]) == [0]

    @pytest.mark.parametrize("version", [1, 2, 3])
    def test_notices_of_before_there_were_targets_go_to_the_default_one(
        self, path: Path, version: int
    ) -> None:
        path.parent.mkdir()
        (entry,) = sealed_entries("m", 1)
        with closing(connect(path)) as older:
            for number in range(1, version + 1):
                older.executescript((SQL / f"sqlite_{number:04}.sql").read_text())
            columns = ", ".join(field.name for field in fields(entry))
            places = ", ".join("?" for _ in fields(entry))
            older.execute(f"INSERT INTO entries ({columns}) VALUES ({places})", astuple(entry))
            older.execute(
                "INSERT INTO outbox (id, model, seq, event, severity, title, body, at, facts)"
                " VALUES ('n', 'm', 1, 'started', 'info', 'Told', 'because', 0, '{}')"
            )
            older.execute(f"PRAGMA application_id = {0x4152544C}")
            older.execute(f"PRAGMA user_version = {version}")
            older.commit()
        with closing(SqliteLedger(path)) as ledger:
            assert ledger.upgrade() == (version, 4)

            assert list(ledger.read("m")) == [entry]
            (waiting,) = ledger.due(NOW, target="")
            assert (waiting.notice.id, waiting.notice.target) == ("n", "")

    def test_an_upgrade_that_fails_changes_nothing(self, path: Path) -> None:
        path.parent.mkdir()
        shutil.copy(FIXTURE, path)
        with closing(connect(path)) as other:
            other.execute("CREATE TABLE units (already TEXT)")
        with closing(SqliteLedger(path)) as ledger:
            with pytest.raises(Permanent):
                ledger.upgrade()
            with pytest.raises(Permanent, match="schema is 1"):
                ledger.models()

    def test_a_damaged_file_is_permanent(self, path: Path, ledger: SqliteLedger) -> None:
        ledger.append(request(sealed_entries("m", 200)))
        ledger.close()
        content = bytearray(path.read_bytes())
        content[4096:] = b"\xff" * (len(content) - 4096)
        path.write_bytes(content)

        with pytest.raises(Permanent, match="damaged"):
            ledger.read("m")

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE entries SET data = '{}' WHERE seq = 1",
            "DELETE FROM entries WHERE seq = 3",
            "INSERT OR REPLACE INTO entries SELECT * FROM entries WHERE seq = 2",
        ],
    )
    def test_the_database_itself_protects_entries(
        self, path: Path, ledger: SqliteLedger, statement: str
    ) -> None:
        entries = sealed_entries("m", 3)
        ledger.append(request(entries))

        with closing(connect(path)) as other, pytest.raises(sqlite3.IntegrityError, match="an entry"):
            other.execute(statement)

        assert tuple(ledger.read("m")) == entries

    def test_commits_reach_the_disk(self, ledger: SqliteLedger) -> None:
        with ledger._database.writing() as connection:
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            assert connection.execute("PRAGMA synchronous").fetchone() == (2,)


class TestCaller:
    def test_entries_that_do_not_follow_one_another_are_the_callers_mistake(
        self, ledger: SqliteLedger
    ) -> None:
        entries = sealed_entries("m", 3)

        with pytest.raises(ValueError, match="entry 3 does not follow"):
            ledger.append(request((entries[0], entries[2])))

        assert list(ledger.models()) == []

    def test_an_exception_in_between_leaves_no_lock(self, path: Path, ledger: SqliteLedger) -> None:
        entries = sealed_entries("m", 1)
        ledger.append(request(entries))
        with pytest.raises(Overtaken):
            ledger.append(request(entries))

        with closing(connect(path)) as other:
            other.execute("BEGIN IMMEDIATE")

    def test_a_closed_ledger_opens_again(self, ledger: SqliteLedger) -> None:
        entries = sealed_entries("m", 1)
        ledger.append(request(entries))
        ledger.close()
        ledger.close()

        assert tuple(ledger.read("m")) == entries

    def test_a_relative_path_stays_where_it_was(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        with closing(SqliteLedger("ledger.db")) as ledger:
            (tmp_path / "elsewhere").mkdir()
            monkeypatch.chdir(tmp_path / "elsewhere")
            ledger.append(request(sealed_entries("m", 1)))

        assert (tmp_path / "ledger.db").exists()

    def test_a_clock_set_back_does_not_lengthen_a_lease(self, path: Path) -> None:
        clock = ManualClock()
        with closing(SqliteLedger(path, clock=clock)) as ledger:
            epoch = ledger.claim(NOW, "A", LEASE_SECONDS).epoch_of("m")
            clock.seconds -= 3600
            assert ledger.claim(NOW, "A", LEASE_SECONDS).epoch_of("m") == epoch
            clock.seconds += 1.1 * LEASE_SECONDS

            assert ledger.claim(NOW, "B", LEASE_SECONDS).holder_of("m") == "B"

    def test_notices_tell_of_entries_that_are_there(self, path: Path, ledger: SqliteLedger) -> None:
        epoch = ledger.claim(NOW, "A", LEASE_SECONDS).epoch_of("m")
        ledger.append(Append("m", sealed_entries("m", 2), epoch, None, (notice("n"),)))

        with closing(connect(path)) as other:
            assert other.execute("SELECT model, seq FROM outbox").fetchall() == [("m", 2)]
            assert other.execute("PRAGMA foreign_key_check").fetchall() == []
