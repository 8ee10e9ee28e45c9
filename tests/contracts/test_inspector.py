"""Inspectors: the contract over each, and what only the one over files does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from autoretrain.adapters.inspector_duckdb import DuckdbInspector
from autoretrain.adapters.memory import MemoryDataSource, MemoryPredictor, MemoryRegistry, Row
from autoretrain.adapters.memory_inspector import MemoryInspector
from autoretrain.entrypoints.testing.inspector import START, InspectorContract, Sighting, rows_of
from autoretrain.ports.data import Snapshot
from autoretrain.ports.errors import Permanent
from autoretrain.ports.inspector import InspectionTask, Inspector
from autoretrain.ports.predictor import Predictions

CLASSES = InspectionTask("classification")
ROWS = [Sighting(1.0, 0), Sighting(2.0, 1)]


class TestMemoryInspector(InspectorContract):
    def make_inspector(self) -> Inspector:
        self.data = MemoryDataSource()
        self.predictor = MemoryPredictor(MemoryRegistry(), self.data)
        return MemoryInspector(self.data, self.predictor)

    def make_rows(self, rows: Sequence[Sighting], start: datetime = START) -> Snapshot:
        times = [start + timedelta(hours=hour) for hour in range(len(rows))]
        name = str(len(self.data.taken))
        self.data.taken[name] = tuple(
            Row(at, {"x": row.x, "machine": row.machine}, row.y) for at, row in zip(times, rows, strict=True)
        )
        return rows_of(times, f"memory:{name}", name)

    def make_predictions(self, values: Sequence[Any]) -> Predictions:
        name = str(len(self.predictor.made))
        self.predictor.made[name] = tuple(values)
        return Predictions(f"memory:{name}", name, len(values))


class TestDuckdbInspector(InspectorContract):
    def make_inspector(self) -> Inspector:
        return DuckdbInspector()

    def scored(self, values: Sequence[Any], scores: Mapping[str, Sequence[float]]) -> Predictions:
        named = {f"score:{name}": column for name, column in scores.items()}
        uri, sha256 = self._keep({"prediction": values, **named})
        return Predictions(uri, sha256, len(values), scored=True)

    def test_class_scores_are_looked_over(self) -> None:
        fit = self.scored([0, 1], {"1": [0.2, 0.9], "0": [0.8, 0.1]})
        unfit = self.scored([0, 1], {"0": [0.8, 1.1], "1": [0.3, -0.1]})
        found = DuckdbInspector().inspect(CLASSES, self.make_rows(ROWS), self.make_rows(ROWS), fit, unfit)
        assert (found.candidate.classes, found.candidate.unfit_scores) == (("0", "1"), 0)
        assert found.champion is not None
        assert found.champion.unfit_scores == 2

    @pytest.mark.parametrize(
        ("labels", "predicted", "strange"),
        [
            ([0, 1], [0.0, 1.0], {}),
            ([True, False], [1, 0], {}),
            ([0, 1], [0.4, 1.0], {"0.4": 1}),
            (["hot", "cold"], ["hot", "warm"], {"warm": 1}),
            (["0", "1"], [0, 5], {}),  # the scorer refuses these
        ],
    )
    def test_classes_are_the_values_that_the_scorer_compares(
        self, labels: list[Any], predicted: list[Any], strange: dict[str, int]
    ) -> None:
        rows = [Sighting(1.0, label) for label in labels]
        assert self.look(rows, rows, predicted).strange == strange

    def test_names_that_look_like_sql(self) -> None:
        odd = 'x" y; DROP'
        uri, sha256 = self._keep({odd: [1.0, 2.0], "y": [0, 1]})
        rows = replace(rows_of([START, START], uri, sha256), features=(odd,))
        task = InspectionTask("classification", odd, repeated=True)
        found = DuckdbInspector().inspect(task, rows, rows, self.make_predictions([0, 1]))
        assert (found.repeated, found.groups, found.shared) == (2, 2, 2)

    def test_a_missing_column_and_a_damaged_file_say_so(self) -> None:
        rows, predicted = self.make_rows(ROWS), self.make_predictions([0, 1])
        task = InspectionTask("classification", group="customer")
        with pytest.raises(Permanent, match=r'rows cannot be looked up: .*"customer"'):
            DuckdbInspector().inspect(task, rows, rows, predicted)
        with Path(rows.uri).open("ab") as file:
            file.write(b"altered")
        with pytest.raises(Permanent, match="damaged"):
            DuckdbInspector().inspect(CLASSES, rows, rows, predicted)

    def test_many_training_rows_pass_by_a_small_holdout(self) -> None:
        training = [Sighting(float(number), number % 2) for number in range(20_000)]
        holdout = [Sighting(float(number), number % 2) for number in range(19_990, 20_010)]
        found = self.look(training, holdout, [0] * 20, repeated=True)
        assert (found.repeated, found.rows) == (10, 20)
