"""The user's own table under the loop: read, checked as a whole, given windows, and lived through."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.resources import files
from pathlib import Path

from ...ports.errors import ConfigurationError, Problem
from ...ports.values import TimeWindow
from ..pipeline import AutoRetrainPipeline
from ..project.bootstrap import train_champion
from ..reading import FILE_NAME
from .clock import SimulatedClock
from .console import Narrator
from .life import Life
from .table import LEAST_ROWS, Facts, write_table

_LEAST_IN_WINDOW = 120  # labelled rows; verdict and validation want 100
_MOST_STEPS = 12
_TRAINING_WINDOWS = 6  # length of the training, in evaluation windows


@dataclass(frozen=True, slots=True)
class Windows:
    """How a table is cut: a first champion's rows, then steps of one evaluation window each.

    Attributes:
        evaluation_days: Length of a step, and of what performance is judged on.
        training_days: Length of a training.
        steps: Number of steps.
    """

    evaluation_days: int
    training_days: int
    steps: int


def cut(rows: int, days: float) -> Windows:
    """Choose windows from the number of labelled rows and the days they span.

    Args:
        rows: Labelled rows.
        days: Days from the first to the last.

    Returns:
        Windows that hold enough rows on average; at most 12 steps, at the end of the table.

    Raises:
        ConfigurationError: The table is too small; says how much is needed.
    """
    if rows < LEAST_ROWS:
        fix = f"too few: at least {LEAST_ROWS:,} rows with a label are needed"
        raise ConfigurationError([Problem("csv", f"{rows:,} labelled rows", fix)])
    evaluation = max(1, round(days / 20), math.ceil(_LEAST_IN_WINDOW * days / rows))
    training = min(730, max(7, min(_TRAINING_WINDOWS * evaluation, int(days) - 2 * evaluation)))
    steps = min(_MOST_STEPS, int((days - training) // evaluation))
    if evaluation > 365 or steps < 2:
        fix = "too short: at least 9 days, and 120 labelled rows a year, are needed"
        raise ConfigurationError([Problem("csv", f"rows of {days:.1f} days", fix)])
    return Windows(evaluation, training, steps)


def live(
    directory: Path, csv: Sequence[Path], label: str, time: str | None, end: datetime, narrator: Narrator
) -> Life:
    """Write a project for a table, and let it live through the table's later part.

    Args:
        directory: The project; made when the table is fit to be used.
        csv: CSV or Parquet files, in the order of their rows.
        label: A column, or a comparison such as ``NOX > 65``.
        time: The time column; ``None`` gives the rows hourly stamps that end at ``end``.
        end: When the life ends, for a table without times.
        narrator: Told of everything as it happens.

    Returns:
        The life, with its whole chronicle.

    Raises:
        ConfigurationError: The table cannot be used; nothing was written.
        Permanent: The first champion could not be trained.
    """
    model = re.sub(r"[\x00-\x1f/:]", "_", Path(csv[0]).name.split(".")[0])[:200] or "table"
    data = Path("data") / f"{model}.parquet"
    narrator.step("reading the table")
    facts = write_table(csv, label, time, end, directory / data)
    last = facts.last + timedelta(microseconds=1)  # windows end before their end
    windows = cut(facts.rows, facts.days)
    _write_project(directory, model, data, facts, windows)

    step = timedelta(days=windows.evaluation_days)
    begin = last - windows.steps * step
    narrator.step(f"training the first champion on {windows.training_days} days")
    train_champion(directory, model, TimeWindow(begin - timedelta(days=windows.training_days), begin))

    clock = SimulatedClock(begin)
    life = Life(AutoRetrainPipeline(settings=directory, clock=clock), clock, narrator)
    life.remarks = [*facts.remarks, _told(facts, windows)]
    life.pipeline.enrol()
    life.live([begin + number * step for number in range(1, windows.steps + 1)])
    narrator.step("comparing the latest inputs with those the champion was trained on")
    life.remarks.append(f"Drift at the end: {life.pipeline.judge(model, 'drift').reason}.")
    return life


def _told(facts: Facts, windows: Windows) -> str:
    bar = "accuracy below 0.92, floor 0.85" if facts.task == "classification" else "R² below 0.6, floor 0.3"
    return (
        f"{facts.rows:,} labelled rows over {facts.days:.0f} days, a {facts.task}. First champion on "
        f"{windows.training_days} days, then {windows.steps} looks at {windows.evaluation_days} days each; "
        f"a retraining when {bar}."
    )


def _write_project(directory: Path, model: str, data: Path, facts: Facts, windows: Windows) -> None:
    script = files(__package__).joinpath("templates", "train_table.py").read_text("utf-8")
    (directory / "train.py").write_text(script, encoding="utf-8")
    settings = _SETTINGS.format(
        name=_quoted(model),
        path=_quoted(data.as_posix()),
        time=_quoted(facts.time),
        label=_quoted(facts.label),
        task=facts.task,
        measure="" if facts.task == "classification" else 'metric = "r2"\n',
        threshold=0.92 if facts.task == "classification" else 0.6,
        floor=0.85 if facts.task == "classification" else 0.3,
        evaluation=windows.evaluation_days,
        training=windows.training_days,
    )
    (directory / FILE_NAME).write_text(settings, encoding="utf-8")


def _quoted(text: str) -> str:
    """A basic string of TOML; JSON's escapes are a part of TOML's."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


_SETTINGS = """\
# Written by "autoretrain demo --csv". To go on: let the table grow, and run "autoretrain run".

[adapters]
metrics = "rescoring"                      # predict the recent rows again, and compare with their labels

[models.{name}]
task = "{task}"
{measure}rule = "performance"                       # also "performance | drift | schedule"

[models.{name}.data]
path = {path}    # Parquet or CSV; a glob takes many
time = {time}
label = {label}

[models.{name}.trigger]
performance_metric_threshold = {threshold}
drift_threshold = 0.25
evaluation_window_days = {evaluation}
training_window_days = {training}

[models.{name}.training]
command = ["python", "train.py"]           # any program; "python" is the one that runs AutoRetrain
deadline_seconds = 900
parameters = {{ task = "{task}" }}

[models.{name}.promotion]
floor = {floor}
min_improvement = 0.05
"""
