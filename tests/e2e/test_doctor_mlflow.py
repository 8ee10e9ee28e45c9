"""The doctor before MLflow without a login: a database of one's own, a store of artefacts, an old server."""

from __future__ import annotations

from pathlib import Path

import pytest
from local_http import local_server
from object_store_server import BUCKET, empty_bucket, serving
from project_kit import Project, tree

from autoretrain.adapters.mlflow_client import MlflowConnection
from autoretrain.adapters.mlflow_probe import PROBE
from autoretrain.entrypoints.doctor import Finding, examine


def of_mlflow(project: Project) -> list[Finding]:
    return [each for each in examine(project.directory) if each.about == "mlflow"]


def test_a_database_of_our_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = Project.create(tmp_path / "project")
    pipeline = project.pipeline()
    project.serve(pipeline, tree())
    for _ in range(2):
        answers, may = of_mlflow(project)
        assert (
            answers.text == f"{pipeline.settings.tracking_uri}: MLflow answers, 1 of 1 models have a champion"
        )
        assert may.text.endswith(
            f"experiment autoretrain is not there yet, the first job makes it; in {PROBE}: "
            "may write runs, write and read artefacts, delete runs, change 1 of 1 registered models"
        )
    assert not list(project.directory.rglob(f"{PROBE}.txt"))
    connection = MlflowConnection(pipeline.settings.tracking_uri)
    connection.client.create_experiment("autoretrain", (tmp_path / "artefacts").as_uri())
    (_, may) = of_mlflow(project)
    assert "experiment autoretrain: may write runs" in may.text
    assert capsys.readouterr().out == ""  # where --json is written to


def test_an_experiment_that_was_deleted(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "project", more=f'mlflow.experiment = "{PROBE}"\n')
    of_mlflow(project)
    (_, deleted) = of_mlflow(project)
    assert (deleted.status, deleted.text.partition(".db: ")[2]) == (
        "problem",
        f"experiment {PROBE!r} was deleted: restore it, or name another",
    )


@pytest.mark.slow
def test_a_bucket_of_artefacts_that_may_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving() as server, empty_bucket(server, monkeypatch, tmp_path) as s3:
        monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", s3.address)
        s3.log_in(monkeypatch, ["s3:GetObject", "s3:ListBucket"])
        more = f'mlflow.artifact_root = "s3://{BUCKET}/models"\n'
        _, denied, may = of_mlflow(Project.create(tmp_path / "project", more=more))
    assert (denied.status, may.status) == ("problem", "ok")
    assert "writing and reading an artefact: " in denied.text
    assert "AccessDenied" in denied.text
    assert "the credentials of their store" in denied.fix
    assert may.text.endswith("may write runs, delete runs")


@pytest.mark.parametrize(("said", "old"), [("2.22.4", True), ("1.30.0", True), ("a page", False)])
def test_a_server_that_is_too_old(tmp_path: Path, said: str, old: bool) -> None:
    with local_server() as http:
        http.reply(200, said)
        project = Project.create(tmp_path / "project", tracking_uri=http.url)
        found = [each.text for each in of_mlflow(project)]
    told = f"{http.url}: it is MLflow {said}, and 3.0 is the oldest that is supported: upgrade it"
    assert (told in found) is old
