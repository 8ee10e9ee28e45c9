"""What the demo shows in a terminal, and in a pipe."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Protocol

from rich import box
from rich.console import Console, RenderableType
from rich.status import Status
from rich.table import Table
from rich.text import Text

from ...domain.state import ModelState
from .chronicle import Event, undeployed

Echo = Callable[[str], object]


class Narrator(Protocol):
    """Is told of what happens while it happens."""

    def step(self, text: str) -> None:
        """Take a step of the preparation."""

    def day(self, at: datetime) -> None:
        """Take a new simulated day."""

    def event(self, event: Event) -> None:
        """Take an event."""


class _Lines:
    """For a pipe: a line for each step and event."""

    def __init__(self, echo: Echo) -> None:
        self._echo = echo

    def step(self, text: str) -> None:
        self._echo(f"... {text}")

    def day(self, at: datetime) -> None:
        """A day on which nothing happens is not worth a line."""

    def event(self, event: Event) -> None:
        self._echo(f"{event.at:%Y-%m-%d}  {event.agent}  {event.what}")


class _Live:
    """For a terminal: one line that changes."""

    def __init__(self, status: Status) -> None:
        self._status = status
        self._day = self._last = ""

    def step(self, text: str) -> None:
        self._status.update(Text(text))

    def day(self, at: datetime) -> None:
        self._day = f"{at:%a %Y-%m-%d}"
        self._update()

    def event(self, event: Event) -> None:
        self._last = f"  {event.agent}: {event.what}"
        self._update()

    def _update(self) -> None:
        room = shutil.get_terminal_size().columns - 3  # beside the spinner
        self._status.update(Text(f"{self._day}{self._last}"[:room]))


@contextmanager
def narration(echo: Echo) -> Iterator[Narrator]:
    """Tell as it happens: a changing line in a terminal, plain lines elsewhere."""
    if not sys.stdout.isatty():
        yield _Lines(echo)
        return
    with Console().status("starting") as status:
        yield _Live(status)


def timeline(events: Sequence[Event]) -> Table:
    """All events, a row each; a day's date and a row's agent are written where they change."""
    table = Table(box=box.SIMPLE_HEAD, title="What happened", title_justify="left", pad_edge=False)
    for name, width in (("date", 10), ("agent", None), ("event", None), ("why", None)):
        table.add_column(name, min_width=width, overflow="fold")
    date = ""
    for event in events:
        today = f"{event.at:%Y-%m-%d}"
        colour = _colour(event.what)
        cells = (
            Text(event.agent),
            Text(event.what, colour),
            Text(event.why),
        )  # texts: names may hold brackets
        table.add_row("" if today == date else today, *cells)
        date = today
    return table


def _colour(what: str) -> str:
    marks = {"plant": "cyan", "rolled back": "magenta", "rejected": "yellow", " serves": "green"}
    return next((colour for mark, colour in marks.items() if mark in what), "")


def summary(states: Sequence[ModelState]) -> Table:
    """A row for each agent: who serves, and what became of its jobs."""
    table = Table(box=box.SIMPLE_HEAD, title="Where they stand", title_justify="left", pad_edge=False)
    for name in ("agent", "champion", "jobs", "promoted", "not promoted", "quarantined"):
        table.add_column(name, justify="right" if name in ("jobs", "promoted") else "left", overflow="fold")
    for state in states:
        jobs = list(state.jobs.values())
        reasons = ", ".join(f"{count} {why}" for why, count in undeployed(jobs).items())
        serving = f"version {state.champion.version.version}" if state.champion else "none"
        withdrawn = ", ".join(f"version {label}" for label in state.quarantined.values())
        promoted = sum(job.deployed for job in jobs)
        table.add_row(
            Text(state.model), serving, str(len(jobs)), str(promoted), reasons or "-", withdrawn or "-"
        )
    return table


def show(echo: Echo, what: RenderableType) -> None:
    """Print something rich: coloured and as wide as the terminal, or plain and 100 columns wide."""
    tty = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if tty else 100
    console = Console(file=io.StringIO(), width=width, force_terminal=tty)
    console.print(what, markup=False, highlight=False)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    echo("\n".join(line.rstrip() for line in text.rstrip().split("\n")))
