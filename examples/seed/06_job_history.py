"""Job history: figures over all jobs of the fleet, from the ledger alone."""

from collections import Counter
from datetime import timedelta
from pathlib import Path
from statistics import mean

from fleet import project

from autoretrain import AutoRetrainPipeline, RetrainingJob

AGENT = "GL-001"


def main(directory: Path) -> None:
    pipeline = AutoRetrainPipeline(settings=directory)
    make_history(pipeline)

    print(f"Last jobs of {AGENT}, newest first:")
    for job in pipeline.list_recent_jobs(AGENT, limit=5):
        gain = "" if job.improvement_pct is None else f", improvement {job.improvement_pct:+.2%}"
        print(f"    {job.job_id[:8]}  {job.created_at:%Y-%m-%d}  {job.status.value}{gain}: {job.outcome}")

    jobs = list(pipeline.job_history.values())
    print(f"\n{len(jobs)} jobs of {len({job.model_name for job in jobs})} model")
    print_counts("by trigger", Counter(job.trigger_type.value for job in jobs))
    print_counts("by state", Counter(job.status.value for job in jobs))
    deployed = [job for job in jobs if job.deployed]
    print(f"deployed: {len(deployed)} of {len(jobs)} ({len(deployed) / len(jobs):.0%})")
    gains = [job.improvement_pct for job in deployed if job.improvement_pct is not None]
    if gains:
        print(f"mean improvement of what was deployed: {mean(gains):+.2%}")
    durations = [duration.total_seconds() for job in jobs if (duration := taken(job)) is not None]
    print(f"mean time from start to end: {mean(durations):.1f} s")
    print(f"audit: {'every stream is whole' if not pipeline.verify_audit() else 'damaged'}")


def make_history(pipeline: AutoRetrainPipeline) -> None:
    """One job that is deployed, one that a person refuses, and one that is cancelled."""
    job_id = pipeline.start_retrain_job(AGENT)
    pipeline.deploy_if_better(AGENT, job_id)
    job_id = pipeline.start_retrain_job(AGENT, {"degree": 3})
    pipeline.wait(job_id)
    pipeline.reject(job_id, "the tubes are decoked next week")
    job_id = pipeline.start_retrain_job(AGENT)
    pipeline.cancel(job_id, "started by mistake")
    pipeline.wait(job_id)


def taken(job: RetrainingJob) -> timedelta | None:
    """How long a job took; ``None`` while it is open, and for one that never started a training."""
    if job.started_at is None or job.completed_at is None:
        return None
    return job.completed_at - job.started_at


def print_counts(title: str, counts: Counter[str]) -> None:
    print(f"{title}: {', '.join(f'{count} {name}' for name, count in counts.most_common())}")


if __name__ == "__main__":
    with project(__doc__, champions=[AGENT]) as directory:
        main(directory)
