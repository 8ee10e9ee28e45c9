"""Snapshots of Parquet and CSV tables, read, filtered, sorted and written by DuckDB.

Rows stream through DuckDB and never become Python objects; what does not fit into its memory limit is
spilled beside the snapshots.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from ..ports.data import Snapshot, SnapshotRequest
from ..ports.errors import AutoRetrainError, Permanent, Temporary, UnknownModel
from ..ports.values import TimeWindow

if TYPE_CHECKING:
    import duckdb

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_READERS = {
    ".parquet": "read_parquet",
    ".pq": "read_parquet",
    ".csv": "read_csv",
    ".csv.gz": "read_csv",
    ".tsv": "read_csv",
    ".tsv.gz": "read_csv",
}
_LOCAL_TIMES = ("DATE", "TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS")
_TIMES = (*_LOCAL_TIMES, "TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ_NS")
_NOT_NOW = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EIO, errno.ESTALE, errno.ETIMEDOUT}


@dataclass(frozen=True, slots=True)
class Table:
    """Where the rows of a model are, and what its columns mean.

    Attributes:
        path: A Parquet or CSV file, or a glob over several of one kind, told apart by their suffix. CSV files
            have a header. Columns of several files are matched by name.
        time: Column that says when a row was observed: a date, a timestamp, or ISO 8601 text.
        label: Column of the truth; ``None`` for a model without labels.
        features: Columns the model may see, in this order; empty for all but time, label and ``exclude``.
        exclude: Columns that are no features.
        time_zone: IANA zone of times that carry no offset.
        keep: Columns that snapshots carry along although they are no features; no model sees them.
    """

    path: str
    time: str
    label: str | None
    features: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    time_zone: str = "UTC"
    keep: tuple[str, ...] = ()


class DuckdbDataSource:
    """DataSource over local tables.

    A snapshot is the file ``directory/<model>/<sha256>.parquet``, read-only, written once and published by a
    rename. Rows are in time order, and in the order of their values where times are equal, so the same rows
    give the same bytes whichever files held them (as long as DuckDB, which signs its files, is the same
    version). Rows without a time belong to no window; a NaN label counts as none.

    Args:
        tables: The table of each model.
        directory: Where snapshots are kept; created when missing.
        base: Relative paths of tables start here.
        threads: Threads DuckDB may use for one snapshot.
        memory_limit: Memory DuckDB may use for one snapshot, as DuckDB writes it (``"1GB"``).
    """

    def __init__(
        self,
        tables: Mapping[str, Table],
        directory: Path,
        *,
        base: Path = Path("."),
        threads: int = 2,
        memory_limit: str = "1GB",
    ) -> None:
        self._tables = dict(tables)
        self._directory = directory.absolute()
        self._base = base.absolute()
        self._threads = threads
        self._memory_limit = memory_limit

    def snapshot(self, request: SnapshotRequest) -> Snapshot:
        """Copy the rows of a window into an immutable Parquet file.

        Args:
            request: Which rows.

        Returns:
            Handle of the copy; ``rows == 0`` and no file when the window holds none.

        Raises:
            UnknownModel: No table is configured for the model.
            Temporary: The disk is full, or memory short.
            Permanent: The table is missing, unreadable or no table, or lacks a column.
        """
        table = self._tables.get(request.model)
        if table is None:
            known = ", ".join(sorted(self._tables)) or "none"
            raise UnknownModel(f"no table is configured for model {request.model!r} (known: {known})")
        folder = self._directory / _file_name(request.model)
        with _mapped_errors(table.path), _workspace(folder) as workspace:
            with self._session(table, workspace) as session:
                source = _open(session, table, self._base)
                columns = _choose(table, source, labelled=request.labelled)
                copy = workspace / "rows.parquet"
                written = _write(session, source, columns, request.window, copy)
            return _seal(request, columns, written, folder)

    @contextmanager
    def _session(self, table: Table, workspace: Path) -> Iterator[duckdb.DuckDBPyConnection]:
        import duckdb

        session = duckdb.connect(
            ":memory:",
            config={
                "threads": self._threads,
                "memory_limit": self._memory_limit,
                "temp_directory": str(workspace / "spill"),
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
                # It would mark columns NOT NULL by rows outside the window: other bytes for the same rows.
                "disabled_optimizers": "statistics_propagation",
            },
        )
        with session:
            session.execute(f"SET TimeZone = {_text(table.time_zone)}")
            yield session


@dataclass(frozen=True, slots=True)
class _Source:
    """A table as SQL, its columns with their DuckDB types, and its path for messages."""

    sql: str
    types: Mapping[str, str]
    path: str


@dataclass(frozen=True, slots=True)
class _Columns:
    """The columns of one snapshot."""

    time: str
    features: tuple[str, ...]
    label: str | None
    kept: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Written:
    """A file of rows that is not yet published; times are those of the first and last row."""

    file: Path
    rows: int
    first_at: datetime | None
    last_at: datetime | None
    unlabelled: int | None


def _open(session: duckdb.DuckDBPyConnection, table: Table, base: Path) -> _Source:
    files = _matching_files(table.path, base)
    reader = _reader(files, table.path)
    paths = ", ".join(_text(glob.escape(file)) for file in files)
    scan = f"{reader}([{paths}], union_by_name = true, hive_partitioning = false"
    if reader == "read_parquet":
        return _Source(f"{scan})", _column_types(session, f"{scan})"), table.path)
    scan += ", header = true"
    # Types come from all rows: a sample would fail on, or misread, what only occurs later.
    types = _column_types(session, f"{scan}, sample_size = -1)")
    # Times stay text until they are cast: the sniffer would guess between day and month.
    types = {name: "VARCHAR" if name == table.time else kind for name, kind in types.items()}
    fixed = ", ".join(f"{_text(name)}: {_text(kind)}" for name, kind in types.items())
    return _Source(f"{scan}, types = {{{fixed}}})", types, table.path)


def _column_types(session: duckdb.DuckDBPyConnection, scan: str) -> dict[str, str]:
    described = session.execute(f"DESCRIBE SELECT * FROM {scan}").fetchall()  # noqa: S608
    return {name: kind for name, kind, *_ in described}


def _matching_files(path: str, base: Path) -> list[str]:
    absolute = os.path.join(base, path)
    if os.path.exists(absolute):
        if os.path.isdir(absolute):
            raise Permanent(f"{path} is a directory, not a table: name a file or a glob")
        return [absolute]
    pattern = path if os.path.isabs(path) else os.path.join(glob.escape(str(base)), path)
    files = sorted(file for file in glob.glob(pattern, recursive=True) if os.path.isfile(file))
    if not files:
        what = "no file matches" if glob.has_magic(path) else "there is no file"
        raise Permanent(f"{what} {path} (looked in {base})")
    return files


def _reader(files: Sequence[str], path: str) -> str:
    readers = {_READERS.get(_suffix(file), "") for file in files}
    if len(readers) > 1:
        raise Permanent(f"{path} matches files of different kinds: make it match Parquet or CSV only")
    reader = readers.pop()
    if not reader:
        raise Permanent(f"{path} is not a table: want a file that ends in {', '.join(_READERS)}")
    return reader


def _suffix(file: str) -> str:
    suffixes = [suffix.lower() for suffix in Path(file).suffixes]
    return "".join(suffixes[-2:] if suffixes[-1:] == [".gz"] else suffixes[-1:])


def _choose(table: Table, source: _Source, *, labelled: bool) -> _Columns:
    if labelled and table.label is None:
        raise Permanent(f"labelled rows were asked for, but no label column is named for {table.path}")
    _require(source, "time", [table.time])
    if table.label is not None and labelled:
        _require(source, "label", [table.label])
    _require(source, "feature", table.features)
    _require(source, "excluded", table.exclude)
    _require(source, "kept", table.keep)
    kind = source.types[table.time]
    if kind not in (*_TIMES, "VARCHAR"):
        raise Permanent(
            f"time column {table.time!r} of {table.path} is {kind}: want a date, a timestamp or ISO 8601 text"
        )
    hidden = {table.time, table.label, *table.exclude}
    forbidden = [name for name in table.features if name in hidden]
    if forbidden:
        raise Permanent(f"column {forbidden[0]!r} of {table.path} is time, label or excluded: not a feature")
    features = table.features or tuple(name for name in source.types if name not in hidden)
    if not features:
        raise Permanent(f"{table.path} has no feature columns; its columns: {', '.join(source.types)}")
    label = table.label if labelled else None
    kept = tuple(name for name in table.keep if name not in (table.time, table.label, *features))
    return _Columns(table.time, features, label, kept)


def _require(source: _Source, role: str, names: Sequence[str]) -> None:
    missing = [repr(name) for name in names if name not in source.types]
    if missing:
        existing = ", ".join(source.types)
        raise Permanent(f"{source.path} has no {role} column {', '.join(missing)}; its columns: {existing}")


def _write(
    session: duckdb.DuckDBPyConnection, source: _Source, columns: _Columns, window: TimeWindow, file: Path
) -> _Written:
    time = _name(columns.time)
    wanted = (*columns.features, columns.label, *columns.kept)
    others = [_name(name) for name in wanted if name is not None]
    inside, labelled = _within(source, columns.time, window), _has_label(source, columns.label)
    conditions = [*inside, *labelled]
    copied = session.execute(
        f"COPY (SELECT {', '.join([f'CAST(source.{time} AS TIMESTAMPTZ) AS {time}', *others])}"  # noqa: S608
        f" FROM {source.sql} AS source WHERE {' AND '.join(conditions)} ORDER BY ALL)"
        f" TO {_text(str(file))} (FORMAT parquet)"
    ).fetchone()
    bounds = session.execute(
        f"SELECT epoch_us(min({time})), epoch_us(max({time}))"  # noqa: S608
        f" FROM read_parquet({_text(glob.escape(str(file)))})"
    ).fetchone()
    first, last = bounds or (None, None)
    rows = copied[0] if copied else 0
    every = (
        session.execute(
            f"SELECT count(*) FROM {source.sql} AS source WHERE {' AND '.join(inside)}"  # noqa: S608
        ).fetchone()
        if labelled
        else None
    )
    return _Written(file, rows, _moment(first), _moment(last), every[0] - rows if every else None)


def _within(source: _Source, column: str, window: TimeWindow) -> list[str]:
    """Conditions of a half-open window; those on the bare column let DuckDB skip what cannot match."""
    kind, name = source.types[column], f"source.{_name(column)}"
    exact = f"CAST({name} AS TIMESTAMPTZ)"
    conditions = [
        f"{exact} >= TIMESTAMPTZ '{window.start.isoformat()}'",
        f"{exact} < TIMESTAMPTZ '{window.end.isoformat()}'",
    ]
    if kind in _TIMES:
        # A zone is less than two days from UTC. Nanoseconds overflow in 1677 and 2262.
        margin = timedelta(days=2)
        if window.start.year > 1700:
            conditions.append(f"{name} >= {_about(window.start - margin, kind)}")
        if window.end.year < 2200:
            conditions.append(f"{name} < {_about(window.end + margin, kind)}")
    return conditions


def _about(at: datetime, kind: str) -> str:
    """A moment as a literal of a column's type, as far off as the zone is from UTC."""
    return f"CAST(TIMESTAMP '{at.astimezone(UTC).replace(tzinfo=None).isoformat()}' AS {kind})"


