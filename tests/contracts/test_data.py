"""Sources of snapshots: the contract over each, and what only the DuckDB one does."""

from __future__ import annotations

import gzip
import hashlib
import math
import stat
import tempfile
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autoretrain.adapters.data_duckdb import DuckdbDataSource, Table
from autoretrain.adapters.memory import MemoryDataSource
from autoretrain.adapters.memory import Row as MemoryRow
from autoretrain.entrypoints.testing.data import MODEL, START, DataSourceContract, Row, request, row
from autoretrain.ports.data import DataSource, Snapshot, SnapshotRequest
from autoretrain.ports.errors import Permanent, Temporary, UnknownModel
from autoretrain.ports.values import TimeWindow

TABLE = Table("rows.parquet", time="ts", label="y")
HOUR = timedelta(hours=1)
# The folder is the test's; every example writes files of its own into it.
on_files = settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def write_parquet(file: Path, columns: dict[str, Any]) -> None:
    pq.write_table(pa.table(columns), file)


def write_csv(file: Path, rows: Sequence[Row]) -> None:
    lines = [f"{r.ts.isoformat()},{r.x!r},{'' if r.y is None else r.y}\n" for r in rows]
    file.write_text("".join(["ts,x,y\n", *lines]))


def columns_of(rows: Sequence[Row]) -> dict[str, Any]:
    return {
        "ts": pa.array([r.ts for r in rows], pa.timestamp("us", "UTC")),
        "x": pa.array([r.x for r in rows], pa.float64()),
        "y": pa.array([r.y for r in rows], pa.int64()),
    }


def source_of(folder: Path, table: Table = TABLE, **options: Any) -> DuckdbDataSource:
    return DuckdbDataSource({MODEL: table}, folder / "snapshots", base=folder, **options)


class TestMemory(DataSourceContract):
    time = "at"
    label = "label"

    def make_source(self, folder: Path, rows: Sequence[Row]) -> DataSource:
        self.held = MemoryDataSource({MODEL: [MemoryRow(r.ts, {"x": r.x}, r.y) for r in rows]})
        return self.held

    def read(self, snapshot: Snapshot) -> list[Row]:
        rows = self.held.taken[snapshot.sha256]
        return [Row(r.at, r.features["x"], r.label if snapshot.label else None) for r in rows]


class TestParquet(DataSourceContract):
    def make_source(self, folder: Path, rows: Sequence[Row]) -> DataSource:
        write_parquet(folder / "rows.parquet", columns_of(rows))
        return source_of(folder)


class TestNaiveParquet(DataSourceContract):
    def make_source(self, folder: Path, rows: Sequence[Row]) -> DataSource:
        berlin = [r.ts.astimezone(ZoneInfo("Europe/Berlin")).replace(tzinfo=None) for r in rows]
        times = pa.array(berlin, pa.timestamp("ns"))
        write_parquet(folder / "rows.parquet", {**columns_of(rows), "ts": times})
        return source_of(folder, Table("rows.parquet", "ts", "y", time_zone="Europe/Berlin"))


class TestCsv(DataSourceContract):
    def make_source(self, folder: Path, rows: Sequence[Row]) -> DataSource:
        write_csv(folder / "rows.csv", rows)
        return source_of(folder, Table("rows.csv", "ts", "y"))


class TestManyFiles(DataSourceContract):
    def make_source(self, folder: Path, rows: Sequence[Row]) -> DataSource:
        for number, one in enumerate(rows):
            write_parquet(folder / f"part-{number}.parquet", columns_of([one]))
        return source_of(folder, Table("part-*.parquet", "ts", "y"))


def snapshot(folder: Path, table: Table = TABLE, start: float = 0, end: float = 24, **how: bool) -> Snapshot:
    return source_of(folder, table).snapshot(request(start, end, **how))


def kept_times(taken: Snapshot) -> list[datetime]:
    return pq.read_table(taken.uri).column(taken.time).to_pylist() if taken.rows else []


# --- the file


