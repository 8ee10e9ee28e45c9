"""Two real controllers on one PostgreSQL: they share the models, and take over from one another."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cli_project import until
from fleet_kit import Controller, Fleet, running, write_rows
from postgres_server import Postgres, running_postgres

from autoretrain import AutoRetrainPipeline
from autoretrain.adapters.postgres_leases import SHARDS

pytestmark = [pytest.mark.service, pytest.mark.xdist_group("postgres")]

_AT_ONCE = 10.0
"""Seconds; much less than the life of a lease that nobody gives back."""

_LEASE = 4.0

_MODEL = """
[models.{name}]
rule = "{rule}"
cooldown_hours = 0
min_holdout_rows = 20
holdout_days = 5
trigger.training_window_days = 20
trigger.schedule_expression = "* * * * *"
promotion.first_champion = "floor"
data = {{ path = "rows.csv", time = "time", label = "hot" }}
training = {{ command = [{command}] }}
"""
_FAILS = '"sh", "fails.sh"'
_HOLDS = '"sh", "holds.sh"'
_BEGIN = 'echo "$AUTORETRAIN_JOB_ID/$AUTORETRAIN_ATTEMPT" >> trainings.log\n'
_HOLD = "while [ -e hold ]; do sleep 0.1; done\n"
_TRAIN = """
from sklearn.tree import DecisionTreeClassifier
from autoretrain import training_job

with training_job() as job:
    X, y = job.load()
    job.log_model(DecisionTreeClassifier(max_depth=3, random_state=0).fit(X, y))
