"""Data that cannot be used: an unknown verdict or a failed job; the reason names file, column or window."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from project_kit import MODEL, NOW, WAITS, Project, ended, line, table, told, tree

from autoretrain import JobStatus


def missing(directory: Path) -> None:
    (directory / "rows.csv").unlink()


def folder(directory: Path) -> None:
    (directory / "rows.csv").unlink()
    (directory / "rows.csv").mkdir()


def unlabelled(directory: Path) -> None:
    (directory / "rows.csv").write_text(table(header="time,load,valve,cold"))


def untimed(directory: Path) -> None:
    (directory / "rows.csv").write_text(table(header="at,load,valve,hot"))


def timeless(directory: Path) -> None:
    text = (directory / "rows.csv").read_text()
    (directory / "rows.csv").write_text(text.replace("T0", " at about ", 1))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (missing, ["there is no file rows.csv"]),
        (folder, ["rows.csv is a directory"]),
        (unlabelled, ["no label column 'hot'", "time, load, valve, cold"]),
        (untimed, ["no time column 'time'", "at, load, valve, hot"]),
        (timeless, ["rows.csv", "at about"]),
    ],
)
def test_a_table_that_cannot_be_read(tmp_path: Path, spoil: Callable[[Path], None], says: list[str]) -> None:
    project = Project.create(tmp_path)
    spoil(tmp_path)
    pipeline = project.pipeline()
    job = ended(pipeline, pipeline.start_retrain_job(MODEL))
    assert job.status is JobStatus.FAILED
    assert job.error_message is not None
    for words in says:
        assert words in job.error_message
    (closed,) = told(pipeline, "job.closed")
    assert closed["reason"] == job.error_message
    assert pipeline.verify_audit() == []


def test_garbage_that_is_named_parquet(tmp_path: Path) -> None:
    project = Project.create(tmp_path).edit("rows.csv", "rows.parquet")
    (tmp_path / "rows.parquet").write_bytes(b"PAR1" + bytes(range(256)) * 8)
    pipeline = project.pipeline()
    job = ended(pipeline, pipeline.start_retrain_job(MODEL))
    assert job.status is JobStatus.FAILED
    assert job.error_message is not None
    assert "no snapshot of rows.parquet can be taken" in job.error_message


def test_a_table_that_cannot_be_read_makes_the_trigger_unknown(tmp_path: Path) -> None:
    project = Project.create(tmp_path)
    pipeline = project.pipeline()
    project.serve(pipeline, tree())
    missing(tmp_path)
    verdict = pipeline.judge(MODEL)
    assert verdict.is_unknown
    assert "there is no file rows.csv" in verdict.reason
    assert not pipeline.check_retrain_needed(MODEL)

    pipeline.tick()
    (changed,) = told(pipeline, "look.changed")
    assert changed["verdicts"]["performance"]["answer"] == "unknown"
    assert "there is no file rows.csv" in changed["verdicts"]["performance"]["reason"]
    assert pipeline.list_recent_jobs(MODEL) == []
    pipeline.release()


def test_an_empty_window(tmp_path: Path) -> None:
    project = Project.create(tmp_path)
    project.now = NOW + timedelta(days=90)
    pipeline = project.pipeline()
    job = ended(pipeline, pipeline.start_retrain_job(MODEL))
    assert (job.status, job.error_message) == (
        JobStatus.FAILED,
        "the training window (2026-05-05 00:00 to 2026-05-25 00:00 UTC) has 0 labelled rows, 1 are needed",
    )
    project.serve(pipeline, tree())
    assert "no labelled rows in the window" in pipeline.judge(MODEL).reason


def test_a_holdout_that_is_too_small(tmp_path: Path) -> None:
    project = Project.create(tmp_path)
    project.now = NOW + timedelta(days=4, hours=14)
    pipeline = project.pipeline()
    job = ended(pipeline, pipeline.start_retrain_job(MODEL))
    assert job.error_message is not None
    assert "the holdout window" in job.error_message
    assert "has 10 labelled rows, 20 are needed" in job.error_message


def test_a_holdout_of_one_class_decides_nothing(tmp_path: Path) -> None:
    holdout = 35 * 24
    project = Project.create(
        tmp_path, rows=table(hot=lambda hour: int((hour * 37) % 100 > 50) if hour < holdout else 0)
    )
    pipeline = project.pipeline()
    project.serve(pipeline, tree(58))
    job_id = pipeline.start_retrain_job(MODEL)
    project.log(pipeline, job_id, tree(99))
    job = ended(pipeline, job_id)
    assert job.validation is not None
    assert job.validation.f1_score is None
    assert job.validation.unknown["f1"] == "the holdout has a single class: 0"
    assert not pipeline.deploy_if_better(MODEL, job_id)
    job = pipeline.get_job_status(job_id)
    assert job.decision is not None
    assert (job.decision.outcome.value, job.outcome) == ("inconclusive", "f1 of the candidate is unknown")


HOLES = table(load=lambda hour: "" if hour % 100 == 99 else (hour * 37) % 100)


def test_rows_with_holes_fail_a_model_that_refuses_them_by_name_and_count(tmp_path: Path) -> None:
    project = Project.create(tmp_path, rows=HOLES)
    pipeline = project.pipeline()
    job_id = pipeline.start_retrain_job(MODEL)
    project.log(pipeline, job_id, line())
    job = ended(pipeline, job_id)
    assert job.status is JobStatus.FAILED
    assert job.error_message is not None
    assert "the model failed on the rows: ValueError: Input X contains NaN" in job.error_message
    assert "(nulls by column: load 1)" in job.error_message
    assert pipeline.ports.registry.champions([MODEL]) == {}


def test_rows_with_holes_are_no_matter_to_a_model_that_takes_them(tmp_path: Path) -> None:
    project = Project.create(tmp_path, rows=HOLES, command=WAITS)
    pipeline = project.pipeline()
    job_id = pipeline.start_retrain_job(MODEL)
    project.log(pipeline, job_id, tree())
    job = ended(pipeline, job_id)
    assert job.validation is not None
    assert job.validation.is_valid
    assert job.validation.rows == 120
    assert job.awaiting_until is not None
