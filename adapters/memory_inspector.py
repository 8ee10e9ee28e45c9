"""The inspector in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from ..ports.data import Snapshot
from ..ports.inspector import Answered, Inspection, InspectionTask
from ..ports.predictor import Predictions
from .memory import MemoryDataSource, MemoryPredictor, Row


class MemoryInspector:
    """Implements Inspector over the rows and predictions in memory, of models that give no class scores."""

    def __init__(self, data: MemoryDataSource, predictor: MemoryPredictor) -> None:
        self._data = data
        self._predictor = predictor

    def inspect(
        self,
        task: InspectionTask,
        training: Snapshot,
        holdout: Snapshot,
        candidate: Predictions,
        champion: Predictions | None = None,
    ) -> Inspection:
        """Look at the rows of a job and at what its versions predict."""
        trained, held = (self._data.taken[rows.sha256] for rows in (training, holdout))
        labels = [row.label for row in (*trained, *held)]
        answers = self._predictor.made[candidate.sha256]
        classes = task.kind == "classification"
        seen, groups = _groups(task.group, trained), _groups(task.group, held)
        return Inspection(
            rows=len(held),
            candidate=_answered(answers),
            champion=_answered(self._predictor.made[champion.sha256]) if champion else None,
            strange=_strange(labels, answers) if classes else {},
            labels=None if classes else (min(labels), max(labels)),
            repeated=_repeated(trained, held) if task.repeated else None,
            groups=None if task.group is None else len(groups),
            shared=None if task.group is None else len(groups & seen),
        )


def _answered(answers: Sequence[Any]) -> Answered:
    kinds = {str: "text", bool: "truth values", int: "whole numbers"}
    fits = (name for kind, name in kinds.items() if all(isinstance(answer, kind) for answer in answers))
    name = next(fits, "numbers")
    low, high = (None, None) if name == "text" else (float(min(answers)), float(max(answers)))
    return Answered(name, low=low, high=high)


def _strange(labels: Iterable[Any], answers: Iterable[Any]) -> dict[str, int]:
    known = set(labels)
    return dict(Counter(str(answer) for answer in answers if answer not in known))


def _groups(name: str | None, rows: Iterable[Row]) -> set[Any]:
    return {row.features.get(name) for row in rows} if name else set()


def _repeated(trained: Iterable[Row], held: Iterable[Row]) -> int:
    seen = {_identity(row) for row in trained}
    return sum(_identity(row) in seen for row in held)


def _identity(row: Row) -> str:
    return repr((sorted(row.features.items()), row.label))
