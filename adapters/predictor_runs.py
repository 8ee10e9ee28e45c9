"""Predictions as runs on a compute backend: loading a model is running its code, not for the controller."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..ports.compute import Compute, RunRequest, RunState
from ..ports.data import Snapshot
from ..ports.errors import MissingExtra, Permanent, Temporary
from ..ports.predictor import Predictions
from ..ports.registry import ModelVersion
from ..ports.values import Pending
from . import prediction_process
from .artefact_digest import artefact_digest
from .mlflow_client import local_path

_ATTEMPTS = 3


class RunPredictor:
    """Implements ``Predictor`` over a ``Compute`` that shares a file system with the controller.

    A run sees the features of the snapshot in a file of their own, nothing else of the rows and nothing of
    the controller's environment. What it wrote stays in ``directory`` under a key made of both digests, and
    is read again for as long as it is there.

    Args:
        compute: Where the runs are executed.
        directory: Where features and predictions are kept.
        fetch: Gives a local directory with the artefact of a version (``MlflowRegistry.fetch``); ``None`` for
            versions whose ``uri`` is one.
        python: Interpreter with the models' libraries, pandas and pyarrow.
        deadline_seconds: A run that takes longer has failed.
    """

    def __init__(
        self,
        compute: Compute,
        directory: Path,
        *,
        fetch: Callable[[ModelVersion], Path] | None = None,
        python: str = sys.executable,
        deadline_seconds: float = 600,
    ) -> None:
        self._compute = compute
        self._directory = directory.absolute()
        self._fetch = fetch or _own_directory
        self._python = python
        self._deadline_seconds = deadline_seconds

    def predict(self, version: ModelVersion, snapshot: Snapshot) -> Predictions | Pending:
        """Return the predictions of a version, starting their run when there are none yet.

        A run that was lost is started again, three times in all.

        Args:
            version: Which model.
            snapshot: Which rows.

        Returns:
            The predictions, or ``Pending`` while the run goes on.

        Raises:
            Temporary: The run cannot be started or observed now.
            Permanent: The model cannot be loaded, or fails on the rows, or returned too few, too many or not
                finite predictions; the artefact no longer has its digest; the snapshot is empty or damaged;
                or the run was lost three times.
        """
        if not snapshot.rows:
            raise Permanent(f"{version.model}: there are no rows to predict")
        what = f"{version.model} version {version.version}"
        key = hashlib.sha256(f"{version.digest} {snapshot.sha256}".encode()).hexdigest()
        try:
            return self._latest(what, key, version, snapshot)
        except OSError as error:
            text = f"{what}: its predictions cannot be kept: {error.strerror or error}"
            kept = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)
            raise (Permanent(text) if kept else Temporary(text)) from error

    def _latest(
        self, what: str, key: str, version: ModelVersion, snapshot: Snapshot
    ) -> Predictions | Pending:
        for attempt in range(1, _ATTEMPTS + 1):
            output = self._directory / key / str(attempt)
            if output.with_suffix(".json").exists():
                return _accept(what, output, snapshot.rows)
            run = f"predict-{key[:32]}-{attempt}"
            status = self._compute.observe(run)
            if status.state is RunState.ABSENT:
                self._submit(run, output, version, snapshot)
                return Pending(f"{what} predicts {snapshot.rows} rows")
            if not status.state.ended:
                return Pending(f"{what} predicts {snapshot.rows} rows ({status.state.value})")
            if status.state is not RunState.LOST:
                return self._ended(what, run, output, status.reason, snapshot.rows)
        raise Permanent(f"{what}: its prediction run was lost {_ATTEMPTS} times")

    def _submit(self, run: str, output: Path, version: ModelVersion, snapshot: Snapshot) -> None:
        artefact = self._fetch(version)
        if artefact_digest(artefact) != version.digest:
            raise Permanent(f"{version.model} version {version.version}: its artefact was altered")
        output.parent.mkdir(parents=True, exist_ok=True)
        features = self._features(snapshot)
        program = (self._python, "-P", prediction_process.__file__)
        self._compute.submit(
            RunRequest(
                key=run,
                command=(*program, str(artefact), str(features), str(output)),
                environment={"MLFLOW_DISABLE_TELEMETRY": "true"},
                deadline_seconds=self._deadline_seconds,
                inherit_environment=False,
            )
        )

    def _ended(self, what: str, run: str, output: Path, reason: str, rows: int) -> Predictions:
        if output.with_suffix(".json").exists():  # written since we looked for it
            return _accept(what, output, rows)
        said = self._compute.log_tail(run, 1).strip()
        raise Permanent(f"{what}: the prediction run left no result: {reason or said or 'it said nothing'}")

    def _features(self, snapshot: Snapshot) -> Path:
        """Copy the features out of a snapshot, once for all versions that predict its rows."""
        path = self._directory / "features" / f"{snapshot.sha256}.parquet"
        if path.exists():
            return path
        try:
            import pyarrow as pa
            import pyarrow.parquet as parquet
        except ImportError as error:
            raise MissingExtra("pyarrow", "mlflow") from error
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(f".{os.getpid()}")
        source = local_path(snapshot.uri)
        try:
            # Named columns, read as they are in the file: no partitions guessed from its path.
            with parquet.ParquetFile(source) as file:
                parquet.write_table(file.read(columns=list(snapshot.features)), scratch)
        except (pa.ArrowException, FileNotFoundError) as error:
            raise Permanent(
                f"{snapshot.model}: the snapshot {snapshot.uri} cannot be read: {error}"
            ) from error
        os.replace(scratch, path)
        return path


def _own_directory(version: ModelVersion) -> Path:
    path = local_path(version.uri)
    if path is None:
        raise Permanent(f"{version.model} version {version.version}: {version.uri} is not on this machine")
    return path


def _accept(what: str, output: Path, rows: int) -> Predictions:
    """Read what a run wrote; it was made by a model's code, so nothing in it is taken on trust."""
    path = output.with_suffix(".parquet")
    try:
        result: dict[str, Any] = json.loads(output.with_suffix(".json").read_bytes())
        fault = result.get("error") or _altered(path, result["sha256"]) or _fault(path, rows)
        scored = not fault and bool(result["scored"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Permanent(f"{what}: the result in {path.parent} cannot be read: {error}") from error
    if fault:
        raise Permanent(f"{what}: {fault}")
    return Predictions(str(path), result["sha256"], rows, scored)


def _altered(path: Path, digest: str) -> str:
    found = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None
    return "" if found == digest else f"the predictions in {path} were altered or removed"


def _fault(path: Path, rows: int) -> str:
    import pyarrow as pa
    import pyarrow.compute as compute
    import pyarrow.parquet as parquet

    with parquet.ParquetFile(path) as file:
        table = file.read()
    if table.num_rows != rows:
        return f"the model returned {table.num_rows} predictions for {rows} rows"
    for name, column in zip(table.column_names, table.columns, strict=True):
        bad = column.null_count
        if pa.types.is_floating(column.type):
            bad = rows - (compute.sum(compute.is_finite(column)).as_py() or 0)
        if bad:
            return f"{bad} of {rows} values in the column {name!r} are not finite"
    return ""
