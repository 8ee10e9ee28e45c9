"""How models are kept apart, as a user sets it, sees it, and is protected by it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_project import Project

from autoretrain import AutoRetrainPipeline
from autoretrain.adapters import sandbox
from autoretrain.adapters.memory import MemoryCompute
from autoretrain.entrypoints.doctor import Finding, examine
from autoretrain.entrypoints.testing.predictor import PredictorContract
from autoretrain.ports.compute import Limits, RunRequest, RunState, RunStatus
from autoretrain.ports.errors import ConfigurationError
from autoretrain.ports.registry import ModelVersion

from services import require

SETTINGS = """
[predictions]
sandbox = "required"
deadline_seconds = 90
memory_mb = 256
cpu_seconds = 40
processes = 20
output_mb = 5
readable = ["words"]

[models.boiler]
data = { path = "rows.parquet", time = "time", label = "hot" }
training.command = ["true"]
"""


def write(directory: Path, text: str) -> Path:
    (directory / "autoretrain.toml").write_text(text)
    return directory


def test_a_prediction_has_what_the_settings_say(tmp_path: Path) -> None:
    from autoretrain.adapters.artefact_digest import artefact_digest

    started: list[RunRequest] = []

    def script(run: RunRequest) -> RunStatus:
        started.append(run)
        return RunStatus(RunState.RUNNING)

    (tmp_path / "artefact").mkdir()
    (tmp_path / "artefact" / "model.pkl").write_bytes(b"payload")
    artefact = tmp_path / "artefact"
    pipeline = AutoRetrainPipeline(settings=write(tmp_path, SETTINGS), compute=MemoryCompute(script))
    version = ModelVersion("boiler", "1", artefact_digest(artefact), str(artefact))
    snapshot = PredictorContract().make_snapshot(tmp_path)
    for _ in range(2):
        pipeline.ports.predictor.predict(version, snapshot)
    (run,) = started
    assert run.isolation is not None
    assert run.isolation.limits == Limits(256 << 20, 40.0, 20, 5 << 20)
    assert run.deadline_seconds == 90
    assert str(tmp_path / "words") in run.isolation.readable
    assert {str(tmp_path), str(tmp_path / ".autoretrain")} <= set(run.isolation.hidden)
    assert (run.isolation.network, run.isolation.sandbox) == (False, "required")
    (folder,) = map(Path, run.isolation.writable)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_settings_without_sense_are_refused_all_at_once(tmp_path: Path) -> None:
    wrong = """
[predictions]
sandbox = "maybe"
memory_mb = 1
cpu_seconds = -1
processes = "many"
netwrok = true

[mlflow]
max_artifact_mb = 0
"""
    with pytest.raises(ConfigurationError) as caught:
        AutoRetrainPipeline(settings=write(tmp_path, wrong))
    assert sorted(problem.where for problem in caught.value.problems) == [
        "mlflow.max_artifact_mb",
        "predictions.cpu_seconds",
        "predictions.memory_mb",
        "predictions.netwrok",
        "predictions.processes",
        "predictions.sandbox",
    ]


class TestTheDoctor:
    """Says what is and what is not done here, and what to do."""

    @pytest.fixture(autouse=True)
    def _afresh(self) -> Iterator[None]:
        sandbox._best.cache_clear()
        yield
        sandbox._best.cache_clear()

    def found(self, directory: Path, text: str) -> list[Finding]:
        return [finding for finding in examine(write(directory, text)) if finding.about == "predictions"]

    def test_all_is_done(self, tmp_path: Path) -> None:
        require("bwrap", "apt-get install bubblewrap")
        (finding,) = self.found(tmp_path, "")
        assert (finding.status, finding.fix) == ("ok", "")
        assert finding.text == (
            "runs of models: bubblewrap keeps them from the network, other files and other processes"
        )

    def test_nothing_can_be_done(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        (finding,) = self.found(tmp_path, "")
        assert finding.status == "warning"
        assert "nothing keeps them from the network, other files and other processes" in finding.text
        assert "bubblewrap is not installed; unshare is not installed" in finding.text
        assert "apt-get install bubblewrap" in finding.fix

    def test_more_is_required(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        text = 'predictions = { sandbox = "required", readable = ["nowhere"] }'
        path, required = self.found(tmp_path, text)
        assert (path.status, path.text, path.fix) == (
            "problem",
            "there is no nowhere",
            "correct predictions.readable",
        )
        assert required.status == "problem"
        assert "a sandbox is required, and bubblewrap is not installed" in required.text

    def test_it_is_switched_off(self, tmp_path: Path) -> None:
        (finding,) = self.found(tmp_path, 'predictions.sandbox = "none"')
        assert (finding.status, finding.fix) == ("warning", 'set predictions.sandbox = "auto"')


CHEATS = """
from autoretrain import training_job

class Cheat:
    \"\"\"Knows the answers: it reads them where the project keeps them.\"\"\"

    def predict(self, rows):
        import csv
        with open({labels!r}) as file:
            hot = [int(row["hot"]) for row in csv.DictReader(file)]
        return hot[-len(rows):]

with training_job() as job:
    job.log_model(Cheat())
"""


@pytest.mark.slow
@pytest.mark.parametrize("kept_apart", [True, False])
def test_a_candidate_that_looks_up_the_labels(tmp_path: Path, kept_apart: bool) -> None:
    require("bwrap", "apt-get install bubblewrap")
    project = Project.create(tmp_path)
    (tmp_path / "train.py").write_text(CHEATS.format(labels=str(tmp_path / "rows.csv")))
    settings = (tmp_path / "autoretrain.toml").read_text()
    choice = "required" if kept_apart else "none"
    write(tmp_path, f'predictions.sandbox = "{choice}"\n{settings}')
    done = project.call("start", "boiler", "--wait")
    shown = done.stdout + done.stderr + project.call("show", "boiler").stdout
    assert ("FileNotFoundError" in shown) is kept_apart, shown
    assert ("accuracy 1.0000 is at or above the floor" in shown) is not kept_apart, shown
