"""Deployment decisions: what lets a candidate serve, and what keeps it out.

Three candidates of one agent meet the same rules: accuracy at or above the floor of 0.85, then an improvement
of F1 over the champion on the same rows.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fleet import project

from autoretrain import AutoRetrainPipeline
from autoretrain.ports.errors import Refused

AGENT = "GL-001"


def main(directory: Path) -> None:
    pipeline = AutoRetrainPipeline(settings=directory)

    print("1. A candidate that learnt next to nothing:")
    candidate(pipeline, {"C": 1e-7}, min_improvement=0.0)

    print("2. A good one:")
    job_id = candidate(pipeline, {"degree": 2}, min_improvement=0.05)

    print("3. The same answer again; the record stands, and another minimum is refused:")
    print(f"    {pipeline.deploy_if_better(AGENT, job_id, min_improvement=0.05)}")
    try:
        pipeline.deploy_if_better(AGENT, job_id, min_improvement=0.01)
    except Refused as refusal:
        print(f"    refused: {refusal}")

    print("4. Another one, as good as the new champion; 5 % better is asked for:")
    candidate(pipeline, {"degree": 3}, min_improvement=0.05)


def candidate(pipeline: AutoRetrainPipeline, parameters: Mapping[str, Any], min_improvement: float) -> str:
    """Train a candidate, and let it serve if it is better by so much."""
    job_id = pipeline.start_retrain_job(AGENT, parameters)
    deployed = pipeline.deploy_if_better(AGENT, job_id, min_improvement)
    job = pipeline.get_job_status(job_id)
    print(f"    {'deployed' if deployed else 'not deployed'}: {job.outcome}")
    if job.improvement_pct is not None:
        print(f"    improvement {job.improvement_pct:+.2%}")
    return job_id


if __name__ == "__main__":
    with project(__doc__, champions=[AGENT]) as directory:
        main(directory)
