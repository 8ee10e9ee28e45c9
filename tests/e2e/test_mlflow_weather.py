"""People and accidents in a real MLflow: a conflict stops, the way back goes to what can serve, or halts."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from mlflow_store import log_payload
from project_kit import MODEL, Project, ended, told, tree

from autoretrain import AutoRetrainPipeline, JobStatus
from autoretrain.adapters.memory import MemoryMetrics
from autoretrain.adapters.mlflow_client import MlflowConnection
from autoretrain.adapters.registry_mlflow import MlflowRegistry
from autoretrain.ports.errors import Refused
from autoretrain.ports.registry import ModelVersion


class Place:
    """A project whose MLflow a person can reach into."""

    def __init__(self, directory: Path, registry: Any = None, more: str = "") -> None:
        self.project = Project.create(directory)
        if more:
            self.project.edit("[models.boiler]\n", f"[models.boiler]\n{more}\n")
        own = {} if registry is None else {"registry": registry}
        self.pipeline: AutoRetrainPipeline = self.project.pipeline(metrics=MemoryMetrics(), **own)
        self.uri = self.pipeline.settings.tracking_uri
        self.client = MlflowConnection(self.uri).client
        self.pipeline.enrol()

    def serve(self, payload: bytes) -> str:
        """Let a person register a version, and move the alias to it."""
        number = len(self.client.search_model_versions(f"name = '{MODEL}'")) + 1
        if not self.client.search_registered_models():
            self.client.create_registered_model(MODEL)
        folder = self.project.directory / f"theirs-{number}"
        folder.mkdir()
        (folder / "model.bin").write_bytes(payload)
        version = str(self.client.create_model_version(MODEL, str(folder)).version)
        self.alias(version)
        return version

    def alias(self, version: str) -> None:
        """Let a person move the alias."""
        self.client.set_registered_model_alias(MODEL, "champion", version)

    def look(self) -> None:
        """Let the loop turn at the next regular look."""
        self.project.now += timedelta(hours=1)
        self.pipeline.tick()

    @property
    def serving(self) -> str | None:
        """Where the alias is, asked of MLflow itself."""
        aliases = self.client.get_registered_model(MODEL).aliases
        return str(aliases["champion"]) if "champion" in aliases else None

    def events(self) -> list[str]:
        """Events of all notices so far, in order."""
        outbox = self.pipeline.ports.outbox
        assert not outbox.dead_letters()
        return [notice["event"] for notice in _notices(self.project)]


def _notices(project: Project) -> list[dict[str, Any]]:
    connection = sqlite3.connect(project.directory / ".autoretrain" / "ledger.db")
    try:
        rows = connection.execute("SELECT event, severity, body FROM outbox ORDER BY position").fetchall()
    finally:
        connection.close()
    return [dict(zip(("event", "severity", "body"), row, strict=True)) for row in rows]


# -- the way back -------------------------------------------------------------------------------------------


@pytest.fixture
def served(tmp_path: Path) -> Place:
    """Versions 1, 2, 3 and 4 have served; 4 serves."""
    place = Place(tmp_path, more='promotion.on_conflict = "adopt"')
    for payload in (b"one", b"two", b"three", b"four"):
        place.serve(payload)
        place.look()
    assert place.serving == "4"
    return place


def deleted(place: Place, version: str) -> None:
    place.client.delete_model_version(MODEL, version)


def missing(place: Place, version: str) -> None:
    shutil.rmtree(place.project.directory / f"theirs-{version}")


def altered(place: Place, version: str) -> None:
    (place.project.directory / f"theirs-{version}" / "model.bin").write_bytes(b"another")


@pytest.mark.parametrize(
    ("accident", "says"),
    [(deleted, "version=3) not found"), (missing, "is missing or empty"), (altered, "was altered")],
    ids=["deleted", "missing", "altered"],
)
def test_a_rollback_takes_the_next_version_that_can_serve(
    served: Place, accident: Callable[[Place, str], None], says: str
) -> None:
    accident(served, "3")
    assert served.pipeline.rollback(MODEL, "worse at night") == "2"
    assert served.serving == "2"
    (skipped,) = told(served.pipeline, "rollback.skipped")
    assert skipped["version"]["version"] == "3"
    assert says in skipped["reason"]
    (done,) = told(served.pipeline, "rollback.done")
    assert (done["target"]["version"], done["withdrawn"], done["why"]) == ("2", "4", "worse at night")
    served.look()
    assert told(served.pipeline, "champion.conflict") == []


def test_a_rollback_without_a_version_that_can_serve_halts_and_pages(served: Place) -> None:
    deleted(served, "3")
    altered(served, "2")
    missing(served, "1")
    with pytest.raises(Refused, match="no earlier version that served is left") as caught:
        served.pipeline.rollback(MODEL)
    for part in ("version 3 cannot serve: ", "version 2 cannot serve: ", "version 1 cannot serve: "):
        assert part in str(caught.value)
    assert served.serving == "4"
    last = _notices(served.project)[-1]
    assert (last["event"], last["severity"]) == ("rollback_failed", "critical")
    assert "version 2 cannot serve" in last["body"]
    served.look()
    assert served.serving == "4"
    assert told(served.pipeline, "champion.conflict") == []
    assert served.pipeline.verify_audit() == []


def test_a_version_that_a_person_named_is_not_replaced_by_another(served: Place) -> None:
    altered(served, "2")
    with pytest.raises(Refused, match=r"version 2 cannot serve: .* was altered"):
        served.pipeline.rollback(MODEL, to="2")
    assert served.serving == "4"
    assert served.pipeline.rollback(MODEL) == "3"


def test_a_champion_whose_version_was_deleted_is_told_and_a_rollback_lets_the_last_one_serve(
    tmp_path: Path,
) -> None:
    place = Place(tmp_path, more='promotion.on_conflict = "adopt"')
    for payload in (b"one", b"two"):
        place.serve(payload)
        place.look()
    deleted(place, "2")  # and MLflow takes the alias away with it
    place.look()
    assert told(place.pipeline, "champion.conflict") == [{"expected": "2", "found": None}]
    assert (place.events()[-1], place.serving) == ("conflict", None)
    with pytest.raises(Refused, match="points at no version, so there is none to adopt"):
        place.pipeline.adopt_champion(MODEL)
    assert place.pipeline.rollback(MODEL, "it is gone") == "1"
    assert place.serving == "1"
    place.look()
    assert len(told(place.pipeline, "champion.conflict")) == 1
    assert place.pipeline.verify_audit() == []


# -- in the middle of a promotion ---------------------------------------------------------------------------


class Interrupted(MlflowRegistry):
    """Lets somebody come in while a candidate's artefact is hashed, or just after the alias was moved."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self.during: Callable[[], object] = lambda: None
        self.after: Callable[[], object] = lambda: None

    def _hash(self, location: str) -> str:
        digest = super()._hash(location)
        self.during()
        return digest

    def set_champion(self, version: ModelVersion, expected: str | None) -> None:
        super().set_champion(version, expected)
        self.after()


