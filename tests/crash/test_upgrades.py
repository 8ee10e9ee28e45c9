"""A ledger of an earlier release loads for ever; an entry of a later one stops its own model only.

The fixtures were written by the release in their names, with every kind of entry it had: the ledger itself,
and the states that it folded to. They are never changed; a new release adds its own.
"""

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from autoretrain.adapters.ledger_sqlite import SqliteLedger
from autoretrain.domain import requests
from autoretrain.domain.codec import version_of
from autoretrain.domain.controller import Controller
from autoretrain.domain.explain import timeline
from autoretrain.domain.fold import KINDS, fold
from autoretrain.domain.jobs import JobStatus
from autoretrain.domain.sealing import Draft, plain, seal, verify
from autoretrain.domain.state import ModelState
from autoretrain.domain.world import Ports
from autoretrain.entrypoints.cli.main import run
from autoretrain.entrypoints.testing.simulated_world import Training, World, divide_at
from autoretrain.ports.ledger import ENTRY_VERSION, Append, Entry

from services import ROOT

_FOLDER = ROOT / "tests" / "fixtures"
RELEASES = sorted(file.stem.removeprefix("ledger-") for file in _FOLDER.glob("ledger-*.db"))
_LATER = datetime(2026, 1, 16, 1, 10, tzinfo=UTC)  # minutes after the last turn in 0.1.0
_BY_NAME = {"jobs", "quarantined", "verdicts", "unknown_since"}

_FROM_OLD_ENTRIES = {"steadiness"}
"""Fields that came later, and are folded from what the old release wrote already."""


@contextmanager
def opened(path: Path, world: World | None = None) -> Iterator[SqliteLedger]:
    """Open a ledger of an earlier release with the program of today, as its user does."""
    with closing(SqliteLedger(path, clock=world.clock if world else time.time)) as ledger:
        ledger.upgrade()
        yield ledger


@pytest.fixture(params=RELEASES)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of a release's ledger."""
    return Path(shutil.copy(_FOLDER / f"ledger-{request.param}.db", tmp_path))


def states_of(path: Path) -> Mapping[str, Any]:
    """The states that the release itself folded."""
    states: Mapping[str, Any] = json.loads((_FOLDER / path.with_suffix(".json").name).read_text())
    return states


def differences(told: Any, found: Any, where: str) -> list[str]:
    """Where two values differ; fields that a later release added are not compared."""
    if not isinstance(told, dict) or not isinstance(found, dict):
        return [] if told == found else [f"{where}: {found!r}, not {told!r}"]
    names = set(told) | set(found) if where.rpartition(".")[2] in _BY_NAME else set(told)
    return [
        line
        for name in sorted(names)
        for line in differences(told.get(name), found.get(name), f"{where}.{name}")
    ]


class Today:
    """The controller of today over an old ledger, in a world that is as that ledger says."""

    def __init__(self, path: Path) -> None:
        self.world = World(start=_LATER)
        self.path = path
        for model, state in states_of(path).items():
            self._remember(model, state)
            self.world.metrics.set(model, "accuracy", 0.97)

    def _remember(self, model: str, state: Mapping[str, Any]) -> None:
        served = [champion["version"] for champion in (*state["served"], state["champion"])]
        made = [job["candidate"] for job in state["jobs"].values() if job["candidate"]]
        known = {version["version"]: version_of(version) for version in (*served, *made)}
        for number in range(1, max(map(int, known)) + 1):
            version = self.world.registry.register(model, divide_at(0.62), "0" * 64)
            if str(number) in known:
                self.world.registry.versions[model][-1] = known[version.version]
        self.world.registry.aliases[model] = state["champion"]["version"]["version"]

    @contextmanager
    def running(self) -> Iterator[tuple[Controller, Ports]]:
        """A controller over the ledger."""
        with opened(self.path, self.world) as ledger:
            ports = replace(self.world.ports(), ledger=ledger, agenda=ledger, limits=ledger, outbox=ledger)
            yield Controller(ports, self.world.fleet, "today", monotonic=self.world.clock), ports

    def later(self, controller: Controller, **time: float) -> None:
        """Let time pass, and a turn be made."""
        self.world.now += timedelta(**time)
        self.world.add_rows("churn")
        controller.tick(self.world.now)


def test_the_last_release_has_its_fixture() -> None:
    assert "0.1.0" in RELEASES


def test_an_old_ledger_is_whole_and_says_what_it_said(old: Path) -> None:
    with opened(old) as ledger:
        assert set(ledger.models()) == set(states_of(old))
        for model, told in states_of(old).items():
            entries = ledger.read(model)
            assert verify(model, entries) is None
            assert not differences(told, plain(fold(model, entries)), model)


