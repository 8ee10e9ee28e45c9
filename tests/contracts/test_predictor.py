"""The behaviour promised by the port, over every adapter; then what runs and flavours add."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from autoretrain.adapters import prediction_process
from autoretrain.adapters.artefact_digest import artefact_digest
from autoretrain.adapters.compute_subprocess import SubprocessCompute
from autoretrain.adapters.memory import MemoryCompute, MemoryDataSource, MemoryPredictor, MemoryRegistry, Row
from autoretrain.adapters.predictor_runs import RunPredictor
from autoretrain.entrypoints.testing import predictor as contract
from autoretrain.entrypoints.testing.predictor import PredictorContract, Rule, hot
from autoretrain.ports.compute import RunState, RunStatus
from autoretrain.ports.data import Snapshot, SnapshotRequest
from autoretrain.ports.errors import Permanent
from autoretrain.ports.predictor import Predictions, Predictor
from autoretrain.ports.registry import ModelVersion
from autoretrain.ports.values import Pending, TimeWindow

if TYPE_CHECKING:
    import pandas as pd


class Ruled:
    """A model that predicts each row by a rule."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule

    def predict(self, rows: pd.DataFrame) -> list[Any]:
        return [self.rule(row) for row in rows.to_dict("records")]


def pickled(model: object) -> bytes:
    """Pickle a model of these tests whole: the prediction process cannot import them."""
    modules = (contract, sys.modules[__name__])
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        data: bytes = cloudpickle.dumps(model)
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)
    return data


def write_artefact(directory: Path, payload: bytes) -> Path:
    """Write an artefact as MLflow logs one of scikit-learn's flavour."""
    directory.mkdir(parents=True)
    (directory / "model.pkl").write_bytes(payload)
    flavour = {"pickled_model": "model.pkl", "serialization_format": "cloudpickle", "code": None}
    (directory / "MLmodel").write_text(json.dumps({"flavors": {"sklearn": flavour}}))
    return directory


def version_of(artefact: Path) -> ModelVersion:
    return ModelVersion("boiler", "1", artefact_digest(artefact), str(artefact))