@pytest.mark.parametrize("when", [pytest.param("before", marks=pytest.mark.slow), "during", "after"])
def test_a_person_who_moves_the_alias_in_the_middle_of_a_promotion_is_not_overwritten(
    tmp_path: Path, when: str
) -> None:
    registry = Interrupted(f"sqlite:///{tmp_path}/.autoretrain/mlflow.db")
    place = Place(tmp_path, registry)
    place.project.serve(place.pipeline, tree(58))
    theirs = place.serve(b"theirs")
    place.alias("1")
    job_id = waiting(place)
    if when == "before":
        place.alias(theirs)
    else:
        setattr(registry, when, lambda: place.alias(theirs))
    place.pipeline.approve(job_id)
    job = ended(place.pipeline, job_id)
    assert (job.status, job.deployed) == (JobStatus.FAILED, False)
    assert job.outcome == f"deployment failed: somebody moved the champion from version 1 to {theirs}"
    assert place.serving == theirs
    assert told(place.pipeline, "champion.conflict") == [{"expected": "1", "found": theirs}]
    registry.during = registry.after = lambda: None
    place.look()
    assert place.serving == theirs
    assert place.events().count("conflict") == 1
    assert place.events().count("deployment_failed") == 1


def waiting(place: Place) -> str:
    """A job started by hand whose candidate waits for approval."""
    job_id = place.pipeline.start_retrain_job(MODEL)
    place.project.log(place.pipeline, job_id, tree(50))
    assert ended(place.pipeline, job_id).awaiting_until is not None
    return job_id


# -- what a job lives on ------------------------------------------------------------------------------------


def candidate_deleted(place: Place, job: Any) -> None:
    place.client.delete_model_version(MODEL, job.candidate.version)


def candidate_altered(place: Place, job: Any) -> None:
    (next(Path(job.candidate.uri).glob("*.pkl"))).write_bytes(b"another")


def candidate_missing(place: Place, job: Any) -> None:
    shutil.rmtree(job.candidate.uri)


@pytest.mark.parametrize(
    ("accident", "says"),
    [
        (candidate_deleted, "not found"),
        pytest.param(candidate_altered, "was altered since it was judged", marks=pytest.mark.slow),
        pytest.param(candidate_missing, "is missing or empty", marks=pytest.mark.slow),
    ],
    ids=["deleted", "altered", "missing"],
)
def test_a_candidate_that_cannot_serve_any_more_is_not_promoted(
    tmp_path: Path, accident: Callable[[Place, Any], None], says: str
) -> None:
    place = Place(tmp_path)
    job_id = waiting(place)
    accident(place, place.pipeline.get_job_status(job_id))
    place.pipeline.approve(job_id)
    job = ended(place.pipeline, job_id)
    assert (job.status, job.deployed) == (JobStatus.FAILED, False)
    assert job.outcome is not None
    assert job.outcome.startswith("deployment failed: ")
    assert says in job.outcome
    assert place.serving is None
    assert place.events()[-1] == "deployment_failed"


def test_a_run_that_was_deleted_ends_its_job_with_the_reason(tmp_path: Path) -> None:
    place = Place(tmp_path)
    job_id = place.pipeline.start_retrain_job(MODEL)
    place.pipeline.get_job_status(job_id)
    run = MlflowConnection(place.uri).run_of("autoretrain", job_id)
    assert run is not None
    log_payload(
        place.uri,
        {"MLFLOW_EXPERIMENT_ID": run.info.experiment_id, "MLFLOW_RUN_ID": run.info.run_id},
        b"model",
    )
    place.client.delete_run(run.info.run_id)
    (place.project.directory / "go").touch()
    job = ended(place.pipeline, job_id)
    assert (job.status, job.candidate) == (JobStatus.FAILED, None)
    assert job.outcome == f"{MODEL}: somebody deleted the training run of job {job_id}"


def test_a_stray_alias_is_told_in_one_look_while_a_training_takes_hours(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.serve(b"one")
    stray = place.serve(b"two")
    place.alias("1")
    job_id = place.pipeline.start_retrain_job(MODEL)
    for hour in range(6):
        if hour == 3:
            place.alias(stray)
        place.look()
        assert len(told(place.pipeline, "champion.conflict")) == (hour >= 3)
    assert place.pipeline.get_job_status(job_id).status is JobStatus.RUNNING
    place.pipeline.cancel(job_id)
    (place.project.directory / "go").touch()
    assert ended(place.pipeline, job_id).status is JobStatus.CANCELLED
