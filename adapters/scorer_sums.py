"""Every measure as a function of sums over rows; the numbers are those that scikit-learn gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal

from .scorer_calibration import ece_sums
from .scorer_classes import Class, Truth
from .scorer_measured import Sums

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from .scorer_classes import Codes
    from .scorer_columns import Floats

    Mask = npt.NDArray[np.bool_]

Average = Literal["macro", "weighted", "micro"]


def class_sums(
    measure: str, average: Average, truth: Truth, predicted: Codes, scores: Mapping[Class, Floats]
) -> Sums:
    """Sums of a classifier's measure. It must be one that is known on these rows.

    Args:
        measure: Its name.
        average: How classes are averaged.
        truth: The labels.
        predicted: The class each row is taken for.
        scores: Class scores by class; needed by roc_auc, log_loss, brier and ece alone.
    """
    match measure:
        case "accuracy":
            return _mean(lambda: _floats(predicted == truth.codes))
        case "log_loss":
            return _mean(partial(_log_losses, truth, scores))
        case "brier":
            return _mean(partial(_brier_losses, truth, scores))
        case "ece":
            return ece_sums(truth, scores)
        case "roc_auc":
            return _roc_auc(average, truth, scores)
    return _counts(measure, average, truth, predicted)


def number_sums(measure: str, truth: Floats, predicted: Floats) -> Sums:
    """Sums of a regressor's measure. It must be one that is known on these rows.

    Args:
        measure: Its name.
        truth: The labels.
        predicted: One prediction a row.
    """
    import numpy as np

    match measure:
        case "mae":
            return _mean(lambda: np.abs(predicted - truth))
        case "mape":
            return _mean(lambda: np.abs(predicted - truth) / np.abs(truth))
        case "rmse":
            return Sums(
                (lambda: (predicted - truth) ** 2, lambda: np.ones_like(truth)),
                lambda sums: np.sqrt(np.maximum(sums[..., 0], 0) / sums[..., 1]),
            )
    middle = truth.mean()  # so that squares of large labels lose no digits
    return Sums(
        (
            lambda: (predicted - truth) ** 2,
            lambda: truth - middle,
            lambda: (truth - middle) ** 2,
            lambda: np.ones_like(truth),
        ),
        lambda sums: 1 - sums[..., 0] / (sums[..., 2] - sums[..., 1] ** 2 / sums[..., 3]),
    )


def _mean(loss: Callable[[], Floats]) -> Sums:
    import numpy as np

    return Sums((loss, lambda: np.ones_like(loss())), lambda sums: sums[..., 0] / sums[..., 1])


def _floats(mask: Mask) -> Floats:
    return mask.astype(float)


# --- counts of right and wrong ---------------------------------------------------------------------------


def _counts(measure: str, average: Average, truth: Truth, predicted: Codes) -> Sums:
    """Precision, recall and F1 from hits, predictions and labels of each judged class, in this order."""
    hits = [partial(_hits, truth.codes, predicted, code) for code in truth.judged]
    taken = [partial(_is, predicted, code) for code in truth.judged]
    there = [partial(_is, truth.codes, code) for code in truth.judged]
    return Sums((*hits, *taken, *there), partial(_rate, measure, average, len(truth.judged)))


def _is(codes: Codes, code: int) -> Floats:
    return _floats(codes == code)


def _hits(truth: Codes, predicted: Codes, code: int) -> Floats:
    return _floats((truth == code) & (predicted == code))


def _rate(measure: str, average: Average, classes: int, sums: Floats) -> Floats:
    import numpy as np

    hits, taken, there = (sums[..., place * classes : (place + 1) * classes] for place in range(3))
    if average == "micro":
        hits, taken, there = (each.sum(axis=-1, keepdims=True) for each in (hits, taken, there))
    with np.errstate(divide="ignore", invalid="ignore"):
        rates = {
            "precision": lambda: hits / taken,
            "recall": lambda: hits / there,
            "f1": lambda: 2 * hits / (taken + there),
        }[measure]()
    return _averaged(average, rates, there)


def _averaged(average: Average, rates: Floats, there: Floats) -> Floats:
    import numpy as np

    if average == "weighted":
        with np.errstate(divide="ignore", invalid="ignore"):
            weighted: Floats = (rates * there).sum(axis=-1) / there.sum(axis=-1)
        return weighted
    plain: Floats = rates.mean(axis=-1)
    return plain


# --- class scores ----------------------------------------------------------------------------------------


def _log_losses(truth: Truth, scores: Mapping[Class, Floats]) -> Floats:
    import numpy as np

    total = np.sum(list(scores.values()), axis=0)
    own = np.zeros(len(truth.codes))
    for code in truth.present:
        mine = truth.codes == code
        own[mine] = scores[truth.classes[code]][mine] / total[mine]
    least = np.finfo(float).eps  # as scikit-learn clips them
    losses: Floats = -np.log(np.clip(own, least, 1 - least))
    return losses


def _brier_losses(truth: Truth, scores: Mapping[Class, Floats]) -> Floats:
    import numpy as np

    codes = {value: code for code, value in enumerate(truth.classes)}
    of_one = len(truth.judged) == 1 and len(truth.present) > 1
    values = [truth.classes[truth.judged[0]]] if of_one else list(scores)
    losses = np.zeros(len(truth.codes))
    for value in values:
        losses += (scores[value] - (truth.codes == codes.get(value, -1))) ** 2
    return losses / 2 if len(values) == 2 else losses


def _roc_auc(average: Average, truth: Truth, scores: Mapping[Class, Floats]) -> Sums:
    """The area by its structural components (DeLong, DeLong and Clarke-Pearson 1988).

    The mean over positives of the share of negatives below them is the area, and so is the mean over
    negatives of the share of positives above them; to first order a resample's area is the sum of both
    means, less the area.
    """
    import numpy as np

    of_class = np.column_stack([truth.codes == code for code in truth.judged])
    values = np.column_stack([scores[truth.classes[code]] for code in truth.judged])
    if average == "micro":
        parts = [_placements(of_class, values)]
    else:
        parts = [_placements(of_class[:, [place]], values[:, [place]]) for place in range(len(truth.judged))]
    areas = np.array([part[0].sum() / part[1].sum() for part in parts])
    columns = [partial(_given, column) for part in parts for column in part]
    return Sums(columns, partial(_areas, average, areas))


def _given(column: Floats) -> Floats:
    return column


def _placements(positive: Mask, values: Floats) -> Sequence[Floats]:
    """Of each row: positives' placements, how many positives, negatives' placements, how many negatives."""
    import numpy as np

    flags, flat = positive.ravel(), values.ravel()
    below = _ranks(flat)
    above = below.copy()
    below[flags] -= _ranks(flat[flags])
    above[~flags] -= _ranks(flat[~flags])
    negatives, positives = int((~flags).sum()), int(flags.sum())
    with np.errstate(invalid="ignore"):  # of one class alone there is no area: NaN
        placed = np.where(flags, below / negatives, 0.0), np.where(flags, 0.0, 1 - above / positives)
    entries = (placed[0], flags.astype(float), placed[1], (~flags).astype(float))
    return [entry.reshape(positive.shape).sum(axis=1) for entry in entries]


def _ranks(values: Floats) -> Floats:
    """Ranks from 1; equal values share the middle of theirs."""
    import numpy as np

    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Floats = (last - (counts - 1) / 2)[place]
    return ranks


def _areas(average: Average, full: Floats, sums: Floats) -> Floats:
    import numpy as np

    placed_p, positives, placed_n, negatives = (sums[..., place::4] for place in range(4))
    with np.errstate(divide="ignore", invalid="ignore"):
        areas = placed_p / positives + placed_n / negatives - full
    return _averaged(average, areas, positives)
