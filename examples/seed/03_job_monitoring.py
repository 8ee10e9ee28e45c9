"""Job monitoring: follow a job from state to state, then read its whole story from the ledger."""

import time
from collections.abc import Mapping
from pathlib import Path

from fleet import project

from autoretrain import AutoRetrainPipeline, RetrainingJob

AGENT = "GL-001"


def main(directory: Path) -> None:
    pipeline = AutoRetrainPipeline(settings=directory)
    job_id = pipeline.start_retrain_job(AGENT, reason="coke on the tubes")
    job = follow(pipeline, job_id)

    print(f"Status: {job.status.value}, waits for a person until {job.awaiting_until:%Y-%m-%d %H:%M} UTC")
    print(f"Started: {job.started_at:%H:%M:%S}, attempt {job.attempt}, error: {job.error_message}")
    print(f"Trained on {job.training_window.start:%Y-%m-%d} to {job.training_window.end:%Y-%m-%d}")
    print(f"Champion:  {figures(job.champion_metrics)}")
    print(f"Candidate: {figures(job.metrics_after)}")

    pipeline.approve(job_id, "alarms agree with the log book")
    print(f"Approved: {pipeline.wait(job_id).status.value}")
    print("\nThe story of the job:")
    for moment in pipeline.explain(job_id):
        print(f"    {moment.at:%H:%M:%S}  {moment.title}")


def follow(pipeline: AutoRetrainPipeline, job_id: str) -> RetrainingJob:
    """Print each new state until the job waits for a person or has ended; ``pipeline.wait`` is silent."""
    seen = None
    while True:
        job = pipeline.get_job_status(job_id)
        if job.status is not seen:
            print(f"    {job.status.value}")
            seen = job.status
        if job.awaiting_until or not job.is_open:
            return job
        time.sleep(0.1)


def figures(metrics: Mapping[str, float | None] | None) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in (metrics or {}).items() if value is not None)


if __name__ == "__main__":
    with project(__doc__, champions=[AGENT]) as directory:
        main(directory)
