"""Gives the model its first champion as any model gets it: a job by hand, and a person's approval.

It does so on the day before the line pressure was raised, so that there is a story to tell today. In
production leave out the clock, or use the command line: ``autoretrain start steam_traps --wait``, then
``autoretrain approve``.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from autoretrain import AutoRetrainPipeline

MODEL = "steam_traps"
DAYS_AGO = 46


def main() -> None:
    then = datetime.now(UTC) - timedelta(days=DAYS_AGO)
    pipeline = AutoRetrainPipeline(settings=Path(__file__).parent, clock=lambda: then)
    job_id = pipeline.start_retrain_job(MODEL, reason="the first model")
    validation = pipeline.validate_new_model(MODEL)
    print(f"fit to serve: {validation.verdict.answer.value}, {validation.verdict.reason}")
    print(", ".join(f"{name} {value:.3f}" for name, value in validation.metrics.items() if value is not None))
    pipeline.approve(job_id, "figures reviewed")
    print(pipeline.wait(job_id).outcome)


if __name__ == "__main__":
    main()
