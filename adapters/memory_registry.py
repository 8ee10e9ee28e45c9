"""The model registry and the experiment tracker in memory, with what people do to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..ports.errors import ChampionMoved, Permanent
from ..ports.registry import ModelVersion
from ..ports.tracking import TrainingContext

Model = Callable[[Mapping[str, Any]], Any]
"""A model: the prediction for one row's features."""


class MemoryRegistry:
    """Implements ModelRegistry and ExperimentTracker."""

    def __init__(self) -> None:
        self.models: dict[tuple[str, str], Model] = {}
        self.aliases: dict[str, str] = {}
        self.versions: dict[str, list[ModelVersion]] = {}
        self.notes: dict[tuple[str, str], dict[str, Any]] = {}
        self._labels: Counter[str] = Counter()
        self._lost: set[tuple[str, str]] = set()
        self._contexts: dict[str, TrainingContext] = {}
        self._logged: dict[str, list[tuple[Model, str]]] = {}

    # What the world does

    def log(self, job_id: str, model: Model, digest: str) -> None:
        """Let the training run of a job log a model with this artefact digest; logging one twice adds one."""
        logged = self._logged.setdefault(job_id, [])
        if all(known != digest for _, known in logged):
            logged.append((model, digest))

    def register(self, name: str, model: Model, digest: str, job_id: str | None = None) -> ModelVersion:
        """Register a version, as somebody else would."""
        versions = self.versions.setdefault(name, [])
        context = self._contexts.get(job_id or "")
        self._labels[name] += 1  # the label of a version that was deleted is not given again
        label = str(self._labels[name])
        version = ModelVersion(
            model=name,
            version=label,
            digest=digest,
            uri=f"memory:{name}/{label}",
            job_id=job_id,
            trained_on=context.data.window if context else None,
            data_sha256=context.data.sha256 if context else None,
        )
        versions.append(version)
        self.models[name, version.version] = model
        return version

    def tamper(self, version: ModelVersion, digest: str) -> None:
        """Let the artefact of a version be another one from now on."""
        changed = replace(version, digest=digest)
        self.versions[version.model] = [changed if v == version else v for v in self.versions[version.model]]

    def delete_version(self, version: ModelVersion) -> None:
        """Let somebody delete a version, and the alias with it."""
        self.versions[version.model] = [v for v in self.versions[version.model] if v != version]
        self.models.pop((version.model, version.version), None)
        if self.aliases.get(version.model) == version.version:
            del self.aliases[version.model]

    def delete_artefact(self, version: ModelVersion) -> None:
        """Let somebody delete the files of a version."""
        self._lost.add((version.model, version.version))

    def restore_artefacts(self) -> None:
        """Let somebody bring all files back that were deleted."""
        self._lost.clear()

    def delete_run(self, job_id: str) -> None:
        """Let somebody delete the tracked run of a job, and what it has logged."""
        self._contexts.pop(job_id, None)
        self._logged.pop(job_id, None)

    # ModelRegistry

    def champions(self, models: Sequence[str]) -> Mapping[str, ModelVersion]:
        """Say which version of each model serves."""
        found = {name: self._find(name, self.aliases[name]) for name in models if name in self.aliases}
        for version in found.values():
            if version.job_id is None:  # of our own, the digest is known without a look at the files
                self._check_files(version)
        return found

    def candidate(self, model: str, job_id: str) -> ModelVersion | None:
        """Register the one model that a job logged."""
        known = [version for version in self.versions.get(model, []) if version.job_id == job_id]
        logged = self._logged.get(job_id, []) if job_id in self._contexts else []  # else its run is gone
        if len(logged) > 1:
            raise Permanent(f"the training run of job {job_id} logged {len(logged)} models; log one")
        if known or not logged:
            return known[0] if known else None
        return self.register(model, logged[0][0], logged[0][1], job_id)

    def set_champion(self, version: ModelVersion, expected: str | None) -> None:
        """Let a version serve, if the expected one still does."""
        found = self.aliases.get(version.model)
        if found == version.version:
            return
        if found != expected:
            raise ChampionMoved(version.model, expected, found)
        self.check_artefact(version)
        self.aliases[version.model] = version.version

    def check_artefact(self, version: ModelVersion) -> None:
        """Refuse a version whose artefact is another one by now."""
        self._check_files(version)
        if self._find(version.model, version.version).digest != version.digest:
            raise Permanent(f"the artefact of {version.model} version {version.version} was altered")

    def _check_files(self, version: ModelVersion) -> None:
        if (version.model, version.version) in self._lost:
            raise Permanent(f"the artefact of {version.model} version {version.version} is gone")

    def _find(self, name: str, label: str) -> ModelVersion:
        for version in self.versions.get(name, []):
            if version.version == label:
                return version
        raise Permanent(f"{name} has no version {label}")

    # ExperimentTracker

    def open_run(self, context: TrainingContext) -> Mapping[str, str]:
        """Open the tracked run of a job, once."""
        self._contexts.setdefault(context.job_id, context)
        return {"MEMORY_RUN_ID": context.job_id}

    def annotate(self, version: ModelVersion, metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
        """Keep scores and tags with a version."""
        self._find(version.model, version.version)
        self.notes.setdefault((version.model, version.version), {}).update({**metrics, **tags})
