"""Measures by scikit-learn, of one version or of two on the same rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from ..ports.data import Snapshot
from ..ports.errors import MissingExtra, Permanent
from ..ports.predictor import Predictions
from ..ports.scorer import Paired, Scores, ScoringTask
from .scorer_calibration import ece_of
from .scorer_classes import MOST_CLASSES, Class, Truth, class_value, encode, truth_of
from .scorer_columns import Answers, Column, read_answers, read_groups, read_label, read_segments, read_times
from .scorer_measured import Measured
from .scorer_own import Function, OwnMeasure, own_value, rule_of_own
from .scorer_paired import Rows, Unpaired, compare
from .scorer_results import Measure, scores_of, with_own, without_rows
from .scorer_sums import class_sums, number_sums

if TYPE_CHECKING:
    import pyarrow as pa

    from .scorer_classes import Codes
    from .scorer_columns import Floats
    from .scorer_sums import Mask

_MeasuredOf = Callable[[str, str], Measured]  # by measure, and by whose predictions they are

_MOST_SEGMENTS = 50
_SUM_TOLERANCE = 1e-3  # probabilities stored as float32, or rounded, do not add up to 1 exactly


class SklearnScorer:
    """Scorer with scikit-learn.

    Labels and predictions are compared as values: ``1``, ``1.0`` and ``True`` are one class, text equals only
    text. A missing or NaN label leaves its row out. For classes:

    - With a positive class (the task's, or ``1`` where the labels are 0 and 1), precision, recall, f1,
      roc_auc and brier are those of that class. Otherwise they are averages over the classes that occur in
      the labels, the same for both versions, and brier is the sum over classes (halved for two).
    - Precision of a class that is never predicted is unknown; its f1 is 0, because rows of it were missed.
    - With a single class in the labels only accuracy, log_loss, brier and ece can be known.
    - roc_auc takes any scores; log_loss, brier and ece want probabilities.

    Args:
        own: Functions of the user's own measures, by ``module:function``.
    """

    def __init__(self, own: Mapping[str, Function] | None = None) -> None:
        self._own = dict(own or {})

    def score(
        self,
        task: ScoringTask,
        snapshot: Snapshot,
        candidate: Predictions,
        champion: Predictions | None = None,
    ) -> Scores:
        """Score one version, or two on the same rows.

        Args:
            task: What to measure.
            snapshot: The labelled rows, in order.
            candidate: Predictions to judge.
            champion: Predictions to compare with; ``None`` to score one version alone.

        Returns:
            The measures; ``None`` with a reason for one that cannot be computed.

        Raises:
            MissingExtra: scikit-learn, NumPy or pyarrow is not installed.
            Permanent: Predictions and rows do not belong together, a file is gone or damaged, predictions are
                missing or not finite, or types cannot be compared.
        """
        _require_libraries()
        import pyarrow as pa

        given = {"candidate": candidate} | ({"champion": champion} if champion else {})
        _check_counts(snapshot, given)
        if snapshot.rows == 0:
            return without_rows(task, given)
        label, answers = _read(task, snapshot, given)
        identical = champion is not None and answers["candidate"].same_as(answers["champion"])
        labelled = label.values.is_valid()
        if not labelled.true_count:
            return without_rows(task, given, identical)
        measure = partial(self._measured, task)
        of_labelled = {who: answer.filter(labelled) for who, answer in answers.items()}
        scores, measured = measure(label.filter(labelled), of_labelled, identical)
        if champion is None or task.compared is None:
            return scores
        rows = _rows(task, snapshot, labelled)
        if rows is None:
            why = "the rows have no times, so nobody knows which are independent"
            return replace(scores, unpaired=why, unguarded=dict.fromkeys(task.guarded, why))
        scores = _with_guarded(_with_difference(scores, task, measured, rows), task, measured, rows)
        segments = _segments(task, snapshot, labelled)

        def within(mask: Mask) -> Scores:
            chosen = pa.array(mask)
            own = {who: answer.filter(chosen) for who, answer in of_labelled.items()}
            found, of_these = measure(label.filter(labelled).filter(chosen), own, False)
            return _with_difference(found, task, of_these, rows.where(mask))

        return _with_segments(scores, {name: within(mask) for name, mask in segments.items()})

    def _measured(
        self, task: ScoringTask, label: Column, answers: Mapping[str, Answers], identical: bool
    ) -> tuple[Scores, _MeasuredOf]:
        """Every measure of every version, ours and the user's."""
        measure = _classify if task.kind == "classification" else _regress
        scores, ours = measure(task, label, answers, identical)
        functions = {own.name: self._own.get(own.function) for own in task.own}

        def measured(name: str, who: str) -> Measured:
            function = functions.get(name)
            return OwnMeasure(function, label, answers[who].values) if function else ours(name, who)

        values = {
            who: {name: own_value(function, label, answer.values) for name, function in functions.items()}
            for who, answer in answers.items()
        }
        return with_own(scores, values), measured


def _require_libraries() -> None:
    try:
        import numpy  # noqa: F401
        import pyarrow  # noqa: F401
        import sklearn  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "scikit-learn", "scoring") from error


