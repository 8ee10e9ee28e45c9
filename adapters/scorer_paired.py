"""The difference between two versions on the same rows, and how well it is known.

Every measure we compute is a smooth function of sums over rows. So the rows are added up unit by unit (a
block of time, a group, a row), and everything else needs those sums alone: the standard error by the
infinitesimal jackknife, and a bootstrap over units of the studentised difference, whose quantiles say how
much further than Student's t an interval has to reach (Efron and Tibshirani 1993, chapters 12 and 21).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from ..ports.scorer import DIRECTIONS, Effect, Paired, Scale, Units

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
_STEP = 1e-6
_ROUNDING = 1e-8


@dataclass(frozen=True, slots=True)
class Sums:
    """A measure of one version, as a function of sums over rows.

    Attributes:
        columns: Each makes one value a row; called as often as needed, so that few columns are in memory.
        value: The measure from the sums of the columns, along the last axis; NaN where it is not defined.
    """

    columns: Sequence[Callable[[], Floats]]
    value: Callable[[Floats], Floats]


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


class Unpaired(Exception):
    """The difference cannot be told; says why."""


def compare(
    measure: str,
    candidate: Sums,
    champion: Sums,
    rows: Rows,
    units: Units,
    discordant: tuple[int, int] | None = None,
    resamples: int = RESAMPLES,
) -> Paired:
    """Compare two versions.

    With blocks of time and groups both, the one that leaves more doubt is taken.

    Args:
        measure: Name of the measure.
        candidate: The candidate's sums.
        champion: The champion's, over the same rows.
        rows: What ties them together.
        units: What may be resampled.
        discordant: Rows only one of them got right, for a measure that is the share of right rows.
        resamples: Of the bootstrap; 0 leaves it out, and the interval is Student's alone, never wider than
            with it: what is not shown without need not be resampled.

    Returns:
        The difference on every scale on which it is defined.

    Raises:
        Unpaired: A value is not defined, or the rows make too few units.
    """
    new, old = _value(candidate), _value(champion)
    influence = _row_influence(candidate, champion)
    dependence = 1.0 if units.independent else _dependence(influence, abs(new) + abs(old))
    options = [
        _paired(measure, candidate, champion, rows, partition, resamples)
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


def _value(sums: Sums) -> float:
    value = float(sums.value(_totals(sums)))
    if value != value:
        raise Unpaired("it is not defined on these rows")
    return value


def _totals(sums: Sums) -> Floats:
    import numpy as np

    return np.array([column().sum() for column in sums.columns])


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


def _row_influence(candidate: Sums, champion: Sums) -> Floats:
    """What each row adds to the difference, to first order."""
    import numpy as np

    sides = []
    for sums in (candidate, champion):
        totals = _totals(sums)
        gradient = _gradient(sums.value, totals[None])[0]
        shares = (column() * slope for column, slope in zip(sums.columns, gradient, strict=True))
        sides.append(sum(shares, start=np.zeros(1)))
    influence: Floats = sides[0] - sides[1]
    return influence


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
    measure: str, candidate: Sums, champion: Sums, rows: Rows, partition: _Partition, resamples: int
) -> tuple[dict[Scale, Effect], _Partition]:
    import numpy as np

    sums = [_unit_sums(version, partition) for version in (candidate, champion)]
    values = (candidate.value, champion.value)
    every = np.ones((1, partition.count))
    here = _effects(measure, *_linearised(sums, values, every))
    widen = partition.widen * partition.count / (partition.count - 1)
    random = np.random.default_rng(rows.seed)
    drawn = random.multinomial(partition.count, np.full(partition.count, 1 / partition.count), resamples)
    low, high = 1.0, 1.0
    if resamples:
        resampled = _effects(measure, *_linearised(sums, values, drawn.astype(float)))["absolute"]
        low, high = _stretch(float(here["absolute"].value[0]), resampled, drawn, widen)
    effects: dict[Scale, Effect] = {}
    for scale, each in here.items():
        value, base = float(each.value[0]), float(each.base[0])
        if base > 0:
            error = float(np.sqrt((each.influence[0] ** 2).sum() * widen))
            least = _least_error(measure, rows.count) / base
            of_base = float(np.sqrt((each.base_influence[0] ** 2).sum() * widen))
            # gain = value * base + influence * base, to first order
            shared = float((each.influence[0] * each.base_influence[0]).sum() * widen) + value * of_base**2
            effects[scale] = Effect(value, max(error, least), low, high, of_base, shared)
    return effects, partition


def _unit_sums(sums: Sums, partition: _Partition) -> Floats:
    import numpy as np

    return np.column_stack(
        [np.bincount(partition.of_row, column(), partition.count) for column in sums.columns]
    )


_Side = tuple["Floats", "Floats"]


def _linearised(
    sums: Sequence[Floats], values: Sequence[Callable[[Floats], Floats]], weights: Floats
) -> tuple[_Side, _Side]:
    """Value of each version under each row of weights, and the influence of each unit on it."""
    sides = []
    for unit_sums, value in zip(sums, values, strict=True):
        totals = weights @ unit_sums
        gradient = _gradient(value, totals)
        own = (gradient * totals).sum(axis=1, keepdims=True) / unit_sums.shape[0]
        sides.append((value(totals), gradient @ unit_sums.T - own))
    return sides[0], sides[1]


def _gradient(value: Callable[[Floats], Floats], totals: Floats) -> Floats:
    """Central differences, one column after another."""
    import numpy as np

    gradient = np.empty_like(totals)
    for place in range(totals.shape[1]):
        step = _STEP * (np.abs(totals[:, place]).max() or 1.0)
        above, below = totals.copy(), totals.copy()
        above[:, place] += step
        below[:, place] -= step
        with np.errstate(divide="ignore", invalid="ignore"):
            gradient[:, place] = (value(above) - value(below)) / (2 * step)
    return gradient


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


def _effects(measure: str, new: _Side, old: _Side) -> dict[Scale, _Difference]:
    """The difference on every scale. Where its base is 0 it is not defined."""
    import numpy as np

    up = DIRECTIONS[measure] == "up"
    sign = 1.0 if up else -1.0
    gain, slope = sign * (new[0] - old[0]), sign * (new[1] - old[1])
    bases: dict[Scale, _Side] = {
        "absolute": (np.ones_like(gain), np.zeros_like(slope)),
        "relative": (np.abs(old[0]), np.sign(old[0])[:, None] * old[1]),
        "error-reduction": (1 - old[0], -old[1]) if up else (old[0], old[1]),
    }
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


def _stretched(ratio: float) -> float:
    """Where a few rows carry all of a difference, resamples without them reach infinitely far."""
    return min(max(1.0, ratio), _MOST_STRETCH)


def _least_error(measure: str, rows: int) -> float:
    """Where no row tells two classifiers apart, three in ``rows`` still might (the rule of three, 5 %)."""
    return 2 / rows if DIRECTIONS[measure] == "up" and measure != "r2" else 0.0
