"""Anchors made by themselves: beside the loop, by the library, whatever the keeper does."""

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from audit_kit import DAY, NOON, Keys, grow, tamper, truncated
from project_kit import Project

from autoretrain import AutoRetrainPipeline
from autoretrain.adapters.ledger_sqlite import SqliteLedger
from autoretrain.adapters.memory import MemoryAnchors
from autoretrain.domain.anchors import Anchor, anchor_of
from autoretrain.entrypoints.anchoring import Anchoring, RegularAnchors
from autoretrain.entrypoints.doctor import examine
from autoretrain.entrypoints.service import Service
from autoretrain.entrypoints.settings import parse_settings
from autoretrain.ports.errors import ConfigurationError, Overtaken, Permanent, Refused, Temporary

HOUR = timedelta(hours=1)
SIGNER = Keys.new().signer


class Place(MemoryAnchors):
    """A keeper that can be made to fail, before it has kept an anchor or after that."""

    def __init__(self) -> None:
        super().__init__()
        self.before: list[Exception] = []
        self.after: list[Exception] = []

    def keep(self, number: int, text: str) -> None:
        if self.before:
            raise self.before.pop(0)
        super().keep(number, text)
        if self.after:
            raise self.after.pop(0)

    @property
    def anchors(self) -> list[Anchor]:
        return [anchor_of(text) for text in self.kept()]


@pytest.fixture
def place() -> Place:
    return Place()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqliteLedger]:
    with closing(SqliteLedger(tmp_path / "ledger.db")) as ledger:
        grow(ledger, "boiler", 2)
        yield ledger


@pytest.fixture
def anchoring(ledger: SqliteLedger, place: Place) -> Anchoring:
    return Anchoring(ledger, place, SIGNER)


class TestMaking:
    def test_every_one_follows_the_last_and_knows_what_is_new(
        self, anchoring: Anchoring, ledger: SqliteLedger, place: Place
    ) -> None:
        first = anchoring.make(NOON)
        grow(ledger, "boiler", 1)
        grow(ledger, "pump", 1)
        second = anchoring.make(NOON + DAY)
        assert place.anchors == [first, second]
        assert [(head.model, head.seq) for head in second.heads] == [("boiler", 3), ("pump", 1)]
        assert (second.number, second.prev) == (2, first.hash)

    def test_one_that_may_have_arrived_is_tried_again_as_it_was(
        self, anchoring: Anchoring, ledger: SqliteLedger, place: Place
    ) -> None:
        place.after = [Temporary("no answer")]
        with pytest.raises(Temporary):
            anchoring.make(NOON)
        grow(ledger, "boiler", 1)
        assert anchoring.make(NOON + HOUR).at.startswith("2026-03-04T12:00")
        assert len(place.anchors) == 1

    def test_another_process_that_was_first_is_followed(
        self, anchoring: Anchoring, ledger: SqliteLedger, place: Place
    ) -> None:
        place.before = [Temporary("away")]
        with pytest.raises(Temporary):
            anchoring.make(NOON)
        Anchoring(ledger, place, SIGNER).make(NOON + HOUR)
        assert anchoring.make(NOON + 2 * HOUR).number == 2

    def test_with_others_who_are_always_first_it_gives_up_for_now(
        self, anchoring: Anchoring, place: Place
    ) -> None:
        place.before = [Overtaken("another")] * 5
        with pytest.raises(Temporary, match="other processes"):
            anchoring.make(NOON)

    def test_an_empty_ledger_has_nothing_to_anchor(self, tmp_path: Path, place: Place) -> None:
        with closing(SqliteLedger(tmp_path / "new.db")) as empty, pytest.raises(Refused, match="no entry"):
            Anchoring(empty, place, SIGNER).make(NOON)

    def test_a_stream_that_shrinks_while_we_run_keeps_its_known_end(
        self, anchoring: Anchoring, tmp_path: Path, ledger: SqliteLedger
    ) -> None:
        anchoring.make(NOON)
        tamper(tmp_path / "ledger.db", "boiler", truncated(1))
        assert [head.seq for head in anchoring.make(NOON + DAY).heads] == [2]

    @pytest.mark.parametrize(
        ("later", "left"), [(HOUR, 23 * HOUR), (DAY, 0 * HOUR), (2 * DAY, -DAY), (-2 * HOUR, 22 * HOUR)]
    )
    def test_when_the_next_is_due(self, anchoring: Anchoring, later: timedelta, left: timedelta) -> None:
        assert anchoring.due_in(DAY, NOON) == timedelta(0)
        anchoring.make(NOON)
        assert anchoring.due_in(DAY, NOON + later) == left


