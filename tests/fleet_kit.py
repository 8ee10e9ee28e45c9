"""Several real controllers on one PostgreSQL: a project in a directory, and ``autoretrain run`` over it.

What every process prints is one object of JSON a line, in a file of its own.
"""

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cli_project import environment, until
from mlflow_store import sqlite_store
from postgres_server import PASSWORD, Postgres, unused_schema

from autoretrain import AutoRetrainPipeline
from autoretrain.adapters.ledger_postgres import PostgresLedger
from autoretrain.adapters.observations_postgres import PostgresObservations
from autoretrain.adapters.postgres_leases import SHARDS
from autoretrain.entrypoints.stores import DSN_VARIABLE
from autoretrain.ports.agenda import shard_of
from autoretrain.ports.ledger import Entry

_END_SECONDS = 60.0

_SETTINGS = """
[ledger]
store = "postgres"
dsn = "{dsn}"
schema = "{schema}"

[controller]
lease_seconds = {lease:g}
wait_seconds = 0.5
listen = ""
{more}
"""


class Controller:
    """One ``autoretrain run``, which can be ended in every way and started again.

    Args:
        project: What it runs over.
        name: Name of its log.
    """

    def __init__(self, project: "Fleet", name: str) -> None:
        self._project = project
        self.name = name
        self.process: subprocess.Popen[bytes] | None = None
        self.stopped = False

    @property
    def log_file(self) -> Path:
        return self._project.directory / f"{self.name}.log"

    @property
    def log(self) -> list[Mapping[str, Any]]:
        """What it has logged in all its lives; other words it printed are left out."""
        text = self.log_file.read_text() if self.log_file.exists() else ""
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    @property
    def lost_leases(self) -> int:
        """How many of its writes and acts were refused because its lease was over."""
        return sum("is left to another controller" in line["event"] for line in self.log)

    @property
    def holder(self) -> str:
        """How its leases end that are its process's own."""
        assert self.process is not None
        return f":{self.process.pid}:"

    def start(self, *options: str) -> None:
        """Start it, or start it again."""
        command = [sys.executable, "-m", "autoretrain.entrypoints.cli.main", "--log-format", "json", "run"]
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *options], cwd=self._project.directory, env=self._project.environment, stderr=log
            )

    def kill(self) -> None:
        """SIGKILL; does nothing when it does not run."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self.process, self.stopped = None, False

    def stop(self) -> None:
        """SIGSTOP: it holds still, and does not know it."""
        self._signal(signal.SIGSTOP)
        self.stopped = True

    def go_on(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)
        self.stopped = False

    def end(self) -> int:
        """SIGTERM, and wait for its end; gives its exit status."""
        self._signal(signal.SIGTERM)
        assert self.process is not None
        status = self.process.wait(_END_SECONDS)
        self.process = None
        return status

    def _signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)


@dataclass
class Fleet:
    """A project on PostgreSQL in a directory.

    Attributes:
        directory: The directory.
        server: The server.
        schema: The project's schema in it.
        controllers: Those that were ever started.
    """

    directory: Path
    server: Postgres
    schema: str = field(default_factory=unused_schema)
    controllers: list[Controller] = field(default_factory=list)

    @classmethod
    def create(
        cls, directory: Path, server: Postgres, models: str, *, lease_seconds: float = 60.0, more: str = ""
    ) -> "Fleet":
        """Write the settings, and make MLflow's tables, which takes a server seconds.

        Args:
            directory: Where.
            server: Keeps the ledger.
            models: Sections of the models.
            lease_seconds: Life of a lease; the default is longer than a test, so that only a controller that
                gives its leases back can be followed by another.
            more: Further settings of the controller, then further sections.
        """
        fleet = cls(directory, server)
        (directory / ".autoretrain").mkdir()
        sqlite_store(directory / ".autoretrain")
        head = _SETTINGS.format(
            dsn=server.dsn(password=""), schema=fleet.schema, lease=lease_seconds, more=more
        )
        (directory / "autoretrain.toml").write_text(head + models)
        return fleet

    @property
    def environment(self) -> dict[str, str]:
        """Variables of the program."""
        quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        return {**environment(), **quiet, DSN_VARIABLE: f"password='{PASSWORD}'"}

    def controller(self) -> Controller:
        """One more, that is not started yet."""
        self.controllers.append(Controller(self, f"controller-{len(self.controllers) + 1}"))
        return self.controllers[-1]

    def start(self, number: int = 1, *options: str) -> list[Controller]:
        """Start so many, at the same time, and wait until each holds its share of the leases."""
        started = [self.controller() for _ in range(number)]
        for each in started:
            each.start(*options)
        until(lambda: all(self.leases(each) == SHARDS // number for each in started))
        return started

    def close(self) -> None:
        """End whatever still runs."""
        for each in self.controllers:
            each.kill()

    # -- what is known ------------------------------------------------------------------------------------

    def leases(self, controller: Controller) -> int:
        """How many shards a controller's process holds."""
        return len(self._held_by(controller))

    def holds(self, controller: Controller, model: str) -> bool:
        """Whether a controller's process holds a model's shard."""
        return shard_of(model, SHARDS) in self._held_by(controller)

    def _held_by(self, controller: Controller) -> set[int]:
        return {
            shard for shard, (holder, _) in self.lease_rows().items() if controller.holder in (holder or "")
        }

    def lease_rows(self) -> dict[int, tuple[str | None, int]]:
        """Holder and epoch of every shard; none before the first controller."""
        tables = "SELECT count(*) FROM information_schema.tables WHERE table_name = 'leases'"
        if self._sql(f"{tables} AND table_schema = '{self.schema}'") == [(0,)]:
            return {}
        rows = self._sql(f"SELECT shard, holder, epoch FROM {self.schema}.leases")
        return {shard: (holder, epoch) for shard, holder, epoch in rows}

    def _sql(self, statement: str) -> list[tuple[Any, ...]]:
        return self.server.sql(statement, dbname="autoretrain")

    def library(self, **options: Any) -> AutoRetrainPipeline:
        """The library, in this process."""
        own: dict[str, Any] = {
            "ledger": PostgresLedger(self.server.dsn(), schema=self.schema),
            "observations": PostgresObservations(self.server.dsn(), schema=self.schema),
        }
        return AutoRetrainPipeline(settings=self.directory, actor="ann", **own, **options)

    def entries(self) -> dict[str, Sequence[Entry]]:
        """The streams of all models."""
        ledger = PostgresLedger(self.server.dsn(), schema=self.schema)
        try:
            return {model: ledger.read(model) for model in ledger.models()}
        finally:
            ledger.close()

    def kinds(self) -> Counter[tuple[str, str]]:
        """How often each kind of entry stands in the stream of each model."""
        return Counter((model, entry.kind) for model, entries in self.entries().items() for entry in entries)

    def count(self, kind: str, model: str | None = None) -> int:
        """How often a kind of entry stands in the ledger."""
        of_model = f" AND model = '{model}'" if model else ""
        [(number,)] = self._sql(f"SELECT count(*) FROM {self.schema}.entries WHERE kind = '{kind}'{of_model}")
        return int(number)

    @property
    def trainings(self) -> list[str]:
        """Run key of every training command that began."""
        log = self.directory / "trainings.log"
        return log.read_text().split() if log.exists() else []


@contextmanager
def running(fleet: Fleet) -> Iterator[Fleet]:
    """End the fleet's controllers with the block."""
    try:
        yield fleet
    finally:
        fleet.close()


def write_rows(file: Path, days: int = 30, shift: int = 0, by: str = "load") -> None:
    """Write hourly rows until now: the label follows from the load, or from the valve."""
    now = datetime.now(UTC)
    lines = ["time,load,valve,hot"]
    for hour in range(days * 24):
        load, valve = (hour * 37 + shift) % 100, (hour * 53) % 100
        hot = int((load if by == "load" else valve) > 50)
        lines.append(f"{now - timedelta(hours=days * 24 - hour):%Y-%m-%dT%H:%M:%S},{load},{valve},{hot}")
    file.write_text("\n".join(lines) + "\n")
