"""A ledger that an older release wrote is read as that release read it, for ever."""

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from autoretrain.adapters.ledger_sqlite import SqliteLedger
from autoretrain.domain.explain import timeline
from autoretrain.domain.requests import ask_rollback
from autoretrain.domain.sealing import canonical, seal, verify
from autoretrain.domain.state import fold
from autoretrain.entrypoints.cli.main import run
from autoretrain.ports.ledger import Append

from services import ROOT

LATER = datetime(2026, 6, 1, tzinfo=UTC)
FIXTURES = ROOT / "tests" / "fixtures"
RELEASES = sorted(file.stem.removeprefix("ledger-") for file in FIXTURES.glob("ledger-*.db"))


@pytest.fixture(params=RELEASES)
def release(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def file(release: str, tmp_path: Path) -> Path:
    state = tmp_path / ".autoretrain"
    state.mkdir()
    (tmp_path / "autoretrain.toml").write_text("")
    return Path(shutil.copy(FIXTURES / f"ledger-{release}.db", state / "ledger.db"))


@pytest.fixture
def ledger(file: Path) -> Iterator[SqliteLedger]:
    ledger = SqliteLedger(file)
    yield ledger
    ledger.close()


def differences(told: Any, now: Any, where: str = "") -> list[str]:
    """Where what was told then is not what is told now; what has been added since does not count."""
    if isinstance(told, dict) and isinstance(now, dict):
        missing = [f"{where}.{name} is gone" for name in told.keys() - now.keys()]
        shared = sorted(told.keys() & now.keys())
        return missing + [
            found for name in shared for found in differences(told[name], now[name], f"{where}.{name}")
        ]
    if isinstance(told, list) and isinstance(now, list) and len(told) == len(now):
        pairs = enumerate(zip(told, now, strict=True))
        return [found for place, pair in pairs for found in differences(*pair, f"{where}[{place}]")]
    return [] if told == now else [f"{where}: {told!r} then, {now!r} now"]


def test_there_is_one() -> None:
    assert "0.1.0" in RELEASES


def test_every_stream_verifies(ledger: SqliteLedger) -> None:
    assert [verify(model, ledger.read(model)) for model in ledger.models()] == [None] * len(ledger.models())


def test_every_state_is_as_that_release_folded_it(ledger: SqliteLedger, release: str) -> None:
    told = json.loads((FIXTURES / f"ledger-{release}.json").read_text())
    now = {model: json.loads(canonical(fold(model, ledger.read(model)))) for model in ledger.models()}
    assert told.keys() == now.keys()
    assert differences(told, now) == []


def test_every_job_can_be_told(ledger: SqliteLedger) -> None:
    for model in ledger.models():
        entries = ledger.read(model)
        for job_id in fold(model, entries).jobs:
            assert timeline(entries, job_id)


def test_its_streams_go_on(ledger: SqliteLedger) -> None:
    states = [fold(model, ledger.read(model)) for model in ledger.models()]
    served = [state for state in states if state.served and state.rollback is None]
    assert served
    for state in served:
        draft = ask_rollback(state, "ann", "worse since the upgrade")
        ledger.append(Append(state.model, seal(state.model, state.head, (draft,), LATER), None))
        entries = ledger.read(state.model)
        assert fold(state.model, entries).rollback is not None
        assert verify(state.model, entries) is None


@pytest.mark.parametrize("command", [["audit", "verify"], ["jobs", "--limit", "100"], ["show", "churn"]])
def test_the_commands_read_it(file: Path, command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--settings", str(file.parent.parent), *command]) == 0, capsys.readouterr().err


def test_the_comparison_finds_what_it_is_for() -> None:
    then = {"a": [1, {"b": None}], "c": 1.0}
    assert differences(then, {**then, "new": 1}) == []
    assert differences(then, {"a": [1, {"b": 0}], "c": 1}) == [".a[1].b: None then, 0 now"]
    assert differences(then, {"a": [1, {"b": None}]}) == [".c is gone"]
    assert differences([1], [1, 2]) == [": [1] then, [1, 2] now"]
