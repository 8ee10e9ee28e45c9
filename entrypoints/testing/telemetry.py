"""What every telemetry has to do; subclass ``TelemetryContract`` and run it with pytest."""

from __future__ import annotations

import math
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from ...ports.telemetry import EndedJob, Telemetry, TickReport

AT = datetime(2026, 5, 4, tzinfo=UTC)

FULL = TickReport(
    at=AT,
    seconds=0.25,
    holds_lease=True,
    shards_held=7,
    lease_holder="run:here:1",
    leases_lost=1,
    looked=("heat", "steam"),
    lag_seconds=7.5,
    verdicts={("performance", "yes"): 1, ("drift", "unknown"): 1},
    events={("heat", "started"): 1},
    jobs=(EndedJob("8c1f", "deployed", 3600.0),),
    errors={"metrics": 2},
    notices_sent=3,
    notices_waiting=1,
    notices_dead=2,
    notices_age_seconds=90.0,
    metrics={("heat", "accuracy"): 0.91},
    unknown={"drift": 2},
    conflicts=1,
    below_floor=3,
    next_due=AT,
)


class TelemetryContract:
    """Behaviour of a ``Telemetry``. Override ``telemetry`` and ``ticks``."""

    def telemetry(self) -> Telemetry:
        """A telemetry that has taken no report yet."""
        raise NotImplementedError

    def ticks(self, telemetry: Telemetry) -> int:
        """How many reports it has taken."""
        raise NotImplementedError

    def test_takes_an_idle_and_a_busy_tick(self) -> None:
        telemetry = self.telemetry()
        telemetry.report(TickReport(at=AT, seconds=0.001, holds_lease=False))
        telemetry.report(FULL)
        assert self.ticks(telemetry) == 2

    def test_takes_names_and_numbers_of_any_kind(self) -> None:
        telemetry = self.telemetry()
        odd = 'two "lines"\n\\ and é'
        telemetry.report(
            TickReport(
                at=AT,
                seconds=0.0,
                holds_lease=True,
                shards_held=7,
                verdicts={(odd, ""): 0},
                jobs=(EndedJob(odd * 50, odd, math.inf),),
                errors={odd: 1},
                metrics={(odd, odd): math.nan, ("heat", "mae"): -1e300},
                unknown={odd: 3},
            )
        )
        assert self.ticks(telemetry) == 1

    def test_takes_reports_of_several_threads(self) -> None:
        telemetry = self.telemetry()
        with ThreadPoolExecutor(max_workers=4) as pool:
            list(pool.map(telemetry.report, [FULL] * 40))
        taken = self.ticks(telemetry)
        telemetry.report(FULL)
        assert self.ticks(telemetry) == taken + 1

    def test_does_not_hold_up_the_loop(self) -> None:
        telemetry = self.telemetry()
        began = time.monotonic()
        for _ in range(20):
            telemetry.report(FULL)
        assert time.monotonic() - began < 1.0
