"""What the registry and the tracker on MLflow share: the connection, its errors, the names of tags."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from ..ports.credentials import presentable, without_credentials, without_userinfo
from ..ports.errors import AutoRetrainError, MissingExtra, Permanent, Temporary

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

DEFAULT_EXPERIMENT = "autoretrain"

TAG_MODEL = "autoretrain.model"
TAG_JOB = "autoretrain.job_id"
TAG_ATTEMPT = "autoretrain.attempt"
TAG_DATA = "autoretrain.data_sha256"
TAG_WINDOW_START = "autoretrain.window_start"
TAG_WINDOW_END = "autoretrain.window_end"
TAG_CHAMPION = "autoretrain.parent_champion"
TAG_PAYLOAD = "autoretrain.payload_sha256"

# A controller asks again at its next look, so that one request need not wait for minutes. Each value is
# followed by MLflow's own, which a training command gets back: it has nobody who asks again. Bars of progress
# would go between the lines of the log.
_PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": ("0", "7"),
    "MLFLOW_HTTP_REQUEST_TIMEOUT": ("5", "120"),
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": ("false", "true"),
}
_NO_TELEMETRY = {"MLFLOW_DISABLE_TELEMETRY": "true"}

_TEMPORARY_CODES = frozenset(
    {
        "TEMPORARILY_UNAVAILABLE",
        "DEADLINE_EXCEEDED",
        "REQUEST_LIMIT_EXCEEDED",
        "RESOURCE_EXHAUSTED",
        "ABORTED",
        "CANCELLED",
    }
)
# With those of stores that artefacts are written to from here.
_VENDORS = frozenset({"mlflow", "sqlalchemy", "urllib3", "boto3", "botocore", "google", "azure"})
_UNREACHABLE = re.compile(r"API request to (\S+?)/(?:api|ajax-api)/\S* failed with exception ")
_STATUS = re.compile(r"too many (\d{3}) error responses")
_REFUSED = re.compile(r"API request to endpoint (\S+) failed with error code (401|403) != 200")
_WHO = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
_SQLITE = "sqlite:///"


class MlflowConnection:
    """A lazy MLflow client for explicit addresses; leaves MLflow's global addresses alone.

    Args:
        tracking_uri: ``sqlite:///path``, ``http(s)://host`` or another address that MLflow knows.
        registry_uri: Address of the registry; ``None`` when the tracking server holds it.
    """

    def __init__(self, tracking_uri: str, registry_uri: str | None = None) -> None:
        self.tracking_uri = _absolute(tracking_uri)
        self.registry_uri = _absolute(registry_uri) if registry_uri else None

    @cached_property
    def client(self) -> MlflowClient:
        """The client, made on first use: importing MLflow takes seconds, creating its SQLite tables two.

        Raises:
            MissingExtra: MLflow is not installed.
            Temporary: The SQLite file is locked.
            Permanent: The SQLite file is none, or cannot be opened.
        """
        for uri in (self.tracking_uri, self.registry_uri):
            _check_sqlite(uri)
        for name, (ours, _) in _PATIENCE.items():
            os.environ.setdefault(name, ours)
        for name, value in _NO_TELEMETRY.items():
            os.environ.setdefault(name, value)
        try:
            from mlflow import MlflowClient
        except ImportError as error:
            raise MissingExtra("mlflow", "mlflow") from error
        # It prints stack traces of errors that are raised as well, and a line for every table it creates.
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
        with self.errors("opening"):
            return MlflowClient(self.tracking_uri, self.registry_uri)

    @contextmanager
    def errors(self, doing: str) -> Iterator[None]:
        """Turn every error of MLflow, its database and its transport into one of ours.

        Args:
            doing: What is being tried, for the message ("reading the champion of x").

        Raises:
            Temporary: The server or database is away, busy or overloaded.
            Permanent: It refuses, or what was asked for is not there.
        """
        try:
            yield
        except AutoRetrainError:
            raise
        except Exception as error:
            if not (isinstance(error, OSError) or type(error).__module__.partition(".")[0] in _VENDORS):
                raise
            text = f"MLflow, {doing}: {_words(error)}"
            raised = Temporary(text) if self._is_temporary(error) else Permanent(text)
            raise raised from presentable(error)

    def _is_temporary(self, error: BaseException) -> bool:
        code = getattr(error, "error_code", None)
        if code is not None:
            # Over HTTP a failed connection and a status of 5xx carry this code; in process it is a defect.
            return code in _TEMPORARY_CODES or (code == "INTERNAL_ERROR" and self.remote)
        if isinstance(error, OSError):
            status = getattr(getattr(error, "response", None), "status_code", 503)
            return not isinstance(error, FileNotFoundError | PermissionError) and (
                status >= 500 or status == 429
            )
        return type(error).__name__ == "OperationalError"

    @property
    def remote(self) -> bool:
        """Whether MLflow is asked over HTTP."""
        return urlsplit(self.registry_uri or self.tracking_uri).scheme in ("http", "https")

    def artifact_location(self, experiment: str, root: str | None) -> str | None:
        """Return where a new experiment keeps its artefacts; ``None`` leaves it to the server.

        Args:
            experiment: Its name.
            root: Directory or address of all artefacts; ``None`` for a server's own, and for the directory
                ``artifacts`` beside a SQLite file.
        """
        if root is not None:
            return f"{root.rstrip('/')}/{experiment}"
        database = sqlite_file(self.tracking_uri)
        return (database.parent / "artifacts" / experiment).as_uri() if database else None

    def run_of(self, experiment: str, job_id: str, *, deleted: bool = False) -> Run | None:
        """Find the tracked run of a job: the first one, should there be several.

        Args:
            experiment: Name of the experiment that holds the runs.
            job_id: The job.
            deleted: Whether to look among the runs that somebody deleted, in place of the others.

        Returns:
            The run; ``None`` when none was opened.
        """
        found = self.client.get_experiment_by_name(experiment)
        if found is None:
            return None
        check_answer(found.name, experiment)
        from mlflow.entities import ViewType

        runs = self.client.search_runs(
            [found.experiment_id],
            f"tags.`{TAG_JOB}` = {quoted(job_id)}",
            run_view_type=ViewType.DELETED_ONLY if deleted else ViewType.ACTIVE_ONLY,
            order_by=["start_time ASC", "run_id"],
        )
        return runs[0] if runs else None

    def logged_models(self, run: Run) -> list[Any]:
        """List the models that a run has logged completely and not deleted since, oldest first."""
        models = self.client.search_logged_models(
            [run.info.experiment_id], f"source_run_id = {quoted(run.info.run_id)}"
        )
        ready = [model for model in models if str(model.status) == "READY"]
        return sorted(ready, key=lambda model: (model.creation_timestamp, model.model_id))


def check_answer(said: object, asked: object) -> None:
    """Refuse an answer about something else than was asked for.

    MLflow's client takes an empty answer for an object without any content: a model without aliases, say. A
    proxy in front of a server that is starting gives such answers.

    Raises:
        Temporary: It is no answer of MLflow.
    """
    if said != asked:
        raise Temporary("MLflow gave an empty answer, or something else answers in its place")


def run_environment(tracking_uri: str) -> dict[str, str]:
    """Return the variables with which another process reaches the same server.

    Args:
        tracking_uri: Address of the server.

    Returns:
        Variables without credentials: a user name and password within the address are left out.
    """
    patience = {
        name: theirs for name, (ours, theirs) in _PATIENCE.items() if os.environ.get(name, ours) == ours
    }
    telemetry = {name: os.environ.get(name, ours) for name, ours in _NO_TELEMETRY.items()}
    return {"MLFLOW_TRACKING_URI": without_userinfo(tracking_uri), **patience, **telemetry}


def local_path(uri: str) -> Path | None:
    """Return the directory that an address names, or ``None`` when it is not on this machine's disk."""
    parts = urlsplit(uri)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return Path(unquote(parts.path))
    return Path(uri) if parts.scheme == "" else None


