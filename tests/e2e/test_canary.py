"""A canary from the gate to its end: a real project, a router, a program that serves, and its requests."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from nginx_server import Nginx
from project_kit import MODEL, Project, ended, told, tree
from serving_app import Measured, ServingApp, serving_app

from autoretrain import AutoRetrainPipeline, JobStatus, RetrainingJob
from autoretrain.adapters.memory import MemoryNotifier
from autoretrain.adapters.mlflow_client import MlflowConnection
from autoretrain.adapters.router_hash import HashRouter
from autoretrain.domain.fold import fold
from autoretrain.domain.state import ModelState
from autoretrain.entrypoints.cli.context import Invocation
from autoretrain.entrypoints.cli.main import cli
from autoretrain.entrypoints.service import is_at_rest
from autoretrain.entrypoints.settings import parse_settings
from autoretrain.entrypoints.settings_canary import canary_problems
from autoretrain.ports.errors import ConfigurationError
from autoretrain.ports.traffic import Split

from services import ROOT

MINUTE = timedelta(minutes=1)

CANARY = """
[models.boiler.canary]
candidate = "accuracy_candidate"
baseline = "accuracy_champion"
direction = "up"
tolerance = 0.02
batch_minutes = 10
lag_minutes = 1
deadline_minutes = 120

[[models.boiler.canary.steps]]
kind = "shadow"
weight = 1.0
minutes = 20
samples = 100

[[models.boiler.canary.steps]]
weight = 0.2
minutes = 40
samples = 100

