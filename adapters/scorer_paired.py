"""The difference between two versions on the same rows, and how well it is known.

Every measure we compute is a smooth function of sums over rows. So the rows are added up unit by unit (a
block of time, a group, a row), and everything else needs those sums alone: the standard error by the
infinitesimal jackknife, and a bootstrap over units of the studentised difference, whose quantiles say how
much further than Student's t an interval has to reach (Efron and Tibshirani 1993, chapters 12 and 21).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from ..ports.scorer import DIRECTIONS, Effect, Paired, Scale, Units
from .scorer_measured import Measured, Side

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from .scorer_columns import Floats

    Integers = npt.NDArray[np.int64]

FEWEST_UNITS = 6
"""With fewer units than this no standard error deserves the name."""

_MOST_UNITS = 400
RESAMPLES = 2000
"""So many make the bootstrap."""
_TAIL = 0.025
"""Where the bootstrap is compared with Student's t: far enough out, with 50 resamples beyond it."""
_MOST_STRETCH = 10.0
_TIMES_AS_LONG = 5
"""A block is so many times as long as the rows depend on one another, or longer."""
_MOST_SPREAD = 5.0
_ROUNDING = 1e-8


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """What ties the rows to one another.

    Attributes:
        count: How many there are.
        times: Microseconds since 1970 of each row, in ascending order.
        begin: Where blocks of time begin, in the same unit.
        groups: Number of each row's group; ``None`` when rows have none.
        seed: For the bootstrap; the same rows have the same.
    """

    count: int
    times: Integers
    begin: int
    groups: Integers | None
    seed: int

    def where(self, mask: npt.NDArray[np.bool_]) -> Rows:
        """Some of the rows."""
        groups = None if self.groups is None else self.groups[mask]
        return Rows(int(mask.sum()), self.times[mask], self.begin, groups, self.seed)


@dataclass(frozen=True, slots=True, eq=False)
class _Partition:
    """Rows by unit.

    Attributes:
        of_row: Number of each row's unit.
        count: How many units there are.
        words: What a unit is.
        widen: What variances are multiplied with, for what neighbouring units have in common.
    """

    of_row: Integers
    count: int
    words: str
    widen: float = 1.0


@dataclass(frozen=True, slots=True)
class Rule:
    """What has to be known of a measure.

    Attributes:
        direction: Which way it is better.
        best: Its value for a perfect model; ``None`` where there is none.
        least_error: The difference is never surer than this.
        exact: Whether its derivatives are known to mean something; of a user's function nobody knows.
    """

    direction: Literal["up", "down"]
    best: float | None
    least_error: float = 0.0
    exact: bool = True


def rule_of(measure: str, rows: int) -> Rule:
    """What is known of a measure of ours.

    Where no row tells two classifiers apart, three in ``rows`` still might (the rule of three, 5 %).
    """
    up = DIRECTIONS[measure] == "up"
    least = 2 / rows if up and measure != "r2" else 0.0
    return Rule(DIRECTIONS[measure], 1.0 if up else 0.0, least)


class Unpaired(Exception):
    """The difference cannot be told; says why."""


def compare(
    measure: str,
    candidate: Measured,
    champion: Measured,
    rows: Rows,
    units: Units,
    discordant: tuple[int, int] | None = None,
    resamples: int = RESAMPLES,
    rule: Rule | None = None,
) -> Paired:
    """Compare two versions.

    With blocks of time and groups both, the one that leaves more doubt is taken.

    Args:
        measure: Name of the measure.
        candidate: The candidate's, whose rows can be weighted.
        champion: The champion's, over the same rows.
        rows: What ties them together.
        units: What may be resampled.
        discordant: Rows only one of them got right, for a measure that is the share of right rows.
        resamples: Of the bootstrap; 0 leaves it out, and the interval is Student's alone, never wider than
            with it: what is not shown without need not be resampled.
        rule: What is known of the measure; ``None`` for one of ours.

    Returns:
        The difference on every scale on which it is defined.

    Raises:
        Unpaired: A value is not defined, or the rows make too few units.
    """
    rule = rule or rule_of(measure, rows.count)
    new, old = _value(candidate), _value(champion)
    influence = candidate.influence() - champion.influence()
    dependence = 1.0 if units.independent else _dependence(influence, abs(new) + abs(old))
    options = [
        _paired(rule, candidate, champion, rows, partition, resamples)
        for partition in _partitions(rows, units, dependence)
    ]
    effects, partition = max(options, key=lambda option: option[0]["absolute"].error)
    return Paired(
        measure=measure,
        candidate=new,
        champion=old,
        effects=effects,
        units=partition.count,
        unit=partition.words,
        rows=rows.count,
        dependence=dependence,
        discordant=discordant if units.independent else None,
    )


