"""CPU of a tick in which nothing is due, over a fleet in a SQLite ledger.

python benchmarks/tick.py
"""

import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from autoretrain import AutoRetrainPipeline
from autoretrain.entrypoints.settings import parse_settings

MODELS = 1000
TICKS = 200
LIMIT_MS = 5.0


def main() -> int:
    model = {"training": {"command": ["true"]}}
    models = {f"model-{number}": model for number in range(MODELS)}
    with tempfile.TemporaryDirectory() as name:
        now = datetime.now(UTC)
        settings = parse_settings({"models": models}, Path(name))
        pipeline = AutoRetrainPipeline(settings=settings, clock=lambda: now, kind="benchmark")
        pipeline.enrol()
        # Every model rests until tomorrow, as after its regular look; no look needs a registry here.
        claim = pipeline.ports.agenda.claim(now, "benchmark", 3600.0)
        for each in models:
            seq = len(pipeline.ports.ledger.read(each))
            pipeline.ports.agenda.set_next_look(each, seq, now + timedelta(days=1), claim.epoch_of(each) or 0)
        pipeline.ports.agenda.release("benchmark")
        taken = []
        for _ in range(TICKS):
            started = time.process_time()
            report = pipeline.tick()
            taken.append((time.process_time() - started) * 1000)
            assert not report.looked
            assert report.holds_lease
        pipeline.release()
    median, worst = statistics.median(taken), max(taken)
    print(f"an idle tick over {MODELS} models: {median:.2f} ms of CPU (median of {TICKS}, worst {worst:.2f})")
    print(f"limit {LIMIT_MS:g} ms")
    return int(median >= LIMIT_MS)


if __name__ == "__main__":
    sys.exit(main())
