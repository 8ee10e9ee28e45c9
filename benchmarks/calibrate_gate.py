"""How often does the gate promote a candidate that is no better, and how often one that is?

python benchmarks/calibrate_gate.py
python benchmarks/calibrate_gate.py --candidates 200 --only f1

Real are the scorer's statistics and the claims of the domain; simulated are labels and predictions, of two
versions that are right equally often, or of a candidate that is better. Rows are independent, hourly with an
autocorrelation of 0.8 or 0.95, or grouped. The first table has the share of null candidates that were
promoted at the level of a quarter's first decision, and by the bare point estimate; the second the share of
holdouts on which any of 20 null retrainings was; the third the share of better candidates that were.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from null_candidates import (
    ALPHA,
    CLASSES,
    FIRST,
    NUMBERS,
    SETTINGS,
    TRIES,
    Setting,
    one_candidate,
    one_holdout,
)


def shares(outcomes: Iterable[Mapping[str, bool]]) -> dict[str, float]:
    """How often each came true."""
    counted = list(outcomes)
    return {name: sum(each[name] for each in counted) / len(counted) for name in counted[0]}


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--candidates", type=int, default=1000)
    parser.add_argument("--holdouts", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="one measure")
    asked = parser.parse_args()
    measures = [asked.only] if asked.only else [*CLASSES, *NUMBERS]
    seeds = range(asked.seed, asked.seed + asked.candidates)
    print(f"{asked.candidates} null candidates, at a level of {FIRST:g}, seed {asked.seed}")
    _table(measures, partial(_candidates, seeds, 0.0))
    print(f"\n{asked.holdouts} holdouts, {TRIES} null candidates on each, error rate {ALPHA:g}")
    few = seeds[: asked.holdouts]
    _table(measures[:1], lambda setting, measure: (one_holdout(setting, measure, seed) for seed in few))
    for better in (0.05, 0.1, 0.2):
        print(f"\n{asked.holdouts} candidates whose errors are {better:.0%} smaller")
        _table(
            measures[:1],
            partial(_candidates, few, better),
        )
    return 0


def _candidates(
    seeds: Sequence[int], better: float, setting: Setting, measure: str
) -> Iterator[dict[str, bool]]:
    return (one_candidate(setting, measure, seed, better) for seed in seeds)


def _table(measures: Sequence[str], outcomes: Callable[[Setting, str], Iterable[Mapping[str, bool]]]) -> None:
    for setting in SETTINGS:
        for measure in measures:
            told = ", ".join(f"{n} {v:.1%}" for n, v in shares(outcomes(setting, measure)).items())
            print(f"{setting.name:<14}{measure:<11}{told}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
