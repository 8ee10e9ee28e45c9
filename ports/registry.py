"""The registry of model versions and the alias that says which one serves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from .values import TimeWindow


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One registered version of a model.

    Attributes:
        model: Name of the model in the registry.
        version: The registry's own label for it, unique within the model.
        digest: SHA-256 over the payload files of the artefact (hex). Metadata that differs between two
            loggings of one model is left out, so that equal digests mean an equal model.
        uri: Where the artefact can be loaded from.
        job_id: The job that produced it; ``None`` for a version that we did not train.
        trained_on: Window of its training rows; ``None`` when unknown (an adopted version).
        data_sha256: Digest of its training snapshot; ``None`` when unknown.
    """

    model: str
    version: str
    digest: str
    uri: str
    job_id: str | None = None
    trained_on: TimeWindow | None = None
    data_sha256: str | None = None


class ModelRegistry(Protocol):
    """Finds champions and candidates, and moves the champion alias."""

    def champions(self, models: Sequence[str]) -> Mapping[str, ModelVersion]:
        """Say which version of each model serves.

        Args:
            models: Names to look up.

        Returns:
            The champion of each model that has one. A model without a champion, or unknown to the
            registry, is absent from the mapping.

        Raises:
            Temporary: The registry cannot be reached.
            Permanent: It refuses, or a champion's artefact cannot be read at all.
        """
        ...

    def candidate(self, model: str, job_id: str) -> ModelVersion | None:
        """Find, and register if need be, the one model that a job's training run logged.

        Doing it twice registers once. The version is tagged with the job id, its training window and
        data digest, and the champion it was trained to replace, and gets the alias ``candidate``.

        Args:
            model: Name of the model.
            job_id: The job whose training run has succeeded.

        Returns:
            The version; ``None`` when the run logged no model.

        Raises:
            Temporary: The registry cannot be reached.
            Permanent: The run logged more than one model, or its artefact is unusable.
        """
        ...

    def set_champion(self, version: ModelVersion, expected: str | None) -> None:
        """Let a version serve, if the expected one still does.

        Setting a version that already is the champion succeeds and changes nothing. Before anything is
        moved, the artefact is hashed again and must still have ``version.digest``.

        Args:
            version: The version to serve.
            expected: Version label that must be the champion now; ``None`` for "no champion yet".

        Raises:
            ChampionMoved: Another version serves; nothing was written.
            Temporary: The registry cannot be reached.
            Permanent: The version is gone, or its artefact no longer has its digest.
        """
        ...
