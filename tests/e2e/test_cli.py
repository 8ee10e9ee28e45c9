"""The commands: what they print, what they import, and how they fail."""

import json
import signal
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_project import Project, environment, until
from domain_world import DAY, HOUR, NOW, POOR, Story, scored, spec_of, version

from autoretrain.adapters.ledger_sqlite import SqliteLedger
from autoretrain.domain.plan import NothingSeen
from autoretrain.domain.requests import ask_approve, ask_reject, ask_start
from autoretrain.entrypoints.cli.context import Invocation
from autoretrain.entrypoints.cli.main import run
from autoretrain.ports.ledger import Append

HEAVY = (
    "pydantic",
    "dependency_injector",
    "croniter",
    "duckdb",
    "mlflow",
    "rich",
    "httpx",
    "sklearn",
    "pandas",
    "structlog",
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with settings and nothing else, which is the working directory."""
    (tmp_path / "autoretrain.toml").write_text('[models.m.training]\ncommand = ["true"]\n')
    monkeypatch.chdir(tmp_path)
    return tmp_path


Tell = Callable[[Story], None]


@pytest.fixture
def tell(home: Path) -> Iterator[Tell]:
    """Writes a story into the project's ledger."""
    ledger = SqliteLedger(home / ".autoretrain" / "ledger.db")
    yield lambda story: ledger.append(Append("m", story.entries, None))
    ledger.close()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    return Project.create(tmp_path)


class Said:
    """What a command printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def by(self, *arguments: str, code: int = 0) -> str:
        """Standard output of a command, or its standard error when it is to fail."""
        capsys = self._capsys
        capsys.readouterr()
        assert run(arguments) == code, capsys.readouterr().err
        captured = capsys.readouterr()
        return captured.err if code else captured.out

    def json(self, *arguments: str) -> Any:
        """JSON of a command."""
        return json.loads(self.by(*arguments, "--json"))


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    return Said(capsys)


# -- what looking costs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["jobs"],
        ["jobs", "--json"],
        ["show", "m"],
        ["show", Story().serving().opened().job_id],
        ["start", "--help"],
        ["notices"],
    ],
)
def test_commands_that_only_look_import_nothing_heavy(tell: Tell, arguments: list[str]) -> None:
    tell(Story().serving().opened())
    program = f"""
import sys
from autoretrain.entrypoints.cli.main import run
code = run({arguments})
print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)
sys.exit(code)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stderr.strip() == "[]"


def test_every_command_is_described_in_one_line(said: Said) -> None:
    listed = said.by("--help").partition("Commands:")[2].strip().splitlines()

    assert len(listed) == 19
    assert not [line for line in listed if line.endswith("...")]


def test_looking_creates_nothing(home: Path, said: Said) -> None:
    assert "no jobs yet" in said.by("jobs")
    assert "not yet" in said.by("show", "m")
    assert said.json("audit", "verify") == []
    assert sorted(path.name for path in home.iterdir()) == ["autoretrain.toml"]


# -- jobs and show -------------------------------------------------------------------------------------------


def test_jobs_are_listed_newest_first_with_stable_keys(tell: Tell, said: Said) -> None:
    story = Story().serving().promoted()
    tell(story)

    (job,) = said.json("jobs")

    assert list(job) == sorted(job)
    assert job["job_id"] == story.job_id
    assert (job["status"], job["deployed"], job["candidate"]) == ("completed", True, "2")
    assert job["created_at"].endswith("Z")
    assert "version 2 promoted" in said.by("jobs", "m")


def test_a_job_that_was_asked_for_is_shown_before_it_is_opened(tell: Tell, said: Said) -> None:
    story = Story().serving().asked(lambda state: ask_start(state, "ann", {}, "a new sensor"))
    tell(story)

    (listed,) = said.json("jobs")
    shown = said.by("show", listed["job_id"][:6])

    assert listed["outcome"] == "asked for by ann, not opened yet"
    assert "not opened yet" in shown
    assert "a new sensor" in shown


def test_a_job_is_explained_from_its_trigger_to_its_decision(tell: Tell, said: Said) -> None:
    story = Story().serving().promoted()
    tell(story)

    text = said.by("show", story.job_id[:8])

    told = [
        "performance: yes",
        "Job opened",
        "Training submitted",
        "Validated on 1000 rows",
        "Decision: promote",
    ]
    places = [text.index(part) for part in told]
    assert places == sorted(places)
    assert "(champion 0." in text
    data = said.json("show", story.job_id)
    assert data["job"]["status"] == "completed"
    assert [moment["title"] for moment in data["timeline"]][-1] == "Job completed"


