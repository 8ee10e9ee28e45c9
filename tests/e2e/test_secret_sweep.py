"""Every command against every kind of trouble, with every secret set: none is printed or kept anywhere.

All secrets hold the same word. What a command prints, with ``-vv`` and its tracebacks, and every file under
the state directory is searched for it, in clear text and as basic authentication encodes it.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from local_http import LocalServer, Reply, Request, local_server
from project_kit import MODEL, NOW, Project, ended

from autoretrain import AutoRetrainPipeline
from autoretrain.adapters.memory import MemoryRegistry
from autoretrain.adapters.registry_mlflow import MlflowRegistry
from autoretrain.entrypoints.cli.main import run
from autoretrain.entrypoints.report import write_report
from autoretrain.ports.errors import AutoRetrainError

WORD = "sesame"
URL_SECRET = f"p@{WORD}-in/an address".replace(" ", "%20").replace("/", "%2F")
VARIABLES = {
    "AUTORETRAIN_PROMETHEUS_TOKEN": f"{WORD}-prometheus-token\n",
    "MLFLOW_TRACKING_PASSWORD": f"{WORD}-mlflow-password",
    "MLFLOW_TRACKING_TOKEN": f"{WORD}-mlflow-token",
    "AWS_SECRET_ACCESS_KEY": f"{WORD}/aws+secret",
    "AWS_SESSION_TOKEN": f"{WORD}-aws-session",
    "AZURE_STORAGE_CONNECTION_STRING": f"AccountName=x;AccountKey={WORD}-azure==",
    "PGPASSWORD": f"{WORD}-postgres",
}


def tells(text: str) -> list[str]:
    """Where a secret is in a text."""
    found = [text[max(0, at.start() - 60) : at.end() + 40] for at in re.finditer(WORD, text)]
    for word in re.findall(r"[A-Za-z0-9+/]{8,}={0,2}", text):
        try:
            decoded = base64.b64decode(word + "=" * (-len(word) % 4))
        except ValueError:
            continue
        if WORD.encode() in decoded:
            found.append(word)
    return found


# -- trouble ------------------------------------------------------------------------------------------------


def refuses(request: Request) -> Reply:
    """Repeats what it was sent, as some proxies do."""
    said = f"no access with Authorization: {request.headers.get('Authorization')}"
    body = {"error_code": "PERMISSION_DENIED", "message": said, "status": "error", "error": said}
    return Reply(403, json.dumps(body).encode())


def breaks(request: Request) -> Reply:
    said = f"no route to http://ann:{URL_SECRET}@store/?password={WORD}-asked"
    return Reply(500, json.dumps({"error_code": "INTERNAL_ERROR", "message": said, "error": said}).encode())


def redirects(request: Request) -> Reply:
    return Reply(302, b"", {"Location": f"http://ann:{URL_SECRET}@127.0.0.1:9/?token={WORD}-there"})


def babbles(request: Request) -> Reply:
    return Reply(200, b"<html>log in</html>")


TROUBLE = {"away": None, "refuses": refuses, "breaks": breaks, "redirects": redirects, "babbles": babbles}


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with local_server() as server:
        yield server


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch, server: LocalServer) -> None:
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AUTORETRAIN_SLACK_WEBHOOK_URL", f"{server.url}/services/{WORD}-slack")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def with_secrets(address: str) -> str:
    return address.replace("http://", f"http://ann:{URL_SECRET}@")


def project(directory: Path, address: str, command: str = "env; exit 3", uri: str | None = None) -> Project:
    more = (
        f'prometheus.url = "{with_secrets(address)}"\nprometheus.timeout_seconds = 3\n'
        'prometheus.queries.accuracy.expression = "accuracy"\n'
        'adapters = { metrics = "prometheus", notifier = "slack" }\n'
    )
    return Project.create(directory, command=command, more=more, tracking_uri=uri)


class Terminal:
    """Runs commands as a terminal would show them, with the log that the program itself sets up."""

    def __init__(self, project: Project, capsys: pytest.CaptureFixture[str]) -> None:
        self._project = project
        self._capsys = capsys
        self.shown: dict[str, str] = {}

    def call(self, *arguments: str, code: tuple[int, ...] = (0, 1, 2)) -> str:
        root, kept = logging.getLogger(), logging.getLogger().handlers[:]
        root.handlers.clear()  # pytest's own, which would keep the program from setting up its log
        try:
            got = run(["-vv", "--settings", str(self._project.directory), *arguments])
        except SystemExit as exit_:
            got = int(exit_.code or 0)
        finally:
            root.handlers[:] = kept
        output = self._capsys.readouterr()
        text = output.out + output.err
        assert got in code, text
        self.shown[" ".join(arguments)] = text
        return text

    def check(self) -> None:
        told = {command: tells(text) for command, text in self.shown.items()}
        assert {command: found for command, found in told.items() if found} == {}


def check_files(project: Project, but: Callable[[Path], bool] = lambda file: False) -> None:
    """Search everything on disk that is not the user's own."""
    files = [file for file in (project.directory / ".autoretrain").rglob("*") if file.is_file()]
    assert files
    told = {str(file): tells(file.read_bytes().decode("latin-1")) for file in files if not but(file)}
    assert {file: found for file, found in told.items() if found} == {}