def test_fields_that_came_later_have_their_defaults(old: Path) -> None:
    with opened(old) as ledger:
        for model, told in states_of(old).items():
            state = fold(model, ledger.read(model))
            for name in {field.name for field in fields(ModelState)} - set(told) - _FROM_OLD_ENTRIES:
                assert getattr(state, name) == getattr(ModelState(model), name)


def test_every_job_of_an_old_ledger_can_be_told(old: Path) -> None:
    with opened(old) as ledger:
        for model in ledger.models():
            entries = ledger.read(model)
            for job_id in fold(model, entries).jobs:
                assert timeline(entries, job_id)


@pytest.mark.parametrize("command", [["audit", "verify"], ["jobs", "--limit", "100"], ["show", "churn"]])
def test_the_commands_read_an_old_ledger_once_it_is_upgraded(
    old: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (old.parent / "autoretrain.toml").write_text("")
    state = old.parent / ".autoretrain"
    state.mkdir()
    old.rename(state / "ledger.db")
    call = ["--settings", str(old.parent)]
    assert run([*call, *command]) == 2
    assert "autoretrain db upgrade" in capsys.readouterr().err
    assert run([*call, "db", "upgrade"]) == 0, capsys.readouterr().err
    assert run([*call, *command]) == 0, capsys.readouterr().err


def test_the_fixture_of_0_1_0_has_every_kind_of_entry_of_then(tmp_path: Path) -> None:
    with opened(Path(shutil.copy(_FOLDER / "ledger-0.1.0.db", tmp_path))) as ledger:
        kinds = {entry.kind for model in ledger.models() for entry in ledger.read(model)}
    assert len(kinds) == 26
    assert kinds <= KINDS


def test_a_job_that_waited_over_the_upgrade_is_approved_and_promoted(old: Path) -> None:
    today = Today(old)
    with today.running() as (controller, ports):
        waiting = controller.state("churn").open_job
        assert waiting is not None
        assert waiting.awaiting_until is not None
        controller.request("churn", lambda s: requests.ask_approve(s, waiting.job_id, "ann", "fine"), _LATER)
        today.later(controller, seconds=1)
        job = controller.state("churn").jobs[waiting.job_id]
        assert (job.status, job.deployed) == (JobStatus.COMPLETED, True)
        assert waiting.candidate is not None
        assert today.world.registry.aliases["churn"] == waiting.candidate.version
        assert verify("churn", ports.ledger.read("churn")) is None


def test_an_old_ledger_is_gone_on_with(old: Path) -> None:
    today = Today(old)
    with today.running() as (controller, ports):
        waiting = controller.state("churn").open_job
        assert waiting is not None
        controller.request("churn", lambda s: requests.ask_reject(s, waiting.job_id, "ann", "no"), _LATER)
        today.later(controller, seconds=1)
        today.world.training["churn"] = Training(boundary=0.5)
        today.world.metrics.set("churn", "accuracy", 0.8)
        today.later(controller, days=2)
        last = controller.state("churn").last_job
        assert last is not None
        assert last.job_id not in states_of(old)["churn"]["jobs"]
        assert last.deployed
        controller.request("churn", lambda s: requests.ask_rollback(s, "ann", "worse"), today.world.now)
        today.later(controller, seconds=1)
        assert controller.state("churn").champion == replace(
            controller.state("churn").served[-2], since=today.world.now
        )
        assert verify("churn", ports.ledger.read("churn")) is None
        assert len(today.world.notifier.sent) > 2


def _newer(entry: Entry) -> Entry:
    return replace(entry, v=ENTRY_VERSION + 1)


def _unknown(entry: Entry) -> Entry:
    return replace(entry, kind="canary.widened")


@pytest.mark.parametrize("change", [_newer, _unknown])
def test_an_entry_of_a_later_release_stops_its_own_model_only(old: Path, change: Any) -> None:
    today = Today(old)
    with today.running() as (controller, ports):
        state = controller.state("churn")
        (entry,) = seal("churn", state.head, [Draft("job.stalled", {})], _LATER)
        ports.ledger.append(Append("churn", (change(entry),), None, _LATER))
        before = ports.ledger.read("churn")
        today.world.metrics.set("fraud", "accuracy", 0.8)
        today.later(controller, days=3)
        assert ports.ledger.read("churn") == before
        fraud = controller.state("fraud")
        assert fraud.earlier_jobs + len(fraud.jobs) > len(states_of(old)["fraud"]["jobs"])
        report = today.world.telemetry.reports[-1]
        assert set(report.looked) == {"churn", "fraud"}
        assert report.errors["ledger"] > 0
