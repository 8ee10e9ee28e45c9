"""The watch over a version that was just promoted, as the ledger knows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from ..ports.registry import ModelVersion
from ..ports.values import TimeWindow
from .sequential import HarmTest, Moments, Reading

WATCHER = "watch"
"""Who asks for a rollback where the watch does."""

OnUnknown = Literal["keep", "page", "rollback"]


@dataclass(frozen=True, slots=True)
class Terms:
    """What a watch goes by, as it was set when it began; later settings do not change it.

    Attributes:
        metric: The live measure.
        direction: Which way it is better.
        batch: Length of a batch.
        delay: How long after its end a batch is read.
        min_rows: Fewest rows of a batch, for sources that count them.
        batches: So many known ones complete the watch.
        deadline: How long it takes at most.
        tolerance: By how much worse it may be, as a fraction of the baseline.
        alpha: Chance that a version that is no worse is ever taken back.
        baseline: The version's own value on its holdout; ``None`` where that is unknown, or ``previous`` is
            the baseline.
        previous: The version before, which is scored on the same rows; ``None`` for the holdout.
        on_unknown: What follows where it is not complete by its deadline.
    """

    metric: str
    direction: Literal["up", "down"]
    batch: timedelta
    delay: timedelta
    min_rows: int
    batches: int
    deadline: timedelta
    tolerance: float
    alpha: float
    baseline: float | None
    previous: ModelVersion | None
    on_unknown: OnUnknown


@dataclass(frozen=True, slots=True)
class Watch:
    """How the watch over the version that serves stands.

    Attributes:
        job_id: The job that promoted it.
        since: When the watch began.
        terms: What it goes by.
        moments: By how much the version was worse, by batch.
        missed: How many batches were unknown.
        paused: Why the last batch was unknown; empty when it was known, or is the first.
        outcome: How it ended: ``harm``, ``kept``, ``unknown`` or ``stopped``; empty while it goes on.
        reason: Why, in words; empty while it goes on.
    """

    job_id: str
    since: datetime
    terms: Terms
    moments: Moments = field(default_factory=Moments)
    missed: int = 0
    paused: str = ""
    outcome: str = ""
    reason: str = ""

    @property
    def number(self) -> int:
        """Which batch is next, from 0."""
        return self.moments.count + self.missed

    @property
    def window(self) -> TimeWindow:
        """The span of the next batch."""
        start = self.since + self.number * self.terms.batch
        return TimeWindow(start, start + self.terms.batch)

    @property
    def due_at(self) -> datetime:
        """When the next batch is read."""
        return self.window.end + self.terms.delay

    @property
    def gives_up_at(self) -> datetime:
        """When the next batch counts as missed: a batch later, in which it is asked for again and again."""
        return self.due_at + self.terms.batch

    @property
    def until(self) -> datetime:
        """The deadline."""
        return self.since + self.terms.deadline

    @property
    def reading(self) -> Reading:
        """What the known batches show."""
        return HarmTest(self.terms.tolerance, self.terms.alpha).read(self.moments)


def standing(watch: Watch) -> str:
    """How a watch stands, in words."""
    terms = watch.terms
    if watch.outcome:
        return f"{watch.outcome}: {watch.reason}"
    done = f"{watch.moments.count} of {terms.batches} batches of {length_of(terms.batch)}"
    shown = f": {compared(watch)}" if watch.moments.count else ""
    paused = f"; paused: {watch.paused}" if watch.paused else ""
    return f"{terms.metric}, {done}{shown}{paused}"


def compared(watch: Watch) -> str:
    """By how much the version is worse than its baseline, in words; asked once a batch is known."""
    terms, worse, interval = watch.terms, watch.moments.mean, watch.reading.interval
    if terms.previous is not None:
        against = f"version {terms.previous.version}"
    else:
        against = "on its holdout" if terms.baseline is None else f"the {terms.baseline:.4f} of its holdout"
    side = "worse" if worse >= 0 else "better"
    between = f" (between {interval[0]:+.1%} and {interval[1]:+.1%} worse)" if interval else ""
    told = f"{terms.metric} is {abs(worse):.1%} {side} than {against}{between}"
    return f"{told}, {terms.tolerance:.1%} is tolerated"


def length_of(span: timedelta) -> str:
    """A span in days, hours or seconds, whichever is the longest unit that it holds."""
    if span >= timedelta(days=1):
        days = span / timedelta(days=1)
        return f"{days:g} day" if days == 1 else f"{days:g} days"
    return f"{span / timedelta(hours=1):g} h" if span >= timedelta(hours=1) else f"{span.total_seconds():g} s"
