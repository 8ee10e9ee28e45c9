"""Runs commands as processes of this machine that outlive the controller."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from ..ports.compute import RunRequest, RunState, RunStatus
from ..ports.credentials import without_credentials
from ..ports.errors import Permanent, Temporary
from . import compute_supervisor as supervisor
from .sandbox import Sandbox, find_sandbox

_log = logging.getLogger(__name__)

_WITHOUT_INHERITANCE = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "LD_LIBRARY_PATH")
"""What a command needs to find programs and speak its user's language; nothing that could hold a secret."""

_KEPT_APART = ("LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH")
"""The same for a command that is not trusted, which gets fixed places instead of the user's."""

_NOT_NOW = supervisor.DISK_FULL | {
    errno.EAGAIN,
    errno.ENOMEM,
    errno.EMFILE,
    errno.ENFILE,
    errno.EIO,
    errno.EINTR,
    errno.ESTALE,
}

_VANISHED = (
    "its supervisor was killed or the machine restarted; whether the command did its work is not known, "
    "and what was left of it has been ended"
)


class SubprocessCompute:
    """Compute on this machine: one directory and one supervising process a run.

    Neither the end nor the kill of the controller touches a run, and any later instance over the same
    directory finds it and how it ended. Everything a command started ends with it, also what left its process
    group (Linux). Whether a run lives is told by a lock that its supervisor holds, never by a process id.
    Directories of ended runs stay until somebody removes them.

    Needs a POSIX system and a local file system, and in a container an init as its first process, since that
    is who adopts the supervisors. A service manager that ends the controller with all it started ends the
    runs too, and they are lost; under systemd, ``KillMode=process`` lets them go on.

    A run with ``isolation`` is started in the best sandbox that works here; what that is stands in its
    ``request.json``, and in the log once where it is not everything. Its limits are held by the supervisor,
    which looks some ten times a second: a run may pass one for a moment. It gets no time to tidy up.

    Args:
        directory: Where the runs are kept; created when missing, for the owner only.
        max_parallel: How many commands run at once, over all instances on this directory; the others are
            pending. ``None`` for the number of processors.
        grace_seconds: Time between asking a run to end (SIGTERM) and killing it.
        log_bytes: At least so much of a run's newest output is kept, and at most twice as much.
        python: Interpreter that runs the supervisor, and commands that name just ``python``: on the path of a
            service there often is another one, or none.
        base: Where the relative working directory of a run starts.
        withheld: Variables of the controller that no run gets: its own secrets.
        variables: Further variables of runs that inherit the controller's; they win over those.
        sandbox: What keeps isolated runs apart; ``None`` takes the best that works on this machine.
    """

    def __init__(
        self,
        directory: Path,
        *,
        max_parallel: int | None = None,
        grace_seconds: float = 10.0,
        log_bytes: int = 1_000_000,
        python: str = sys.executable,
        base: Path = Path(),
        withheld: Collection[str] = (),
        variables: Mapping[str, str] | None = None,
        sandbox: Sandbox | None = None,
    ) -> None:
        self._directory = directory.absolute()
        self._sandbox = sandbox
        self._warned = False
        self._base = base.absolute()
        self._withheld = frozenset(withheld)
        self._more = dict(variables or {})
        self._max_parallel = max_parallel or os.cpu_count() or 1
        self._grace_seconds = grace_seconds
        self._log_bytes = log_bytes
        self._python = python

    def submit(self, run: RunRequest) -> None:
        """Start a run, once; see ``Compute.submit``.

        A command that cannot be started (no such program, no such directory) is a run that failed, not an
        error of this call.
        """
        _check(run)
        run = self._with_checkpoints(run)
        folder = self._folder(run.key)
        try:
            self._make(folder)
            with _guard(folder):
                self._adopt_or_write(folder, run)
                self._start_unless_known(folder, run)
        except OSError as error:
            message = _in_words(error, "start", run.key)
            raise (Temporary if error.errno in _NOT_NOW else Permanent)(message) from error

    def observe(self, key: str) -> RunStatus:
        """Say where a run stands; see ``Compute.observe``.

        A run whose supervisor never came up is absent: submitting it again starts it. The first look at a
        lost run ends whatever is left of it.
        """
        folder = self._folder(key)
        try:
            return _ended(folder) or _look(folder)
        except OSError as error:
            raise Temporary(_in_words(error, "observe", key)) from error

    def cancel(self, key: str) -> None:
        """End a run and everything it started; see ``Compute.cancel``."""
        folder = self._folder(key)
        try:
            if (folder / supervisor.REQUEST).exists() and _ended(folder) is None:
                (folder / supervisor.CANCEL).touch(mode=0o600)
        except OSError as error:
            raise Temporary(_in_words(error, "cancel", key)) from error

    def log_tail(self, key: str, lines: int = 50) -> str:
        """Return the end of what a run printed; see ``Compute.log_tail``."""
        try:
            output = (self._folder(key) / supervisor.LOG).read_bytes()
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise Temporary(_in_words(error, "read the log of", key)) from error
        kept = output.decode("utf-8", errors="replace").removesuffix("\n").split("\n")
        return without_credentials("\n".join(kept[max(0, len(kept) - lines) :]))

    def _with_checkpoints(self, run: RunRequest) -> RunRequest:
        """Name the directory in which the attempts of a job leave what the next one goes on from."""
        job = run.labels.get("job")
        if job is None or run.isolation is not None:
            return run
        directory = self._directory / "checkpoints" / hashlib.sha256(job.encode()).hexdigest()[:32]
        return replace(run, environment={**run.environment, "AUTORETRAIN_CHECKPOINTS": str(directory)})

    def _folder(self, key: str) -> Path:
        return self._directory / hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:32]

    def _make(self, folder: Path) -> None:
        if folder.is_dir():
            return
        slots = self._directory / "slots"
        for path in (self._directory, slots, folder):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        supervisor.sync_directory(str(self._directory))

    def _adopt_or_write(self, folder: Path, run: RunRequest) -> None:
        wanted = _plain(run)
        order = supervisor.read_record(str(folder / supervisor.REQUEST))
        if order is None:
            supervisor.write_record(str(folder / supervisor.REQUEST), self._order(folder, run, wanted))
        elif order["run"] != wanted:
            names = [name for name in wanted if order["run"].get(name) != wanted[name]]
            raise Permanent(f"run {run.key} is known with another request: {', '.join(names)} differs")

    def _order(self, folder: Path, run: RunRequest, wanted: dict[str, Any]) -> dict[str, object]:
        """What the supervisor is told: the request, and how this instance wants it done."""
        program, *arguments = run.command
        slots = [str(self._directory / "slots" / str(number)) for number in range(self._max_parallel)]
        order: dict[str, object] = {
            "run": wanted,
            "command": [self._python if program == "python" else program, *arguments],
            "directory": None if run.directory is None else str(self._base / run.directory),
            "slots": slots,
            "grace_seconds": self._grace_seconds,
            "log_bytes": self._log_bytes,
        }
        return order | self._apart(folder, run, order) if run.isolation else order

    def _apart(self, folder: Path, run: RunRequest, order: dict[str, Any]) -> dict[str, object]:
        """What is different for a run whose code is not trusted."""
        assert run.isolation is not None  # noqa: S101 - for the type checker
        sandbox = find_sandbox(run.isolation.sandbox, self._sandbox)
        if sandbox.open and not self._warned:
            self._warned = True
            _log.warning("runs that are not trusted: %s", sandbox.words)
        directory = order["directory"] or supervisor.own_directory(str(folder))
        writable = tuple(dict.fromkeys((*run.isolation.writable, directory)))
        isolation = replace(run.isolation, writable=writable)
        places = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": directory,
            "TMPDIR": directory,
            "USER": "nobody",
        }
        return {
            "command": sandbox.wrapped(order["command"], isolation, directory),
            "grace_seconds": 0.0,
            "sandbox": {
                "tool": sandbox.tool,
                "denied": sandbox.denied,
                "open": sandbox.open,
                "reason": sandbox.reason,
                "writable": writable,
                "environment": {**_variables(_KEPT_APART), **places},
            },
        }

    def _start_unless_known(self, folder: Path, run: RunRequest) -> None:
        if _ended(folder) is not None:
            return
        with _lock(folder) as lock:
            if lock is not None and _settled(folder) is None:
                self._start(folder, run, lock)

    def _start(self, folder: Path, run: RunRequest, lock: int) -> None:
        """Start the supervisor, which takes over the lock, and wait until it has left us."""
        command = [self._python, "-I", "-S", "-X", "utf8", supervisor.__file__, str(folder)]
        with open(folder / "supervisor.log", "ab", opener=_private) as log:
            started = subprocess.run(
                command,
                env=self._environment(run.inherit_environment and run.isolation is None),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                pass_fds=(lock,),
                start_new_session=True,
                check=False,
            )
        if started.returncode != 0:
            raise Temporary(f"run {run.key} could not be started: its supervisor ended at once ({log.name})")

    def _environment(self, inherit: bool) -> dict[str, str]:
        if not inherit:
            return _variables(_WITHOUT_INHERITANCE)
        return {**_variables(set(os.environ) - self._withheld), **self._more}


