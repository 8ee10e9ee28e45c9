"""Rows of a model between two times, as files with a digest. The domain never holds a data frame."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from .values import TimeWindow


@dataclass(frozen=True, slots=True)
class SnapshotRequest:
    """Which rows are wanted.

    Attributes:
        model: Name of the model.
        window: Rows whose time lies in it.
        labelled: Only rows that have a label (training, holdout, re-scoring); False takes all (drift).
    """

    model: str
    window: TimeWindow
    labelled: bool = True


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An immutable copy of rows.

    Attributes:
        model: Name of the model.
        window: The window that was asked for.
        uri: Parquet file with the time column (when the model has one), the features and the label, rows in
            time order. Empty string when ``rows`` is 0.
        rows: Number of rows; 0 is a valid answer.
        sha256: Digest of the file (hex). The same rows give the same digest. Empty when ``rows`` is 0.
        features: Names of the feature columns, in file order.
        label: Name of the label column; ``None`` when the snapshot was taken without labels.
        time: Name of the time column.
        first_at: Time of the first row; ``None`` when there is none.
        last_at: Time of the last row; ``None`` when there is none.
        unlabelled: Rows of the window that were left out for want of a label; ``None`` when nobody counted.
    """

    model: str
    window: TimeWindow
    uri: str
    rows: int
    sha256: str
    features: tuple[str, ...]
    label: str | None
    time: str
    first_at: datetime | None
    last_at: datetime | None
    unlabelled: int | None = None

    @property
    def coverage(self) -> float | None:
        """Share of the window's rows that have a label; ``None`` when it is not known."""
        if self.unlabelled is None or not self.rows + self.unlabelled:
            return None
        return self.rows / (self.rows + self.unlabelled)


class DataSource(Protocol):
    """Takes snapshots of a model's rows."""

    def snapshot(self, request: SnapshotRequest) -> Snapshot:
        """Copy the rows of a window into an immutable file.

        Repeating it while the rows are the same gives the same digest and file.

        Args:
            request: Which rows.

        Returns:
            Handle of the copy. A window without rows is an answer (``rows == 0``), not an error.

        Raises:
            Temporary: The store cannot be reached now.
            Permanent: It cannot be read at all, or the time or label column is missing; names the column
                and those that exist.
        """
        ...
