"""The log: the same lines for people and for programs, with ids, in UTC, and without secrets."""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cli_project import environment
from local_http import local_server
from project_kit import Project

from autoretrain.domain.log_context import about_model
from autoretrain.entrypoints.cli.main import run
from autoretrain.entrypoints.structured_logs import Concealer, IdsFilter, configure

WEBHOOK = "https://hooks.slack.com/services/T0/B0/s3cr3t-part"


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    """Leaves the logging of this process as it was."""
    root, ours = logging.getLogger(), logging.getLogger("autoretrain")
    before = (list(root.handlers), root.level, ours.level)
    yield
    logging.captureWarnings(False)
    root.handlers[:], root.level, ours.level = before


def said(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def to_json(level: int = logging.INFO, *secrets: str) -> logging.Logger:
    configure("json", ours=level, others=logging.WARNING, secrets=secrets)
    return logging.getLogger("autoretrain.somewhere")


def test_a_line_says_when_how_bad_where_and_about_what(capsys: pytest.CaptureFixture[str]) -> None:
    log = to_json()
    with about_model("heat"):
        log.warning("%d rows\nare missing", 7, extra={"job": "j1", "password": "x"})
    (line,) = said(capsys)
    at = datetime.fromisoformat(line.pop("timestamp"))
    assert at.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - at) < timedelta(minutes=1)
    assert line == {
        "event": "7 rows\nare missing",
        "level": "warning",
        "logger": "autoretrain.somewhere",
        "model": "heat",
        "job": "j1",
    }


def test_lines_of_libraries_take_the_same_way(capsys: pytest.CaptureFixture[str]) -> None:
    import structlog

    to_json()
    with about_model("heat"):
        logging.getLogger("mlflow").warning("a store is old")
        logging.getLogger("mlflow").info("nobody needs this")
        structlog.get_logger("a.plugin").warning("bound", job="j2")
    one, two = said(capsys)
    assert (one["logger"], one["event"], one["model"]) == ("mlflow", "a store is old", "heat")
    assert (two["logger"], two["event"], two["job"]) == ("a.plugin", "bound", "j2")


def test_mlflow_has_no_way_of_its_own(tmp_path: Path) -> None:
    """It gives its loggers a handler when it is imported: before or after we have set up ours."""
    program = """
import logging, os
from autoretrain.entrypoints.structured_logs import configure, set_by_us
{}
configure("json", ours=logging.INFO, others=logging.WARNING, secrets=["s3cr3t-part"])
{}
logging.getLogger("mlflow.tracking").warning("s3cr3t-part is old")
from mlflow.environment_variables import MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR
assert not MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.get()
assert set_by_us == ["MLFLOW_CONFIGURE_LOGGING", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"]
"""
    variables = environment()
    for name in ("MLFLOW_CONFIGURE_LOGGING", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"):
        variables.pop(name, None)  # set in this process by a test before
    for lines in (("import mlflow", ""), ("", "import mlflow")):
        command = [sys.executable, "-c", program.format(*lines)]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True, timeout=120)
        (line,) = [json.loads(text) for text in done.stderr.splitlines()]
        assert (line["logger"], line["event"]) == ("mlflow.tracking", "*** is old")


def test_an_exception_is_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    log = to_json()
    try:
        raise ValueError("out of range")
    except ValueError:
        log.exception("it failed")
    (line,) = said(capsys)
    assert line["event"] == "it failed"
    assert "ValueError: out of range" in line["exception"]
    assert "Traceback" in line["exception"]


def test_a_warning_of_python_is_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    import warnings

    to_json()
    warnings.warn("this will be an error", UserWarning, stacklevel=1)
    (line,) = said(capsys)
    assert (line["logger"], line["level"]) == ("py.warnings", "warning")
    assert "this will be an error" in line["event"]


def test_a_line_for_people_has_the_same_and_no_colours_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    configure("console", ours=logging.INFO, others=logging.WARNING)
    with about_model("heat"):
        logging.getLogger("autoretrain.somewhere").error("it failed", exc_info=ValueError("out of range"))
    text = capsys.readouterr().err
    assert "\x1b" not in text
    for part in ("error", "it failed", "model=heat", "autoretrain.somewhere", "ValueError: out of range"):
        assert part in text


def test_configured_again_it_says_everything_once(capsys: pytest.CaptureFixture[str]) -> None:
    to_json()
    to_json().info("once")
    assert len(said(capsys)) == 1


