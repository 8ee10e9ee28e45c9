"""A test for harm that may be looked at after every sample: looking often does not raise its error rate.

A sample is how much worse a version was than its baseline in one batch, as a day: means of many rows, about
normal, whose spread nobody knows beforehand. Rows of one batch may depend on one another, batches should not.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from enum import Enum

from .student import upper_tail

_PRIOR = 1.0
"""Samples that the prior is worth: differences of about one standard deviation of a batch are looked for."""

_MOST = 690.0
"""Largest logarithm that is turned into a number."""


@dataclass(frozen=True, slots=True)
class Moments:
    """All that the test keeps of its samples.

    Attributes:
        count: How many there were.
        mean: Their mean.
        squares: Sum of their squared deviations from it.
    """

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def after(self, sample: float) -> Moments:
        """With one more sample (Welford 1962, which loses no digits to a large mean).

        Raises:
            ValueError: It is not finite; what is unknown is no sample.
        """
        if not math.isfinite(sample):
            raise ValueError(f"a sample of {sample} is not a number that can be tested")
        count, off = self.count + 1, sample - self.mean
        mean = self.mean + off / count
        return Moments(count, mean, self.squares + off * (sample - mean))


class Harm(Enum):
    """What the samples show so far."""

    SHOWN = "harm"
    EXCLUDED = "no harm"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Reading:
    """The test after some samples.

    Attributes:
        harm: Whether harm is shown, excluded, or neither yet.
        e_value: Evidence that the mean is above the tolerance. Where it is not, this ever reaches ``1/alpha``
            with a probability of at most ``alpha``. At most 1e299.
        e_safe: Likewise, that the mean is below the tolerance.
        interval: Where the mean difference is. Of all the intervals that are ever told, any misses it with a
            probability of at most ``2 alpha``. ``None`` while the samples are too few to bound it.
    """

    harm: Harm
    e_value: float
    e_safe: float
    interval: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class HarmTest:
    """Is the mean of the samples above a tolerance?

    The e-value is the Bayes factor of the sequential t-test: right Haar prior on the standard deviation,
    half-normal prior on the mean in standard deviations. Among normal samples with a mean at the tolerance
    it is a non-negative martingale that begins at 1, whatever their spread; a lower mean only lowers its
    path; so by Ville's inequality it ever reaches ``1/alpha`` with a probability of at most ``alpha`` (Lai
    1976; Wang and Ramdas 2024, "Anytime-valid t-tests"). Four samples are the fewest that can reach 20.

    Attributes:
        tolerance: Largest mean difference that is no harm.
        alpha: Chance that harm is ever found where there is none, and the same for the other way.
    """

    tolerance: float
    alpha: float

    def read(self, seen: Moments) -> Reading:
        """What the samples show; may be asked after every one of them."""
        worse, better = _log_e(seen, self.tolerance, +1), _log_e(seen, self.tolerance, -1)
        enough = -math.log(self.alpha)
        harm = Harm.SHOWN if worse >= enough else Harm.EXCLUDED if better >= enough else Harm.OPEN
        return Reading(harm, _exp(worse), _exp(better), _interval(seen, 2 * self.alpha))


def fewest_samples(alpha: float) -> int:
    """How many samples there must be before any can show harm at ``alpha``: as many that are all the same."""
    count = 1
    while _log_e(Moments(count, 1.0), 0.0, +1) < -math.log(alpha):
        count += 1
    return count


def _log_e(seen: Moments, null: float, side: int) -> float:
    """Logarithm of the e-value that the mean is above (``side`` +1) or below (-1) ``null``."""
    n, off = seen.count, side * (seen.mean - null)
    around_null = seen.squares + n * off * off
    if n == 0 or around_null < sys.float_info.min:  # squares this small have lost their digits
        return 0.0
    explained = seen.squares + n * off * off * _PRIOR / (n + _PRIOR)
    t = n * off * math.sqrt(n / ((n + _PRIOR) * explained))
    two_sided = 0.5 * math.log(_PRIOR / (n + _PRIOR)) + n / 2 * math.log(around_null / explained)
    tail = upper_tail(-t, n)
    return two_sided + math.log(2 * tail) if tail > 0 else -_MOST


def _interval(seen: Moments, alpha: float) -> tuple[float, float] | None:
    """The nulls that the two-sided e-value does not refute at ``alpha``, solved for the mean."""
    n = seen.count
    if n == 0:
        return None
    ratio = ((n + _PRIOR) / (_PRIOR * alpha**2)) ** (1 / n)
    left = 1 - ratio * _PRIOR / (n + _PRIOR)
    if left <= 0:
        return None
    reach = math.sqrt((ratio - 1) * seen.squares / (n * left))
    return seen.mean - reach, seen.mean + reach


def _exp(log: float) -> float:
    return math.exp(min(log, _MOST))