def test_the_file_is_named_by_its_digest_and_cannot_be_written(tmp_path: Path) -> None:
    write_parquet(tmp_path / "rows.parquet", columns_of([row(0), row(1)]))
    taken = snapshot(tmp_path)
    file = Path(taken.uri)

    assert file == tmp_path / "snapshots" / MODEL / f"{taken.sha256}.parquet"
    assert hashlib.sha256(file.read_bytes()).hexdigest() == taken.sha256
    assert stat.S_IMODE(file.stat().st_mode) == 0o444


def test_it_is_written_once_and_nothing_else_is_left(tmp_path: Path) -> None:
    write_parquet(tmp_path / "rows.parquet", columns_of([row(0), row(1)]))
    first = snapshot(tmp_path)
    before = Path(first.uri).stat()
    again = snapshot(tmp_path)
    after = Path(again.uri).stat()

    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert [str(path) for path in (tmp_path / "snapshots" / MODEL).iterdir()] == [first.uri]


def test_a_damaged_file_is_replaced(tmp_path: Path) -> None:
    write_parquet(tmp_path / "rows.parquet", columns_of([row(0), row(1)]))
    file = Path(snapshot(tmp_path).uri)
    whole = file.read_bytes()
    file.chmod(0o644)
    file.write_bytes(whole[:100])

    snapshot(tmp_path)

    assert file.read_bytes() == whole


def test_columns_stand_in_the_order_of_time_features_label(tmp_path: Path) -> None:
    write_csv(tmp_path / "rows.csv", [row(0)])
    taken = snapshot(tmp_path, Table("rows.csv", "ts", label="x", features=("y",)))

    assert pq.read_schema(taken.uri).names == ["ts", "y", "x"]
    assert pq.read_schema(taken.uri).field("ts").type == pa.timestamp("us", tz="UTC")


def test_excluded_columns_are_no_features(tmp_path: Path) -> None:
    columns = {**columns_of([row(0)]), "plant": ["north"], "z": [1]}
    write_parquet(tmp_path / "rows.parquet", columns)

    assert snapshot(tmp_path, Table("rows.parquet", "ts", "y", exclude=("plant",))).features == ("x", "z")


def test_a_model_without_labels_is_read_without_them(tmp_path: Path) -> None:
    write_parquet(tmp_path / "rows.parquet", columns_of([row(0, y=None)]))
    taken = snapshot(tmp_path, Table("rows.parquet", "ts", None, exclude=("y",)), labelled=False)

    assert (taken.rows, taken.features, taken.label) == (1, ("x",), None)


def test_a_label_that_is_nan_is_none(tmp_path: Path) -> None:
    columns = {**columns_of([row(0), row(1), row(2)]), "y": [1.0, math.nan, None]}
    write_parquet(tmp_path / "rows.parquet", columns)

    assert snapshot(tmp_path).rows == 1


@pytest.mark.parametrize("model", ["../../up", "a/b", "..", "nul\0l", "ä 'b' \"c\"", "a%2Fb"])
def test_no_name_of_a_model_leads_out_of_the_folder(tmp_path: Path, model: str) -> None:
    write_parquet(tmp_path / "rows.parquet", columns_of([row(0)]))
    source = DuckdbDataSource({model: TABLE}, tmp_path / "snapshots", base=tmp_path)
    taken = source.snapshot(SnapshotRequest(model, request(0, 1).window))

    assert Path(taken.uri).resolve().parent.parent == tmp_path / "snapshots"


