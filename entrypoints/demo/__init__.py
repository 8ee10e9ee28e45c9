"""The demo: a small fleet of simulated process-heat agents goes through its life in minutes."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ...ports.errors import ConfigurationError, Problem
from ..logs import only_errors

if TYPE_CHECKING:
    from ...domain.state import ModelState
    from .life import Life

PAGE = "report.html"


def run(
    directory: Path,
    *,
    csv: Sequence[str | Path] = (),
    label: str | None = None,
    time: str | None = None,
    open_page: bool = False,
    echo: Callable[[str], object] = print,
    now: datetime | None = None,
) -> Path:
    """Write a project, let it live on simulated time, and tell what happened.

    Training, prediction and drift reports run as they would in production; only the clock is simulated.

    Args:
        directory: Where the project goes, and stays to be explored.
        csv: Files of the user's own table; none takes three simulated heaters.
        label: The table's label: a column, or a comparison such as ``NOX > 65``.
        time: The table's time column; ``None`` gives the rows hourly stamps in the order of the files.
        open_page: Whether to open the page in a browser.
        echo: Prints a line or several.
        now: End of the simulated rows; ``None`` takes the hour that has begun.

    Returns:
        The HTML page.

    Raises:
        ConfigurationError: The directory holds a project already, or the table cannot be used.
        Permanent: A first champion could not be trained; its log says why.
    """
    from . import console

    _check(directory, csv, label, time)
    end = (now or datetime.now(UTC)).astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    with console.narration(echo) as narrator, only_errors("autoretrain.notices"):
        if csv:
            from . import own_table

            life = own_table.live(directory, [Path(file) for file in csv], str(label), time, end, narrator)
        else:
            from . import fleet

            life = fleet.live(directory, end, narrator)
    states = life.states
    _tell(life, states, echo)
    page = _write_page(life, directory)
    echo(_NEXT.format(program=_program(), directory=directory, page=page, job=_telling_job(states)))
    if open_page:
        import webbrowser

        webbrowser.open(page.absolute().as_uri())
    return page


def _check(directory: Path, csv: Sequence[str | Path], label: str | None, time: str | None) -> None:
    from ..reading import FILE_NAME

    problems = []
    if (directory / FILE_NAME).exists():
        fix = "holds a project already; name another with --directory, or remove it"
        problems.append(Problem("directory", str(directory), fix))
    if csv and label is None:
        fix = 'say what is to be predicted: --label COLUMN, or a comparison such as --label "NOX > 65"'
        problems.append(Problem("label", "", fix))
    if not csv:
        problems += [
            Problem(name, value, "belongs to a table of yours; name its files with --csv")
            for name, value in (("label", label), ("time", time))
            if value is not None
        ]
    if problems:
        raise ConfigurationError(problems)


def _write_page(life: Life, directory: Path) -> Path:
    from ..report import write_report

    ports = life.pipeline.ports
    return write_report(
        ports.ledger, ports.observations, directory / PAGE, title="AutoRetrain demo", now=life.now
    )


def _tell(life: Life, states: Sequence[ModelState], echo: Callable[[str], object]) -> None:
    from . import console

    for remark in life.remarks:
        console.show(echo, remark)
    console.show(echo, console.timeline(life.chronicle.events))
    echo("")
    console.show(echo, console.summary(states))
    faults = life.pipeline.verify_audit()
    echo("\nAudit: " + ("every stream is whole" if not faults else f"{len(faults)} streams are damaged"))


def _program() -> str:
    """How to call the command from where the user is: by its path where it is not on the search path."""
    beside = Path(sys.executable).with_name("autoretrain")
    return "autoretrain" if shutil.which("autoretrain") or not beside.exists() else str(beside)


def _telling_job(states: Sequence[ModelState]) -> str:
    """The job that has most to tell: one that was promoted, and taken back if there is such; else any."""
    jobs = [job for state in states for job in state.jobs.values()]
    best = max(jobs, key=lambda job: (job.rolled_back_at is not None, job.deployed), default=None)
    return best.job_id[:8] if best else "<job>"


_NEXT = """
Look around:
  cd {directory}
  {program} jobs
  {program} show {job}
  {program} audit verify
Its page: {page}
"""
