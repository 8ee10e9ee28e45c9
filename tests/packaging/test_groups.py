"""Tests of one server stay with one worker: a pytest that xdist does not know lets them run anywhere."""

import subprocess
import sys
from pathlib import Path

TESTS = """
import os, pytest

@pytest.mark.xdist_group("server")
@pytest.mark.parametrize("number", range(6))
def test_with_the_server(number):
    with open("workers", "a") as file:
        print(os.environ["PYTEST_XDIST_WORKER"], file=file)
"""


def test_a_group_runs_in_one_worker(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadgroup", "-p", "no:randomly"]

    subprocess.run([*command, "test_it.py"], cwd=tmp_path, check=True, capture_output=True)

    workers = (tmp_path / "workers").read_text().split()
    assert len(workers) == 6
    assert len(set(workers)) == 1
