"""A canary in seconds: a program that serves, its requests, and a real Prometheus that scrapes both arms."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread

import pytest
from project_kit import MODEL, Project, ended, tree
from prometheus_server import serving
from serving_app import ServingApp, serving_app

from autoretrain import AutoRetrainPipeline, JobStatus, RetrainingJob
from autoretrain.adapters.router_hash import HashRouter

pytestmark = [pytest.mark.service, pytest.mark.slow]

_ARM = """
[prometheus.queries.accuracy_{arm}]
expression = '''
sum by (model) (rate(right_total{{model=~"$models", arm="{arm}"}}[$step]))
/ sum by (model) (rate(answers_total{{model=~"$models", arm="{arm}"}}[$step]))
'''
count = 'sum by (model) (increase(answers_total{{model=~"$models", arm="{arm}"}}[$step]))'
"""
_MORE = """
adapters.metrics = "prometheus"
[traffic]
router = "hash"
[prometheus]
url = "{url}"
step_seconds = 2
[prometheus.queries.accuracy]
expression = 'sum by (model) (rate(right_total{{model=~"$models"}}[$step]))'
"""
_CANARY = """
[models.boiler.canary]
candidate = "accuracy_candidate"
baseline = "accuracy_champion"
direction = "up"
tolerance = 0.05
batch_minutes = 0.0667
lag_minutes = 0.05
deadline_minutes = 1
steps = [
    { weight = 0.25, minutes = 0.2, samples = 100 },
    { weight = 0.5, minutes = 0.2, samples = 200 },
]
"""


def rows_until(now: datetime) -> str:
    """Hourly rows of 40 days; the label follows from the load."""
    first = now - timedelta(days=40)
    lines = ["time,load,valve,hot"]
    for hour in range(40 * 24):
        load = hour * 37 % 100
        lines.append(
            f"{first + timedelta(hours=hour):%Y-%m-%dT%H:%M:%S},{load},{hour * 53 % 100},{int(load > 50)}"
        )
    return "\n".join(lines) + "\n"


@contextmanager
def asked(app: ServingApp) -> Iterator[None]:
    """Let users ask it all the time."""
    stop, users = Event(), [f"user-{number}" for number in range(400)]

    def ask() -> None:
        while not stop.is_set():
            app.ask(users[:100])
            users.append(users.pop(0))
            users[:] = users[99:] + users[:99]
            stop.wait(0.1)

    thread = Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@dataclass
class Trial:
    app: ServingApp
    pipeline: AutoRetrainPipeline
    job_id: str

    def until_ended(self) -> RetrainingJob:
        deadline = time.monotonic() + 240
        while (job := self.pipeline.get_job_status(self.job_id)).is_open:
            assert time.monotonic() < deadline, job
            self.pipeline.tick()
            time.sleep(0.5)
        return job


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    split = HashRouter(tmp_path / "traffic").path(MODEL)
    (tmp_path / "prometheus").mkdir()
    with (
        serving_app(split) as app,
        serving(tmp_path / "prometheus/data", targets={"app": app.target}) as server,
    ):
        more = _MORE.format(url=server.url) + "".join(
            _ARM.format(arm=arm) for arm in ("candidate", "champion")
        )
        project = Project.create(tmp_path, more=more, rows=rows_until(datetime.now(UTC)))
        file = tmp_path / "autoretrain.toml"
        file.write_text(file.read_text() + _CANARY)
        pipeline = AutoRetrainPipeline(settings=tmp_path, actor="ann")
        project.serve(pipeline, tree(45))
        job_id = pipeline.start_retrain_job(MODEL)
        project.log(pipeline, job_id, tree(50))
        assert ended(pipeline, job_id).awaiting_until is not None
        with asked(app):
            yield Trial(app, pipeline, job_id)


def test_a_good_candidate_is_promoted(trial: Trial) -> None:
    trial.pipeline.approve(trial.job_id)
    job = trial.until_ended()
    assert (job.status, job.deployed) == (JobStatus.COMPLETED, True), job.outcome
    assert job.canary is not None
    assert min(job.canary.rows) >= 200
    assert {said["version"] for said in trial.app.ask([f"user-{n}" for n in range(50)])} == {"champion"}


def test_a_bad_one_is_aborted_and_the_traffic_goes_back(trial: Trial) -> None:
    trial.app.measured.quality["candidate"] = 0.5
    trial.pipeline.approve(trial.job_id)
    job = trial.until_ended()
    assert (job.status, job.deployed) == (JobStatus.COMPLETED, False), job.outcome
    assert job.outcome.startswith("harm is shown in step"), job.outcome
    assert {said["arm"] for said in trial.app.ask([f"user-{n}" for n in range(50)])} == {"champion"}