"""

Make = Callable[..., Fleet]


def models(*names: str, rule: str = "manual", command: str = _FAILS) -> str:
    return "".join(_MODEL.format(name=name, rule=rule, command=command) for name in names)


@pytest.fixture
def make(tmp_path: Path, postgres: Postgres) -> Iterator[Make]:
    """Makes a project; whatever still runs at its end is ended, and the trainings with it."""
    made: list[Fleet] = []

    def make(sections: str, server: Postgres = postgres, **options: object) -> Fleet:
        write_rows(tmp_path / "rows.csv")
        (tmp_path / "fails.sh").write_text(f"{_BEGIN}exit 3\n")
        (tmp_path / "holds.sh").write_text(f"{_BEGIN}{_HOLD}exec {sys.executable} train.py\n")
        (tmp_path / "train.py").write_text(_TRAIN)
        made.append(Fleet.create(tmp_path, server, sections, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    (tmp_path / "hold").unlink(missing_ok=True)
    for fleet in made:
        fleet.close()


def model_of(fleet: Fleet, controller: Controller) -> str:
    """A model whose shard a controller holds."""
    return next(name for name in fleet.library().settings.models if fleet.holds(controller, name))


def job_of(pipeline: AutoRetrainPipeline, model: str) -> str:
    """Ask for a job, and wait for its end."""
    job_id = pipeline.start_retrain_job(model)
    assert not pipeline.wait(job_id, 60).is_open
    return job_id


_FEW = tuple(f"m{number}" for number in range(12))


def test_two_share_the_models_and_one_that_ends_hands_over_at_once(make: Make) -> None:
    fleet = make(models(*_FEW))
    first, second = fleet.start(2)
    library = fleet.library()
    held = fleet.lease_rows()

    for controller in (first, second):
        model = model_of(fleet, controller)
        job_of(library, model)
        assert fleet.count("job.closed", model) == 1
    assert fleet.lease_rows() == held, "the library took a lease, beside two controllers"

    model = model_of(fleet, first)
    assert first.end() == 0
    ended = time.monotonic()
    job_of(library, model)
    assert time.monotonic() - ended < _AT_ONCE
    until(lambda: fleet.leases(second) == SHARDS)
    assert len(fleet.trainings) == len(set(fleet.trainings)) == 3
    assert not second.lost_leases


def test_a_budget_of_one_starts_one(make: Make) -> None:
    """The slots of twelve models are due when both controllers begin, half with each of them."""
    more = "[limits.fleet]\njobs_per_day = 1\n"
    fleet = make(models(*_FEW, rule="schedule"), more=more)
    fleet.library(clock=lambda: datetime.now(UTC) - timedelta(minutes=5)).enrol()
    started = datetime.now(UTC).date()

    fleet.start(2)

    until(lambda: fleet.count("look.changed") + fleet.count("job.opened") >= len(_FEW))
    until(lambda: fleet.count("job.closed"))
    if datetime.now(UTC).date() == started:
        assert fleet.count("job.opened") == len(fleet.trainings) == 1


@pytest.mark.slow
def test_one_that_was_killed_is_followed_when_its_leases_are_over(make: Make) -> None:
    fleet = make(models(*_FEW), lease_seconds=_LEASE)
    first, second = fleet.start(2)
    library, model = fleet.library(), model_of(fleet, first)

    first.kill()
    killed = time.monotonic()
    job_id = library.start_retrain_job(model)
    until(lambda: fleet.leases(second) == SHARDS)
    followed = time.monotonic() - killed

    assert not library.wait(job_id, 60).is_open
    assert _LEASE / 2 < followed < _LEASE + _AT_ONCE
    assert len(fleet.trainings) == 1


@pytest.mark.slow
def test_one_that_was_stopped_past_its_lease_has_its_next_write_refused(make: Make) -> None:
    """It reads a table that never ends when it is stopped, and would fail the job when it goes on."""
    fleet = make(
        models("m", rule="schedule"), lease_seconds=_LEASE, more="[limits.fleet]\njobs_per_day = 1\n"
    )
    fleet.library(clock=lambda: datetime.now(UTC) - timedelta(minutes=5)).enrol()  # so that a slot is due
    rows, real, pipe = (fleet.directory / name for name in ("rows.csv", "real.csv", "pipe"))
    rows.rename(real)
    os.mkfifo(pipe)
    os.link(pipe, rows)
    late, other = fleet.controller(), fleet.controller()
    late.start("--once")
    writing = until(lambda: _reader_of(pipe))
    late.stop()
    real.rename(rows)
    other.start()
    until(lambda: fleet.count("job.closed"), 60)

    os.close(writing)
    late.go_on()

    assert late.process is not None
    assert late.process.wait(60) == 0
    assert late.lost_leases == 1
    assert fleet.count("job.closed") == fleet.count("job.opened") == len(fleet.trainings) == 1


def _reader_of(pipe: Path) -> int:
    """The pipe, open for writing, as soon as somebody reads it; 0 before."""
    try:
        return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return 0


@pytest.mark.slow
def test_both_go_on_when_the_server_is_started_again(make: Make) -> None:
    with running_postgres() as server, running(make(models(*_FEW), server)) as fleet:
        first, second = fleet.start(2)
        asked = [model_of(fleet, controller) for controller in (first, second)]
        server.stop()
        until(lambda: all(_met_trouble(each) for each in (first, second)))
        server.start()

        library = fleet.library()
        for model in asked:
            job_of(library, model)

        assert len(fleet.trainings) == len(set(fleet.trainings)) == 2
        assert not library.verify_audit()
        assert first.end() == second.end() == 0


def _met_trouble(controller: Controller) -> bool:
    return any("tick failed" in line["event"] for line in controller.log)


@pytest.mark.slow
def test_a_rolling_restart_in_a_training_trains_and_promotes_once(make: Make) -> None:
    fleet = make(models("m", command=_HOLDS))
    (fleet.directory / "hold").touch()
    [old] = fleet.start()
    library = fleet.library()
    job_id = library.start_retrain_job("m")
    until(lambda: fleet.trainings)

    new = fleet.controller()
    new.start()
    until(lambda: fleet.leases(new) == SHARDS // 2)
    assert old.end() == 0
    until(lambda: fleet.leases(new) == SHARDS)
    (fleet.directory / "hold").unlink()

    library.wait(job_id, 120)
    library.approve(job_id)
    assert library.wait(job_id, 60).deployed
    assert fleet.trainings == [f"{job_id}/1"]
    assert fleet.count("run.intended") == fleet.count("promotion.done") == fleet.count("job.closed") == 1
