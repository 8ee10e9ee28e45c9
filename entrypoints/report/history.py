"""What a model's looks and entries say over time: series to plot, events to mark, versions that served."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any

from ...domain.sealing import load
from ...ports.ledger import Entry
from ...ports.observations import Look

OPENED = "opened"
PROMOTED = "promoted"
REFUSED = "refused"
FAILED = "failed"
ROLLED_BACK = "rolled-back"

_Told = tuple[datetime, str, Mapping[str, Any]]

_SILENCE = 10
"""A pause of so many usual distances between looks is a gap: nobody looked, so nothing is known."""

_SAME_LOOK = 60
"""Seconds below which two looks count as one when the usual distance is measured."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one look saw of a signal.

    Attributes:
        at: When.
        value: The number; ``None`` when it was unknown.
        threshold: What it was compared with; ``None`` when that was not said.
        of: What the number is of: the metric, or the most drifted feature; empty when unknown.
    """

    at: datetime
    value: float | None
    threshold: float | None
    of: str = ""


@dataclass(frozen=True, slots=True)
class Series:
    """One signal over time.

    Attributes:
        name: The metric, or ``PSI``.
        samples: One for each look, oldest first.
    """

    name: str
    samples: tuple[Sample, ...]

    @property
    def known(self) -> tuple[Sample, ...]:
        """Samples that have a value."""
        return tuple(sample for sample in self.samples if sample.value is not None)

    @property
    def threshold(self) -> float | None:
        """The threshold in force last; ``None`` when no look said one."""
        return next((s.threshold for s in reversed(self.samples) if s.threshold is not None), None)

    def gaps(self) -> tuple[tuple[datetime, datetime], ...]:
        """Times between two looks of which nothing is known: the first saw nothing, or nobody looked."""
        pairs = list(zip(self.samples, self.samples[1:], strict=False))
        steps = [(after.at - before.at).total_seconds() for before, after in pairs]
        regular = [
            step for step in steps if step >= _SAME_LOOK
        ]  # a tick may look again after a job has ended
        longest = _SILENCE * median(regular) if regular else math.inf
        return tuple(
            (before.at, after.at)
            for (before, after), step in zip(pairs, steps, strict=True)
            if before.value is None or step > longest
        )


@dataclass(frozen=True, slots=True)
class Mark:
    """An event of a job or of the champion.

    Attributes:
        at: When.
        kind: One of the constants of this module.
    """

    at: datetime
    kind: str


@dataclass(frozen=True, slots=True)
class Reign:
    """A time in which one version served.

    Attributes:
        version: Its label.
        start: When the ledger first knew that it serves.
        end: When another took over; ``None`` when it serves still.
        how: ``adopted``, ``promoted`` or ``rolled back to``.
    """

    version: str
    start: datetime
    end: datetime | None
    how: str


@dataclass(frozen=True, slots=True)
class History:
    """All of it.

    Attributes:
        performance: The live metric, or ``None`` when it was never known.
        other_metrics: Metrics that were watched earlier and are not in ``performance``.
        drift: The largest PSI of any feature, or ``None`` when drift was never known.
        marks: Events, oldest first.
        jobs: Begin and end of each job; an open one has no end.
        reigns: Versions that served, oldest first.
    """

    performance: Series | None
    other_metrics: tuple[str, ...]
    drift: Series | None
    marks: tuple[Mark, ...]
    jobs: tuple[tuple[datetime, datetime | None], ...]
    reigns: tuple[Reign, ...]

    @property
    def begin(self) -> datetime | None:
        """The earliest time there is anything to show; ``None`` when there is nothing."""
        signals = [series.samples[0].at for series in (self.performance, self.drift) if series is not None]
        events = [mark.at for mark in self.marks] + [reign.start for reign in self.reigns]
        return min((*signals, *events), default=None)


def history_of(entries: Sequence[Entry], looks: Iterable[Look]) -> History:
    """Read a model's history.

    Args:
        entries: Its stream, in order.
        looks: Its rolling record; what fell out of it is filled in from the changed looks of the ledger.

    Returns:
        The history; its signals are ``None`` where no look ever knew them.
    """
    told = [(datetime.fromisoformat(entry.at), entry.kind, load(entry.data)) for entry in entries]
    verdicts = _verdicts(told, looks)
    performance = tuple(
        _performance(at, some["performance"]) for at, some in verdicts if "performance" in some
    )
    drift = tuple(_drift(at, some["drift"]) for at, some in verdicts if "drift" in some)
    metrics = list(dict.fromkeys(sample.of for sample in performance if sample.of))
    last = next((sample.of for sample in reversed(performance) if sample.of), "")
    return History(
        performance=_series(last, [sample for sample in performance if sample.of in ("", last)]),
        other_metrics=tuple(metric for metric in metrics if metric != last),
        drift=_series("PSI", drift),
        marks=tuple(mark for at, kind, data in told for mark in _marks(at, kind, data)),
        jobs=tuple(_spans(told)),
        reigns=tuple(_reigns(told)),
    )


def _verdicts(told: Sequence[_Told], looks: Iterable[Look]) -> list[tuple[datetime, Mapping[str, Any]]]:
    """What each look said, in order of time.

    A tick may look twice, before a job and after its promotion. The ledger has both, the record only the
    second: so the ledger goes first.
    """
    changed = [(at, data["verdicts"]) for at, kind, data in told if kind == "look.changed"]
    known = {at for at, _ in changed}
    unchanged = [(look.at, look.data["verdicts"]) for look in looks if look.at not in known]
    return sorted([*changed, *unchanged], key=lambda pair: pair[0])


def _series(name: str, samples: Sequence[Sample]) -> Series | None:
    series = Series(name, tuple(samples))
    return series if series.known else None


def _performance(at: datetime, verdict: Mapping[str, Any]) -> Sample:
    evidence = verdict["evidence"]
    value = _finite(evidence.get("value")) if verdict["answer"] != "unknown" else None
    return Sample(at, value, _finite(evidence.get("threshold")), str(evidence.get("metric", "")))


def _drift(at: datetime, verdict: Mapping[str, Any]) -> Sample:
    evidence = verdict["evidence"]
    blind = evidence.get("unknown_columns", {})
    usable = {
        name: psi
        for name, column in evidence.get("columns", {}).items()
        if name not in blind and (psi := _finite(column.get("psi"))) is not None
    }
    worst = max(usable, key=lambda name: usable[name], default="")
    known = verdict["answer"] != "unknown"
    return Sample(at, usable.get(worst) if known else None, _finite(evidence.get("threshold")), worst)


def _finite(value: Any) -> float | None:
    """A number fit to plot; infinities and NaN come from a rolling record as text, or as themselves."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None


