"""Servers that are away or answer nonsense: unknown or waiting, with the reason, and nothing lost."""

import json
import socket
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from local_http import local_server
from project_kit import MODEL, NOW, Project, ended, stalled, told, tree

from autoretrain import AutoRetrainPipeline, JobStatus
from autoretrain.adapters.notifier_slack import SlackNotifier
from autoretrain.adapters.registry_mlflow import MlflowRegistry
from autoretrain.adapters.tracker_mlflow import MlflowTracker
from autoretrain.ports.errors import Temporary
from autoretrain.ports.registry import ModelVersion

MINUTE = 60


def closed_address() -> str:
    """An address of this machine where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


# -- Prometheus ---------------------------------------------------------------------------------------------


class Serving:
    """The one question that a Prometheus alone leaves open: who serves."""

    def champions(self, models: Any) -> dict[str, ModelVersion]:
        return {name: ModelVersion(name, "1", "a" * 64, "elsewhere") for name in models}


def prometheus(directory: Path, url: str) -> AutoRetrainPipeline:
    """A pipeline whose accuracy comes from a Prometheus."""
    more = (
        f'prometheus.url = "{url}"\nprometheus.timeout_seconds = 2\nadapters.metrics = "prometheus"\n'
        "prometheus.queries.accuracy.expression = 'accuracy{model=~\"$models\"}'\n"
    )
    return Project.create(directory, more=more, tracking_uri=url).pipeline(registry=Serving())


def series(model: str, value: str, **labels: str) -> dict[str, Any]:
    """Hourly samples of five days."""
    times = [NOW.timestamp() - 5 * 24 * 60 * MINUTE + hour * 60 * MINUTE for hour in range(24 * 5 + 1)]
    return {"metric": {"model": model, **labels}, "values": [[at, value] for at in times]}


def answer(*found: dict[str, Any]) -> str:
    return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": found}})


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (answer(series(MODEL, "NaN")), "not finite"),
        (answer(series(MODEL, "+Inf")), "not finite"),
        (answer(), "no sample in the window"),
        (
            answer(series(MODEL, "0.8", job="a"), series(MODEL, "0.9", job="b")),
            "several series for this model",
        ),
        (answer(series(MODEL, "0.8"), {"metric": {}, "values": []}), "without the label 'model'"),
        ("<html>log in</html>", "malformed: a web page; prometheus.url leads to something else"),
    ],
    ids=["nan", "infinite", "empty", "many series", "no label", "no prometheus"],
)
def test_a_prometheus_whose_answer_says_nothing_is_unknown(tmp_path: Path, body: str, says: str) -> None:
    with local_server() as server:
        server.reply(200, body, Content_Type="application/json")
        pipeline = prometheus(tmp_path, server.url)
        verdict = pipeline.judge(MODEL)
        assert verdict.is_unknown
        assert says in verdict.reason
        pipeline.tick()
    last = told(pipeline, "look.changed")[-1]["verdicts"]["performance"]
    assert (last["answer"], says in last["reason"]) == ("unknown", True)
    assert pipeline.list_recent_jobs(MODEL) == []


def test_a_prometheus_that_is_away_is_unknown_until_it_is_back(tmp_path: Path) -> None:
    address = closed_address()
    pipeline = prometheus(tmp_path, address)
    verdict = pipeline.judge(MODEL)
    assert verdict.is_unknown
    assert f"Prometheus at {address} cannot be reached" in verdict.reason
    with local_server() as server:
        server.reply(200, answer(series(MODEL, "0.97")), Content_Type="application/json")
        assert prometheus(tmp_path / "later", server.url).judge(MODEL).is_no
        server.reply(503, "starting")
        assert prometheus(tmp_path / "again", server.url).judge(MODEL).is_unknown


# -- MLflow -------------------------------------------------------------------------------------------------


class Outages:
    """An MLflow adapter whose named calls go to an address where nobody listens."""

    def __init__(self, here: Any, away: Any) -> None:
        self._here = here
        self._away = away
        self.down: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._away if name in self.down else self._here, name)


def test_an_mlflow_that_goes_away_at_every_step_costs_nothing_but_time(tmp_path: Path) -> None:
    project = Project.create(tmp_path)
    away = closed_address()
    uri = f"sqlite:///{tmp_path}/.autoretrain/mlflow.db"
    registry = Outages(MlflowRegistry(uri), MlflowRegistry(away))
    tracker = Outages(MlflowTracker(uri, artifact_root=str(tmp_path / "artefacts")), MlflowTracker(away))
    pipeline = project.pipeline(registry=registry, tracker=tracker)
    project.serve(pipeline, tree(58))
    reasons = []

    registry.down = {"champions"}
    job_id = pipeline.start_retrain_job(MODEL)
    reasons.append(stalled(pipeline, job_id).stalled)
    assert told(pipeline, "job.opened") == []

    registry.down, tracker.down = set(), {"open_run"}
    job = stalled(pipeline, job_id)
    reasons.append(job.stalled)
    assert (job.status, job.attempt) == (JobStatus.RUNNING, 1)

    tracker.down = set()
    job = pipeline.get_job_status(job_id)
    assert pipeline.get_job_status(job_id).stalled == ""
    registry.down = {"candidate"}
    project.log(pipeline, job_id, tree(50))
    reasons.append(stalled(pipeline, job_id).stalled)

    registry.down, tracker.down = set(), {"annotate"}
    job = stalled(pipeline, job_id)
    reasons.append(job.stalled)
    assert job.status is JobStatus.VALIDATION

    tracker.down = set()
    assert ended(pipeline, job_id).awaiting_until is not None
    registry.down = {"set_champion"}
    pipeline.approve(job_id)
    job = stalled(pipeline, job_id)
    reasons.append(job.stalled)
    assert job.status is JobStatus.DEPLOYING

    registry.down = set()
    job = ended(pipeline, job_id)
    assert (job.status, job.deployed, job.stalled) == (JobStatus.COMPLETED, True, "")
    assert registry.champions([MODEL])[MODEL] == job.candidate
    assert all(reason.startswith("MLflow, ") and away.removeprefix("http://") in reason for reason in reasons)
    assert len(set(reasons)) == 5
    waits = [entry["reason"] for entry in told(pipeline, "job.stalled") if entry["reason"]]
    assert waits == reasons[1:]  # once each, however often it was asked again
    assert len(told(pipeline, "promotion.done")) == 1
    assert pipeline.verify_audit() == []


def test_an_mlflow_that_is_away_leaves_the_request_waiting_with_the_reason(tmp_path: Path) -> None:
    address = closed_address()
    project = Project.create(tmp_path, tracking_uri=address)
    pipeline = project.pipeline()
    verdict = pipeline.judge(MODEL)
    assert verdict.is_unknown
    assert "MLflow, reading the champion of boiler" in verdict.reason

    job_id = pipeline.start_retrain_job(MODEL)
    with pytest.raises(Temporary, match="it goes on"):
        pipeline.wait(job_id, timeout=0.5)
    restarted = project.pipeline()
    job = restarted.get_job_status(job_id)
    assert job.status is JobStatus.PENDING
    assert "MLflow, reading the champion of boiler" in job.stalled
    assert [verdict["verdicts"]["manual"]["answer"] for verdict in told(restarted, "look.changed")] == [
        "unknown"
    ]
    restarted.cancel(job_id)
    assert restarted.list_recent_jobs(MODEL) == []


# -- Slack --------------------------------------------------------------------------------------------------


def test_notices_wait_while_slack_is_away_and_arrive_once_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with local_server() as server:
        server.reply(503, "maintenance")
        monkeypatch.setenv("AUTORETRAIN_SLACK_WEBHOOK_URL", f"{server.url}/T0/sesame")
        project = Project.create(tmp_path, command="exit 3", more='adapters.notifier = "slack"\n')
        pipeline = project.pipeline()
        job = ended(pipeline, pipeline.start_retrain_job(MODEL))
        assert job.status is JobStatus.FAILED
        assert server.requests
        refused = len(server.requests)

        server.reply(200, "ok")
        pipeline.tick()
        assert len(server.requests) == refused  # not yet: the outbox keeps its distance
        project.now += timedelta(minutes=2)
        pipeline.tick()
        pipeline.tick()
    sent = [json.loads(request.body)["text"] for request in server.requests[refused:]]
    assert sent == ["boiler: Retraining of boiler started", "boiler: Retraining of boiler failed"]
    assert pipeline.ports.outbox.dead_letters() == []


def test_a_webhook_that_was_revoked_is_given_up_and_stops_nothing(tmp_path: Path) -> None:
    project = Project.create(tmp_path, command="true")
    with local_server() as server:
        server.reply(404, "no_service")
        pipeline = project.pipeline(notifier=SlackNotifier(f"{server.url}/T0/sesame"))
        assert ended(pipeline, pipeline.start_retrain_job(MODEL)).status is JobStatus.FAILED
    dead = pipeline.ports.outbox.dead_letters()
    assert [letter.notice.event for letter in dead] == ["started", "completed"]
    assert all("Slack refuses the notice (404: no_service)" in letter.error for letter in dead)
    assert "sesame" not in str(dead)
