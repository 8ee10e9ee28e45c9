"""The simulation for as long as is asked: ``python -m autoretrain.entrypoints.testing.soak --minutes 10``.

Histories are drawn from a seed, which is printed. The first one that breaks a rule ends the soak: it is made
as short as Hypothesis can, told step by step, and followed by the one command that plays it again.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import click
from hypothesis import Verbosity, reproduce_failure, seed, settings
from hypothesis import __version__ as hypothesis_version
from hypothesis.errors import DidNotReproduce, InvalidArgument
from hypothesis.stateful import run_state_machine_as_test

from .simulated_world import histories_of
from .simulation import RetrainingMachine

_PROGRAM = "python -m autoretrain.entrypoints.testing.soak"
_HISTORIES = 20  # drawn from one seed; the time is looked at in between
_STEPS = 60
_DEADLY = ("crash_before", "crash_after", "late_crash")
_BLOB = re.compile(r"@reproduce_failure\('[^']*', b'([^']*)'\)")


@dataclass
class Tally:
    """What a soak has seen.

    Attributes:
        histories: Worlds that lived to their end.
        steps: Steps in them.
        faults: How often each fault happened.
        landed: Calls that took effect late.
        entries: How often each kind of entry was recorded.
        moves: Moves of an alias by a controller that had lost its lease, or was gone.
        checks: How often the rules were checked.
    """

    histories: int = 0
    steps: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    landed: int = 0
    entries: Counter[str] = field(default_factory=Counter)
    moves: int = 0
    checks: int = 0

    def add(self, machine: RetrainingMachine) -> None:
        """Add a history."""
        world = machine.world
        self.histories += 1
        self.steps += len(machine.story)
        self.checks += machine.checks
        self.faults += world.weather.met
        self.landed += world.weather.landed
        self.moves += sum(move.late for move in world.record.moves)
        for history in histories_of(machine.ports, world.fleet):
            self.entries.update(entry.kind for entry in history.entries)

    @property
    def crashes(self) -> int:
        """Processes that died."""
        return sum(self.faults[name] for name in _DEADLY)

    def line(self) -> str:
        """The progress in a line."""
        done = self.entries["promotion.done"]
        return (
            f"{self.histories} histories, {self.steps} steps, {self.crashes} crashes, "
            f"{self.faults.total() - self.crashes} other faults, {self.entries['job.opened']} jobs, "
            f"{done} promotions"
        )

    def lines(self) -> list[str]:
        """The whole account."""
        told = self.entries
        return [
            f"histories                      {self.histories}",
            f"steps                          {self.steps}",
            f"crashes survived               {self.crashes}",
            *(f"  {_words(name):<29}{self.faults[name]}" for name in _DEADLY),
            f"other faults survived          {self.faults.total() - self.crashes}",
            *(f"  {_words(n):<29}{self.faults[n]}" for n in sorted(set(self.faults) - set(_DEADLY))),
            f"late calls that took effect    {self.landed}",
            f"jobs opened                    {told['job.opened']}",
            f"promotions                     {told['promotion.done']}",
            f"rollbacks                      {told['rollback.done']}",
            f"foreign champions reported     {told['champion.conflict'] + told['champion.adopted']}",
            f"entries                        {told.total()}",
            f"times the rules were checked   {self.checks}",
        ]


def _words(name: str) -> str:
    return name.replace("_", " ")


class Soaking(RetrainingMachine):
    """The simulation, with an account of what happened."""

    tally: ClassVar[Tally] = Tally()
    latest: ClassVar[RetrainingMachine | None] = None

    def __init__(self) -> None:
        super().__init__()
        Soaking.latest = self

    def teardown(self) -> None:
        """Calm down, and add it all up."""
        self.story.append("the world calms down")
        super().teardown()
        self.tally.add(self)


def _live(decorate: Callable[[type[Soaking]], type[Soaking]]) -> None:
    """Live some histories."""
    budget = settings(
        max_examples=_HISTORIES,
        stateful_step_count=_STEPS,
        deadline=None,
        database=None,
        print_blob=True,
        report_multiple_bugs=False,
        verbosity=Verbosity.quiet,
    )
    # A class of its own each time: what decorates it stays on it.
    run_state_machine_as_test(decorate(type("Soaking", (Soaking,), {})), settings=budget)


def _tell(error: BaseException, machine: RetrainingMachine | None, again: str | None) -> None:
    """Say what broke, after which steps, and how to see it again."""
    click.echo(f"\nA rule was broken: {str(error).splitlines()[0]}", err=True)
    click.echo("The shortest story that was found:", err=True)
    for number, step in enumerate(machine.story if machine else (), start=1):
        click.echo(f"{number:4}. {step}", err=True)
    found = _BLOB.search("\n".join(getattr(error, "__notes__", ())))
    again = f"--replay {found.group(1)}" if found else again
    click.echo(f"To play it again: {_PROGRAM} {again}", err=True)


def _replay(blob: str) -> int:
    try:
        _live(reproduce_failure(hypothesis_version, blob.encode()))
    except DidNotReproduce:
        click.echo("This story does not break a rule any more.")
        return 0
    except InvalidArgument as error:
        text = f"{blob[:40]!r} is no story of this version; give what a soak has printed ({error})"
        raise click.BadParameter(text, param_hint="--replay") from None
    except Exception as error:
        _tell(error, Soaking.latest, f"--replay {blob}")
        return 1
    return 0


def _soak(minutes: float, first: int) -> int:
    started = time.monotonic()
    until = started + minutes * 60
    drawn, Soaking.tally = first, Tally()
    click.echo(f"seed {first}, {minutes:g} minutes")
    try:
        while time.monotonic() < until:
            _live(seed(drawn))
            drawn += 1
            if sys.stdout.isatty():
                spent = int(time.monotonic() - started)
                click.echo(f"\r{spent // 60}:{spent % 60:02} {Soaking.tally.line()}".ljust(110), nl=False)
    except KeyboardInterrupt:
        click.echo("\nstopped")
    except Exception as error:
        _tell(error, Soaking.latest, f"--seed {drawn} --minutes 0.01")
        return 1
    click.echo()
    click.echo("\n".join(Soaking.tally.lines()))
    click.echo(f"no rule was broken in {(time.monotonic() - started) / 60:.1f} minutes from seed {first}")
    return 0


@click.command()
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), default=10.0, show_default=True)
@click.option(
    "--seed", "first", type=click.IntRange(min=0), default=None, help="Draw the same histories again."
)
@click.option("--replay", "blob", default=None, help="Play a story again that broke a rule.")
def main(minutes: float, first: int | None, blob: str | None) -> None:
    """Let the simulation run, and stop at the first rule that is broken."""
    if blob is not None:
        sys.exit(_replay(blob))
    sys.exit(_soak(minutes, time.time_ns() % 10**8 if first is None else first))


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)  # what the controllers say of their misfortunes is no news here
    main()
