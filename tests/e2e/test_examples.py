"""Every example, run as a user runs it, in a process of its own."""

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from cli_project import environment
from mlflow_store import sqlite_store

from services import ROOT

EXAMPLES = ROOT / "examples"
SECONDS = 300  # far more than any takes on a quiet machine


def run(*command: str | Path, cwd: Path) -> str:
    """Run Python with these arguments, which must succeed; return what it printed."""
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def autoretrain(*arguments: str, cwd: Path) -> str:
    return run("-m", "autoretrain.entrypoints.cli.main", *arguments, cwd=cwd)


def with_store(directory: Path) -> Path:
    """Put MLflow's tables into a project, since creating them takes seconds."""
    state = directory / ".autoretrain"
    state.mkdir(parents=True)
    sqlite_store(state)
    return directory


def champion_of(name: str, tmp_path: Path) -> tuple[Path, str]:
    """Copy a project example, write its rows, train its first champion; return what that printed, too."""
    ignored = shutil.ignore_patterns("data", ".autoretrain", "__pycache__")
    project = Path(shutil.copytree(EXAMPLES / name, tmp_path / name, ignore=ignored))
    with_store(project)
    run("make_data.py", cwd=project)
    first = run("first_champion.py", cwd=project)
    assert "fit to serve: yes" in first
    assert "approved by" in first
    return project, first


def seed_script(name: str, tmp_path: Path) -> str:
    return run(EXAMPLES / "seed" / name, "--project", with_store(tmp_path / "fleet"), cwd=tmp_path)


def assert_in_order(text: str, patterns: Sequence[str]) -> None:
    at = 0
    for pattern in patterns:
        found = re.compile(pattern).search(text, at)
        assert found, f"{pattern!r} is not there, or too early, in:\n{text}"
        at = found.end()


@pytest.mark.slow
def test_regressor(tmp_path: Path) -> None:
    project, first = champion_of("regressor", tmp_path)
    assert re.search(r"mae \d+\.\d+, .*r2 0\.9", first)
    assert_in_order(
        autoretrain("check", cwd=project),
        ["boiler_gas: retraining is due", r"performance: yes: mae \d+\.\d+ is above the threshold of 14"],
    )
    autoretrain("run", "--until-idle", cwd=project)
    shown = autoretrain("jobs", cwd=project)
    assert_in_order(shown, ["performance_degradation +completed", r"version 2 promoted: mae \d+\.\d+ -> \d+"])


@pytest.mark.slow
def test_classifier(tmp_path: Path) -> None:
    project, first = champion_of("classifier", tmp_path)
    assert re.search(r"roc_auc (0\.9|1\.0)", first)  # from class scores
    assert_in_order(
        autoretrain("check", cwd=project),
        ["retraining is due", "performance: yes: accuracy", "drift: yes: PSI of"],
    )
    autoretrain("run", "--until-idle", cwd=project)
    assert_in_order(autoretrain("jobs", cwd=project), ["completed", "version 2 promoted: f1"])
    assert "all whole" in autoretrain("audit", "verify", cwd=project)


@pytest.mark.slow
def test_seed_errors(tmp_path: Path) -> None:
    printed = seed_script("07_errors.py", tmp_path)
    assert_in_order(
        printed,
        [
            r"models\.GL-001\.trigger\.drift_threshold = 25",
            r"models\.GL-001\.trigger\.schedule_expression = 'every Sunday'",
            r"models\.GL-001\.holdout_day: there is no such setting",
            "UnknownModel: there is no model 'GL-999'",
            "UnknownJob: no model has a job no-such-job",
            "JobAlreadyOpen: .* it is the one just started: True",
            "failed: training failed: .*'degree'.*'two'",
            "Prometheus is away:",
            "unknown: accuracy is unknown: Prometheus at .* cannot be reached",
            "retrain[?] False",
        ],
    )


SEED = {
    "01_basic_setup.py": [
        "drift_threshold = 0.25",
        "GL-001: accuracy 0.* is below the threshold of 0.92",
        "valid True, accuracy 0.9",
        r"Promoted: True \(f1 .* against \+5.00% asked for\)",
    ],
    "02_fleet.py": [
        "GL-001  yes .*accuracy",
        "GL-002  no .*accuracy",
        "GL-003  yes .*PSI of feed_kg_s",
        "GL-004  unknown .*no champion serves yet",
        "GL-005  unknown .*rows",
        "due: GL-001, GL-003; for a person to look at: GL-004, GL-005",
        "GL-001  job .* validation, accuracy 0.9",
        "GL-003  job .* validation, accuracy 0.9",
    ],
    "03_job_monitoring.py": [
        "    running\n    validation\n",
        "Status: validation, waits for a person until",
        "error: None",
        "Champion:  accuracy 0.7",
        "Candidate: accuracy 0.9",
        "Approved: completed",
        "Retraining asked for",
        "Version 2 serves",
    ],
    "04_deployment.py": [
        "not deployed: accuracy 0.* is below the floor of 0.85",
        r"deployed: f1 .* is \+",
        "    True\n",
        "refused: job .* was decided with a minimum of 0.05, not 0.01",
        "not deployed: f1 .* asked for",
    ],
    "05_triggers.py": [
        "performance +performance_degradation +(True|False)",
        "drift +data_drift +True +PSI of feed_kg_s",
        "schedule +scheduled",
        "manual +manual +False",
        "decoked +custom +False +not decoked",
        r"drift \| unknown +yes",
        "drift & unknown +unknown",
        "PSI of feed_kg_s",
    ],
    "06_job_history.py": [
        "cancelled",
        "rejected by .*the tubes are decoked next week",
        r"completed, improvement \+",
        "4 jobs of 1 model",
        "by state: 3 completed, 1 cancelled",
        r"deployed: 2 of 4 \(50%\)",
        "every stream is whole",
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SEED)
def test_seed(name: str, tmp_path: Path) -> None:
    assert_in_order(seed_script(name, tmp_path), SEED[name])


def test_every_script_of_the_seed_is_run() -> None:
    scripts = {path.name for path in (EXAMPLES / "seed").glob("0*.py")}
    assert scripts == {*SEED, "07_errors.py"}