@pytest.mark.parametrize(
    "name", ["it's.parquet", 'a "b".parquet', "[ab].parquet", "a*?.parquet", "k=1.parquet"]
)
def test_any_file_name_can_be_read(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "x=[1]'s"
    folder.mkdir()
    write_parquet(folder / name, columns_of([row(0)]))
    write_parquet(folder / "a.parquet", columns_of([row(1)]))

    taken = snapshot(folder, Table(name, "ts", "y"))

    assert (taken.rows, taken.features) == (1, ("x",))


@pytest.mark.parametrize("name", ['say "x"', "it's", "a b", "select", "source", "x;--", "Ts"])
def test_any_column_name_can_be_read(tmp_path: Path, name: str) -> None:
    columns = dict(zip((f"t {name}", name, f"l {name}"), columns_of([row(0, 1.5)]).values(), strict=True))
    write_parquet(tmp_path / "rows.parquet", columns)
    duckdb.execute(f"COPY (FROM '{tmp_path}/rows.parquet') TO '{tmp_path}/rows.csv' (FORMAT csv)")

    for file in ("rows.parquet", "rows.csv"):
        taken = snapshot(tmp_path, Table(file, f"t {name}", f"l {name}"))
        assert pq.read_table(taken.uri).column(name).to_pylist() == [1.5]


# --- the same rows give the same bytes


@on_files
@given(
    st.lists(
        st.builds(
            row,
            st.integers(0, 5),
            st.sampled_from([0.5, -1.25, 1e-300, 3.0]),
            st.sampled_from([0, 1, None]),
        ),
        min_size=1,
        max_size=20,
    ),
    st.randoms(use_true_random=False),
)
def test_order_and_format_of_the_files_do_not_show(tmp_path: Path, rows: list[Row], random: Any) -> None:
    # Rows outside the window settle the type of each column, and must not show otherwise.
    outside = [row(100, 0.25, 1), row(101, 0.25, None)]
    mixed = [*rows, *outside]
    random.shuffle(mixed)
    write_parquet(tmp_path / "rows.parquet", columns_of(mixed))
    write_csv(tmp_path / "rows.csv", [*outside, *rows])
    write_parquet(tmp_path / "sure.parquet", columns_of([one for one in rows if one.y is not None]))
    files = ("rows.parquet", "rows.csv", "sure.parquet")
    digests = {snapshot(tmp_path, Table(file, "ts", "y")).sha256 for file in files}

    assert len(digests) == 1


def test_the_number_of_threads_does_not_show(tmp_path: Path) -> None:
    duckdb.execute(
        "COPY (SELECT TIMESTAMP '2026-01-01' + INTERVAL (i % 3000) SECOND AS ts, hash(i) % 997 AS x,"
        " i % 2 AS y, (hash(i) % 13)::VARCHAR AS k FROM range(300000) t(i))"
        f" TO '{tmp_path}/rows.parquet' (FORMAT parquet)"
    )
    taken = [source_of(tmp_path, threads=n, memory_limit="200MB").snapshot(request(0, 1)) for n in (1, 2, 4)]

    assert pq.ParquetFile(taken[0].uri).metadata.num_row_groups > 1
    assert len({one.sha256 for one in taken}) == 1


# --- times


@on_files
@given(st.lists(st.integers(-3, 3), max_size=8), st.integers(-3, 3), st.integers(0, 3))
def test_windows_are_half_open(tmp_path: Path, times: list[int], start: int, length: int) -> None:
    microsecond = timedelta(microseconds=1)
    rows = [Row(START + t * microsecond, 0.5, 1) for t in times]
    write_parquet(tmp_path / "rows.parquet", columns_of(rows))
    write_csv(tmp_path / "rows.csv", [*rows, row(-1)])
    window = TimeWindow(START + start * microsecond, START + (start + length) * microsecond)
    expected = sorted(r.ts for r in rows if window.start <= r.ts < window.end)

    for file in ("rows.parquet", "rows.csv"):
        taken = source_of(tmp_path, Table(file, "ts", "y")).snapshot(SnapshotRequest(MODEL, window))
        assert kept_times(taken) == expected
        assert [taken.first_at, taken.last_at] == [min(expected, default=None), max(expected, default=None)]


@pytest.mark.parametrize(
    ("written", "zone", "instant"),
    [
        ("2026-01-01", "UTC", START),
        ("2026-01-01 02:00:00", "Europe/Berlin", START + HOUR),
        ("2026-01-01T02:00:00", "UTC", START + 2 * HOUR),
        ("2026-01-01T02:00:00Z", "Europe/Berlin", START + 2 * HOUR),
        ("2026-01-01T02:00:00.000001+05:30", "UTC", START - 3.5 * HOUR + timedelta(microseconds=1)),
        ("2026-07-01T02:00:00", "Europe/Berlin", datetime(2026, 7, 1, tzinfo=UTC)),
    ],
)
def test_text_is_read_as_iso_8601(tmp_path: Path, written: str, zone: str, instant: datetime) -> None:
    (tmp_path / "rows.csv").write_text(f"ts,x,y\n{written},0.5,1\n")
    write_parquet(tmp_path / "rows.parquet", {"ts": [written], "x": [0.5], "y": [1]})

    for file in ("rows.csv", "rows.parquet"):
        taken = snapshot(tmp_path, Table(file, "ts", "y", time_zone=zone), -24, 24 * 365)
        assert kept_times(taken) == [instant]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_timestamps_of_any_unit_and_zone_are_read(tmp_path: Path, unit: str, zone: str | None) -> None:
    times = pa.array([0, 1767225600, 1767229200, 1767232800], pa.timestamp("s")).cast(pa.timestamp(unit))
    times = pa.compute.assume_timezone(times, "UTC").cast(pa.timestamp(unit, zone)) if zone else times
    write_parquet(tmp_path / "rows.parquet", {"ts": times, "x": [0.5] * 4, "y": [1] * 4})

    assert kept_times(snapshot(tmp_path, start=1, end=2)) == [START + HOUR]


def test_dates_begin_at_midnight_of_the_zone(tmp_path: Path) -> None:
    write_parquet(tmp_path / "rows.parquet", {"ts": [date(2026, 1, 1)], "x": [0.5], "y": [1]})

    assert kept_times(snapshot(tmp_path, Table("rows.parquet", "ts", "y", time_zone="Asia/Tokyo"), -24)) == [
        START - 9 * HOUR
    ]


def test_rows_without_a_time_belong_to_no_window(tmp_path: Path) -> None:
    write_parquet(tmp_path / "rows.parquet", {"ts": [START, None], "x": [0.5, 0.5], "y": [1, 1]})
    always = TimeWindow(datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))

    assert source_of(tmp_path).snapshot(SnapshotRequest(MODEL, always)).rows == 1