def test_a_job_is_told_in_short_before_its_timeline(tell: Tell, said: Said) -> None:
    story = Story().serving().promoted()
    tell(story)

    text, data = said.by("show", story.job_id[:8]), said.json("show", story.job_id)

    head, *facts = text.split("\n\n")[:2]
    assert head == f"Job {story.job_id} of m: completed, promoted"
    assert sorted(line.split("  ")[0] for line in facts[0].splitlines()) == list(data["in_short"])
    assert data["in_short"]["Outcome"].startswith("promoted, version 2 serves from ")


def test_what_was_decided_is_told_in_a_word(tell: Tell, said: Said) -> None:
    story = Story().serving().opened().running().trained().judged(scored(POOR, POOR))
    story.by_hand(NOW + DAY)
    story.asked(lambda state: ask_reject(state, story.job_id, "bob", "no"))
    story.sees(NothingSeen(), NOW + DAY)
    tell(story)

    by_bob, by_rule = said.json("jobs")

    assert by_bob["outcome"] == "rejected by bob: no"
    assert by_rule["outcome"] == "rejected: f1 0.8800 -> 0.8800 is +0.00% against +5.00% asked for"


def test_who_has_approved_so_far_is_shown(tell: Tell, said: Said) -> None:
    story = Story(spec_of(promotion={"approvals": 2})).serving().by_hand()
    story.asked(lambda state: ask_approve(state, story.job_id, "bob", "fine"))
    tell(story)

    (job,) = said.json("jobs")

    assert (job["approvals"], job["approvals_needed"]) == (["bob"], 2)
    assert ", 1 of 2 approved by bob" in said.by("jobs", "m")
    assert ", 1 of 2 approved by bob" in said.by("show", story.job_id)


def test_a_champion_below_the_floor_is_shown(tell: Tell, said: Said) -> None:
    tell(Story().serving().opened())

    assert "the champion's accuracy was 0.8000 as watched on 2026-03-04" in said.by("show", "m")
    assert said.json("show", "m")["below_floor"]["floor"] == 0.85


def test_a_model_is_shown_with_what_is_unknown_and_in_conflict(tell: Tell, said: Said) -> None:
    story = Story().serving()
    story.sees(story.idle(version("1"), accuracy=None))
    story.sees(story.idle(version("9")))
    tell(story)

    text, data = said.by("show", "m"), said.json("show", "m")

    assert "version 1, adopted" in text
    assert "performance: unknown since" in text
    assert "version 9, against the ledger" in text
    assert data["conflict"] == "9"
    assert data["verdicts"]["performance"]["answer"] == "unknown"
    assert data["champion"]["version"]["version"] == "1"


def test_a_model_is_shown_with_what_holds_it_back_and_what_it_missed(tell: Tell, said: Said) -> None:
    story = Story(spec_of(rule="performance | schedule"), enrolled=NOW - 30 * DAY).serving().promoted()
    later = NOW + HOUR
    story.sees(story.idle(version("2"), later, accuracy=0.8), later)
    tell(story)

    text, data = said.by("show", "m"), said.json("show", "m")

    cooling = "cooldown (the last job ended too short a time ago) until 2026-03-05 12:00 UTC"
    assert f"the triggers want a retraining, held back by: {cooling}" in text
    assert "3 in all, the last 3 from 2026-02-08 00:00 UTC to 2026-02-22 00:00 UTC" in text
    assert (data["suppressed"], data["suppressed_until"]) == ("cooldown", "2026-03-05T12:00:00Z")
    assert data["flapping"] is False
    assert data["missed_slots"]["total"] == 3


def test_the_beginning_of_an_identity_must_be_unique(tell: Tell, said: Said) -> None:
    story = Story().serving().promoted()
    first = story.job_id
    story.by_hand()
    tell(story)
    common = next((n for n in range(36) if first[n] != story.job_id[n]), 0)

    assert first in said.by("show", first[: common + 1])
    if common:
        assert "several jobs begin with" in said.by("show", first[:common], code=2)
    assert "no model has a job zzz" in said.by("show", "zzz", code=2)


