"""Choose a retraining policy on the first three years of a gas turbine, and report it on the last two.

Every policy goes through the product's own controller (``autoretrain.entrypoints.backtest``): its triggers,
its gate, its ledger. Trainings and predictions are real; they happen in this process, and policies share them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pickle
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the threads of a training so small wait for one another

from replay import DATA, HERE, START, TRAINING, WINDOW, Say, Unusable, write_home

from autoretrain.adapters.data_duckdb import DuckdbDataSource, Table
from autoretrain.adapters.scorer_sklearn import SklearnScorer
from autoretrain.entrypoints.backtest import Outcome, Policy, Yardstick, replay
from autoretrain.entrypoints.backtest.policies import varied
from autoretrain.entrypoints.backtest.rows import LabelledRows, Trained
from autoretrain.ports.data import Snapshot, SnapshotRequest
from autoretrain.ports.errors import AutoRetrainError
from autoretrain.ports.metrics import MetricQuery
from autoretrain.ports.predictor import Predictions
from autoretrain.ports.registry import ModelVersion
from autoretrain.ports.values import TimeWindow

MODEL = "turbine"
RECOMMENDED = HERE / "recommended.toml"
FIRST_LOOK = START + TRAINING
CHOSEN_ON = 24
"""Windows of 30 days that end within the files of 2011 to 2013."""
REPORTED_FROM = 25
"""Windows before the first that lies wholly within the files of 2014 and 2015."""

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

THIRTY_DAYS: dict[str, Any] = {"check_every_seconds": WINDOW.total_seconds(), "cooldown_hours": 720.0}
SEED = {**THIRTY_DAYS, "promotion": {"policy": "seed-point@1", "min_improvement": 0.05}}
CALIBRATED = {**THIRTY_DAYS, "promotion": {"policy": "by-trigger@1", "min_improvement": 0.05}}
NEVER = {**THIRTY_DAYS, "rule": "manual"}


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

    def tried(self, policy: Policy, windows: int) -> Outcome:
        """Replay the first windows under a policy."""
        sources = self.rows.sources(policy.fleet, {MODEL: self.first})
        span = TimeWindow(FIRST_LOOK, FIRST_LOOK + windows * WINDOW)
        return replay(policy, sources, span, Yardstick(WINDOW, {MODEL: 0.92}))

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
    rows = LabelledRows(data, workshop, SklearnScorer(), workshop.train)
    begin = rows.snapshot(SnapshotRequest(MODEL, TimeWindow(START, FIRST_LOOK)))
    first = rows.trained(MODEL, begin, BASE["defaults"]["training"]["parameters"]).version
    assert first is not None
    return Turbine(home, rows, first)


# -- the choice ---------------------------------------------------------------------------------------------

EVERY_LOOK = "0 0 * * *"
CLAIMS: dict[str, dict[str, Any]] = {
    "point, F1 5 %": {"policy": "seed-point@1", "min_improvement": 0.05},
    "point, accuracy 0": {"policy": "seed-point@1", "metric": "accuracy", "min_improvement": 0.0},
    "not worse by 0.02": {"policy": "non-inferiority@1", "metric": "accuracy", "scale": "absolute", "margin": 0.02},
    "not worse by 0.05": {"policy": "non-inferiority@1", "metric": "accuracy", "scale": "absolute", "margin": 0.05},
    "better at all": {"policy": "improvement@1", "metric": "accuracy", "scale": "absolute"},
    "a tenth of the error": {
        "policy": "superiority@1", "metric": "accuracy", "scale": "error-reduction", "min_improvement": 0.1,
    },
}  # fmt: skip
"""What is claimed of a candidate, by a name for the table."""
FIRST_CLAIMS = ("point, accuracy 0", "not worse by 0.05")
FINALISTS = 5
ALIKE = 0.005


@dataclass(frozen=True, order=True)
class Choice:
    """One point of the grid.

    Attributes:
        rule: Which triggers propose.
        days: Days between looks, and of cooldown.
        evaluation: Days of the performance window.
        holdout: Days of the holdout.
        training: Days of the training window.
        claim: What has to be shown, by its name.
        threshold: Accuracy below which the performance trigger fires.
    """

    rule: str
    days: int
    evaluation: int
    holdout: int
    training: int
    claim: str
    threshold: float = 0.92

    @property
    def settings(self) -> dict[str, Any]:
        """The same as settings of the model."""
        return {
            "rule": self.rule,
            "check_every_seconds": self.days * 86_400.0,
            "cooldown_hours": self.days * 24.0,
            "holdout_days": self.holdout,
            "trigger": {
                "performance_metric_threshold": self.threshold,
                "evaluation_window_days": self.evaluation,
                "training_window_days": self.training,
                "schedule_expression": EVERY_LOOK,
            },
            "promotion": CLAIMS[self.claim],
        }


def structures() -> Iterator[Choice]:
    """How often, on what, and after what: for two claims only."""
    lengths = list(product((7, 14), (90, 180, 365, 540), FIRST_CLAIMS))
    for days, evaluation, (holdout, training, claim) in product((10, 15, 20, 30), (7, 30), lengths):
        yield Choice("performance", days, evaluation, holdout, training, claim)
    for holdout, training, claim in lengths:
        yield Choice("performance | schedule", 30, 30, holdout, training, claim)


def variants(of: Choice) -> Iterator[Choice]:
    """Every claim, and other thresholds, for one structure."""
    for claim, threshold in product(CLAIMS, (0.88, 0.92, 0.95)):
        yield replace(of, claim=claim, threshold=threshold)


Tried = dict[Choice, Outcome]


def choose(turbine: Turbine, say: Say) -> list[tuple[Choice, Outcome]]:
    """Try the grid on the first three years: structures first, then all claims for the best of them.

    Returns:
        All that keep within one training in 30 days. The chosen one comes first: of those whose mean accuracy
        is within half a point of the best, which 24 windows cannot tell apart, the one with the fewest
        regretted promotions, and of these the one with the best accuracy. The others follow by accuracy.
    """
    tried: Tried = {}
    _try(turbine, list(structures()), tried, say)
    shapes = dict.fromkeys(replace(choice, claim=FIRST_CLAIMS[0]) for choice, _ in _by_accuracy(tried))
    best = list(shapes)[:FINALISTS]
    _try(turbine, [variant for shape in best for variant in variants(shape)], tried, say)
    ranked = _by_accuracy(tried)
    close = [pair for pair in ranked if _accuracy(pair[1]) >= _accuracy(ranked[0][1]) - ALIKE]
    chosen = min(close, key=lambda pair: (pair[1].regrets, -_accuracy(pair[1]), pair[1].trainings))
    return [chosen, *(pair for pair in ranked if pair is not chosen)]


def _try(turbine: Turbine, choices: Sequence[Choice], tried: Tried, say: Say) -> None:
    for number, choice in enumerate(choices, start=1):
        say(f"policy {number} of {len(choices)}: {choice}")
        if choice not in tried:
            tried[choice] = turbine.tried(turbine.policy("tried", choice.settings), CHOSEN_ON)


def _by_accuracy(tried: Tried) -> list[tuple[Choice, Outcome]]:
    within = [(choice, found) for choice, found in tried.items() if found.trainings <= CHOSEN_ON]
    return sorted(within, key=lambda pair: (-_accuracy(pair[1]), pair[1].trainings, pair[0]))


def _accuracy(outcome: Outcome) -> float:
    return outcome.mean or 0.0
