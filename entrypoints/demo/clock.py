"""A clock that can be moved forward: days pass in seconds, and a second still takes a second."""

from __future__ import annotations

import time
from datetime import datetime, timedelta


class SimulatedClock:
    """The simulated time: where it was set, and the real time that has passed since.

    So whatever waits seconds for something that is being computed goes on as ever, between two jumps.

    Args:
        at: Where it starts, an aware datetime.
    """

    def __init__(self, at: datetime) -> None:
        self._base = at
        self._set_at = time.monotonic()

    def __call__(self) -> datetime:
        """The simulated time now."""
        return self._base + timedelta(seconds=time.monotonic() - self._set_at)

    def jump(self, at: datetime) -> None:
        """Move to a later moment; an earlier one leaves the clock as it is, since time only passes."""
        if at > self():
            self._base, self._set_at = at, time.monotonic()
