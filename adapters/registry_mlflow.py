"""The model registry on MLflow: versions, and the aliases ``champion`` and ``candidate``."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from ..ports.credentials import without_userinfo
from ..ports.errors import ChampionMoved, Permanent
from ..ports.registry import ModelVersion
from ..ports.values import TimeWindow
from .artefact_digest import MOST_BYTES, artefact_digest, too_large
from .mlflow_client import (
    DEFAULT_EXPERIMENT,
    TAG_CHAMPION,
    TAG_DATA,
    TAG_JOB,
    TAG_PAYLOAD,
    TAG_WINDOW_END,
    TAG_WINDOW_START,
    MlflowConnection,
    check_answer,
    local_path,
    quoted,
)
from .mlflow_lists import Lists, chunks

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_CHAMPION = "champion"
_CANDIDATE = "candidate"
_MOST_DIRECTORIES = 1000
_MANY = 8
"""From so many models on they are read by lists."""
# What a version takes over from the run that trained it.
_INHERITED = (TAG_JOB, TAG_DATA, TAG_WINDOW_START, TAG_WINDOW_END, TAG_CHAMPION)


class MlflowRegistry:
    """Implements ``ModelRegistry``.

    Args:
        tracking_uri: Address of the tracking server, or ``sqlite:///path`` for none.
        registry_uri: Address of the registry; ``None`` when it is the tracking server.
        experiment: Name of the experiment in which training runs are tracked.
        cache: Directory for copies of artefacts that are not on this machine's disk; ``None`` for one in the
            user's cache directory.
        most_bytes: Size of the largest artefact that is hashed or fetched.
    """

    def __init__(
        self,
        tracking_uri: str,
        *,
        registry_uri: str | None = None,
        experiment: str = DEFAULT_EXPERIMENT,
        cache: Path | None = None,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._connection = MlflowConnection(tracking_uri, registry_uri)
        self._experiment = experiment
        self._cache = cache or _user_cache()
        self._most_bytes = most_bytes
        self._digests: dict[tuple[str, str], str] = {}
        self._versions: dict[tuple[str, int, str], ModelVersion] = {}
        self._lists = Lists()

    @property
    def _client(self) -> MlflowClient:
        return self._connection.client

    def champions(self, models: Sequence[str]) -> Mapping[str, ModelVersion]:
        """Read the champion alias of each model.

        A version that this class registered carries its digest as a tag; of any other the artefact is hashed
        at first sight, and its digest kept for the life of this object.

        Args:
            models: Names to look up.

        Returns:
            The champion of each model that has one.

        Raises:
            Temporary: The registry cannot be reached.
            Permanent: It refuses, or a champion's artefact cannot be read.
        """
        listed = self._listed(models) if len(models) >= _MANY else {}
        found = {}
        for model in models:
            # Not in a list, or the list was empty: only the question about it alone tells.
            champion = listed[model] if model in listed else self._champion(model)
            if champion is not None:
                found[model] = champion
        return found

    def _champion(self, model: str) -> ModelVersion | None:
        with self._connection.errors(f"reading the champion of {model}"):
            label = self._serving(model)
            return None if label is None else self._describe(self._version(model, label))

    def _listed(self, models: Sequence[str]) -> Mapping[str, ModelVersion | None]:
        """Champions of many models by few questions: of those that a list of registered models names."""
        found: dict[str, ModelVersion | None] = {}
        for some in chunks(models):
            with self._connection.errors(f"reading the champions of {len(some)} models"):
                for registered in self._lists.of(self._client, some):
                    aliases: dict[str, Any] = registered.aliases
                    label = aliases.get(_CHAMPION)
                    found[registered.name] = None if label is None else self._known(registered, str(label))
        return found

    def _known(self, registered: Any, label: str) -> ModelVersion:
        """A version as it was described before: once it has its digest, it does not change."""
        key = (registered.name, registered.creation_timestamp, label)
        if key not in self._versions:
            version = self._version(registered.name, label)
            described = self._describe(version)
            if TAG_PAYLOAD not in version.tags:
                return described
            self._versions[key] = described
        return self._versions[key]

    def candidate(self, model: str, job_id: str) -> ModelVersion | None:
        """Find, and register if need be, the one model that a job's training run logged.

        A version that the training command registered itself is adopted.

        Args:
            model: Name of the model.
            job_id: The job whose training run has succeeded.

        Returns:
            The version; ``None`` when the run logged no model, or no run was opened.

        Raises:
            Temporary: The registry cannot be reached.
            Permanent: The run was deleted or logged more than one model, or its artefact is unusable.
        """
        with self._connection.errors(f"looking for the candidate of {model}, job {job_id}"):
            run = self._connection.run_of(self._experiment, job_id)
            if run is None and self._connection.run_of(self._experiment, job_id, deleted=True):
                raise Permanent(f"{model}: somebody deleted the training run of job {job_id}")
            logged = self._connection.logged_models(run) if run else []
            if run is None or not logged:
                return None
            if len(logged) > 1:
                names = ", ".join(f"{one.name} ({one.model_id})" for one in logged)
                raise Permanent(
                    f"{model}: the training run logged {len(logged)} models, exactly one is needed: {names}"
                )
            version = self._registered(model, run, logged[0]) or self._register(model, run, logged[0])
            described = self._describe(self._tag(version, run))
            self._client.set_registered_model_alias(model, _CANDIDATE, described.version)
            return described

    def set_champion(self, version: ModelVersion, expected: str | None) -> None:
        """Move the champion alias, if it is where it is expected to be.

        MLflow has no compare-and-set: between the last look and the move another writer may come in. The
        next look at the alias shows it.

        Args:
            version: The version to serve.
            expected: Version label that must be the champion now; ``None`` for "no champion yet".

        Raises:
            ChampionMoved: Another version serves; nothing was written.
            Temporary: The registry cannot be reached.
            Permanent: The version is gone, or its artefact no longer has its digest.
        """
        with self._connection.errors(f"promoting {version.model} version {version.version}"):
            if self._is_set(version, expected):
                return
            found = self._hash(self._location(self._version(version.model, version.version)))
            if found != version.digest:
                raise Permanent(
                    f"{version.model} version {version.version}: its artefact was altered since it was "
                    f"judged (the digest is {found[:12]}…, not {version.digest[:12]}…)"
                )
            if not self._is_set(version, expected):
                self._client.set_registered_model_alias(version.model, _CHAMPION, version.version)

    def fetch(self, version: ModelVersion) -> Path:
        """Return a local directory that holds the artefact of a version.

        Args:
            version: Which version.

        Returns:
            The artefact's own directory when it is on this machine's disk, else a copy kept by digest.

        Raises:
            Temporary: The artefact store cannot be reached.
            Permanent: The artefact is gone, or no longer has its digest.
        """
        path = local_path(version.uri)
        if path is None:
            path = self._cache / version.digest
            if path.exists() and self._digest(path) == version.digest:
                return path
            shutil.rmtree(path, ignore_errors=True)
            with self._connection.errors(f"fetching {version.model} version {version.version}"):
                self._hash(self._location(self._version(version.model, version.version)))
        if not path.is_dir() or self._digest(path) != version.digest:
            raise Permanent(
                f"{version.model} version {version.version}: its artefact is gone or was altered; expected "
                f"digest {version.digest[:12]}… in {version.uri}"
            )
        return path

    def _serving(self, model: str) -> str | None:
        client = self._client
        from mlflow.exceptions import MlflowException  # after the client, which says what is not installed

        try:
            found = client.get_registered_model(model)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        check_answer(found.name, model)
        aliases: dict[str, Any] = found.aliases
        return str(aliases[_CHAMPION]) if _CHAMPION in aliases else None

    def _version(self, model: str, label: str) -> Any:
        found = self._client.get_model_version(model, label)
        check_answer((found.name, str(found.version)), (model, label))
        return found

    def _is_set(self, version: ModelVersion, expected: str | None) -> bool:
        serving = self._serving(version.model)
        if serving not in (version.version, expected):
            raise ChampionMoved(version.model, expected, serving)
        return serving == version.version

    def _registered(self, model: str, run: Run, logged: Any) -> Any | None:
        """Find the version of a logged model: the lowest, should two processes have registered it."""
        versions = self._client.search_model_versions(
            f"name = {quoted(model)} AND run_id = {quoted(run.info.run_id)}"
        )
        sources = (logged.artifact_location, f"models:/{logged.model_id}")
        ours = [version for version in versions if version.source in sources]
        return min(ours, key=lambda version: int(version.version), default=None)

    def _register(self, model: str, run: Run, logged: Any) -> Any:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(model)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        created = self._client.create_model_version(
            model,
            logged.artifact_location,
            run_id=run.info.run_id,
            model_id=logged.model_id,
            tags={TAG_JOB: run.data.tags[TAG_JOB]},
        )
        first = self._registered(model, run, logged) or created
        if str(first.version) != str(created.version):  # another controller was faster; nobody knows ours yet
            self._client.delete_model_version(model, created.version)
        return first

    def _tag(self, version: Any, run: Run) -> Any:
        """Write the tags that are missing, the digest last: it says that the others are there."""
        if TAG_PAYLOAD in version.tags:
            return version
        tags = {key: run.data.tags[key] for key in _INHERITED if key in run.data.tags}
        tags[TAG_PAYLOAD] = self._hash(self._location(version))
        for key, value in tags.items():
            self._client.set_model_version_tag(version.name, version.version, key, value)
        return self._client.get_model_version(version.name, version.version)

    def _describe(self, version: Any) -> ModelVersion:
        tags = version.tags
        location = self._location(version)
        path = local_path(location)
        return ModelVersion(
            model=version.name,
            version=str(version.version),
            digest=tags.get(TAG_PAYLOAD) or self._seen(version, location),
            uri=str(path) if path else without_userinfo(location),  # it ends in the ledger
            job_id=tags.get(TAG_JOB),
            trained_on=_window(tags),
            data_sha256=tags.get(TAG_DATA),
        )

    def _location(self, version: Any) -> str:
        location = str(self._client.get_model_version_download_uri(version.name, version.version))
        if ".." in unquote(urlsplit(location).path).split("/"):
            raise Permanent(f"{version.name} version {version.version}: its address {location} holds '..'")
        return location

    def _seen(self, version: Any, location: str) -> str:
        key = (version.name, str(version.version))
        if key not in self._digests:
            self._digests[key] = self._hash(location)
        return self._digests[key]

    def _hash(self, location: str) -> str:
        """Hash an artefact as it is in its store now; one from elsewhere stays in the cache."""
        path = local_path(location)
        if path is not None:
            return self._digest(path)
        from mlflow.artifacts import download_artifacts

        self._check_listing(location)
        self._cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._cache, prefix="download-") as scratch:
            copy = Path(
                download_artifacts(
                    artifact_uri=location, dst_path=scratch, tracking_uri=self._connection.tracking_uri
                )
            )
            digest = self._digest(copy)
            if not (self._cache / digest).exists():
                _keep(copy, self._cache / digest)
        return digest

    def _digest(self, path: Path) -> str:
        return artefact_digest(path, self._most_bytes)

    def _check_listing(self, location: str) -> None:
        """Look at an artefact's names and sizes before a byte of it is fetched."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        store = get_artifact_repository(location, tracking_uri=self._connection.tracking_uri)
        what, size, waiting = f"the artefact in {location}", 0, [""]
        for _ in range(_MOST_DIRECTORIES):
            if not waiting:
                return
            for entry in store.list_artifacts(waiting.pop() or None):
                _check_parts(entry.path, what)
                size += entry.file_size or 0
                if entry.is_dir:
                    waiting.append(entry.path)
            if size > self._most_bytes:
                raise too_large(what, self._most_bytes)
        raise Permanent(f"{what} has more than {_MOST_DIRECTORIES} directories")


def _check_parts(path: str, what: str) -> None:
    if path.startswith("/") or ".." in path.split("/"):
        raise Permanent(f"{what} holds a file {path!r}, whose name leads out of it")


def _keep(copy: Path, kept: Path) -> None:
    try:
        # The download may be the scratch directory itself, which has to stay for its owner to remove.
        staged = Path(tempfile.mkdtemp(dir=kept.parent, prefix="keep-"))
        os.replace(copy, staged)
        os.replace(staged, kept)
    except OSError:
        if not kept.exists():  # another process was faster
            raise


def _window(tags: Mapping[str, str]) -> TimeWindow | None:
    try:
        start, end = (datetime.fromisoformat(tags[key]) for key in (TAG_WINDOW_START, TAG_WINDOW_END))
        return TimeWindow(start, end)
    except (KeyError, ValueError):
        return None


def _user_cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "autoretrain" / "artefacts"