class Clock:
    """A clock that stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


class TestRegularly:
    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture
    def regular(self, anchoring: Anchoring, clock: Clock) -> RegularAnchors:
        return RegularAnchors(lambda: anchoring, DAY, clock)

    def test_one_is_made_when_it_is_due(self, regular: RegularAnchors, clock: Clock, place: Place) -> None:
        assert (regular.turn(), len(place.anchors)) == (0.0, 1)
        assert (regular.turn(), len(place.anchors)) == (600.0, 1)
        clock.now += DAY - timedelta(minutes=1)
        assert (regular.turn(), len(place.anchors)) == (60.0, 1)
        clock.now += timedelta(minutes=1)
        assert (regular.turn(), len(place.anchors)) == (0.0, 2)

    def test_a_failure_is_told_and_tried_again_ever_more_slowly(
        self, regular: RegularAnchors, place: Place, caplog: pytest.LogCaptureFixture
    ) -> None:
        place.before = [Temporary("the share is away")] * 8
        with caplog.at_level(logging.WARNING):
            pauses = [regular.turn() for _ in range(8)]
        assert pauses == [60, 120, 240, 480, 960, 1920, 3600, 3600]
        assert regular.trouble == "the share is away"
        assert "no anchor could be made (8 in a row): the share is away" in caplog.text
        regular.turn()
        assert (regular.trouble, len(place.anchors)) == ("", 1)

    @pytest.mark.parametrize(
        ("error", "trouble"),
        [
            (Permanent("it refuses"), "it refuses"),
            (ZeroDivisionError("what?"), "unexpected ZeroDivisionError: what?"),
        ],
    )
    def test_nothing_ends_it(
        self, regular: RegularAnchors, place: Place, error: Exception, trouble: str
    ) -> None:
        place.before = [error]
        regular.turn()
        assert regular.trouble == trouble
        regular.turn()
        assert regular.trouble == ""

    def test_keys_that_are_not_there_are_asked_for_again(self, anchoring: Anchoring, clock: Clock) -> None:
        missing = [ConfigurationError([])]

        def build() -> Anchoring:
            if missing:
                raise missing.pop()
            return anchoring

        regular = RegularAnchors(build, DAY, clock)
        assert regular.turn() == 60.0
        assert (regular.turn(), regular.trouble) == (0.0, "")

    def test_an_empty_ledger_is_no_trouble(self, tmp_path: Path, place: Place, clock: Clock) -> None:
        with closing(SqliteLedger(tmp_path / "new.db")) as empty:
            regular = RegularAnchors(lambda: Anchoring(empty, place, SIGNER), DAY, clock)
            assert (regular.turn(), regular.trouble) == (60.0, "")

    def test_what_a_keeper_has_not_passed_on_it_does_at_the_next_start(
        self, ledger: SqliteLedger, tmp_path: Path, clock: Clock
    ) -> None:
        from autoretrain.adapters.anchors_command import CommandAnchors

        words = ["sh", "-c", "test -e open && cat >> taken"]
        keeper = CommandAnchors(words, tmp_path / "journal", directory=tmp_path)
        with pytest.raises(Temporary):
            Anchoring(ledger, keeper, SIGNER).make(NOON)
        (tmp_path / "open").touch()
        RegularAnchors(lambda: Anchoring(ledger, keeper, SIGNER), DAY, clock).turn()
        assert (tmp_path / "taken").read_text() == "".join(f"{line}\n" for line in keeper.kept())

    def test_in_a_thread_of_its_own(self, ledger: SqliteLedger) -> None:
        kept, release = threading.Event(), threading.Event()

        class Slow(MemoryAnchors):
            def keep(self, number: int, text: str) -> None:
                super().keep(number, text)
                kept.set()
                assert release.wait(30)

        place = Slow()
        with RegularAnchors(lambda: Anchoring(ledger, place, SIGNER), DAY):
            assert kept.wait(30)
            grow(ledger, "boiler", 1)  # the loop goes on meanwhile
            release.set()
        assert place.latest() is not None
        assert not any(thread.name == "anchors" for thread in threading.enumerate())


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    keys = Keys.new()
    (tmp_path / "audit.key").write_text(keys.private)
    (tmp_path / "audit.key").chmod(0o600)
    (tmp_path / "audit.key.pub").write_text(keys.public)
    return keys


AUDIT = {"keeper": "file", "path": "elsewhere/anchors.jsonl", "key": "audit.key", "every_hours": 1}


def library(folder: Path, **ports: Any) -> AutoRetrainPipeline:
    settings = parse_settings({"audit": AUDIT}, folder)
    return AutoRetrainPipeline(settings=settings, clock=lambda: NOON, **ports)


class TestLibrary:
    @pytest.fixture(autouse=True)
    def _entries(self, tmp_path: Path) -> None:
        with closing(SqliteLedger(tmp_path / ".autoretrain" / "ledger.db")) as ledger:
            grow(ledger, "boiler", 3)

    def test_anchors_and_verifies(self, tmp_path: Path, keys: Keys) -> None:
        pipeline = library(tmp_path)
        assert pipeline.anchor_audit().at == "2026-03-04T12:00:00.000000Z"
        assert pipeline.verify_audit() == []
        tamper(tmp_path / ".autoretrain" / "ledger.db", "boiler", truncated(2))
        (fault,) = pipeline.verify_audit()
        assert (fault.model, fault.seq, fault.anchor) == ("boiler", 3, 1)

    def test_takes_a_keeper_of_your_own(self, tmp_path: Path, keys: Keys) -> None:
        place = Place()
        library(tmp_path, anchors=place).anchor_audit()
        assert len(place.anchors) == 1
        assert not (tmp_path / "elsewhere").exists()

    def test_anchors_that_cannot_be_checked_are_no_pass(self, tmp_path: Path, keys: Keys) -> None:
        pipeline = library(tmp_path)
        pipeline.anchor_audit()
        (tmp_path / "audit.key.pub").unlink()
        with pytest.raises(ConfigurationError, match="there is no such file"):
            pipeline.verify_audit()

    def test_without_a_keeper_it_says_which_setting(self, tmp_path: Path) -> None:
        pipeline = AutoRetrainPipeline(settings=parse_settings({}, tmp_path))
        with pytest.raises(ConfigurationError, match=r"audit\.keeper"):
            pipeline.anchor_audit()
        assert pipeline.verify_audit() == []

    def test_health_tells_of_anchors_that_fail_and_stays_well(self, tmp_path: Path) -> None:
        pipeline = library(tmp_path)
        regular = RegularAnchors(pipeline.anchoring, HOUR)
        service = Service(pipeline, lambda seconds: False, anchors=regular)
        assert service.until_idle()
        assert service.ready().anchors == ""
        regular.turn()  # there is no key
        health = service.ready()
        assert (health.ok, health.reasons) == (True, ())
        assert "there is no such file" in health.anchors


def test_run_anchors_by_itself(tmp_path: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    from autoretrain.entrypoints.cli.main import run

    with closing(SqliteLedger(tmp_path / ".autoretrain" / "ledger.db")) as ledger:
        grow(ledger, "boiler", 3)
    settings = "".join(f"{name} = {json.dumps(value)}\n" for name, value in AUDIT.items())
    (tmp_path / "autoretrain.toml").write_text(f"[audit]\n{settings}")
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert run(["run", "--once"]) == 0
    (line,) = (tmp_path / "elsewhere" / "anchors.jsonl").read_text().splitlines()
    assert [head.seq for head in anchor_of(line).heads] == [3]
    (tmp_path / "audit.key").unlink()
    assert run(["run", "--once"]) == 0


class TestDoctor:
    @pytest.fixture
    def project(self, tmp_path: Path, keys: Keys) -> Project:
        return Project.create(tmp_path, command="true")

    def findings(self, project: Project, audit: str) -> list[tuple[str, str]]:
        file = project.directory / "autoretrain.toml"
        section = f"\n[audit]\nkey = 'audit.key'\n{audit}\n" if audit else ""
        file.write_text(file.read_text().partition("\n[audit]")[0] + section)
        found = examine(project.directory)
        return [(finding.status, finding.text) for finding in found if finding.about == "anchors"]

    def test_says_what_there_is_to_say(self, project: Project) -> None:
        with closing(SqliteLedger(project.directory / ".autoretrain" / "ledger.db")) as ledger:
            grow(ledger, "boiler", 3)
        ((status, text),) = self.findings(project, "")
        assert (status, text[:13]) == ("ok", "none are made")

        in_file = "keeper = 'file'\npath = 'elsewhere'\n"
        assert self.findings(project, in_file) == [("warning", "none is kept yet")]
        pipeline = AutoRetrainPipeline(settings=project.directory)
        made = pipeline.anchor_audit()
        ((status, text),) = self.findings(project, in_file)
        assert (status, text) == ("ok", f"the latest is {made.label}, and the ledger is as it knows it")

        old = AutoRetrainPipeline(settings=project.directory, clock=lambda: NOON)
        old.anchor_audit()
        ((status, text),) = self.findings(project, in_file)
        assert (status, text) == (
            "warning",
            "the latest is anchor 2 (2026-03-04 12:00 UTC), and one is due every 24 h",
        )

        tamper(project.directory / ".autoretrain" / "ledger.db", "boiler", truncated(2))
        assert "boiler: entry 3: it is missing" in dict(self.findings(project, in_file))["problem"]

        (project.directory / "audit.key").chmod(0o644)
        ((status, text),) = self.findings(project, in_file)
        assert (status, text[-29:]) == ("problem", "others can read it: chmod 600")

    def test_says_what_a_command_has_not_taken(self, project: Project) -> None:
        with closing(SqliteLedger(project.directory / ".autoretrain" / "ledger.db")) as ledger:
            grow(ledger, "boiler", 3)
        by_command = "keeper = 'command'\ncommand = ['false']\n"
        self.findings(project, by_command)
        with pytest.raises(Temporary):
            AutoRetrainPipeline(settings=project.directory).anchor_audit()
        assert ("warning", "1 of them not taken by false yet") in self.findings(project, by_command)