def _value(version: Measured) -> float:
    value = version.whole()
    if value != value:
        raise Unpaired("it is not defined on these rows")
    return value


# --- units ---------------------------------------------------------------------------------------------


def _partitions(rows: Rows, units: Units, dependence: float) -> list[_Partition]:
    if units.independent:
        return [_scattered(rows)]
    found = [_blocks(rows, units.block, dependence)]
    if rows.groups is not None and units.group is not None:
        found.append(_grouped(rows.groups, units.group, rows.seed))
    return found


def _scattered(rows: Rows) -> _Partition:
    """Independent rows: dealt out at random to no more units than are needed to estimate a variance well."""
    import numpy as np

    count = min(rows.count, _MOST_UNITS)
    _require_units(count, "rows")
    dealt = np.random.default_rng(rows.seed).permutation(rows.count) % count
    return _Partition(dealt, count, "rows, declared independent")


def _blocks(rows: Rows, least: timedelta, dependence: float) -> _Partition:
    """Blocks of time, several times as long as rows depend on one another.

    Blocks of ``L`` rows underestimate the variance of a mean, by the share ``(tau - 1 / tau) / (2 L)`` where
    correlation decays geometrically and ``tau`` is the integrated autocorrelation time (after Künsch 1989,
    section 3). Twice that is added, since ``tau`` is estimated.
    """
    import numpy as np

    microseconds, carried = timedelta(microseconds=1), dependence - 1 / dependence
    spacing = (int(rows.times[-1]) - int(rows.times[0])) / max(rows.count - 1, 1)
    blocks_needed = max(1, -(-_TIMES_AS_LONG * carried * spacing // (least / microseconds)))
    length = least * blocks_needed
    number = (rows.times - rows.begin) // int(length / microseconds)
    seen, of_row = np.unique(number, return_inverse=True)
    count = len(seen)
    words = _words(length)
    if count < FEWEST_UNITS:
        why = (
            f", since rows depend on one another over {_words(timedelta(microseconds=dependence * spacing))}"
            if length > least
            else ""
        )
        raise Unpaired(f"the rows make only {count} blocks of {words}{why}; {FEWEST_UNITS} are needed")
    widen = 1 / (1 - min(0.5, carried * count / rows.count))
    return _bundled(_Partition(of_row.astype(np.int64), count, f"blocks of {words}", widen))


def _grouped(groups: Integers, name: str, seed: int) -> _Partition:
    import numpy as np

    seen, of_row = np.unique(groups, return_inverse=True)
    _require_units(len(seen), f"groups by {name}")
    order = np.random.default_rng(seed).permutation(len(seen))  # so that groups are bundled at random
    return _bundled(_Partition(order[of_row].astype(np.int64), len(seen), f"groups by {name}"))


def _bundled(partition: _Partition) -> _Partition:
    """No more units than are needed; neighbours are put together."""
    if partition.count <= _MOST_UNITS:
        return partition
    bundled = partition.of_row * _MOST_UNITS // partition.count
    return _Partition(bundled, _MOST_UNITS, f"{partition.words}, in bundles", partition.widen)


def _require_units(count: int, what: str) -> None:
    if count < FEWEST_UNITS:
        raise Unpaired(f"there are only {count} {what}; {FEWEST_UNITS} are needed")


def _words(length: timedelta) -> str:
    hours = length / timedelta(hours=1)
    if hours >= 48 or hours == 24:
        return f"{hours / 24:.3g} day{'s' if hours != 24 else ''}"
    return f"{hours:.3g} hours" if hours >= 1 else f"{hours * 60:.3g} minutes"


# --- how rows depend on one another --------------------------------------------------------------------


def _dependence(series: Floats, scale: float) -> float:
    """Integrated autocorrelation time, in rows, by Geyer's initial monotone sequence (1992, section 3.3).

    Rows that all add the same, but for rounding of sums of this scale, do not depend on one another.
    """
    import numpy as np

    if (series.max() - series.min()) * len(series) <= _ROUNDING * scale:
        return 1.0
    centred = series - series.mean()
    size = 1 << (2 * len(centred) - 1).bit_length()
    power = np.abs(np.fft.rfft(centred, size)) ** 2
    covariance = np.fft.irfft(power, size)[: len(centred)]
    even = len(centred) // 2 * 2
    pairs = (covariance[0:even:2] + covariance[1:even:2]) / covariance[0]
    negative = np.nonzero(pairs <= 0)[0]
    positive = pairs[: negative[0]] if len(negative) else pairs
    return max(1.0, float(2 * np.minimum.accumulate(positive).sum() - 1))


# --- standard errors and the bootstrap -----------------------------------------------------------------


def _paired(
    rule: Rule, candidate: Measured, champion: Measured, rows: Rows, partition: _Partition, resamples: int
) -> tuple[dict[Scale, Effect], _Partition]:
    import numpy as np

    new, old = (version.by_unit(partition.of_row, partition.count) for version in (candidate, champion))
    every = np.ones((1, partition.count))
    here = _effects(rule, new(every), old(every))
    widen = partition.widen * partition.count / (partition.count - 1)
    random = np.random.default_rng(rows.seed)
    drawn = random.multinomial(partition.count, np.full(partition.count, 1 / partition.count), resamples)
    low, high = 1.0, 1.0
    if resamples:
        resampled = _effects(rule, new(drawn.astype(float)), old(drawn.astype(float)))["absolute"]
        if not rule.exact:
            _require_smooth(here["absolute"], resampled)
        low, high = _stretch(float(here["absolute"].value[0]), resampled, drawn, widen)
    effects: dict[Scale, Effect] = {}
    for scale, each in here.items():
        value, base = float(each.value[0]), float(each.base[0])
        if base > 0:
            error = float(np.sqrt((each.influence[0] ** 2).sum() * widen))
            least = rule.least_error / base
            of_base = float(np.sqrt((each.base_influence[0] ** 2).sum() * widen))
            # gain = value * base + influence * base, to first order
            shared = float((each.influence[0] * each.base_influence[0]).sum() * widen) + value * of_base**2
            effects[scale] = Effect(value, max(error, least), low, high, of_base, shared)
    return effects, partition


@dataclass(frozen=True, slots=True, eq=False)
class _Difference:
    """A difference on one scale, under each row of weights.

    Attributes:
        value: How much better the candidate is.
        influence: What each unit adds to that, to first order: one column a unit.
        base: What the difference is a fraction of.
        base_influence: What each unit adds to that, as a fraction of it.
    """

    value: Floats
    influence: Floats
    base: Floats
    base_influence: Floats


def _effects(rule: Rule, new: Side, old: Side) -> dict[Scale, _Difference]:
    """The difference on every scale. Where its base is 0 it is not defined."""
    import numpy as np

    sign = 1.0 if rule.direction == "up" else -1.0
    gain, slope = sign * (new[0] - old[0]), sign * (new[1] - old[1])
    bases: dict[Scale, Side] = {
        "absolute": (np.ones_like(gain), np.zeros_like(slope)),
        "relative": (np.abs(old[0]), np.sign(old[0])[:, None] * old[1]),
    }
    if rule.best is not None:
        bases["error-reduction"] = sign * (rule.best - old[0]), -sign * old[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            scale: _Difference(
                gain / base,
                (slope - (gain / base)[:, None] * base_slope) / base[:, None],
                base,
                base_slope / base[:, None],
            )
            for scale, (base, base_slope) in bases.items()
        }


def _stretch(value: float, resampled: _Difference, drawn: Integers, widen: float) -> tuple[float, float]:
    """By how much the bootstrap reaches further than Student's t, below and above; at least 1."""
    import numpy as np
    from scipy.special import stdtrit

    spread = np.sqrt((drawn * resampled.influence**2).sum(axis=1) * widen)
    with np.errstate(divide="ignore", invalid="ignore"):
        studentised = (resampled.value - value) / spread
    studentised[(resampled.value == value) & (spread == 0)] = 0.0
    lost = np.isnan(studentised)  # a resample in which a measure is not defined counts against both sides
    student = float(stdtrit(drawn.shape[1] - 1, 1 - _TAIL))
    low = np.quantile(np.where(lost, np.inf, studentised), 1 - _TAIL, method="higher")
    high = -np.quantile(np.where(lost, -np.inf, studentised), _TAIL, method="lower")
    return _stretched(float(low) / student), _stretched(float(high) / student)


def _require_smooth(here: _Difference, resampled: _Difference) -> None:
    """Refuse a difference whose resamples spread much further than its derivatives say: these mean nothing.

    Among our measures there is none; a user's own may be a rounded value.
    """
    import numpy as np

    if not np.isfinite(here.influence).all():
        raise Unpaired("it is not defined when rows weigh a little more or less")
    known = resampled.value[np.isfinite(resampled.value)]
    spread = float(known.std()) if len(known) else 0.0
    error = float(np.sqrt((here.influence[0] ** 2).sum()))
    if spread > _MOST_SPREAD * error + _ROUNDING * float(np.abs(known).max(initial=0.0)):
        raise Unpaired("it does not change smoothly when rows weigh a little more or less")


def _stretched(ratio: float) -> float:
    """Where a few rows carry all of a difference, resamples without them reach infinitely far."""
    return min(max(1.0, ratio), _MOST_STRETCH)
