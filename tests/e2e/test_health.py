"""``/healthz`` and ``/readyz`` tell the truth: asked over HTTP, of a real loop over a real ledger."""

import json
import sqlite3
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cli_project import until

from autoretrain import AutoRetrainPipeline
from autoretrain.adapters.ledger_sqlite import SqliteLedger
from autoretrain.entrypoints.health import LedgerProbe
from autoretrain.entrypoints.server import StatusServer, health_page
from autoretrain.entrypoints.service import Service
from autoretrain.entrypoints.settings import parse_settings
from autoretrain.ports.agenda import Claim
from autoretrain.ports.errors import Temporary

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
STALE = 120.0


class Ledger(SqliteLedger):
    """A ledger whose claims can be made to fail, or to hang."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, busy_seconds=0.05)
        self.errors: list[Exception] = []
        self.hangs = threading.Event()
        self.goes_on = threading.Event()

    def claim(
        self, now: datetime, holder: str, lease_seconds: float, limit: int = 1000, model: str | None = None
    ) -> Claim:
        if self.hangs.is_set():
            self.goes_on.wait(30)
        if self.errors:
            raise self.errors.pop(0)
        return super().claim(now, holder, lease_seconds, limit, model)


class Running:
    """A service with its status server, and the clock in hand."""

    def __init__(self, folder: Path) -> None:
        self.seconds = 0.0
        self.path = folder / "ledger.db"
        self.ledger = Ledger(self.path)
        settings = parse_settings({}, folder)
        self.pipeline = AutoRetrainPipeline(
            settings=settings, clock=lambda: NOW, kind="run", ledger=self.ledger
        )
        self.service = Service(self.pipeline, lambda seconds: True, lambda: self.seconds)
        self.url = ""

    def turn(self, seconds: float = 1.0) -> None:
        """One turn of the loop, some time after the last one."""
        self.seconds += seconds
        self.service.forever()  # its wait says stop at once

    def get(self, page: str) -> tuple[int, dict[str, Any]]:
        try:
            with urllib.request.urlopen(f"{self.url}/{page}", timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def reasons(self, page: str) -> str:
        """What is wrong by a page; empty where nothing is."""
        status, said = self.get(page)
        assert (status == 200) == said["ok"] == (not said["reasons"])
        assert status in (200, 503)
        return "; ".join(said["reasons"])


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    made = Running(tmp_path)
    pages = {
        "/healthz": lambda _: health_page(made.service.alive()),
        "/readyz": lambda _: health_page(made.service.ready()),
    }
    with StatusServer("127.0.0.1:0", pages) as server:
        made.url = server.url
        yield made
    made.ledger.goes_on.set()
    with suppress(Exception):  # some tests have taken its ledger away
        made.pipeline.release()
    made.ledger.close()


def test_before_the_first_turn_it_is_alive_and_not_ready(running: Running) -> None:
    assert running.reasons("healthz") == ""
    assert running.reasons("readyz") == "no turn of the loop has ended yet"
    assert running.get("readyz")[1]["role"] == "none"


def test_with_the_lease_it_leads(running: Running) -> None:
    running.turn()
    status, said = running.get("readyz")
    assert status == 200
    assert (said["role"], said["reasons"], said["running_seconds"]) == ("leading", [], None)
    assert said["lease_holder"].startswith("run:")


def test_beside_another_holder_it_stands_by_and_says_so(running: Running) -> None:
    with closing(SqliteLedger(running.path)) as other:
        other.claim(NOW, "run:elsewhere:1:1", 20.0)
        running.turn()
        status, said = running.get("readyz")
        assert (status, said["role"], said["lease_holder"]) == (200, "standby", "run:elsewhere:1:1")
        other.release("run:elsewhere:1:1")
    running.turn()
    assert running.get("readyz")[1]["role"] == "leading"


def test_a_loop_that_fails_turns_and_is_not_ready(running: Running) -> None:
    running.turn()
    running.ledger.errors = [Temporary("the disk is full"), Temporary("the disk is full")]
    running.turn()
    running.turn()
    assert running.reasons("readyz") == "the last turn failed: the disk is full (2 in a row)"
    assert running.reasons("healthz") == ""


def test_a_loop_that_stands_still_is_neither(running: Running) -> None:
    running.turn()
    running.seconds += STALE
    assert running.reasons("healthz") == ""
    running.seconds += 1.0
    for page in ("healthz", "readyz"):
        assert running.reasons(page) == "no turn of the loop has ended for 121 s"
    running.turn()
    assert running.reasons("healthz") == running.reasons("readyz") == ""


def test_a_turn_that_hangs_is_told_while_it_hangs(running: Running) -> None:
    running.turn()
    running.ledger.hangs.set()
    with ThreadPoolExecutor(1) as pool:
        hung = pool.submit(running.turn)
        until(lambda: running.get("healthz")[1]["running_seconds"] is not None, pause=0.01)
        running.seconds += STALE - 2
        assert running.reasons("healthz") == running.reasons("readyz") == ""
        running.seconds += 10
        for page in ("healthz", "readyz"):
            assert running.reasons(page) == "a turn of the loop has been running for 128 s"
        running.ledger.goes_on.set()
        hung.result(timeout=10)
    assert running.reasons("healthz") == running.reasons("readyz") == ""


def test_a_ledger_that_was_removed_is_told_at_once(running: Running) -> None:
    running.turn()
    running.path.unlink()
    assert "was deleted or replaced while in use" in running.reasons("readyz")
    assert running.reasons("healthz") == ""


def test_a_ledger_that_was_replaced_is_told_at_once(running: Running) -> None:
    running.turn()
    running.path.rename(running.path.with_suffix(".old"))
    running.path.write_bytes(b"")
    assert "was deleted or replaced while in use" in running.reasons("readyz")


def test_a_ledger_that_takes_no_writes_is_told_and_comes_back(running: Running) -> None:
    running.turn()
    with closing(sqlite3.connect(running.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert "another process is writing to it" in running.reasons("readyz")
        other.execute("ROLLBACK")
    assert running.reasons("readyz") != "", "the answer serves for a second"
    running.seconds += 1.0
    assert running.reasons("readyz") == ""


def test_a_probe_writes_nothing(running: Running) -> None:
    running.turn()
    with closing(sqlite3.connect(running.path)) as other:
        before = other.execute("PRAGMA data_version").fetchone()
        assert running.reasons("readyz") == ""
        assert other.execute("PRAGMA data_version").fetchone() == before
        holder = other.execute("SELECT holder FROM leases").fetchone()[0]
    assert holder == running.get("readyz")[1]["lease_holder"]


def test_a_store_that_hangs_costs_one_thread_and_is_told(running: Running, monkeypatch: Any) -> None:
    monkeypatch.setattr("autoretrain.entrypoints.health._PROBE_SECONDS", 0.1)
    running.turn()
    begun = threading.Event()

    class Hanging:
        def release(self, holder: str) -> None:
            begun.set()
            running.ledger.goes_on.wait(30)

    probe = LedgerProbe(Hanging())  # type: ignore[arg-type]  # all that a probe asks of an agenda
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(probe)
        assert begun.wait(10)
        assert probe() == probe() == "the ledger has not answered within 0.1 s"
        running.ledger.goes_on.set()
        assert first.result(timeout=10) == ""
    assert probe() == ""


@pytest.mark.parametrize("seconds", ["0", "29.9", "'soon'", "inf"])
def test_a_stale_time_that_would_kill_a_healthy_loop_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], seconds: str
) -> None:
    from autoretrain.entrypoints.cli.main import run

    (tmp_path / "autoretrain.toml").write_text(f"[controller]\nstale_seconds = {seconds}\n")
    monkeypatch.chdir(tmp_path)
    assert run(["run", "--once"]) == 2
    assert "controller.stale_seconds" in capsys.readouterr().err
