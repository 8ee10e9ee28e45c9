"""What may be done on an MLflow server, by doing it: a run of our own, its artefact, and nothing else.

MLflow has no question for permissions that every server answers. Its own login checks a request before it
looks at what it is about, so that taking away what is not there shows a permission and changes nothing.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..ports.credentials import without_userinfo
from ..ports.errors import AutoRetrainError, Permanent, Temporary
from .mlflow_client import MlflowConnection

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PROBE = "autoretrain-probe"
_TAG = "autoretrain.probe"
_FILE = f"{PROBE}.txt"
_OLDEST_SERVER = (3, 0)

Deed = Literal["version", "experiment", "runs", "artefacts", "deleting", "model"]


@dataclass(frozen=True, slots=True)
class Tried:
    """One thing that was tried.

    Attributes:
        deed: ``version`` (the server is not too old), ``experiment`` (it is there or may be made), ``runs``
            (may be written), ``artefacts`` (may be written and read), ``deleting`` (of runs), ``model`` (a
            registered model may be changed).
        about: What it was done to.
        fault: Why it failed; ``None`` where it did not.
    """

    deed: Deed
    about: str
    fault: AutoRetrainError | None


class MlflowProbe:
    """Tries what the tracker, the registry and a training command will do.

    Args:
        tracking_uri: Address of the tracking server.
        experiment: Experiment of the training runs. While it is not there, one named like the probe serves.
        artifact_root: Where a new experiment keeps its artefacts; see ``MlflowTracker``.
    """

    def __init__(self, tracking_uri: str, *, experiment: str, artifact_root: str | None = None) -> None:
        self._connection = MlflowConnection(tracking_uri)
        self._experiment = experiment
        self._artifact_root = artifact_root
        self.place = without_userinfo(self._connection.tracking_uri)

    @property
    def _client(self) -> MlflowClient:
        return self._connection.client

    def version(self) -> str:
        """Release of the server; empty where it has none or does not say.

        Raises:
            Temporary: The server is away.
            Permanent: It refuses who asks, or is too old.
        """
        if not self._connection.remote:
            return ""
        with self._connection.errors("asking for its version"):
            _ = self._client  # sets how patient its requests are
            from mlflow.utils.credentials import get_default_host_creds
            from mlflow.utils.rest_utils import http_request

            login = get_default_host_creds(self._connection.tracking_uri)  # type: ignore[no-untyped-call]
            answer = http_request(login, "/version", "GET")  # type: ignore[no-untyped-call]
        said = (
            re.fullmatch(r"(\d+)\.(\d+)[\w.+-]*", answer.text.strip()) if answer.status_code == 200 else None
        )
        if said is None:
            return ""
        if (int(said[1]), int(said[2])) < _OLDEST_SERVER:
            oldest = ".".join(map(str, _OLDEST_SERVER))
            raise Permanent(
                f"it is MLflow {said[0]}, and {oldest} is the oldest that is supported: upgrade it"
            )
        return said[0]

    def examine(self, models: Sequence[str], *, artefacts: bool) -> Iterator[Tried]:
        """Try everything, and tidy up.

        Args:
            models: Registered models to be tried; those that are not there are left out.
            artefacts: Whether artefacts are written from here.

        Yields:
            What was tried, until something fails that the rest needs, or the server is away.
        """
        for tried in self._tracking(artefacts):
            yield tried
            if isinstance(tried.fault, Temporary) and tried.deed != "artefacts":
                return
        for model in models:
            there, fault = self._change(model)
            if there:
                yield Tried("model", model, fault)
            if isinstance(fault, Temporary):
                return

    def _tracking(self, artefacts: bool) -> Iterator[Tried]:
        experiment, fault = None, None
        try:
            with self._connection.errors(f"looking for experiment {self._experiment}"):
                experiment = self._found_experiment()
        except AutoRetrainError as error:
            fault = error
        yield Tried("experiment", self._experiment, fault)
        if experiment is None:
            return
        run, fault = None, None
        try:
            with self._connection.errors(f"writing a run to experiment {experiment.name}"):
                run = self._written_run(experiment.experiment_id)
        except AutoRetrainError as error:
            fault = error
        yield Tried("runs", experiment.name, fault)
        if run is not None:
            try:
                if artefacts:
                    yield Tried("artefacts", experiment.name, self._keep(run))
            finally:
                fault = self._tidy(run, experiment)
            yield Tried("deleting", experiment.name, fault)

    def _found_experiment(self) -> Any:
        found = self._client.get_experiment_by_name(self._experiment)
        if found is not None and found.lifecycle_stage != "active":
            raise Permanent(f"experiment {self._experiment!r} was deleted: restore it, or name another")
        return found or self._probe_experiment()

    def _probe_experiment(self) -> Any:
        found = self._client.get_experiment_by_name(PROBE)
        if found is not None and found.lifecycle_stage != "active":
            self._client.restore_experiment(found.experiment_id)
        if found is None:
            location = self._connection.artifact_location(PROBE, self._artifact_root)
            found = self._client.get_experiment(self._client.create_experiment(PROBE, location))
        return found

    def _written_run(self, experiment_id: str) -> Run:
        """The one that was left the last time, written to again; a new one where there is none to be had."""
        from mlflow.entities import RunTag, ViewType

        run = self._left_run(experiment_id, ViewType.ACTIVE_ONLY) or self._restored_run(experiment_id)
        if run is None:
            run = self._client.create_run(experiment_id, tags={_TAG: "doctor"}, run_name=PROBE)
            self._client.update_run(run.info.run_id, status="FINISHED")  # set_terminated prints
        else:
            self._client.log_batch(run.info.run_id, tags=[RunTag(_TAG, "doctor")])
        return run

    def _restored_run(self, experiment_id: str) -> Run | None:
        from mlflow.entities import ViewType
        from mlflow.exceptions import MlflowException

        run = self._left_run(experiment_id, ViewType.DELETED_ONLY)
        if run is not None:
            try:
                self._client.restore_run(run.info.run_id)
            except MlflowException as error:
                if error.error_code != "PERMISSION_DENIED":  # somebody else's, who may do more
                    raise
                return None
        return run

    def _left_run(self, experiment_id: str, view: int) -> Run | None:
        found = self._client.search_runs(
            [experiment_id], f"tags.`{_TAG}` = 'doctor'", run_view_type=view, max_results=1
        )
        return found[0] if found else None

    def _keep(self, run: Run) -> AutoRetrainError | None:
        """Write an artefact, and read it back."""
        try:
            with self._connection.errors("writing and reading an artefact"):
                self._client.log_text(run.info.run_id, PROBE, _FILE)
                with tempfile.TemporaryDirectory() as folder:
                    copy = Path(self._client.download_artifacts(run.info.run_id, _FILE, folder))
                    if copy.read_text() != PROBE:
                        raise Permanent("an artefact does not come back as it was written")
        except AutoRetrainError as error:
            return error
        return None

    def _tidy(self, run: Run, experiment: Any) -> AutoRetrainError | None:
        try:
            try:
                self._delete(run, experiment)
            except Temporary:  # a server that could not keep an artefact hangs up, and the next call is lost
                self._delete(run, experiment)
        except AutoRetrainError as error:
            return error
        # A file of a few bytes may stay: not every store of artefacts deletes.
        with suppress(AutoRetrainError, NotImplementedError), self._connection.errors("deleting an artefact"):
            from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

            uri = run.info.artifact_uri
            store: Any = get_artifact_repository(uri, tracking_uri=self._connection.tracking_uri)
            store.delete_artifacts(_FILE)
        return None

    def _delete(self, run: Run, experiment: Any) -> None:
        with self._connection.errors(f"deleting a run of experiment {experiment.name}"):
            self._client.delete_run(run.info.run_id)
            if experiment.name == PROBE:
                self._client.delete_experiment(experiment.experiment_id)

    def _change(self, model: str) -> tuple[bool, AutoRetrainError | None]:
        """Whether a registered model is there, and why it may not be changed."""
        client = self._client
        from mlflow.exceptions import MlflowException

        try:
            with self._connection.errors("changing a registered model"):
                try:
                    client.delete_registered_model_tag(model, _TAG)
                except MlflowException as error:
                    if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                        return False, None
                    raise
        except AutoRetrainError as error:
            return True, error
        return True, None
