"""Versions that are right equally often, or not quite, on rows that depend on one another."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from autoretrain.adapters.scorer_classes import truth_of
from autoretrain.adapters.scorer_paired import Rows, Sums, Unpaired, compare
from autoretrain.adapters.scorer_sums import class_sums, number_sums
from autoretrain.domain.claims import Claim, Kind, judge_claim
from autoretrain.domain.promotion import Outcome
from autoretrain.domain.spending import Spending, quarter_of
from autoretrain.ports.scorer import Paired, ScoringTask, Units

Floats = npt.NDArray[np.float64]
HOUR = 3_600_000_000
NOW = datetime(2026, 5, 1, tzinfo=UTC)
CLASSES = ("accuracy", "f1", "precision", "recall", "roc_auc", "brier", "ece")
NUMBERS = ("mae", "rmse", "r2", "mape")


@dataclass(frozen=True)
class Setting:
    """How the rows depend on one another.

    Attributes:
        name: For the table.
        rows: How many there are.
        autocorrelation: Of hourly rows, from one to the next.
        group_size: Rows that share most of their luck; 1 for none.
        units: What the scorer is told.
    """

    name: str
    rows: int
    autocorrelation: float = 0.0
    group_size: int = 1
    units: Units = field(default_factory=Units)


SETTINGS = (
    Setting("independent", 1440, units=Units(independent=True)),
    Setting("hourly, 0.8", 1440, autocorrelation=0.8),
    Setting("hourly, 0.95", 2160, autocorrelation=0.95),
    Setting("60 groups", 1440, group_size=24, units=Units(group="machine")),
)


@dataclass(frozen=True, eq=False)
class World:
    """Labels, and noise from which any number of candidates can be made.

    Attributes:
        setting: How rows depend on one another.
        random: Source of all chance.
        shared: Luck that all versions have in common, standard normal.
        labels: A standard normal for each row; its sign is the class.
    """

    setting: Setting
    random: np.random.Generator
    shared: Floats
    labels: Floats

    @classmethod
    def of(cls, setting: Setting, seed: int) -> World:
        """Draw one."""
        random = np.random.default_rng(seed)
        return cls(setting, random, luck(setting, random), luck(setting, random))

    def rows(self) -> Rows:
        """What the scorer knows of them."""
        count = self.setting.rows
        groups = np.arange(count) // self.setting.group_size if self.setting.units.group else None
        return Rows(count, np.arange(count) * HOUR, 0, groups, int(self.random.integers(1 << 32)))

    def luck(self) -> Floats:
        """A version's own, related to every other's."""
        mixed: Floats = np.sqrt(0.4) * self.shared + np.sqrt(0.6) * luck(self.setting, self.random)
        return mixed

    def sums(self, measure: str, better: float = 0.0) -> Sums:
        """Predictions of one version.

        Args:
            measure: The measure.
            better: By how much its error is smaller, as a fraction.
        """
        if measure in NUMBERS:
            truth = 20 + 3 * self.labels
            return number_sums(measure, truth, truth + (1 - better) * self.luck())
        classes = (self.labels > 0).astype(np.int64)
        margin = 1.2 / (1 - better) + self.luck()  # above 0 where it is right
        score = np.where(classes == 1, margin, -margin)
        probability = 1 / (1 + np.exp(-score))
        truth_codes = truth_of(ScoringTask("classification"), classes, [0.0, 1.0], "int64")
        predicted = (score > 0).astype(np.int64)
        return class_sums(measure, "macro", truth_codes, predicted, {0.0: 1 - probability, 1.0: probability})


def luck(setting: Setting, random: np.random.Generator) -> Floats:
    """Standard normal values, one a row, as dependent as the setting says."""
    own = random.standard_normal(setting.rows)
    if setting.group_size > 1:
        common = np.repeat(random.standard_normal(-(-setting.rows // setting.group_size)), setting.group_size)
        mixed: Floats = np.sqrt(0.7) * common[: setting.rows] + np.sqrt(0.3) * own
        return mixed
    rho = setting.autocorrelation
    if not rho:
        return own
    series: Floats = own * np.sqrt(1 - rho**2)
    series[0] = own[0]
    for place in range(1, setting.rows):
        series[place] += rho * series[place - 1]
    return series


def comparison(world: World, measure: str, champion: Sums, better: float = 0.0) -> Paired | None:
    """A candidate beside the champion; ``None`` where the difference cannot be told."""
    try:
        return compare(measure, world.sums(measure, better), champion, world.rows(), world.setting.units)
    except Unpaired:
        return None


BETTER = Claim(Kind.IMPROVEMENT, 0.0, "absolute")
ERROR_REDUCED = Claim(Kind.SUPERIORITY, 0.05, "error-reduction")
FIRST, ALPHA, TRIES = 0.025, 0.05, 20
"""Level of a quarter's first decision, its error rate, and retrainings on one holdout."""


def promoted(claim: Claim, pair: Paired | None, level: float) -> bool:
    """Whether the gate would."""
    return pair is not None and judge_claim(claim, pair, level).outcome is Outcome.PROMOTE


def by_point(pair: Paired | None) -> bool:
    """Whether the bare point estimate would."""
    return pair is not None and pair.effects["absolute"].value > 0


def one_candidate(setting: Setting, measure: str, seed: int, better: float = 0.0) -> dict[str, bool]:
    """What becomes of one candidate.

    Args:
        setting: How rows depend on one another.
        measure: What is compared.
        seed: Of labels and luck.
        better: By how much its errors are smaller.
    """
    world = World.of(setting, seed)
    pair = comparison(world, measure, world.sums(measure), better)
    return {
        "better at all": promoted(BETTER, pair, FIRST),
        "better by 5 % of the error": promoted(ERROR_REDUCED, pair, FIRST),
        "by its point": by_point(pair),
        "cannot be told": pair is None,
    }


def one_holdout(setting: Setting, measure: str, seed: int) -> dict[str, bool]:
    """Whether any of many null candidates on one holdout is promoted."""
    world = World.of(setting, seed)
    champion = world.sums(measure)
    pairs = [comparison(world, measure, champion) for _ in range(TRIES)]
    levels = [Spending(quarter_of(NOW), tried).level(ALPHA, NOW) for tried in range(TRIES)]
    return {
        "error rate spent": any(promoted(BETTER, p, level) for p, level in zip(pairs, levels, strict=True)),
        "5 % each time": any(promoted(BETTER, pair, ALPHA) for pair in pairs),
        "by its point": any(map(by_point, pairs)),
    }
