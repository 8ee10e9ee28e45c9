"""Error handling: what can go wrong, what it looks like, and that nothing of it is read as good.

Every error of this package is a ``Temporary`` (the same call may succeed later) or a ``Permanent``
(somebody has to change something). A training that fails is no error of the caller: the job says so.
"""

import socket
from pathlib import Path

from fleet import project

from autoretrain import AutoRetrainPipeline
from autoretrain.ports.errors import ConfigurationError, JobAlreadyOpen, UnknownJob, UnknownModel

AGENT = "GL-001"


def main(directory: Path) -> None:
    settings_that_cannot_be_used(directory)
    pipeline = AutoRetrainPipeline(settings=directory)
    names_that_do_not_exist(pipeline)
    a_training_that_fails(pipeline)
    prometheus_is_away(directory)


def settings_that_cannot_be_used(directory: Path) -> None:
    print("Settings that cannot be used; every problem at once:")
    text = (directory / "autoretrain.toml").read_text(encoding="utf-8")
    broken = directory / "broken.toml"
    broken.write_text(
        text.replace("drift_threshold = 0.25", "drift_threshold = 25")
        .replace('"0 0 * * 0"', '"every Sunday"')
        .replace("holdout_days = 7", "holdout_day = 7"),
        encoding="utf-8",
    )
    try:
        AutoRetrainPipeline(settings=broken)
    except ConfigurationError as error:
        of_this_agent = [problem for problem in error.problems if AGENT in problem.where]
        for problem in of_this_agent:
            print(f"    {problem}")
        print(f"    ({len(error.problems)} problems in all, since [defaults] is laid under five models)")


def names_that_do_not_exist(pipeline: AutoRetrainPipeline) -> None:
    print("Names that do not exist:")
    for ask, name in ((pipeline.list_recent_jobs, "GL-999"), (pipeline.get_job_status, "no-such-job")):
        try:
            ask(name)
        except (UnknownModel, UnknownJob) as error:
            print(f"    {type(error).__name__}: {error}")


def a_training_that_fails(pipeline: AutoRetrainPipeline) -> None:
    print("A job too many, and a training that fails:")
    job_id = pipeline.start_retrain_job(AGENT, {"degree": "two"})
    try:
        pipeline.start_retrain_job(AGENT)
    except JobAlreadyOpen as error:
        print(f"    {type(error).__name__}: {error}; it is the one just started: {error.job_id == job_id}")
    job = pipeline.wait(job_id)
    print(f"    {job.status.value}: {job.error_message}")


def prometheus_is_away(directory: Path) -> None:
    print("Prometheus is away:")
    text = (directory / "autoretrain.toml").read_text(encoding="utf-8")
    settings = directory / "prometheus.toml"
    settings.write_text(
        text.replace('"rescoring"', '"prometheus"')
        + f'\n[prometheus]\nurl = "http://127.0.0.1:{unused_port()}"\ntimeout_seconds = 2\n'
        + "queries.accuracy = { expression = 'model_accuracy{model=~\"$models\"}' }\n",
        encoding="utf-8",
    )
    pipeline = AutoRetrainPipeline(settings=settings)
    verdict = pipeline.judge(AGENT)
    print(f"    {verdict.answer.value}: {verdict.reason}")
    print(f"    retrain? {pipeline.check_retrain_needed(AGENT)}: unknown is no yes, and starts nothing")


def unused_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


if __name__ == "__main__":
    with project(__doc__, champions=[AGENT]) as directory:
        main(directory)
