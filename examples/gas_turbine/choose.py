"""Choose a retraining policy on the first three years of a gas turbine, and report it on the last two.

Every policy goes through the product's own controller (``autoretrain.entrypoints.backtest``): its triggers,
its gate, its ledger. Trainings and predictions are real; they happen in this process, shared by the policies.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

from replay import DATA, HERE, WINDOW, Say, Unusable, write_home  # type: ignore[import-not-found]
from turbine import FIRST_LOOK, MODEL, TooMany, Turbine, turbine_at  # type: ignore[import-not-found]

from autoretrain.entrypoints.backtest import Outcome, Policy

RECOMMENDED = HERE / "recommended.toml"
CHOSEN_ON = 24
"""Windows of 30 days that end within the files of 2011 to 2013."""
REPORTED_FROM = 25
"""Windows before the first that lies wholly within the files of 2014 and 2015."""

THIRTY_DAYS: dict[str, Any] = {"check_every_seconds": WINDOW.total_seconds(), "cooldown_hours": 720.0}
SEED = {**THIRTY_DAYS, "promotion": {"policy": "seed-point@1", "min_improvement": 0.05}}
CALIBRATED = {**THIRTY_DAYS, "promotion": {"policy": "by-trigger@1", "min_improvement": 0.05}}
NEVER = {**THIRTY_DAYS, "rule": "manual"}


# -- the choice ---------------------------------------------------------------------------------------------

EVERY_LOOK = "0 0 * * *"
_ACCURACY = {"metric": "accuracy", "scale": "absolute"}
CLAIMS: dict[str, dict[str, Any]] = {
    "point, F1 5 %": {"policy": "seed-point@1", "min_improvement": 0.05},
    "point, accuracy 0": {"policy": "seed-point@1", "metric": "accuracy", "min_improvement": 0.0},
    "not worse by 0.02": {"policy": "non-inferiority@1", **_ACCURACY, "margin": 0.02},
    "not worse by 0.05": {"policy": "non-inferiority@1", **_ACCURACY, "margin": 0.05},
    "not worse by 0.10": {"policy": "non-inferiority@1", **_ACCURACY, "margin": 0.1},
    "the floor alone": {"policy": "non-inferiority@1", **_ACCURACY, "margin": 1.0},
    "better at all": {"policy": "improvement@1", "metric": "accuracy", "scale": "absolute"},
    "a tenth of the error": {
        "policy": "superiority@1", "metric": "accuracy", "scale": "error-reduction", "min_improvement": 0.1,
    },
}  # fmt: skip
"""What is claimed of a candidate, by a name for the table."""
FIRST_CLAIMS = ("point, accuracy 0", "not worse by 0.05")
FINALISTS = 3
ALIKE = 0.005


@dataclass(frozen=True, order=True)
class Choice:
    """One point of the grid.

    Attributes:
        rule: Which triggers propose.
        days: Days between looks, and of cooldown.
        evaluation: Days of the performance window.
        holdout: Days of the holdout.
        training: Days of the training window.
        claim: What has to be shown, by its name.
        threshold: Accuracy below which the performance trigger fires.
    """

    rule: str
    days: int
    evaluation: int
    holdout: int
    training: int
    claim: str
    threshold: float = 0.92

    @property
    def settings(self) -> dict[str, Any]:
        """The same as settings of the model."""
        return {
            "rule": self.rule,
            "check_every_seconds": self.days * 86_400.0,
            "cooldown_hours": self.days * 24.0,
            "holdout_days": self.holdout,
            "trigger": {
                "performance_metric_threshold": self.threshold,
                "evaluation_window_days": self.evaluation,
                "training_window_days": self.training,
                "schedule_expression": EVERY_LOOK,
            },
            "promotion": CLAIMS[self.claim],
        }


def structures() -> Iterator[Choice]:
    """How often, on what, and after what: for two claims only."""
    lengths = list(product((7, 14, 30), (90, 180, 365), FIRST_CLAIMS))
    for days, evaluation, (holdout, training, claim) in product((15, 30), (7, 30), lengths):
        yield Choice("performance", days, evaluation, holdout, training, claim)
    for holdout, training, claim in lengths:
        yield Choice("schedule", 30, 30, holdout, training, claim)


def variants(of: Choice) -> Iterator[Choice]:
    """Every claim, and other thresholds, for one structure."""
    for claim, threshold in product(CLAIMS, (0.88, 0.92, 0.95) if of.rule == "performance" else (0.92,)):
        yield replace(of, claim=claim, threshold=threshold)


Tried = dict[Choice, Outcome | None]
"""``None`` for a policy that trains too often."""


def choose(turbine: Turbine, say: Say) -> list[tuple[Choice, Outcome]]:
    """Try the grid on the first three years: structures first, then all claims for the best of them.

    Returns:
        All that keep within one training in 30 days. The chosen one comes first: of those whose mean accuracy
        is within half a point of the best, which 24 windows cannot tell apart, the one with the fewest
        regretted promotions, and of these the one with the best accuracy. The others follow by accuracy.
    """
    tried: Tried = {}
    _try(turbine, list(structures()), tried, say)
    shapes = dict.fromkeys(replace(choice, claim=FIRST_CLAIMS[0]) for choice, _ in _by_accuracy(tried))
    best = list(shapes)[:FINALISTS]
    _try(turbine, [variant for shape in best for variant in variants(shape)], tried, say)
    ranked = _by_accuracy(tried)
    close = [pair for pair in ranked if _accuracy(pair[1]) >= _accuracy(ranked[0][1]) - ALIKE]
    chosen = min(close, key=lambda pair: (pair[1].regrets, -_accuracy(pair[1]), pair[1].trainings))
    return [chosen, *(pair for pair in ranked if pair is not chosen)]


def _try(turbine: Turbine, choices: Sequence[Choice], tried: Tried, say: Say) -> None:
    for number, choice in enumerate(choices, start=1):
        say(f"policy {number} of {len(choices)}: {choice}")
        if choice not in tried:
            policy = turbine.policy("tried", choice.settings)
            try:
                tried[choice] = turbine.tried(policy, CHOSEN_ON, most=CHOSEN_ON)
            except TooMany:
                tried[choice] = None


def _by_accuracy(tried: Tried) -> list[tuple[Choice, Outcome]]:
    within = [(choice, found) for choice, found in tried.items() if found is not None]
    return sorted(within, key=lambda pair: (-_accuracy(pair[1]), pair[1].trainings, pair[0]))


def _accuracy(outcome: Outcome) -> float:
    return outcome.mean or 0.0


# -- the report ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One line of the report, over the windows of 2014 and 2015.

    Attributes:
        policy: Its name.
        accuracy: Mean over the windows.
        trainings: Trainings.
        promotions: Versions that went live.
        regretted: Of these, those worse over the next 60 days than the version they replaced.
        floor: Candidates refused for the floor.
        whole: Mean accuracy over all 45 windows.
    """

    policy: str
    accuracy: float
    trainings: int
    promotions: int
    regretted: int | None
    floor: int
    whole: float