def _check(run: RunRequest) -> None:
    if not run.command:
        raise Permanent(f"run {run.key} has no command")
    if math.isnan(run.deadline_seconds) or run.deadline_seconds <= 0:
        raise Permanent(f"run {run.key} has a deadline of {run.deadline_seconds} s; it must be above 0")


def _variables(names: Collection[str]) -> dict[str, str]:
    return {name: os.environ[name] for name in names if name in os.environ}


def _plain(run: RunRequest) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "key": run.key,
        "command": list(run.command),
        "environment": dict(run.environment),
        "directory": run.directory,
        "deadline_seconds": run.deadline_seconds,
        "inherit_environment": run.inherit_environment,
    }
    if run.isolation:  # left out where there is none: a request of an earlier release reads the same
        plain["isolation"] = json.loads(json.dumps(asdict(run.isolation)))
    return plain


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


@contextlib.contextmanager
def _guard(folder: Path) -> Iterator[None]:
    """Let one process or thread at a time decide about a run; held for milliseconds."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        # Unlocked by name: a process forked meanwhile may hold a copy of the descriptor.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[int | None]:
    """Hold the run's lock, as a descriptor; ``None`` while its supervisor lives. Only under the guard.

    It is let go by closing alone, so that a supervisor started meanwhile keeps it.
    """
    descriptor = os.open(folder / supervisor.LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield descriptor if supervisor.try_lock(descriptor) else None
    finally:
        os.close(descriptor)


def _look(folder: Path) -> RunStatus:
    """Status of a run that had not ended a moment ago."""
    if not (folder / supervisor.REQUEST).exists():
        return RunStatus(RunState.ABSENT)
    with _guard(folder), _lock(folder) as lock:
        if lock is None:
            return _ended(folder) or _alive(folder)
        return _settled(folder) or RunStatus(RunState.ABSENT)


def _ended(folder: Path) -> RunStatus | None:
    status = supervisor.read_record(str(folder / supervisor.STATUS))
    if status is None:
        return None
    return RunStatus(
        RunState(status["state"]), status["reason"], status.get("exit_code"), status.get("seconds")
    )


def _alive(folder: Path) -> RunStatus:
    started = supervisor.read_record(str(folder / supervisor.STARTED))
    if started is None:
        return RunStatus(RunState.PENDING)
    # The clock counts for the whole machine, and the supervisor lives, so it has not restarted since.
    return RunStatus(RunState.RUNNING, seconds=max(0.0, time.monotonic() - started["monotonic"]))


def _settled(folder: Path) -> RunStatus | None:
    """How a run without a supervisor ended; ``None`` when it never began. Holds the lock."""
    if (ended := _ended(folder)) is not None:
        return ended
    started = supervisor.read_record(str(folder / supervisor.STARTED))
    if started is None:
        return None
    _kill_marked(started["token"])
    with contextlib.suppress(OSError):  # a full disk: the next look finds the same
        supervisor.write_record(
            str(folder / supervisor.STATUS), {"state": RunState.LOST.value, "reason": _VANISHED}
        )
    return RunStatus(RunState.LOST, _VANISHED)


def _kill_marked(token: str) -> None:
    """Kill every process whose environment carries a run's token, and nothing else.

    A process id can belong to a stranger by now, the token cannot: it is random, and inherited only by what
    the run started. Does nothing where ``/proc`` does not tell.
    """
    mark = f"{supervisor.TOKEN}={token}".encode()
    for _ in range(10):  # again, for what was forked while we looked
        marked = [pid for pid in supervisor.process_ids() if _carries(pid, mark)]
        if not marked:
            return
        for pid in marked:
            supervisor.signal_if(pid, signal.SIGKILL, partial(_carries, pid, mark))
        time.sleep(0.005)


def _carries(pid: int, mark: bytes) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return mark in file.read().split(b"\0")
    except OSError:  # gone, or another user's
        return False


def _in_words(error: OSError, doing: str, key: str) -> str:
    message = f"cannot {doing} run {key}: {error.strerror or error}"
    return f"{message} ({os.fsdecode(error.filename)})" if error.filename else message
