"""A small project on disk, and the program run on it as a user would: in processes of its own.

One classifier on 30 days of rows; its training takes as long as the file ``hold`` is there, and leaves a line
in ``trainings.log`` each time it begins.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from mlflow_store import sqlite_store

from autoretrain.adapters.ledger_sqlite import SqliteLedger
from autoretrain.ports.ledger import Entry

_T = TypeVar("_T")

_SETTINGS = """
[controller]
lease_seconds = 8
listen = ""

[defaults]
rule = "performance"
metric = "accuracy"
min_rows = 20
min_holdout_rows = 20
holdout_days = 5
trigger.training_window_days = 20
trigger.evaluation_window_days = 5

[models.boiler]
data = {{ path = "rows.csv", time = "time", label = "hot" }}

[models.boiler.training]
command = [{python}, "train.py"]
directory = {directory}
parameters = {{ depth = 3 }}
"""

_TRAIN = """
import os, time
from pathlib import Path

with open("trainings.log", "a") as log:
    log.write(f"{os.environ['AUTORETRAIN_JOB_ID']}\\n")
while Path("hold").exists():
    time.sleep(0.05)
if Path("stop").exists():
    raise SystemExit("the test is over")

from sklearn.tree import DecisionTreeClassifier
from autoretrain import training_job

with training_job() as job:
    X, y = job.load()
    job.log_model(DecisionTreeClassifier(max_depth=job.config["depth"], random_state=0).fit(X, y))
"""


def environment() -> dict[str, str]:
    """Variables with which a process finds the package as this one does, installed or not."""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


@dataclass(frozen=True)
class Project:
    """A project in a directory."""

    directory: Path

    @classmethod
    def create(cls, directory: Path) -> "Project":
        """Write it; MLflow's tables are there already, since creating them takes seconds."""
        text = _SETTINGS.format(python=json.dumps(sys.executable), directory=json.dumps(str(directory)))
        (directory / "autoretrain.toml").write_text(text)
        (directory / "train.py").write_text(_TRAIN)
        state = directory / ".autoretrain"
        state.mkdir()
        sqlite_store(state)
        start = datetime.now(UTC) - timedelta(days=30)
        lines = ["time,load,valve,hot"]
        for hour in range(30 * 24):
            load, valve = (hour * 37) % 100, (hour * 53) % 100
            hot = int(load + valve / 4 > 60)
            lines.append(f"{start + timedelta(hours=hour):%Y-%m-%dT%H:%M:%S},{load},{valve},{hot}")
        (directory / "rows.csv").write_text("\n".join(lines) + "\n")
        return cls(directory)

    @property
    def trainings(self) -> list[str]:
        """The job of every training that began."""
        log = self.directory / "trainings.log"
        return log.read_text().split() if log.exists() else []

    def hold(self) -> None:
        """Let trainings wait until ``go``."""
        (self.directory / "hold").touch()

    def go(self) -> None:
        """Let trainings end."""
        (self.directory / "hold").unlink(missing_ok=True)

    def stop(self) -> None:
        """End trainings that wait, and let none begin."""
        (self.directory / "stop").touch()
        self.go()

    def command(self, *arguments: str) -> list[str]:
        """Command line of the program."""
        return [sys.executable, "-m", "autoretrain.entrypoints.cli.main", *arguments]

    def call(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run the program to its end."""
        options = {"cwd": self.directory, "env": environment(), "timeout": 180, **options}
        return subprocess.run(self.command(*arguments), capture_output=True, text=True, **options)

    def ask(self, *arguments: str) -> str:
        """Run the program, which must succeed; return what it printed."""
        done = self.call(*arguments)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout.strip()

    def read(self, *arguments: str) -> Any:
        """Run the program with ``--json``, and return what it says."""
        return json.loads(self.ask(*arguments, "--json"))

    def spawn(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the program; its standard error goes to ``run.err``."""
        with open(self.directory / "run.err", "a") as errors:
            return subprocess.Popen(
                self.command(*arguments), cwd=self.directory, env=environment(), stderr=errors, text=True
            )


def until(look: Callable[[], _T], seconds: float = 60.0, pause: float = 0.1) -> _T:
    """Look until the answer is true, and return it; fail when it takes longer."""
    deadline = time.monotonic() + seconds
    while not (answer := look()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(pause)
    return answer


def entries_of(project: Project, model: str = "boiler") -> Sequence[Entry]:
    """All entries of a model, in order."""
    ledger = SqliteLedger(project.directory / ".autoretrain" / "ledger.db")
    try:
        return ledger.read(model)
    finally:
        ledger.close()


def kinds(project: Project, model: str = "boiler") -> list[str]:
    """Kinds of all entries of a model, in order."""
    return [entry.kind for entry in entries_of(project, model)]
