"""The soak: it counts what it has seen, stops at the first broken rule, and plays that story again."""

import re

import pytest
from click.testing import CliRunner, Result

from autoretrain.adapters.memory import MemoryCompute
from autoretrain.entrypoints.testing import soak
from autoretrain.entrypoints.testing.simulated_world import World
from autoretrain.ports.compute import RunRequest


class _Hasty(MemoryCompute):
    """A backend that breaks its contract: what it knows already it starts again."""

    def submit(self, run: RunRequest) -> None:
        super().submit(run)
        self.started[run.key] += 1


class _Broken(soak.Soaking):
    def make_world(self) -> World:
        world = super().make_world()
        world.compute = _Hasty(world.compute._script)
        world.record.started = world.compute.started
        return world


def run(*arguments: str) -> Result:
    return CliRunner().invoke(soak.main, arguments)


def test_a_soak_counts_what_was_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak, "_HISTORIES", 4)  # for the sake of time
    done = run("--minutes", "0.001", "--seed", "7")
    assert done.exit_code == 0, done.output
    counts = dict(re.findall(r"^ *(\S.*?)  +(\d+)$", done.output, re.MULTILINE))
    assert int(counts["histories"]) == 4
    assert all(int(counts[name]) > 0 for name in ("steps", "crashes survived", "jobs opened", "promotions"))
    assert done.output.splitlines()[0] == "seed 7, 0.001 minutes"


@pytest.mark.slow  # it makes the story short
def test_a_broken_rule_ends_it_with_a_story_that_can_be_played_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak, "_HISTORIES", 4)
    monkeypatch.setattr(soak, "Soaking", _Broken)
    done = run("--minutes", "1", "--seed", "7")
    assert done.exit_code == 1, done.output
    assert "A rule was broken: rule 1: runs were started more than once" in done.output
    steps = re.findall(r"^ +\d+\. (.*)$", done.output, re.MULTILINE)
    assert steps[0].startswith("begin (boundary ")
    assert len(steps) <= 4, "a start and a turn are enough"
    blob = re.findall(r"--replay (\S+)$", done.output, re.MULTILINE)
    again = run("--replay", *blob)
    assert again.exit_code == 1
    assert re.findall(r"^ +\d+\. (.*)$", again.output, re.MULTILINE) == steps

    monkeypatch.undo()
    mended = run("--replay", *blob)
    assert mended.exit_code == 0
    assert "does not break a rule any more" in mended.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--minutes", "0"), "--minutes"),
        (("--minutes", "soon"), "--minutes"),
        (("--seed", "-1"), "--seed"),
        (("--replay", "nonsense"), "--replay"),
    ],
)
def test_bad_input_is_named(arguments: tuple[str, ...], said: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert said in done.output
    assert "Traceback" not in done.output
