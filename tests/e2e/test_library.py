"""What the library promises its callers, on ports in memory: only what a call returns and records matters."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from apscheduler.schedulers.background import BackgroundScheduler
from cli_project import until

from autoretrain import AutoRetrainPipeline, JobStatus, RetrainingTrigger, TriggerType
from autoretrain.domain.verdict import yes
from autoretrain.domain.world import Ports
from autoretrain.entrypoints.settings import Settings, parse_settings
from autoretrain.entrypoints.testing.simulated_world import Training, World, divide_at
from autoretrain.ports.errors import (
    ConfigurationError,
    JobAlreadyOpen,
    Refused,
    Temporary,
    UnknownJob,
    UnknownModel,
)

MODEL = "churn"


def settings_of(directory: Path, **model: Any) -> Settings:
    """Settings of two models that are watched by their accuracy over ten days."""
    shared = {
        "rule": "performance",
        "min_rows": 10,
        "min_holdout_rows": 10,
        "cooldown_hours": 1,
        "trigger": {"evaluation_window_days": 10, "training_window_days": 30},
        "training": {"command": ["train"]},
        **model,
    }
    return parse_settings({"models": {MODEL: shared, "fraud": shared}}, directory)


class Place:
    """A world in memory, and pipelines over it."""

    def __init__(self, directory: Path, **model: Any) -> None:
        self.settings = settings_of(directory, **model)
        self.world = World(self.settings.models)
        self.ports = self.world.ports()
        self.world.serve(MODEL, 0.6)
        self.world.metrics.set(MODEL, "accuracy", 0.97)

    def pipeline(self, actor: str = "ann", **more: Any) -> AutoRetrainPipeline:
        """One more instance of the library."""
        ports = {field.name: getattr(self.ports, field.name) for field in fields(Ports)}
        return AutoRetrainPipeline(
            settings=self.settings, clock=lambda: self.world.now, actor=actor, **{**ports, **more}
        )

    def kinds(self) -> list[str]:
        """Kinds of all entries of the model."""
        return [entry.kind for entry in self.world.ledger.read(MODEL)]

    @property
    def serving(self) -> str | None:
        """Version on the alias."""
        return self.world.registry.aliases.get(MODEL)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def pipeline(place: Place) -> AutoRetrainPipeline:
    return place.pipeline()


def triggered(place: Place, pipeline: AutoRetrainPipeline, boundary: float = 0.5) -> str:
    """Let the performance trigger open a job, and take it to its end; return its identity."""
    place.world.training[MODEL] = Training(boundary=boundary)
    place.world.metrics.set(MODEL, "accuracy", 0.8)
    pipeline.enrol()
    place.world.now += timedelta(hours=2)
    place.world.add_rows(MODEL)
    pipeline.tick()
    pipeline.release()
    place.world.metrics.set(MODEL, "accuracy", 0.97)
    return pipeline.list_recent_jobs(MODEL, limit=1)[0].job_id


class TestPeople:
    def test_two_of_them_deploy_together(self, tmp_path: Path) -> None:
        place = Place(tmp_path, promotion={"approvals": 2})
        place.world.training[MODEL] = Training(boundary=0.5)
        ann, bob = place.pipeline(), place.pipeline("bob")
        job_id = ann.start_retrain_job(MODEL)
        for _ in range(2):  # once more is no second person
            assert not ann.deploy_if_better(MODEL, job_id, min_improvement=0.01)
            assert ann.get_job_status(job_id).is_open
        assert bob.deploy_if_better(MODEL, job_id, min_improvement=0.02)  # each has their own minimum
        assert ann.deploy_if_better(MODEL, job_id, min_improvement=0.01)
        with pytest.raises(Refused, match=r"decided with a minimum of 0\.02, not 0\.01"):
            bob.deploy_if_better(MODEL, job_id, min_improvement=0.01)
        assert [approval.actor for approval in ann.get_job_status(job_id).approvals] == ["ann", "bob"]

    def test_a_newer_job_takes_the_place_of_one_that_waits(self, tmp_path: Path) -> None:
        place = Place(tmp_path, promotion={"pending": "supersede"})
        place.world.training[MODEL] = Training(boundary=0.5)
        pipeline = place.pipeline()
        first = pipeline.start_retrain_job(MODEL)
        place.world.metrics.set(MODEL, "accuracy", 0.8)
        held = pipeline.held_back(MODEL)
        assert held is not None
        assert held.reason == "cooldown"  # and no longer that a job is open
        second = pipeline.start_retrain_job(MODEL, reason="more rows")
        assert pipeline.get_job_status(first).outcome == f"superseded by job {second}: ann asked for it"
        assert pipeline.get_job_status(second).waits_for_person


class TestWhatHoldsBack:
    def test_nothing_does_while_nothing_is_wanted(self, pipeline: AutoRetrainPipeline) -> None:
        assert pipeline.held_back(MODEL) is None

    def test_is_told_with_its_end(self, place: Place, pipeline: AutoRetrainPipeline) -> None:
        triggered(place, pipeline)
        ended = place.world.now
        place.world.now += timedelta(minutes=30)
        place.world.add_rows(MODEL)
        place.world.metrics.set(MODEL, "accuracy", 0.8)
        held = pipeline.held_back(MODEL)
        assert held is not None
        assert (held.reason, held.until) == ("cooldown", ended + timedelta(hours=1))
        place.world.now += timedelta(hours=1)
        assert pipeline.held_back(MODEL) is None

    def test_an_open_job_is_a_reason(self, place: Place, pipeline: AutoRetrainPipeline) -> None:
        place.world.training[MODEL] = Training("hangs")
        pipeline.start_retrain_job(MODEL)
        place.world.metrics.set(MODEL, "accuracy", 0.8)
        held = pipeline.held_back(MODEL)
        assert held is not None
        assert held.reason == "open job"

    def test_a_budget_and_a_verdict_that_must_last(self, tmp_path: Path) -> None:
        place = Place(tmp_path, for_hours=3, max_jobs_a_day=1, cooldown_hours=0)
        pipeline = place.pipeline()
        place.world.metrics.set(MODEL, "accuracy", 0.8)
        held = pipeline.held_back(MODEL)
        assert held is not None
        assert (held.reason, held.until) == ("for", place.world.now + timedelta(hours=3))
        place.world.training[MODEL] = Training("fails")
        pipeline.wait(pipeline.start_retrain_job(MODEL))
        place.world.now += timedelta(minutes=1)
        held = pipeline.held_back(MODEL, yes("accuracy is low"))
        assert held is not None
        midnight = place.world.now.replace(hour=0, minute=0, second=0) + timedelta(days=1)
        assert (held.reason, held.until) == ("budget", midnight)


class TestJobs:
    def test_a_second_job_is_refused_with_the_identity_of_the_first(
        self, place: Place, pipeline: AutoRetrainPipeline
    ) -> None:
        place.world.training[MODEL] = Training("hangs")
        job_id = pipeline.start_retrain_job(MODEL)
        with pytest.raises(JobAlreadyOpen) as caught:
            pipeline.start_retrain_job(MODEL, {"depth": 4})
        assert caught.value.job_id == job_id
        assert place.kinds().count("request.start") == 1

    def test_threads_that_start_at_once_start_one_job(
        self, place: Place, pipeline: AutoRetrainPipeline
    ) -> None:
        place.world.training[MODEL] = Training("hangs")
        at_once = threading.Barrier(8)

        def start(_: int) -> str:
            at_once.wait(10)
            try:
                return pipeline.start_retrain_job(MODEL)
            except JobAlreadyOpen as error:
                return f"open: {error.job_id}"

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(start, range(8)))
        (started,) = [answer for answer in answers if not answer.startswith("open")]
        assert answers.count(f"open: {started}") == 7
        assert place.kinds().count("job.opened") == 1
        assert place.world.compute.started.total() == 1

    def test_two_instances_that_start_at_once_start_one_job(self, place: Place) -> None:
        place.world.training[MODEL] = Training("hangs")
        pipelines = [place.pipeline(), place.pipeline()]
        at_once = threading.Barrier(2)

        def start(pipeline: AutoRetrainPipeline) -> str | None:
            at_once.wait(10)
            try:
                return pipeline.start_retrain_job(MODEL)
            except JobAlreadyOpen:
                return None

        with ThreadPoolExecutor(2) as pool:
            started = [job for job in pool.map(start, pipelines) if job]
        assert len(started) == 1
        assert pipelines[0].get_job_status(started[0]).status is JobStatus.RUNNING
        assert place.world.compute.started.total() == 1

    def test_waiting_in_vain_is_temporary_and_the_job_goes_on(
        self, place: Place, pipeline: AutoRetrainPipeline
    ) -> None:
        place.world.training[MODEL] = Training("hangs")
        job_id = pipeline.start_retrain_job(MODEL)
        with pytest.raises(Temporary, match=rf"job {job_id} took longer than 0\.1 s; it goes on"):
            pipeline.wait(job_id, timeout=0.1)
        with pytest.raises(Temporary, match="it goes on"):
            pipeline.validate_new_model(MODEL, timeout=0.1)
        place.world.training[MODEL] = Training()
        assert pipeline.wait(job_id, timeout=10).awaiting_until is not None
        assert pipeline.validate_new_model(MODEL).is_valid

    def test_parameters_and_reason_are_recorded_and_reach_the_run(
        self, pipeline: AutoRetrainPipeline
    ) -> None:
        job_id = pipeline.start_retrain_job(MODEL, {"depth": 4}, reason="a new sensor")
        job = pipeline.get_job_status(job_id)
        assert (job.parameters, job.reason, job.trigger_type) == (
            {"depth": 4},
            "a new sensor",
            TriggerType.MANUAL,
        )

    def test_parameters_that_are_no_json_are_refused_before_anything_is_recorded(
        self, place: Place, pipeline: AutoRetrainPipeline
    ) -> None:
        with pytest.raises(ConfigurationError, match=r"training_config.*JSON"):
            pipeline.start_retrain_job(MODEL, {"optimizer": object()})
        assert "request.start" not in place.kinds()

    def test_an_unknown_model_is_named_beside_those_that_exist(self, pipeline: AutoRetrainPipeline) -> None:
        for call in (
            pipeline.check_retrain_needed,
            pipeline.start_retrain_job,
            pipeline.validate_new_model,
            pipeline.list_recent_jobs,
            pipeline.rollback,
        ):
            with pytest.raises(UnknownModel, match=r"no model 'chrun'.*there are: churn, fraud"):
                call("chrun")

    def test_an_unknown_job_is_named(self, pipeline: AutoRetrainPipeline) -> None:
        for call in (
            pipeline.get_job_status,
            pipeline.wait,
            pipeline.approve,
            pipeline.reject,
            pipeline.cancel,
            pipeline.explain,
        ):
            with pytest.raises(UnknownJob, match="no model has a job 4711"):
                call("4711")

    def test_without_a_job_there_is_no_validation(self, pipeline: AutoRetrainPipeline) -> None:
        with pytest.raises(Refused, match="no job yet"):
            pipeline.validate_new_model(MODEL)

    def test_a_failed_job_has_no_validation_and_says_why(
        self, place: Place, pipeline: AutoRetrainPipeline
    ) -> None:
        place.world.training[MODEL] = Training("fails")
        pipeline.start_retrain_job(MODEL)
        with pytest.raises(Refused, match=r"no validation: it is failed \(training failed: out of memory"):
            pipeline.validate_new_model(MODEL)

    def test_cancelling_ends_a_running_job(self, place: Place, pipeline: AutoRetrainPipeline) -> None:
        place.world.training[MODEL] = Training("hangs")
        job_id = pipeline.start_retrain_job(MODEL)
        pipeline.cancel(job_id, "a mistake")
        job = pipeline.wait(job_id, timeout=10)
        assert (job.status, job.error_message) == (JobStatus.CANCELLED, "cancelled by ann: a mistake")
        with pytest.raises(Refused, match="is cancelled; there is nothing to cancel"):
            pipeline.cancel(job_id)
        assert place.serving == "1"


class TestDeployment:
    def test_a_job_by_hand_is_deployed_when_it_is_better_and_told_again(
        self, place: Place, pipeline: AutoRetrainPipeline
    ) -> None:
        job_id = pipeline.start_retrain_job(MODEL)
        assert pipeline.deploy_if_better(MODEL, job_id, min_improvement=0.05)
        recorded = place.kinds()
        assert pipeline.deploy_if_better(MODEL, job_id, min_improvement=0.05)
        assert place.kinds() == recorded
        assert place.serving == "2"

    def test_another_minimum_is_refused_afterwards(self, pipeline: AutoRetrainPipeline) -> None:
        job_id = pipeline.start_retrain_job(MODEL)
        assert pipeline.deploy_if_better(MODEL, job_id, min_improvement=0.05)
        with pytest.raises(Refused, match=r"decided with a minimum of 0\.05, not 0\.01"):
            pipeline.deploy_if_better(MODEL, job_id, min_improvement=0.01)

    @pytest.mark.parametrize("minimum", [-0.01, float("nan"), float("inf")])
    def test_a_minimum_that_is_none_is_refused(self, pipeline: AutoRetrainPipeline, minimum: float) -> None:
        job_id = pipeline.start_retrain_job(MODEL)
        with pytest.raises(ConfigurationError, match=r"min_improvement = .*must be 0 or more"):
            pipeline.deploy_if_better(MODEL, job_id, min_improvement=minimum)
        with pytest.raises(ConfigurationError, match=r"min_improvement = .*must be 0 or more"):
            pipeline.approve(job_id, min_improvement=minimum)
        assert pipeline.wait(job_id, timeout=10).awaiting_until is not None

    def test_a_candidate_that_improves_too_little_is_not_deployed(
        self, place: Place, pipeline: AutoRetrainPipeline
    ) -> None:
        place.world.training[MODEL] = Training(boundary=0.58)
        job_id = pipeline.start_retrain_job(MODEL)
        assert not pipeline.deploy_if_better(MODEL, job_id, min_improvement=0.5)
        job = pipeline.get_job_status(job_id)
        assert job.status is JobStatus.COMPLETED
        assert "+50.00% asked for" in job.outcome
        assert place.serving == "1"

    def test_a_candidate_below_the_floor_is_not_deployed_whatever_is_asked_for(
        self, place: Place, pipeline: AutoRetrainPipeline
    ) -> None:
        place.world.training[MODEL] = Training(boundary=0.8)
        job_id = pipeline.start_retrain_job(MODEL)
        assert not pipeline.deploy_if_better(MODEL, job_id, min_improvement=0)
        assert "below the floor of 0.85" in pipeline.get_job_status(job_id).outcome

    def test_a_triggered_job_reports_its_own_decision(
        self, place: Place, pipeline: AutoRetrainPipeline
    ) -> None:
        promoted = triggered(place, pipeline)
        assert pipeline.deploy_if_better(MODEL, promoted, min_improvement=0.9)
        rejected = triggered(place, pipeline, boundary=0.62)
        assert not pipeline.deploy_if_better(MODEL, rejected, min_improvement=0)
        assert place.kinds().count("request.approve") == 0

    def test_a_job_of_another_model_is_unknown(self, pipeline: AutoRetrainPipeline) -> None:
        job_id = pipeline.start_retrain_job(MODEL)
        with pytest.raises(UnknownJob, match=f"fraud has no job {job_id}"):
            pipeline.deploy_if_better("fraud", job_id)

    def test_a_rejected_candidate_does_not_serve(self, place: Place, pipeline: AutoRetrainPipeline) -> None:
        job_id = pipeline.start_retrain_job(MODEL)
        pipeline.wait(job_id, timeout=10)
        pipeline.reject(job_id, "it looks odd")
        job = pipeline.get_job_status(job_id)
        assert (job.status, job.deployed) == (JobStatus.COMPLETED, False)
        assert "it looks odd" in job.outcome
        with pytest.raises(Refused, match="was rejected by ann already"):
            pipeline.approve(job_id)
        assert place.serving == "1"


class TestRollback:
    def test_the_earlier_version_serves_again_and_the_withdrawn_one_stays_away(
        self, place: Place, pipeline: AutoRetrainPipeline
    ) -> None:
        deployed = triggered(place, pipeline)
        assert place.serving == "2"
        assert pipeline.rollback(MODEL, "complaints") == "1"
        assert place.serving == "1"
        assert pipeline.get_job_status(deployed).rolled_back_at == place.world.now
        with pytest.raises(Refused, match="cannot go back"):
            pipeline.rollback(MODEL)

        again = triggered(place, pipeline)  # the same artefact, trained once more
        assert not pipeline.get_job_status(again).deployed
        assert place.serving == "1"

    def test_a_released_version_may_come_back(self, place: Place, pipeline: AutoRetrainPipeline) -> None:
        triggered(place, pipeline)
        pipeline.rollback(MODEL)
        with pytest.raises(Refused, match="version 9 of churn is not withdrawn; withdrawn: 2"):
            pipeline.release_version(MODEL, "9")
        pipeline.release_version(MODEL, "2", "it was the sensor")
        place.world.now += timedelta(days=15)  # holdout and training lie after the rollback
        place.world.add_rows(MODEL)
        job_id = triggered(place, pipeline)
        assert pipeline.get_job_status(job_id).deployed, pipeline.get_job_status(job_id).outcome

    def test_a_way_back_that_is_blocked_is_refused_with_the_reason(
        self, place: Place, pipeline: AutoRetrainPipeline
    ) -> None:
        triggered(place, pipeline)
        place.world.registry.tamper(place.world.registry.versions[MODEL][0], "f" * 64)
        with pytest.raises(Refused, match=r"not rolled back: .*version 1 cannot serve: .* was altered"):
            pipeline.rollback(MODEL)
        assert place.serving == "2"

    def test_a_foreign_champion_stops_jobs_until_it_is_adopted(
        self, place: Place, pipeline: AutoRetrainPipeline
    ) -> None:
        with pytest.raises(Refused, match="nothing to adopt"):
            pipeline.adopt_champion(MODEL)
        triggered(place, pipeline)
        foreign = place.world.registry.register(MODEL, divide_at(0.55), "e" * 64)
        place.world.move_alias(MODEL, foreign.version)
        before = len(pipeline.list_recent_jobs(MODEL))
        triggered(place, pipeline)
        assert len(pipeline.list_recent_jobs(MODEL)) == before
        assert place.serving == foreign.version

        pipeline.adopt_champion(MODEL, "ours, by hand")
        triggered(place, pipeline)
        assert len(pipeline.list_recent_jobs(MODEL)) == before + 1
        assert "champion.adopted" in place.kinds()[5:]


class TestViews:
    def test_jobs_are_listed_newest_first_up_to_a_limit(
        self, place: Place, pipeline: AutoRetrainPipeline
    ) -> None:
        made = [triggered(place, pipeline, boundary=0.58 + step / 100) for step in range(3)]
        newest = [job.job_id for job in pipeline.list_recent_jobs(MODEL)]
        assert newest == made[::-1]
        assert [job.job_id for job in pipeline.list_recent_jobs(MODEL, limit=2)] == made[:0:-1]
        assert pipeline.list_recent_jobs(MODEL, limit=0) == []
        assert pipeline.list_recent_jobs(MODEL, limit=-1) == []
        assert pipeline.list_recent_jobs("fraud") == []
        assert set(pipeline.job_history) == set(made)

    def test_a_job_is_explained_from_trigger_to_outcome(
        self, place: Place, pipeline: AutoRetrainPipeline
    ) -> None:
        story = pipeline.explain(triggered(place, pipeline))
        titles = [moment.title for moment in story]
        assert titles[0] == "Triggers looked at"
        assert titles[-1] == "Job completed"
        assert "accuracy 0.8000 is below the threshold of 0.92" in " ".join(story[0].details)
        assert pipeline.verify_audit() == []

    def test_all_that_is_wrong_with_a_trigger_is_said_at_once_and_nothing_is_changed(
        self, pipeline: AutoRetrainPipeline
    ) -> None:
        before = pipeline.config
        with pytest.raises(ConfigurationError) as caught:
            pipeline.configure_trigger(
                metric_threshold=1.2, drift_threshold=-1, schedule="every sunday", evaluation_window_days=0,
                training_window_days=800, time_zone="Mars/Olympus",
            )  # fmt: skip
        assert [problem.where for problem in caught.value.problems] == [
            "performance_metric_threshold",
            "drift_threshold",
            "schedule_expression",
            "evaluation_window_days",
            "training_window_days",
            "time_zone",
        ]
        assert pipeline.config == before

    def test_a_configured_trigger_counts_for_this_instance_only(self, place: Place) -> None:
        place.world.metrics.set(MODEL, "accuracy", 0.95)
        strict, lax = place.pipeline(), place.pipeline()
        strict.configure_trigger(metric_threshold=0.96)
        assert strict.check_retrain_needed(MODEL)
        assert not lax.check_retrain_needed(MODEL)

    def test_an_unknown_is_false_and_says_why(
        self, place: Place, pipeline: AutoRetrainPipeline, caplog: pytest.LogCaptureFixture
    ) -> None:
        place.world.metrics.set(MODEL, "accuracy", float("nan"))
        assert not pipeline.check_retrain_needed(MODEL)
        assert "whether to retrain is unknown: accuracy is unknown: the value is nan" in caplog.text

    def test_the_triggers_answer_for_themselves(self, place: Place) -> None:
        class Season(RetrainingTrigger):
            name = "season"

            def should_retrain(self, model_name: str) -> tuple[bool, str]:
                return model_name == MODEL, "the heating season begins"

            def get_trigger_type(self) -> TriggerType:
                return TriggerType.CUSTOM

        pipeline = place.pipeline(triggers=[Season()])
        performance, drift, schedule, manual, season = pipeline.triggers
        assert performance.should_retrain(MODEL) == (False, "accuracy 0.9700 is above the threshold of 0.92")
        assert drift.get_trigger_type() is TriggerType.DRIFT
        assert not schedule.should_retrain(MODEL)[0]
        assert manual.should_retrain(MODEL) == (False, "nobody has asked for a retraining")
        assert season.should_retrain(MODEL)[0]
        assert pipeline.check_retrain_needed(MODEL)
        with pytest.raises(Refused, match="no trigger named 'seasn'"):
            pipeline.judge(MODEL, trigger="seasn")


class TestScheduler:
    @pytest.fixture
    def scheduler(self) -> Iterator[BackgroundScheduler]:
        scheduler = BackgroundScheduler()
        scheduler.start()
        yield scheduler
        scheduler.shutdown()

    def test_an_applications_own_scheduler_finishes_a_job(
        self, place: Place, scheduler: BackgroundScheduler
    ) -> None:
        place.world.metrics.set(MODEL, "accuracy", 0.8)
        pipeline = place.pipeline()
        job = pipeline.attach(scheduler, seconds=0.05)
        jobs = until(lambda: [j for j in place.pipeline().list_recent_jobs(MODEL) if not j.is_open])
        assert jobs[0].deployed

        other = place.pipeline()
        place.world.training[MODEL] = Training(boundary=0.51)
        started = other.start_retrain_job(MODEL)  # the loop holds the lease, and does the work
        assert other.wait(started, timeout=20).awaiting_until is not None
        job.remove()
        pipeline.release()
        other.reject(started)
        assert other.get_job_status(started).status is JobStatus.COMPLETED
