"""The gas turbine's past for backtests: real trainings and predictions, in this process, had once for all."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import fmean
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the threads of a training so small wait for one another

from replay import START, TRAINING, WINDOW  # type: ignore[import-not-found]

from autoretrain.adapters.data_duckdb import DuckdbDataSource, Table
from autoretrain.adapters.inspector_duckdb import DuckdbInspector
from autoretrain.adapters.scorer_sklearn import SklearnScorer
from autoretrain.entrypoints.backtest import Outcome, Policy, Yardstick, replay
from autoretrain.entrypoints.backtest.policies import varied
from autoretrain.entrypoints.backtest.rows import LabelledRows, Trained
from autoretrain.ports.data import Snapshot, SnapshotRequest
from autoretrain.ports.metrics import MetricQuery
from autoretrain.ports.predictor import Predictions
from autoretrain.ports.registry import ModelVersion
from autoretrain.ports.values import TimeWindow

MODEL = "turbine"
FIRST_LOOK = START + TRAINING

BASE: dict[str, Any] = {
    "defaults": {
        "positive": "1",
        "metric": "accuracy",
        "rule": "performance",
        "data": {"path": "turbine.parquet", "time": "time", "label": "high_nox"},
        "trigger": {"performance_metric_threshold": 0.92, "training_window_days": 180},
        "training": {"command": ["in-process"], "parameters": {"max_iter": 60, "random_state": 0}},
    },
    "models": {MODEL: {}},
}

# -- what trains and predicts -------------------------------------------------------------------------------


class Workshop:
    """Trains and predicts in this process.

    Args:
        directory: Where predictions are written.
        cache: Where models are kept between runs of this script.
    """

    def __init__(self, directory: Path, cache: Path) -> None:
        self._directory = directory
        self._cache = cache
        self._models: dict[str, Any] = {}

    def train(self, model: str, rows: Snapshot, parameters: Mapping[str, Any]) -> Trained:
        """Fit on the rows of a snapshot; the same rows and parameters give the same version."""
        from sklearn.ensemble import HistGradientBoostingClassifier

        told = json.dumps([rows.sha256, parameters], sort_keys=True)
        digest = hashlib.sha256(told.encode()).hexdigest()
        kept, begun = self._cache / f"{digest}.pickle", time.monotonic()
        if kept.exists():
            self._models[digest] = pickle.loads(kept.read_bytes())
        else:
            X, y = read(rows)
            self._models[digest] = HistGradientBoostingClassifier(**parameters).fit(X, y)
            kept.write_bytes(pickle.dumps(self._models[digest]))
        version = ModelVersion(
            model, digest[:12], digest, f"memory:{digest}", trained_on=rows.window, data_sha256=rows.sha256
        )
        return Trained(version, time.monotonic() - begun)

    def predict(self, version: ModelVersion, snapshot: Snapshot) -> Predictions:
        """Predict the rows of a snapshot, into a file that the scorer reads."""
        import pyarrow as pa
        import pyarrow.parquet as parquet

        X, _ = read(snapshot)
        table = pa.table({"prediction": self._models[version.digest].predict(X)})
        path = self._directory / f"{version.digest[:16]}-{snapshot.sha256[:16]}.parquet"
        parquet.write_table(table, path)
        return Predictions(str(path), hashlib.sha256(path.read_bytes()).hexdigest(), table.num_rows)


def read(rows: Snapshot) -> tuple[Any, Any]:
    """Features and labels of a snapshot."""
    import numpy as np
    import pyarrow.parquet as parquet

    table = parquet.read_table(rows.uri)
    features = [table[name].to_numpy() for name in rows.features]
    return np.column_stack(features), table[rows.label].to_numpy()


class TooMany(Exception):
    """A policy has used up its trainings."""


# -- what is tried ------------------------------------------------------------------------------------------


@dataclass
class Turbine:
    """The turbine's past, under any number of policies.

    Attributes:
        home: Directory of the table.
        rows: The past, which all policies share.
        first: Who serves at the beginning.
    """

    home: Path
    rows: LabelledRows
    first: ModelVersion

    def policy(self, name: str, defaults: Mapping[str, Any]) -> Policy:
        """A policy that differs from the base by some settings of the model."""
        return varied(name, BASE, {"defaults": defaults}, self.home)

    def tried(self, policy: Policy, windows: int, most: int = 10_000) -> Outcome:
        """Replay the first windows under a policy.

        Raises:
            TooMany: It trains more often than it may.
        """
        sources = self.rows.sources(policy.fleet, {MODEL: self.first})

        def count(_: Policy, at: datetime) -> None:
            if len(sources.seconds) > most:
                raise TooMany

        span = TimeWindow(FIRST_LOOK, FIRST_LOOK + windows * WINDOW)
        return replay(policy, sources, span, Yardstick(WINDOW, {MODEL: 0.92}), count)

    def before_every_window(self, windows: range) -> float:
        """Accuracy of models trained before each window on the 180 days before, and deployed unseen."""
        spec = self.policy("every window", {}).fleet[MODEL]
        metrics = self.rows.sources({MODEL: spec}, {}).metrics
        queries = []
        for number in windows:
            at = FIRST_LOOK + number * WINDOW
            data = self.rows.snapshot(SnapshotRequest(MODEL, TimeWindow(at - TRAINING, at)))
            trained = self.rows.trained(MODEL, data, spec.training.parameters)
            queries.append(MetricQuery(MODEL, "accuracy", TimeWindow(at, at + WINDOW), trained.version))
        return fmean(answer.value or 0.0 for answer in metrics.read(queries))


def turbine_at(home: Path, cache: Path) -> Turbine:
    """Set everything up over a table, with a first champion of the first 180 days."""
    for directory in (home / "predictions", cache):
        directory.mkdir(parents=True, exist_ok=True)
    table = Table("turbine.parquet", "time", "high_nox")
    data = DuckdbDataSource({MODEL: table}, home / "snapshots", base=home)
    workshop = Workshop(home / "predictions", cache)
    rows = LabelledRows(data, workshop, SklearnScorer(), DuckdbInspector(), workshop.train)
    begin = rows.snapshot(SnapshotRequest(MODEL, TimeWindow(START, FIRST_LOOK)))
    first = rows.trained(MODEL, begin, BASE["defaults"]["training"]["parameters"]).version
    assert first is not None
    return Turbine(home, rows, first)
