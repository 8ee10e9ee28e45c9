"""How often does the gate promote a candidate that is no better, and how often one that is?

python benchmarks/calibrate_gate.py
python benchmarks/calibrate_gate.py --candidates 200 --only f1

Real are the scorer's statistics, the claims of the domain, the seed's rule and MLflow's validation; simulated
are labels and predictions, of versions whose true loss (1 - F1, an error, a log loss) is known. Rows are
independent, hourly with an autocorrelation of 0.8 or 0.95, or grouped.

1. Every claim and measure at the level of a quarter's first decision, each at the edge where it is only just
   not true: better at all, and better by 5 %, for candidates as good as the champion; not worse by 5 %, for
   those that are.
2. The same candidates by other rules.
3. A quarter of 20 tries: on one holdout, on fresh ones, and with one candidate on a holdout that grows.
4. The small levels that later tries of a quarter have, with many more candidates as good as the champion.
5. Candidates that are better.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

os.environ.setdefault("OMP_NUM_THREADS", "1")  # matrices are small: more threads would wait for one another
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from null_candidates import (
    CLASSES,
    NUMBERS,
    SETTINGS,
    Setting,
    Trial,
    on_a_growing_holdout,
    on_fresh_holdouts,
    on_one_holdout,
    one_trial,
)
from promotion_rules import (
    ALPHA,
    FIRST,
    IMPROVED,
    NOT_WORSE,
    RULES,
    SHARE,
    SUPERIOR,
    TRIES,
    Rule,
    at_each_look,
    ever,
    level_of,
    shown,
)

WAYS: dict[str, Callable[[Setting, str, int, int], list[Trial]]] = {
    "one holdout": on_one_holdout,
    "fresh holdouts": on_fresh_holdouts,
    "growing holdout": on_a_growing_holdout,
}
SIDE_BY_SIDE = ("f1", "mae")
"""A measure that ends at 1, and an error that has no end."""

BETTER = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
LATER = (1, 2, 3, 5, 10, TRIES)
"""Tries of a quarter."""

Cells = Mapping[str, float]
_Name = TypeVar("_Name")


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--candidates", type=int, default=1000)
    parser.add_argument("--quarters", type=int, default=200)
    parser.add_argument("--tails", type=int, default=20_000, help="candidates at the small levels")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", choices=(*CLASSES, *NUMBERS), help="one measure")
    asked = parser.parse_args()
    measures = [asked.only] if asked.only else [*CLASSES, *NUMBERS]
    compared = [measure for measure in SIDE_BY_SIDE if measure in measures]
    seeds = range(asked.seed, asked.seed + asked.candidates)
    few = range(asked.seed, asked.seed + asked.quarters)
    began = time.monotonic()
    with ProcessPoolExecutor(asked.processes) as crew:
        table = partial(_table, crew.map)
        cells = [(setting, measure) for setting in SETTINGS for measure in measures]
        table(f"Promoted at a level of {FIRST:g}, of {len(seeds)} that should not be", _claims, cells, seeds)
        cells = [(setting, measure) for setting in SETTINGS for measure in compared]
        table(f"Promoted by each rule, of {len(seeds)} that are no better", _rules, cells, seeds)
        tries = [(*cell, way) for way in WAYS for cell in cells]
        table(
            f"Any of {TRIES} no better promoted, of {len(few)} quarters, alpha {ALPHA:g}",
            _quarters,
            tries,
            few,
        )
        many = range(asked.seed, asked.seed + asked.tails)
        title = f"Promoted at a quarter's n-th try, of {len(many)} no better, as a share of the try's level"
        table(title, _tails, cells, many)
        gains = [(*cell, better) for cell in cells for better in BETTER]
        table(f"Promoted by each rule, of {len(few)} that lose less by a share", _rules, gains, few)
    print(f"\n{time.monotonic() - began:.0f} s with {asked.processes} processes, seed {asked.seed}")
    return 0


def _claims(seeds: Sequence[int], setting: Setting, measure: str) -> Cells:
    def hits(seed: int) -> dict[str, bool]:
        trial = one_trial(setting, measure, seed)
        worse = one_trial(setting, measure, seed, -SHARE)
        return {
            "better at all": shown(IMPROVED, trial, FIRST),
            "better by 5 %": shown(SUPERIOR, trial, FIRST),
            "not worse by 5 %": shown(NOT_WORSE, worse, FIRST),
            "not told": trial.at_its_narrowest is None,
        }

    return _shares(map(hits, seeds))


def _rules(seeds: Sequence[int], setting: Setting, measure: str, better: float = 0.0) -> Cells:
    def hits(seed: int) -> dict[str, bool]:
        trial = one_trial(setting, measure, seed, better)
        return {name: rule(trial, 1) for name, rule in RULES.items()}

    return _shares(map(hits, seeds))


def _quarters(seeds: Sequence[int], setting: Setting, measure: str, way: str) -> Cells:
    rules: dict[str, Rule] = {**RULES, "5 % each time": at_each_look}

    def hits(seed: int) -> dict[str, bool]:
        trials = WAYS[way](setting, measure, seed, TRIES)
        return {name: ever(rule, trials) for name, rule in rules.items()}

    return _shares(map(hits, seeds))


def _tails(seeds: Sequence[int], setting: Setting, measure: str) -> Cells:
    def hits(seed: int) -> dict[int, bool]:
        trial = one_trial(setting, measure, seed)
        return {number: shown(IMPROVED, trial, level_of(number)) for number in LATER}

    return {f"try {number}": share / level_of(number) for number, share in _shares(map(hits, seeds)).items()}


def _shares(outcomes: Iterable[Mapping[_Name, bool]]) -> dict[_Name, float]:
    """How often each came true."""
    counted = list(outcomes)
    return {name: sum(each[name] for each in counted) / len(counted) for name in counted[0]}


def _table(
    each: Callable[..., Iterable[Cells]],
    title: str,
    shares: Callable[..., Cells],
    cells: Sequence[tuple[Any, ...]],
    seeds: Sequence[int],
) -> None:
    """Print a table in Markdown, line by line as they come."""
    print(f"\n{title}\n")
    for number, (cell, found) in enumerate(
        zip(cells, each(partial(shares, seeds), *zip(*cells, strict=True)), strict=True)
    ):
        if number == 0:
            print(f"| {'rows':<13} | {'measure':<20} | {' | '.join(found)} |")
            print("|---|---|" + "---:|" * len(found))
        values = " | ".join(f"{value:>{len(name)}.1%}" for name, value in found.items())
        what = ", ".join(f"{part:.0%}" if isinstance(part, float) else part for part in cell[1:])
        print(f"| {cell[0].name:<13} | {what:<20} | {values} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