# --- files


def test_files_are_joined_by_the_names_of_their_columns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("ts,x,y\n2026-01-01T00:00:00Z,1,1\n")
    (tmp_path / "b.csv").write_text("y,ts,x\n0,2026-01-01T01:00:00Z,2.5\n")
    taken = snapshot(tmp_path, Table("*.csv", "ts", "y"))

    assert pq.read_table(taken.uri).select(["x", "y"]).to_pylist() == [{"x": 1.0, "y": 1}, {"x": 2.5, "y": 0}]


def test_compressed_csv_is_read(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "rows.v1.csv.gz", "wt") as stream:
        stream.write("ts;x;y\n2026-01-01T00:00:00Z;1;1\n")

    assert snapshot(tmp_path, Table("rows.v1.csv.gz", "ts", "y")).rows == 1


def test_a_value_far_down_settles_the_type_of_its_column(tmp_path: Path) -> None:
    lines = ["2026-01-01T00:00:00Z,1,1\n"] * 30_000
    (tmp_path / "rows.csv").write_text("".join(["ts,x,y\n", *lines, "2026-01-02T00:00:00Z,n/a,1\n"]))
    taken = snapshot(tmp_path, Table("rows.csv", "ts", "y"))

    assert taken.rows == 30_000
    assert pq.read_schema(taken.uri).field("x").type == pa.string()


