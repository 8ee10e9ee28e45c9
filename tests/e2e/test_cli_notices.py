"""Dead letters are seen and sent again, as an operator does it: doctor, notices, notices resend."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from local_http import LocalServer, local_server
from project_kit import MODEL, Project, ended

from autoretrain.domain.jobs import JobStatus
from autoretrain.entrypoints.cli.main import run
from autoretrain.entrypoints.doctor import examine

SECRET = "s3cr3t"


@pytest.fixture
def slack() -> Iterator[LocalServer]:
    with local_server() as server:
        yield server


@pytest.fixture
def project(tmp_path: Path, slack: LocalServer, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project that tells Slack, on a working directory of its own."""
    monkeypatch.setenv("AUTORETRAIN_SLACK_WEBHOOK_URL", f"{slack.url}/services/{SECRET}")
    monkeypatch.chdir(tmp_path)
    return Project.create(tmp_path, command="exit 3", more='adapters.notifier = "slack"\n')


class Said:
    """What a command printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def by(self, *arguments: str, code: int = 0) -> str:
        self._capsys.readouterr()
        assert run(arguments) == code, self._capsys.readouterr().err
        captured = self._capsys.readouterr()
        assert SECRET not in captured.out + captured.err
        return captured.err if code else captured.out

    def json(self, *arguments: str) -> Any:
        return json.loads(self.by(*arguments, "--json"))


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    return Said(capsys)


def findings(project: Project) -> list[tuple[str, str, str]]:
    return [(f.status, f.text, f.fix) for f in examine(project.directory) if f.about == "notices"]


def test_dead_letters_are_seen_and_sent_again(project: Project, slack: LocalServer, said: Said) -> None:
    assert said.by("notices") == "every notice has arrived\n"
    assert said.by("notices", "resend", "--all") == "no notice was given up\n"
    assert said.json("notices") == []

    slack.reply(404, "no_service")
    pipeline = project.pipeline()
    assert ended(pipeline, pipeline.start_retrain_job(MODEL)).status is JobStatus.FAILED

    (finding,) = findings(project)
    assert finding[0] == "warning"
    assert finding[1].startswith(
        "2 given up, the oldest of 2026-03-01 00:00 UTC, the last one (Retraining of"
    )
    assert finding[1].endswith("Slack refuses the notice (404: no_service)")
    assert "autoretrain notices resend --all" in finding[2]
    assert SECRET not in str(finding)

    listed = said.by("notices").splitlines()
    assert [line.split()[4:8] for line in listed[1:]] == [["UTC", "given", "up", "1"]] * 2
    first, second = said.json("notices")
    assert (first["event"], first["state"], first["attempts"], first["next_try"]) == (
        "started", "given up", 1, None,
    )  # fmt: skip
    assert len(said.json("notices", "--limit", "1")) == 1

    slack.reply(200, "ok")
    slack.requests.clear()
    assert said.by("notices", "resend", first["id"][:9]).startswith("1 notice to be sent again: ")
    assert said.by("notices", "resend", "--all").startswith("1 notice to be sent again: ")
    assert {row["state"] for row in said.json("notices")} == {"waiting"}
    project.now = project.now.replace(year=2090)  # the program's clock is the machine's
    pipeline.tick()
    assert said.json("notices") == []
    for row, request in zip((first, second), slack.requests, strict=True):
        assert row["id"] in request.body.decode()
    assert findings(project) == [("ok", "sent by slack, none waits and none was given up", "")]


def test_what_waits_is_seen_with_what_went_wrong(project: Project, slack: LocalServer, said: Said) -> None:
    slack.reply(503, "maintenance")
    pipeline = project.pipeline()
    ended(pipeline, pipeline.start_retrain_job(MODEL))
    ((status, text, _),) = findings(project)
    assert (status, text) == (
        "warning", "2 waiting, the oldest since 2026-03-01 00:00 UTC: Slack answers 503",
    )  # fmt: skip
    assert "Slack answers 503" in said.by("notices")
    project.now += timedelta(minutes=2)
    slack.reply(200, "ok")
    pipeline.tick()
    assert said.by("notices") == "every notice has arrived\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "give --all for all dead letters"),
        (["abc", "--all"], "give --all for all dead letters"),
        (["nothing"], "no notice nothing waits or was given up"),
        ([""], "no notice '' waits or was given up"),
    ],
)
def test_a_notice_that_is_not_there(project: Project, said: Said, arguments: list[str], says: str) -> None:
    assert says in said.by("notices", "resend", *arguments, code=2)


def test_an_ambiguous_beginning_names_both(project: Project, slack: LocalServer, said: Said) -> None:
    slack.reply(503, "maintenance")
    pipeline = project.pipeline()
    for _ in range(9):  # more than the sixteen first characters there can be
        ended(pipeline, pipeline.start_retrain_job(MODEL))
    ids = [row["id"] for row in said.json("notices")]
    shared = next(one[0] for one in ids if len([two for two in ids if two[0] == one[0]]) > 1)
    text = said.by("notices", "resend", shared, code=2)
    assert text.startswith(f"autoretrain: several notices begin with {shared}: ")
