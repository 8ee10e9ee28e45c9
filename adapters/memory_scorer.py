"""The scorer in memory."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from ..ports.data import Snapshot
from ..ports.errors import Permanent
from ..ports.predictor import Predictions
from ..ports.scorer import DIRECTIONS, Effect, Paired, Scale, Scores, ScoringTask
from .memory import MemoryDataSource, MemoryPredictor

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FEWEST_BLOCKS = 6


class MemoryScorer:
    """Implements Scorer in pure Python: 0/1 classes with 1 as positive, and regression."""

    def __init__(self, data: MemoryDataSource, predictor: MemoryPredictor) -> None:
        self._data = data
        self._predictor = predictor

    def score(
        self,
        task: ScoringTask,
        snapshot: Snapshot,
        candidate: Predictions,
        champion: Predictions | None = None,
    ) -> Scores:
        """Score one version, or two on the same rows."""
        labels = [row.label for row in self._data.taken[snapshot.sha256]]
        measure = _classify if task.kind == "classification" else _regress
        new = self._values(candidate, labels)
        metrics = measure(labels, new)
        unknown = {name: "it is not defined on these rows" for name, v in metrics.items() if v is None}
        classes = Counter(str(label) for label in labels) if task.kind == "classification" else Counter()
        if champion is None:
            return Scores(len(labels), metrics, None, unknown, classes)
        old = self._values(champion, labels)
        right = [(a == y, b == y) for y, a, b in zip(labels, new, old, strict=True)]
        discordant = (right.count((True, False)), right.count((False, True)))
        paired = discordant if task.kind == "classification" else None
        scores = Scores(len(labels), metrics, measure(labels, old), unknown, classes, new == old, paired)
        if task.compared is None:
            return scores
        times = [row.at for row in self._data.taken[snapshot.sha256]]
        pair = _paired(
            task, times, lambda rows: [measure(*(_taken(of, rows) for of in (labels, v))) for v in (new, old)]
        )
        return replace(scores, paired=pair) if isinstance(pair, Paired) else replace(scores, unpaired=pair)

    def _values(self, predictions: Predictions, labels: Sequence[Any]) -> tuple[Any, ...]:
        values = self._predictor.made.get(predictions.sha256)
        if values is None or len(values) != len(labels):
            raise Permanent("predictions and rows do not belong together")
        return values


def _taken(values: Sequence[Any], rows: Sequence[int]) -> list[Any]:
    return [values[row] for row in rows]


_Values = Callable[[Sequence[int]], list[dict[str, float | None]]]


def _paired(task: ScoringTask, times: Sequence[datetime], values: _Values) -> Paired | str:
    """The difference by blocks of time, with the jackknife's standard error; or why there is none.

    It leaves out one block after another, takes blocks to be independent, and knows no bootstrap.
    """
    measure = str(task.compared)
    blocks: dict[int, list[int]] = {}
    for row, at in enumerate(times):
        blocks.setdefault(row if task.units.independent else (at - _EPOCH) // task.units.block, []).append(
            row
        )
    if len(blocks) < _FEWEST_BLOCKS:
        return f"the rows make only {len(blocks)} blocks; {_FEWEST_BLOCKS} are needed"
    every = set(range(len(times)))
    samples = [sorted(every), *(sorted(every.difference(block)) for block in blocks.values())]
    pairs = [tuple(version.get(measure) for version in values(rows)) for rows in samples]
    if any(value is None for pair in pairs for value in pair):
        return f"{measure} is not defined on all of these rows"
    known = [(float(new or 0), float(old or 0)) for new, old in pairs]
    by_scale = [_differences(measure, new, old) for new, old in known]
    effects: dict[Scale, Effect] = {}
    for scale, value in by_scale[0].items():
        left_out = [each[scale] for each in by_scale[1:] if scale in each]
        if len(left_out) == len(blocks):
            middle = sum(left_out) / len(blocks)
            spread = sum((each - middle) ** 2 for each in left_out)
            effects[scale] = Effect(value, math.sqrt(spread * (len(blocks) - 1) / len(blocks)))
    return Paired(measure, *known[0], effects, len(blocks), "blocks", len(times))


def _differences(measure: str, new: float, old: float) -> dict[Scale, float]:
    up = DIRECTIONS[measure] == "up"
    gain = new - old if up else old - new
    bases: dict[Scale, float] = {
        "absolute": 1.0,
        "relative": abs(old),
        "error-reduction": 1 - old if up else old,
    }
    return {scale: gain / base for scale, base in bases.items() if base > 0}


def _classify(labels: Sequence[Any], predicted: Sequence[Any]) -> dict[str, float | None]:
    pairs = Counter((bool(y), bool(p)) for y, p in zip(labels, predicted, strict=True))
    hits, wrong, missed = pairs[True, True], pairs[False, True], pairs[True, False]
    one_class = len({bool(label) for label in labels}) < 2
    precision = None if one_class else hits / (hits + wrong) if hits + wrong else 0.0
    recall = None if one_class else hits / (hits + missed)
    f1 = None if one_class else 2 * hits / (2 * hits + wrong + missed)
    accuracy = (hits + pairs[False, False]) / len(labels)
    return {"accuracy": accuracy, "precision": precision, "recall": recall, "f1": f1}


def _regress(labels: Sequence[float], predicted: Sequence[float]) -> dict[str, float | None]:
    errors = [p - y for y, p in zip(labels, predicted, strict=True)]
    mean = sum(labels) / len(labels)
    spread = sum((y - mean) ** 2 for y in labels)
    squares = sum(e * e for e in errors)
    return {
        "mae": sum(map(abs, errors)) / len(errors),
        "rmse": math.sqrt(squares / len(errors)),
        "r2": 1 - squares / spread if spread else None,
    }
