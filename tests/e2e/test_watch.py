"""The watch with real parts: a promoted version whose live metric falls, or goes missing."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from cli_project import Project as CliProject
from cli_project import entries_of, environment, kinds, until
from live_model import LiveModel, exporting
from project_kit import MODEL, NOW, Project, table, told, tree
from prometheus_server import backfill, serving

from autoretrain import AutoRetrainPipeline
from autoretrain.adapters.mlflow_client import MlflowConnection
from autoretrain.ports.notifier import Notice

DAY = timedelta(days=1)

_WATCH = """
[models.boiler.watch]
days = 7
deadline_days = 10
on_unknown = "{policy}"
baseline = "{baseline}"
"""

_PROMETHEUS = """
[adapters]
metrics = "prometheus"

[prometheus]
url = "{url}"
step_seconds = 3600
queries.accuracy.expression = 'model_accuracy{{model=~"$models"}}'
"""


class Told:
    """A receiver of notices that keeps them."""

    def __init__(self) -> None:
        self.notices: list[Notice] = []

    def send(self, notice: Notice) -> None:
        self.notices.append(notice)

    def send_digest(self, digest: object) -> None:
        raise AssertionError("a digest is for a backlog, and there is none")


def history(accuracy: Callable[[float], float | None], days: int = 14) -> str:
    """What Prometheus has scraped since the promotion, every hour: the accuracy by days since then."""
    lines = ["# TYPE model_accuracy gauge"]
    for hour in range(days * 24):
        value = accuracy(hour / 24)
        if value is not None:
            at = (NOW + timedelta(hours=hour)).timestamp()
            lines.append(f'model_accuracy{{model="{MODEL}"}} {value + 0.002 * (hour % 7 - 3):.4f} {at:.0f}')
    return "\n".join([*lines, "# EOF"]) + "\n"


@contextmanager
def scraped(folder: Path, accuracy: Callable[[float], float | None]) -> Iterator[str]:
    """A Prometheus with that history; its address."""
    folder.mkdir()
    with serving(backfill(folder, history(accuracy))) as server:
        yield server.url


def promoted(directory: Path, more: str, *, policy: str = "page", baseline: str = "validated") -> Project:
    """A project in which a person has just promoted version 2 in the place of version 1."""
    project = Project.create(directory, more=more)
    project.edit('rule = "performance"', 'rule = "manual"')
    file = directory / "autoretrain.toml"
    file.write_text(file.read_text() + _WATCH.format(policy=policy, baseline=baseline))
    return project


def promote(project: Project, pipeline: AutoRetrainPipeline) -> str:
    """Version 1 divides at 58, version 2 where the truth is."""
    project.serve(pipeline, tree(58))
    job_id = pipeline.start_retrain_job(MODEL)
    project.log(pipeline, job_id, tree())
    pipeline.wait(job_id, 120)
    assert pipeline.deploy_if_better(MODEL, job_id)
    return job_id


def serving_on(pipeline: AutoRetrainPipeline) -> str:
    """The alias, asked of MLflow itself."""
    client = MlflowConnection(pipeline.settings.tracking_uri).client
    return str(client.get_model_version_by_alias(MODEL, "champion").version)


def live(project: Project, pipeline: AutoRetrainPipeline, days: int) -> None:
    """Look every six hours."""
    for _ in range(days * 4):
        project.now += timedelta(hours=6)
        pipeline.tick()


def scored(project: Project, pipeline: AutoRetrainPipeline, day: int) -> bool:
    """Make a turn; whether so many days are compared, or it is over."""
    project.now += timedelta(seconds=2)
    pipeline.tick()
    return len(told(pipeline, "watch.batch")) >= day or bool(told(pipeline, "watch.ended"))


def cli(project: Project, *words: str) -> str:
    command = [sys.executable, "-m", "autoretrain.entrypoints.cli.main", *words]
    done = subprocess.run(
        command, cwd=project.directory, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.service
def test_a_live_metric_that_falls_takes_the_version_back(tmp_path: Path) -> None:
    with scraped(tmp_path / "prometheus", lambda day: 0.99 if day < 1 else 0.80) as url:
        project, receiver = promoted(tmp_path / "project", _PROMETHEUS.format(url=url)), Told()
        pipeline = project.pipeline(notifier=receiver)
        job_id = promote(project, pipeline)
        live(project, pipeline, 1)
        assert "accuracy, 1 of 7 batches of 1 day" in cli(project, "show", MODEL)
        assert serving_on(pipeline) == "2"
        live(project, pipeline, 6)

    assert serving_on(pipeline) == "1"
    (ended,), (done,) = told(pipeline, "watch.ended"), told(pipeline, "rollback.done")
    assert ended["outcome"] == "harm"
    assert (done["who"], done["target"]["version"], done["withdrawn"]) == ("watch", "1", "2")
    events = [notice.event for notice in receiver.notices]
    assert events[-2:] == ["watch_ended", "rolled_back"]
    assert "Withdrawn" in cli(project, "show", MODEL)
    story = cli(project, "show", job_id)
    for part in ("Watched for 7 days", "Watch ended: harm", "Rolled back to version 1"):
        assert part in story
    assert pipeline.verify_audit() == []
    live(project, pipeline, 7)
    assert serving_on(pipeline) == "1"
    assert len(told(pipeline, "watch.begun")) == 1
    pipeline.release()


@pytest.mark.service
@pytest.mark.parametrize(
    ("policy", "serves"), [pytest.param("page", "2", marks=pytest.mark.slow), ("rollback", "1")]
)
def test_a_live_metric_that_goes_missing_is_never_good(tmp_path: Path, policy: str, serves: str) -> None:
    with scraped(tmp_path / "prometheus", lambda day: 0.99 if day < 2 else None) as url:
        more = _PROMETHEUS.format(url=url)
        project, receiver = promoted(tmp_path / "project", more, policy=policy), Told()
        pipeline = project.pipeline(notifier=receiver)
        promote(project, pipeline)
        live(project, pipeline, 5)
        assert "paused: Prometheus has no sample in the window" in cli(project, "show", MODEL)
        assert serving_on(pipeline) == "2"
        live(project, pipeline, 6)

    assert serving_on(pipeline) == serves
    (ended,) = told(pipeline, "watch.ended")
    assert ended["outcome"] == "unknown"
    assert ended["reason"].startswith("2 of 7 batches were known after 10 days")
    last = {notice.event: notice.severity for notice in receiver.notices}
    assert last["watch_paused"] == "warning"
    assert last["watch_ended"] == ("critical" if policy == "page" else "warning")
    pipeline.release()


@pytest.mark.service
@pytest.mark.slow
def test_a_controller_that_runs_takes_it_back_by_itself(tmp_path: Path) -> None:
    """Every command as a user types it, against the clock: batches of two seconds, scraped as they happen."""
    (tmp_path / "prometheus").mkdir()
    (tmp_path / "project").mkdir()
    with (
        exporting(LiveModel(MODEL, accuracy=0.99)) as model,
        serving(tmp_path / "prometheus" / "data", targets={"boilers": model.target}) as server,
    ):
        project = CliProject.create(tmp_path / "project")
        file, second = project.directory / "autoretrain.toml", 1 / 86400
        settings = file.read_text().replace('"performance"', '"manual"\ncheck_every_seconds = 1')
        watch = f"days = {120 * second}\nbatch_days = {2 * second}\ntolerance = 0.05\n"
        head = _PROMETHEUS.format(url=server.url).replace("3600", "0.5")
        file.write_text(f"{head}{settings}\n[models.boiler.watch]\n{watch}")
        controller = project.spawn("run")
        try:
            for number, depth in enumerate((2, 5), start=1):
                job = project.ask("start", MODEL, "--param", f"depth={depth}")
                until(lambda count=number: kinds(project).count("approval.awaited") == count, 180)  # type: ignore[misc]
                assert f"version {number} promoted" in project.ask("approve", job)
            until(lambda: "watch.batch" in kinds(project)[-3:])
            assert "tolerated; until" in project.ask("show", MODEL)
            model.accuracy = 0.6
            until(lambda: "rollback.done" in kinds(project), 120)
        finally:
            controller.terminate()
            controller.wait(60)
        assert "Champion         version 1" in project.ask("show", MODEL)
        at = {entry.kind: entry.at for entry in entries_of(project)}
        assert at["watch.ended"] == at["request.rollback"] == at["rollback.done"]


@pytest.mark.slow
def test_labels_that_show_the_version_before_to_be_better_take_the_new_one_back(tmp_path: Path) -> None:
    """Re-scored metrics: both versions predict every day's labelled rows, of a truth that has moved."""
    project = promoted(tmp_path / "project", "", baseline="previous")
    pipeline = project.pipeline()
    promote(project, pipeline)
    hours = 8 * 24
    later = table(hot=lambda hour: int((hour * 37) % 100 > 58)).splitlines()[1 : hours + 1]
    rows = [
        f"{NOW + timedelta(hours=at):%Y-%m-%dT%H:%M:%S},{line.split(',', 1)[1]}"
        for at, line in enumerate(later)
    ]
    file = project.directory / "rows.csv"
    file.write_text(file.read_text() + "\n".join(rows) + "\n")
    for day in range(1, 9):
        project.now = NOW + day * DAY
        until(lambda day=day: scored(project, pipeline, day))  # type: ignore[misc]
    assert serving_on(pipeline) == "1"
    (done,) = told(pipeline, "rollback.done")
    assert "worse than version 1" in done["why"]
    pipeline.release()