def _has_label(source: _Source, label: str | None) -> list[str]:
    if label is None:
        return []
    name = f"source.{_name(label)}"
    is_float = source.types[label] in ("FLOAT", "DOUBLE")
    return [f"{name} IS NOT NULL", *([f"NOT isnan({name})"] if is_float else [])]


def _seal(request: SnapshotRequest, columns: _Columns, written: _Written, folder: Path) -> Snapshot:
    uri, digest = _publish(written.file, folder) if written.rows else ("", "")
    return Snapshot(
        model=request.model,
        window=request.window,
        uri=uri,
        rows=written.rows,
        sha256=digest,
        features=columns.features,
        label=columns.label,
        time=columns.time,
        first_at=written.first_at,
        last_at=written.last_at,
        unlabelled=written.unlabelled,
    )


def _publish(file: Path, folder: Path) -> tuple[str, str]:
    """Move a file to the name of its digest, unless an undamaged one stands there already."""
    digest = _digest(file)
    target = folder / f"{digest}.parquet"
    if not target.exists() or _digest(target) != digest:
        file.chmod(0o444)
        _sync(file)
        os.replace(file, target)
        _sync(folder)
    return str(target), digest


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _workspace(folder: Path) -> Iterator[Path]:
    """A folder for the unfinished file and what DuckDB spills, on the file system of the snapshots."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=folder) as workspace:
        yield Path(workspace)


def _text(value: str) -> str:
    """A string as an SQL literal."""
    return "'" + value.replace("'", "''") + "'"


def _name(column: str) -> str:
    """A column as an SQL identifier."""
    return '"' + column.replace('"', '""') + '"'


def _file_name(model: str) -> str:
    """The name of a model as one component of a path; dots are quoted too, so ``..`` leads nowhere."""
    return quote(model, safe="").replace(".", "%2E")


def _moment(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else _EPOCH + timedelta(microseconds=microseconds)


@contextmanager
def _mapped_errors(path: str) -> Iterator[None]:
    import duckdb

    try:
        yield
    except (duckdb.Error, OSError) as error:
        raise _translated(error, path) from error


def _translated(error: Exception, path: str) -> AutoRetrainError:
    import duckdb

    # Further lines of DuckDB's messages repeat the statement.
    reason = str(error).strip().split("\n", 1)[0]
    if isinstance(error, OSError):
        not_now = error.errno in _NOT_NOW
    else:
        not_now = isinstance(error, duckdb.OutOfMemoryException) or os.strerror(errno.ENOSPC) in str(error)
    if not_now:
        return Temporary(f"no snapshot of {path} can be taken now: {reason}")
    return Permanent(f"no snapshot of {path} can be taken: {reason}")
