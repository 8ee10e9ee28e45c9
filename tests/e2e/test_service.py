"""The loop of ``autoretrain run`` when ticks fail: it goes on, more slowly, and says that it is not well."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from autoretrain import AutoRetrainPipeline
from autoretrain.adapters.memory_ledger import MemoryLedger
from autoretrain.entrypoints.service import Service
from autoretrain.entrypoints.settings import parse_settings
from autoretrain.ports.agenda import Claim
from autoretrain.ports.errors import LeaseLost, Temporary

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)


class FailingLedger(MemoryLedger):
    """A ledger whose next claims raise."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[Exception] = []

    def claim(self, now: datetime, holder: str, lease_seconds: float, limit: int = 1000) -> Claim:
        """Raise the next error, or claim."""
        if self.errors:
            raise self.errors.pop(0)
        return super().claim(now, holder, lease_seconds, limit)


class Clockwork:
    """A clock that only waits move, and a stop after so many of them."""

    def __init__(self, stops: int) -> None:
        self.waits: list[float] = []
        self.now = 0.0
        self._stops = stops

    def wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self.now += seconds
        return len(self.waits) >= self._stops

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def ledger() -> FailingLedger:
    return FailingLedger()


@pytest.fixture
def pipeline(tmp_path: Path, ledger: FailingLedger) -> Iterator[AutoRetrainPipeline]:
    """An installation without models: every tick has nothing to do."""
    settings = parse_settings({"controller": {"wait_seconds": 2.0}}, tmp_path)
    made = AutoRetrainPipeline(settings=settings, clock=lambda: NOW, ledger=ledger)
    yield made
    made.release()


def _service(pipeline: AutoRetrainPipeline, clockwork: Clockwork) -> Service:
    return Service(pipeline, clockwork.wait, clockwork.monotonic)


def test_the_loop_goes_on_whatever_a_tick_meets(pipeline: AutoRetrainPipeline, ledger: FailingLedger) -> None:
    clockwork = Clockwork(stops=5)
    ledger.errors = [Temporary("away"), LeaseLost("epoch 1 is over"), ValueError("a defect")]

    _service(pipeline, clockwork).forever()

    assert clockwork.waits[:3] == [1.0, 2.0, 4.0]
    assert clockwork.waits[3:] == pytest.approx([2.0, 2.0], abs=0.5)


def test_the_wait_a_server_asked_for_is_kept_up_to_a_limit(
    pipeline: AutoRetrainPipeline, ledger: FailingLedger
) -> None:
    clockwork = Clockwork(stops=2)
    ledger.errors = [Temporary("busy", retry_after=7.0), Temporary("busy", retry_after=3600.0)]

    _service(pipeline, clockwork).forever()

    assert clockwork.waits == [7.0, 15.0]


def test_another_holder_of_the_lease_is_waited_for(
    pipeline: AutoRetrainPipeline, ledger: FailingLedger
) -> None:
    clockwork = Clockwork(stops=1)
    ledger.claim(NOW, "library:elsewhere:1", 20.0)

    assert not _service(pipeline, clockwork).until_idle()
    assert clockwork.waits == [0.5]

    ledger.release("library:elsewhere:1")
    assert _service(pipeline, clockwork).until_idle()
