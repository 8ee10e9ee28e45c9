"""Labels, predictions and class scores as columns of Parquet files that are still what was written.

Values go from Parquet to NumPy without becoming Python objects, and without pandas.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, cast

from ..ports.data import Snapshot
from ..ports.errors import Permanent
from ..ports.predictor import Predictions

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    Floats = npt.NDArray[np.float64]

_SCORE = "score:"
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """The values of one column, made comparable.

    Attributes:
        values: Arrow array of ``large_string`` for text, of ``double`` for numbers and truth values.
        dtype: The type they have in the file, for messages.
    """

    values: pa.Array
    dtype: str

    @property
    def is_text(self) -> bool:
        """Whether the values are text."""
        return str(self.values.type) == "large_string"

    def filter(self, mask: pa.Array) -> Column:
        """The rows for which ``mask`` is true."""
        return Column(self.values.filter(mask), self.dtype)

    def floats(self) -> Floats:
        """The numbers, without a copy. They must be complete."""
        import numpy as np

        return cast("Floats", np.from_dlpack(self.values))


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What a version says about each row.

    Attributes:
        values: Its predictions, complete and finite.
        scores: Its class scores by the name of the class; empty where it gives none.
    """

    values: Column
    scores: Mapping[str, Column]

    def filter(self, mask: pa.Array) -> Answers:
        """The rows for which ``mask`` is true."""
        return Answers(self.values.filter(mask), {name: s.filter(mask) for name, s in self.scores.items()})

    def same_as(self, other: Answers) -> bool:
        """Whether both predict the same for every row, with the same scores where both give them."""
        if not self.values.values.equals(other.values.values):
            return False
        if not (self.scores and other.scores):
            return True
        return self.scores.keys() == other.scores.keys() and all(
            column.values.equals(other.scores[name].values) for name, column in self.scores.items()
        )


def read_label(snapshot: Snapshot) -> Column:
    """Read the labels of a snapshot; null where a row has none, or NaN.

    Args:
        snapshot: Rows with a label column.

    Returns:
        One value a row.

    Raises:
        Permanent: The file is gone, damaged or holds other rows, or a label is infinite or of a type that
            cannot be compared.
    """
    import pyarrow.compute as pc

    what = f"the snapshot of {snapshot.model}"
    label = _Table(snapshot.uri, snapshot.sha256, snapshot.rows, what).column(str(snapshot.label))
    if label.is_text:
        return label
    values = pc.if_else(pc.is_nan(label.values), None, label.values)
    if pc.any(pc.is_inf(values)).as_py():
        raise Permanent(f"label {snapshot.label!r} of {snapshot.model} is infinite in some rows")
    return Column(values, label.dtype)


def read_times(snapshot: Snapshot) -> npt.NDArray[np.int64] | None:
    """Read the times of a snapshot's rows.

    Args:
        snapshot: Rows in the order of time.

    Returns:
        Microseconds since 1970, one a row; ``None`` where the file has no column of times.

    Raises:
        Permanent: The file is gone, damaged or holds other rows.
    """
    import numpy as np
    import pyarrow as pa

    what = f"the snapshot of {snapshot.model}"
    table = _Table(snapshot.uri, snapshot.sha256, snapshot.rows, what)
    if snapshot.time not in table.names:
        return None
    times = table.raw(snapshot.time)
    if not pa.types.is_timestamp(times.type) or times.null_count:
        return None
    column = times.cast(pa.timestamp("us")).cast(pa.int64()).combine_chunks()
    return cast("npt.NDArray[np.int64]", np.from_dlpack(column))


def read_groups(snapshot: Snapshot, name: str) -> npt.NDArray[np.int64]:
    """Number the values of a column alike; a missing value is a group of its own.

    Args:
        snapshot: Rows that have the column.
        name: The column.

    Returns:
        One number a row.

    Raises:
        Permanent: The file is gone, damaged, holds other rows, or has no such column.
    """
    import numpy as np

    what = f"the snapshot of {snapshot.model}"
    table = _Table(snapshot.uri, snapshot.sha256, snapshot.rows, what)
    encoded = table.raw(name).combine_chunks().dictionary_encode(null_encoding="encode")
    return cast("npt.NDArray[np.int64]", np.from_dlpack(encoded.indices).astype(np.int64))


