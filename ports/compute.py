"""Execution of commands: training, prediction, drift reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal, Protocol


class RunState(Enum):
    """Where a run stands. ``LOST`` means that its outcome can no longer be known."""

    ABSENT = "absent"
    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    LOST = "lost"

    @property
    def ended(self) -> bool:
        """Whether the run will not change any more."""
        return self in (RunState.SUCCEEDED, RunState.FAILED, RunState.LOST)


SandboxChoice = Literal["auto", "required", "none"]


@dataclass(frozen=True, slots=True)
class RunLimits:
    """The most that a run may take, all its processes together; beyond it the run is ended and has failed.

    Attributes:
        memory_bytes: Memory in use.
        cpu_seconds: Processor time.
        processes: Processes and threads at the same time.
        output_bytes: What it prints; and, counted apart, what it keeps on the disk.
    """

    memory_bytes: int = 8 << 30
    cpu_seconds: float = 3600.0
    processes: int = 512
    output_bytes: int = 1 << 30


@dataclass(frozen=True, slots=True)
class Isolation:
    """How a run whose code is not trusted is kept apart.

    The limits always hold. Of the rest an adapter does what its system can, and says in its log what it
    cannot. Such a run gets no environment but that of its request, whatever ``inherit_environment`` says.

    Attributes:
        limits: The most it may take.
        readable: Files and directories that it may read, absolute, beside the system's own programs.
        writable: Directories that it may write, absolute; what it wrote is found there once it has ended.
        hidden: Directories that it must not see where they lie within a readable one, absolute.
        network: Whether it may open connections.
        sandbox: ``auto`` takes what the system can do, ``required`` refuses the run where that is not all of
            this, ``none`` asks for the limits alone.
    """

    limits: RunLimits = RunLimits()
    readable: tuple[str, ...] = ()
    writable: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    network: bool = False
    sandbox: SandboxChoice = "auto"


@dataclass(frozen=True, slots=True)
class RunRequest:
    """One execution.

    Attributes:
        key: Identity of the run, chosen by the caller; submitting a key twice starts it once.
        command: Program and arguments; never passed through a shell.
        environment: Variables added to the run's environment.
        directory: Working directory; ``None`` for one of the run's own.
        deadline_seconds: The run is ended when it takes longer, and has then failed.
        inherit_environment: Whether it also gets the controller's environment. Predictions do not.
        isolation: How it is kept apart; ``None`` for a command that is trusted, such as a training.
        labels: What the run is for (``model``, ``job``, ``attempt``), for people and for where it is put;
            no part of its identity.
    """

    key: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: str | None = None
    deadline_seconds: float = 3600.0
    inherit_environment: bool = True
    isolation: Isolation | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunStatus:
    """What is known about a run.

    Attributes:
        state: Where it stands; ``ABSENT`` when no such key was ever submitted.
        reason: Why it failed or was lost, in words; empty otherwise.
        exit_code: Exit status of the command, 128 + n when signal n ended it; ``None`` while it runs or when
            it is unknown.
        seconds: How long it has run, or ran; ``None`` before it starts.
        nodes: Class of the nodes that it runs on (``spot``); empty where there are no classes.
        cost: What it has cost once it has ended, in the currency of the prices that were set; ``None`` when
            nobody set one.
    """

    state: RunState
    reason: str = ""
    exit_code: int | None = None
    seconds: float | None = None
    nodes: str = ""
    cost: float | None = None


class Compute(Protocol):
    """Runs commands and remembers how they ended, also across restarts of the controller."""

    def submit(self, run: RunRequest) -> None:
        """Start a run, once.

        A key that is already known with the same request is adopted: nothing is started. Whoever calls may
        have died in an earlier call, before or after it took effect.

        Args:
            run: What to execute.

        Raises:
            Temporary: It cannot be started now (no capacity, disk full).
            Permanent: It cannot be started at all, the key is known with another request, or the system
                cannot keep it apart as it is required.
        """
        ...

    def observe(self, key: str) -> RunStatus:
        """Say where a run stands. Never starts anything.

        Args:
            key: Key of the run.

        Returns:
            The status; ``ABSENT`` for an unknown key. An ended run stays observable.

        Raises:
            Temporary: The backend cannot be reached.
        """
        ...

    def cancel(self, key: str) -> None:
        """End a run and everything it started. An unknown or ended run is left as it is.

        Returns at once; the run may take its grace period to end, and has then failed as cancelled.

        Args:
            key: Key of the run.

        Raises:
            Temporary: The backend cannot be reached.
        """
        ...

    def log_tail(self, key: str, lines: int = 50) -> str:
        """Return the end of what a run printed.

        Args:
            key: Key of the run.
            lines: At most so many lines.

        Returns:
            Text, empty when the run is unknown or has printed nothing.

        Raises:
            Temporary: The backend cannot be reached.
        """
        ...
