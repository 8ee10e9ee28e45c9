"""What a project has recorded of its past, and the span of it that can be replayed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from pathlib import Path

from ...domain.spec import ModelSpec
from ...ports.errors import ConfigurationError, Problem
from ...ports.ledger import Ledger
from ...ports.observations import Observations
from ...ports.values import TimeWindow
from .outcome import Outcome, Yardstick
from .recorded import Records
from .records import History, recorded
from .replay import Policy, Progress, replay
from .tables import read_table


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of a backtest.

    Attributes:
        start: From when on; ``None`` begins with the records.
        end: Until when; ``None`` ends with the records.
        every: Over how long the metric is taken each time.
        price: What an hour of training costs; ``None`` when nobody said.
    """

    start: datetime | None = None
    end: datetime | None = None
    every: timedelta = timedelta(days=1)
    price: float | None = None


def records_of(
    fleet: Mapping[str, ModelSpec],
    ledger: Ledger | None,
    observations: Observations | None,
    tables: Iterable[Path] = (),
    tolerance: timedelta = timedelta(days=1),
) -> Records:
    """Read the records of a fleet.

    Args:
        fleet: The settings under which they were made.
        ledger: The ledger; ``None`` for none.
        observations: The record of looks; ``None`` for none.
        tables: Files of recorded metrics and drift; what they hold of a model's metric, or of its drift,
            takes the place of what its looks saw. See ``read_table``.
        tolerance: How far apart the rows of a recorded and of a replayed training may begin or end, and still
            be taken for the same.

    Raises:
        ConfigurationError: A table cannot be used.
        Temporary: Ledger or record cannot be read now.
    """
    found = [read_table(path) for path in tables]
    histories: dict[str, History] = {}
    for model in fleet:
        entries = ledger.read(model) if ledger else ()
        history = recorded(model, entries, observations.recent(model) if observations else ())
        for table in found:
            history.samples |= table.samples.get(model, {})
            history.drifts = table.drifts.get(model, history.drifts)
        histories[model] = history
    return Records(histories, fleet, tolerance)


def span_of(records: Records, asked: Asked) -> TimeWindow:
    """The span to replay.

    Raises:
        ConfigurationError: Nothing is recorded, or the end does not come after the beginning.
    """
    times = list(chain.from_iterable(history.times for history in records.histories.values()))
    if not times:
        fix = "nothing is recorded of these models: name a table of metrics with --metrics"
        raise ConfigurationError([Problem("backtest", "", fix)])
    start, end = asked.start or min(times), asked.end or max(times) + timedelta(microseconds=1)
    if start >= end:
        fix = f"must come before the end, {end:%Y-%m-%d %H:%M} UTC"
        raise ConfigurationError([Problem("--from", f"{start:%Y-%m-%d %H:%M} UTC", fix)])
    return TimeWindow(start, end)


def compare(
    policies: Sequence[Policy], records: Records, asked: Asked, progress: Progress = lambda policy, at: None
) -> list[Outcome]:
    """Replay policies over the same records, one after another.

    Time below the threshold is counted by the threshold of the first policy, for all of them.

    Args:
        policies: What is tried.
        records: The past.
        asked: Which part of it, and how it is measured.
        progress: Told of the time that each replay has come to.

    Returns:
        One outcome a policy.

    Raises:
        ConfigurationError: There is no such part of the past.
    """
    span = span_of(records, asked)
    thresholds = {name: spec.worst_acceptable for name, spec in policies[0].fleet.items()}
    yardstick = Yardstick(asked.every, thresholds, price=asked.price)
    return [
        replay(policy, records.sources(policy.fleet, span), span, yardstick, progress) for policy in policies
    ]
