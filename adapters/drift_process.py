"""The program that compares two snapshots with Evidently; ``EvidentlyDrift`` starts it as a run.

It is a process of its own, since importing Evidently takes seconds and its memory is not given back. It
imports nothing of this package, so that it also runs under another interpreter that has only Evidently,
pandas below 3 and pyarrow: ``python drift_process.py FOLDER``. FOLDER holds ``request.json``; the result is
``report.json`` and, if asked for, ``report.html`` beside it. ``report.json`` is written last, in one step.

What Evidently cannot do without losing the whole report is settled here before it is asked: columns are
compared one at a time, with stated types; infinities count as missing; and a column that is absent, empty, of
another type on the two sides, or with too many categories has no measure, but a reason.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

Family = Literal["numeric", "text", "boolean"]
Kind = Literal["numeric", "categorical"]

MAX_CATEGORIES = 1000
"""More distinct texts than this are names, not categories; Evidently's time grows with their square."""

PAGE_THRESHOLDS = {"psi": 0.25, "ks": 0.05}
"""Where the page draws the line for people. Whether drift fires is the trigger's own threshold."""


def main(folder: Path) -> None:
    """Compare as ``request.json`` in the folder says, and leave the report beside it."""
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    sides = [open_rows(request[side]) for side in ("reference", "current")]
    pages: list[Any] = []
    columns = [compare_column(feature, sides[0], sides[1], pages) for feature in request["features"]]
    page = "report.html" if request["html"] and pages else None
    if page:
        write_whole(folder / page, render(pages))
    write_whole(
        folder / "report.json", json.dumps({"v": 1, "columns": columns, "page": page}, allow_nan=False)
    )


