"""What every inspector must do.

Subclass the contract over your inspector and let pytest run it. One that reads the files of snapshots and
predictions needs one method::

    class TestMyInspector(InspectorContract):
        def make_inspector(self):
            return MyInspector()
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ...ports.data import Snapshot
from ...ports.inspector import Inspection, InspectionTask, Inspector
from ...ports.predictor import Predictions
from ...ports.values import TimeWindow

START = datetime(2026, 1, 1, tzinfo=UTC)
MODEL = "boiler"


@dataclass(frozen=True, slots=True)
class Sighting:
    """One row: two features, a label, and the machine that it is about.

    Attributes:
        x: A number; ``None`` where it is missing.
        y: The label.
        machine: The group; ``None`` where it is missing.
    """

    x: float | None
    y: Any
    machine: str | None = "a"


class InspectorContract(ABC):
    """Behaviour of :class:`autoretrain.ports.inspector.Inspector`.

    Every test calls ``make_inspector`` before it makes what is to be looked at.
    """

    @abstractmethod
    def make_inspector(self) -> Inspector:
        """Return the inspector under test."""

    def make_rows(self, rows: Sequence[Sighting], start: datetime = START) -> Snapshot:
        """Keep labelled rows, one an hour, where the inspector finds them.

        This one writes Parquet, as ``make_predictions`` does; an inspector that reads elsewhere overrides
        both.

        Args:
            rows: What they hold; the features are ``x`` and ``machine``, the label is ``y``.
            start: Time of the first.
        """
        times = [start + timedelta(hours=hour) for hour in range(len(rows))]
        columns: dict[str, Sequence[Any]] = {
            "ts": times,
            "x": [row.x for row in rows],
            "machine": [row.machine for row in rows],
            "y": [row.y for row in rows],
        }
        return rows_of(times, *self._keep(columns))

    def make_predictions(self, values: Sequence[Any]) -> Predictions:
        """Keep predictions without class scores where the inspector finds them."""
        uri, sha256 = self._keep({"prediction": values})
        return Predictions(uri, sha256, len(values))

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def _keep(self, columns: Mapping[str, Sequence[Any]]) -> tuple[str, str]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        file = self.folder / f"{len(list(self.folder.iterdir()))}.parquet"
        pq.write_table(pa.table({name: list(values) for name, values in columns.items()}), file)
        return str(file), hashlib.sha256(file.read_bytes()).hexdigest()

    def look(
        self,
        training: Sequence[Sighting],
        holdout: Sequence[Sighting],
        predicted: Sequence[Any],
        champion: Sequence[Any] | None = None,
        **asked: Any,
    ) -> Inspection:
        """Inspect a job of these rows and predictions."""
        inspector = self.make_inspector()
        return inspector.inspect(
            InspectionTask(**{"kind": "classification", **asked}),
            self.make_rows(training),
            self.make_rows(holdout, START + timedelta(days=30)),
            self.make_predictions(predicted),
            None if champion is None else self.make_predictions(champion),
        )

    def test_what_is_not_asked_is_not_looked_for(self) -> None:
        found = self.look([Sighting(1.0, 0)], [Sighting(2.0, 1)], [1])
        assert (found.rows, found.repeated, found.groups, found.shared) == (1, None, None, None)
        assert (found.champion, found.strange) == (None, {})

    def test_rows_of_the_holdout_among_the_training_rows_are_counted(self) -> None:
        training = [Sighting(1.0, 0), Sighting(None, 1), Sighting(3.0, 1, None), Sighting(3.0, 1, "b")]
        holdout = [
            Sighting(1.0, 0),
            Sighting(1.0, 0),
            Sighting(1.0, 1),  # another label
            Sighting(None, 1),
            Sighting(3.0, 1, None),
            Sighting(3.0, 1, "c"),  # another machine
        ]
        assert self.look(training, holdout, [0] * 6, repeated=True).repeated == 4
        assert self.look(training, holdout[2:3], [0], repeated=True).repeated == 0

    def test_groups_of_the_holdout_among_the_training_rows_are_counted(self) -> None:
        training = [Sighting(1.0, 0, "a"), Sighting(1.0, 1, "b"), Sighting(1.0, 1, None)]
        holdout = [Sighting(2.0, 0, name) for name in ("a", "a", "c", None)]
        found = self.look(training, holdout, [0] * 4, group="machine")
        assert (found.groups, found.shared) == (3, 2)  # rows without a machine are a group

    def test_classes_without_a_label_are_counted(self) -> None:
        found = self.look([Sighting(1.0, 0), Sighting(1.0, 2)], [Sighting(1.0, 1)] * 4, [2, 1, 7, 7])
        assert found.strange == {"7": 2}

    def test_predictions_are_described(self) -> None:
        training, holdout = [Sighting(1.0, 0.5)], [Sighting(1.0, 2.5)] * 2
        found = self.look(training, holdout, [0.25, 4.0], [1, 2], kind="regression")
        assert (found.candidate.kind, found.candidate.low, found.candidate.high) == ("numbers", 0.25, 4.0)
        assert found.champion is not None
        assert (found.champion.kind, found.champion.high) == ("whole numbers", 2.0)
        assert (found.labels, found.strange) == ((0.5, 2.5), {})
        assert (found.candidate.classes, found.candidate.unfit_scores) == ((), None)

    def test_text_has_no_range(self) -> None:
        found = self.look([Sighting(1.0, "hot")], [Sighting(1.0, "cold")], ["hot"]).candidate
        assert (found.kind, found.low, found.high) == ("text", None, None)

    def test_looking_again_finds_the_same(self) -> None:
        rows, inspector = [Sighting(1.0, 0), Sighting(2.0, 1)], self.make_inspector()
        given = self.make_rows(rows), self.make_rows(rows), self.make_predictions([0, 1])
        task = InspectionTask("classification", "machine", repeated=True)
        assert inspector.inspect(task, *given) == inspector.inspect(task, *given)


def rows_of(times: Sequence[datetime], uri: str, sha256: str) -> Snapshot:
    """Return the handle of a snapshot of :class:`Sighting` rows at these times."""
    window = TimeWindow(times[0], times[-1] + timedelta(hours=1))
    features = ("x", "machine")
    return Snapshot(MODEL, window, uri, len(times), sha256, features, "y", "ts", times[0], times[-1])