def quoted(value: str) -> str:
    """Quote a value for one of MLflow's filter strings, which know no escapes.

    Raises:
        Permanent: The value holds both kinds of quotes.
    """
    for mark in "'\"":
        if mark not in value:
            return f"{mark}{value}{mark}"
    raise Permanent(f"MLflow cannot search for {value!r}: it holds both kinds of quotes")


def sqlite_file(uri: str) -> Path | None:
    """Return the file of a ``sqlite:///`` address, ``None`` for any other address."""
    return Path(uri.removeprefix(_SQLITE).partition("?")[0]) if uri.startswith(_SQLITE) else None


def _absolute(uri: str) -> str:
    # The training command has another working directory.
    path = sqlite_file(uri)
    return uri.replace(str(path), str(path.absolute()), 1) if path else uri


def _check_sqlite(uri: str | None) -> None:
    # MLflow tries for minutes to open a file that it cannot open.
    path = sqlite_file(uri or "")
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=2.0)
        try:
            connection.execute("PRAGMA schema_version").fetchone()
        finally:
            connection.close()
    except sqlite3.OperationalError as error:
        kind = Temporary if "locked" in str(error) else Permanent
        raise kind(f"MLflow's database {path} cannot be opened: {error}") from error
    except (sqlite3.DatabaseError, OSError) as error:
        raise Permanent(f"MLflow's database {path} cannot be opened: {error}") from error


def _words(error: BaseException) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    unreachable = _UNREACHABLE.match(lines[0])
    if unreachable is not None:
        # The same words however it fails: a wait that lasts is recorded once for each reason.
        busy = _STATUS.search(lines[0])
        said = f"answers {busy[1]}" if busy else "cannot be reached"
        return without_credentials(f"{unreachable[1]} {said}")
    refused = _REFUSED.match(lines[0])
    if refused is not None:
        endpoint, status = refused.groups()
        what = f"refuses user, password or token: check {_WHO}" if status == "401" else "does not permit it"
        return f"the server {what} ({status} to {endpoint.partition('/mlflow/')[2] or endpoint})"
    return without_credentials(lines[0])[:300]
