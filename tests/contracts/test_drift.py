import json
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from autoretrain.adapters import drift_evidently, drift_process
from autoretrain.adapters.compute_subprocess import SubprocessCompute
from autoretrain.adapters.drift_evidently import EvidentlyDrift
from autoretrain.adapters.memory import MemoryCompute, MemoryDrift
from autoretrain.entrypoints.testing.drift import (
    LABELS,
    DriftDetectorContract,
    MeasuringDriftContract,
    normal,
    write_snapshot,
)
from autoretrain.ports.compute import RunRequest, RunState, RunStatus
from autoretrain.ports.data import Snapshot
from autoretrain.ports.drift import ColumnDrift, DriftDetector, DriftReport
from autoretrain.ports.errors import MissingExtra, Permanent, Temporary
from autoretrain.ports.values import Pending


class TestEvidentlyDrift(MeasuringDriftContract):
    def detector(self, directory: Path) -> DriftDetector:
        return EvidentlyDrift(SubprocessCompute(directory / "runs"), directory / "reports")

    def test_keeps_a_page_that_needs_no_network(self, compared: tuple[DriftReport, DriftReport]) -> None:
        assert compared[0].page
        page = Path(compared[0].page).read_text()
        assert len(page) < 6_000_000
        assert "Drift in column 'moved'" in page
        assert 'src="http' not in page
        assert "<link" not in page.partition("<body>")[0]

    def test_damaged_rows_are_permanent_with_the_last_line_of_the_run(self, tmp_path: Path) -> None:
        rows = write_snapshot(tmp_path / "rows.parquet", {"same": normal()}, LABELS[0])
        with pytest.raises(Permanent, match=r"rows\.parquet is damaged"):
            self.compare(self.detector(tmp_path), rows, replace(rows, sha256="0" * 64))


class TestMemoryDrift(DriftDetectorContract):
    def detector(self, directory: Path) -> DriftDetector:
        return MemoryDrift()


# How runs that end in other ways are taken


@pytest.fixture
def rows(tmp_path: Path) -> Snapshot:
    return write_snapshot(tmp_path / "rows.parquet", {"same": normal()}, LABELS[0])


def ending(*states: RunState) -> MemoryCompute:
    """A compute whose runs take one state after the other."""
    left = list(states)
    return MemoryCompute(lambda run: RunStatus(left.pop(0), "the node is gone"))


def test_the_same_question_shares_one_run(rows: Snapshot, tmp_path: Path) -> None:
    compute = ending(RunState.PENDING, RunState.RUNNING)
    for _ in range(3):
        assert isinstance(EvidentlyDrift(compute, tmp_path / "reports").compare(rows, rows), Pending)
    assert list(compute.started.values()) == [1]


def test_other_rows_are_another_run(rows: Snapshot, tmp_path: Path) -> None:
    compute = MemoryCompute()
    detector = EvidentlyDrift(compute, tmp_path / "reports")
    detector.compare(rows, rows)
    detector.compare(rows, replace(rows, sha256="1" * 64))
    assert len(compute.started) == 2


@pytest.mark.parametrize("state", [RunState.LOST, RunState.SUCCEEDED])
def test_a_run_without_a_report_is_tried_three_times(rows: Snapshot, tmp_path: Path, state: RunState) -> None:
    compute = ending(state, state, state)
    detector = EvidentlyDrift(compute, tmp_path / "reports")
    for _ in range(3):
        assert isinstance(detector.compare(rows, rows), Pending)
    with pytest.raises(Permanent, match="lost 3 times: the node is gone"):
        detector.compare(rows, rows)
    assert len(compute.started) == 3


def test_a_failed_run_is_not_tried_again(rows: Snapshot, tmp_path: Path) -> None:
    compute = ending(RunState.FAILED)
    detector = EvidentlyDrift(compute, tmp_path / "reports")
    detector.compare(rows, rows)
    for _ in range(2):
        with pytest.raises(Permanent, match="failed: the node is gone"):
            detector.compare(rows, rows)
    assert len(compute.started) == 1