NEVER_, SEED_, GATE, RECOMMENDED_, NO_FLOOR, ALWAYS = POLICIES = (
    "never",
    "seed",
    "gate",
    "recommended",
    "no-floor",
    "always",
)
TITLES = {
    NEVER_: "never",
    SEED_: "the seed's rule",
    GATE: "calibrated gate",
    RECOMMENDED_: "recommended",
    NO_FLOOR: "recommended, no floor (1)",
    ALWAYS: "every window, no gate (2)",
}


def report(turbine: Turbine, windows: int, names: Sequence[str]) -> Iterator[Row]:
    """Replay windows under each policy, and report those from ``REPORTED_FROM`` on, or all where it is fewer.

    The replays begin in 2011: who serves in 2014 is what each policy itself has made of the years before.
    """
    first = REPORTED_FROM if windows > REPORTED_FROM else 0
    for name in names:
        say(f"replaying {TITLES[name]}")
        if name == ALWAYS:
            last, whole = (turbine.before_every_window(range(begin, windows)) for begin in (first, 0))
            yield Row(name, last, windows - first, windows - first, None, 0, whole)
        else:
            yield row_of(name, turbine.tried(policy_named(turbine, name), windows), first)


def policy_named(turbine: Turbine, name: str) -> Policy:
    """One of the policies of the report."""
    if name == NO_FLOOR:
        return without_floor(policy_named(turbine, RECOMMENDED_))
    recommended = tomllib.loads(RECOMMENDED.read_text(encoding="utf-8"))["defaults"]
    settings = {NEVER_: NEVER, SEED_: SEED, GATE: CALIBRATED, RECOMMENDED_: recommended}
    policy: Policy = turbine.policy(name, settings[name])
    return policy