[[models.boiler.canary.steps]]
weight = 0.5
minutes = 40
samples = 300
"""
HASH = '[traffic]\nrouter = "hash"\n'


@dataclass
class Trial:
    """A project whose candidate has passed the gate, and the requests of its users."""

    project: Project
    pipeline: AutoRetrainPipeline
    notifier: MemoryNotifier
    measured: Measured
    send: Callable[[], object]
    job_id: str = ""

    def approve(self) -> None:
        """Train a candidate by hand, and let it pass."""
        self.project.serve(self.pipeline, tree(45))
        self.job_id = self.pipeline.start_retrain_job(MODEL)
        self.project.log(self.pipeline, self.job_id, tree(50))
        assert ended(self.pipeline, self.job_id).awaiting_until is not None
        self.pipeline.approve(self.job_id, "looks fine")

    def goes_on(self, minutes: int) -> None:
        """Requests come, and the controller looks, minute by minute in steps of five."""
        for _ in range(minutes // 5):
            self.send()
            self.project.now += 5 * MINUTE
            self.pipeline.tick()

    def until(self, done: Callable[[RetrainingJob], bool], minutes: int = 600) -> RetrainingJob:
        """Let it go on until the job is so."""
        for _ in range(minutes // 5):
            if done(self.job):
                return self.job
            self.goes_on(5)
        raise AssertionError(f"not within {minutes} minutes: {self.job}")

    @property
    def job(self) -> RetrainingJob:
        return self.pipeline.get_job_status(self.job_id)

    @property
    def state(self) -> ModelState:
        return fold(MODEL, self.pipeline.ports.ledger.read(MODEL))

    @property
    def events(self) -> list[str]:
        return [notice.event for notice in self.notifier.sent]

    @property
    def alias(self) -> str:
        found = self.pipeline.ports.registry.champions([MODEL])
        return found[MODEL].version

    def show(self) -> str:
        """What ``autoretrain show`` prints of the job."""
        file = str(self.project.directory / "autoretrain.toml")
        done = CliRunner().invoke(
            cli, ["--settings", file, "show", self.job_id], obj=Invocation(), catch_exceptions=False
        )
        assert done.exit_code == 0, done.output
        return done.output


def created(directory: Path, more: str) -> Project:
    project = Project.create(directory, more=more)
    file = directory / "autoretrain.toml"
    file.write_text(file.read_text() + CANARY)
    return project


@pytest.fixture
def hashed(tmp_path: Path) -> Iterator[tuple[Trial, ServingApp]]:
    project = created(tmp_path, HASH)
    split = HashRouter(tmp_path / "traffic").path(MODEL)
    with serving_app(split, lambda: project.now) as app:
        notifier = MemoryNotifier()
        pipeline = project.pipeline(metrics=app.measured, notifier=notifier)
        users = [f"user-{number}" for number in range(200)]
        trial = Trial(project, pipeline, notifier, app.measured, lambda: app.ask(users))
        trial.approve()
        yield trial, app


def arms_of(app: ServingApp) -> dict[str, str]:
    """Which version answers each of some users now."""
    users = [f"user-{number}" for number in range(300)]
    return dict(zip(users, (said["version"] for said in app.ask(users)), strict=True))


def is_at(job: RetrainingJob, number: int) -> bool:
    """Whether a step of its canary is in force."""
    return job.canary is not None and job.canary.number == number and job.canary.since is not None


class TestInAServingProgram:
    def test_a_good_candidate_goes_up_the_steps_and_is_promoted(
        self, hashed: tuple[Trial, ServingApp]
    ) -> None:
        trial, app = hashed
        trial.until(lambda job: is_at(job, 0))
        assert set(arms_of(app).values()) == {"1"}  # in the shadow nobody sees the candidate
        assert "canary: step 1 of 3, 100 % in the shadow; since" in trial.show()
        assert is_at_rest(trial.state)  # a loop that ends when nothing moves need not wait for hours
        trial.until(lambda job: is_at(job, 1))
        first = {user for user, version in arms_of(app).items() if version == "2"}
        trial.until(lambda job: is_at(job, 2))
        second = {user for user, version in arms_of(app).items() if version == "2"}
        assert first < second  # whoever has the candidate keeps it
        assert (0.1 < len(first) / 300 < 0.3, 0.4 < len(second) / 300 < 0.6) == (True, True)
        job = trial.until(lambda job: not job.is_open)
        assert (job.status, job.deployed, trial.alias) == (JobStatus.COMPLETED, True, "2")
        assert set(arms_of(app).values()) == {"champion"}  # the alias serves everybody
        assert trial.events.count("canary_step") == 3
        assert trial.events[-2:] == ["deployed", "completed"]
        story = trial.show()
        for said in (
            "Canary begun, 3 steps",
            "Canary step 3 of 3 is in force",
            "Canary passed",
            "with the champion",
        ):
            assert said in story
        assert trial.pipeline.verify_audit() == []

    def test_a_bad_one_is_aborted_and_nobody_sees_it_any_more(self, hashed: tuple[Trial, ServingApp]) -> None:
        trial, app = hashed
        trial.until(lambda job: is_at(job, 1))
        trial.measured.quality["candidate"] = 0.7
        job = trial.until(lambda job: not job.is_open)
        assert (job.status, job.deployed, trial.alias) == (JobStatus.COMPLETED, False, "1")
        assert job.outcome.startswith("harm is shown in step")
        assert set(arms_of(app).values()) == {"champion"}
        assert "canary_aborted" in trial.events
        assert list(trial.state.quarantined.values()) == ["2"]
        assert "Canary aborted" in trial.show()

    @pytest.mark.slow
    def test_measures_that_go_missing_hold_it_and_end_it_at_the_deadline(
        self, hashed: tuple[Trial, ServingApp]
    ) -> None:
        trial, _ = hashed
        trial.until(lambda job: is_at(job, 1))
        trial.send = lambda: None
        trial.goes_on(60)
        assert trial.job.canary is not None
        assert trial.job.canary.held == "unknown"
        assert "canary_held" in trial.events
        assert "held until" in trial.show()
        job = trial.until(lambda job: not job.is_open)
        assert "did not come to an end in time" in job.outcome
        assert trial.pipeline.ports.router is not None
        assert trial.pipeline.ports.router.in_force(MODEL) is None
        assert not trial.state.quarantined

    @pytest.mark.slow
    def test_a_split_changed_by_hand_halts_it_and_stays(self, hashed: tuple[Trial, ServingApp]) -> None:
        trial, _ = hashed
        trial.until(lambda job: is_at(job, 1))
        router = trial.pipeline.ports.router
        assert router is not None
        ours = router.in_force(MODEL)
        theirs = Split(MODEL, "1", "2", 0.9, salt="by hand")
        router.apply(theirs, ours)
        trial.goes_on(30)
        assert router.in_force(MODEL) == theirs
        assert [one["found"] for one in told(trial.pipeline, "canary.conflict")] == [str(theirs)]
        assert trial.events.count("canary_conflict") == 1
        trial.pipeline.cancel(trial.job_id, "we try something else")
        assert trial.job.status is JobStatus.CANCELLED
        assert router.in_force(MODEL) == theirs

    @pytest.mark.slow
    def test_a_person_ends_it(self, hashed: tuple[Trial, ServingApp]) -> None:
        trial, app = hashed
        trial.until(lambda job: is_at(job, 1))
        trial.pipeline.reject(trial.job_id, "complaints")
        assert (trial.job.status, trial.job.outcome) == (JobStatus.COMPLETED, "rejected by ann: complaints")
        assert set(arms_of(app).values()) == {"champion"}


@pytest.mark.service
def test_behind_nginx(tmp_path: Path) -> None:
    (tmp_path / "nginx").mkdir()
    nginx = Nginx(tmp_path / "nginx", models=("boiler", "pump"))
    more = f"""
