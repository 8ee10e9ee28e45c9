"""Recorded metrics from a table: CSV or Parquet with the columns model, metric, at, value, samples."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ...ports.errors import ConfigurationError, Problem
from .records import Drifts, Sample, Samples

_COLUMNS = ("model", "metric", "at", "value")
_PSI = "psi:"
"""A metric of that beginning is the population stability index of a feature."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Recorded:
    """What a table holds.

    Attributes:
        samples: By model and metric.
        drifts: By model, in time order.
    """

    def __init__(self) -> None:
        self.samples: dict[str, dict[str, Samples]] = {}
        self.drifts: dict[str, list[Drifts]] = {}


def read_table(path: Path) -> Recorded:
    """Read recorded metrics.

    ``at`` is a timestamp, in UTC unless it says otherwise. ``samples``, the number of labelled predictions
    behind a value, may be left out. Values that are missing or not finite are left out; for drift
    (``psi:FEATURE``) they say that it could not be computed.

    Args:
        path: A CSV file with a header, or a Parquet file.

    Raises:
        ConfigurationError: It cannot be read, or lacks a column.
    """
    values: dict[tuple[str, str], list[Sample]] = defaultdict(list)
    drifts: dict[str, dict[datetime, dict[str, float | None]]] = defaultdict(lambda: defaultdict(dict))
    for model, metric, micros, value, rows in _rows(path):
        at = _EPOCH + timedelta(microseconds=micros)
        known = value if value is not None and math.isfinite(value) else None
        if metric.startswith(_PSI):
            drifts[model][at][metric.removeprefix(_PSI)] = known
        elif known is not None:
            values[model, metric].append(Sample(at, known, rows, last_at=at))
    found = Recorded()
    for (model, metric), samples in values.items():
        found.samples.setdefault(model, {})[metric] = Samples(samples)
    found.drifts = {model: [Drifts(at, psi[at]) for at in sorted(psi)] for model, psi in drifts.items()}
    return found


def _rows(path: Path) -> Iterable[tuple[str, str, int, float | None, int | None]]:
    import duckdb

    reader = "read_parquet" if path.suffix.lower() == ".parquet" else "read_csv"
    try:
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            told = connection.execute(f"DESCRIBE FROM {reader}($1)", [str(path)]).fetchall()
            columns = {name for name, *_ in told}
            if missing := [name for name in _COLUMNS if name not in columns]:
                raise _unusable(path, f"lacks {', '.join(missing)}; it needs {', '.join(_COLUMNS)}")
            samples = "CAST(samples AS BIGINT)" if "samples" in columns else "NULL"
            query = (
                "SELECT CAST(model AS VARCHAR), CAST(metric AS VARCHAR), "  # noqa: S608  (names of ours)
                f'epoch_us(CAST("at" AS TIMESTAMPTZ)), CAST(value AS DOUBLE), {samples} FROM {reader}($1) '
                'WHERE model IS NOT NULL AND metric IS NOT NULL AND "at" IS NOT NULL'
            )
            rows: list[Any] = connection.execute(query, [str(path)]).fetchall()
            return rows
    except duckdb.Error as error:
        raise _unusable(path, f"cannot be read: {str(error).splitlines()[0]}") from None


def _unusable(path: Path, fix: str) -> ConfigurationError:
    return ConfigurationError([Problem("--metrics", str(path), fix)])
