"""The training side: three lines that turn a script into a training command.

::

    with training_job() as job:
        X, y = job.load()
        job.log_model(RandomForestClassifier().fit(X, y))

Any other command works as well: what it gets are the environment variables named here, what it has to do
is to log exactly one model to the MLflow run named in ``MLFLOW_RUN_ID``, and to exit with 0.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..adapters.object_store import Connection, download, is_stored
from ..ports.errors import ConfigurationError, MissingExtra, Permanent, Problem
from .logs import only_errors
from .training_requirements import pinned_requirements

if TYPE_CHECKING:
    import pandas as pd

MODEL_NAME = "AUTORETRAIN_MODEL_NAME"
JOB_ID = "AUTORETRAIN_JOB_ID"
ATTEMPT = "AUTORETRAIN_ATTEMPT"
TRAINING_CONFIG = "AUTORETRAIN_TRAINING_CONFIG"
DATA = "AUTORETRAIN_DATA"
DATA_SHA256 = "AUTORETRAIN_DATA_SHA256"
LABEL = "AUTORETRAIN_LABEL"
TIME = "AUTORETRAIN_TIME"
FEATURES = "AUTORETRAIN_FEATURES"
TRACKING_URI = "MLFLOW_TRACKING_URI"
RUN_ID = "MLFLOW_RUN_ID"
CHECKPOINTS = "AUTORETRAIN_CHECKPOINTS"

_MEANING = {
    MODEL_NAME: "name of the model",
    JOB_ID: "id of the job",
    ATTEMPT: "number of the attempt, from 1",
    TRAINING_CONFIG: "training configuration, a JSON object",
    DATA: "path or s3:// address of the training rows, a Parquet file",
    LABEL: "name of the label column",
    TIME: "name of the time column",
    FEATURES: "names of the feature columns, a JSON list",
    TRACKING_URI: "address of MLflow",
    RUN_ID: "id of the MLflow run to log to",
}

# Packages of models that MLflow has a flavour for, where their class alone says so.
_FLAVOURS = {
    "torch": "pytorch",
    "mlflow": "pyfunc",
    **{
        name: name
        for name in (
            "sklearn",
            "xgboost",
            "lightgbm",
            "catboost",
            "keras",
            "tensorflow",
            "statsmodels",
            "prophet",
            "spacy",
            "pmdarima",
            "h2o",
            "paddle",
        )
    },
}


@dataclass(frozen=True)
class TrainingJob:
    """One attempt of a retraining, as its command sees it.

    Attributes:
        model_name: Name of the model.
        job_id: The job.
        attempt: Number of the attempt, from 1.
        config: Training configuration, as it was given when the job was started.
        data_path: Parquet file with the training rows: time, features and label, in time order. Where they
            lie in object storage it is a copy, which is there for as long as the block lasts.
        label: Name of the label column.
        time: Name of the time column.
        features: Names of the feature columns.
        tracking_uri: Address of MLflow.
        run_id: The MLflow run to log to.
        checkpoints: Directory that all attempts of the job share, to go on from after an interruption; it is
            there, and empty at first. ``None`` where the controller has none.
        data_uri: Where the rows are: a path, or the address of an object.
        data_sha256: Digest of their file (hex); empty where it is not known.
    """

    model_name: str
    job_id: str
    attempt: int
    config: Mapping[str, Any]
    data_path: Path
    label: str
    time: str
    features: tuple[str, ...]
    tracking_uri: str
    run_id: str
    checkpoints: Path | None = None
    data_uri: str = ""
    data_sha256: str = ""

    def frame(self) -> pd.DataFrame:
        """Read all training rows, with time and label, in time order.

        Raises:
            MissingExtra: pyarrow or pandas is not installed.
        """
        try:
            import pyarrow.parquet as parquet

            return parquet.ParquetFile(self.data_path).read().to_pandas()
        except ImportError as error:
            raise MissingExtra(error.name or "pandas", "mlflow") from error

    def load(self) -> tuple[pd.DataFrame, pd.Series[Any]]:
        """Read the training rows.

        Returns:
            The features, in the order in which the model will get them to predict, and the label.

        Raises:
            MissingExtra: pyarrow or pandas is not installed.
        """
        rows = self.frame()
        return rows[list(self.features)], rows[self.label]

    def log_model(self, model: Any, **extra: Any) -> None:
        """Log the trained model to the job's run; to be called once a job.

        The flavour follows from the model's class. Estimators of scikit-learn, and whatever else has
        ``predict`` and can be pickled, are written by cloudpickle: MLflow's own default refuses every
        tree-based model.
        Give ``code_paths`` for modules of your own that the model needs and that are not installed.

        Args:
            model: The model.
            **extra: Handed on to ``mlflow.<flavour>.log_model`` (``signature``, ``input_example``,
                ``code_paths``); ``pip_requirements`` replaces the versions that are installed here.

        Raises:
            Permanent: No flavour fits the model.
        """
        import importlib

        flavour = _flavour(model)
        arguments: dict[str, Any] = {"name": "model", **extra}
        if flavour == "sklearn":
            arguments.setdefault("serialization_format", "cloudpickle")
        if "pip_requirements" not in arguments:
            # Otherwise MLflow loads the model in a new process to find out, which takes seconds.
            arguments["pip_requirements"] = pinned_requirements(model)
        log = importlib.import_module(f"mlflow.{flavour}").log_model
        with only_errors("mlflow.sklearn"):  # it advises skops, which cannot hold what is logged here
            log(python_model=model, **arguments) if flavour == "pyfunc" else log(model, **arguments)

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Log figures of the training to the job's run. They decide nothing: the gate measures by itself.

        Args:
            metrics: Numbers by name.
        """
        import mlflow

        mlflow.log_metrics(dict(metrics))