def test_a_run_gets_paths_and_nothing_of_our_environment(rows: Snapshot, tmp_path: Path) -> None:
    asked: list[RunRequest] = []

    def script(run: RunRequest) -> RunStatus:
        asked.append(run)
        return RunStatus(RunState.RUNNING)

    detector = EvidentlyDrift(MemoryCompute(script), tmp_path / "reports", deadline_seconds=7, python="py")
    empty = replace(rows, uri="", rows=0, sha256="")
    detector.compare(replace(rows, uri=f"file://{rows.uri}"), empty)
    detector.compare(replace(rows, uri=f"file://{rows.uri}"), empty)
    (run,) = asked
    request = json.loads(Path(run.command[-1], "request.json").read_text())
    assert run.command[0] == "py"
    assert run.deadline_seconds == 7
    assert not run.inherit_environment
    assert (request["reference"]["path"], request["current"]["path"]) == (rows.uri, "")
    assert request["features"] == ["same"]


def test_a_missing_library_is_named_before_anything_starts(
    rows: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drift_evidently, "find_spec", lambda name: None)
    compute = MemoryCompute()
    with pytest.raises(MissingExtra, match=r"autoretrain\[drift\]"):
        EvidentlyDrift(compute, tmp_path / "reports").compare(rows, rows)
    assert not compute.started


def test_a_directory_that_cannot_be_used_is_temporary(rows: Snapshot, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Temporary, match="Not a directory"):
        EvidentlyDrift(MemoryCompute(), tmp_path / "file" / "reports").compare(rows, rows)


def test_a_damaged_report_is_named(rows: Snapshot, tmp_path: Path) -> None:
    compute = ending(RunState.RUNNING)
    detector = EvidentlyDrift(compute, tmp_path / "reports")
    detector.compare(rows, rows)
    (folder,) = (tmp_path / "reports").iterdir()
    (folder / "report.json").write_text('{"v": 1, "columns": [{}]}')
    with pytest.raises(Permanent, match=str(folder)):
        detector.compare(rows, rows)


# What is settled before Evidently is asked


def compare_column(tmp_path: Path, reference: Any, current: Any) -> ColumnDrift:
    sides: list[Any] = []
    for name, values in (("reference", reference), ("current", current)):
        if values is None:
            sides.append(None)
            continue
        pq.write_table(pa.table({"x": values, "x.y": values}), tmp_path / name)
        sides.append(pq.ParquetFile(tmp_path / name))
    pages: list[Any] = []
    column = ColumnDrift(**drift_process.compare_column("x", sides[0], sides[1], pages))
    assert not pages, "Evidently was asked"
    assert (column.psi, column.ks_p) == (None, None)
    return column


NAMES = [str(number) for number in range(1500)]
MOMENT = datetime(2026, 5, 4)  # noqa: DTZ001  # as a Parquet file without time zones holds it


@pytest.mark.parametrize(
    ("reference", "current", "reason"),
    [
        ([1.0, 2.0], [None, float("nan")], "no values in the current data"),
        ([1.0, 2.0], [float("inf"), float("-inf")], "no values in the current data"),
        (pa.nulls(2), pa.nulls(2), "no values in the reference and the current data"),
        (pa.array([], pa.float64()), [1.0], "no values in the reference"),
        (None, [1.0], "no values in the reference"),
        (["a"], None, "no values in the current data"),
        ([1, 2], ["1", "2"], "mixed types: numeric in the reference, text in the current data"),
        ([True], [1], "mixed types: boolean in the reference, numeric in the current data"),
        ([MOMENT], [MOMENT], "values of type timestamp[us] cannot be compared"),
        ([[1]], [[1]], "values of type list<"),
        ([b"a"], [1], "values of type binary cannot be compared"),
        (NAMES, NAMES, "1500 categories, more than 1000"),
    ],
)
def test_what_cannot_be_compared(tmp_path: Path, reference: Any, current: Any, reason: str) -> None:
    column = compare_column(tmp_path, reference, current)
    assert reason in column.reason


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, None], "numeric"),
        (pa.array([1.5, None], pa.float32()), "numeric"),
        (pa.array([2**63, None], pa.uint64()), "numeric"),
        (pa.array([Decimal("1.5"), None]), "numeric"),
        (["a", None], "categorical"),
        ([True, None], "categorical"),
        (pa.array(["a", None]).dictionary_encode(), "categorical"),
        (pa.array([7, None]).dictionary_encode(), "numeric"),
    ],
)
def test_kinds_follow_the_type_in_the_file(tmp_path: Path, values: Any, kind: str) -> None:
    column = compare_column(tmp_path, values, None)
    assert (column.kind, column.reference_rows, column.current_rows) == (kind, 1, 0)
