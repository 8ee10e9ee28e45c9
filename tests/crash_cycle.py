"""One full cycle of a model on real adapters, driven by processes that can be killed at every record and act.

``prepare`` lays out a project. ``drive`` takes its model through the cycle: a metric is bad, a training is
started, its candidate is found, judged and promoted; a person takes it back; a training asked for by hand
hangs and is cancelled. ``drive`` reads from the ledger how far the cycle is, so that a process started after
a crash goes on where the one before it died.

All are called in children of a ``warm_process``. Training and prediction are real runs of the subprocess
adapter, whose commands ask the warm process for a child with everything imported. They hold still while a
process turns the loop, so that every cycle makes the same calls in the same order.
"""

import json
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from datetime import datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import mlflow
import mlflow.sklearn
import pyarrow.csv
import pyarrow.parquet
from crash_outcome import lines, outcome_of
from crash_stores import STORES
from mlflow_store import sqlite_store
from project_kit import MODEL, NOW, fitted, table

import autoretrain.adapters.prediction_process as prediction_process
from autoretrain import AutoRetrainPipeline, training_job
from autoretrain.adapters.predictor_runs import RunPredictor
from autoretrain.domain.fold import fold
from autoretrain.domain.plan import Phase, phase_of
from autoretrain.domain.state import ModelState
from autoretrain.domain.trigger_types import TriggerType
from autoretrain.domain.world import Ports
from autoretrain.entrypoints.container import build_ports
from autoretrain.entrypoints.settings import load_settings
from autoretrain.ports.errors import LeaseLost, Temporary
from autoretrain.ports.notifier import Notice
from autoretrain.ports.telemetry import TickReport

_HERE = Path(__file__).parent
_SETTINGS = """
[controller]
lease_seconds = 2

[compute]
max_parallel = 4
grace_seconds = 1

[models.boiler]
rule = "performance"
min_rows = 20
min_holdout_rows = 20
holdout_days = 5
trigger.training_window_days = 20
trigger.evaluation_window_days = 5
data = { path = "rows.parquet", time = "time", label = "hot" }
training = { command = ["sh", "train.sh"], deadline_seconds = 60, parameters = { boundary = 50 } }
"""
_TRAIN = """
echo "$AUTORETRAIN_JOB_ID/train/$AUTORETRAIN_ATTEMPT" >> trainings.log
exec {ask} train
"""
_PREDICT = """#!/bin/sh
[ "$2" = -c ] && exit 1  # asked where its libraries are: it is no Python
echo "$5" >> {directory}/predictions.log
exec {ask} predict {directory} "$@"
"""
_START = NOW + timedelta(minutes=30)  # the table is hourly: some minutes more or less give the same rows
_SOON = timedelta(minutes=5)
_MOST_TURNS = 300


# -- the points at which a process can be killed -------------------------------------------------------------

_READS = {
    "ledger": {"models", "read"},
    "agenda": {"holds"},
    "limits": {"used"},
    "outbox": {"due", "dead_letters", "counts"},
    "observations": {"recent"},
    "metrics": {"read"},  # what it lets others do is counted there
    "drift": {"compare"},
    "compute": {"observe", "log_tail"},
    "registry": {"champions", "fetch"},
    "scorer": {"score"},
    "inspector": {"inspect"},
    "router": {"in_force"},
    "telemetry": {"report"},
}
"""Calls that change nothing. Every other call of a port is a record or an act, and so is one that is new."""

_MLFLOW_WRITES = ("create_", "set_", "log_", "delete_", "finalize_", "update_", "rename_", "restore_")


class Points:
    """Counts the records and acts of a process, and kills it at one of them.

    Args:
        kill_at: Number of the call to die at, from 0; ``None`` to live.
        after: Whether to die after the call took effect, and not before it.
    """

    def __init__(self, kill_at: int | None = None, after: bool = False) -> None:
        self.met: list[str] = []
        self._kill_at = kill_at
        self._after = after

    def through(self, name: str, call: Callable[[], Any]) -> Any:
        """Make one call, or die."""
        self.met.append(name)
        mine = len(self.met) - 1 == self._kill_at
        if mine and not self._after:
            self._die(name)
        try:
            return call()
        finally:  # also after a call that was refused
            if mine:
                self._die(name)

    def _die(self, name: str) -> None:
        Path("died").write_text(name)
        os.kill(os.getpid(), signal.SIGKILL)


