"""A champion from before AutoRetrain: trained and registered as a team would have done it by hand."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

from ...domain.acting import training_environment
from ...domain.jobs import JobStatus, RetrainingJob
from ...domain.trigger_types import TriggerType
from ...domain.world import Ports
from ...ports.compute import RunRequest, RunState, RunStatus
from ...ports.data import SnapshotRequest
from ...ports.errors import Permanent
from ...ports.registry import ModelVersion
from ...ports.tracking import TrainingContext
from ...ports.values import TimeWindow
from ..pipeline import AutoRetrainPipeline


def train_champion(settings: Path, model: str, window: TimeWindow) -> ModelVersion:
    """Train a version on a window with the model's own command, and let it serve.

    It goes through the same ports as a retraining, and past the ledger: the controller adopts it at first
    sight, as it adopts any champion that it finds.

    Args:
        settings: Settings file, or the directory that holds it.
        model: Name of the model.
        window: Rows to train on.

    Returns:
        The version, which is the champion now.

    Raises:
        Permanent: There are no rows, the training failed, or another version serves already.
    """
    pipeline = AutoRetrainPipeline(settings=settings)
    ports, spec = pipeline.ports, pipeline.settings.models[model].training
    data = ports.data.snapshot(SnapshotRequest(model, window))
    if data.rows == 0:
        raise Permanent(f"{model} has no labelled rows from {window.start} to {window.end}")
    job = RetrainingJob(
        job_id=f"bootstrap-{uuid.uuid4()}",
        model_name=model,
        trigger_type=TriggerType.MANUAL,
        status=JobStatus.RUNNING,
        created_at=window.end,
        reason="first champion",
        training_window=window,
        holdout_window=TimeWindow(window.end, window.end),
        parameters=spec.parameters,
        attempt=1,
    )
    tracked = ports.tracker.open_run(TrainingContext(model, job.job_id, 1, spec.parameters, data, None))
    environment = {**tracked, **training_environment(job, data)}
    run = RunRequest(job.run_key, spec.command, environment, spec.directory, spec.deadline_seconds)
    ports.compute.submit(run)
    status = _wait(ports, run)
    version = ports.registry.candidate(model, job.job_id) if status.state is RunState.SUCCEEDED else None
    if version is None:
        reason = status.reason or "it logged no model"
        raise Permanent(f"training the first champion failed: {reason}\n{ports.compute.log_tail(run.key)}")
    ports.registry.set_champion(version, None)
    return version


def _wait(ports: Ports, run: RunRequest) -> RunStatus:
    while True:
        status = ports.compute.observe(run.key)
        if status.state.ended:
            return status
        time.sleep(0.05)
