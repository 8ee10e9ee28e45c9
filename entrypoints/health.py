"""Whether the loop is alive, and whether it can do its work: what ``/healthz`` and ``/readyz`` answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from ..ports.agenda import Agenda
from ..ports.errors import AutoRetrainError
from ..ports.telemetry import TickReport

_NOBODY = "probe:nobody"
_PROBE_SECONDS = 2.0
_FRESH_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Health:
    """An answer to a probe.

    Attributes:
        ok: Whether all is well.
        reasons: Why it is not; empty when it is.
        role: ``leading`` holds the lease, ``standby`` waits while another does, ``none`` before the first
            turn.
        lease_holder: Who holds the lease, as the last turn saw it; empty when nobody knows.
        seconds_since_turn: Since a turn of the loop came to its end, well or not; before the first, since
            the start.
        running_seconds: How long the turn that runs now has been running; ``None`` between two turns.
        anchors: Why the last anchor of the ledger could not be made; empty when nothing is wrong. The loop
            turns all the same.
    """

    ok: bool
    reasons: tuple[str, ...]
    role: str
    lease_holder: str
    seconds_since_turn: float
    running_seconds: float | None
    anchors: str = ""


class Pulse:
    """What the loop leaves behind at every turn, to be read by other threads.

    Args:
        stale_seconds: A loop whose last turn ended longer ago does not turn.
        monotonic: Stopwatch in seconds.
    """

    def __init__(self, stale_seconds: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._stale_seconds = stale_seconds
        self._monotonic = monotonic
        self._ended_at = monotonic()
        self._began_at: float | None = None
        self._report: TickReport | None = None
        self._trouble = "no turn of the loop has ended yet"

    def began(self) -> None:
        """Note that a turn begins."""
        self._began_at = self._monotonic()

    def ended(self, report: TickReport) -> None:
        """Note that it came to its end."""
        self._report, self._trouble = report, ""
        self._began_at, self._ended_at = None, self._monotonic()

    def failed(self, why: str) -> None:
        """Note that it failed: the loop turns, and does not do its work."""
        self._trouble = f"the last turn failed: {why}"
        self._began_at, self._ended_at = None, self._monotonic()

    def alive(self) -> Health:
        """Whether the loop turns. A failing turn is a turn, one that hangs is none."""
        return self._health(self._stale())

    def ready(self, ledger_trouble: str) -> Health:
        """Whether the work is done: the loop turns, its last turn was well, and the ledger takes writes.

        A standby is ready; what it says it is says which of the two it is.

        Args:
            ledger_trouble: Why the ledger cannot be written to; empty when it can.
        """
        return self._health(self._stale(), self._trouble, ledger_trouble)

    def _stale(self) -> str:
        began, age = self._began_at, self._monotonic() - self._ended_at
        if age <= self._stale_seconds:
            return ""
        if began is None:
            return f"no turn of the loop has ended for {age:.0f} s"
        return f"a turn of the loop has been running for {self._monotonic() - began:.0f} s"

    def _health(self, *troubles: str) -> Health:
        report, began, now = self._report, self._began_at, self._monotonic()
        reasons = tuple(dict.fromkeys(trouble for trouble in troubles if trouble))
        role = "none" if report is None else "leading" if report.holds_lease else "standby"
        return Health(
            ok=not reasons,
            reasons=reasons,
            role=role,
            lease_holder=report.lease_holder if report else "",
            seconds_since_turn=round(now - self._ended_at, 3),
            running_seconds=None if began is None else round(now - began, 3),
        )


class LedgerProbe:
    """Asks whether the ledger can be reached and written to, without writing anything.

    Handing back a lease that nobody holds opens a transaction for writing and changes nothing. One probe runs
    at a time and its answer serves for a second, so that many probes cost no more than one, and those that
    wait for a store that hangs do not gather.

    Args:
        agenda: The store.
        monotonic: Stopwatch in seconds.
    """

    def __init__(self, agenda: Agenda, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._agenda = agenda
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._answered: tuple[float, str] | None = None

    def __call__(self) -> str:
        """Why the ledger cannot be used; empty when it can. Thread-safe."""
        if not self._lock.acquire(timeout=_PROBE_SECONDS):
            return f"the ledger has not answered within {_PROBE_SECONDS:g} s"
        try:
            now, answered = self._monotonic(), self._answered
            if answered is None or not 0 <= now - answered[0] < _FRESH_SECONDS:
                answered = self._answered = (now, self._ask())
            return answered[1]
        finally:
            self._lock.release()

    def _ask(self) -> str:
        try:
            self._agenda.release(_NOBODY)
        except AutoRetrainError as error:
            return str(error)
        except Exception as error:
            return f"unexpected {type(error).__name__}: {error}"
        return ""