def test_an_application_of_its_own_can_have_the_ids(capsys: pytest.CaptureFixture[str]) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(IdsFilter())
    handler.setFormatter(logging.Formatter("%(model)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    with about_model("heat"):
        logging.getLogger("anything").error("failed")
    assert capsys.readouterr().err.splitlines()[-1] == "heat: failed"


class TestSecrets:
    def test_no_line_holds_one(self, capsys: pytest.CaptureFixture[str]) -> None:
        log = to_json(logging.INFO, WEBHOOK, "tok\"en-'x")
        log.info("posting to %s", WEBHOOK, extra={"job": WEBHOOK})
        log.info("GET /services/T0/B0/s3cr3t-part 404")
        log.info("the token is tok\"en-'x")
        log.info("https://ann:s3cr3t-pw@mlflow:5000/api and postgresql://bob:s3cr3t-pw@db/ledger")
        try:
            raise OSError(f"cannot reach {WEBHOOK}")
        except OSError:
            log.exception("it failed")
        text = capsys.readouterr().err
        assert "s3cr3t" not in text
        assert "en-'x" not in text
        assert len(text.splitlines()) == 5

    def test_short_ones_hide_nothing_else(self) -> None:
        assert Concealer(["", "a", "model"]).conceal("a model") == "a model"

    def test_the_longest_is_hidden_first(self) -> None:
        assert Concealer(["secret", "secret-and-more"]).conceal("secret-and-more") == "***"


def test_a_run_in_json_is_nothing_but_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with local_server() as server:
        server.reply(503, "maintenance")
        monkeypatch.setenv("AUTORETRAIN_SLACK_WEBHOOK_URL", f"{server.url}/services/T0/s3cr3t-part")
        project = Project.create(tmp_path, command="exit 3", more='adapters.notifier = "slack"\n')
        monkeypatch.chdir(project.directory)
        assert run(["start", "boiler"]) == 0  # the job fails: its rows are of another year
        job_id = capfd.readouterr().out.strip()
        assert server.requests
        assert run(["--log-format", "json", "run", "--until-idle"]) == 0
    out, errors = capfd.readouterr()
    lines = [json.loads(line) for line in errors.splitlines()]
    assert out == "idle\n"
    assert "watching 1 model" in [line["event"] for line in lines]
    assert "s3cr3t" not in errors
    assert all({"timestamp", "level", "logger", "event"} <= set(line) for line in lines)
    assert {line["model"] for line in lines if line["event"].startswith("recorded")} == {"boiler"}
    about_job = {line["job"] for line in lines if line["event"].startswith("recorded job.")}
    assert about_job <= {job_id}


@pytest.mark.parametrize(
    ("settings", "arguments", "json_lines", "info"),
    [
        ("", [], False, True),
        ('logging.format = "json"\n', [], True, True),
        ('logging.format = "json"\nlogging.level = "warning"\n', [], True, False),
        ('logging.format = "json"\nlogging.level = "warning"\n', ["-v"], True, True),
        ('logging.format = "json"\n', ["--log-format", "console"], False, True),
    ],
)
def test_settings_and_options_choose(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    settings: str,
    arguments: list[str],
    json_lines: bool,
    info: bool,
) -> None:
    project = Project.create(tmp_path, command="exit 3", more=settings)
    monkeypatch.chdir(project.directory)
    assert run([*arguments, "run", "--once"]) == 0
    errors = capsys.readouterr().err
    recorded = [line for line in errors.splitlines() if "recorded model.enrolled" in line]
    assert bool(recorded) is info
    for line in recorded:
        assert line.startswith("{") is json_lines


@pytest.mark.parametrize(
    ("settings", "arguments", "says"),
    [
        ('logging.format = "xml"\n', [], "logging.format = 'xml': input should be 'console' or 'json'"),
        ('logging.level = "loud"\n', [], "logging.level = 'loud'"),
        ('logging.colour = "red"\n', [], "logging.colour: there is no such setting"),
        ("", ["--log-format", "xml"], "'xml' is not one of 'console', 'json'"),
    ],
)
def test_a_format_that_is_none_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    settings: str,
    arguments: list[str],
    says: str,
) -> None:
    (tmp_path / "autoretrain.toml").write_text(settings)
    monkeypatch.chdir(tmp_path)
    assert run([*arguments, "run", "--once"]) == 2
    assert says in capsys.readouterr().err
