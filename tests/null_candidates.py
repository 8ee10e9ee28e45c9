"""Versions that are right equally often, or not quite, on rows that depend on one another."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache, cached_property

import numpy as np
import numpy.typing as npt
from scipy import optimize, signal, stats

from autoretrain.adapters.scorer_classes import truth_of
from autoretrain.adapters.scorer_measured import Sums
from autoretrain.adapters.scorer_paired import RESAMPLES, Rows, Unpaired, compare
from autoretrain.adapters.scorer_sums import class_sums, number_sums
from autoretrain.ports.scorer import Paired, ScoringTask, Units

Floats = npt.NDArray[np.float64]
HOUR = 3_600_000_000
CLASSES = ("accuracy", "f1", "precision", "recall", "roc_auc", "log_loss", "brier")
NUMBERS = ("mae", "rmse", "r2", "mape")
_MARGIN = 1.2
"""Of the champion, in standard deviations: it is right 88.5 % of the time."""


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

    def version(self, measure: str, better: float = 0.0) -> Version:
        """Draw one.

        Args:
            measure: By what it is measured.
            better: By how much its true loss is smaller than the champion's, as a fraction.
        """
        own = np.sqrt(0.4) * self.shared + np.sqrt(0.6) * luck(self.setting, self.random)
        if measure in NUMBERS:
            return Version(measure, self.labels, own * _times(measure, 1 - better))
        return Version(measure, self.labels, own + _margin(measure, 1 - better))

    def sums(self, measure: str, better: float = 0.0) -> Sums:
        """The sums of a version that is drawn for them."""
        return self.version(measure, better).sums()


@dataclass(frozen=True, eq=False)
class Version:
    """Predictions.

    Attributes:
        measure: By what they are measured.
        labels: As in the world.
        luck: The error of a number; of a class how far it is from being taken for the other one.
    """

    measure: str
    labels: Floats
    luck: Floats

    def first(self, count: int) -> Version:
        """Of the first rows alone."""
        return Version(self.measure, self.labels[:count], self.luck[:count])

    def sums(self) -> Sums:
        """What the scorer adds up."""
        labels, luck = self.labels, self.luck
        if self.measure in NUMBERS:
            truth = 20 + 3 * labels
            return number_sums(self.measure, truth, truth + luck)
        classes = (labels > 0).astype(np.int64)
        score = np.where(classes == 1, luck, -luck)
        probability = 1 / (1 + np.exp(-score))
        truth_codes = truth_of(ScoringTask("classification"), classes, [0.0, 1.0], "int64")
        predicted = (score > 0).astype(np.int64)
        scores: dict[float | str, Floats] = {0.0: 1 - probability, 1.0: probability}
        return class_sums(self.measure, "macro", truth_codes, predicted, scores)


def luck(setting: Setting, random: np.random.Generator) -> Floats:
    """Standard normal values, one a row, as dependent as the setting says."""
    own = random.standard_normal(setting.rows)
    if setting.group_size > 1:
        common = np.repeat(random.standard_normal(-(-setting.rows // setting.group_size)), setting.group_size)
        mixed: Floats = np.sqrt(0.7) * common[: setting.rows] + np.sqrt(0.3) * own
        return mixed
    rho = setting.autocorrelation
    own[1:] *= np.sqrt(1 - rho**2)
    series: Floats = signal.lfilter([1.0], [1.0, -rho], own)
    return series


@cache
def _times(measure: str, share: float) -> float:
    """What errors are multiplied with for so much of the loss; 1 - R² is a mean of squares."""
    return float(np.sqrt(share)) if measure == "r2" else share


@cache
def _margin(measure: str, share: float) -> float:
    """The margin at which the true loss is so much of the champion's."""
    wanted = share * _loss(measure, _MARGIN)
    found: float = optimize.brentq(lambda margin: _loss(measure, margin) - wanted, 0.01, 8)
    return found


_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(80)


def _loss(measure: str, margin: float) -> float:
    """True loss of a version: by symmetry of the classes F1, precision and recall are accuracy."""
    wrong = 1 / (1 + np.exp(margin + _NODES))  # the probability it gives to the wrong class
    mean = _WEIGHTS / _WEIGHTS.sum()
    losses = {
        "roc_auc": lambda: stats.norm.cdf(-np.sqrt(2) * margin),
        "brier": lambda: (mean * wrong**2).sum(),
        "log_loss": lambda: -(mean * np.log1p(-wrong)).sum(),
    }
    return float(losses.get(measure, lambda: stats.norm.cdf(-margin))())


@dataclass(frozen=True, eq=False)
class Trial:
    """A candidate beside the champion on a holdout.

    Attributes:
        candidate: Its predictions.
        champion: The champion's.
        rows: What the scorer knows of the rows.
        units: What may be resampled.
    """

    candidate: Version
    champion: Version
    rows: Rows
    units: Units

    @property
    def measure(self) -> str:
        """What is compared."""
        return self.candidate.measure

    @cached_property
    def values(self) -> tuple[float, float]:
        """The measure of candidate and champion."""
        both = (version.sums() for version in (self.candidate, self.champion))
        new, old = (float(sums.value(np.array([column().sum() for column in sums.columns]))) for sums in both)
        return new, old

    @cached_property
    def paired(self) -> Paired | None:
        """The comparison; ``None`` where the difference cannot be told."""
        return self._compared(RESAMPLES)

    @cached_property
    def at_its_narrowest(self) -> Paired | None:
        """The comparison without a bootstrap, which only widens."""
        return self._compared(0)

    def _compared(self, resamples: int) -> Paired | None:
        sums = self.candidate.sums(), self.champion.sums()
        discordant = self._discordant() if self.measure == "accuracy" else None
        try:
            return compare(self.measure, *sums, self.rows, self.units, discordant, resamples)
        except Unpaired:
            return None

    def _discordant(self) -> tuple[int, int]:
        new, old = self.candidate.luck > 0, self.champion.luck > 0
        return int((new & ~old).sum()), int((old & ~new).sum())

    def first(self, count: int) -> Trial:
        """As it was when only so many rows were there."""
        rows = self.rows.where(np.arange(self.rows.count) < count)
        return Trial(self.candidate.first(count), self.champion.first(count), rows, self.units)


def one_trial(setting: Setting, measure: str, seed: int, better: float = 0.0) -> Trial:
    """A candidate on a holdout of its own.

    Args:
        setting: How rows depend on one another.
        measure: What is compared.
        seed: Of labels and luck.
        better: By how much its true loss is smaller, as a fraction.
    """
    world = World.of(setting, seed)
    champion = world.version(measure)
    return Trial(world.version(measure, better), champion, world.rows(), setting.units)


def on_one_holdout(setting: Setting, measure: str, seed: int, count: int) -> list[Trial]:
    """Many null candidates on the same rows."""
    world = World.of(setting, seed)
    champion = world.version(measure)
    return [Trial(world.version(measure), champion, world.rows(), setting.units) for _ in range(count)]


def on_fresh_holdouts(setting: Setting, measure: str, seed: int, count: int) -> list[Trial]:
    """Many null candidates, each on rows of its own."""
    return [one_trial(setting, measure, seed * count + place) for place in range(count)]


def on_a_growing_holdout(setting: Setting, measure: str, seed: int, count: int) -> list[Trial]:
    """One null candidate, looked at again and again as rows come in, from a quarter of them on."""
    whole = one_trial(setting, measure, seed)
    shares = [0.25 + 0.75 * (place + 1) / count for place in range(count)]
    return [whole.first(round(setting.rows * share)) for share in shares]
