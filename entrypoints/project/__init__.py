"""The starter project of ``autoretrain init``: real data, a real champion, and a reason to retrain it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from ...ports.errors import ConfigurationError, MissingExtra, Problem
from ...ports.values import TimeWindow
from ..demo.plant import Heater, Regime, write_rows
from ..settings_file import FILE_NAME

MODEL = "heat_predictor_v2"

_DAYS = 220
_FOULED_DAYS_AGO = 105
_CHAMPION_DAYS_AGO = (210, 120)


def create(
    directory: Path, *, now: datetime | None = None, progress: Callable[[str], None] = lambda step: None
) -> list[str]:
    """Write a project in which every snippet of the README runs.

    It holds one model, ``heat_predictor_v2``: hourly rows of a simulated heater whose tubes fouled 105 days
    ago, and a champion trained before that, which is now below its threshold.

    Args:
        directory: Where to write; made when it is not there.
        now: End of the rows; ``None`` takes the hour that has begun.
        progress: Told of each step.

    Returns:
        The files written, relative to ``directory``.

    Raises:
        ConfigurationError: The directory holds a project already; nothing was changed.
        MissingExtra: A library that training or scoring needs is missing; nothing was written.
        Permanent: The champion could not be trained; its log says why.
    """
    if (directory / FILE_NAME).exists():
        fix = "there is a project here already; choose another directory"
        raise ConfigurationError([Problem("directory", str(directory), fix)])
    for library in ("mlflow", "sklearn", "pandas", "pyarrow"):  # before anything is written
        if find_spec(library) is None:
            raise MissingExtra(library, "local")
    end = (now or datetime.now(UTC)).replace(minute=0, second=0, microsecond=0)
    start = end - timedelta(days=_DAYS)
    directory.mkdir(parents=True, exist_ok=True)

    progress("writing hourly rows of a simulated heater")
    fouled = Regime(end - timedelta(days=_FOULED_DAYS_AGO), fouling=0.12)
    heater = Heater(seed=7, regimes=(Regime(start), fouled))
    data = Path("data") / f"{MODEL}.csv"
    write_rows(directory / data, heater.rows(start, _DAYS * 24))

    progress("writing settings and training script")
    written = [str(data)]
    for name in (FILE_NAME, "train.py"):
        template = files(__package__).joinpath("templates", name)
        (directory / name).write_text(template.read_text(encoding="utf-8"), encoding="utf-8")
        written.append(name)

    progress("training the first champion on rows from before the change")
    from .bootstrap import train_champion

    first, last = (end - timedelta(days=days) for days in _CHAMPION_DAYS_AGO)
    train_champion(directory, MODEL, TimeWindow(first, last))
    return written
