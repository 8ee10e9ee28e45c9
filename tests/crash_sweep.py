"""The crash sweep: a full cycle, killed at every record and act of it, and finished by another process.

Run as a program it prints its table: ``python tests/crash_sweep.py`` (``make sweep``).
"""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cli_project import environment
from crash_outcome import Outcome
from crash_stores import STORES, Make
from left_running import processes_in
from warm_process import Warm, warm

_SIDES = ("before", "after")


class Kill(NamedTuple):
    """Where a process dies: at a record or act, before or after it."""

    number: int
    name: str
    side: str

    def __str__(self) -> str:
        return f"{self.side} {self.name} (call {self.number})"


class Faults(NamedTuple):
    """What is wrong with the end of a cycle: what happened twice, and what is missing or another."""

    doubled: list[str]
    lost: list[str]


@dataclass(frozen=True)
class Life:
    """A cycle, and what has come of it.

    Attributes:
        kill: Where its first process died; ``None`` for the unbroken one.
        outcome: Its end.
        points: Records and acts of its last process, in order.
        left: Processes that were still there.
    """

    kill: Kill | None
    outcome: Outcome
    points: tuple[str, ...]
    left: tuple[str, ...]


class Sweep:
    """Lives cycles over one kind of ledger.

    Args:
        helper: Forks the processes that drive the cycles.
        folder: Where the cycles are laid out.
        store: Name of the ledger's store.
        make: Makes a place in the store.
    """

    def __init__(self, helper: Warm, folder: Path, store: str, make: Make) -> None:
        self._helper = helper
        self._folder = folder
        self._store = store
        self._make = make
        self._ask("template", str(folder))
        helper.learn(lambda: self._keep(self.live()))

    def _keep(self, life: Life) -> None:
        """Keep the unbroken cycle, which all others are compared with."""
        self.whole = life

    @property
    def kills(self) -> list[Kill]:
        """Every way to die in the cycle: before and after each of its records and acts."""
        return [Kill(n, name, side) for n, name in enumerate(self.whole.points) for side in _SIDES]

    def faults(self, life: Life) -> Faults:
        """What is wrong with how a cycle ended."""
        end = life.outcome
        different = end.differences(self.whole.outcome)
        return Faults(end.doubled, [*end.missing, *different, *(f"left running: {p}" for p in life.left)])

    def live(self, kill: Kill | None = None) -> Life:
        """Live one cycle: killed where it is said, and gone on with by a new process.

        Raises:
            AssertionError: The process did not die there, or the next one did not come to the end.
        """
        home = self._folder / uuid.uuid4().hex[:8]
        home.mkdir()
        with self._make(home) as address:
            self._ask("prepare", str(home), str(self._folder), str(self._helper.address))
            drive = ("drive", str(home), self._store, address)
            if kill is not None:
                self._ask(*drive, str(kill.number), kill.side, expected=-signal.SIGKILL)
                died = (home / "died").read_text()
                assert died == kill.name, f"the cycle is not the same twice: {died} in the place of {kill}"
            self._ask(*drive)
            outcome = Outcome(**json.loads((home / "outcome.json").read_text()))
            points = tuple(json.loads((home / "points.json").read_text()))
            left = tuple(processes_in(home))
        shutil.rmtree(home)
        return Life(kill, outcome, points, left)

    def _ask(self, *order: str, expected: int = 0) -> None:
        status = self._helper.ask(*order)
        assert status == expected, f"{order}: {status}, not {expected}; see {self._folder / 'warm.log'}"


@contextmanager
def sweeping(folder: Path, store: str) -> Iterator[Sweep]:
    """Make a sweep ready, which takes some seconds once.

    Args:
        folder: Where to work; what is left in it is what went wrong.
        store: One of ``STORES``.
    """
    with warm("crash_cycle", folder, environment()) as helper, STORES[store].running() as make:
        yield Sweep(helper, folder, store, make)


# -- as a program --------------------------------------------------------------------------------------------

_HEAD = ("record or act", "points", "kills", "restarts", "notices sent again", "duplicates", "lost")


def rows_of(sweep: Sweep, lives: Sequence[Life]) -> list[tuple[str, ...]]:
    """The sweep's table: a line for each record or act, and one for all."""
    names = list(dict.fromkeys(life.kill.name for life in lives if life.kill))
    by_name = {name: [life for life in lives if life.kill and life.kill.name == name] for name in names}
    return [*(_row(name, sweep, by_name[name]) for name in sorted(names)), _row("all", sweep, lives)]


def _row(name: str, sweep: Sweep, lives: Sequence[Life]) -> tuple[str, ...]:
    faults = [sweep.faults(life) for life in lives]
    numbers = (
        len({life.kill.number for life in lives if life.kill}),
        len(lives),
        len(lives),  # a life without a restart that came to the end is an error, not a row
        sum(life.outcome.sent_again for life in lives),
        sum(len(found.doubled) for found in faults),
        sum(len(found.lost) for found in faults),
    )
    return (name, *map(str, numbers))


def markdown(rows: Sequence[tuple[str, ...]]) -> str:
    """A table in Markdown."""
    rule = ("---", *("---:" for _ in _HEAD[1:]))
    return "".join(f"| {' | '.join(row)} |\n" for row in (_HEAD, rule, *rows))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Kill a full cycle at every record and act, and finish it.")
    parser.add_argument("--store", choices=sorted(STORES), default="sqlite", help="kind of the ledger")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="cycles at the same time")
    parser.add_argument("--only", default="", help="kill at this record or act alone, such as ledger.append")
    parser.add_argument("--first", type=int, default=0, help="number of the first call to kill at, from 0")
    parser.add_argument("--last", type=int, default=None, help="number of the last call to kill at")
    parser.add_argument("--markdown", type=Path, default=None, help="also write the table to this file")
    return parser.parse_args()


def main() -> int:
    """Sweep, and print the table; 1 when anything was lost or doubled."""
    asked, started = _arguments(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sweep-") as folder, sweeping(Path(folder), asked.store) as sweep:
        kills = [
            kill
            for kill in sweep.kills
            if asked.only in ("", kill.name)
            and asked.first <= kill.number <= (kill.number if asked.last is None else asked.last)
        ]
        lives = []
        with ThreadPoolExecutor(asked.jobs) as pool:
            for life in pool.map(sweep.live, kills):
                lives.append(life)
                _tell(sweep, life, len(lives), len(kills))
        table = markdown(rows_of(sweep, lives))
        print(f"{asked.store}: {len(lives)} kills in {time.monotonic() - started:.0f} s\n\n{table}", end="")
        if asked.markdown:
            asked.markdown.write_text(table)
        return int(any(any(sweep.faults(life)) for life in lives))


def _tell(sweep: Sweep, life: Life, done: int, of: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{done}/{of} {life.kill}".ljust(79), end="\n" if done == of else "", file=sys.stderr)
    for fault in [*sweep.faults(life).doubled, *sweep.faults(life).lost]:
        print(f"killed {life.kill}: {fault}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
