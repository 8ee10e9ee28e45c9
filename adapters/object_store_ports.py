"""Snapshots and predictions in an object store: wrappers around adapters that know only local files.

What is made is put into the store, and named by its address there, with the digest that it has locally.
What is read comes from the local copy. So the adapters within need to know nothing of the store, and
whatever is recorded names something that other machines can read.
"""

from __future__ import annotations

from dataclasses import replace

from ..ports.data import DataSource, Snapshot, SnapshotRequest
from ..ports.drift import DriftDetector, DriftReport
from ..ports.inspector import Inspection, InspectionTask, Inspector
from ..ports.predictor import Predictions, Predictor
from ..ports.registry import ModelVersion
from ..ports.scorer import Scorer, Scores, ScoringTask
from ..ports.values import Pending
from .mlflow_client import local_path
from .object_store import ObjectStore, is_stored


class StoredDataSource:
    """DataSource whose snapshots lie in an object store.

    Args:
        inner: Takes the snapshots, into local files.
        store: Where they are put.
    """

    def __init__(self, inner: DataSource, store: ObjectStore) -> None:
        self._inner = inner
        self._store = store

    def snapshot(self, request: SnapshotRequest) -> Snapshot:
        """Copy the rows of a window into an immutable object; see ``DataSource.snapshot``."""
        taken = self._inner.snapshot(request)
        path = local_path(taken.uri) if taken.rows else None
        if path is None:
            return taken
        return replace(taken, uri=self._store.put(path, "snapshots", taken.sha256))


class StoredPredictor:
    """Predictor whose predictions lie in an object store.

    Args:
        inner: Predicts the rows of local files, into local files.
        store: Where the rows are read, and the predictions are put.
    """

    def __init__(self, inner: Predictor, store: ObjectStore) -> None:
        self._inner = inner
        self._store = store

    def predict(self, version: ModelVersion, snapshot: Snapshot) -> Predictions | Pending:
        """Return the predictions of a version; see ``Predictor.predict``."""
        made = self._inner.predict(version, _local_rows(self._store, snapshot))
        path = None if isinstance(made, Pending) else local_path(made.uri)
        if isinstance(made, Pending) or path is None:
            return made
        return replace(made, uri=self._store.put(path, "predictions", made.sha256))


class StoredScorer:
    """Scorer of rows and predictions in an object store.

    Args:
        inner: Scores local files.
        store: Where they are read.
    """

    def __init__(self, inner: Scorer, store: ObjectStore) -> None:
        self._inner = inner
        self._store = store

    def score(
        self,
        task: ScoringTask,
        snapshot: Snapshot,
        candidate: Predictions,
        champion: Predictions | None = None,
    ) -> Scores:
        """Score one version, or two on the same rows; see ``Scorer.score``."""
        return self._inner.score(
            task,
            _local_rows(self._store, snapshot),
            _local_predictions(self._store, candidate),
            _local_predictions(self._store, champion) if champion else None,
        )


class StoredInspector:
    """Inspector of rows and predictions in an object store.

    Args:
        inner: Inspects local files.
        store: Where they are read.
    """

    def __init__(self, inner: Inspector, store: ObjectStore) -> None:
        self._inner = inner
        self._store = store

    def inspect(
        self,
        task: InspectionTask,
        training: Snapshot,
        holdout: Snapshot,
        candidate: Predictions,
        champion: Predictions | None = None,
    ) -> Inspection:
        """Look at the rows of a job and at what its versions predict; see ``Inspector.inspect``."""
        return self._inner.inspect(
            task,
            _local_rows(self._store, training),
            _local_rows(self._store, holdout),
            _local_predictions(self._store, candidate),
            _local_predictions(self._store, champion) if champion else None,
        )


class StoredDrift:
    """DriftDetector of rows in an object store. Its report stays where the one within puts it.

    Args:
        inner: Compares local files.
        store: Where they are read.
    """

    def __init__(self, inner: DriftDetector, store: ObjectStore) -> None:
        self._inner = inner
        self._store = store

    def compare(self, reference: Snapshot, current: Snapshot) -> DriftReport | Pending:
        """Compare the features of two snapshots; see ``DriftDetector.compare``."""
        return self._inner.compare(_local_rows(self._store, reference), _local_rows(self._store, current))


def _local_rows(store: ObjectStore, snapshot: Snapshot) -> Snapshot:
    """The snapshot as a local file; unchanged where it is one (taken before there was a store)."""
    if not is_stored(snapshot.uri):
        return snapshot
    return replace(snapshot, uri=str(store.fetch(snapshot.uri, snapshot.sha256)))


def _local_predictions(store: ObjectStore, made: Predictions) -> Predictions:
    """Predictions as a local file; unchanged where they are one."""
    return replace(made, uri=str(store.fetch(made.uri, made.sha256))) if is_stored(made.uri) else made
