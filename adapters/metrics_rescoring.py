"""Metrics of models by scoring the champion again on recent labelled rows; needs no metrics server."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..ports.data import DataSource, Snapshot, SnapshotRequest
from ..ports.errors import Permanent, Temporary
from ..ports.metrics import MetricQuery, MetricWindow
from ..ports.predictor import Predictor
from ..ports.registry import ModelVersion
from ..ports.scorer import Scorer, Scores, ScoringTask
from ..ports.values import Pending, TimeWindow


class RescoringMetrics:
    """Takes the labelled rows of a window, predicts with the query's champion, and scores.

    The value is the measure over all rows of the window at once (for accuracy and MAE that is the mean over
    its rows). ``rows`` and ``points`` are the number of labelled rows, ``last_at`` the time of the last one.
    A window without labelled rows is empty. While a prediction runs, the answer is pending. Queries that
    differ only in their metric share one snapshot, one prediction and one scoring.

    What goes wrong for one model is the reason of its own answers, and never raised: no two models need
    the same thing.

    Args:
        data: Gives the labelled rows.
        predictor: Predicts for them.
        scorer: Measures the predictions.
        tasks: How each model is measured, by its name.
    """

    def __init__(
        self, data: DataSource, predictor: Predictor, scorer: Scorer, tasks: Mapping[str, ScoringTask]
    ) -> None:
        self._data = data
        self._predictor = predictor
        self._scorer = scorer
        self._tasks = dict(tasks)

    def read(self, queries: Sequence[MetricQuery]) -> Sequence[MetricWindow]:
        """Answer every query; see ``MetricSource.read``."""
        scored: dict[tuple[str, TimeWindow, ModelVersion | None], _Scored] = {}
        answers = []
        for query in queries:
            rows = (query.model, query.window, query.champion)
            if rows not in scored:
                scored[rows] = self._score(query)
            answers.append(_answer(query, scored[rows]))
        return answers

    def _score(self, query: MetricQuery) -> _Scored:
        task = self._tasks.get(query.model)
        if task is None:
            return _Scored(reason=f"no scoring task is set for {query.model}")
        if query.champion is None:
            return _Scored(reason="the model has no champion to score")
        try:
            snapshot = self._data.snapshot(SnapshotRequest(query.model, query.window, labelled=True))
            return self._score_rows(task, query.champion, snapshot)
        except (Temporary, Permanent) as error:
            return _Scored(reason=str(error))

    def _score_rows(self, task: ScoringTask, champion: ModelVersion, snapshot: Snapshot) -> _Scored:
        if snapshot.rows == 0:
            return _Scored(snapshot, reason="no labelled rows in the window")
        predictions = self._predictor.predict(champion, snapshot)
        if isinstance(predictions, Pending):
            return _Scored(snapshot, reason=predictions.reason, pending=True)
        return _Scored(snapshot, self._scorer.score(task, snapshot, predictions))


@dataclass(frozen=True, slots=True)
class _Scored:
    """One window of one champion: its measures, or the reason why there are none."""

    snapshot: Snapshot | None = None
    scores: Scores | None = None
    reason: str = ""
    pending: bool = False


def _answer(query: MetricQuery, scored: _Scored) -> MetricWindow:
    rows = scored.snapshot.rows if scored.snapshot else None
    value, reason = _measure(query.metric, scored)
    return MetricWindow(
        query,
        value,
        reason,
        points=rows or 0,
        rows=rows,
        last_at=scored.snapshot.last_at if scored.snapshot else None,
        empty=rows == 0,
        pending=scored.pending,
    )


def _measure(metric: str, scored: _Scored) -> tuple[float | None, str]:
    if scored.scores is None:
        return None, scored.reason
    measures = scored.scores.candidate
    if metric not in measures:
        return None, f"the scorer does not measure {metric!r} (it has: {', '.join(sorted(measures))})"
    value = measures[metric]
    if value is None:
        return None, scored.scores.unknown.get(metric, f"{metric} cannot be computed on these rows")
    return (value, "") if math.isfinite(value) else (None, f"{metric} is not finite on these rows")
