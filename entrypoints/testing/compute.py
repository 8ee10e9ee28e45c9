"""What every ``Compute`` must do, as a suite to be run over an implementation."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ...ports.compute import Compute, Isolation, RunLimits, RunRequest, RunState, RunStatus
from ...ports.errors import Permanent

_LIVE = (RunState.PENDING, RunState.RUNNING)


class ComputeContract:
    """Where runs stand, and that nothing is started twice. Subclass it as ``Test…``; pytest does the rest.

    Override ``make_compute``, ``succeeding``, ``failing``, ``sleeping`` and ``times_started``. For an adapter
    that really executes commands, subclass ``ExecutingComputeContract`` instead.

    Attributes:
        settle_seconds: How long a run of these tests may take at most.
        poll_seconds: Time between two looks.
    """

    settle_seconds: float = 15.0
    poll_seconds: float = 0.01

    def make_compute(self, directory: Path) -> Compute:
        """Return the adapter under test.

        Args:
            directory: This test's own; not there yet. Called with it a second time, it must return an
                adapter that knows the same runs, as a restarted controller would make it.
        """
        raise NotImplementedError

    def succeeding(self, key: str) -> RunRequest:
        """Return a run that exits with 0."""
        raise NotImplementedError

    def failing(self, key: str) -> RunRequest:
        """Return a run that exits with 3."""
        raise NotImplementedError

    def sleeping(self, key: str, seconds: float) -> RunRequest:
        """Return a run that takes so long and then exits with 0."""
        raise NotImplementedError

    def times_started(self, compute: Compute, key: str) -> int:
        """Return how many times the command of a ``succeeding`` run, now ended, was started."""
        raise NotImplementedError

    def settle(self, compute: Compute, key: str) -> RunStatus:
        """Wait until a run has ended, and return how.

        Args:
            compute: The adapter under test.
            key: Key of a run that was submitted.
        """
        return self.await_state(compute, key, RunState.SUCCEEDED, RunState.FAILED, RunState.LOST)

    def await_state(self, compute: Compute, key: str, *states: RunState) -> RunStatus:
        """Wait until a run is in one of these states, and return its status.

        Args:
            compute: The adapter under test.
            key: Key of a run that was submitted.
            states: What to wait for.
        """
        until = time.monotonic() + self.settle_seconds
        while (status := compute.observe(key)).state not in states:
            assert time.monotonic() < until, f"run {key} is still {status} after {self.settle_seconds} s"
            time.sleep(self.poll_seconds)
        return status

    @pytest.fixture
    def directory(self, tmp_path: Path) -> Path:
        return tmp_path / "runs"

    @pytest.fixture
    def compute(self, directory: Path) -> Compute:
        return self.make_compute(directory)

    def test_an_unknown_run_is_absent_and_asking_changes_nothing(self, compute: Compute) -> None:
        assert compute.observe("nobody") == RunStatus(RunState.ABSENT)
        assert compute.log_tail("nobody") == ""
        compute.cancel("nobody")
        assert compute.observe("nobody") == RunStatus(RunState.ABSENT)

    def test_a_run_that_was_cancelled_before_it_was_known_can_be_submitted(self, compute: Compute) -> None:
        compute.cancel("run")
        compute.submit(self.succeeding("run"))
        assert self.settle(compute, "run").state is RunState.SUCCEEDED

    def test_success(self, compute: Compute) -> None:
        compute.submit(self.succeeding("run"))
        assert compute.observe("run").state is not RunState.ABSENT
        status = self.settle(compute, "run")
        assert (status.state, status.reason, status.exit_code) == (RunState.SUCCEEDED, "", 0)
        assert status.seconds is not None
        assert status.seconds >= 0

    def test_failure_says_why(self, compute: Compute) -> None:
        compute.submit(self.failing("run"))
        status = self.settle(compute, "run")
        assert (status.state, status.exit_code) == (RunState.FAILED, 3)
        assert status.reason

    def test_an_ended_run_stays_observable_and_does_not_change(self, compute: Compute) -> None:
        compute.submit(self.failing("run"))
        ended = self.settle(compute, "run")
        compute.cancel("run")
        compute.submit(self.failing("run"))
        assert compute.observe("run") == ended

    def test_a_run_under_way_is_seen(self, compute: Compute) -> None:
        compute.submit(self.sleeping("run", 60))
        assert compute.observe("run").state in _LIVE
        status = self.await_state(compute, "run", RunState.RUNNING)
        assert (status.exit_code, status.reason) == (None, "")
        compute.cancel("run")
        self.settle(compute, "run")

    def test_cancel_ends_a_run_that_has_then_failed(self, compute: Compute) -> None:
        compute.submit(self.sleeping("run", 60))
        self.await_state(compute, "run", RunState.RUNNING)
        compute.cancel("run")
        compute.cancel("run")
        status = self.settle(compute, "run")
        assert status.state is RunState.FAILED
        assert "cancel" in status.reason

    def test_cancel_right_after_submit(self, compute: Compute) -> None:
        compute.submit(self.sleeping("run", 60))
        compute.cancel("run")
        assert self.settle(compute, "run").state is RunState.FAILED

    def test_cancel_touches_no_other_run(self, compute: Compute) -> None:
        compute.submit(self.sleeping("one", 60))
        compute.submit(self.sleeping("two", 60))
        compute.cancel("one")
        self.settle(compute, "one")
        assert compute.observe("two").state in _LIVE
        compute.cancel("two")
        self.settle(compute, "two")

    def test_a_key_submitted_again_is_started_once(self, compute: Compute) -> None:
        for _ in range(3):
            compute.submit(self.succeeding("run"))
        self.settle(compute, "run")
        compute.submit(self.succeeding("run"))
        self.settle(compute, "run")
        assert self.times_started(compute, "run") == 1

    def test_a_key_with_another_request_is_refused(self, compute: Compute) -> None:
        compute.submit(self.succeeding("run"))
        others = (
            self.failing("run"),
            replace(self.succeeding("run"), environment={"LEVEL": "2"}),
            replace(self.succeeding("run"), deadline_seconds=7.0),
        )
        for other in others:
            with pytest.raises(Permanent):
                compute.submit(other)
        assert self.settle(compute, "run").state is RunState.SUCCEEDED

    def test_runs_of_other_keys_are_others(self, compute: Compute) -> None:
        compute.submit(self.succeeding("models/a b/1"))
        compute.submit(self.failing("models/a-b/1"))
        assert self.settle(compute, "models/a b/1").state is RunState.SUCCEEDED
        assert self.settle(compute, "models/a-b/1").state is RunState.FAILED

    def test_a_restarted_controller_finds_the_run_and_starts_no_second(
        self, compute: Compute, directory: Path
    ) -> None:
        compute.submit(self.sleeping("long", 60))
        compute.submit(self.succeeding("short"))
        ended = self.settle(compute, "short")
        later = self.make_compute(directory)
        assert later.observe("long").state in _LIVE
        assert later.observe("short") == ended
        later.submit(self.succeeding("short"))
        assert self.times_started(later, "short") == 1
        later.cancel("long")
        assert self.settle(compute, "long").state is RunState.FAILED


class ExecutingComputeContract(ComputeContract):
    """The same for an adapter that executes, and what its commands get and print. Override ``make_compute``.

    The commands are programs for a Python interpreter.

    Attributes:
        python: The interpreter, as the place where the commands run knows it.
        readable: What a run that is kept apart has to read to start it.
    """

    python: str = sys.executable
    readable: tuple[str, ...] = (sys.prefix, sys.base_prefix)

    def succeeding(self, key: str) -> RunRequest:
        return self.program(key, "print('started')")

    def failing(self, key: str) -> RunRequest:
        return self.program(key, "raise SystemExit(3)")

    def sleeping(self, key: str, seconds: float) -> RunRequest:
        return self.program(key, "import sys, time; time.sleep(float(sys.argv[1]))", str(seconds))

    def times_started(self, compute: Compute, key: str) -> int:
        return compute.log_tail(key).splitlines().count("started")

    def printing(self, key: str, *lines: str) -> RunRequest:
        """Return a run that prints these lines and exits with 0."""
        return self.program(key, "import sys; print(*sys.argv[1:], sep='\\n')", *lines)

    def program(self, key: str, text: str, *arguments: str) -> RunRequest:
        """Return a run of a Python program.

        Args:
            key: Key of the run.
            text: The program.
            arguments: What it finds after the first item of ``sys.argv``.
        """
        return RunRequest(key, (self.python, "-c", text, *arguments))

    def test_the_deadline_ends_a_run_that_has_then_failed(self, compute: Compute) -> None:
        compute.submit(replace(self.sleeping("run", 60), deadline_seconds=0.2))
        status = self.settle(compute, "run")
        assert status.state is RunState.FAILED
        assert "deadline" in status.reason

    def test_the_tail_of_the_log(self, compute: Compute) -> None:
        compute.submit(self.printing("run", *(f"line {number}" for number in range(100))))
        self.settle(compute, "run")
        assert compute.log_tail("run", 2).splitlines() == ["line 98", "line 99"]
        assert len(compute.log_tail("run").splitlines()) == 50
        assert len(compute.log_tail("run", 1000).splitlines()) == 100

    def test_no_shell_reads_the_command(self, compute: Compute) -> None:
        words = "$HOME; echo `id` 'a' \"b\" *"
        compute.submit(self.printing("run", words))
        self.settle(compute, "run")
        assert compute.log_tail("run").strip() == words

    def test_the_environment_of_the_request_is_given(self, compute: Compute) -> None:
        run = self.program("run", "import os; print(os.environ['GREETING'])")
        compute.submit(replace(run, environment={"GREETING": "Grüß Gott = 1"}))
        self.settle(compute, "run")
        assert compute.log_tail("run").strip() == "Grüß Gott = 1"

    def apart(self, run: RunRequest, limits: RunLimits = RunLimits()) -> RunRequest:  # noqa: B008 - frozen
        """Return the same run as one that is not trusted."""
        return replace(run, isolation=Isolation(limits, readable=self.readable))

    def test_a_run_that_is_kept_apart_has_its_request_and_no_environment(
        self, compute: Compute, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DATABASE_PASSWORD", "secret")
        text = "import os; print('DATABASE_PASSWORD' in os.environ, os.environ['GREETING'])"
        run = replace(self.program("run", text), environment={"GREETING": "hello"})
        compute.submit(self.apart(run))
        assert self.settle(compute, "run").state is RunState.SUCCEEDED
        assert compute.log_tail("run").strip() == "False hello"

    def test_a_run_that_takes_more_memory_than_it_may_has_failed(self, compute: Compute) -> None:
        text = "import time; kept = [b'x' * (8 << 20) for _ in range(40)]; time.sleep(60)"
        compute.submit(self.apart(self.program("run", text), RunLimits(memory_bytes=128 << 20)))
        status = self.settle(compute, "run")
        assert status.state is RunState.FAILED
        assert status.reason

    def test_a_run_with_other_limits_is_another(self, compute: Compute) -> None:
        compute.submit(self.apart(self.succeeding("run")))
        with pytest.raises(Permanent):
            compute.submit(self.apart(self.succeeding("run"), RunLimits(processes=17)))
        self.settle(compute, "run")