def _check_counts(snapshot: Snapshot, given: Mapping[str, Predictions]) -> None:
    if snapshot.label is None:
        raise Permanent(f"the snapshot of {snapshot.model} was taken without labels")
    for who, predictions in given.items():
        if predictions.rows != snapshot.rows:
            raise Permanent(
                f"the {who} has {predictions.rows} predictions for {snapshot.rows} rows of {snapshot.model}"
            )


def _read(
    task: ScoringTask, snapshot: Snapshot, given: Mapping[str, Predictions]
) -> tuple[Column, dict[str, Answers]]:
    label = read_label(snapshot)
    answers = {who: read_answers(predictions, who) for who, predictions in given.items()}
    for who, answer in answers.items():
        found = f"labels are {label.dtype}, the {who} predicts {answer.values.dtype}"
        if task.kind == "regression" and (label.is_text or answer.values.is_text):
            raise Permanent(f"regression needs numbers: {found}")
        if label.is_text != answer.values.is_text:
            raise Permanent(f"labels and predictions cannot be compared: {found}")
    return label, answers


# --- classification ------------------------------------------------------------------------------------


def _classify(
    task: ScoringTask, label: Column, answers: Mapping[str, Answers], identical: bool
) -> tuple[Scores, _MeasuredOf]:
    coded, classes = encode([label.values, *(answer.values.values for answer in answers.values())])
    truth = truth_of(task, coded[0], classes, label.dtype)
    predicted = dict(zip(answers, coded[1:], strict=True))
    scored = {who: _by_class(answer, text=label.is_text) for who, answer in answers.items()}
    measured = {
        who: {**_measure_classes(task, truth, predicted[who]), **_measure_scores(task, truth, scored[who])}
        for who in answers
    }
    common = sorted(truth.present, key=lambda code: -truth.counts[code])[:MOST_CLASSES]
    scores = scores_of(
        len(truth.codes),
        measured,
        labels={truth.names[code]: truth.counts[code] for code in common},
        identical=identical,
        discordant=_discordant(*coded) if len(coded) == 3 else None,
    )
    return scores, lambda measure, who: class_sums(measure, task.average, truth, predicted[who], scored[who])


def _discordant(truth: Codes, candidate: Codes, champion: Codes) -> tuple[int, int]:
    right, champion_right = candidate == truth, champion == truth
    return int((right & ~champion_right).sum()), int((champion_right & ~right).sum())


