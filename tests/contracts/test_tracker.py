"""The behaviour promised by the port, over every adapter; then what is MLflow's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from mlflow_store import log_payload, sqlite_store

from autoretrain.adapters.memory import MemoryRegistry
from autoretrain.adapters.mlflow_client import MlflowConnection
from autoretrain.adapters.registry_mlflow import MlflowRegistry
from autoretrain.adapters.tracker_mlflow import MlflowTracker
from autoretrain.entrypoints.testing.registry import training_context
from autoretrain.entrypoints.testing.tracker import ExperimentTrackerContract
from autoretrain.ports.errors import Permanent, Temporary
from autoretrain.ports.registry import ModelVersion
from autoretrain.ports.tracking import ExperimentTracker, TrainingContext


class TestMlflowTracker(ExperimentTrackerContract):
    @pytest.fixture(autouse=True)
    def _store(self, tmp_path: Path) -> None:
        self.uri = sqlite_store(tmp_path)

    def make_tracker(self, directory: Path) -> ExperimentTracker:
        return MlflowTracker(self.uri)

    def register(self, tracker: ExperimentTracker, context: TrainingContext) -> ModelVersion:
        log_payload(self.uri, tracker.open_run(context), b"payload")
        version = MlflowRegistry(self.uri).candidate(context.model, context.job_id)
        assert version is not None
        return version

    def annotations(
        self, tracker: ExperimentTracker, version: ModelVersion
    ) -> tuple[Mapping[str, float], Mapping[str, str]]:
        tags = MlflowConnection(self.uri).client.get_model_version(version.model, version.version).tags
        scores = {
            key.removeprefix("metric."): float(value)
            for key, value in tags.items()
            if key.startswith("metric.")
        }
        return scores, tags

    def test_the_run_says_what_it_is_for(self, tracker: ExperimentTracker) -> None:
        variables = tracker.open_run(training_context("job-1", champion="3"))
        run = MlflowConnection(self.uri).client.get_run(variables["MLFLOW_RUN_ID"])
        ours = {key: value for key, value in run.data.tags.items() if key.startswith("autoretrain.")}
        assert ours == {
            "autoretrain.model": "boiler",
            "autoretrain.job_id": "job-1",
            "autoretrain.attempt": "1",
            "autoretrain.data_sha256": "d1" * 32,
            "autoretrain.window_start": "2026-03-01T00:00:00+00:00",
            "autoretrain.window_end": "2026-05-30T00:00:00+00:00",
            "autoretrain.parent_champion": "3",
        }
        assert run.data.params == {"depth": "3"}

    def test_a_score_is_one_point_of_the_run(self, tracker: ExperimentTracker) -> None:
        version = self.register(tracker, training_context("job-1"))
        for _ in range(2):
            tracker.annotate(version, {"f1": 0.75}, {})
        run_id = tracker.open_run(training_context("job-1"))["MLFLOW_RUN_ID"]
        points = MlflowConnection(self.uri).client.get_metric_history(run_id, "f1")
        assert [point.value for point in points] == [0.75]

    def test_a_new_attempt_starts_without_models(self, tracker: ExperimentTracker) -> None:
        log_payload(self.uri, tracker.open_run(training_context("job-1")), b"left by the first attempt")
        tracker.open_run(training_context("job-1"))
        registry = MlflowRegistry(self.uri)
        tracker.open_run(training_context("job-1", attempt=2))
        assert registry.candidate("boiler", "job-1") is None
        log_payload(self.uri, tracker.open_run(training_context("job-1", attempt=2)), b"second")
        assert registry.candidate("boiler", "job-1") is not None

    def test_the_same_attempt_keeps_its_model(self, tracker: ExperimentTracker) -> None:
        log_payload(self.uri, tracker.open_run(training_context("job-1")), b"one")
        tracker.open_run(training_context("job-1"))
        assert MlflowRegistry(self.uri).candidate("boiler", "job-1") is not None

    def test_a_deleted_experiment_is_named(self, tracker: ExperimentTracker) -> None:
        variables = tracker.open_run(training_context("job-1"))
        MlflowConnection(self.uri).client.delete_experiment(variables["MLFLOW_EXPERIMENT_ID"])
        with pytest.raises(Permanent, match="'autoretrain' was deleted"):
            tracker.open_run(training_context("job-2"))


class TestMemoryRegistry(ExperimentTrackerContract):
    def make_tracker(self, directory: Path) -> ExperimentTracker:
        return MemoryRegistry()

    def register(self, tracker: ExperimentTracker, context: TrainingContext) -> ModelVersion:
        assert isinstance(tracker, MemoryRegistry)
        tracker.open_run(context)
        tracker.log(context.job_id, lambda row: 0, "payload")
        version = tracker.candidate(context.model, context.job_id)
        assert version is not None
        return version

    def annotations(
        self, tracker: ExperimentTracker, version: ModelVersion
    ) -> tuple[Mapping[str, float], Mapping[str, str]]:
        assert isinstance(tracker, MemoryRegistry)
        notes = tracker.notes[version.model, version.version]
        scores = {key: value for key, value in notes.items() if isinstance(value, float)}
        return scores, {key: value for key, value in notes.items() if isinstance(value, str)}


def test_an_unreachable_server_is_temporary() -> None:
    with pytest.raises(Temporary, match="opening the run of boiler"):
        MlflowTracker("http://127.0.0.1:9").open_run(training_context("job-1"))


def test_artefacts_stay_beside_the_database_whatever_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sqlite_store(tmp_path)
    monkeypatch.chdir(tmp_path)
    variables = MlflowTracker("sqlite:///mlflow.db").open_run(training_context("job-1"))
    assert variables["MLFLOW_TRACKING_URI"] == f"sqlite:///{tmp_path}/mlflow.db"
    experiment = MlflowConnection(variables["MLFLOW_TRACKING_URI"]).client.get_experiment_by_name(
        "autoretrain"
    )
    assert experiment is not None
    assert experiment.artifact_location == (tmp_path / "artifacts" / "autoretrain").as_uri()
