"""A user's table, read and checked by DuckDB and written as the one Parquet file that the demo watches."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ...ports.errors import ConfigurationError, Problem

if TYPE_CHECKING:
    import duckdb

LEAST_ROWS = 1000
"""Fewest labelled rows that can be cut into a champion's and a life's."""

_FEW = 10  # distinct numbers that still are classes
_MOST_CLASSES = 50
_TIMES = ("DATE", "TIME", "TIMESTAMP", "INTERVAL")
_COMPARISON = re.compile(r"^(.+?)\s*(>=|<=|==|!=|<>|=|>|<)\s*(.+)$")


@dataclass(frozen=True, slots=True)
class Facts:
    """What a table is.

    Attributes:
        rows: Rows with a label and a time.
        first: Time of the first of them.
        last: Time of the last.
        task: What kind of model its label asks for.
        time: Name of the time column as written.
        label: Name of the label column as written.
        remarks: What was done with the table that its owner should know.
    """

    rows: int
    first: datetime
    last: datetime
    task: Literal["classification", "regression"]
    time: str
    label: str
    remarks: tuple[str, ...]

    @property
    def days(self) -> float:
        """Days from the first row to the last."""
        return (self.last - self.first).total_seconds() / 86_400


def write_table(files: Sequence[Path], label: str, time: str | None, end: datetime, target: Path) -> Facts:
    """Read a user's files, check them, and write one Parquet file of time, features and label.

    Args:
        files: CSV or Parquet files, in the order of their rows.
        label: A column, or a comparison such as ``NOX > 65``.
        time: The time column; ``None`` gives hourly stamps in file order, the last an hour before ``end``.
        end: See ``time``.
        target: File to write.

    Returns:
        What the table is.

    Raises:
        ConfigurationError: The table cannot be used; names what is wrong, and nothing was written.
    """
    import duckdb

    missing = [
        Problem("csv", str(file), "there is no such file") for file in files if not Path(file).is_file()
    ]
    if missing:
        raise ConfigurationError(missing)
    with duckdb.connect(":memory:") as session:
        types = _load(session, files)
        said, used = _label(session, label, types)
        stamp, stamp_name = _time(session, time, types, end)
        session.execute(f"CREATE VIEW rows AS SELECT *, {stamp} AS _at, {said} AS _label FROM source")  # noqa: S608
        task, final = _task(session, label)
        facts = _facts(session, label, stamp_name, task, _remarks(types, used, time))
        hidden = {stamp_name, *used} if time is None else {time, *used}
        features = [
            name for name, kind in types.items() if name not in hidden and not kind.startswith(_TIMES)
        ]
        _write(session, features, stamp_name, label, final, target)
    return facts


def _load(session: duckdb.DuckDBPyConnection, files: Sequence[Path]) -> dict[str, str]:
    """Load the files as the table ``source``; return its columns with their types."""
    import duckdb

    names = [str(file) for file in files]
    reader = "read_parquet" if all(name.endswith((".parquet", ".pq")) for name in names) else "read_csv"
    options = "" if reader == "read_parquet" else ", header = true, sample_size = -1"
    try:
        session.execute("SET TimeZone = 'UTC'")
        session.execute(
            f"CREATE TABLE source AS SELECT * FROM {reader}($files, union_by_name = true{options})",  # noqa: S608
            {"files": names},
        )
    except duckdb.Error as error:
        reason = str(error).split("\n", 1)[0]
        raise ConfigurationError([Problem("csv", ", ".join(names), f"cannot be read: {reason}")]) from None
    described = session.execute("DESCRIBE source").fetchall()
    return {name: kind for name, kind, *_ in described}


def _label(
    session: duckdb.DuckDBPyConnection, label: str, types: dict[str, str]
) -> tuple[str, frozenset[str]]:
    """The label as SQL, and the columns that give it away."""
    if label in types:
        return _name(label), frozenset({label})
    known = f"the columns are {', '.join(types)}"
    parts = _COMPARISON.match(label.strip())
    if parts is None:
        fix = f'is neither a column nor a comparison such as "NOX > 65"; {known}'
        raise ConfigurationError([Problem("label", repr(label), fix)])
    left, operator, right = (part.strip() for part in parts.groups())
    if left not in types:
        raise ConfigurationError([Problem("label", repr(label), f"there is no column {left!r}; {known}")])
    used = frozenset({left, right} & set(types))
    value = _name(right) if right in types else _literal(label, right, types[left], known)
    said = f"CAST({_name(left)} {'=' if operator == '==' else operator} {value} AS BIGINT)"
    _try(session, f"SELECT {said} FROM source LIMIT 1", Problem("label", repr(label), "cannot be compared"))  # noqa: S608
    return said, used


def _literal(label: str, text: str, kind: str, known: str) -> str:
    """What stands on the right of a comparison, if it is no column."""
    if text[0] in "\"'" and text[-1] == text[0] and len(text) > 1:
        return _text(text[1:-1])
    try:
        return repr(float(text))
    except ValueError:
        if kind == "VARCHAR":
            return _text(text)
    fix = f"{text!r} is neither a number nor a column; {known}"
    raise ConfigurationError([Problem("label", repr(label), fix)])


def _time(
    session: duckdb.DuckDBPyConnection, time: str | None, types: dict[str, str], end: datetime
) -> tuple[str, str]:
    """The time as SQL, and the name of its column."""
    if time is None:
        total = "(SELECT count(*) FROM source)"
        at = end.astimezone(UTC).isoformat()
        return f"TIMESTAMPTZ '{at}' - to_hours({total} - rowid)", _unused("time", types)
    if time not in types:
        fix = f"there is no such column; the columns are {', '.join(types)}"
        raise ConfigurationError([Problem("time", repr(time), fix)])
    fix = "is no column of times; dates, timestamps or ISO 8601 text are wanted"
    cast = f"TRY_CAST({_name(time)} AS TIMESTAMPTZ)"
    wrong = f"SELECT {_name(time)} FROM source WHERE {_name(time)} IS NOT NULL AND {cast} IS NULL LIMIT 1"  # noqa: S608
    found = _try(session, wrong, Problem("time", repr(time), fix))
    if found:
        raise ConfigurationError([Problem("time", repr(time), f"{fix}; found {found[0][0]!r}")])
    return cast, time


def _unused(name: str, types: dict[str, str]) -> str:
    while name in types:
        name += "_"
    return name


def _task(
    session: duckdb.DuckDBPyConnection, label: str
) -> tuple[Literal["classification", "regression"], str]:
    """What the label's values ask for, and the label as SQL in the type that suits it."""
    (kind,) = session.execute(
        "SELECT typeof(_label) FROM rows WHERE _label IS NOT NULL LIMIT 1"
    ).fetchone() or ("",)
    distinct, whole = session.execute(
        "SELECT count(DISTINCT _label), bool_and(number = floor(number))"
        " FROM (SELECT _label, TRY_CAST(_label AS DOUBLE) AS number FROM rows)"
    ).fetchone() or (0, None)
    if distinct < 2:
        fix = (
            "has a single value in all rows, so that there is nothing to predict" if distinct else "is empty"
        )
        raise ConfigurationError([Problem("label", repr(label), fix)])
    named = kind in ("VARCHAR", "BOOLEAN")
    if named and distinct > _MOST_CLASSES:
        fix = f"has {distinct:,} different texts; at most {_MOST_CLASSES} classes can be told apart"
        raise ConfigurationError([Problem("label", repr(label), fix)])
    if not named and distinct > _FEW:
        return "regression", "CAST(_label AS DOUBLE)"
    return "classification", "_label" if kind == "VARCHAR" or not whole else "CAST(_label AS BIGINT)"