def test_an_edited_entry_is_named(home: Path, tell: Tell, said: Said) -> None:
    tell(Story().serving().promoted())
    assert said.by("audit", "verify").startswith("all whole")
    with sqlite3.connect(home / ".autoretrain" / "ledger.db") as database:
        guards = database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for (name,) in guards:
            database.execute(f"DROP TRIGGER {name}")
        database.execute("UPDATE entries SET actor = 'mallory' WHERE seq = 3")
    database.close()

    assert said.by("audit", "verify", code=2) == (
        "m: entry 3: its content does not match its hash: it was edited\n"
    )


# -- errors --------------------------------------------------------------------------------------------------


def test_without_settings_the_way_to_some_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Said
) -> None:
    monkeypatch.chdir(tmp_path)

    assert "autoretrain init" in said.by("jobs", code=2)


def test_every_problem_of_the_settings_has_its_line(home: Path, said: Said) -> None:
    (home / "autoretrain.toml").write_text(
        '[models.m]\nmin_rows = 0\ntypo = 1\n[models.m.training]\ncommand = ["true"]\n'
    )

    below, misspelt = sorted(said.by("check", code=2).splitlines())

    assert below.startswith("autoretrain: models.m.min_rows = 0: ")
    assert misspelt.startswith("autoretrain: models.m.typo")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["start", "nobody"], "there is no model 'nobody' in the settings; there are: m"),
        (["show", "nobody"], "no model has a job nobody"),
        (["jobs", "nobody"], "there is no model 'nobody'; there are: m"),
        (["approve", "0000"], "no model has a job 0000"),
        (["rollback", "m"], "m cannot go back to an earlier version"),
        (["override", "adopt", "m"], "there is nothing to adopt"),
        (["override", "release", "m", "7"], "version 7 of m is not withdrawn"),
        (["start", "m", "--param", "depth"], "write name=value"),
        (["demo", "--csv", "rows.csv"], "say what is to be predicted"),
        (["run", "--once", "--until-idle"], "exclude one another"),
        (["run", "--once", "--listen", "nowhere"], "write host:port"),
        (["frobnicate"], "No such command 'frobnicate'"),
    ],
)
def test_a_users_mistake_is_one_message_and_exit_code_2(
    home: Path, said: Said, arguments: list[str], message: str
) -> None:
    text = said.by(*arguments, code=2)

    assert message in text
    assert "Traceback" not in text


@pytest.mark.usefixtures("home")
def test_what_nobody_expected_shows_its_traceback_only_when_asked(
    monkeypatch: pytest.MonkeyPatch, said: Said
) -> None:
    def broken(self: Invocation) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(Invocation, "installation", broken)

    assert said.by("jobs", code=1) == "autoretrain: unexpected RuntimeError: a defect; -vv shows where\n"
    assert "Traceback" in said.by("-vv", "jobs", code=1)


