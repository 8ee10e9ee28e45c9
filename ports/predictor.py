"""Predictions of a version for rows, made outside the controller: loading a model is running its code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from .data import Snapshot
from .registry import ModelVersion
from .values import Pending


@dataclass(frozen=True, slots=True)
class Predictions:
    """Predictions for every row of a snapshot.

    Attributes:
        uri: Parquet file with the column ``prediction`` and, where the model gives class scores, a column
            ``score:<class>`` for each class; rows in the order of the snapshot.
        sha256: Digest of the file (hex).
        rows: Number of predictions, equal to the snapshot's rows.
        scored: Whether class scores are there.
    """

    uri: str
    sha256: str
    rows: int
    scored: bool = False


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
