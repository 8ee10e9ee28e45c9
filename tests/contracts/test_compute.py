"""The behaviour promised by the port, over every adapter."""

from __future__ import annotations

from pathlib import Path

from autoretrain.adapters.compute_subprocess import SubprocessCompute
from autoretrain.entrypoints.testing.compute import ComputeContract
from autoretrain.ports.compute import Compute


class TestSubprocessCompute(ComputeContract):
    def make_compute(self, directory: Path) -> Compute:
        return SubprocessCompute(directory, grace_seconds=1.0)
