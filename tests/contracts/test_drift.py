import json
import math
import os
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from autoretrain.adapters import drift_process
from autoretrain.adapters.compute_subprocess import SubprocessCompute
from autoretrain.adapters.drift_evidently import EvidentlyDrift
from autoretrain.adapters.memory import MemoryCompute, MemoryDrift
from autoretrain.entrypoints.testing.drift import LABELS, DriftDetectorContract, normal, write_snapshot
from autoretrain.ports.compute import RunState
from autoretrain.ports.data import Snapshot
from autoretrain.ports.drift import DriftDetector, DriftReport
from autoretrain.ports.errors import Permanent
from autoretrain.ports.values import Pending


class TestEvidentlyDrift(DriftDetectorContract):
    def detector(self, directory: Path) -> DriftDetector:
        return EvidentlyDrift(SubprocessCompute(directory / "runs"), directory / "reports")

    def test_keeps_a_page_that_needs_no_network(self, compared: tuple[DriftReport, DriftReport]) -> None:
        assert compared[0].page
        page = Path(compared[0].page).read_text()
        assert len(page) < 6_000_000
        assert "Drift in column &#x27;moved&#x27;" in page or "Drift in column 'moved'" in page
        assert not any(f'{attribute}="http' in page for attribute in ("src", "<link href"))

    def test_a_failed_run_is_permanent_with_its_last_line(self, tmp_path: Path) -> None:
        reference = write_snapshot(tmp_path / "rows.parquet", {"same": normal()}, LABELS[0])
        damaged = replace(reference, sha256="0" * 64)
        with pytest.raises(Permanent, match=r"rows\.parquet is damaged"):
            self.compare(self.detector(tmp_path), reference, damaged)


class TestMemoryDrift(DriftDetectorContract):
    def detector(self, directory: Path) -> DriftDetector:
        return MemoryDrift()
