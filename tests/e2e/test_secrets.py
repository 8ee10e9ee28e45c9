"""Secrets are in no entry, notice, file, message, log line or repr, whatever goes wrong."""

import json
import logging
import socket
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from local_http import LocalServer, local_server
from project_kit import MODEL, Project, told

from autoretrain import AutoRetrainPipeline
from autoretrain.entrypoints.container import PORTS
from autoretrain.ports.errors import Temporary
from autoretrain.ports.registry import ModelVersion

SECRET = "sesame"


class Serving:
    """A registry in which everybody serves."""

    def champions(self, models: list[str]) -> dict[str, ModelVersion]:
        return {name: ModelVersion(name, "1", "a" * 64, "elsewhere") for name in models}


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with local_server() as server:
        server.reply(500, "out of order")
        yield server


@pytest.fixture
def project(
    tmp_path: Path,
    server: LocalServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> Project:
    """A project full of secrets, in which nothing that it needs can be reached."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("AUTORETRAIN_SLACK_WEBHOOK_URL", f"{server.url}/services/{SECRET}")
    monkeypatch.setenv("AUTORETRAIN_PROMETHEUS_TOKEN", SECRET)
    with socket.create_server(("127.0.0.1", 0)) as free:
        away = f"http://ann:{SECRET}@127.0.0.1:{free.getsockname()[1]}"
    more = (
        f'prometheus.url = "{away}"\nprometheus.queries.accuracy.expression = "accuracy"\n'
        'adapters = { metrics = "prometheus", notifier = "slack" }\n'
    )
    return Project.create(tmp_path, command="exit 3", more=more, tracking_uri=away)


def written(project: Project) -> bytes:
    """Everything that the product has put on disk."""
    files = (project.directory / ".autoretrain").rglob("*")
    content = b"".join(file.read_bytes() for file in files if file.is_file())
    assert MODEL.encode() in content
    return content


def shown(pipeline: AutoRetrainPipeline) -> str:
    """Everything that a caller can print of the library."""
    return (
        repr(pipeline) + repr(vars(pipeline)) + "".join(repr(getattr(pipeline.ports, name)) for name in PORTS)
    )


def test_mlflow_that_is_away_tells_no_password(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    pipeline = project.pipeline()
    job_id = pipeline.start_retrain_job(MODEL)
    with pytest.raises(Temporary) as caught:
        pipeline.wait(job_id, timeout=0.2)
    job = pipeline.get_job_status(job_id)
    assert "MLflow, reading the champion" in job.stalled
    pipeline.tick()
    for text in (
        str(caught.value),
        repr(job),
        shown(pipeline),
        caplog.text,
        str(told(pipeline, "look.changed")),
    ):
        assert SECRET not in text
    assert SECRET.encode() not in written(project)


def test_prometheus_that_is_away_tells_neither_password_nor_token(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline = project.pipeline(registry=Serving())
    verdict = pipeline.judge(MODEL)
    assert "cannot be reached" in verdict.reason
    pipeline.tick()
    for text in (repr(verdict), shown(pipeline), caplog.text, json.dumps(told(pipeline, "look.changed"))):
        assert SECRET not in text
    assert SECRET.encode() not in written(project)


def test_slack_that_fails_tells_no_address(
    project: Project, server: LocalServer, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline = project.pipeline(registry=Serving())
    pipeline.start_retrain_job(MODEL)
    assert server.requests, "nothing was sent"
    assert SECRET in server.requests[0].path
    assert SECRET not in caplog.text
    waiting = pipeline.ports.outbox.due(project.now.replace(year=2027))
    assert waiting
    assert [outgoing.error for outgoing in waiting] == ["Slack answers 500"] * len(waiting)
    assert SECRET not in str([asdict(outgoing) for outgoing in waiting]) + shown(pipeline)
    assert SECRET.encode() not in written(project)
