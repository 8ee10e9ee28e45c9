"""What every source of snapshots must do.

Subclass the contract over your source and let pytest run it::

    class TestMyDataSource(DataSourceContract):
        def make_source(self, folder, rows):
            return MyDataSource(my_table_of(rows))
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ...ports.data import DataSource, Snapshot, SnapshotRequest
from ...ports.errors import Permanent
from ...ports.values import TimeWindow

MODEL = "boiler"
START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table under test.

    Attributes:
        ts: When it was observed; the time column.
        x: The only feature.
        y: The label; ``None`` where it is not known yet.
    """

    ts: datetime
    x: float
    y: int | None


def row(hours: float, x: float = 0.5, y: int | None = 1) -> Row:
    """Return a row that was observed some hours after ``START``."""
    return Row(START + timedelta(hours=hours), x, y)


def request(start: float, end: float, *, labelled: bool = True) -> SnapshotRequest:
    """Ask for the rows between two times, in hours after ``START``."""
    window = TimeWindow(START + timedelta(hours=start), START + timedelta(hours=end))
    return SnapshotRequest(MODEL, window, labelled)


class DataSourceContract(ABC):
    """Behaviour of :class:`autoretrain.ports.data.DataSource`.

    Attributes:
        time: Name of the time column, where the source does not let it be chosen.
        label: Name of the label column, likewise.
    """

    time = "ts"
    label = "y"

    @abstractmethod
    def make_source(self, folder: Path, rows: Sequence[Row]) -> DataSource:
        """Return a source that holds a table of these rows, in this order, for the model ``MODEL``.

        The time column is ``time``, the label ``label`` and the only feature ``x``.

        Args:
            folder: A folder the source may use. A test may make several sources, each in a folder of its own.
            rows: What the table holds.
        """

    def read(self, snapshot: Snapshot) -> list[Row]:
        """Return the rows of a snapshot in its order, with ``y=None`` when it has no label column.

        This one reads the Parquet file; a source that keeps snapshots elsewhere overrides it.
        """
        import pyarrow.parquet as pq

        if not snapshot.rows:
            return []
        records = pq.read_table(snapshot.uri).to_pylist()
        return [
            Row(record[self.time].astimezone(UTC), record["x"], record.get(self.label)) for record in records
        ]

    @pytest.fixture
    def source(self, tmp_path: Path) -> DataSource:
        """A source of five rows, one an hour, of which the fourth has no label yet."""
        rows = [row(0, 1.0, 0), row(1, 2.0), row(2, 3.0), row(3, 4.0, None), row(4)]
        return self.make_source(tmp_path, rows)

    def test_a_snapshot_holds_the_rows_of_the_window(self, source: DataSource) -> None:
        taken = source.snapshot(request(0, 3))

        assert self.read(taken) == [row(0, 1.0, 0), row(1, 2.0), row(2, 3.0)]

    def test_a_snapshot_says_what_it_is(self, source: DataSource) -> None:
        asked = request(0, 3)
        taken = source.snapshot(asked)

        assert (taken.model, taken.window, taken.rows) == (MODEL, asked.window, 3)
        assert (taken.time, taken.features, taken.label) == (self.time, ("x",), self.label)
        assert (taken.first_at, taken.last_at) == (row(0).ts, row(2).ts)
        assert taken.uri
        assert len(taken.sha256) == 64

    def test_the_start_is_inside_and_the_end_outside(self, tmp_path: Path) -> None:
        instant = timedelta(microseconds=1)
        times = [START - instant, START, START + timedelta(hours=1) - instant, START + timedelta(hours=1)]
        source = self.make_source(tmp_path, [Row(at, 0.5, 1) for at in times])

        assert [kept.ts for kept in self.read(source.snapshot(request(0, 1)))] == times[1:3]

    def test_a_window_without_rows_is_an_answer(self, source: DataSource) -> None:
        taken = source.snapshot(request(100, 200))

        assert (taken.rows, taken.uri, taken.sha256) == (0, "", "")
        assert (taken.first_at, taken.last_at) == (None, None)
        assert (taken.time, taken.label) == (self.time, self.label)

    def test_a_window_of_no_length_holds_nothing(self, source: DataSource) -> None:
        assert source.snapshot(request(1, 1)).rows == 0

    def test_a_window_of_unlabelled_rows_has_no_labelled_ones(self, source: DataSource) -> None:
        assert source.snapshot(request(3, 4)).rows == 0
        assert source.snapshot(request(3, 4, labelled=False)).rows == 1

    def test_labelled_snapshots_leave_out_rows_without_a_label(self, source: DataSource) -> None:
        assert [kept.ts for kept in self.read(source.snapshot(request(2, 5)))] == [row(2).ts, row(4).ts]

    def test_rows_that_lack_a_label_are_counted(self, source: DataSource) -> None:
        taken = source.snapshot(request(0, 5))
        assert (taken.rows, taken.unlabelled, taken.coverage) == (4, 1, 0.8)
        none = source.snapshot(request(3, 4))
        assert (none.rows, none.unlabelled, none.coverage) == (0, 1, 0.0)
        assert source.snapshot(request(0, 5, labelled=False)).unlabelled is None

    def test_unlabelled_snapshots_hold_all_rows_and_no_label(self, source: DataSource) -> None:
        taken = source.snapshot(request(2, 5, labelled=False))

        assert (taken.label, taken.features) == (None, ("x",))
        assert self.read(taken) == [row(2, 3.0, None), row(3, 4.0, None), row(4, y=None)]

    def test_rows_are_in_time_order_whatever_order_they_came_in(self, tmp_path: Path) -> None:
        source = self.make_source(tmp_path, [row(2), row(0), row(1)])

        assert self.read(source.snapshot(request(0, 3))) == [row(0), row(1), row(2)]

    def test_rows_of_one_moment_are_all_kept(self, tmp_path: Path) -> None:
        source = self.make_source(tmp_path, [row(0, 2.0), row(0, 1.0), row(0, 1.0)])

        assert sorted(kept.x for kept in self.read(source.snapshot(request(0, 1)))) == [1.0, 1.0, 2.0]

    def test_a_missing_feature_is_no_reason_to_leave_a_row_out(self, tmp_path: Path) -> None:
        source = self.make_source(tmp_path, [row(0, float("nan"))])

        assert source.snapshot(request(0, 1)).rows == 1

    def test_repeating_it_gives_the_same_snapshot(self, source: DataSource) -> None:
        assert source.snapshot(request(0, 3)) == source.snapshot(request(0, 3))

    def test_the_same_rows_give_the_same_digest(self, tmp_path: Path) -> None:
        rows = [row(0, 1.0, 0), row(1, 2.0), row(2, 3.0)]
        digests = set()
        for name, held in {"few": rows, "more": [*rows, row(9, 4.0, None)]}.items():
            (tmp_path / name).mkdir()
            digests.add(self.make_source(tmp_path / name, held).snapshot(request(0, 3)).sha256)

        assert len(digests) == 1

    def test_other_rows_give_another_digest(self, source: DataSource) -> None:
        digests = {source.snapshot(request(*hours)).sha256 for hours in ((0, 2), (0, 3), (1, 3))}

        assert len(digests) == 3

    def test_a_snapshot_with_labels_is_another_one_than_without(self, source: DataSource) -> None:
        labelled, unlabelled = (source.snapshot(request(0, 3, labelled=which)) for which in (True, False))

        assert labelled.sha256 != unlabelled.sha256

    def test_a_model_without_a_table_is_refused(self, source: DataSource) -> None:
        with pytest.raises(Permanent, match="nobody"):
            source.snapshot(SnapshotRequest("nobody", request(0, 1).window))
