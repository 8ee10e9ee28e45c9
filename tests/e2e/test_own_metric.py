"""A user's own measure decides, as the page describes it, through the CLI."""

import re
import time
from pathlib import Path

import pytest
from project_kit import MODEL, Project, ended, told, tree

from autoretrain.entrypoints.cli.main import run

from services import ROOT

PAGE = (ROOT / "docs" / "decisions-you-can-trust.md").read_text(encoding="utf-8")
SECTION = PAGE.split("## A measure of your own")[1].split("\n## ")[0]
(FUNCTION,) = re.findall(r"```python\n(.*?)```", SECTION, flags=re.DOTALL)
(TABLES,) = re.findall(r"```toml\n(.*?)```", SECTION, flags=re.DOTALL)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Costs of the page, and a champion that misses 5 faults in 100 rows and raises no false alarm."""
    made = Project.create(tmp_path).edit("holdout_days = 5", "holdout_days = 10")
    (tmp_path / "costs.py").write_text(FUNCTION)
    file = tmp_path / "autoretrain.toml"
    file.write_text(file.read_text() + TABLES + 'policy = "improvement@1"\n')
    made.serve(made.pipeline(), tree(55))
    return made


def test_it_decides_and_is_told(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline = project.pipeline()
    job_id = pipeline.start_retrain_job(MODEL)
    project.log(pipeline, job_id, tree(40))  # right less often, and no fault is missed
    job = ended(pipeline, job_id)
    assert job.validation is not None
    assert job.champion_metrics is not None
    new, old = job.validation.metrics, job.champion_metrics
    assert (new["accuracy"] or 1) < (old["accuracy"] or 0)
    assert (new["cost"] or 9) < (old["cost"] or 0)
    numbers = told(pipeline, "approval.awaited")[0]["numbers"]
    assert numbers["would_be"] == {"rule": "improvement@1", "outcome": "promote"}
    assert (numbers["direction"], numbers["best"]) == ("down", 0.0)
    capsys.readouterr()
    assert run(["--settings", str(project.directory), "show", job_id]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert re.search(r"cost 0\.1\d* against 0\.2\d*", shown)
    assert "(less is better)" in shown


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (None, "there is no module costs; write it to"),
        ("import absent_library", "costs cannot be imported: ModuleNotFoundError"),
        ("raise SystemExit(3)", "costs cannot be imported: SystemExit"),
        ("def costs(): ...", "costs has no cost; name a function that it has"),
        ("cost = 3", "cost is int, and no function"),
        ("def cost(labels, predictions): ...", "it has to take labels, predictions and weights"),
    ],
)
def test_what_cannot_be_called_is_an_error_of_the_settings(
    project: Project, capsys: pytest.CaptureFixture[str], code: str | None, says: str
) -> None:
    file = project.directory / "costs.py"
    file.write_text(code) if code is not None else file.unlink()
    assert run(["--settings", str(project.directory), "check", MODEL]) == 2
    printed = " ".join(capsys.readouterr().err.split())
    assert "models.boiler.own_metrics.cost.function = 'costs:cost'" in printed
    assert says in printed
    assert "Traceback" not in printed


def test_one_that_pays_no_heed_to_weights_decides_nothing(project: Project) -> None:
    (project.directory / "costs.py").write_text("def cost(a, b, weights): return float((a != b).mean())")
    pipeline = project.pipeline()
    job_id = pipeline.start_retrain_job(MODEL)
    project.log(pipeline, job_id, tree(51))
    job = ended(pipeline, job_id)
    assert job.validation is not None
    assert "cost" not in {name for name, value in job.validation.metrics.items() if value is not None}
    assert told(pipeline, "approval.awaited")[0]["numbers"]["would_be"]["outcome"] == "inconclusive"
    assert "does not take weights" in told(pipeline, "approval.awaited")[0]["reason"]


def test_a_live_measure_of_ones_own_is_read_by_re_scoring(project: Project) -> None:
    project.edit('rule = "performance"', 'rule = "performance"\nmetric = "cost"\nthreshold = 0.2')
    pipeline = project.pipeline()
    for _ in range(200):
        verdict = pipeline.judge(MODEL, "performance")
        if verdict.is_yes:
            break
        time.sleep(0.1)
    assert verdict.is_yes, verdict.reason  # 5 of 100 rows cost 5 each: 0.25
    assert "cost" in verdict.reason
