"""Routes as a user meets them: settings, a job, who is told, doctor, ``notices test`` and ``resend --to``."""

import json
import socket
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from local_http import LocalServer, local_server
from local_smtp import SmtpServer, local_smtp
from project_kit import MODEL, Project, ended

from autoretrain.adapters.memory import MemoryNotifier
from autoretrain.entrypoints.cli.main import run
from autoretrain.entrypoints.doctor import examine
from autoretrain.entrypoints.pipeline import AutoRetrainPipeline
from autoretrain.ports.errors import ConfigurationError

KEY = "sesame-key-of-thirty-two-characters"
TARGETS = """
notifier.targets.ops-mail.kind = "apprise"
notifier.targets.ticket.kind = "webhook"
"""
ROUTES = """
[[notifier.routes]]
targets = ["ops-mail"]
owners = ["energy"]

[[notifier.routes]]
targets = ["ticket", "default"]
severity = "warning"
models = ["boil*"]
"""


@pytest.fixture
def smtp() -> Iterator[SmtpServer]:
    with local_smtp() as server:
        yield server


@pytest.fixture
def ticket() -> Iterator[LocalServer]:
    with local_server() as server:
        server.reply(202)
        yield server


@pytest.fixture
def project(
    tmp_path: Path, smtp: SmtpServer, ticket: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> Project:
    """A project whose jobs fail, which is told by mail and by webhook."""
    mail = f"mailto://ann:sesame-mail@127.0.0.1:{smtp.port}/?from=a@plant.example&to=ops@plant.example"
    monkeypatch.setenv("AUTORETRAIN_APPRISE_URL_OPS_MAIL", mail)
    monkeypatch.setenv("AUTORETRAIN_WEBHOOK_URL_TICKET", f"{ticket.url}/hooks/sesame-hook\n")
    monkeypatch.setenv("AUTORETRAIN_WEBHOOK_KEY_TICKET", f"{KEY}\n")
    monkeypatch.chdir(tmp_path)
    made = Project.create(tmp_path, command="exit 3", more=TARGETS + ROUTES)
    return made.edit("[models.boiler]\n", '[models.boiler]\nowner = "energy"\n')


class Said:
    """What a command printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def by(self, *arguments: str, code: int = 0) -> str:
        self._capsys.readouterr()
        found = run(arguments)
        captured = self._capsys.readouterr()
        assert found == code, captured
        assert "sesame" not in captured.out + captured.err
        return captured.out or captured.err

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self.by(*arguments, "--json", code=code))


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    return Said(capsys)


def failing_job(project: Project, **more: Any) -> AutoRetrainPipeline:
    """Let a job run to its failure: it tells that it started (info) and that it failed (warning)."""
    pipeline = project.pipeline(**more)
    ended(pipeline, pipeline.start_retrain_job(MODEL))
    return pipeline


def kinds(server: LocalServer) -> list[str]:
    return [json.loads(request.body)["kind"] for request in server.requests if request.method == "POST"]


class TestDelivery:
    def test_everybody_gets_what_the_routes_say(
        self, project: Project, smtp: SmtpServer, ticket: LocalServer
    ) -> None:
        default = MemoryNotifier()
        failing_job(project, notifier=default)

        assert [mail.message["Subject"] for mail in smtp.mails] == [
            "Retraining of boiler started",
            "Retraining of boiler failed",
        ]
        assert kinds(ticket) == ["completed"]
        assert [notice.severity for notice in default.sent] == ["warning"]
        (told,) = ticket.requests
        assert told.headers["Idempotency-Key"] == f"{default.sent[0].id}.ticket"

    def test_one_that_is_away_loses_nothing_and_repeats_no_other(
        self, project: Project, smtp: SmtpServer, ticket: LocalServer, said: Said
    ) -> None:
        ticket.reply(503)
        default = MemoryNotifier()
        pipeline = failing_job(project, notifier=default)
        for _ in range(5):
            project.now += timedelta(minutes=6)
            pipeline.tick()
        assert (len(smtp.mails), len(default.sent)) == (2, 1)

        (waiting,) = said.json("notices")
        assert (waiting["target"], waiting["state"]) == ("ticket", "waiting")
        assert waiting["attempts"] == 6
        listed = said.by("notices").splitlines()
        assert listed[0].split()[6:9] == ["try", "for", "what"]

        ticket.reply(202)
        ticket.requests.clear()
        project.now += timedelta(minutes=6)
        pipeline.tick()
        assert kinds(ticket) == ["completed"]
        assert said.by("notices") == "every notice has arrived\n"
        assert (len(smtp.mails), len(default.sent)) == (2, 1)

    def test_a_notifier_of_ones_own_takes_the_place_of_a_target(
        self, project: Project, ticket: LocalServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("AUTORETRAIN_WEBHOOK_URL_TICKET")
        own = MemoryNotifier()
        failing_job(project, targets={"ticket": own})
        assert [notice.event for notice in own.sent] == ["completed"]
        assert not ticket.requests

    def test_a_target_that_is_taken_away_leaves_dead_letters_that_can_be_sent_elsewhere(
        self, project: Project, ticket: LocalServer, said: Said, smtp: SmtpServer
    ) -> None:
        ticket.reply(503)
        failing_job(project, notifier=MemoryNotifier())
        project.edit('notifier.targets.ticket.kind = "webhook"\n', "").edit('["ticket", ', "[")
        pipeline = project.pipeline(notifier=MemoryNotifier())
        pipeline.tick()

        (letter,) = said.json("notices")
        assert (letter["target"], letter["state"]) == ("ticket", "given up")
        assert "ticket: the settings have no such target" in letter["error"]
        refused = said.by("notices", "resend", "--all", "--to", "pager", code=2)
        assert "there is no target 'pager' in the settings; there are ops-mail, default" in refused

        again = said.by("notices", "resend", letter["id"][:8], "--to", "ops-mail")
        assert "1 notice to be sent again" in again
        project.now = project.now.replace(year=2090)  # the program's clock is the machine's
        pipeline.tick()
        assert said.json("notices") == []
        assert any(letter["id"] in mail.text for mail in smtp.mails)

    def test_a_beginning_is_that_of_one_event_at_all_its_targets(
        self, project: Project, ticket: LocalServer, smtp: SmtpServer, said: Said
    ) -> None:
        ticket.reply(410)
        smtp.answers["RCPT"] = "550 gone"
        failing_job(project, notifier=MemoryNotifier())
        failed = [row["id"] for row in said.json("notices") if row["event"] == "completed"]
        assert sorted(each.partition(".")[2] for each in failed) == ["ops-mail", "ticket"]
        assert "2 notices to be sent again" in said.by("notices", "resend", failed[0][:16])


class TestTryingOut:
    def test_everybody_gets_a_test(
        self, project: Project, smtp: SmtpServer, ticket: LocalServer, said: Said
    ) -> None:
        tested = said.json("notices", "test", "--severity", "critical")
        assert [(each["target"], each["kind"], each["outcome"]) for each in tested] == [
            ("default", "log", "sent"),
            ("ops-mail", "apprise", "sent"),
            ("ticket", "webhook", "sent"),
        ]
        (body,) = [json.loads(request.body) for request in ticket.requests]
        assert (body["kind"], body["severity"], body["model"]) == ("test", "critical", "autoretrain")
        assert body["id"] == tested[2]["notice"]
        assert tested[1]["notice"] in smtp.mails[0].text
        assert said.by("notices") == "every notice has arrived\n"  # it leaves nothing behind

    def test_one_that_fails_keeps_the_others_from_nothing(
        self, project: Project, smtp: SmtpServer, ticket: LocalServer, said: Said
    ) -> None:
        smtp.answers["RCPT"] = "550 no such user"
        text = said.by("notices", "test", code=1).splitlines()
        assert [line.split(":")[0].split() for line in text if not line.startswith("20")] == [
            ["sent", "default", "(log),", "as", *text[0].split()[4:]],
            ["failed", "ops-mail", "(apprise)"],
            ["sent", "ticket", "(webhook),", "as", *text[2].split()[4:]],
        ]
        assert 'E-Mail: Sending email to "***" failed.' in text[1]
        ticket.reply(401)
        assert "the webhook refuses the notice (401)" in said.by("notices", "test", "ticket", code=2)

    def test_a_missing_secret_is_named_and_the_others_are_told(
        self, project: Project, ticket: LocalServer, said: Said, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("AUTORETRAIN_APPRISE_URL_OPS_MAIL")
        text = said.by("notices", "test", "ops-mail", "ticket", code=2)
        assert "set AUTORETRAIN_APPRISE_URL_OPS_MAIL in the environment" in text
        assert kinds(ticket) == ["test"]

    def test_a_target_that_is_not_there(self, project: Project, said: Said) -> None:
        text = said.by("notices", "test", "pager", code=2)
        assert "target = 'pager': there is no such target; there are default, ops-mail, ticket" in text


class TestDoctor:
    def findings(self, project: Project) -> dict[str, tuple[str, str, str]]:
        return {f.about: (f.status, f.text, f.fix) for f in examine(project.directory)}

    def test_every_target_is_looked_at_and_none_is_told(
        self, project: Project, smtp: SmtpServer, ticket: LocalServer
    ) -> None:
        found = self.findings(project)
        assert found["notifier.default"][:2] == ("ok", "log")
        assert found["notifier.ops-mail"][:2] == (
            "ok",
            "apprise, E-Mail; try it: autoretrain notices test ops-mail",
        )
        assert found["notifier.ticket"][:2] == ("ok", "webhook, answers (202 to HEAD)")
        assert found["notices"][1] == "sent by log, apprise, webhook, none waits and none was given up"
        assert "sesame" not in str(found)
        assert not smtp.mails
        assert {(request.method, request.body) for request in ticket.requests} == {("HEAD", b"")}

    def test_a_webhook_that_is_away_is_a_warning(
        self, project: Project, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            away = f"http://127.0.0.1:{server.getsockname()[1]}/sesame"
        monkeypatch.setenv("AUTORETRAIN_WEBHOOK_URL_TICKET", away)
        status, text, fix = self.findings(project)["notifier.ticket"]
        assert (status, text.split(":")[0]) == ("warning", "webhook")
        assert "cannot be reached" in text
        assert "autoretrain notices test ticket" in fix

    def test_missing_secrets_are_problems(self, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AUTORETRAIN_APPRISE_URL_OPS_MAIL")
        monkeypatch.setenv("AUTORETRAIN_WEBHOOK_KEY_TICKET", "short")
        monkeypatch.setenv("AUTORETRAIN_WEBHOOK_URL_TICKET", "http://hooks.example/sesame")
        found = self.findings(project)
        assert found["notifier.targets.ops-mail"][0] == "problem"
        assert "AUTORETRAIN_APPRISE_URL_OPS_MAIL" in found["notifier.targets.ops-mail"][2]
        assert "32 characters" in found["AUTORETRAIN_WEBHOOK_KEY_TICKET"][2]
        assert "https://" in found["AUTORETRAIN_WEBHOOK_URL_TICKET"][2]
        assert "sesame" not in str(found)


@pytest.mark.parametrize(
    ("old", "new", "where", "says"),
    [
        ('kind = "webhook"', 'kind = "carrier-pigeon"', "notifier.targets.ticket.kind", "'slack'"),
        ('kind = "webhook"', 'url = "https://x"', "notifier.targets.ticket.url", "no such setting"),
        ("targets.ticket.", "targets.Ticket.", "notifier.targets.Ticket", "small letters"),
        ("targets.ticket.", "targets.default.", "notifier.targets.default", "not 'default'"),
        (
            '["ticket", ',
            '["tickets", ',
            "notifier.routes.1.targets",
            "(there are: ops-mail, ticket, default)",
        ),
        ('["ticket", ', "[", "notifier.targets.ticket", "no route leads to it"),
        ('["ops-mail"]', "[]", "notifier.routes.0.targets", "at least 1 item"),
        ('"warning"', '"high"', "notifier.routes.1.severity", "'info', 'warning' or 'critical'"),
        ('["boil*"]', '["cool*"]', "notifier.routes.1.models", "no model has a name like 'cool*'"),
        ('["energy"]', '["water"]', "notifier.routes.0.owners", "no model has the owner 'water'"),
        ("owners = ", "owner = ", "notifier.routes.0.owner", "no such setting"),
        ('owner = "energy"', 'owner = ""', "models.boiler.owner", "at least 1 character"),
    ],
)
def test_wrong_routes_are_refused_with_place_and_fix(
    project: Project, old: str, new: str, where: str, says: str
) -> None:
    project.edit(old, new)
    with pytest.raises(ConfigurationError) as caught:
        project.pipeline()
    problems = {problem.where: problem.fix for problem in caught.value.problems}
    assert says in problems[where]


def test_a_run_gets_no_secret_of_a_target(project: Project) -> None:
    project.edit("exit 3", "env > seen; exit 3")
    failing_job(project, notifier=MemoryNotifier())
    (seen,) = project.directory.rglob("seen")
    assert "AUTORETRAIN_JOB_ID" in seen.read_text()
    assert "sesame" not in seen.read_text()
