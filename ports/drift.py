"""Comparison of input data with the data a model was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from .data import Snapshot
from .values import Pending


@dataclass(frozen=True, slots=True)
class ColumnDrift:
    """How one feature moved.

    Attributes:
        column: Name of the feature.
        kind: How it was compared.
        psi: Population stability index, ``sum((p - q) * ln(p / q))`` over bins or categories; ``None`` when
            it cannot be computed.
        ks_p: p-value of the two-sample Kolmogorov-Smirnov test; ``None`` for categories or when it cannot
            be computed.
        chi2_p: p-value of Pearson's chi-square test that both sides have the same shares of categories;
            ``None`` for numbers or when it cannot be computed.
        reference_rows: Rows with a value in the reference.
        current_rows: Rows with a value in the current data.
        reason: Why a measure is ``None`` (empty, constant, mixed types); empty otherwise.
    """

    column: str
    kind: Literal["numeric", "categorical"]
    psi: float | None
    ks_p: float | None
    reference_rows: int
    current_rows: int
    reason: str = ""
    chi2_p: float | None = None

    @property
    def p(self) -> float | None:
        """How likely columns differ so much by luck, were the rows independent; ``None`` when unknown."""
        return self.ks_p if self.kind == "numeric" else self.chi2_p


@dataclass(frozen=True, slots=True)
class DriftReport:
    """The comparison of two snapshots.

    Attributes:
        columns: One result a feature, in the order of the snapshot.
        page: Path or address of a page for people; ``None`` when there is none.
    """

    columns: tuple[ColumnDrift, ...]
    page: str | None = None


class DriftDetector(Protocol):
    """Compares two snapshots column by column."""

    def compare(self, reference: Snapshot, current: Snapshot) -> DriftReport | Pending:
        """Compare the features of two snapshots; labels are left alone.

        Repeating it with the same snapshots gives the same report, and computes it once.

        Args:
            reference: Rows the champion was trained on, or a stand-in for them.
            current: Recent rows.

        Returns:
            The report, with every feature of the snapshot in it: one that cannot be compared has ``None``
            and a reason, and costs the others nothing. ``Pending`` while it is being computed elsewhere.

        Raises:
            Temporary: It cannot be computed now.
            Permanent: It cannot be computed at all.
        """
        ...
