"""Labels and predictions of classes, as codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..ports.scorer import ScoringTask

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    Codes = npt.NDArray[np.integer[Any]]

Class = float | str
"""A class of the labels; numbers and truth values are floats."""

MOST_CLASSES = 50
"""So many are named in messages and counts."""


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """Labels as codes.

    Attributes:
        codes: The class of each row, as a position in ``classes``.
        classes: Every class that occurs in labels or predictions.
        counts: Rows a class, by position.
        judged: Positions that precision, recall, f1, roc_auc and brier are about: the positive class, or
            all in the labels.
        names: Names of the classes for people, by position.
        obstacle: Why no measure of ``judged`` can be known; empty when they can.
    """

    codes: Codes
    classes: Sequence[Class]
    counts: Sequence[int]
    judged: tuple[int, ...]
    names: Sequence[str]
    obstacle: str

    @property
    def present(self) -> tuple[int, ...]:
        """Positions of the classes that occur in the labels."""
        return tuple(code for code, count in enumerate(self.counts) if count)


def encode(columns: Sequence[pa.Array]) -> tuple[list[Codes], list[Class]]:
    """Number the values of all columns alike, in the order of the classes."""
    import numpy as np
    import pyarrow as pa

    joined = pa.concat_arrays(columns).dictionary_encode()
    classes: list[Class] = joined.dictionary.to_pylist()
    order = sorted(range(len(classes)), key=classes.__getitem__)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    codes = rank[np.from_dlpack(joined.indices)]
    return np.split(codes, np.cumsum([len(c) for c in columns])[:-1]), [classes[i] for i in order]


def truth_of(task: ScoringTask, codes: Codes, classes: Sequence[Class], dtype: str) -> Truth:
    """What the labels are, and which of their classes the measures are about.

    Args:
        task: How the model is measured.
        codes: The class of each row.
        classes: Every class that occurs in labels or predictions.
        dtype: Type of the labels in their file.
    """
    import numpy as np

    counts = np.bincount(codes, minlength=len(classes)).tolist()
    present = tuple(code for code, count in enumerate(counts) if count)
    names = [class_name(value, dtype) for value in classes]
    judged, obstacle = present, ""
    positive = _positive_class(task, [classes[code] for code in present])
    if len(present) == 1:
        obstacle = f"the holdout has a single class: {names[present[0]]}"
    elif positive is not None:
        judged = tuple(code for code in present if classes[code] == positive)
        if not judged:
            found = ", ".join(names[code] for code in present[:MOST_CLASSES])
            obstacle = f"no row has the positive class {task.positive!r}; classes: {found}"
    return Truth(codes, classes, counts, judged, names, obstacle)


def _positive_class(task: ScoringTask, present: Sequence[Class]) -> Class | None:
    if task.positive is not None:
        return class_value(task.positive, text=isinstance(present[0], str))
    return 1.0 if list(present) == [0.0, 1.0] else None


def class_value(name: str, *, text: bool) -> Class:
    """The class of a name. Among numbers, a name that is no number stays text and equals none."""
    if text:
        return name
    truth_values: dict[str, Class] = {"true": 1.0, "false": 0.0}
    try:
        return float(name)
    except ValueError:
        return truth_values.get(name.lower(), name)


def class_name(value: Class, dtype: str) -> str:
    """A class for people, as its column would write it."""
    if isinstance(value, str):
        return value
    if dtype == "bool":
        return str(bool(value))
    return str(int(value)) if value.is_integer() else repr(value)
