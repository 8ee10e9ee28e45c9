"""Basic setup: the default configuration, three triggers, one question, one retraining."""

from pathlib import Path

from fleet import project

from autoretrain import AutoRetrainPipeline, TriggerConfig

AGENT = "GL-001"


def main(directory: Path) -> None:
    print("Defaults of a trigger configuration:")
    for name, value in TriggerConfig().model_dump().items():
        print(f"    {name} = {value!r}")

    # Fields set here override the settings file, for this instance; what is left out stays as the file says.
    pipeline = AutoRetrainPipeline(TriggerConfig(), settings=directory)
    pipeline.configure_trigger(
        metric_threshold=0.92,  # lowest acceptable accuracy
        drift_threshold=0.25,  # largest acceptable PSI
        schedule="0 0 * * 0",  # weekly
    )
    if not pipeline.check_retrain_needed(AGENT):
        print(f"{AGENT}: no retraining is due")
        return
    print(f"{AGENT}: {pipeline.judge(AGENT).reason}")
    job_id = pipeline.start_retrain_job(AGENT, {"degree": 2})
    validation = pipeline.validate_new_model(AGENT)
    print(f"Job {job_id[:8]}: valid {validation.is_valid}, accuracy {validation.accuracy:.4f}")
    deployed = pipeline.deploy_if_better(AGENT, job_id, min_improvement=0.05)
    print(f"Promoted: {deployed} ({pipeline.get_job_status(job_id).outcome})")


if __name__ == "__main__":
    with project(__doc__, champions=[AGENT]) as directory:
        main(directory)
