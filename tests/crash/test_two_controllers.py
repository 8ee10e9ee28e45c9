"""The benchmark that kills and stops two controllers, on a small scale."""

import re
import subprocess
import sys

import pytest
from cli_project import environment
from postgres_server import programs

from services import ROOT

_SCRIPT = ROOT / "benchmarks" / "two_controllers.py"


def run(*arguments: str, seconds: float = 600) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(_SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds, env=environment())


@pytest.mark.slow
@pytest.mark.service
def test_two_controllers_that_are_killed_and_stopped_end_every_job_once() -> None:
    programs()  # skips where PostgreSQL is not installed
    done = run("--jobs", "6", "--models", "6", "--seed", "1", "--minutes", "8")

    assert done.returncode == 0, done.stdout + done.stderr
    counts = dict(re.findall(r"^\| (.+?) \| (\d+) \|$", done.stdout, re.MULTILINE))
    assert counts["jobs ended"] == "6"
    assert counts["lost or doubled"] == counts["run keys begun twice"] == "0"
    assert int(counts["controllers killed (SIGKILL) and started again"]) > 0
    assert int(counts["controllers stopped past their leases (SIGSTOP, SIGCONT)"]) > 0


def test_bad_options_are_refused_with_the_fix() -> None:
    done = run("--jobs", "1")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--jobs" in done.stderr
    assert "2 or more" in done.stderr
