"""Many Jobs in flight on a real API server that is killed twice: what becomes of them, and when is it known?

python benchmarks/kubernetes_jobs.py
python benchmarks/kubernetes_jobs.py --jobs 40

What runs is told in ``tests/kubernetes_outages.py``. Printed is how many outcomes there were, and the time
from the end of a training to its entry in the ledger: of those that ended while the server answered, and of
those that ended while it was away, from when it was back. Exit status 1 when anything was doubled or is
stuck.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from kubernetes_outages import Aftermath, after_outages


def main() -> int:
    """Print the outcome; exit status 1 when anything was doubled or is stuck."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--spread", type=int, default=60, help="seconds within which the trainings end")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return _report(after_outages(Path(folder), asked.jobs, asked.spread, _say))


def _report(left: Aftermath) -> int:
    starts = Counter(left.begun)
    closed = {job: len(told.closed) for job, told in left.told.items()}
    doubled = [job for job in left.asked if starts[job] > 1 or closed.get(job, 0) > 1]
    stuck = [job for job in left.asked if not closed.get(job)]
    print(f"outcomes {len(left.asked) - len(stuck)} of {len(left.asked)}, ", end="")
    print(f"doubled {len(doubled)}, stuck {len(stuck)}")
    print(f"pods started {left.pods}, API server killed {len(left.outages)} times")
    for name, waits in zip(("while it answered", "while it was away"), left.waits(), strict=True):
        print(f"{name}: {_quantiles(waits)}")
    return int(bool(doubled or stuck))


def _quantiles(waits: list[float]) -> str:
    if len(waits) < 2:
        return f"n {len(waits)}"
    cuts = statistics.quantiles(waits, n=100, method="inclusive")
    return f"n {len(waits)}, p50 {cuts[49]:.2f} s, p99 {cuts[98]:.2f} s, max {max(waits):.2f} s"


def _say(text: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
