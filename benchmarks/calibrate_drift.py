"""How often does drift start a retraining that it should not, and is a shift found?

python benchmarks/calibrate_drift.py
python benchmarks/calibrate_drift.py --months 10

Two hundred features of independent rows are looked at every day for a month, by Evidently's PSI and the drift
trigger: by its threshold alone, and with an error rate (``drift_alpha``). The first table has months in which
a retraining was started though nothing had changed; the second those in which a shift of one feature was
found, and on which day in the median.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from os import cpu_count
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from undrifted_features import ALPHA, DAYS, FEATURES, THRESHOLD, WINDOW, Month, first_yes

RULES: dict[str, float | None] = {f"PSI above {THRESHOLD:g}": None, f"drift_alpha = {ALPHA:g}": ALPHA}
ROWS_A_DAY = (4, 8, 20)
SHIFTS = (0.5, 0.8, 1.2)
"""Standard deviations. PSI of a shifted normal variable is about its square."""

Found = list[dict[float | None, int | None]]


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--months", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=cpu_count() or 1)
    asked = parser.parse_args()
    seeds = range(asked.seed, asked.seed + asked.months)
    with ProcessPoolExecutor(asked.processes) as crew:
        print(
            f"Months of {DAYS} looks at {FEATURES} features that do not drift, of {len(seeds)}: retrained\n"
        )
        _head("rows in the window")
        for a_day in ROWS_A_DAY:
            found = list(crew.map(partial(look, a_day, 0.0), seeds))
            _row(str(a_day * WINDOW), [_share(found, alpha) for alpha in RULES.values()])
        rows = ROWS_A_DAY[-1] * WINDOW
        print(f"\nMonths in which one of {FEATURES} shifts on the first day, {rows} rows: found\n")
        _head("standard deviations")
        for shift in SHIFTS:
            found = list(crew.map(partial(look, ROWS_A_DAY[-1], shift), seeds))
            _row(f"{shift:g}", [f"{_share(found, a)}{_on_day(found, a)}" for a in RULES.values()])
    return 0


def look(a_day: int, shift: float, seed: int) -> dict[float | None, int | None]:
    """When each rule says yes first, in one month."""
    return first_yes(Month.of(seed, a_day, shift), list(RULES.values()))


def _share(found: Found, alpha: float | None) -> str:
    return f"{sum(each[alpha] is not None for each in found) / len(found):.1%}"


def _on_day(found: Found, alpha: float | None) -> str:
    days = [day for each in found if (day := each[alpha]) is not None]
    return f", day {statistics.median(days):g}" if days else ""


def _head(what: str) -> None:
    print(f"| {what} | {' | '.join(RULES)} |")
    print("|---|" + "---:|" * len(RULES))


def _row(name: str, cells: Sequence[str]) -> None:
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
