"""A user's own measure: any function of labels, predictions and weights, compared as ours are.

Where the difference of two versions goes is asked of the function itself: rows are given a little more and a
little less weight for the standard error, and the weights of resamples for the bootstrap. Rows of one label
and one prediction are told to it once, with their number as weight, so that classes cost next to nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..ports.scorer import OwnMetric
from .scorer_columns import Column
from .scorer_paired import Rule
from .scorer_results import Measure

if TYPE_CHECKING:
    import numpy.typing as npt
    from scipy.sparse import csr_array

    from .scorer_columns import Floats
    from .scorer_measured import Integers, Measured, Side

    Values = npt.NDArray[Any]

Function = Callable[..., object]
"""Takes labels, predictions and weights above 0, one a row each; a row of weight 2 counts as two rows."""

_MOST_CELLS = 256
"""Rows are told apart so finely to see how far they depend on one another."""
_MOST_MOVED = 0.01
"""A derivative moves no larger share of the rows than this."""
_AT_ONCE = 1_000_000  # weights in memory
_TOLERANCE = 1e-6  # of functions that reckon with float32
_NO_WEIGHTS = (
    "it does not take weights: a row of weight 2 has to count as two rows, "
    "as in numpy.average(loss, weights=weights)"
)

_ORDER = "it depends on more than labels, predictions and weights: the order of rows must not matter"


class _Unusable(Exception):
    """The function gave no value; says why."""


def own_value(function: Function | None, truth: Column, predicted: Column) -> Measure:
    """The measure of one version.

    Args:
        function: The user's; ``None`` where the scorer was not given it.
        truth: The labels.
        predicted: The predictions.

    Returns:
        The value, or why there is none: it raises, gives no finite number, or pays no heed to weights.
    """
    import numpy as np

    if function is None:
        return "its function was not given to the scorer"
    labels, predictions = _values(truth), _values(predicted)
    weights = np.random.default_rng(0).integers(1, 4, len(labels))  # the same whenever rows are scored anew
    places = np.repeat(np.arange(len(labels)), weights)
    try:
        value = _called(function, labels, predictions, np.ones(len(labels)))
        weighted = _called(function, labels, predictions, weights.astype(float))
        repeated = _called(function, labels[places], predictions[places], np.ones(len(places)))
    except _Unusable as reason:
        return str(reason)
    if not _same(weighted, repeated):
        return _NO_WEIGHTS
    return value if _same(value, OwnMeasure(function, truth, predicted).whole()) else _ORDER


def _same(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=_TOLERANCE, abs_tol=1e-12)


def _called(function: Function, labels: Values, predictions: Values, weights: Floats) -> float:
    import numpy as np

    for array in (labels, predictions, weights):
        array.flags.writeable = False  # what one call did to them the next would see
    try:
        value = function(labels, predictions, weights)
    except Exception as error:  # it is not our code
        raise _Unusable(f"the function raised {type(error).__name__}: {error}") from error
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not number or not math.isfinite(found := float(value)):  # type: ignore[arg-type]  # a number
        raise _Unusable(f"the function returned {repr(value)[:80]}, and not a finite number")
    return found


def _values(column: Column) -> Values:
    """Numbers and truth values as floats, text as text; a copy of our own."""
    import numpy as np

    return np.array(column.values.to_pylist()) if column.is_text else column.floats().copy()


class OwnMeasure:
    """A user's measure of one version, whose rows can be weighted.

    Args:
        function: The user's.
        truth: The labels.
        predicted: The predictions.
    """

    def __init__(self, function: Function, truth: Column, predicted: Column) -> None:
        import numpy as np

        self._function = function
        labels, label = np.unique(_values(truth), return_inverse=True)
        predictions, prediction = np.unique(_values(predicted), return_inverse=True)
        pairs, self._pair = np.unique(label * len(predictions) + prediction, return_inverse=True)
        self._labels, self._predictions = (
            labels[pairs // len(predictions)],
            predictions[pairs % len(predictions)],
        )
        self._counts = np.bincount(self._pair).astype(float)

    def whole(self) -> float:
        """Its value over all rows; NaN where it is not defined."""
        return self._at(self._counts)

    def influence(self) -> Floats:
        """What each row adds to the value, to first order; alike for rows that are much alike."""
        import numpy as np

        cell = _cells(self._labels, self._predictions)[self._pair]
        slopes: Floats = self._slopes(self._table(cell, int(cell.max()) + 1)) / np.bincount(cell)
        return slopes[cell]

    def by_unit(self, of_row: Integers, count: int) -> Callable[[Floats], Side]:
        """The measure as a function of the weights of units.

        Values are the function's own. Influences under other weights are those of a weighted mean that has
        the same ones where all weights are 1, which for a weighted mean is no approximation.
        """
        import numpy as np

        table = self._table(of_row, count)
        slopes, rows = self._slopes(table), np.bincount(of_row, minlength=count).astype(float)

        def at(weights: Floats) -> Side:
            few = max(1, _AT_ONCE // len(self._counts))
            of_pairs = (weights[start : start + few] @ table for start in range(0, len(weights), few))
            values = np.array([self._at(each) for some in of_pairs for each in some])
            of_all = rows.sum() / (weights @ rows)[:, None]
            shift = (weights @ slopes)[:, None] * of_all / rows.sum()
            return values, (slopes - shift * rows) * of_all

        return at

    def _at(self, weights: Floats) -> float:
        there = weights > 0
        given = (self._labels[there], self._predictions[there], weights[there])
        try:
            return _called(self._function, *given)
        except _Unusable:
            return math.nan

    def _table(self, part: Integers, count: int) -> csr_array:
        """How many rows of each pair are in each part."""
        import numpy as np
        from scipy.sparse import csr_array

        shape = (count, len(self._counts))
        return csr_array((np.ones(len(part)), (part, self._pair)), shape=shape)

    def _slopes(self, table: csr_array) -> Floats:
        """By how much the value changes with the weight of each part, by central differences."""
        import numpy as np

        slopes = np.empty(table.shape[0])
        for number in range(len(slopes)):
            part = table[[number]].toarray()[0]
            step = min(0.5, _MOST_MOVED * self._counts.sum() / part.sum())
            above, below = self._at(self._counts + step * part), self._at(self._counts - step * part)
            slopes[number] = (above - below) / (2 * step)
        return slopes


def _cells(labels: Values, predictions: Values) -> Integers:
    """The cell of each pair: of its own where there are few, else among those of like label and error."""
    import numpy as np

    if len(labels) <= _MOST_CELLS:
        return np.arange(len(labels))
    each = math.isqrt(_MOST_CELLS)
    numbers = labels.dtype.kind == "f"
    error = predictions - labels if numbers else (predictions == labels).astype(float)
    by_label, by_error = (_rank(values) * each // len(labels) for values in (labels, error))
    _, cell = np.unique(by_label * each + by_error, return_inverse=True)
    cells: Integers = cell.astype(np.int64)
    return cells


def _rank(values: Values) -> Integers:
    """How many are smaller."""
    import numpy as np

    rank: Integers = np.searchsorted(np.sort(values), values).astype(np.int64)
    return rank


def rule_of_own(own: OwnMetric, versions: Sequence[Measured], kind: str) -> Rule:
    """What is known of such a measure.

    Where no row tells two classifiers apart, three still might (see ``rule_of``), by as much as any two
    rows differ: for the share of right rows that is the same.

    Args:
        own: What the user says of it.
        versions: It, of both versions.
        kind: What kind of model it is.
    """
    spans = [0.0]
    if kind == "classification":
        influences = [version.influence() for version in versions]
        spans = [float(influence.max() - influence.min()) for influence in influences]
    return Rule(own.direction, own.best, 2 * max(spans), exact=False)
