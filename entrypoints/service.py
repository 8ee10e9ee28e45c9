"""The long-running process: the loop of ``autoretrain run``, alone on its machine, ended by a signal."""

from __future__ import annotations

import fcntl
import logging
import os
import select
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import FrameType

from ..domain.canary import is_stopped
from ..domain.plan import POLL, Phase, phase_of
from ..domain.state import ModelState
from ..ports.credentials import without_credentials
from ..ports.errors import AutoRetrainError, Refused, Temporary
from ..ports.telemetry import TickReport
from .anchoring import RegularAnchors
from .health import Health, LedgerProbe, Pulse
from .pipeline import AutoRetrainPipeline
from .reading import States

_log = logging.getLogger(__name__)

_NO_LEASE_PAUSE = 0.5  # a library call holds the lease for as long as it runs, which is short
_FIRST_BACK_OFF, _LONGEST_BACK_OFF = 1.0, 15.0
LOCK_FILE = "run.lock"


@contextmanager
def exclusive(state_dir: Path) -> Iterator[None]:
    """Be the only ``autoretrain run`` on a state directory, for as long as the block or the process lasts.

    Raises:
        Refused: Another process is; the text names its id.
    """
    state_dir.mkdir(parents=True, exist_ok=True)
    with open(state_dir / LOCK_FILE, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            pid = file.read().strip() or "unknown"
            raise Refused(f"another 'autoretrain run' (process {pid}) works on {state_dir}") from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


class StopSignal:
    """SIGTERM and SIGINT as something that can be waited for; the second one ends the process at once.

    A context manager, in the main thread. By a pipe, since a handler may not take a lock that the code it
    interrupts holds.
    """

    def __enter__(self) -> StopSignal:
        self._read, self._write = os.pipe()
        self._before = {number: signal.signal(number, self._caught) for number in self._numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._read)
        os.close(self._write)

    _numbers = (signal.SIGTERM, signal.SIGINT)

    def _caught(self, number: int, frame: FrameType | None) -> None:
        os.write(self._write, b"!")
        signal.signal(number, signal.SIG_DFL)

    def wait(self, seconds: float) -> bool:
        """Wait on the monotonic clock; returns at once, with True, when a signal has come."""
        return bool(select.select([self._read], [], [], max(seconds, 0.0))[0])


class Service:
    """Turns the loop until it is told to stop, whatever a tick meets.

    Args:
        pipeline: The library, with its models enrolled by ``start``.
        wait: Waits so many seconds on the monotonic clock; True when the process should end.
        monotonic: Stopwatch in seconds.
        anchors: What anchors the ledger beside the loop, for its health; ``None`` when nothing does.
        at_rest: Whether nothing of a model moves before its next regular look, or a person's act.
    """

    def __init__(
        self,
        pipeline: AutoRetrainPipeline,
        wait: Callable[[float], bool],
        monotonic: Callable[[], float] = time.monotonic,
        anchors: RegularAnchors | None = None,
        at_rest: Callable[[ModelState], bool] | None = None,
    ) -> None:
        self._at_rest = at_rest or is_at_rest
        self._anchors = anchors
        self._pipeline = pipeline
        self._wait = wait
        self._longest_wait = pipeline.settings.controller.wait_seconds
        self._states = States(pipeline.ports.ledger)
        self._unfinished: set[str] = set()
        self._failures = 0
        self._asked_wait = 0.0
        self._pulse = Pulse(pipeline.settings.controller.stale_seconds, monotonic)
        self._probe = LedgerProbe(pipeline.ports.agenda, monotonic)

    def start(self) -> int:
        """Enrol the fleet, and load what takes seconds to load, so that no request has to wait for it.

        Returns:
            How many models are watched.
        """
        models = list(self._pipeline.settings.models)
        self._pipeline.enrol()
        try:
            self._pipeline.ports.registry.champions(models)
        except AutoRetrainError as error:
            _log.warning("the registry does not answer yet: %s", error)
        return len(models)

    def once(self) -> TickReport:
        """Run the loop once; errors are the caller's."""
        return self._pipeline.tick()

    def forever(self) -> None:
        """Run the loop until ``wait`` says stop."""
        while not self._wait(self._pause(self._tick())):
            pass

    def until_idle(self) -> bool:
        """Run the loop until there is nothing left to do before the models' next regular look.

        That is: nothing is due, every look that was begun is complete, no request waits, no notice is on its
        way, and no job is open but those that wait for a person.

        Returns:
            False when ``wait`` said stop before that.
        """
        while True:
            report = self._tick()
            if report is not None and self._is_idle(report):
                return True
            if self._wait(self._pause(report)):
                return False

    def alive(self) -> Health:
        """Whether the loop turns. Thread-safe."""
        return self._pulse.alive()

    def ready(self) -> Health:
        """Whether the loop can do its work now, or stands by for one that does. Thread-safe."""
        trouble = self._anchors.trouble if self._anchors else ""
        return replace(self._pulse.ready(self._probe()), anchors=trouble)

    def _tick(self) -> TickReport | None:
        """One turn; ``None`` when it failed, which is logged and never ends the loop."""
        self._pulse.began()
        try:
            report = self._pipeline.tick()
        except Temporary as error:
            self._failed(str(error), error)
        except Exception as error:
            _log.error("a tick failed; the loop goes on\n%s", without_credentials(traceback.format_exc()))
            self._failed(without_credentials(f"unexpected {type(error).__name__}: {error}"), error)
        else:
            self._failures = 0
            self._pulse.ended(report)
            return report
        return None

    def _failed(self, reason: str, error: Exception) -> None:
        self._failures += 1
        self._pulse.failed(f"{reason} ({self._failures} in a row)")
        self._asked_wait = getattr(error, "retry_after", None) or 0.0
        _log.warning("tick failed (%d in a row): %s", self._failures, reason)

    def _pause(self, report: TickReport | None) -> float:
        """Seconds to wait before the next tick."""
        if report is None:
            back_off = _FIRST_BACK_OFF * 2.0 ** min(self._failures - 1, 10)
            return min(max(back_off, self._asked_wait), _LONGEST_BACK_OFF)
        if not report.holds_lease:
            return min(_NO_LEASE_PAUSE, self._longest_wait)
        waits = [timedelta(seconds=self._longest_wait)]
        waits += [POLL] if report.looked else []
        waits += [report.next_due - report.at] if report.next_due else []
        return min(waits).total_seconds() - report.seconds

    def _is_idle(self, report: TickReport) -> bool:
        if not report.holds_lease:
            return False
        states = {model: self._states[model] for model in self._pipeline.settings.models}
        looked = [states[model] for model in report.looked if model in states]
        for state in looked:
            self._unfinished.discard(state.model)
            if phase_of(state) is Phase.IDLE and not self._was_seen(state.model, report):
                self._unfinished.add(state.model)
        due = report.next_due is not None and report.next_due <= report.at
        busy = due or report.notices_sent or self._unfinished
        return not busy and all(map(self._at_rest, states.values()))

    def _was_seen(self, model: str, report: TickReport) -> bool:
        """Whether the look of this tick was a complete one, as far as that is known: only those are kept."""
        if report.errors.get("observations"):
            return True
        before = report.at - timedelta(microseconds=1)
        return any(look.at == report.at for look in self._pipeline.ports.observations.recent(model, before))


def is_at_rest(state: ModelState) -> bool:
    """Whether nothing of a model moves before its next regular look, or a person's act."""
    phase, job = phase_of(state), state.open_job
    if job is not None and phase is Phase.CANARY:
        return job.canary is not None and job.canary.since is not None and not is_stopped(state)
    if job is not None:
        return phase is Phase.APPROVAL and job.waits_for_person and state.start is None
    return phase is Phase.IDLE and state.start is None and not state.adopt


def release_quietly(pipeline: AutoRetrainPipeline) -> None:
    """Hand the lease back at the end; a ledger that is away lets it expire."""
    with suppress(AutoRetrainError):
        pipeline.release()
