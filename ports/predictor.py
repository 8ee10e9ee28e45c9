"""Predictions of a version for rows, made outside the controller: loading a model is running its code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from .data import Snapshot
from .registry import ModelVersion
from .values import Pending


@dataclass(frozen=True, slots=True)
class Effort:
    """What a prediction run has taken, as far as it is known.

    Attributes:
        load_seconds: Time until the model was loaded, its libraries included.
        predict_seconds: Time in which it predicted all rows in one batch, once it was loaded and had
            predicted a few before. Both are told by the run's own process, which is the model's.
        artefact_bytes: Size of the artefact's files, as the controller found them.
    """

    load_seconds: float | None = None
    predict_seconds: float | None = None
    artefact_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Predictions:
    """Predictions for every row of a snapshot.

    Attributes:
        uri: Parquet file with the column ``prediction`` and, where the model gives class scores, a column
            ``score:<class>`` for each class; rows in the order of the snapshot.
        sha256: Digest of the file (hex).
        rows: Number of predictions, equal to the snapshot's rows.
        scored: Whether class scores are there.
        effort: What the run has taken; ``None`` when nobody measured it.
    """

    uri: str
    sha256: str
    rows: int
    scored: bool = False
    effort: Effort | None = None


class Predictor(Protocol):
    """Predicts with a version for the features of a snapshot."""

    def predict(self, version: ModelVersion, snapshot: Snapshot) -> Predictions | Pending:
        """Return the predictions of a version, starting their run when there are none yet.

        Keyed by the digests of artefact and snapshot: asking again, also after a restart or from another
        caller, shares one run. The run gets the features without labels, and nothing else of the rows.

        Args:
            version: Which model.
            snapshot: Which rows; must not be empty.

        Returns:
            The predictions, or ``Pending`` while the run goes on.

        Raises:
            Temporary: The run cannot be started or observed now, or was lost.
            Permanent: The model cannot be loaded, or fails on the rows, or returned too few, too many or
                not finite predictions; or the artefact no longer has its digest.
        """
        ...