def _measure_classes(task: ScoringTask, truth: Truth, predicted: Codes) -> dict[str, Measure]:
    import numpy as np
    from sklearn.metrics import precision_recall_fscore_support

    accuracy = float((predicted == truth.codes).mean())
    if truth.obstacle:
        return {"accuracy": accuracy, **dict.fromkeys(("precision", "recall", "f1"), truth.obstacle)}
    precision, recall, f1, _ = precision_recall_fscore_support(
        truth.codes, predicted, labels=truth.judged, average=task.average, zero_division=0
    )
    times = np.bincount(predicted, minlength=len(truth.classes))
    never = [code for code in truth.judged if not times[code]]
    if never and (task.average != "micro" or len(never) == len(truth.judged)):
        precision = f"class {truth.names[never[0]]} is never predicted"
    return {"accuracy": accuracy, "precision": precision, "recall": recall, "f1": f1}


def _by_class(answer: Answers, *, text: bool) -> dict[Class, Floats]:
    return {class_value(name, text=text): column.floats() for name, column in answer.scores.items()}


def _measure_scores(task: ScoringTask, truth: Truth, by_class: Mapping[Class, Floats]) -> dict[str, Measure]:
    names = ("roc_auc", "log_loss", "brier", "ece")
    unscored = [truth.names[code] for code in truth.present if truth.classes[code] not in by_class]
    if not by_class:
        return dict.fromkeys(names, "the model gives no class scores")
    if unscored:
        return dict.fromkeys(names, f"the model gives no scores for class {unscored[0]}")
    flaw = _improbable(list(by_class.values()))
    return {
        "roc_auc": truth.obstacle or _roc_auc(task, truth, by_class),
        "log_loss": flaw or _log_loss(truth, by_class),
        "brier": flaw or _brier(truth, by_class),
        "ece": flaw or ece_of(truth, by_class),
    }


def _improbable(columns: Sequence[Floats]) -> str:
    """Why scores are no probabilities; empty when they are."""
    import numpy as np

    if len(columns) < 2:
        return "the model gives scores for one class only"
    bounded = all(column.min() >= 0 and column.max() <= 1 for column in columns)
    if not bounded or np.abs(np.sum(columns, axis=0) - 1).max() > _SUM_TOLERANCE:
        return "the class scores are not probabilities: they do not add up to 1"
    return ""


def _roc_auc(task: ScoringTask, truth: Truth, scores: Mapping[Class, Floats]) -> float:
    import numpy as np
    from sklearn.metrics import roc_auc_score

    of_class = np.column_stack([truth.codes == code for code in truth.judged])
    values = np.column_stack([scores[truth.classes[code]] for code in truth.judged])
    if len(truth.judged) == 1:
        of_class, values = of_class[:, 0], values[:, 0]
    return float(roc_auc_score(of_class, values, average=task.average))


def _log_loss(truth: Truth, scores: Mapping[Class, Floats]) -> float:
    import numpy as np
    from sklearn.metrics import log_loss

    positions = {value: position for position, value in enumerate(scores)}
    table = np.array([positions.get(value, -1) for value in truth.classes])
    values = np.column_stack(list(scores.values()))
    values /= values.sum(axis=1, keepdims=True)
    return float(log_loss(table[truth.codes], values, labels=range(len(scores))))


def _brier(truth: Truth, scores: Mapping[Class, Floats]) -> Measure:
    import numpy as np

    if not truth.judged:
        return truth.obstacle
    codes = {value: code for code, value in enumerate(truth.classes)}
    of_one = len(truth.judged) == 1 and len(truth.present) > 1
    values = [truth.classes[truth.judged[0]]] if of_one else list(scores)
    errors = [np.mean((scores[value] - (truth.codes == codes.get(value, -1))) ** 2) for value in values]
    return float(sum(errors)) / (2 if len(errors) == 2 else 1)


# --- regression ----------------------------------------------------------------------------------------


