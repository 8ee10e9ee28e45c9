"""The story of a small fleet: three heaters whose world changes, and what becomes of their models."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.resources import files
from pathlib import Path

from ...ports.values import TimeWindow
from ..pipeline import AutoRetrainPipeline
from ..project.bootstrap import train_champion
from ..reading import FILE_NAME
from .chronicle import Event
from .clock import SimulatedClock
from .console import Narrator
from .life import Act, Life
from .plant import Heater, Regime, write_rows

DAYS = 35
"""Length of the simulated life."""

_HISTORY_DAYS = 60  # rows before it begins
_CHAMPION_DAYS = (-50, -8)  # rows that the champions from before were trained on
_COKE, _FEED, _CONNECTED, _APPROVED, _DECOKED, _ROLLBACK = 4, 9, 19, 20, 29, 31

_NOTES = (
    (_COKE, "GL-001", "coke on the tubes", "the same inputs now mean hotter tubes"),
    (_FEED, "GL-002", "more feed, 44 instead of 40 kg/s", "other inputs, the same physics"),
    (_CONNECTED, "GL-003", "a heater without a model is connected", ""),
    (_DECOKED, "GL-001", "the tubes are decoked", "the heater is again as it was on the first day"),
)


@dataclass(frozen=True, slots=True)
class _Calendar:
    """Midnights by the number of the day; day 0 is the first of the life."""

    end: datetime

    def __call__(self, number: int) -> datetime:
        return self.end - timedelta(days=DAYS - number)


def live(directory: Path, now: datetime, narrator: Narrator) -> Life:
    """Write the fleet's project, and let it live for five weeks.

    Args:
        directory: The project; it exists and is empty.
        now: End of the rows, a full hour. The life ends at the midnight before, so that it is the same
            whenever it is run.
        narrator: Told of everything as it happens.

    Returns:
        The life, with its whole chronicle.

    Raises:
        Permanent: A champion from before could not be trained.
    """
    day = _Calendar(now.replace(hour=0))
    narrator.step("writing hourly rows of three simulated heaters")
    _write_project(directory, day, now)
    for agent in ("GL-001", "GL-002"):
        narrator.step(f"training the champion that {agent} has from before")
        first, last = (day(number) for number in _CHAMPION_DAYS)
        train_champion(directory, agent, TimeWindow(first, last))

    clock = SimulatedClock(day(0))
    life = Life(AutoRetrainPipeline(settings=directory, clock=clock, actor="operator"), clock, narrator)
    life.live(
        [day(number) for number in range(DAYS + 1)], {day(number): act for number, act in _acts().items()}
    )
    notes = [Event(day(number), agent, f"plant: {what}", why) for number, agent, what, why in _NOTES]
    life.chronicle.events = sorted([*notes, *life.chronicle.events], key=lambda event: event.at)
    return life


def _write_project(directory: Path, day: _Calendar, now: datetime) -> None:
    start = day(-_HISTORY_DAYS)
    for agent, heater in _heaters(day).items():
        rows = heater.rows(start, int((now - start) / timedelta(hours=1)))
        write_rows(directory / "data" / f"{agent}.csv", rows)
    templates = files(__package__).joinpath("templates")
    for source, name in (("fleet.toml", FILE_NAME), ("train.py", "train.py")):
        (directory / name).write_text(templates.joinpath(source).read_text("utf-8"), encoding="utf-8")


def _heaters(day: _Calendar) -> dict[str, Heater]:
    usual = Regime(day(-_HISTORY_DAYS))
    coked, clean = Regime(day(_COKE), fouling=0.12), Regime(day(_DECOKED))
    return {
        "GL-001": Heater(2, (usual, coked, clean)),
        "GL-002": Heater(11, (usual, Regime(day(_FEED), feed=44.0))),
        "GL-003": Heater(5, (usual,)),
    }


def _acts() -> dict[int, Act]:
    """What people do, by day."""

    def watch(pipeline: AutoRetrainPipeline) -> None:
        for agent in ("GL-001", "GL-002"):
            pipeline.judge(agent)

    def start(pipeline: AutoRetrainPipeline) -> None:
        pipeline.start_retrain_job("GL-003", reason="a new heater needs its first model")

    def approve(pipeline: AutoRetrainPipeline) -> None:
        (job,) = pipeline.list_recent_jobs("GL-003")
        pipeline.approve(job.job_id, "figures reviewed, fit to serve")

    def roll_back(pipeline: AutoRetrainPipeline) -> None:
        pipeline.rollback("GL-001", "tubes decoked: the model of the coked tubes is wrong now")

    return {0: watch, _CONNECTED: start, _APPROVED: approve, _ROLLBACK: roll_back}
