"""Several models: who of GL-001 to GL-005 needs a retraining, who does not, and of whom it cannot be known.

Unknown is an answer of its own. GL-004 has no model and GL-005 no fresh data; neither is taken for healthy,
and neither starts a training.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fleet import AGENTS, project

from autoretrain import AutoRetrainPipeline


def main(directory: Path) -> None:
    pipeline = AutoRetrainPipeline(settings=directory)
    with ThreadPoolExecutor() as threads:
        verdicts = dict(zip(AGENTS, threads.map(pipeline.judge, AGENTS), strict=True))
    for agent, verdict in verdicts.items():
        print(f"{agent}  {verdict.answer.value:<8} {verdict.reason}")

    due = [agent for agent, verdict in verdicts.items() if verdict.is_yes]
    unclear = [agent for agent, verdict in verdicts.items() if verdict.is_unknown]
    print(f"due: {', '.join(due)}; for a person to look at: {', '.join(unclear)}")

    # `autoretrain run` does this by itself, hour by hour, and then promotes, or says why not.
    with ThreadPoolExecutor() as threads:
        jobs = [pipeline.start_retrain_job(agent, reason=verdicts[agent].reason) for agent in due]
        for job in threads.map(pipeline.wait, jobs):
            accuracy = job.validation.accuracy if job.validation else None
            print(f"{job.model_name}  job {job.job_id[:8]} {job.status.value}, accuracy {accuracy}")


if __name__ == "__main__":
    with project(__doc__) as directory:
        main(directory)
