"""What a measure of one version becomes when its rows are weighted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from .scorer_columns import Floats

    Integers = npt.NDArray[np.int64]

_STEP = 1e-6

Side = tuple["Floats", "Floats"]
"""Values of one version, one a row of weights, and the influence of each unit on them (one column a unit)."""


class Measured(Protocol):
    """A measure of one version, whose rows can be weighted."""

    def whole(self) -> float:
        """Its value over all rows; NaN where it is not defined."""
        ...

    def influence(self) -> Floats:
        """What each row adds to the value, to first order."""
        ...

    def by_unit(self, of_row: Integers, count: int) -> Callable[[Floats], Side]:
        """The measure as a function of the weights of units.

        Args:
            of_row: Number of each row's unit.
            count: How many units there are.
        """
        ...


@dataclass(frozen=True, slots=True)
class Sums:
    """A measure of one version, as a function of sums over rows.

    Attributes:
        columns: Each makes one value a row; called as often as needed, so that few columns are in memory.
        value: The measure from the sums of the columns, along the last axis; NaN where it is not defined.
    """

    columns: Sequence[Callable[[], Floats]]
    value: Callable[[Floats], Floats]

    def whole(self) -> float:
        """Its value over all rows; NaN where it is not defined."""
        return float(self.value(self._totals()))

    def influence(self) -> Floats:
        """What each row adds to the value, to first order."""
        import numpy as np

        gradient = _gradient(self.value, self._totals()[None])[0]
        shares = (column() * slope for column, slope in zip(self.columns, gradient, strict=True))
        influence: Floats = sum(shares, start=np.zeros(1))
        return influence

    def by_unit(self, of_row: Integers, count: int) -> Callable[[Floats], Side]:
        """The measure as a function of the weights of units."""
        import numpy as np

        sums = np.column_stack([np.bincount(of_row, column(), count) for column in self.columns])

        def at(weights: Floats) -> Side:
            totals = weights @ sums
            gradient = _gradient(self.value, totals)
            with np.errstate(invalid="ignore"):  # a resample without one of the classes has no value: NaN
                own = (gradient * totals).sum(axis=1, keepdims=True) / count
                return self.value(totals), gradient @ sums.T - own

        return at

    def _totals(self) -> Floats:
        import numpy as np

        return np.array([column().sum() for column in self.columns])


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
