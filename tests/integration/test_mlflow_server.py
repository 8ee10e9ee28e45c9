"""The whole way of a model through a real MLflow server that hands out artefacts itself."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as parquet
import pytest
from training_runs import TRAINS, context_of, plant, train

from autoretrain.adapters.compute_subprocess import SubprocessCompute
from autoretrain.adapters.predictor_runs import RunPredictor
from autoretrain.adapters.registry_mlflow import MlflowRegistry
from autoretrain.adapters.tracker_mlflow import MlflowTracker
from autoretrain.ports.errors import Permanent, Temporary
from autoretrain.ports.values import Pending

if TYPE_CHECKING:
    from mlflow_server import MlflowServer

pytestmark = pytest.mark.service


def test_from_a_run_to_a_champion_and_a_server_that_goes_away(
    mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    tracker = MlflowTracker(mlflow_server.uri)
    registry = MlflowRegistry(mlflow_server.uri, cache=tmp_path / "cache")
    snapshot = plant(tmp_path)
    context = context_of(snapshot)
    assert registry.champions(["boiler"]) == {}

    run = tracker.open_run(context)
    assert tracker.open_run(context) == run
    trained = train(TRAINS, context, run, tmp_path)
    assert trained.returncode == 0, trained.stderr
    candidate = registry.candidate("boiler", "job-1")
    assert candidate is not None
    assert registry.candidate("boiler", "job-1") == candidate
    assert candidate.trained_on == snapshot.window

    predictor = RunPredictor(
        SubprocessCompute(tmp_path / "runs"), tmp_path / "predictions", fetch=registry.fetch
    )
    until = time.monotonic() + 60.0
    while isinstance(answer := predictor.predict(candidate, snapshot), Pending):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert answer.scored
    labels = parquet.read_table(snapshot.uri)["hot"].to_pylist()
    predicted = parquet.read_table(answer.uri)["prediction"].to_pylist()
    assert sum(map(int.__eq__, labels, predicted)) / 200 > 0.85

    small = MlflowRegistry(mlflow_server.uri, cache=tmp_path / "small", most_bytes=1024)
    with pytest.raises(Permanent, match=r"larger than .* MiB; raise mlflow\.max_artifact_mb"):
        small.fetch(candidate)
    assert not (tmp_path / "small").exists()  # its size was asked before anything was fetched

    tracker.annotate(candidate, {"f1": 0.9}, {"decision": "promote"})
    with pytest.raises(Permanent, match="altered"):
        registry.set_champion(replace(candidate, digest="0" * 64), None)
    registry.set_champion(candidate, None)
    restarted = MlflowRegistry(mlflow_server.uri, cache=tmp_path / "another")
    assert restarted.champions(["boiler", "unknown"]) == {"boiler": candidate}

    mlflow_server.stop()
    for ask in (
        lambda: registry.champions(["boiler"]),
        lambda: registry.candidate("boiler", "job-1"),
        lambda: registry.set_champion(candidate, candidate.version),
        lambda: restarted.fetch(candidate),
        lambda: tracker.open_run(context),
        lambda: tracker.annotate(candidate, {"f1": 0.9}, {}),
    ):
        began = time.monotonic()
        with pytest.raises(Temporary):
            ask()
        assert time.monotonic() - began < 5.0
    assert registry.fetch(candidate).is_dir()  # a copy is kept