def test_a_reader_that_goes_away_ends_the_command_quietly(tell: Tell, home: Path) -> None:
    tell(Story().serving().promoted())
    process = subprocess.Popen(
        Project(home).command("show", "m"),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


# -- over the library ----------------------------------------------------------------------------------------


def test_check_says_what_is_unknown_and_why(project: Project, said: Said) -> None:
    (judged,) = said.json("check", "boiler")

    assert judged["verdict"]["answer"] == "unknown"
    assert judged["triggers"]["performance"]["reason"] == "accuracy is unknown: no champion serves yet"
    assert "boiler: unknown" in said.by("check")
    assert said.json("jobs") == []


def test_a_job_cancelled_by_hand_says_so(project: Project, said: Said) -> None:
    project.hold()
    job_id = said.by("start", "boiler", "--param", "depth=2", "--reason", "a new sensor").strip()
    until(lambda: project.trainings)

    assert f"boiler already has an open job: {job_id}" in said.by("start", "boiler", code=2)
    assert "took longer than 0 s" in said.by("wait", job_id[:8], "--timeout", "0", code=1)
    assert "does not wait for a person" in said.by("approve", job_id, code=2)
    assert said.by("--actor", "ann", "cancel", job_id, "--reason", "mistake").startswith("cancelled")
    shown = said.json("show", job_id)
    assert shown["job"]["parameters"] == {"depth": 2}
    assert shown["job"]["cancelled_by"] == "ann"
    assert run(["wait", job_id]) == 2


def test_the_doctor_finds_what_is_wrong_and_what_to_do(project: Project, said: Said) -> None:
    found = {finding["about"]: finding for finding in said.json("doctor")}
    assert {finding["status"] for finding in found.values()} == {"ok", "warning"}
    assert "autoretrain start boiler" in found["models.boiler"]["fix"]
    assert "720 labelled rows" not in found["models.boiler.data"]["text"]
    assert "labelled rows" in found["models.boiler.data"]["text"]

    (project.directory / "rows.csv").write_text("time,load\n2026-01-01T00:00:00,1\n")
    (project.directory / "train.py").unlink()
    capture = project.call("doctor", "--json")

    assert capture.returncode == 2
    found = {finding["about"]: finding for finding in json.loads(capture.stdout)}
    assert found["models.boiler.data"]["status"] == "problem"
    assert "hot" in found["models.boiler.data"]["text"]
    assert "there is no train.py" in found["models.boiler.training"]["text"]


# -- run -----------------------------------------------------------------------------------------------------


def test_once_looks_once_and_until_idle_ends_at_rest(project: Project, said: Said) -> None:
    assert said.by("run", "--once") == "looked at 1 model\n"
    assert said.by("run", "--until-idle") == "idle\n"
    job_id = said.by("start", "boiler").strip()

    assert said.by("run", "--until-idle") == "idle\n"
    assert said.json("show", job_id)["job"]["awaiting_until"] is not None
    assert said.by("reject", job_id, "--reason", "not now").startswith("completed")


def test_a_controller_answers_and_keeps_a_second_one_out(project: Project, said: Said) -> None:
    controller = project.spawn("run", "--listen", "127.0.0.1:0")
    errors = project.directory / "run.err"
    try:
        until(lambda: "watching 1 model" in errors.read_text())
        url = errors.read_text().split("listening on ")[1].split()[0]
        until(lambda: _get(f"{url}/healthz")[0] == 200)

        assert "autoretrain_ticks_total" in _get(f"{url}/metrics")[1]
        open_metrics = urllib.request.Request(
            f"{url}/metrics", headers={"Accept": "application/openmetrics-text"}
        )
        with urllib.request.urlopen(open_metrics, timeout=10) as answer:
            assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
            assert answer.read().endswith(b"# EOF\n")
        assert _get(f"{url}/nothing") == (404, "there is /metrics and /healthz and /readyz\n")
        assert f"process {controller.pid}" in said.by("run", code=2)
        (project.directory / ".autoretrain" / "run.lock").rename(project.directory / "run.lock")
        address = url.removeprefix("http://")
        assert "Address already in use" in said.by("run", "--listen", address, code=2)

        until(lambda: _get(f"{url}/readyz")[0] == 200)  # its first turn takes a while
        assert json.loads(_get(f"{url}/readyz")[1])["role"] == "leading"
        (project.directory / ".autoretrain" / "ledger.db").rename(project.directory / "ledger.db")
        until(lambda: _get(f"{url}/readyz")[0] == 503)
        assert "was deleted or replaced while in use" in _get(f"{url}/readyz")[1]
        assert _get(f"{url}/healthz")[0] == 200  # it turns, and restarting it would bring nothing back
    finally:
        controller.send_signal(signal.SIGTERM)
        assert controller.wait(timeout=30) == 0


def test_interrupting_a_wait_is_quiet(project: Project, said: Said) -> None:
    project.hold()
    job_id = said.by("start", "boiler").strip()
    until(lambda: project.trainings)
    process = project.spawn("wait", job_id)
    until(lambda: _started(process))
    process.send_signal(signal.SIGINT)

    # Where the signal meets a dataclass that is just being defined, Python ends by the signal itself, which
    # a shell tells as 130, too.
    assert process.wait(timeout=30) in (130, -signal.SIGINT)
    assert "Traceback" not in (project.directory / "run.err").read_text()
    assert said.by("cancel", job_id).startswith("cancelled")


def _started(process: subprocess.Popen[str]) -> bool:
    """Whether a process has opened its ledger, which is long after Python handles signals."""
    import psutil

    return any("ledger.db" in file.path for file in psutil.Process(process.pid).open_files())


def _get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
