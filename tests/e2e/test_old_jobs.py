"""A process remembers a model's latest jobs only; whoever asks for an older one gets it from the ledger."""

from dataclasses import fields
from pathlib import Path

import pytest

from autoretrain import AutoRetrainPipeline, JobStatus
from autoretrain.domain.fold import RECENT_JOBS
from autoretrain.domain.world import Ports
from autoretrain.entrypoints.settings import parse_settings
from autoretrain.entrypoints.testing import Training, World
from autoretrain.ports.errors import UnknownJob

MANY = RECENT_JOBS + 3


@pytest.fixture
def pipeline(tmp_path: Path) -> AutoRetrainPipeline:
    """A dry run in which jobs were started one after another, and failed."""
    model = {"min_holdout_rows": 10, "training": {"command": ["train"]}}
    settings = parse_settings({"models": {"churn": model, "fraud": model}}, tmp_path)
    world = World(settings.models)
    world.training = dict.fromkeys(settings.models, Training("fails"))
    ports = {field.name: getattr(world.ports(), field.name) for field in fields(Ports)}
    made = AutoRetrainPipeline(settings=settings, clock=lambda: world.now, **ports)
    for _ in range(MANY):
        made.start_retrain_job("churn")
    return made


def test_the_process_remembers_the_latest(pipeline: AutoRetrainPipeline) -> None:
    state = pipeline._session.state("churn")
    assert (len(state.jobs), state.earlier_jobs) == (RECENT_JOBS, MANY - RECENT_JOBS)


def test_every_job_can_be_asked_for(pipeline: AutoRetrainPipeline) -> None:
    listed = pipeline.list_recent_jobs("churn", limit=MANY + 5)
    assert len(listed) == MANY
    assert pipeline.list_recent_jobs("churn", limit=RECENT_JOBS) == listed[:RECENT_JOBS]
    assert list(pipeline.job_history.values()) == listed[::-1]
    for job in (listed[0], listed[-1]):
        assert pipeline.get_job_status(job.job_id) == pipeline.wait(job.job_id, timeout=5) == job
        assert job.status is JobStatus.FAILED
        assert pipeline.explain(job.job_id)


def test_an_old_job_cannot_be_cancelled(pipeline: AutoRetrainPipeline) -> None:
    oldest = pipeline.list_recent_jobs("churn", limit=MANY)[-1]
    with pytest.raises(UnknownJob, match=r"has no job .* that has not ended long ago"):
        pipeline.cancel(oldest.job_id)
    with pytest.raises(UnknownJob, match="no model has a job nothing"):
        pipeline.get_job_status("nothing")
