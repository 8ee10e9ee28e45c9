"""How far class scores are from how often they come true: the expected calibration error.

Rows are put into bins of about equally many by their score, the mean score of each bin is compared with the
share of rows that came true, and the distances are averaged over rows (Naeini, Cooper and Hauskrecht 2015;
bins of equal mass by Nguyen and O'Connor 2015). The score is that of the positive class where there is one,
else the largest of a row, which came true where its class is right (Guo et al. 2017). Chance alone makes such
distances; what it is likely to have added is taken off by the normal approximation of Kumar, Liang and Ma
(2019, section 5), so that a well calibrated model on few rows is blamed for less of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from .scorer_classes import Class, Truth
from .scorer_measured import Sums

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from .scorer_columns import Floats

    Integers = npt.NDArray[np.int64]

_MOST_BINS = 10
_ROWS_A_BIN = 20


def ece_of(truth: Truth, scores: Mapping[Class, Floats]) -> float:
    """The error of one version, from 0 to 1.

    Args:
        truth: The labels.
        scores: Probabilities by class.
    """
    import numpy as np

    sums = ece_sums(truth, scores)
    return float(sums.value(np.array([column().sum() for column in sums.columns])))


def ece_sums(truth: Truth, scores: Mapping[Class, Floats]) -> Sums:
    """The error as a function of sums over rows: bins stay where the scores of all rows have put them."""
    score, came_true = _believed(truth, scores)
    of_row = _bins(score)
    bins = range(int(of_row.max()) + 1)
    gaps = [partial(_gap, score, came_true, of_row, number) for number in bins]
    spreads = [partial(_spread, score, of_row, number) for number in bins]
    counts = [partial(_count, of_row, number) for number in bins]
    return Sums((*gaps, *spreads, *counts), partial(_error, len(bins)))


def _believed(truth: Truth, scores: Mapping[Class, Floats]) -> tuple[Floats, Floats]:
    """Of each row the score that is looked at, and 1 where it came true."""
    import numpy as np

    if len(truth.judged) == 1 and len(truth.present) > 1:
        (positive,) = truth.judged
        return scores[truth.classes[positive]], (truth.codes == positive).astype(float)
    codes = {value: code for code, value in enumerate(truth.classes)}
    table = np.column_stack(list(scores.values()))
    named = np.array([codes.get(value, -1) for value in scores])
    return table.max(axis=1), (named[table.argmax(axis=1)] == truth.codes).astype(float)


def _bins(score: Floats) -> Integers:
    """The bin of each row; equal scores share one."""
    import numpy as np

    wanted = max(1, min(_MOST_BINS, len(score) // _ROWS_A_BIN))
    edges = np.quantile(score, np.arange(1, wanted) / wanted)
    _, of_row = np.unique(np.searchsorted(edges, score, side="right"), return_inverse=True)
    return of_row.astype(np.int64)


def _gap(score: Floats, came_true: Floats, of_row: Integers, number: int) -> Floats:
    gap: Floats = (score - came_true) * (of_row == number)
    return gap


def _spread(score: Floats, of_row: Integers, number: int) -> Floats:
    spread: Floats = score * (1 - score) * (of_row == number)
    return spread


def _count(of_row: Integers, number: int) -> Floats:
    count: Floats = (of_row == number).astype(float)
    return count


def _error(bins: int, sums: Floats) -> Floats:
    """Sum over bins of their share of rows times the distance, less what chance adds to a distance.

    The distance of a bin is normal about the true one with the variance that the scores say; the mean of its
    magnitude is that of a folded normal.
    """
    import numpy as np
    from scipy.special import erf

    gaps, spreads, counts = (sums[..., place * bins : (place + 1) * bins] for place in range(3))
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = np.abs(gaps / counts)
        chance = np.sqrt(np.maximum(spreads, 0)) / counts
        ratio = distance / chance
        folded = chance * np.sqrt(2 / np.pi) * np.exp(-(ratio**2) / 2) + distance * erf(ratio / np.sqrt(2))
        added = np.where(chance > 0, folded - distance, 0.0)
        parts = np.where(counts > 0, counts * (distance - added), 0.0)
    error: Floats = np.maximum(parts.sum(axis=-1), 0.0) / sums[..., 2 * bins :].sum(axis=-1)
    return error
