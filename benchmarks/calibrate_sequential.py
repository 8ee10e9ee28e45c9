"""How often does the watch take back a version that does no harm, and how soon one that does?

python benchmarks/calibrate_sequential.py
python benchmarks/calibrate_sequential.py --lives 500

Real is the sequential test of the domain; simulated are the live metric's rows, 24 a day, independent or
with an autocorrelation of 0.8 or 0.95 from one to the next. The test looks after every batch of a watch of
30 days. Harm is told in standard deviations of a day's mean above the tolerance: at 0 whatever is taken back
is taken back falsely, and below it still more so.
"""

from __future__ import annotations

import argparse
import math
import sys
from statistics import median

import numpy as np
import numpy.typing as npt

from autoretrain.domain.sequential import Harm, HarmTest, Moments

Floats = npt.NDArray[np.float64]
DAYS, ROWS, ALPHA = 30, 24, 0.05
DEPENDENCE = (0.0, 0.8, 0.95)
BATCH_DAYS = (1, 2, 3)
HARMS = (-1.0, 0.0, 0.5, 1.0, 2.0, 4.0)


def days_of(random: np.random.Generator, lives: int, autocorrelation: float) -> Floats:
    """Means of each day, in their own standard deviations.

    Returns:
        One row a life, one column a day.
    """
    noise = random.normal(size=(lives, DAYS * ROWS))
    rows = noise.copy()
    for at in range(1, rows.shape[1]):
        rows[:, at] = autocorrelation * rows[:, at - 1] + math.sqrt(1 - autocorrelation**2) * noise[:, at]
    days: Floats = rows.reshape(lives, DAYS, ROWS).mean(axis=2)
    days /= days.std()
    return days


def first_found(life: Floats) -> int | None:
    """After how many batches harm is shown; ``None`` when it never is."""
    test, seen = HarmTest(0.0, ALPHA), Moments()
    for number, sample in enumerate(life, start=1):
        seen = seen.after(float(sample))
        if test.read(seen).harm is Harm.SHOWN:
            return number
    return None


def main() -> int:
    """Print a line for each dependence, length of a batch and harm."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--lives", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    print(f"{asked.lives} watches of {DAYS} days, alpha {ALPHA:g}, seed {asked.seed}")
    for dependence in DEPENDENCE:
        days = days_of(np.random.default_rng(asked.seed), asked.lives, dependence)
        for length in BATCH_DAYS:
            batches = days.reshape(asked.lives, DAYS // length, length).mean(axis=2)
            for harm in HARMS:
                found = [first for life in batches + harm if (first := first_found(life)) is not None]
                share, delay = len(found) / asked.lives, f"{median(found) * length:g}" if found else "-"
                print(
                    f"rows {dependence:<5g}batches of {length} d  harm {harm:+.1f}  "
                    f"taken back {share:6.1%}  median delay {delay} d",
                    flush=True,
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