def _regress(
    task: ScoringTask, label: Column, answers: Mapping[str, Answers], identical: bool
) -> tuple[Scores, _MeasuredOf]:
    truth = label.floats()
    predicted = {who: answer.values.floats() for who, answer in answers.items()}
    measured = {who: _measure_errors(truth, values) for who, values in predicted.items()}
    scores = scores_of(len(truth), measured, identical=identical)
    return scores, lambda measure, who: number_sums(measure, truth, predicted[who])


def _measure_errors(truth: Floats, predicted: Floats) -> dict[str, Measure]:
    import numpy as np
    from sklearn import metrics

    pair = (truth, predicted)
    with np.errstate(over="ignore", invalid="ignore"):
        return {
            "mae": metrics.mean_absolute_error(*pair),
            "rmse": metrics.root_mean_squared_error(*pair),
            "r2": _no_variance(truth) or metrics.r2_score(*pair),
            "mape": "a label is 0" if (truth == 0).any() else metrics.mean_absolute_percentage_error(*pair),
        }


def _no_variance(truth: Floats) -> str:
    if len(truth) < 2:
        return "the holdout has fewer than two rows"
    return "all labels are equal" if truth.min() == truth.max() else ""


# --- the difference ------------------------------------------------------------------------------------


def _segments(task: ScoringTask, snapshot: Snapshot, labelled: pa.Array) -> dict[str, Mask]:
    """Which labelled rows belong to each segment."""
    there = labelled.to_numpy(zero_copy_only=False)
    return {
        f"{column}={value}": mask[there]
        for column in task.segments
        for value, mask in read_segments(snapshot, column, _MOST_SEGMENTS).items()
        if mask[there].any()
    }


def _with_segments(scores: Scores, found: Mapping[str, Scores]) -> Scores:
    told = {name: each.paired for name, each in found.items() if each.paired is not None}
    untold = {name: each.unpaired for name, each in found.items() if each.paired is None}
    return replace(scores, segments=told, untold=untold)


def _with_difference(scores: Scores, task: ScoringTask, measured: _MeasuredOf, rows: Rows) -> Scores:
    found = _difference(scores, str(task.compared), task, measured, rows)
    return replace(scores, unpaired=found) if isinstance(found, str) else replace(scores, paired=found)


def _with_guarded(scores: Scores, task: ScoringTask, measured: _MeasuredOf, rows: Rows) -> Scores:
    found = {name: _difference(scores, name, task, measured, rows) for name in task.guarded}
    told = {name: each for name, each in found.items() if isinstance(each, Paired)}
    untold = {name: each for name, each in found.items() if isinstance(each, str)}
    return replace(scores, guarded=told, unguarded=untold)


def _difference(
    scores: Scores, measure: str, task: ScoringTask, measured: _MeasuredOf, rows: Rows
) -> Paired | str:
    """The difference in a measure, or why it cannot be told."""
    if measure not in scores.candidate:
        return f"{measure} is not computed for a model of {task.kind}"
    if measure in scores.unknown:
        return scores.unknown[measure]
    discordant = scores.discordant if measure == "accuracy" else None
    new, old = measured(measure, "candidate"), measured(measure, "champion")
    own = next((each for each in task.own if each.name == measure), None)
    rule = rule_of_own(own, (new, old), task.kind) if own else None
    try:
        return compare(measure, new, old, rows, task.units, discordant, rule=rule)
    except Unpaired as reason:
        return str(reason)


def _rows(task: ScoringTask, snapshot: Snapshot, labelled: pa.Array) -> Rows | None:
    """What ties the labelled rows together; ``None`` where the rows have no times."""
    times = read_times(snapshot)
    if times is None:
        return None
    mask = labelled.to_numpy(zero_copy_only=False)
    groups, times = task.units.group, times[mask]
    return Rows(
        count=len(times),
        times=times,
        begin=int(snapshot.window.start.timestamp() * 1_000_000),
        groups=None if groups is None else read_groups(snapshot, groups)[mask],
        seed=int(snapshot.sha256[:16], 16),
    )
