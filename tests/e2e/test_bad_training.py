"""Training commands that do not do what they should: the job fails, says why, and the next one may start."""

from pathlib import Path

import pytest
from project_kit import MODEL, Project, ended, line, told, tree

from autoretrain import AutoRetrainPipeline, JobStatus

FAILS = 'echo "reading rows"; echo "ValueError: the sensor is upside down" >&2; exit 3'


def run(project: Project) -> tuple[AutoRetrainPipeline, str]:
    """Start a job by hand."""
    pipeline = project.pipeline()
    return pipeline, pipeline.start_retrain_job(MODEL)


def test_a_command_that_fails_is_told_with_its_last_words_and_its_log(tmp_path: Path) -> None:
    pipeline, job_id = run(Project.create(tmp_path, command=FAILS))
    job = ended(pipeline, job_id)
    assert job.status is JobStatus.FAILED
    assert job.error_message == (
        "training failed: exited with status 3; it printed last: ValueError: the sensor is upside down"
    )
    (run_ended,) = told(pipeline, "run.ended")
    assert run_ended["exit_code"] == 3
    assert run_ended["log_tail"].splitlines() == ["reading rows", "ValueError: the sensor is upside down"]
    failed = next(moment for moment in pipeline.explain(job_id) if moment.title.startswith("Training failed"))
    assert "reading rows" in failed.details
    assert pipeline.start_retrain_job(MODEL) != job_id
    assert pipeline.verify_audit() == []


def test_a_command_that_hangs_is_ended_at_its_deadline(tmp_path: Path) -> None:
    pipeline, job_id = run(Project.create(tmp_path, command="echo started; sleep 600", deadline=1))
    job = ended(pipeline, job_id)
    assert job.status is JobStatus.FAILED
    assert job.error_message == (
        "training failed: took longer than 1 s: ended by the deadline; it printed last: started"
    )


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ('["./no-such-program"]', "no-such-program"),
        ('["python", "no_such_script.py"]', "no_such_script.py"),
    ],
)
def test_a_command_that_does_not_exist(tmp_path: Path, command: str, says: str) -> None:
    project = Project.create(tmp_path, command="true").edit("""["sh", "-c", '''true''']""", command)
    pipeline, job_id = run(project)
    job = ended(pipeline, job_id)
    assert job.status is JobStatus.FAILED
    assert job.error_message is not None
    assert says in job.error_message


def test_a_command_that_logs_no_model(tmp_path: Path) -> None:
    pipeline, job_id = run(Project.create(tmp_path, command="true"))
    job = ended(pipeline, job_id)
    assert (job.status, job.error_message) == (
        JobStatus.FAILED,
        "the training command succeeded but logged no model to its MLflow run",
    )


def test_a_command_that_logs_two_models(tmp_path: Path) -> None:
    project = Project.create(tmp_path)
    pipeline, job_id = run(project)
    project.log(pipeline, job_id, tree(), line())
    job = ended(pipeline, job_id)
    assert job.status is JobStatus.FAILED
    assert job.error_message is not None
    assert "logged 2 models, exactly one is needed: model-0" in job.error_message


def test_a_command_that_is_killed_from_outside_is_told_as_such(tmp_path: Path) -> None:
    pipeline, job_id = run(Project.create(tmp_path, command="kill -9 $$"))
    job = ended(pipeline, job_id)
    assert job.status is JobStatus.FAILED
    (run_ended,) = told(pipeline, "run.ended")
    assert run_ended["exit_code"] == 137
