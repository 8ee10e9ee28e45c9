"""A whole life with rows and predictions in object storage, as a user sets it up; and what can be wrong."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_project import Project as CliProject
from cli_project import entries_of
from object_store_server import BUCKET, S3, empty_bucket, serving
from project_kit import MODEL, Project, ended, told, tree

from autoretrain import JobStatus
from autoretrain.entrypoints.doctor import examine
from autoretrain.entrypoints.settings import load_settings
from autoretrain.ports.errors import ConfigurationError

URL = f"s3://{BUCKET}/fleet"


@pytest.fixture(scope="module")
def server() -> Iterator[S3]:
    with serving() as running:
        yield running


@pytest.fixture
def s3(server: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    with empty_bucket(server, monkeypatch, tmp_path) as empty:
        yield empty


def section(s3: S3, url: str = URL) -> str:
    return f'[storage]\nurl = "{url}"\nendpoint = "{s3.address}"\nattempts = 1\n'


def digests(s3: S3, folder: str) -> set[str]:
    """Digests of the objects of a kind; each is that of its content, and its name."""
    found = set()
    for key in s3.keys(f"fleet/{folder}/"):
        digest = hashlib.sha256(s3.content(f"s3://{BUCKET}/{key}")).hexdigest()
        assert key == f"fleet/{folder}/{digest}.parquet"
        found.add(digest)
    return found


def test_a_model_is_trained_judged_and_promoted_by_the_commands(s3: S3, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    project = CliProject.create(folder)
    file = project.directory / "autoretrain.toml"
    # Before its rows are brought from the store, there is nothing else that a training could read.
    script = project.directory / "train.py"
    script.write_text(
        "import os\nassert os.environ['AUTORETRAIN_DATA'].startswith('s3://plant-rows/fleet/snapshots/')\n"
        + script.read_text()
    )
    file.write_text(section(s3) + file.read_text())
    project.ask("start", "boiler", "--wait")
    job = project.read("jobs")[0]["job_id"]
    project.ask("approve", job)
    project.ask("wait", job)

    shown = project.read("show", job)
    assert shown["status"] == "completed", shown
    assert shown["deployed"] is True
    snapshots, predictions = digests(s3, "snapshots"), digests(s3, "predictions")
    assert len(predictions) == 1  # there was no champion to predict beside the candidate
    text = "\n".join(entry.data for entry in entries_of(project))
    named = {part[:64] for part in text.split(f"{URL}/snapshots/")[1:]}
    assert named
    assert named <= snapshots
    assert "root-secret" not in text


def test_rows_that_expired_end_the_job_with_their_address(s3: S3, tmp_path: Path) -> None:
    project = Project.create(tmp_path / "project", more=section(s3))
    pipeline = project.pipeline()
    job_id = pipeline.start_retrain_job(MODEL)
    pipeline.get_job_status(job_id)
    assert digests(s3, "snapshots")
    s3.expire()
    shutil.rmtree(project.directory / ".autoretrain" / "object-cache")
    project.log(pipeline, job_id, tree())
    job = ended(pipeline, job_id)
    assert job.status is JobStatus.FAILED
    assert f"{URL}/snapshots/" in (job.error_message or "")
    assert "is not there: it has expired by a lifecycle rule" in (job.error_message or "")
    (closed,) = told(pipeline, "job.closed")
    assert closed["reason"] == job.error_message


def test_the_doctor_tries_the_store(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project.create(tmp_path / "project", more=section(s3))
    found = [finding for finding in examine(project.directory) if finding.about == "storage"]
    assert [(one.status, one.text) for one in found] == [("ok", f"{URL}: can be written, read and listed")]

    s3.log_in(monkeypatch, ["s3:GetObject", "s3:ListBucket"])
    found = [finding for finding in examine(project.directory) if finding.about == "storage"]
    assert [one.status for one in found] == ["problem", "warning"]
    assert "s3:PutObject" in found[0].fix
    assert "s3:DeleteObject" in found[1].text


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ('url = "s3://Upper/x"', "storage.url"),
        ('url = "gs://bucket/x"', "storage.url"),
        ('url = "s3://bucket/../x"', "storage.url"),
        ('url = "s3://key:hush-hush-secret@bucket/x"', "storage.url"),
        ('endpoint = "http://127.0.0.1:1"', "storage.url: is missing"),
        ('url = "s3://bucket"\nendpoint = "127.0.0.1:9000"', "storage.endpoint"),
        ('url = "s3://bucket"\nattempts = 0', "storage.attempts"),
        ('url = "s3://bucket"\nsecret_key = "hush-hush-secret"', "there is no such setting"),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path: Path, written: str, says: str) -> None:
    (tmp_path / "autoretrain.toml").write_text(f"[storage]\n{written}\n")
    with pytest.raises(ConfigurationError) as refused:
        load_settings(tmp_path)
    assert says in str(refused.value)
    assert "hush-hush" not in str(refused.value)
