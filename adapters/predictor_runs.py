"""Predictions as runs on a compute backend: loading a model is running its code, not for the controller."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..ports.compute import Compute, Isolation, RunLimits, RunRequest, RunState, RunStatus, SandboxChoice
from ..ports.data import Snapshot
from ..ports.errors import MissingExtra, Permanent, Temporary
from ..ports.predictor import Effort, Predictions
from ..ports.registry import ModelVersion
from ..ports.values import Pending
from . import prediction_process
from .artefact_digest import MOST_BYTES, artefact_bytes, artefact_digest
from .mlflow_client import local_path
from .prediction_results import Unusable, failure, keep, words_of_a_stranger
from .sandbox import interpreter_needs

_ATTEMPTS = 3
_SIZE = "artefact-bytes"  # beside the runs, where no model writes
_THREADS = str(min(4, os.cpu_count() or 1))
"""Threads of a run's numerical libraries, which would take one a processor each, with a buffer each."""

_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PYTHONDONTWRITEBYTECODE": "1",
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), _THREADS),
}


class RunPredictor:
    """Implements ``Predictor`` over a ``Compute`` that shares a file system with the controller.

    A run sees the features of the snapshot in a file of their own, nothing else of the rows and nothing of
    the controller's environment, and has an ``Isolation``. Once it has ended, the controller checks its
    result and writes it anew; that file stays in ``directory`` under a key made of both digests, and is read
    again for as long as it is there. A run that failed is remembered with its limits, its sandbox and what it
    could read: others start another.

    Args:
        compute: Where the runs are executed.
        directory: Where features and predictions are kept.
        fetch: Gives a local directory with the artefact of a version (``MlflowRegistry.fetch``); ``None`` for
            versions whose ``uri`` is one.
        python: Interpreter with the models' libraries, pandas and pyarrow; ``None`` for that of the image
            that the runs are started from, which then holds this package, too.
        deadline_seconds: A run that takes longer has failed.
        limits: The most that a run may take.
        sandbox: How it is kept apart; see ``Isolation.sandbox``.
        readable: Files and directories that models need beside the interpreter and its libraries, absolute.
        hidden: Directories whose contents no run may see: the project's, the controller's.
        most_bytes: Size of the largest artefact that is used.
    """

    def __init__(
        self,
        compute: Compute,
        directory: Path,
        *,
        fetch: Callable[[ModelVersion], Path] | None = None,
        python: str | None = sys.executable,
        deadline_seconds: float = 600,
        limits: RunLimits = RunLimits(),  # noqa: B008 - frozen
        sandbox: SandboxChoice = "auto",
        readable: Sequence[str] = (),
        hidden: Sequence[str] = (),
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._compute = compute
        self._directory = directory.absolute()
        self._fetch = fetch or _own_directory
        self._python = python
        self._deadline_seconds = deadline_seconds
        self._limits = limits
        self._sandbox: SandboxChoice = sandbox
        self._readable = tuple(readable)
        self._hidden = tuple(hidden)
        self._most_bytes = most_bytes

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
            path = self._directory / key / f"{attempt}.parquet"
            if path.with_suffix(".json").exists():
                return _kept(what, path, rows=snapshot.rows)
            run = f"predict-{key[:32]}-{self._terms()}-{attempt}"
            folder = path.with_name(run)
            status = self._compute.observe(run)
            if status.state is RunState.ABSENT:
                self._submit(run, folder, version, snapshot)
                return Pending(f"{what} predicts {snapshot.rows} rows")
            if not status.state.ended:
                return Pending(f"{what} predicts {snapshot.rows} rows ({status.state.value})")
            if status.state is RunState.SUCCEEDED:
                return self._accept(what, folder, path, snapshot.rows)
            if status.state is RunState.FAILED:
                raise Permanent(f"{what}: {self._why(run, folder, status)}")
        raise Permanent(f"{what}: its prediction run was lost {_ATTEMPTS} times")

    def _terms(self) -> str:
        """A short name for what a run is given beside model and rows."""
        given = (self._limits, self._deadline_seconds, self._sandbox, self._readable)
        return hashlib.sha256(repr(given).encode()).hexdigest()[:8]

    def _submit(self, run: str, folder: Path, version: ModelVersion, snapshot: Snapshot) -> None:
        artefact = self._fetch(version)
        if artefact_digest(artefact, self._most_bytes) != version.digest:
            raise Permanent(f"{version.model} version {version.version}: its artefact was altered")
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        _write(folder.parent / _SIZE, json.dumps(artefact_bytes(artefact)))
        features = self._features(snapshot)
        program, needs, variables = self._program()
        self._compute.submit(
            RunRequest(
                key=run,
                command=(*program, str(artefact), str(features), str(folder / "result")),
                environment={**variables, **_ENVIRONMENT},
                directory=str(folder),
                deadline_seconds=self._deadline_seconds,
                inherit_environment=False,
                isolation=Isolation(
                    limits=self._limits,
                    readable=(*needs, *self._readable, str(artefact), str(features)),
                    writable=(str(folder),),
                    hidden=self._hidden,
                    sandbox=self._sandbox,
                ),
                labels={"model": version.model, "version": version.version},
            )
        )

    def _program(self) -> tuple[tuple[str, ...], tuple[str, ...], Mapping[str, str]]:
        """The program of a run, what it has to read to start, and variables that it needs for that."""
        if self._python is None:
            return ("python", "-P", "-m", prediction_process.__name__), (), {}
        needs, variables = interpreter_needs(self._python)
        file = prediction_process.__file__
        return (self._python, "-P", file), (*needs, file), variables

    def _accept(self, what: str, folder: Path, path: Path, rows: int) -> Predictions:
        try:
            result = keep(folder, path, rows)
        except Unusable as fault:
            if path.with_suffix(".json").exists():  # another controller was faster, and has tidied up
                return _kept(what, path, rows)
            raise Permanent(f"{what}: {fault}") from None
        size = path.with_name(_SIZE)
        result["artefact_bytes"] = json.loads(size.read_bytes()) if size.exists() else None
        _write(path.with_suffix(".json"), json.dumps(result))
        shutil.rmtree(folder, ignore_errors=True)
        return _kept(what, path, rows)

    def _why(self, run: str, folder: Path, status: RunStatus) -> str:
        """Why a run failed: in the model's own words where it got so far, else in those of its supervisor."""
        if status.exit_code == 1 and (said := failure(folder)):
            return said
        printed = words_of_a_stranger(self._compute.log_tail(run, 1))
        return f"the prediction run left no result: {': '.join(filter(None, (status.reason, printed)))}"

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
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        scratch = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
        source = local_path(snapshot.uri)
        if source is None:
            raise Permanent(
                f"{snapshot.model}: the snapshot {snapshot.uri} is not on this machine: set storage.url"
            )
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


def _write(path: Path, text: str) -> None:
    """Let a file appear whole, whoever else writes it."""
    draft = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}")
    draft.write_text(text)
    os.replace(draft, path)


def _own_directory(version: ModelVersion) -> Path:
    path = local_path(version.uri)
    if path is None:
        raise Permanent(f"{version.model} version {version.version}: {version.uri} is not on this machine")
    return path


def _kept(what: str, path: Path, rows: int) -> Predictions:
    """Find what was accepted before; a person may have touched it since."""
    try:
        result: dict[str, Any] = json.loads(path.with_suffix(".json").read_bytes())
        fault = result.get("error") or _altered(path, result["sha256"])
        scored = not fault and bool(result["scored"])
        effort = Effort(*(result.get(name) for name in ("load_seconds", "predict_seconds", "artefact_bytes")))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Permanent(f"{what}: the result in {path.parent} cannot be read: {error}") from error
    if fault:
        raise Permanent(f"{what}: {fault}")
    return Predictions(str(path), result["sha256"], rows, scored, effort)


def _altered(path: Path, digest: str) -> str:
    found = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None
    return "" if found == digest else f"the predictions in {path} were altered or removed"
