"""Simulated life: days pass, the loop runs, and nothing moves on while something is in progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType

from ...domain.fold import fold
from ...domain.state import ModelState
from ..pipeline import AutoRetrainPipeline
from .chronicle import Chronicle
from .clock import SimulatedClock
from .console import Narrator

Act = Callable[[AutoRetrainPipeline], object]
"""What a person does."""

_QUIET = timedelta(seconds=10)
"""Whatever is in progress is looked at again sooner; what comes later waits for the next day."""


class Life:
    """A fleet under the loop, on simulated time.

    Args:
        pipeline: The library, over the project's settings and ``clock``.
        clock: The time that the pipeline was given.
        narrator: Told of everything as it happens.

    Attributes:
        chronicle: What happened so far.
        remarks: What the user should know beside it.
    """

    def __init__(self, pipeline: AutoRetrainPipeline, clock: SimulatedClock, narrator: Narrator) -> None:
        self.pipeline = pipeline
        self.chronicle = Chronicle(pipeline.ports.ledger)
        self.remarks: list[str] = []
        self._clock = clock
        self._narrator = narrator

    @property
    def now(self) -> datetime:
        """The simulated time."""
        return self._clock()

    @property
    def states(self) -> list[ModelState]:
        """What the ledger knows of every agent, sorted by name."""
        ledger = self.pipeline.ports.ledger
        return [fold(model, ledger.read(model)) for model in ledger.models()]

    def live(self, days: Sequence[datetime], acts: Mapping[datetime, Act] = MappingProxyType({})) -> None:
        """Let days pass; each ends when nothing is in progress any more.

        Args:
            days: Moments to pass to, in order.
            acts: What people do then, by day.
        """
        try:
            for day in days:
                self._clock.jump(day)
                self._narrator.day(day)
                if day in acts:
                    acts[day](self.pipeline)
                self._settle()
        finally:
            self.pipeline.release()

    def _settle(self) -> None:
        """Run the loop until nothing is in progress: all wait for a person, or for a later day."""
        while True:
            report = self.pipeline.tick()
            for event in self.chronicle.news():
                self._narrator.event(event)
            if report.looked:
                continue  # what was looked at has set its next look since
            wait = None if report.next_due is None else report.next_due - self._clock()
            if wait is None or wait > _QUIET:
                return
            time.sleep(min(max(wait.total_seconds(), 0.02), 0.5))