@contextmanager
def training_job() -> Iterator[TrainingJob]:
    """Open the job that this process was started for, and its MLflow run.

    The run ends as finished with the block, or as failed with an exception out of it. A run that an earlier
    attempt ended is opened again.

    Yields:
        The job.

    Raises:
        ConfigurationError: The process was not started as a training command; names every variable that is
            missing or malformed.
        MissingExtra: MLflow is not installed, or pyarrow for rows in object storage.
        Temporary: The object store cannot be reached.
        Permanent: The rows are gone, or no longer have their digest.
    """
    job = read_job(os.environ)
    if job.checkpoints is not None:
        job.checkpoints.mkdir(parents=True, exist_ok=True)
    try:
        import mlflow
    except ImportError as error:
        raise MissingExtra("mlflow", "mlflow") from error
    mlflow.set_tracking_uri(job.tracking_uri)
    with mlflow.start_run(run_id=job.run_id), rows_at_hand(job) as ready:
        yield ready


@contextmanager
def rows_at_hand(job: TrainingJob) -> Iterator[TrainingJob]:
    """Bring rows from object storage, by the AWS environment alone, and see that they are those meant.

    Args:
        job: The job, as its environment tells it.

    Yields:
        The job with rows on this machine's disk; a copy is removed at the end.

    Raises:
        MissingExtra: pyarrow is not installed, and the rows lie in object storage.
        Temporary: The object store cannot be reached.
        Permanent: The rows are gone, cannot be read, or do not have the digest that the job names.
    """
    if not is_stored(job.data_uri):
        if job.data_sha256 and _digest(job.data_path) != job.data_sha256:
            raise Permanent(
                f"{job.data_path} is damaged: it no longer has the digest {job.data_sha256[:12]}…"
            )
        yield job
        return
    connection = Connection()
    with tempfile.TemporaryDirectory(prefix="autoretrain-") as folder:
        copy = Path(folder) / "rows.parquet"
        download(connection.file_system(), job.data_uri, copy, job.data_sha256, connection.place)
        yield replace(job, data_path=copy)


def _digest(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise Permanent(f"the training rows {file} cannot be read: {error.strerror}") from error


def read_job(environment: Mapping[str, str]) -> TrainingJob:
    """Read a training command's environment.

    Args:
        environment: The variables.

    Returns:
        The job.

    Raises:
        ConfigurationError: Variables are missing or malformed; names each.
    """
    problems = [
        Problem(name, "", f"not set ({meaning}); the controller sets it for the training command it starts")
        for name, meaning in _MEANING.items()
        if not environment.get(name)
    ]
    config = _parsed(environment, TRAINING_CONFIG, dict, "a JSON object", problems)
    features = _parsed(environment, FEATURES, list, "a JSON list of names", problems)
    attempt = _parsed(environment, ATTEMPT, int, "a whole number", problems)
    if problems:
        raise ConfigurationError(problems)
    return TrainingJob(
        model_name=environment[MODEL_NAME],
        job_id=environment[JOB_ID],
        attempt=attempt,
        config=config,
        data_path=Path(environment[DATA]),
        label=environment[LABEL],
        time=environment[TIME],
        features=tuple(str(name) for name in features),
        tracking_uri=environment[TRACKING_URI],
        run_id=environment[RUN_ID],
        checkpoints=Path(environment[CHECKPOINTS]) if environment.get(CHECKPOINTS) else None,
        data_uri=environment[DATA],
        data_sha256=environment.get(DATA_SHA256, ""),
    )


def _parsed(
    environment: Mapping[str, str], name: str, kind: type, wanted: str, problems: list[Problem]
) -> Any:
    text = environment.get(name)
    if not text:
        return None  # already named as missing
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, kind):
        problems.append(Problem(name, text[:60], f"needs {wanted}"))
    return value


def _flavour(model: Any) -> str:
    """Name the MLflow flavour of a model: by its class, or the nearest base that has one."""
    for base in type(model).__mro__:
        package = base.__module__.partition(".")[0]
        if package in _FLAVOURS:
            return _FLAVOURS[package]
    if hasattr(model, "predict"):
        return "sklearn"
    raise Permanent(
        f"no MLflow flavour is known for {type(model).__module__}.{type(model).__qualname__}, and it has no "
        "method predict: log it yourself with mlflow.<flavour>.log_model"
    )