class TestRunPredictor(PredictorContract):
    def make_predictor(self, directory: Path) -> Predictor:
        return RunPredictor(SubprocessCompute(directory / "runs"), directory / "predictions")

    def make_version(self, directory: Path, rule: Rule) -> ModelVersion:
        return self.version_of_model(directory, Ruled(rule))

    def version_of_model(self, directory: Path, model: object) -> ModelVersion:
        return version_of(write_artefact(directory / "artefact", pickled(model)))

    def alter(self, version: ModelVersion) -> None:
        with (Path(version.uri) / "model.pkl").open("ab") as stream:
            stream.write(b"altered")

    def test_two_versions_share_the_features_and_not_the_run(
        self, predictor: Predictor, snapshot: Snapshot, tmp_path: Path
    ) -> None:
        first = self.settle(predictor, self.make_version(tmp_path / "a", hot), snapshot)
        second = self.settle(predictor, self.make_version(tmp_path / "b", contract.width), snapshot)
        assert first.uri != second.uri
        assert len(list((tmp_path / "predictions" / "features").iterdir())) == 1

    def test_altered_predictions_are_not_accepted(
        self, predictor: Predictor, snapshot: Snapshot, tmp_path: Path
    ) -> None:
        version = self.make_version(tmp_path, hot)
        answer = self.settle(predictor, version, snapshot)
        with Path(answer.uri).open("ab") as stream:
            stream.write(b"altered")
        with pytest.raises(Permanent, match="altered or removed"):
            predictor.predict(version, snapshot)

    def test_class_scores_have_a_column_each(
        self, predictor: Predictor, snapshot: Snapshot, tmp_path: Path
    ) -> None:
        class Scored:
            classes_ = ("cold", "hot")

            def predict(self, rows: pd.DataFrame) -> Any:
                return ["hot"] * len(rows)

            def predict_proba(self, rows: pd.DataFrame) -> Any:
                import numpy as np

                share = rows["load"].to_numpy() / 5.0
                return np.column_stack([1.0 - share, share])

        answer = self.settle(predictor, self.version_of_model(tmp_path, Scored()), snapshot)
        table = parquet.read_table(answer.uri)
        assert answer.scored
        assert table.column_names == ["prediction", "score:cold", "score:hot"]
        assert table["score:hot"].to_pylist() == pytest.approx([0.6, 0.2, 0.4, 1.0, 0.8])

    def test_what_a_run_took_is_told(self, predictor: Predictor, snapshot: Snapshot, tmp_path: Path) -> None:
        class Slow:
            def predict(self, rows: pd.DataFrame) -> Any:
                import time

                time.sleep(0.1)
                return [0] * len(rows)

        version = self.version_of_model(tmp_path, Slow())
        effort = self.settle(predictor, version, snapshot).effort
        assert effort is not None
        assert effort.predict_seconds is not None
        assert 0.1 <= effort.predict_seconds < 10
        assert effort.load_seconds is not None
        assert effort.load_seconds > 0
        files = [path.stat().st_size for path in Path(version.uri).iterdir()]
        assert effort.artefact_bytes == sum(files)

    def test_a_few_rows_are_tried_before_all(
        self, predictor: Predictor, snapshot: Snapshot, tmp_path: Path
    ) -> None:
        class Counts:
            calls: Sequence[int] = ()

            def predict(self, rows: pd.DataFrame) -> Any:
                self.calls = (*self.calls, len(rows))
                if len(self.calls) == 2:
                    raise ValueError(f"asked for {self.calls}")
                return [0] * len(rows)

        path, times = tmp_path / "many.parquet", snapshot.rows * 20
        table = parquet.read_table(snapshot.uri)
        parquet.write_table(pa.concat_tables([table] * 20), path)
        many = replace(snapshot, uri=str(path), rows=times, sha256="e" * 64)
        with pytest.raises(Permanent, match=r"asked for \(8, 100\)"):
            self.settle(predictor, self.version_of_model(tmp_path, Counts()), many)

    def test_too_few_predictions(self, predictor: Predictor, snapshot: Snapshot, tmp_path: Path) -> None:
        class Forgets:
            def predict(self, rows: pd.DataFrame) -> Any:
                return [0] * (len(rows) - 1)

        with pytest.raises(Permanent, match="4 predictions for 5 rows"):
            self.settle(predictor, self.version_of_model(tmp_path, Forgets()), snapshot)

    def test_several_predictions_a_row(
        self, predictor: Predictor, snapshot: Snapshot, tmp_path: Path
    ) -> None:
        class Pairs:
            def predict(self, rows: pd.DataFrame) -> Any:
                return [[0, 1]] * len(rows)

        with pytest.raises(Permanent, match=r"one prediction a row .* shape \(5, 2\)"):
            self.settle(predictor, self.version_of_model(tmp_path, Pairs()), snapshot)

    def test_a_result_that_is_none(self, predictor: Predictor, snapshot: Snapshot, tmp_path: Path) -> None:
        version = self.make_version(tmp_path, hot)
        answer = self.settle(predictor, version, snapshot)
        Path(answer.uri).with_suffix(".json").write_text('["neither fish nor fowl"]')
        with pytest.raises(Permanent, match="cannot be read"):
            predictor.predict(version, snapshot)

    def test_a_model_that_kills_its_process(
        self, predictor: Predictor, snapshot: Snapshot, tmp_path: Path
    ) -> None:
        def dies(row: Mapping[str, Any]) -> None:
            os._exit(7)

        with pytest.raises(Permanent, match=r"left no result: .*7"):
            self.settle(predictor, self.make_version(tmp_path, dies), snapshot)

    def test_an_artefact_that_cannot_be_loaded(
        self, predictor: Predictor, snapshot: Snapshot, tmp_path: Path
    ) -> None:
        version = version_of(write_artefact(tmp_path / "artefact", b"no pickle"))
        with pytest.raises(Permanent, match="the model cannot be loaded: UnpicklingError"):
            self.settle(predictor, version, snapshot)

    def test_a_missing_snapshot(self, predictor: Predictor, snapshot: Snapshot, tmp_path: Path) -> None:
        gone = replace(snapshot, uri=str(tmp_path / "gone.parquet"))
        with pytest.raises(Permanent, match=r"gone\.parquet cannot be read"):
            predictor.predict(self.make_version(tmp_path, hot), gone)

    def test_a_snapshot_without_rows(self, predictor: Predictor, snapshot: Snapshot, tmp_path: Path) -> None:
        with pytest.raises(Permanent, match="no rows"):
            predictor.predict(self.make_version(tmp_path, hot), replace(snapshot, rows=0, uri="", sha256=""))

    def test_the_controllers_environment_stays_here(
        self,
        predictor: Predictor,
        snapshot: Snapshot,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def tells(row: Mapping[str, Any]) -> bool:
            return "SECRET" in os.environ

        monkeypatch.setenv("SECRET", "hidden")
        answer = self.settle(predictor, self.make_version(tmp_path, tells), snapshot)
        assert list(self.read(predictor, answer)) == [False] * 5


class TestMemoryPredictor(PredictorContract):
    @pytest.fixture(autouse=True)
    def _world(self) -> None:
        self.registry = MemoryRegistry()
        self.data = MemoryDataSource()

    def make_predictor(self, directory: Path) -> Predictor:
        return MemoryPredictor(self.registry, self.data)

    def make_version(self, directory: Path, rule: Rule) -> ModelVersion:
        return self.registry.register("boiler", rule, rule.__name__)

    def alter(self, version: ModelVersion) -> None:
        self.registry.tamper(version, "altered")

    def make_snapshot(self, directory: Path) -> Snapshot:
        start = datetime(2026, 3, 1, tzinfo=UTC)
        loads = (3.0, 1.0, 2.0, 5.0, 4.0)
        rows = [
            Row(start + timedelta(hours=hour), {"load": load, "valve": "a"}, int(load > 2.5))
            for hour, load in enumerate(loads)
        ]
        self.data.add("boiler", rows)
        return self.data.snapshot(SnapshotRequest("boiler", TimeWindow(start, start + timedelta(days=1))))

    def read(self, predictor: Predictor, predictions: Predictions) -> Sequence[Any]:
        assert isinstance(predictor, MemoryPredictor)
        return predictor.made[predictions.sha256]


def test_a_lost_run_is_started_again_twice(tmp_path: Path) -> None:
    compute = MemoryCompute(lambda run: RunStatus(RunState.LOST, "the machine restarted"))
    predictor = RunPredictor(compute, tmp_path / "predictions")
    suite = TestRunPredictor()
    version, snapshot = suite.make_version(tmp_path, hot), suite.make_snapshot(tmp_path)
    for started in (1, 2, 3):
        assert isinstance(predictor.predict(version, snapshot), Pending)
        assert len(compute.started) == started
    with pytest.raises(Permanent, match="lost 3 times"):
        predictor.predict(version, snapshot)


class Overtaken(SubprocessCompute):
    """Compute whose run ends, and is accepted by somebody else, right before the answer is here."""

    def __init__(self, directory: Path, other: Callable[[], object]) -> None:
        super().__init__(directory)
        self._other = other

    def observe(self, key: str) -> RunStatus:
        status = super().observe(key)
        if status.state is RunState.SUCCEEDED:
            self._other()
        return status


def test_two_controllers_may_accept_one_run(tmp_path: Path) -> None:
    """Their models may have one payload and one holdout, and one that was stopped may go on late."""
    suite = TestRunPredictor()
    version, rows = suite.make_version(tmp_path, hot), suite.make_snapshot(tmp_path)
    first = suite.make_predictor(tmp_path)
    compute = Overtaken(tmp_path / "runs", lambda: first.predict(version, rows))
    late = RunPredictor(compute, tmp_path / "predictions")

    accepted = suite.settle(late, version, rows)

    assert accepted == first.predict(version, rows)


class TestFlavours:
    """The program of a prediction run on what MLflow itself writes."""

    @pytest.fixture
    def rows(self, tmp_path: Path) -> Path:
        import pandas as pd

        path = tmp_path / "rows.parquet"
        pd.DataFrame({"load": [1.0, 2.0, 3.0, 4.0]}).to_parquet(path)
        return path

    @pytest.fixture
    def model(self) -> Any:
        import pandas as pd
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression().fit(
            pd.DataFrame({"load": [1.0, 2.0, 3.0, 4.0]}), ["cold", "cold", "hot", "hot"]
        )

    def predict(self, model: Path, rows: Path) -> Mapping[str, Any]:
        output = rows.parent / "output"
        command = [sys.executable, "-P", prediction_process.__file__, str(model), str(rows), str(output)]
        subprocess.run(command, env={"MLFLOW_DISABLE_TELEMETRY": "true"}, capture_output=True, check=False)
        result: dict[str, Any] = json.loads(output.with_suffix(".json").read_text())
        return result

    @pytest.mark.parametrize("serialization_format", ["skops", "pickle", "cloudpickle"])
    def test_scikit_learn_in_each_serialisation(
        self, tmp_path: Path, rows: Path, model: Any, serialization_format: str
    ) -> None:
        import mlflow.sklearn

        mlflow.sklearn.save_model(
            model, tmp_path / "m", serialization_format=serialization_format, pip_requirements=[]
        )
        result = self.predict(tmp_path / "m", rows)
        assert (result["rows"], result["scored"]) == (4, True)

    def test_another_flavour_goes_through_mlflow(self, tmp_path: Path, rows: Path, model: Any) -> None:
        import mlflow.sklearn

        mlflow.sklearn.save_model(
            model, tmp_path / "m", serialization_format="cloudpickle", pip_requirements=[]
        )
        description = tmp_path / "m" / "MLmodel"
        # Without its own flavour the artefact is any model that MLflow can load.
        description.write_text(description.read_text().replace("  sklearn:\n", "  another:\n"))
        result = self.predict(tmp_path / "m", rows)
        assert (result["rows"], result["scored"]) == (4, True)

    def test_nulls_are_counted_in_the_message(self, tmp_path: Path, rows: Path, model: Any) -> None:
        import pandas as pd

        pd.DataFrame({"load": [1.0, None, None, 4.0]}).to_parquet(rows)
        result = self.predict(write_artefact(tmp_path / "m", pickled(model)), rows)
        assert result["error"] == (
            "the model failed on the rows: ValueError: Input X contains NaN. (nulls by column: load 2)"
        )


def test_two_loggings_of_one_model_have_one_digest(tmp_path: Path) -> None:
    import mlflow.sklearn
    from sklearn.ensemble import RandomForestClassifier

    model = RandomForestClassifier(5, random_state=0).fit([[1.0], [2.0]], [0, 1])
    for name in ("a", "b"):
        mlflow.sklearn.save_model(
            model, tmp_path / name, serialization_format="cloudpickle", pip_requirements=["scikit-learn"]
        )
    # What Python leaves behind when the model's own code is imported.
    (tmp_path / "b" / "code" / "__pycache__").mkdir(parents=True)
    (tmp_path / "b" / "code" / "__pycache__" / "features.pyc").write_bytes(b"compiled")
    assert (tmp_path / "a" / "MLmodel").read_bytes() != (tmp_path / "b" / "MLmodel").read_bytes()
    assert artefact_digest(tmp_path / "a") == artefact_digest(tmp_path / "b")


@pytest.mark.parametrize("change", ["content", "name", "addition"])
def test_the_digest_covers_names_and_contents(tmp_path: Path, change: str) -> None:
    artefact = write_artefact(tmp_path / "a", b"payload")
    before = artefact_digest(artefact)
    if change == "content":
        (artefact / "model.pkl").write_bytes(b"Payload")
    elif change == "name":
        (artefact / "model.pkl").rename(artefact / "model.bin")
    else:
        (artefact / "more.pkl").write_bytes(b"")
    assert artefact_digest(artefact) != before