def read_segments(snapshot: Snapshot, name: str, most: int) -> dict[str, npt.NDArray[np.bool_]]:
    """Tell rows apart by the values of a column.

    Args:
        snapshot: Rows that have the column.
        name: The column.
        most: Values it may have.

    Returns:
        Which rows have a value, by the value as text; a missing one is ``none``.

    Raises:
        Permanent: The file is gone, damaged, holds other rows, or has no such column; or it has more values.
    """
    import numpy as np

    what = f"the snapshot of {snapshot.model}"
    table = _Table(snapshot.uri, snapshot.sha256, snapshot.rows, what)
    encoded = table.raw(name).combine_chunks().dictionary_encode(null_encoding="encode")
    if len(encoded.dictionary) > most:
        raise Permanent(
            f"column {name!r} of {what} has {len(encoded.dictionary)} values: segments need {most} or fewer"
        )
    codes = np.from_dlpack(encoded.indices)
    names = ["none" if value is None else str(value) for value in encoded.dictionary.to_pylist()]
    return {value: codes == code for code, value in enumerate(names)}


def read_answers(predictions: Predictions, who: str) -> Answers:
    """Read predictions and class scores.

    Args:
        predictions: Handle of the file.
        who: Whose predictions they are, for messages.

    Returns:
        One value a row.

    Raises:
        Permanent: The file is gone, damaged or holds other rows; or a value is missing, not finite or of a
            type that cannot be compared.
    """
    table = _Table(predictions.uri, predictions.sha256, predictions.rows, f"the {who}'s predictions")
    names = [name for name in table.names if name.startswith(_SCORE)] if predictions.scored else []
    scores = {name.removeprefix(_SCORE): table.complete(name, numeric=True) for name in names}
    return Answers(table.complete("prediction"), scores)


class _Table:
    """A Parquet file that has been checked to be the one that was written."""

    def __init__(self, uri: str, sha256: str, rows: int, what: str) -> None:
        import pyarrow.parquet as pq

        self._what = what
        if _digest(uri, what) != sha256:
            raise Permanent(f"the file of {what} is damaged: {uri} no longer has the digest {sha256[:12]}…")
        self._file = self._attempt(lambda: pq.ParquetFile(uri))
        self.names: list[str] = self._file.schema_arrow.names
        if self._file.metadata.num_rows != rows:
            raise Permanent(f"the file of {what} has {self._file.metadata.num_rows} rows, not {rows}: {uri}")

    def _attempt(self, read: Callable[[], _T]) -> _T:
        import pyarrow as pa

        try:
            return read()
        except (pa.ArrowException, OSError) as error:
            raise Permanent(f"the file of {self._what} cannot be read: {error}") from error

    def column(self, name: str) -> Column:
        """Read one column; null where a value is missing."""
        return self._attempt(lambda: _comparable(self.raw(name), name))

    def raw(self, name: str) -> pa.ChunkedArray:
        """Read one column as it is."""
        if name not in self.names:
            existing = ", ".join(self.names)
            raise Permanent(f"the file of {self._what} has no column {name!r}; it has: {existing}")
        return self._attempt(lambda: self._file.read(columns=[name]).column(name))

    def complete(self, name: str, *, numeric: bool = False) -> Column:
        """Read one column in which every value is there, and finite."""
        import pyarrow.compute as pc

        column = self.column(name)
        if numeric and column.is_text:
            raise Permanent(f"{self._what}: column {name!r} is {column.dtype}: want numbers")
        missing = column.values.null_count
        if not column.is_text:
            missing += pc.sum(pc.invert(pc.is_finite(column.values))).as_py() or 0
        if missing:
            raise Permanent(f"{self._what}: column {name!r} is missing, NaN or infinite in {missing} rows")
        return column


def _digest(uri: str, what: str) -> str:
    try:
        with open(uri, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise Permanent(f"the file of {what} cannot be read: {uri}: {error.strerror}") from error


def _comparable(column: pa.ChunkedArray, name: str) -> Column:
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return Column(column.cast(pa.large_string()).combine_chunks(), str(kind))
    if pa.types.is_boolean(kind):
        column = column.cast(pa.uint8())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        raise Permanent(f"column {name!r} is {kind}: want numbers, truth values or text")
    # Adding zero turns -0.0, which Arrow tells apart from 0.0, into 0.0.
    return Column(pc.add(column.cast(pa.float64()), 0.0).combine_chunks(), str(kind))
