"""The training helper in real training processes, over MLflow on SQLite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mlflow_store import sqlite_store
from training_runs import TRAINS, context_of, plant, train, variables_of

from autoretrain.adapters.mlflow_client import MlflowConnection
from autoretrain.adapters.registry_mlflow import MlflowRegistry
from autoretrain.adapters.tracker_mlflow import MlflowTracker
from autoretrain.entrypoints.training import TrainingJob, read_job, training_job
from autoretrain.entrypoints.training_requirements import pinned_requirements
from autoretrain.ports.errors import ConfigurationError, Permanent

LOGS_NONE = """
from autoretrain import training_job

with training_job() as job:
    assert list(job.frame().columns) == ["time", "load", "valve", "hot"]
"""

LOGS_TWO = (
    TRAINS
    + """
    job.log_model(DecisionTreeClassifier(max_depth=1).fit(X, y))
"""
)

FAILS_AFTER_LOGGING = (
    TRAINS
    + """
    raise RuntimeError("the disk went away")
"""
)

LOGS_BY_ITSELF = """
import os, mlflow, pandas as pd
from sklearn.linear_model import LogisticRegression

mlflow.sklearn.autolog(log_models=False, log_datasets=False)
rows = pd.read_parquet(os.environ["AUTORETRAIN_DATA"])
with mlflow.start_run():
    model = LogisticRegression().fit(rows[["load", "valve"]], rows["hot"])
    mlflow.sklearn.log_model(model, name="mine", registered_model_name="boiler", pip_requirements=[])
"""


class Project:
    """A model's MLflow store and rows in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.uri = sqlite_store(directory)
        self.snapshot = plant(directory)
        self.registry = MlflowRegistry(self.uri)

    def train(self, script: str, attempt: int = 1) -> tuple[int, str]:
        """Run an attempt; return its exit status and the state of the MLflow run."""
        context = context_of(self.snapshot, attempt=attempt)
        run = MlflowTracker(self.uri).open_run(context)
        ended = train(script, context, run, self.directory)
        state = MlflowConnection(self.uri).client.get_run(run["MLFLOW_RUN_ID"]).info.status
        return ended.returncode, state


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_the_three_lines_make_a_candidate_also_after_an_attempt_that_failed_late(project: Project) -> None:
    assert project.train(FAILS_AFTER_LOGGING) == (1, "FAILED")
    assert project.train(TRAINS, attempt=2) == (0, "FINISHED")
    version = project.registry.candidate("boiler", "job-1")
    assert version is not None
    requirements = (Path(version.uri) / "requirements.txt").read_text()
    assert "scikit-learn==" in requirements
    assert "cloudpickle==" in requirements


def test_a_command_that_logs_nothing(project: Project) -> None:
    assert project.train(LOGS_NONE) == (0, "FINISHED")
    assert project.registry.candidate("boiler", "job-1") is None


def test_a_command_that_logs_two(project: Project) -> None:
    assert project.train(LOGS_TWO) == (0, "FINISHED")
    with pytest.raises(Permanent, match="2 models"):
        project.registry.candidate("boiler", "job-1")


def test_a_command_that_uses_mlflow_by_itself(project: Project) -> None:
    assert project.train(LOGS_BY_ITSELF)[0] == 0
    version = project.registry.candidate("boiler", "job-1")
    assert version is not None
    assert (version.version, version.job_id) == ("1", "job-1")


def test_outside_a_job_every_missing_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AUTORETRAIN_DATA", raising=False)
    monkeypatch.delenv("AUTORETRAIN_JOB_ID", raising=False)
    with pytest.raises(ConfigurationError) as caught, training_job():
        pass
    assert {"AUTORETRAIN_DATA", "AUTORETRAIN_JOB_ID"} <= {problem.where for problem in caught.value.problems}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AUTORETRAIN_TRAINING_CONFIG", "[1]"),
        ("AUTORETRAIN_FEATURES", "load, valve"),
        ("AUTORETRAIN_ATTEMPT", "first"),
    ],
)
def test_a_malformed_variable_is_named(tmp_path: Path, name: str, value: str) -> None:
    run = {"MLFLOW_TRACKING_URI": "sqlite:///x.db", "MLFLOW_RUN_ID": "r"}
    variables = {**variables_of(context_of(plant(tmp_path)), run), name: value}
    with pytest.raises(ConfigurationError) as caught:
        read_job(variables)
    assert [problem.where for problem in caught.value.problems] == [name]


def test_features_and_label_are_told_apart(tmp_path: Path) -> None:
    run = {"MLFLOW_TRACKING_URI": "sqlite:///x.db", "MLFLOW_RUN_ID": "r"}
    job = read_job(variables_of(context_of(plant(tmp_path)), run))
    X, y = job.load()
    assert list(X.columns) == ["load", "valve"]
    assert (y.name, len(y), len(X)) == ("hot", 200, 200)


def test_a_model_of_no_flavour_is_refused(tmp_path: Path) -> None:
    job = TrainingJob("m", "j", 1, {}, tmp_path, "y", "t", ("x",), "sqlite:///x.db", "r")
    with pytest.raises(Permanent, match=r"no MLflow flavour is known for builtins\.dict"):
        job.log_model({"weights": [1.0]})


def test_requirements_name_what_is_inside_a_pipeline() -> None:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    def with_pandas(rows: Any) -> Any:
        return rows

    names = {
        line.partition("==")[0]
        for line in pinned_requirements(make_pipeline(FunctionTransformer(with_pandas)))
    }
    assert {"scikit-learn", "cloudpickle", "pandas", "pyarrow"} <= names
    assert "mlflow" not in names
