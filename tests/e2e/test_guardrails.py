"""Real candidates that win their comparison and are stopped all the same, as ``show`` tells it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from project_kit import MODEL, Project, ended, fitted, tree

from autoretrain import AutoRetrainPipeline, JobStatus, RetrainingJob
from autoretrain.entrypoints.cli.main import run

LIMITS = """rule = "performance"
promotion.guardrails = { max_ece = 0.02, max_growth = 50, max_latency = 0.5 }"""
WEIGHT = 2_000_000


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A champion that is right in nine rows of ten, and limits that it keeps itself."""
    made = Project.create(tmp_path).edit('rule = "performance"', LIMITS)
    made.serve(made.pipeline(), tree(60))
    return made


def judged(project: Project, model: Any) -> tuple[AutoRetrainPipeline, RetrainingJob]:
    """Start a job, let this model be what its training logs, and wait for what is said of it."""
    pipeline = project.pipeline()
    (project.directory / "go").unlink(missing_ok=True)
    job_id = pipeline.start_retrain_job(MODEL)
    project.log(pipeline, job_id, model)
    return pipeline, ended(pipeline, job_id)


@pytest.fixture
def shown(project: Project, capsys: pytest.CaptureFixture[str]) -> Callable[[RetrainingJob], str]:
    """What ``autoretrain show`` prints of a job."""

    def show(job: RetrainingJob) -> str:
        capsys.readouterr()
        assert run(["--settings", str(project.directory), "show", job.job_id]) == 0
        return capsys.readouterr().out

    return show


def spoiled() -> Any:
    """A model that is better than the champion, sure of its errors, heavy and slow."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    def dawdle(rows: Any) -> Any:
        import time

        time.sleep(0.2)
        return rows

    model = tree(55)
    model.ballast_ = b"x" * WEIGHT
    return make_pipeline(FunctionTransformer(dawdle), model)


def of_three_classes() -> Any:
    """A model that has a class of its own for three rows of a hundred."""
    model = fitted("tree", 50)
    model.set_params(max_depth=3)
    rows = [[float(load), float(load * 53 % 100)] for load in range(100)]
    import pandas as pd

    return model.fit(
        pd.DataFrame(rows, columns=["load", "valve"]), [7 if n > 96 else int(n > 50) for n in range(100)]
    )


class Trap:
    """Fails where it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return eval, ("1 / 0",)


def trapped() -> Any:
    model = tree(50)
    model.trap_ = Trap()
    return model


def test_candidates_are_stopped_by_what_they_spoil(
    project: Project, shown: Callable[[RetrainingJob], str]
) -> None:
    pipeline, job = judged(project, spoiled())
    page = shown(job)
    assert "Waits for a person" in page
    assert "is +5." in page  # better than was asked for
    assert "; but ece 0.0" in page
    assert "artefact size is" in page
    assert "times the champion's, and at most 50 times is allowed" in page
    assert "s for 1,000 rows is above the limit of 0.5" in page
    assert "guardrail classes, known classes: kept: every class that it predicts has a label" in page
    assert "guardrail loading, no limit: loading" in page
    assert "guardrail time order of the champion, no limit: on which rows the champion was trained" in page
    pipeline.reject(job.job_id, "too slow")
    assert not pipeline.wait(job.job_id).deployed

    _, job = judged(project, of_three_classes())
    assert not job.deployed
    assert "it predicts classes that no label of training or holdout has: 7 (" in shown(job)

    _, job = judged(project, trapped())
    assert job.status is JobStatus.FAILED
    assert "the model cannot be loaded: ZeroDivisionError: division by zero" in shown(job)

    project.edit("max_ece = 0.02", "max_repeated_rows = 0.5, max_ece = 0.02")
    pipeline, job = judged(project, tree(50))
    assert (job.status, job.deployed) == (JobStatus.COMPLETED, False)
    assert "120 of 120 rows of the holdout stand in the training rows, too" in shown(job)
    assert "Decision: reject (safety@1)" in shown(job)
    assert pipeline.verify_audit() == []
