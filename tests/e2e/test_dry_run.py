"""``run --dry-run``: says what a controller would do, and leaves everything as it is."""

import json
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cli_project import Project, environment

from autoretrain.adapters.ledger_sqlite import SqliteLedger
from autoretrain.domain.sealing import Draft, Head, seal
from autoretrain.entrypoints.cli.main import run
from autoretrain.entrypoints.stores import LEDGER_FILE
from autoretrain.ports.ledger import Append

HOURLY = 'rule = "schedule"\ntrigger.schedule_expression = "0 * * * *"'


def contents(directory: Path) -> dict[str, object]:
    """Files as they are; of the ledger what its tables hold, since SQLite tidies up when it is read."""
    files = [path for path in directory.rglob("*") if path.is_file() and LEDGER_FILE not in path.name]
    with closing(sqlite3.connect(directory / ".autoretrain" / LEDGER_FILE)) as ledger:
        return {"ledger": list(ledger.iterdump()), **{str(path): path.read_bytes() for path in files}}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A model that is watched since the day before yesterday, with a slot every hour, and never retrained."""
    made = Project.create(tmp_path)
    settings = tmp_path / "autoretrain.toml"
    settings.write_text(settings.read_text().replace('rule = "performance"', HOURLY))
    ledger = SqliteLedger(tmp_path / ".autoretrain" / LEDGER_FILE)
    begun = datetime.now(UTC) - timedelta(days=2)
    entries = seal("boiler", Head(), (Draft("model.enrolled"),), begun)
    ledger.append(Append("boiler", entries, epoch=None, next_look=begun))
    monkeypatch.chdir(tmp_path)
    return made


@pytest.fixture
def untouched(project: Project) -> Iterator[None]:
    before = contents(project.directory)
    yield
    after = contents(project.directory)
    assert {name for name in before | after if before.get(name) != after.get(name)} == set()
    assert project.trainings == []


@pytest.mark.usefixtures("untouched")
def test_says_what_it_would_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["run", "--dry-run", "--until-idle"]) == 0
    first, *more = capsys.readouterr().out.splitlines()
    assert first.startswith("boiler: would retrain: the slot of ")
    assert "    would train on 480 rows" in more[0]
    assert "    would judge on 1" in more[1]  # five days of hours, as of now

    assert run(["run", "--dry-run", "--once", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    [finding] = said["models"]
    assert (finding["would"], finding["job"]["trigger_type"], said["incomplete"]) == (
        "retrain", "scheduled", []
    )  # fmt: skip


@pytest.mark.usefixtures("untouched")
def test_a_job_that_would_fail_at_once_is_told_with_its_reason(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = project.directory / "autoretrain.toml"
    text = settings.read_text()
    settings.write_text(text.replace("min_holdout_rows = 20", "min_holdout_rows = 5000"))
    try:
        assert run(["run", "--dry-run", "--until-idle"]) == 0
    finally:
        settings.write_text(text)
    assert "labelled rows, 5000 are needed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--json"], "add --dry-run"),
        (["--dry-run", "--listen", "127.0.0.1:0"], "leave out --listen"),
        (["--dry-run", "--once", "--until-idle"], "exclude one another"),
    ],
)
def test_options_that_do_not_go_together(
    options: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["run", *options]) == 2
    assert why in capsys.readouterr().err


@pytest.mark.usefixtures("untouched")
def test_goes_on_until_it_is_stopped_and_leaves_nothing_behind(project: Project, tmp_path: Path) -> None:
    scratch = tmp_path.parent / f"{tmp_path.name}-scratch"
    scratch.mkdir()
    process = subprocess.Popen(
        project.command("run", "--dry-run", "--json"),
        cwd=project.directory,
        env={**environment(), "TMPDIR": str(scratch)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    said = json.loads(process.stdout.readline())
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=60)
    assert (said["model"], said["would"], process.returncode) == ("boiler", "retrain", 0)
    assert all(json.loads(line)["model"] == "boiler" for line in rest.splitlines())
    assert list(scratch.iterdir()) == []
