"""Experiment tracking: where a training run logs to, and where scores are kept beside a version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from .data import Snapshot
from .registry import ModelVersion


@dataclass(frozen=True, slots=True)
class TrainingContext:
    """What is known about a training before it starts.

    Attributes:
        model: Name of the model.
        job_id: The job.
        attempt: Number of the attempt, from 1. All attempts of a job share one tracked run.
        parameters: Training configuration as the user gave it.
        data: The training snapshot.
        champion: Version label of the champion it may replace; ``None`` when there is none.
    """

    model: str
    job_id: str
    attempt: int
    parameters: Mapping[str, Any]
    data: Snapshot
    champion: str | None


class ExperimentTracker(Protocol):
    """Opens tracked runs and annotates versions."""

    def open_run(self, context: TrainingContext) -> Mapping[str, str]:
        """Open the tracked run of a job, once.

        Called again for the same job (also by another process) it returns the same run.

        Returns:
            Environment variables with which the training command finds the run. They hold no secrets.

        Raises:
            Temporary: The tracking server cannot be reached.
            Permanent: It refuses.
        """
        ...

    def annotate(self, version: ModelVersion, metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
        """Keep scores and tags with a version. Repeating it overwrites the same values.

        Args:
            version: The version that was judged.
            metrics: Finite numbers by name.
            tags: Strings by name.

        Raises:
            Temporary: The tracking server cannot be reached.
            Permanent: It refuses, or the version is gone.
        """
        ...