def _marks(at: datetime, kind: str, data: Mapping[str, Any]) -> Iterator[Mark]:
    plain = {"job.opened": OPENED, "promotion.done": PROMOTED, "rollback.done": ROLLED_BACK}
    if kind in plain:
        yield Mark(at, plain[kind])
    elif kind == "job.decided" and data["outcome"] != "promote":
        yield Mark(at, REFUSED)
    elif kind == "job.closed" and data["status"] != "completed":
        yield Mark(at, FAILED)


def _spans(told: Iterable[_Told]) -> Iterator[tuple[datetime, datetime | None]]:
    opened: dict[str, datetime] = {}
    for at, kind, data in told:
        if kind == "job.opened":
            opened[data["job_id"]] = at
        elif kind == "job.closed":
            yield opened.pop(data["job_id"]), at
    yield from ((start, None) for start in opened.values())


def _reigns(told: Iterable[_Told]) -> Iterator[Reign]:
    starts = [_start(at, kind, data) for at, kind, data in told if kind in _TAKES_OVER]
    for (version, start, how), after in zip(starts, [*starts[1:], None], strict=False):
        yield Reign(version, start, after[1] if after else None, how)


_TAKES_OVER = {
    "champion.adopted": ("version", "adopted"),
    "promotion.done": ("version", "promoted"),
    "rollback.done": ("target", "rolled back to"),
}


def _start(at: datetime, kind: str, data: Mapping[str, Any]) -> tuple[str, datetime, str]:
    field, how = _TAKES_OVER[kind]
    return data[field]["version"], at, how
