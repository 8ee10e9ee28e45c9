"""Experiment tracking on MLflow: one run a job, shared by all its attempts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..ports.errors import Permanent
from ..ports.registry import ModelVersion
from ..ports.tracking import TrainingContext
from .mlflow_client import (
    DEFAULT_EXPERIMENT,
    TAG_ATTEMPT,
    TAG_CHAMPION,
    TAG_DATA,
    TAG_JOB,
    TAG_MODEL,
    TAG_WINDOW_END,
    TAG_WINDOW_START,
    MlflowConnection,
    run_environment,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_LONGEST_PARAMETER = 6000


class MlflowTracker:
    """Implements ``ExperimentTracker``.

    Args:
        tracking_uri: Address of the tracking server, or ``sqlite:///path`` for none.
        experiment: Name of the experiment that holds the runs; created when absent.
        artifact_root: Where a new experiment keeps its artefacts. ``None`` leaves it to a server, and for a
            SQLite file means the directory ``artifacts`` beside it.
    """

    def __init__(
        self, tracking_uri: str, *, experiment: str = DEFAULT_EXPERIMENT, artifact_root: str | None = None
    ) -> None:
        self._connection = MlflowConnection(tracking_uri)
        self._experiment = experiment
        self._artifact_root = artifact_root

    @property
    def _client(self) -> MlflowClient:
        return self._connection.client

    def open_run(self, context: TrainingContext) -> Mapping[str, str]:
        """Open the tracked run of a job, once, and return how a training command finds it.

        When the attempt is a later one than before, models that an earlier attempt has logged are deleted:
        it may have died after it logged one, and a run with two models has no candidate.

        Args:
            context: What is known about the training.

        Returns:
            Variables for the command: address, run and experiment of MLflow.

        Raises:
            Temporary: The tracking server cannot be reached.
            Permanent: It refuses.
        """
        with self._connection.errors(f"opening the run of {context.model}, job {context.job_id}"):
            run = self._connection.run_of(self._experiment, context.job_id) or self._create_run(context)
            self._begin_attempt(run, context)
            return {
                **run_environment(self._connection.tracking_uri),
                "MLFLOW_RUN_ID": run.info.run_id,
                "MLFLOW_EXPERIMENT_ID": run.info.experiment_id,
            }

    def annotate(self, version: ModelVersion, metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
        """Keep scores and tags with a version: both as its tags, the scores also as metrics of its run.

        Args:
            version: The version that was judged.
            metrics: Finite numbers by name.
            tags: Strings by name.

        Raises:
            Temporary: The tracking server cannot be reached.
            Permanent: It refuses, or the version is gone.
        """
        with self._connection.errors(f"annotating {version.model} version {version.version}"):
            found = self._client.get_model_version(version.model, version.version)
            from mlflow.entities import Metric  # after the client, which says what is not installed

            scores = {f"metric.{name}": repr(float(value)) for name, value in metrics.items()}
            for key, value in {**scores, **tags}.items():
                self._client.set_model_version_tag(version.model, version.version, key, value)
            if found.run_id and metrics:
                # One time for all: MLflow keeps every value of another time, and drops a repeated one.
                at = found.creation_timestamp
                rows = [Metric(name, float(value), at, 0) for name, value in metrics.items()]
                self._client.log_batch(found.run_id, metrics=rows)

    def _create_run(self, context: TrainingContext) -> Run:
        tags = {
            TAG_MODEL: context.model,
            TAG_JOB: context.job_id,
            TAG_DATA: context.data.sha256,
            TAG_WINDOW_START: context.data.window.start.isoformat(),
            TAG_WINDOW_END: context.data.window.end.isoformat(),
        }
        if context.champion is not None:
            tags[TAG_CHAMPION] = context.champion
        name = f"{context.model} {context.job_id}"
        created = self._client.create_run(self._experiment_id(), tags=tags, run_name=name)
        # Another process may have created one since we looked; all take the first.
        return self._connection.run_of(self._experiment, context.job_id) or created

    def _begin_attempt(self, run: Run, context: TrainingContext) -> None:
        from mlflow.entities import Param

        if int(run.data.tags.get(TAG_ATTEMPT, 0)) >= context.attempt:
            return
        parameters = [Param(key, _parameter(value)) for key, value in context.parameters.items()]
        self._client.log_batch(run.info.run_id, params=parameters)
        for model in self._connection.logged_models(run):
            self._client.delete_logged_model(model.model_id)
        self._client.set_tag(run.info.run_id, TAG_ATTEMPT, str(context.attempt))

    def _experiment_id(self) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(self._experiment)
        if found is None:
            try:
                return self._client.create_experiment(
                    self._experiment,
                    self._connection.artifact_location(self._experiment, self._artifact_root),
                )
            except MlflowException as error:
                found = self._client.get_experiment_by_name(self._experiment)
                if error.error_code != "RESOURCE_ALREADY_EXISTS" or found is None:
                    raise
        if found.lifecycle_stage != "active":
            raise Permanent(
                f"MLflow's experiment {self._experiment!r} was deleted: restore it or name another"
            )
        return str(found.experiment_id)


def _parameter(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    return text[:_LONGEST_PARAMETER]
