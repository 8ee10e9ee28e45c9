"""Rows looked up by DuckDB, and predictions looked over with pyarrow, in the files of snapshots and runs."""

from __future__ import annotations

import glob
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..ports.data import Snapshot
from ..ports.errors import MissingExtra, Permanent, Temporary
from ..ports.inspector import Answered, Inspection, InspectionTask
from ..ports.predictor import Predictions
from .scorer_classes import MOST_CLASSES, class_name
from .scorer_columns import Answers, Column, read_answers, read_label

if TYPE_CHECKING:
    import duckdb

_SUM_TOLERANCE = 1e-3  # probabilities stored as float32, or rounded, do not add up to 1 exactly


class DuckdbInspector:
    """Inspector of Parquet files.

    Rows are looked up by their values, those without one included, and not by a digest of them: what is kept
    in memory is the holdout, past which the training rows stream.

    Args:
        threads: Threads DuckDB may use.
        memory_limit: Memory DuckDB may use, as DuckDB writes it (``"1GB"``); the rest goes to the disk.
    """

    def __init__(self, *, threads: int = 2, memory_limit: str = "1GB") -> None:
        self._threads = threads
        self._memory_limit = memory_limit

    def inspect(
        self,
        task: InspectionTask,
        training: Snapshot,
        holdout: Snapshot,
        candidate: Predictions,
        champion: Predictions | None = None,
    ) -> Inspection:
        """Look at the rows of a job and at what its versions predict.

        Args:
            task: What to look for.
            training: The labelled rows that the candidate was trained on.
            holdout: The labelled rows that both versions are judged on.
            candidate: The candidate's predictions for the holdout.
            champion: The champion's; ``None`` without one.

        Returns:
            What was found.

        Raises:
            MissingExtra: pyarrow is not installed.
            Temporary: Memory is short.
            Permanent: A file is gone or damaged, or has no column of that name.
        """
        _require_libraries()
        labels = [read_label(rows) for rows in (training, holdout)]
        answers = read_answers(candidate, "candidate")
        groups, shared = (None, None) if task.group is None else self._groups(task.group, training, holdout)
        classes = task.kind == "classification"
        return Inspection(
            rows=holdout.rows,
            candidate=_answered(answers),
            champion=_answered(read_answers(champion, "champion")) if champion else None,
            strange=_strange(labels, answers.values) if classes else {},
            labels=None if classes else _span(labels),
            repeated=self._repeated(training, holdout) if task.repeated else None,
            groups=groups,
            shared=shared,
        )

    def _repeated(self, training: Snapshot, holdout: Snapshot) -> int:
        names = [*holdout.features, *([holdout.label] if holdout.label else [])]
        columns = ", ".join(map(_name, names))
        # Of the training rows only those that the holdout has are kept: it is the smaller of the two.
        return self._count(
            f"WITH held AS (SELECT {columns} FROM {_rows(holdout)}), "  # noqa: S608
            f"seen AS (SELECT DISTINCT {columns} FROM {_rows(training)} trained "
            f"SEMI JOIN held ON {_same('trained', 'held', names)}) "
            f"SELECT count(*) FROM held SEMI JOIN seen ON {_same('held', 'seen', names)}",
            holdout.model,
        )

    def _groups(self, group: str, training: Snapshot, holdout: Snapshot) -> tuple[int, int]:
        held, trained = (
            f"(SELECT DISTINCT {_name(group)} FROM {_rows(rows)})"  # noqa: S608
            for rows in (holdout, training)
        )
        return (
            self._count(f"SELECT count(*) FROM {held}", holdout.model),  # noqa: S608
            self._count(
                f"SELECT count(*) FROM {held} held SEMI JOIN {trained} trained "  # noqa: S608
                f"ON {_same('held', 'trained', [group])}",
                holdout.model,
            ),
        )

    def _count(self, query: str, model: str) -> int:
        with _mapped_errors(model), self._session() as session:
            found = session.execute(query).fetchone()
        return int(found[0]) if found else 0

    @contextmanager
    def _session(self) -> Iterator[duckdb.DuckDBPyConnection]:
        import duckdb

        with tempfile.TemporaryDirectory(prefix="autoretrain-inspect-") as spill:
            session = duckdb.connect(
                ":memory:",
                config={
                    "threads": self._threads,
                    "memory_limit": self._memory_limit,
                    "temp_directory": spill,
                    "autoinstall_known_extensions": False,
                    "autoload_known_extensions": False,
                },
            )
            with session:
                yield session


def _require_libraries() -> None:
    try:
        import numpy  # noqa: F401
        import pyarrow  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "pyarrow", "scoring") from error


def _rows(snapshot: Snapshot) -> str:
    return f"read_parquet('{glob.escape(snapshot.uri).replace(chr(39), chr(39) * 2)}')"


def _name(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def _same(one: str, other: str, names: Sequence[str]) -> str:
    return " AND ".join(f"{one}.{_name(name)} IS NOT DISTINCT FROM {other}.{_name(name)}" for name in names)


@contextmanager
def _mapped_errors(model: str) -> Iterator[None]:
    import duckdb

    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise Temporary(f"{model}: there is no memory to look rows up: {_first_line(error)}") from error
    except duckdb.Error as error:
        raise Permanent(f"{model}: rows cannot be looked up: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]


# --- predictions ---------------------------------------------------------------------------------------


def _answered(answers: Answers) -> Answered:
    low, high = (None, None) if answers.values.is_text else _bounds(answers.values)
    return Answered(
        kind=_kind(answers.values),
        classes=tuple(sorted(answers.scores)),
        low=low,
        high=high,
        unfit_scores=_unfit(answers) if answers.scores else None,
    )


def _kind(values: Column) -> str:
    if values.is_text:
        return "text"
    if values.dtype == "bool":
        return "truth values"
    return "whole numbers" if "int" in values.dtype else "numbers"


def _bounds(values: Column) -> tuple[float, float]:
    import pyarrow.compute as pc

    found: dict[str, Any] = pc.min_max(values.values).as_py()
    return found["min"], found["max"]


def _unfit(answers: Answers) -> int:
    import numpy as np

    table = np.column_stack([column.floats() for column in answers.scores.values()])
    unfit = ((table < 0) | (table > 1)).any(axis=1) | (np.abs(table.sum(axis=1) - 1) > _SUM_TOLERANCE)
    return int(unfit.sum())


def _span(labels: Sequence[Column]) -> tuple[float, float] | None:
    """Smallest and largest label; ``None`` for text, which the scorer refuses."""
    if any(column.is_text for column in labels):
        return None
    lows, highs = zip(*(_bounds(column) for column in labels), strict=True)
    return min(lows), max(highs)


def _strange(labels: Sequence[Column], predicted: Column) -> dict[str, int]:
    """Rows by predicted class, of classes that no label has; classes of another type are the scorer's."""
    if any(column.is_text != predicted.is_text for column in labels):
        return {}
    known = {value for column in labels for value in column.values.unique().to_pylist()}
    counts: Counter[Any] = Counter()
    for found in predicted.values.value_counts().to_pylist():
        if found["values"] not in known:
            counts[found["values"]] = found["counts"]
    return {class_name(value, predicted.dtype): count for value, count in counts.most_common(MOST_CLASSES)}