def without_floor(policy: Policy) -> Policy:
    """The same without the floor, which no settings can say: to see what the floor costs."""
    spec = policy.fleet[MODEL]
    promotion = spec.promotion.model_copy(update={"floor": 0.0})  # not validated, on purpose
    return replace(policy, fleet={MODEL: spec.model_copy(update={"promotion": promotion})})


def row_of(name: str, outcome: Outcome, first: int) -> Row:
    """Count what lies within the reported windows."""
    (model,) = outcome.models
    accuracies = [point.value or 0.0 for point in model.points]
    jobs = [job for job in model.jobs if job.at >= FIRST_LOOK + first * WINDOW]
    return Row(
        name,
        fmean(accuracies[first:]),
        sum(job.trained for job in jobs),
        sum(job.result == "promoted" for job in jobs),
        sum(job.regretted is True for job in jobs),
        sum(job.result == "rejected" and "below the floor" in job.reason for job in jobs),
        fmean(accuracies),
    )


NOTES = """\
Means over {windows} windows of 30 days; trainings, promotions and refusals by the floor of that time alone.
Regretted: worse over the next 60 days than the version that was replaced.
(1) A reference outside the product's rules: no settings can lower the floor of 0.85.
(2) Likewise: trained before every window on the latest 180 days, and deployed unseen."""


def table_of(rows: Sequence[Row], windows: int) -> str:
    """Lay the rows out for a terminal."""
    reported = windows - REPORTED_FROM if windows > REPORTED_FROM else windows
    titles = f"{'policy':<28}{'accuracy':>9}{'trainings':>11}{'promotions':>12}{'regretted':>11}{'floor':>7}"
    lines = [f"{titles}{f'all {windows}':>8}"]
    for row in rows:
        regretted = "-" if row.regretted is None else str(row.regretted)
        lines.append(
            f"{TITLES[row.policy]:<28}{row.accuracy:>9.3f}{row.trainings:>11}{row.promotions:>12}"
            f"{regretted:>11}{row.floor:>7}{row.whole:>8.3f}"
        )
    return "\n".join([*lines, "", NOTES.format(windows=reported)])


def ranking(found: Sequence[tuple[Choice, Outcome]]) -> str:
    """The chosen policy and its nearest rivals, for a terminal."""
    lines = ["accuracy  trainings  promotions  regretted  policy"]
    for choice, outcome in found[:10]:
        told = ", ".join(f"{name} {value}" for name, value in asdict(choice).items())
        lines.append(
            f"{outcome.mean:>8.4f}{outcome.trainings:>11}{outcome.results['promoted']:>12}"
            f"{outcome.regrets:>11}  {told}"
        )
    return "\n".join(lines)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, default=DATA, metavar="DIR", help="folder of the yearly files")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keep models in DIR for the next run")
    parser.add_argument("--choose", action="store_true", help="try the grid on 2011 to 2013, and rank it")
    parser.add_argument("--windows", type=int, metavar="N", help="replay the first N windows only")
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=list(POLICIES), help="which rows")
    parser.add_argument("--json", action="store_true", help="print the rows of the report as JSON")
    return parser.parse_args()


def main() -> int:
    """Run the command; 2 means that arguments or data cannot be used."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="gas-turbine-", ignore_cleanup_errors=True) as directory:
        home = Path(directory)
        try:
            windows = write_home(home, arguments.data)
        except Unusable as error:
            print(error, file=sys.stderr)
            return 2
        turbine = turbine_at(home, arguments.cache or home / "models")
        if arguments.choose:
            print(ranking(choose(turbine, say)))
            return 0
        windows = min(arguments.windows or windows, windows)
        rows = list(report(turbine, windows, list(dict.fromkeys(arguments.policies))))
        if arguments.json:
            print(json.dumps([asdict(row) for row in rows], indent=2))
        else:
            print(table_of(rows, windows))
    return 0


def say(text: str) -> None:
    """Show where it is, on a terminal only."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
