"""A real project on disk in milliseconds: settings, a small table, and every adapter as a user gets it.

Training commands are shell scripts. One that has to log a model waits for the test to do it, in this process:
importing MLflow takes seconds, and what is tested is what the product makes of the outcome.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mlflow_store import sqlite_store

from autoretrain.adapters.mlflow_client import MlflowConnection
from autoretrain.domain.jobs import RetrainingJob
from autoretrain.domain.sealing import load
from autoretrain.entrypoints.pipeline import AutoRetrainPipeline

MODEL = "boiler"
NOW = datetime(2026, 3, 1, tzinfo=UTC)
DAYS = 40

WAITS = "until [ -e go ]; do sleep 0.02; done"
"""A training command that ends when the test has logged a model for it."""

_SETTINGS = """
[models.boiler]
rule = "performance"
min_rows = 20
min_holdout_rows = 20
holdout_days = 5
trigger.training_window_days = 20
trigger.evaluation_window_days = 5
data = {{ path = "rows.csv", time = "time", label = "hot" }}
training = {{ command = ["sh", "-c", '''{command}'''], deadline_seconds = {deadline:g} }}
"""


def table(
    days: int = DAYS,
    load: Callable[[int], Any] = lambda hour: (hour * 37) % 100,
    hot: Callable[[int], Any] = lambda hour: int((hour * 37) % 100 > 50),
    header: str = "time,load,valve,hot",
) -> str:
    """Hourly rows up to ``NOW`` as CSV; the label follows from the load."""
    hours = days * 24
    start = NOW - timedelta(hours=hours)
    lines = [
        f"{start + timedelta(hours=hour):%Y-%m-%dT%H:%M:%S},{load(hour)},{(hour * 53) % 100},{hot(hour)}"
        for hour in range(hours)
    ]
    return "\n".join([header, *lines]) + "\n"


@dataclass
class Project:
    """A project in a directory, and a clock that stands still unless it is moved."""

    directory: Path
    now: datetime = NOW

    @classmethod
    def create(
        cls,
        directory: Path,
        *,
        command: str = WAITS,
        deadline: float = 60.0,
        rows: str | None = None,
        more: str = "",
        tracking_uri: str | None = None,
    ) -> "Project":
        """Write it.

        Args:
            directory: Where.
            command: Training command, for a shell.
            deadline: Seconds it may take.
            rows: Content of the table; ``None`` takes ``table()``.
            more: Further settings, put before the model's.
            tracking_uri: Address of MLflow; ``None`` takes a SQLite file whose tables are there already.
        """
        state = directory / ".autoretrain"
        state.mkdir(parents=True)
        mlflow = f'mlflow.tracking_uri = "{tracking_uri}"\n' if tracking_uri else ""
        if not tracking_uri:
            sqlite_store(state)
        settings = _SETTINGS.format(command=command, deadline=deadline)
        (directory / "autoretrain.toml").write_text(mlflow + more + settings)
        (directory / "rows.csv").write_text(table() if rows is None else rows)
        return cls(directory)

    def edit(self, old: str, new: str) -> "Project":
        """Change the settings file."""
        file = self.directory / "autoretrain.toml"
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))
        return self

    def pipeline(self, **ports: Any) -> AutoRetrainPipeline:
        """The library over this project, with some ports replaced."""
        return AutoRetrainPipeline(settings=self.directory, clock=lambda: self.now, actor="ann", **ports)

    def serve(self, pipeline: AutoRetrainPipeline, model: Any) -> None:
        """Register a champion, as a team did it before."""
        client = MlflowConnection(pipeline.settings.tracking_uri).client
        path = self.directory / "champion"
        save(model, path)
        client.create_registered_model(MODEL)
        made = client.create_model_version(MODEL, str(path))
        client.set_registered_model_alias(MODEL, "champion", made.version)

    def log(self, pipeline: AutoRetrainPipeline, job_id: str, *models: Any) -> None:
        """Log models to the run of a job, and let its training command end."""
        pipeline.get_job_status(job_id)
        connection = MlflowConnection(pipeline.settings.tracking_uri)
        run = connection.run_of("autoretrain", job_id)
        assert run is not None
        for number, model in enumerate(models):
            path = self.directory / f"logged-{job_id}-{number}"
            save(model, path)
            logged = connection.client.create_logged_model(
                run.info.experiment_id, f"model-{number}", run.info.run_id
            )
            connection.client.log_model_artifacts(logged.model_id, str(path))
            connection.client.finalize_logged_model(logged.model_id, "READY")
        (self.directory / "go").touch()


def save(model: Any, path: Path) -> None:
    """Write a model as MLflow does."""
    import mlflow.sklearn

    if not path.exists():
        mlflow.sklearn.save_model(model, str(path), serialization_format="cloudpickle", pip_requirements=[])


def tree(boundary: float = 50.0) -> Any:
    """A classifier that takes rows without a value, and is right when it divides the load at 50."""
    return fitted("tree", boundary)


def line(boundary: float = 50.0) -> Any:
    """A classifier that refuses rows without a value."""
    return fitted("line", boundary)


def fitted(kind: str, boundary: float) -> Any:
    """Fit a classifier to rows whose label follows from the load."""
    import pandas as pd
    from sklearn.linear_model import LogisticRegression
    from sklearn.tree import DecisionTreeClassifier

    rows = pd.DataFrame({"load": range(100), "valve": [(n * 53) % 100 for n in range(100)]}, dtype=float)
    hot = (rows["load"] > boundary).astype(int)
    model = (
        DecisionTreeClassifier(max_depth=1) if kind == "tree" else LogisticRegression(C=1e6, max_iter=1000)
    )
    return model.fit(rows, hot)


def ended(pipeline: AutoRetrainPipeline, job_id: str, timeout: float = 60.0) -> RetrainingJob:
    """Wait for a job to end, or to wait for a person."""
    return pipeline.wait(job_id, timeout)


def told(pipeline: AutoRetrainPipeline, kind: str) -> Sequence[Mapping[str, Any]]:
    """What all entries of a kind say, in order."""
    return [load(entry.data) for entry in pipeline.ports.ledger.read(MODEL) if entry.kind == kind]


def stalled(pipeline: AutoRetrainPipeline, job_id: str, seconds: float = 30.0) -> RetrainingJob:
    """Wait until a job says what it waits for."""
    deadline = time.monotonic() + seconds
    while not (job := pipeline.get_job_status(job_id)).stalled:
        assert time.monotonic() < deadline, f"{job} never stalled"
        time.sleep(0.05)
    return job
