"""A whole life with rows and predictions in object storage, as a user sets it up; and what can be wrong."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cli_project import Project as CliProject
from cli_project import entries_of
from object_store_server import BUCKET, S3, empty_bucket, serving
from project_kit import MODEL, Project, ended, told, tree
from training_runs import context_of, plant, variables_of

from autoretrain import JobStatus
from autoretrain.entrypoints.doctor import examine
from autoretrain.entrypoints.settings import load_settings
from autoretrain.entrypoints.training import TrainingJob, read_job, rows_at_hand
from autoretrain.ports.errors import ConfigurationError, Permanent

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


def test_a_better_model_is_promoted_by_what_lies_in_the_store(s3: S3, tmp_path: Path) -> None:
    project = Project.create(tmp_path / "project", more=section(s3))
    pipeline = project.pipeline()
    project.serve(pipeline, tree(58))
    job_id = pipeline.start_retrain_job(MODEL)
    project.log(pipeline, job_id, tree())
    ended(pipeline, job_id)
    assert pipeline.deploy_if_better(MODEL, job_id)

    training = pipeline.get_job_status(job_id).training
    assert training is not None
    assert training.uri == f"{URL}/snapshots/{training.sha256}.parquet"
    assert training.sha256 in digests(s3, "snapshots")
    assert len(digests(s3, "predictions")) == 2  # of the champion and of the candidate
    local = {file.stem for file in project.directory.glob(".autoretrain/snapshots/*/*.parquet")}
    assert local == digests(s3, "snapshots")


@pytest.mark.slow
def test_a_model_is_trained_judged_and_promoted_by_the_commands(s3: S3, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    project = CliProject.create(folder)
    file, script = folder / "autoretrain.toml", folder / "train.py"
    text = section(s3) + file.read_text().replace('rule = "performance"', 'rule = "performance | drift"')
    file.write_text(text)
    script.write_text(
        "import os\nassert os.environ['AUTORETRAIN_DATA'].startswith('s3://plant-rows/fleet/snapshots/')\n"
        + script.read_text()
    )
    job = project.ask("start", "boiler", "--wait").splitlines()[0]
    project.ask("approve", job)
    project.ask("wait", job)

    shown = project.read("show", job)["job"]
    assert (shown["status"], shown["deployed"]) == ("completed", True)
    recorded = "\n".join(entry.data for entry in entries_of(project))
    named = {part[:64] for part in recorded.split(f"{URL}/snapshots/")[1:]}
    assert named
    assert named <= digests(s3, "snapshots")
    assert len(digests(s3, "predictions")) == 1  # there was no champion to judge beside the candidate
    assert "root-secret" not in recorded

    # What it was trained on is compared with what came since, on a machine that has no copy of either.
    shutil.rmtree(folder / ".autoretrain" / "object-cache")
    (checked,) = project.read("check", "boiler")
    assert checked["triggers"]["drift"]["answer"] == "no", checked


@pytest.fixture
def job(tmp_path: Path) -> TrainingJob:
    """A training as its command sees it, the rows on this machine."""
    run = {"MLFLOW_TRACKING_URI": "sqlite:///x.db", "MLFLOW_RUN_ID": "r"}
    return read_job(variables_of(context_of(plant(tmp_path)), run))


@pytest.fixture
def far(s3: S3, job: TrainingJob, monkeypatch: pytest.MonkeyPatch) -> TrainingJob:
    """The same on a machine that has neither the rows nor settings, only the AWS environment."""
    s3.write("fleet/snapshots/rows.parquet", job.data_path.read_bytes())
    job.data_path.unlink()
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.address)
    uri = f"{URL}/snapshots/rows.parquet"
    return replace(job, data_uri=uri, data_path=Path(uri))


def test_a_training_elsewhere_reads_its_rows_by_the_environment(far: TrainingJob) -> None:
    with rows_at_hand(far) as ready:
        X, y = ready.load()
        copy = ready.data_path
        assert (list(X.columns), y.name, len(y)) == (["load", "valve"], "hot", 200)
    assert not copy.exists()


def test_a_training_refuses_rows_that_are_not_those_meant(job: TrainingJob) -> None:
    with job.data_path.open("ab") as file:
        file.write(b"more")
    with pytest.raises(Permanent, match="damaged: it no longer has the digest"), rows_at_hand(job):
        pass
    with rows_at_hand(replace(job, data_sha256="")):  # started by an older controller
        pass


def test_a_training_refuses_an_object_that_is_not_the_one_meant(s3: S3, far: TrainingJob) -> None:
    s3.write("fleet/snapshots/rows.parquet", b"other rows")
    with pytest.raises(Permanent, match="does not have the digest"), rows_at_hand(far):
        pass


def test_a_training_whose_rows_expired_says_so(s3: S3, far: TrainingJob) -> None:
    s3.expire()
    with pytest.raises(Permanent, match="is not there: it has expired"), rows_at_hand(far):
        pass


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


@pytest.mark.parametrize(
    ("allowed", "status", "says"),
    [
        (["s3:*"], "ok", f"{URL}: can be written, read and listed"),
        (["s3:PutObject", "s3:GetObject", "s3:ListBucket"], "warning", "nothing may be deleted there"),
        (["s3:GetObject", "s3:ListBucket"], "problem", "access denied: allow s3:PutObject"),
    ],
)
def test_the_doctor_says_which_permission_is_missing(
    s3: S3,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    allowed: list[str],
    status: str,
    says: str,
) -> None:
    project = Project.create(tmp_path / "project", more=section(s3))
    s3.log_in(monkeypatch, allowed)
    found = [finding for finding in examine(project.directory) if finding.about == "storage"]
    assert [one.status for one in found] == [status]
    assert says in found[0].text


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