def _facts(
    session: duckdb.DuckDBPyConnection,
    label: str,
    time: str,
    task: Literal["classification", "regression"],
    remarks: tuple[str, ...],
) -> Facts:
    rows, first, last = session.execute(
        "SELECT count(*), epoch_us(min(_at)), epoch_us(max(_at)) FROM rows"
        " WHERE _label IS NOT NULL AND _at IS NOT NULL"
    ).fetchone() or (0, 0, 0)
    if rows < LEAST_ROWS:
        fix = f"too few: at least {LEAST_ROWS:,} rows with a label and a time are needed"
        raise ConfigurationError([Problem("csv", f"{rows:,} rows", fix)])
    begins, ends = (datetime.fromtimestamp(moment / 1e6, UTC) for moment in (first, last))
    return Facts(rows, begins, ends, task, time, label, remarks)


def _remarks(types: dict[str, str], used: frozenset[str], time: str | None) -> tuple[str, ...]:
    remarks = []
    if time is None:
        remarks.append("No --time: the rows got hourly stamps in the order of the files, up to now.")
    dates = [name for name, kind in types.items() if kind.startswith(_TIMES) and name not in {time, *used}]
    if dates:
        remarks.append(f"Left out of the features, being dates: {', '.join(dates)}.")
    return tuple(remarks)


def _write(
    session: duckdb.DuckDBPyConnection,
    features: Sequence[str],
    time: str,
    label: str,
    final: str,
    target: Path,
) -> None:
    if not features:
        fix = "leaves no column to predict from"
        raise ConfigurationError([Problem("label", repr(label), fix)])
    target.parent.mkdir(parents=True, exist_ok=True)
    columns = [f"_at AS {_name(time)}", *map(_name, features), f"{final} AS {_name(label)}"]
    session.execute(
        f"COPY (SELECT {', '.join(columns)} FROM rows WHERE _at IS NOT NULL ORDER BY _at)"  # noqa: S608
        f" TO {_text(str(target))} (FORMAT parquet)"
    )


def _try(session: duckdb.DuckDBPyConnection, query: str, problem: Problem) -> list[tuple[object, ...]]:
    import duckdb

    try:
        return session.execute(query).fetchall()
    except duckdb.Error:
        raise ConfigurationError([problem]) from None


def _name(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