@pytest.mark.parametrize("trouble", TROUBLE.values(), ids=TROUBLE)
@pytest.mark.usefixtures("secrets")
def test_no_command_tells_a_secret_whatever_the_servers_do(
    tmp_path: Path,
    server: LocalServer,
    capsys: pytest.CaptureFixture[str],
    trouble: Callable[[Request], Reply] | None,
) -> None:
    address = server.url
    if trouble is None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = f"http://127.0.0.1:{free.getsockname()[1]}"
        server.reply(500, "")  # Slack's
    else:
        server.answer = trouble
    place = project(tmp_path, address, uri=with_secrets(address))
    terminal = Terminal(place, capsys)
    job_id = terminal.call("start", MODEL, code=(0,)).split()[-1]
    terminal.call("wait", "--timeout", "0.1", job_id)
    for command in (
        ["run", "--once"],
        ["check"],
        ["check", "--json"],
        ["doctor"],
        ["doctor", "--json"],
        ["jobs", "--json"],
        ["show", MODEL],
        ["show", MODEL, "--json"],
        ["approve", job_id],
        ["reject", job_id, "--reason", "x"],
        ["rollback", MODEL],
        ["override", "adopt", MODEL],
        ["cancel", job_id],
        ["audit", "verify", "--json"],
    ):
        terminal.call(*command)
    assert "MLflow" in terminal.shown["run --once"] + terminal.shown["doctor"]
    terminal.check()
    check_files(place)


@pytest.mark.usefixtures("secrets")
def test_a_training_that_prints_its_environment_tells_nobody_but_its_own_log(
    tmp_path: Path, server: LocalServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a command of the user's prints is kept as it is, for its owner alone; nothing else repeats it."""
    server.reply(200, "ok")
    place = project(tmp_path, server.url, command="env; env | grep AWS_SECRET; exit 3")
    terminal = Terminal(place, capsys)
    pipeline = place.pipeline()  # whose clock is that of the rows
    job_id = pipeline.start_retrain_job(MODEL)
    ended(pipeline, job_id)
    story = terminal.call("show", job_id)
    assert "it printed last: AWS_SECRET_ACCESS_KEY=***" in story
    terminal.call("show", job_id, "--json")
    terminal.check()
    check_files(place, but=lambda file: file.parent.parent.name == "runs" and file.name.startswith("log"))
    sent = [request.body.decode() for request in server.requests if "/services/" in request.path]
    assert sent
    assert tells("".join(sent)) == []
    for folder in (tmp_path / ".autoretrain" / "runs").iterdir():
        assert folder.stat().st_mode & 0o077 == 0


@pytest.mark.usefixtures("secrets")
def test_a_report_page_and_an_unexpected_error_tell_none(
    tmp_path: Path, server: LocalServer, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(MemoryRegistry):
        def champions(self, models: object) -> object:  # type: ignore[override]
            raise RuntimeError(f"http://ann:{URL_SECRET}@host said {VARIABLES['AWS_SESSION_TOKEN']}")

    server.reply(503, f"token={WORD}-said")
    place = project(tmp_path, server.url)
    pipeline: AutoRetrainPipeline = place.pipeline(registry=Broken())
    pipeline.enrol()
    pipeline.tick()
    assert "unexpected error (registry)" in caplog.text
    assert tells(caplog.text) == []  # a program of one's own has its own log
    page = write_report(
        pipeline.ports.ledger, pipeline.ports.observations, tmp_path / "page.html", title="t", now=NOW
    )
    assert "unexpected RuntimeError: http://host said ***" in page.read_text()
    assert tells(page.read_text()) == []
    check_files(place)


@pytest.mark.usefixtures("secrets")
def test_a_redirect_takes_no_secret_of_mlflow_to_another_host(
    tmp_path: Path, server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
    with local_server() as there:
        elsewhere = there.url.replace("127.0.0.1", "localhost")
        server.reply(302, "", Location=f"{elsewhere}/elsewhere")
        with pytest.raises(AutoRetrainError):
            MlflowRegistry(with_secrets(server.url)).champions([MODEL])
        assert server.requests[0].headers["Authorization"].startswith("Basic ")
        assert [
            name for request in there.requests for name in request.headers if name == "Authorization"
        ] == []
        assert tells(str([request.headers for request in there.requests])) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("prometheus.timeout_seconds = 3", f'prometheus.timeout_seconds = "{WORD}"'),
        ('notifier = "slack"', f'notifier = "http://ann:{URL_SECRET}@x"'),
        ("prometheus.timeout_seconds", f'slack_webhook_url = "{WORD}-slack"\nprometheus.timeout_seconds'),
        ("http://ann:", "ftp://ann:"),
    ],
    ids=["a word", "an address", "a secret in the wrong place", "another scheme"],
)
@pytest.mark.usefixtures("secrets")
def test_settings_that_cannot_be_used_are_told_without_their_secrets(
    tmp_path: Path, server: LocalServer, capsys: pytest.CaptureFixture[str], old: str, new: str
) -> None:
    place = project(tmp_path, server.url).edit(old, new)
    terminal = Terminal(place, capsys)
    for command in (["run", "--once"], ["doctor"], ["doctor", "--json"], ["start", MODEL]):
        terminal.call(*command, code=(2,))
    if WORD in new and "@" not in new and "slack" not in new:
        assert any(tells(text) for text in terminal.shown.values())  # a word is shown, being no address
    else:
        terminal.check()