# --- bad input, each named


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (Table("gone.parquet", "ts", "y"), "there is no file gone.parquet"),
        (Table("gone-*.csv", "ts", "y"), r"no file matches gone-\*.csv"),
        (Table("empty", "ts", "y"), "empty is a directory"),
        (Table("notes.txt", "ts", "y"), "notes.txt is not a table: want a file that ends in .parquet"),
        (Table("rows.*", "ts", "y"), "rows.* matches files of different kinds"),
        (Table("fake.parquet", "ts", "y"), "no snapshot of fake.parquet can be taken"),
        (Table("empty.csv", "ts", "y"), "empty.csv"),
        (Table("torn.csv", "ts", "y"), "torn.csv"),
        (Table("rows.parquet", "when", "y"), "rows.parquet has no time column 'when'; its columns: ts, x, y"),
        (Table("rows.csv", "ts", "Y"), "rows.csv has no label column 'Y'; its columns: ts, x, y"),
        (Table("rows.csv", "ts", "y", features=("x", "u", "v")), "has no feature column 'u', 'v'"),
        (Table("rows.csv", "ts", "y", exclude=("u",)), "has no excluded column 'u'"),
        (Table("rows.csv", "ts", "y", features=("x", "y")), "'y' of rows.csv is time, label or excluded"),
        (Table("rows.csv", "ts", "y", exclude=("x",)), "rows.csv has no feature columns"),
        (Table("rows.csv", "ts", None), "no label column is named for rows.csv"),
        (Table("rows.parquet", "x", "y"), "time column 'x' of rows.parquet is DOUBLE: want a date"),
        (Table("rows.csv", "x", "y"), "rows.csv"),
        (Table("american.csv", "ts", "y"), "american.csv can be taken: .*13/01/2026"),
        (Table("rows.csv", "ts", "y", time_zone="Mars/Olympus"), "Mars/Olympus"),
    ],
    ids=lambda value: "" if isinstance(value, str) else f"{value.path}-{value.time}-{value.label}",
)
def test_what_cannot_be_read_is_refused_by_name(tmp_path: Path, table: Table, message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("ts,x,y\n")
    (tmp_path / "fake.parquet").write_text("no table")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "torn.csv").write_text("ts,x,y\n2026-01-01,1,1\n2026-01-01,1,1,1,1\n")
    (tmp_path / "american.csv").write_text("ts,x,y\n13/01/2026,1,1\n")
    write_csv(tmp_path / "rows.csv", [row(0)])
    write_parquet(tmp_path / "rows.parquet", columns_of([row(0)]))

    with pytest.raises(Permanent, match=message) as refused:
        snapshot(tmp_path, table)
    assert "SELECT" not in str(refused.value)


def test_a_model_that_is_not_in_the_tables_is_named_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match=f"'other' .known: {MODEL}"):
        source_of(tmp_path).snapshot(SnapshotRequest("other", request(0, 1).window))


def test_a_folder_that_cannot_be_made_is_permanent(tmp_path: Path) -> None:
    write_parquet(tmp_path / "rows.parquet", columns_of([row(0)]))
    (tmp_path / "snapshots").write_text("in the way")

    with pytest.raises(Permanent, match=r"rows.parquet can be taken: .*snapshots"):
        snapshot(tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
def test_a_full_disk_is_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parquet(tmp_path / "rows.parquet", columns_of([row(0)]))

    made_by = tempfile.TemporaryDirectory

    def on_full_disk(prefix: str, dir: Path) -> tempfile.TemporaryDirectory[str]:
        made = made_by(prefix=prefix, dir=tmp_path)
        (Path(made.name) / "rows.parquet").symlink_to("/dev/full")
        return made

    monkeypatch.setattr("autoretrain.adapters.data_duckdb.tempfile.TemporaryDirectory", on_full_disk)

    with pytest.raises(Temporary, match="No space left on device"):
        snapshot(tmp_path)


def test_too_little_memory_is_temporary(tmp_path: Path) -> None:
    duckdb.execute(
        "COPY (SELECT TIMESTAMP '2026-01-01' AS ts, hash(i) AS x, 1 AS y FROM range(200000) t(i))"
        f" TO '{tmp_path}/rows.parquet' (FORMAT parquet)"
    )

    with pytest.raises(Temporary, match=r"rows.parquet can be taken now"):
        source_of(tmp_path, memory_limit="1MB").snapshot(request(0, 1))
    assert list((tmp_path / "snapshots" / MODEL).iterdir()) == []
