"""What every drift detector has to do; subclass a contract and run it with pytest.

``MeasuringDriftContract`` is for detectors that read the rows, which is what a detector in production does.
``DriftDetectorContract`` is the part that also holds where measures are set by hand.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import NormalDist
from typing import Any

import pytest

from ...ports.data import Snapshot
from ...ports.drift import ColumnDrift, DriftDetector, DriftReport
from ...ports.values import Pending, TimeWindow

ROWS = 600
START = datetime(2026, 5, 4, tzinfo=UTC)
WINDOW = TimeWindow(START, START + timedelta(days=1))

Table = Mapping[str, Sequence[Any]]
"""Features by name; all with ``ROWS`` values, ``None`` for a missing one."""


def normal(shift: float = 0.0) -> list[float]:
    """Numbers spread like a normal distribution, not in order."""
    quantiles = [NormalDist(shift).inv_cdf((n + 0.5) / ROWS) for n in range(ROWS)]
    return [quantiles[n * 7 % ROWS] for n in range(ROWS)]  # 7 has no divisor in common with ROWS


def write_snapshot(path: Path, table: Table, label: Sequence[Any]) -> Snapshot:
    """Write a table with its times and labels as a snapshot."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    times = [START + n * timedelta(seconds=1) for n in range(ROWS)]
    pq.write_table(pa.table({"at": times, **table, "truth": label}), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Snapshot("heat", WINDOW, str(path), ROWS, digest, tuple(table), "truth", "at", times[0], times[-1])


REFERENCE: Table = {
    "same": normal(),
    "moved": normal(),
    "fuel": ["gas", "oil", "gas"] * (ROWS // 3),
    "site": ["north", "south"] * (ROWS // 2),
    "open": [True, False] * (ROWS // 2),
    "gaps": [value if n % 3 else None for n, value in enumerate(normal())],
    "infinite": [value if n % 10 else float("inf") for n, value in enumerate(normal())],
    "constant": [1.5] * ROWS,
    "gone": normal(),
    "retyped": list(range(ROWS)),
}
CURRENT: Table = {
    **REFERENCE,
    "moved": normal(shift=1.0),
    "fuel": ["gas", "oil", "coal"] * (ROWS // 3),
    "gone": [None] * ROWS,
    "retyped": [str(n) for n in range(ROWS)],
}
LABELS = ([0] * ROWS, [1] * ROWS)


class DriftDetectorContract:
    """Behaviour of any ``DriftDetector``.

    Override ``detector``, which must not use fixtures. All questions of the suite need two comparisons; the
    one that takes long is made once a class.

    Attributes:
        patience: Seconds to wait for a pending report.
    """

    patience: float = 120.0

    def detector(self, directory: Path) -> DriftDetector:
        """A detector that may keep what it needs in a directory."""
        raise NotImplementedError

    def compare(self, detector: DriftDetector, reference: Snapshot, current: Snapshot) -> DriftReport:
        """Ask until the report is there."""
        deadline = time.monotonic() + self.patience
        report = detector.compare(reference, current)
        while isinstance(report, Pending):
            assert report.reason
            assert time.monotonic() < deadline, f"still pending: {report.reason}"
            time.sleep(0.05)
            report = detector.compare(reference, current)
        return report

    @pytest.fixture(scope="class")
    @classmethod
    def compared(cls, tmp_path_factory: pytest.TempPathFactory) -> tuple[DriftReport, DriftReport]:
        """The report of two snapshots of many kinds of columns, asked for twice."""
        folder = tmp_path_factory.mktemp("drift")
        reference = write_snapshot(folder / "reference.parquet", REFERENCE, LABELS[0])
        current = write_snapshot(folder / "current.parquet", CURRENT, LABELS[1])
        suite = cls()
        detector = suite.detector(folder / "detector")
        return suite.compare(detector, reference, current), suite.compare(detector, reference, current)

    @pytest.fixture(scope="class")
    @classmethod
    def columns(cls, compared: tuple[DriftReport, DriftReport]) -> Mapping[str, ColumnDrift]:
        """The columns of the report, by name."""
        return {column.column: column for column in compared[0].columns}

    def test_reports_every_feature_in_order_and_nothing_else(
        self, compared: tuple[DriftReport, DriftReport]
    ) -> None:
        assert [column.column for column in compared[0].columns] == list(REFERENCE)

    def test_a_repeat_gives_the_same_report(self, compared: tuple[DriftReport, DriftReport]) -> None:
        assert compared[0] == compared[1]

    def test_a_missing_measure_has_a_reason(self, columns: Mapping[str, ColumnDrift]) -> None:
        for column in columns.values():
            wanted = [column.psi] if column.kind == "categorical" else [column.psi, column.ks_p]
            assert bool(column.reason) == (None in wanted), column

    def test_without_rows_every_feature_is_unknown(self, tmp_path: Path) -> None:
        reference = write_snapshot(tmp_path / "reference.parquet", {"same": normal()}, LABELS[0])
        nothing = replace(reference, uri="", rows=0, sha256="", first_at=None, last_at=None)
        (column,) = self.compare(self.detector(tmp_path / "detector"), reference, nothing).columns
        assert (column.column, column.psi, column.ks_p) == ("same", None, None)
        assert column.reason


class MeasuringDriftContract(DriftDetectorContract):
    """Behaviour of a ``DriftDetector`` that measures the rows of the snapshots."""

    @pytest.mark.parametrize("name", ["same", "site", "open", "gaps", "infinite", "constant"])
    def test_the_same_values_have_not_moved(self, columns: Mapping[str, ColumnDrift], name: str) -> None:
        column = columns[name]
        assert column.psi is None or column.psi < 0.01
        assert column.ks_p is None or column.ks_p > 0.99

    @pytest.mark.parametrize("name", ["same", "site"])
    def test_ordinary_columns_are_measured(self, columns: Mapping[str, ColumnDrift], name: str) -> None:
        assert columns[name].psi is not None

    def test_a_shift_is_seen_by_both_measures(self, columns: Mapping[str, ColumnDrift]) -> None:
        moved = columns["moved"]
        assert moved.psi is not None
        assert moved.psi > 0.25
        assert moved.ks_p is not None
        assert moved.ks_p < 0.001

    def test_a_new_category_is_seen(self, columns: Mapping[str, ColumnDrift]) -> None:
        fuel = columns["fuel"]
        assert fuel.psi is not None
        assert fuel.psi > 0.25

    def test_kinds_are_told_apart(self, columns: Mapping[str, ColumnDrift]) -> None:
        kinds = {name: columns[name].kind for name in ("same", "fuel", "open")}
        assert kinds == {"same": "numeric", "fuel": "categorical", "open": "categorical"}

    def test_categories_have_no_ks(self, columns: Mapping[str, ColumnDrift]) -> None:
        assert columns["fuel"].ks_p is None

    def test_rows_with_a_value_are_counted(self, columns: Mapping[str, ColumnDrift]) -> None:
        gaps, gone = columns["gaps"], columns["gone"]
        assert gaps.reference_rows == gaps.current_rows == ROWS - ROWS // 3
        assert (gone.reference_rows, gone.current_rows) == (ROWS, 0)

    @pytest.mark.parametrize("name", ["gone", "retyped"])
    def test_what_cannot_be_compared_is_unknown(self, columns: Mapping[str, ColumnDrift], name: str) -> None:
        assert (columns[name].psi, columns[name].ks_p) == (None, None)
