"""``autoretrain run`` as a real process, killed and restarted, and people at work beside it."""

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cli_project import Project, entries_of, kinds, until

Run = Callable[[], subprocess.Popen[str]]

_ACTED_ON = timedelta(seconds=5)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project.create(tmp_path)


@pytest.fixture
def run(project: Project) -> Iterator[Run]:
    """Starts the controller; whatever still runs at the end is ended, and its trainings with it."""
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        started.append(project.spawn("run"))
        return started[-1]

    yield start
    project.stop()
    for process in started:
        process.kill()
        process.wait()


def _is_watching(project: Project) -> bool:
    return "watching" in (project.directory / "run.err").read_text()


def _seconds_between(project: Project, request: str, answer: str) -> timedelta:
    """From the last request of a kind to the first answer after it."""
    entries = entries_of(project)
    asked = max(entry.seq for entry in entries if entry.kind == request)
    answered = next(entry for entry in entries[asked:] if entry.kind == answer)
    return datetime.fromisoformat(answered.at) - datetime.fromisoformat(entries[asked - 1].at)


def test_a_controller_killed_in_training_adopts_the_run_and_promotes_once(project: Project, run: Run) -> None:
    project.hold()
    first = run()
    until(lambda: _is_watching(project))
    job_id = project.ask("start", "boiler")
    until(lambda: project.trainings)
    first.kill()
    assert first.wait() == -signal.SIGKILL

    second = run()
    project.go()
    assert "waits for approval" in project.ask("wait", job_id)
    project.ask("approve", job_id[:8], "--reason", "looks right")

    assert "promotion.done" in kinds(project)
    second.send_signal(signal.SIGTERM)
    assert second.wait(timeout=20) == 0
    assert project.trainings == [job_id]
    assert kinds(project).count("run.intended") == 1
    assert kinds(project).count("promotion.done") == 1
    assert project.ask("audit", "verify").startswith("all whole")


def test_requests_beside_a_controller_are_acted_on_within_seconds(project: Project, run: Run) -> None:
    project.hold()
    controller = run()
    until(lambda: _is_watching(project))

    cancelled = project.ask("start", "boiler")
    until(lambda: project.trainings)
    assert _seconds_between(project, "request.start", "job.opened") < _ACTED_ON
    assert project.ask("cancel", cancelled).startswith("cancelled")
    assert _seconds_between(project, "request.cancel", "job.closed") < _ACTED_ON

    project.go()
    for depth in (2, 6):  # shallow and deep, so that the second is not "no change"
        job_id = project.ask("start", "boiler", "--param", f"depth={depth}")
        assert "waits for approval" in project.ask("wait", job_id)
        assert project.ask("approve", job_id).startswith("completed")
        assert _seconds_between(project, "request.approve", "promotion.done") < _ACTED_ON

    assert project.ask("rollback", "boiler", "--reason", "too slow") == "version 1 of boiler serves"
    assert _seconds_between(project, "request.rollback", "rollback.done") < _ACTED_ON
    assert json.loads(project.ask("show", "boiler", "--json"))["withdrawn"] == ["2"]
    controller.send_signal(signal.SIGINT)
    assert controller.wait(timeout=20) == 0
    assert "Traceback" not in (project.directory / "run.err").read_text()
