"""The testing kit as an integrator meets it: its front door, and the examples of its page."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from cli_project import environment

from autoretrain.entrypoints import testing

from services import ROOT


@pytest.mark.parametrize("name", testing.__all__)
def test_a_name_of_the_front_door_is_there(name: str) -> None:
    assert getattr(testing, name) is not None


def test_every_suite_is_at_the_front_door() -> None:
    files = (ROOT / "entrypoints" / "testing").glob("*.py")
    suites = {
        suite for file in files for suite in re.findall(r"^class (\w+Contract)\b", file.read_text(), re.M)
    }
    assert suites - {"StoreContract"} == {name for name in testing.__all__ if name.endswith("Contract")}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'LedgerContrakt'"):
        testing.LedgerContrakt  # noqa: B018


def test_every_suite_is_on_the_page() -> None:
    page = (ROOT / "docs" / "testing_kit.md").read_text()
    assert [name for name in testing.__all__ if name.endswith("Contract") and f"`{name}`" not in page] == []


def test_the_examples_of_the_page_pass(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "testing_kit.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert len(examples) == 4
    for number, example in enumerate(examples):
        (tmp_path / f"test_example_{number}.py").write_text(example)
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", str(tmp_path)],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(r"9 passed, 5 skipped", ran.stdout), ran.stdout


def test_a_failure_inside_a_suite_shows_both_sides(tmp_path: Path) -> None:
    (tmp_path / "test_mute.py").write_text(
        "from autoretrain.entrypoints.testing import TelemetryContract\n"
        "class Mute:\n"
        "    def report(self, tick): pass\n"
        "class TestMute(TelemetryContract):\n"
        "    def telemetry(self): return Mute()\n"
        "    def ticks(self, telemetry): return 17\n"
    )
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-x", str(tmp_path)],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    assert "assert 17 ==" in ran.stdout