class Watched:
    """Stands in for a port: everything but reading goes through the points.

    Args:
        part: Name of the port.
        port: The real one.
        points: Where to count.
    """

    def __init__(self, part: str, port: Any, points: Points) -> None:
        self._part = part
        self._port = port
        self._points = points

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._port, name)
        if name in _READS.get(self._part, ()) or not callable(method):
            return method
        return lambda *args, **more: self._points.through(
            f"{self._part}.{name}", lambda: method(*args, **more)
        )


def watch_mlflow(points: Points) -> None:
    """Let every write of MLflow's client, of which one act makes several, go through the points."""

    def watched(name: str, write: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **more: points.through(f"mlflow.{name}", lambda: write(*args, **more))

    client = mlflow.MlflowClient
    for name in dir(client):
        if name.startswith(_MLFLOW_WRITES):
            setattr(client, name, watched(name, getattr(client, name)))


# -- the project ---------------------------------------------------------------------------------------------


def template(folder: str) -> None:
    """Make once what takes seconds: MLflow's tables, and a champion that is wrong too often."""
    sqlite_store(Path(folder))
    champion = str(Path(folder, "champion"))
    mlflow.sklearn.save_model(
        fitted("tree", 30), champion, serialization_format="cloudpickle", pip_requirements=[]
    )


def prepare(directory: str, template: str, socket: str) -> None:
    """Lay out a project in a directory: settings, rows, commands, and the champion."""
    home, state = Path(directory), Path(directory, ".autoretrain")
    ask = shlex.join([sys.executable, "-S", "-E", str(_HERE / "warm_process.py"), "ask", socket])
    (home / "autoretrain.toml").write_text(_SETTINGS)
    (home / "train.sh").write_text(_TRAIN.format(ask=ask))
    (home / "predict").write_text(_PREDICT.format(ask=ask, directory=shlex.quote(directory)))
    (home / "predict").chmod(0o700)
    rows = pyarrow.csv.read_csv(BytesIO(table().encode()))
    pyarrow.parquet.write_table(rows, home / "rows.parquet")
    shutil.copytree(f"{template}/champion", home / "champion")
    state.mkdir()
    shutil.copy(f"{template}/mlflow.db", state)
    client = mlflow.MlflowClient(sqlite_store(state))
    client.create_registered_model(MODEL)
    made = client.create_model_version(MODEL, str(home / "champion"))
    client.set_registered_model_alias(MODEL, "champion", made.version)


def train() -> None:
    """The training command: a real training, as soon as the loop stands still."""
    with training_job() as job:
        _hold(Path())
        while job.config.get("hangs"):
            time.sleep(1)
        job.log_model(fitted("tree", job.config["boundary"]), pip_requirements=[])


def predict(directory: str, _flag: str, _program: str, *arguments: str) -> int:
    """The program of a prediction run, as soon as the loop stands still."""
    _hold(Path(directory))
    return prediction_process.main(*map(Path, arguments))


def _hold(home: Path) -> None:
    while not (home / "go").exists():
        time.sleep(0.01)


class Runs:
    """The runs of a project, looked at from outside."""

    def let_end(self) -> None:
        """Let the runs do their work, and wait until all have ended but those that hang."""
        Path("go").touch()
        deadline = time.monotonic() + 60
        while not all(map(self._is_at_rest, self._folders())):
            assert time.monotonic() < deadline, "a run did not end"
            time.sleep(0.01)
        Path("go").unlink()

    @property
    def unfinished(self) -> list[str]:
        """Folders of the runs that have not ended."""
        return [str(folder) for folder in self._folders() if not (folder / "status.json").exists()]

    def _folders(self) -> list[Path]:
        return [request.parent for request in Path(".autoretrain/runs").glob("*/request.json")]

    def _is_at_rest(self, folder: Path) -> bool:
        if (folder / "status.json").exists():
            return True
        run = json.loads((folder / "request.json").read_text())["run"]
        if '"hangs":true' not in json.dumps(run).replace("\\", "") or (folder / "cancel").exists():
            return False
        return (folder / "started.json").exists() and run["key"] in lines("trainings.log")


class FileNotifier:
    """Leaves a line in a file for every notice."""

    def send(self, notice: Notice) -> None:
        """Write one notice."""
        with Path("notices.log").open("a") as file:
            file.write(f"{notice.id}\n")


class Clock:
    """A clock that stands still between the turns, and goes on from process to process."""

    def __init__(self) -> None:
        self._file = Path("clock")
        self.now = datetime.fromisoformat(self._file.read_text()) if self._file.exists() else _START

    def __call__(self) -> datetime:
        return self.now

    def seconds(self) -> float:
        """The same for leases."""
        return self.now.timestamp()

    def go_on(self, to: datetime | None) -> None:
        """Let a second pass, or as much as there is until something is due within minutes."""
        soon = self.now + timedelta(seconds=1)
        self.now = max(soon, to) if to and to < self.now + _SOON else soon
        self._file.write_text(self.now.isoformat())


# -- the cycle -----------------------------------------------------------------------------------------------


def drive(directory: str, store: str, address: str, kill_at: str = "", side: str = "") -> None:
    """Take the model through what is left of its cycle; at its end, write down what has come of it.

    Args:
        directory: The project.
        store: Name of the ledger's store.
        address: Where the store is.
        kill_at: Number of the record or act to die at; empty to live.
        side: ``before`` or ``after`` it.
    """
    os.chdir(directory)
    Path("go").unlink(missing_ok=True)
    clock, points = Clock(), Points(int(kill_at) if kill_at else None, side == "after")
    watch_mlflow(points)
    own = {
        "ledger": STORES[store].ledger(address, clock.seconds),
        "observations": STORES[store].observations(address),
        "notifier": FileNotifier(),
    }
    pipeline = AutoRetrainPipeline(
        settings=directory, clock=clock, actor="ann", **_watched(directory, own, points)
    )
    turn_until_the_end(pipeline, clock)
    met = list(points.met)
    Path("points.json").write_text(json.dumps(met))
    Path("outcome.json").write_text(json.dumps(asdict(outcome_of(pipeline, Runs().unfinished))))


def _watched(directory: str, own: Mapping[str, Any], points: Points) -> dict[str, Any]:
    """Every port, some of our own, with the points in between, also between one port and another."""
    settings = load_settings(directory)
    real = build_ports(settings, own)
    seen = {part.name: Watched(part.name, getattr(real, part.name), points) for part in fields(Ports)}
    within = {name: seen[name] for name in ("compute", "data", "registry", "scorer")}
    predictor = RunPredictor(
        seen["compute"],
        settings.state_dir / "predictions",
        fetch=real.registry.fetch,  # type: ignore[attr-defined]
        python=f"{directory}/predict",
        sandbox="none",  # a wall would keep it from the warm process
    )
    seen["predictor"] = Watched("predictor", predictor, points)
    outer = build_ports(settings, {**own, **within, "predictor": seen["predictor"]})
    return {**seen, "metrics": Watched("metrics", outer.metrics, points)}


def turn_until_the_end(pipeline: AutoRetrainPipeline, clock: Clock) -> None:
    """Turn the loop as the service does, and ask what people ask, until the cycle is over."""
    runs = Runs()
    for _ in range(_MOST_TURNS):
        try:
            pipeline.enrol()
            runs.let_end()
            _ask(pipeline, state_of(pipeline))
            report = pipeline.tick()
            if _is_over(pipeline, report, clock):
                return pipeline.release()
        except (Temporary, LeaseLost):
            clock.go_on(None)
            continue
        if not report.holds_lease:
            time.sleep(0.05)  # for a store whose leases run on a clock of its own
        clock.go_on(report.next_due)
    raise AssertionError(f"the cycle does not end: {state_of(pipeline)}")


def _ask(pipeline: AutoRetrainPipeline, state: ModelState) -> None:
    """Ask what the cycle wants next, unless something else goes on."""
    job, phase = state.last_job, phase_of(state)
    if job is None or state.start is not None:
        return
    hangs = phase is Phase.TRAINING and job.trigger_type is TriggerType.MANUAL
    if hangs and not job.cancelled_by and job.run_key in lines("trainings.log"):
        pipeline.cancel(job.job_id, "it hangs")
    elif phase is Phase.IDLE and state.withdrawn_at is None:
        pipeline.rollback(MODEL, "complaints", timeout=0)
    elif phase is Phase.IDLE and len(state.jobs) == 1:
        pipeline.start_retrain_job(MODEL, {"hangs": True})


def _is_over(pipeline: AutoRetrainPipeline, report: TickReport, clock: Clock) -> bool:
    state = state_of(pipeline)
    rests = report.holds_lease and report.next_due and report.next_due - clock.now > _SOON
    waits = pipeline.ports.outbox.due(clock.now + timedelta(days=1))
    return bool(rests and len(state.jobs) == 2 and phase_of(state) is Phase.IDLE and not waits)


def state_of(pipeline: AutoRetrainPipeline) -> ModelState:
    """What the ledger says."""
    return fold(MODEL, pipeline.ports.ledger.read(MODEL))