[traffic]
router = "nginx"
folder = "{nginx.folder / "splits"}"
check = {[*nginx.command, "-T"]}
reload = {nginx.reload_that_waits()}

[traffic.models.boiler]
champion = "boiler"
candidate = "boiler-{{version}}"
key = "$http_x_user"
variable = "autoretrain_boiler"
"""
    project = created(tmp_path, more)
    project.edit(
        '[[models.boiler.canary.steps]]\nkind = "shadow"\nweight = 1.0\nminutes = 20\nsamples = 100\n', ""
    )
    measured, notifier = Measured(lambda: project.now), MemoryNotifier()

    def send() -> None:
        for number in range(150):
            measured.note(nginx.ask(f"user-{number}"))

    nginx.start()
    try:
        pipeline = project.pipeline(metrics=measured, notifier=notifier)
        trial = Trial(project, pipeline, notifier, measured, send)
        older_versions(trial)
        trial.approve()
        job = trial.until(lambda job: not job.is_open)
        assert (job.deployed, trial.alias) == (True, "4")
        assert measured.answers[-1][1] in ("champion", "candidate")
        assert {nginx.ask(f"user-{number}") for number in range(50)} == {"champion"}
    finally:
        nginx.stop()


def older_versions(trial: Trial) -> None:
    """Let the candidate be version 4, for which nginx has an upstream."""
    serve = trial.project.serve

    def serve_with_older(pipeline: AutoRetrainPipeline, model: object) -> None:
        serve(pipeline, model)
        client = MlflowConnection(pipeline.settings.tracking_uri).client
        for _ in range(2):
            client.create_model_version(MODEL, str(trial.project.directory / "champion"))

    trial.project.serve = serve_with_older  # type: ignore[method-assign]


def test_what_a_canary_cannot_do_without_is_told_at_once(tmp_path: Path) -> None:
    project = created(tmp_path, "")
    with pytest.raises(ConfigurationError) as caught:
        project.pipeline()
    assert [problem.where for problem in caught.value.problems] == ["traffic.router", "adapters.metrics"]


def test_queries_that_a_canary_needs_are_told_at_once(tmp_path: Path) -> None:
    more = """
adapters.metrics = "prometheus"
[prometheus]
step_seconds = 300
[prometheus.queries.accuracy]
expression = "a"
[prometheus.queries.accuracy_champion]
expression = "b"
"""
    project = created(tmp_path, more + HASH)
    with pytest.raises(ConfigurationError) as caught:
        project.pipeline()
    assert {problem.where for problem in caught.value.problems} == {
        "prometheus.queries.accuracy_candidate",
        "prometheus.queries.accuracy_champion.count",
        "models.boiler.canary.lag_minutes",
    }


def test_the_settings_of_the_page_can_be_used(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "canary.md").read_text(encoding="utf-8")
    [block] = [one for one in re.findall(r"```toml\n(.*?)```", page, flags=re.DOTALL) if "canary" in one]
    settings = parse_settings({**tomllib.loads(block), "traffic": {"router": "hash"}}, tmp_path)
    assert list(canary_problems(settings, ())) == []
    plan = settings.models["boiler"].canary.plan
    assert [(step.weight, step.shadow) for step in plan.steps] == [(1.0, True), (0.05, False), (0.5, False)]