def open_rows(side: Mapping[str, str]) -> pq.ParquetFile | None:
    """Open the rows of one side, after checking that they are the ones meant; ``None`` for no rows."""
    import pyarrow.parquet as pq

    if not side["path"]:
        return None
    with open(side["path"], "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != side["sha256"]:
        raise ValueError(f"{side['path']} is damaged: its SHA-256 is {digest}, not {side['sha256']}")
    return pq.ParquetFile(side["path"])


def compare_column(
    name: str, reference: pq.ParquetFile | None, current: pq.ParquetFile | None, pages: list[Any]
) -> dict[str, Any]:
    """Compare one feature.

    Args:
        name: The feature.
        reference: Rows of the one side; ``None`` for none.
        current: Rows of the other side.
        pages: Gets what Evidently drew, if it was asked.

    Returns:
        The fields of ``ColumnDrift``.
    """
    columns = read_column(reference, name), read_column(current, name)
    families = [family(column) for column in columns]
    kind: Kind = "numeric" if (families[0] or families[1]) == "numeric" else "categorical"
    reason = incomparable(columns, families)
    values = [usable(column, kind) for column in columns]
    reason = reason or empty(values) or (too_many_categories(values) if kind == "categorical" else "")
    measures, failure = ({}, "") if reason else measure(name, kind, values, pages)
    return {
        "column": name,
        "kind": kind,
        "psi": measures.get("psi"),
        "ks_p": measures.get("ks"),
        "chi2_p": same_shares(values) if kind == "categorical" and "psi" in measures else None,
        "reference_rows": len(values[0]),
        "current_rows": len(values[1]),
        "reason": reason or failure,
    }


def read_column(rows: pq.ParquetFile | None, name: str) -> pa.ChunkedArray | None:
    """Read one column; ``None`` when there are no rows or no such column."""
    if rows is None or name not in rows.schema_arrow.names:
        return None
    return rows.read(columns=[name]).column(name)


def family(column: pa.ChunkedArray | None) -> Family | None:
    """What can be compared with each other; ``None`` for no column, no values, or values of another kind."""
    import pyarrow.types as types

    if column is None:
        return None
    held = column.type.value_type if types.is_dictionary(column.type) else column.type
    if types.is_boolean(held):
        return "boolean"
    if types.is_string(held) or types.is_large_string(held) or types.is_string_view(held):
        return "text"
    numeric = types.is_integer(held) or types.is_floating(held) or types.is_decimal(held)
    return "numeric" if numeric else None


def incomparable(columns: Sequence[pa.ChunkedArray | None], families: Sequence[Family | None]) -> str:
    """Why the types of the two sides forbid a comparison; empty when they do not."""
    import pyarrow.types as types

    for column, found in zip(columns, families, strict=True):
        if column is not None and found is None and not types.is_null(column.type):
            return f"values of type {column.type} cannot be compared"
    first, second = families
    if first and second and first != second:
        return f"mixed types: {first} in the reference, {second} in the current data"
    return ""


def usable(column: pa.ChunkedArray | None, kind: Kind) -> pd.Series[Any]:
    """The values that count: numbers that are finite, or texts that are there."""
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    if column is None:
        return pd.Series([], dtype="object")
    found = family(column)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if kind == "numeric" and found == "numeric":
        values = column.cast(pa.float64(), safe=False).to_pandas()
        return values[np.isfinite(values)].reset_index(drop=True)
    if kind == "categorical" and found is not None:
        column = column.cast(pa.string())
    return column.drop_null().to_pandas()


def empty(values: Sequence[pd.Series[Any]]) -> str:
    """Which side has no value at all; empty when both have some."""
    names = ("reference", "current data")
    without = [name for name, side in zip(names, values, strict=True) if side.empty]
    return f"no values in the {' and the '.join(without)}" if without else ""


def too_many_categories(values: Sequence[pd.Series[Any]]) -> str:
    """Whether the texts are too many to be categories; empty when not."""
    distinct = len(set(values[0].unique()) | set(values[1].unique()))
    return f"{distinct} categories, more than {MAX_CATEGORIES}" if distinct > MAX_CATEGORIES else ""


def measure(
    name: str, kind: Kind, values: Sequence[pd.Series[Any]], pages: list[Any]
) -> tuple[dict[str, float], str]:
    """Ask Evidently for the measures of one column, each alone.

    Returns:
        The finite measures by method, and why others are missing; empty when none is.
    """
    from evidently import Report
    from evidently.metrics import ValueDrift

    reference, current = (dataset(name, kind, side) for side in values)
    measures: dict[str, float] = {}
    failures = []
    for method in ("psi", "ks") if kind == "numeric" else ("psi",):
        metric = ValueDrift(column=name, method=method, threshold=PAGE_THRESHOLDS[method])
        try:
            run = Report([metric]).run(current, reference)
            value = float(run.dict()["metrics"][0]["value"])
        except Exception as error:  # whatever Evidently cannot do for one column must not cost the others
            failures.append(f"{method}: {type(error).__name__}: {error}")
            continue
        pages.append(run.to_snapshot_model())
        if math.isfinite(value):
            measures[method] = value
        else:
            failures.append(f"{method} is not finite")
    return measures, "; ".join(failures)


def same_shares(values: Sequence[pd.Series[Any]]) -> float | None:
    """How likely two samples of one distribution differ so much; ``None`` where that is not known.

    Pearson's chi-square of both counts. Evidently's own takes the shares of the reference for exact, and so
    finds drift where there is none.
    """
    import numpy as np
    import pandas as pd
    from scipy.stats import chi2_contingency

    counts = [side.value_counts() for side in values]
    table = pd.concat(counts, axis=1).fillna(0).to_numpy()
    if len(table) < 2:
        return 1.0
    p = float(chi2_contingency(np.asarray(table, dtype=float), correction=False).pvalue)
    return p if math.isfinite(p) else None


def dataset(name: str, kind: Kind, values: pd.Series[Any]) -> Any:
    """One column as Evidently takes it, its type stated so that nothing is guessed."""
    import pandas as pd
    from evidently import DataDefinition, Dataset

    definition = DataDefinition(
        numerical_columns=[name] if kind == "numeric" else [],
        categorical_columns=[name] if kind == "categorical" else [],
        text_columns=[],
        datetime_columns=[],
        unknown_columns=[],
        list_columns=[],
    )
    return Dataset.from_pandas(pd.DataFrame({name: values}), data_definition=definition)


def render(pages: Sequence[Any]) -> str:
    """One page of all columns; it holds Evidently's script, and needs no network."""
    from evidently.core.report import Snapshot

    whole = pages[0].copy(update={"widgets": [widget for page in pages for widget in page.widgets]})
    return str(Snapshot.load_model(whole).get_html_str(as_iframe=False))


def write_whole(path: Path, text: str) -> None:
    """Write a file in one step: a reader sees all of it or none."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
