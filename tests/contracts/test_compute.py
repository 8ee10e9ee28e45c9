"""The behaviour promised by the port, over every adapter."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoretrain.adapters.compute_subprocess import SubprocessCompute
from autoretrain.adapters.memory import MemoryCompute
from autoretrain.entrypoints.testing.compute import ComputeContract, ExecutingComputeContract
from autoretrain.ports.compute import Compute, RunRequest, RunState, RunStatus


class TestSubprocessCompute(ExecutingComputeContract):
    def make_compute(self, directory: Path) -> Compute:
        return SubprocessCompute(directory, grace_seconds=1.0)

    @pytest.fixture
    def directory(self, tmp_path: Path) -> Iterator[Path]:
        path = tmp_path / "runs"
        yield path
        for lock in path.glob("*/lock"):  # a supervisor lives a moment longer than its run
            with lock.open() as file:
                fcntl.flock(file, fcntl.LOCK_EX)


class TestMemoryCompute(ComputeContract):
    OUTCOMES = {  # noqa: RUF012 - never changed
        "succeed": RunStatus(RunState.SUCCEEDED, exit_code=0, seconds=1.0),
        "fail": RunStatus(RunState.FAILED, "exited with status 3", exit_code=3, seconds=1.0),
        "sleep": RunStatus(RunState.RUNNING, seconds=1.0),
    }
    compute_of_test: MemoryCompute | None = None

    def make_compute(self, directory: Path) -> Compute:
        if self.compute_of_test is None:
            self.compute_of_test = MemoryCompute(lambda run: self.OUTCOMES[run.command[0]])
        return self.compute_of_test

    def succeeding(self, key: str) -> RunRequest:
        return RunRequest(key, ("succeed",))

    def failing(self, key: str) -> RunRequest:
        return RunRequest(key, ("fail",))

    def sleeping(self, key: str, seconds: float) -> RunRequest:
        return RunRequest(key, ("sleep", str(seconds)))

    def times_started(self, compute: Compute, key: str) -> int:
        assert isinstance(compute, MemoryCompute)
        return compute.started[key]
