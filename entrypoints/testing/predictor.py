"""What every ``Predictor`` must do, as a suite to be run over an implementation."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ...ports.data import Snapshot
from ...ports.errors import Permanent
from ...ports.predictor import Predictions, Predictor
from ...ports.registry import ModelVersion
from ...ports.values import Pending, TimeWindow

Rule = Callable[[Mapping[str, Any]], Any]
"""What a model of these tests does: from the features of a row to a prediction."""

_LOADS = (3.0, 1.0, 2.0, 5.0, 4.0)


def hot(row: Mapping[str, Any]) -> int:
    """Say whether the load is above 2.5."""
    return int(row["load"] > 2.5)


def width(row: Mapping[str, Any]) -> int:
    """Count the columns that a model gets to see."""
    return len(row)


def not_finite(row: Mapping[str, Any]) -> float:
    """Answer with something that is no number, for one row of five."""
    return float("nan") if row["load"] == 5.0 else 0.0


def failing(row: Mapping[str, Any]) -> int:
    """Fail as models do."""
    raise ValueError("the load is out of range")


class PredictorContract:
    """Subclass it as ``Test…`` and override the methods that raise ``NotImplementedError``.

    Attributes:
        settle_seconds: How long one prediction may take at most.
        poll_seconds: Time between two looks.
    """

    settle_seconds: float = 60.0
    poll_seconds: float = 0.02

    def make_predictor(self, directory: Path) -> Predictor:
        """Return the adapter under test.

        Args:
            directory: This test's own. Called with it a second time, it must return an adapter that knows the
                same predictions, as a restarted controller would make it.
        """
        raise NotImplementedError

    def make_version(self, directory: Path, rule: Rule) -> ModelVersion:
        """Return a version whose model predicts each row by a rule, and gives no class scores.

        Args:
            directory: This test's own.
            rule: What the model does: one of the functions of this module.
        """
        raise NotImplementedError

    def alter(self, version: ModelVersion) -> None:
        """Change the artefact of a version after it was registered."""
        raise NotImplementedError

    def read(self, predictor: Predictor, predictions: Predictions) -> Sequence[Any]:
        """Return the values of predictions, and check that the file has its digest."""
        import pyarrow.parquet as parquet

        path = Path(predictions.uri)
        assert hashlib.sha256(path.read_bytes()).hexdigest() == predictions.sha256
        values: list[Any] = parquet.read_table(path)["prediction"].to_pylist()
        return values

    def make_snapshot(self, directory: Path) -> Snapshot:
        """Return five labelled rows with two features."""
        import pyarrow as pa
        import pyarrow.parquet as parquet

        start = datetime(2026, 3, 1, tzinfo=UTC)
        times = [start + timedelta(hours=hour) for hour in range(len(_LOADS))]
        columns = {"time": times, "load": _LOADS, "valve": ["a", "b", "a", "b", "a"], "hot": [1, 0, 0, 1, 1]}
        path = directory / "rows.parquet"
        parquet.write_table(pa.table({name: list(values) for name, values in columns.items()}), path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        window = TimeWindow(start, start + timedelta(days=1))
        ends = (times[0], times[-1])
        return Snapshot("boiler", window, str(path), 5, digest, ("load", "valve"), "hot", "time", *ends)

    def settle(self, predictor: Predictor, version: ModelVersion, snapshot: Snapshot) -> Predictions:
        """Ask until the answer is there, and return it."""
        until = time.monotonic() + self.settle_seconds
        while isinstance(answer := predictor.predict(version, snapshot), Pending):
            assert time.monotonic() < until, f"still {answer} after {self.settle_seconds} s"
            time.sleep(self.poll_seconds)
        return answer

    @pytest.fixture
    def predictor(self, tmp_path: Path) -> Predictor:
        return self.make_predictor(tmp_path)

    @pytest.fixture
    def snapshot(self, tmp_path: Path) -> Snapshot:
        return self.make_snapshot(tmp_path)

    def test_one_prediction_a_row_in_order(
        self, predictor: Predictor, snapshot: Snapshot, tmp_path: Path
    ) -> None:
        answer = self.settle(predictor, self.make_version(tmp_path, hot), snapshot)
        assert (answer.rows, answer.scored) == (5, False)
        assert list(self.read(predictor, answer)) == [1, 0, 0, 1, 1]

    def test_a_model_sees_the_features_alone(
        self, predictor: Predictor, snapshot: Snapshot, tmp_path: Path
    ) -> None:
        answer = self.settle(predictor, self.make_version(tmp_path, width), snapshot)
        assert list(self.read(predictor, answer)) == [len(snapshot.features)] * 5

    def test_a_restarted_controller_finds_the_answer(
        self, predictor: Predictor, snapshot: Snapshot, tmp_path: Path
    ) -> None:
        version = self.make_version(tmp_path, hot)
        answer = self.settle(predictor, version, snapshot)
        assert self.make_predictor(tmp_path).predict(version, snapshot) == answer

    @pytest.mark.parametrize(
        ("rule", "reason"),
        [(not_finite, "not finite"), (failing, "out of range")],
        ids=["not finite", "failing"],
    )
    def test_a_model_that_cannot_predict(
        self, predictor: Predictor, snapshot: Snapshot, tmp_path: Path, rule: Rule, reason: str
    ) -> None:
        version = self.make_version(tmp_path, rule)
        for _ in range(2):  # the second time nothing is run
            with pytest.raises(Permanent, match=reason):
                self.settle(predictor, version, snapshot)

    def test_an_altered_artefact_is_not_used(
        self, predictor: Predictor, snapshot: Snapshot, tmp_path: Path
    ) -> None:
        version = self.make_version(tmp_path, hot)
        self.alter(version)
        with pytest.raises(Permanent, match="altered"):
            self.settle(predictor, version, snapshot)
