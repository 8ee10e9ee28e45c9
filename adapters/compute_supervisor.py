"""Runs one command to its end and records how it ended.

``compute_subprocess`` starts this file by its path, as ``python -I -S compute_supervisor.py RUN``: it
imports the standard library only, is up in milliseconds, and works the same however the package was
installed. It leaves the caller's session and is adopted by init, so that nothing that happens to the
controller touches the run.

What a run leaves in its directory ``RUN``:

=================  ====================================================================================
``request.json``   what to do, written by the caller before the supervisor starts
``lock``           locked for as long as the supervisor lives; says "alive" where a process id could lie
``started.json``   written before the command starts: from here on it may have had effects
``cancel``         present once somebody wants the run to end
``log``            the newest output of the command
``status.json``    how it ended; written last, after nothing of the run is left
=================  ====================================================================================

The caller takes the lock and hands it over as an open descriptor, which only the end of the supervisor
closes, so there is no moment in between at which the run looks dead.
"""

from __future__ import annotations

import os

if __name__ == "__main__" and os.fork():
    # Before all else: the caller waits for this first process alone, and init adopts the second.
    os._exit(0)

import contextlib
import errno
import fcntl
import json
import resource
import selectors
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

REQUEST = "request.json"
LOCK = "lock"
STARTED = "started.json"
CANCEL = "cancel"
LOG = "log"
STATUS = "status.json"
WORK = "work"

TOKEN = "AUTORETRAIN_RUN_TOKEN"  # noqa: S105 - the name of a variable
"""Environment variable that marks everything a run started; its value is drawn anew for every start."""

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
DROPPED = b"[earlier output was dropped]\n"

_POLL_SECONDS = 0.1
_SLOT_POLL_SECONDS = 0.5
_KILL_SECONDS = 5.0
_CHUNK = 65_536
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_DISK_SECONDS = 0.5
_MOST_FILES = 10_000
_MOST_DESCRIPTORS = 1024


def write_record(path: str, record: Mapping[str, object]) -> None:
    """Write a JSON file that is there whole or not at all, readable by its owner only, and on the disk.

    Args:
        path: The file. One writer at a time.
        record: What to write; the version of the format is added as ``v``.

    Raises:
        OSError: It could not be written; an earlier file is as it was.
    """
    draft = f"{path}.tmp"
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:
        json.dump({"v": 1, **record}, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)
    sync_directory(os.path.dirname(path))


def sync_directory(path: str) -> None:
    """Bring the names in a directory to the disk.

    Args:
        path: The directory.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_record(path: str) -> dict[str, Any] | None:
    """Read what ``write_record`` wrote.

    Args:
        path: The file.

    Returns:
        The record; ``None`` when there is no such file.

    Raises:
        OSError: It cannot be read, or is damaged.
    """
    try:
        with open(path, encoding="ascii") as file:
            record: dict[str, Any] = json.load(file)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise OSError(errno.EIO, "the file is damaged", path) from error
    return record


def write_in_the_end(path: str, record: Mapping[str, object], pause: float = 1.0) -> None:
    """Write a record that is known nowhere else: on a full disk try until there is room.

    Args:
        path: The file.
        record: What to write.
        pause: Seconds between two tries.

    Raises:
        OSError: It cannot be written for another reason.
    """
    while True:
        try:
            return write_record(path, record)
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
        time.sleep(pause)


def process_ids() -> Iterator[int]:
    """List every process of this machine.

    Yields:
        Process ids; none where there is no ``/proc``.
    """
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir("/proc"):
            if name.isdecimal():
                yield int(name)


def signal_if(pid: int, number: int, ours: Callable[[], bool]) -> None:
    """Signal a process that is certainly ours.

    The descriptor names one process for good, so an id that is recycled between the check and the signal is
    never hit. On a kernel without it (before 5.3) nothing is signalled.

    Args:
        pid: Its id, which may be another's by now.
        number: The signal.
        ours: Tells, once the descriptor is open, whether the id still names the process that is meant.
    """
    if not hasattr(os, "pidfd_open"):
        return
    with contextlib.suppress(OSError):
        descriptor = os.pidfd_open(pid)
        try:
            if ours():
                signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)


class _Process(NamedTuple):
    """A line of ``/proc/PID/stat``: id and start time together never name two processes.

    Attributes:
        ticks: Processor time, its own and that of children it has waited for.
        pages: Memory in use, also what it shares with others.
    """

    pid: int
    state: str
    parent: int
    group: int
    started: str
    ticks: int
    threads: int
    pages: int


def _process(pid: int) -> _Process | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The program's name, in brackets, may itself hold blanks and brackets.
            fields = file.read().rpartition(b")")[2].decode("ascii").split()
    except OSError:
        return None
    ticks = sum(map(int, fields[11:15]))
    parent, group, threads, pages = (int(fields[place]) for place in (1, 2, 17, 21))
    return _Process(pid, fields[0], parent, group, fields[19], ticks, threads, pages)


def _descendants(*, dead: bool = False) -> list[_Process]:
    """Everything that lives below this process; as their subreaper we also keep those whose parents died.

    Args:
        dead: Also what has ended and was not waited for.
    """
    children: dict[int, list[_Process]] = {}
    for process in filter(None, map(_process, process_ids())):
        if dead or process.state not in "ZX":
            children.setdefault(process.parent, []).append(process)
    found: list[_Process] = []
    families = [os.getpid()]
    while families:
        born = children.pop(families.pop(), [])
        found += born
        families += [child.pid for child in born]
    return found


class BoundedLog:
    """A file that holds the newest output: at least ``keep`` bytes of it, at most twice as many.

    Args:
        path: The file; appended to.
        keep: Bytes to keep.
    """

    def __init__(self, path: str, keep: int) -> None:
        self._path = path
        self._keep = keep
        self._file = self._opened()

    def write(self, output: bytes) -> None:
        """Append, and drop what is too old. A full disk loses output, never the run.

        Args:
            output: What the command printed.
        """
        with contextlib.suppress(OSError):
            self._file.write(output)
            if self._file.tell() > 2 * self._keep:
                self._drop_old()

    def _opened(self) -> Any:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        return open(descriptor, "ab", buffering=0)

    def _drop_old(self) -> None:
        newest = os.pread(self._file.fileno(), self._keep, self._file.tell() - self._keep)
        draft = f"{self._path}.tmp"
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(DROPPED + newest)
        os.replace(draft, self._path)
        self._file.close()
        self._file = self._opened()


class _Command:
    """The started command with everything below it: its output, its end, and the means to end it."""

    def __init__(self, order: Mapping[str, Any], run: str, token: str) -> None:
        self.printed = 0
        self._log = BoundedLog(os.path.join(run, LOG), order["log_bytes"])
        self._selector = selectors.DefaultSelector()
        self._wakeup = self._wake_on_signals()
        self._process = subprocess.Popen(
            order["command"],
            cwd=order["directory"] or own_directory(run),
            env={**_environment(order), TOKEN: token},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            start_new_session=True,
            preexec_fn=partial(_before_start, os.getpid(), order),
        )
        assert self._process.stdout is not None  # noqa: S101 - for the type checker
        self._output = self._process.stdout.fileno()
        os.set_blocking(self._output, False)
        self._selector.register(self._output, selectors.EVENT_READ)

    def _wake_on_signals(self) -> int:
        """Let a signal, above all the end of a child, interrupt the wait for output."""
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        self._selector.register(reading, selectors.EVENT_READ)
        return reading

    def pump(self, seconds: float) -> None:
        """Copy output to the log; return when some came, a child ended, or the time is over."""
        for key, _ in self._selector.select(seconds):
            chunk = os.read(key.fd, _CHUNK)
            if key.fd == self._wakeup:
                continue
            if chunk:
                self.printed += len(chunk)
                self._log.write(chunk)
            else:
                self._selector.unregister(self._output)

    def exited(self) -> bool:
        """Whether the command itself is over. It stays unreaped, so its group's number stays taken."""
        if not hasattr(os, "waitid"):
            return self._process.poll() is not None
        while child := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if child.si_pid == self._process.pid:
                return True
            os.waitpid(child.si_pid, 0)  # an orphan of the command's that we had adopted
        return False

    def end(self, grace: float) -> int:
        """End whatever is left: ask, wait, kill. Returns the command's exit status, negative for a signal."""
        for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, _KILL_SECONDS)):
            until = time.monotonic() + patience
            if self._alive():
                self._send(number)
            while self._alive() and time.monotonic() < until:
                self.pump(_POLL_SECONDS / 5)
                if number == signal.SIGKILL:  # again, for what was forked while we looked
                    self._send(number)
        code = self._process.wait()
        self._drain()
        return code

    def _alive(self) -> bool:
        if not self.exited():
            return True
        if os.path.isdir("/proc/self"):
            return bool(_descendants())
        try:
            os.killpg(self._process.pid, 0)
        except OSError:
            return False
        return True

    def _send(self, number: signal.Signals) -> None:
        group = self._process.pid
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, number)
        for process in _descendants():
            if process.group != group:
                signal_if(process.pid, number, partial(_is, process))

    def _drain(self) -> None:
        """Take what the pipe still holds, and no more: somebody out of reach may keep writing."""
        for _ in range(16):
            try:
                chunk = os.read(self._output, _CHUNK)
            except BlockingIOError:
                return
            if not chunk:
                return
            self._log.write(chunk)


def _is(process: _Process) -> bool:
    now = _process(process.pid)
    return now is not None and now.started == process.started


def own_directory(run: str) -> str:
    """Make the directory in which a run works that names none.

    Args:
        run: Directory of the run.

    Returns:
        Its path.
    """
    path = os.path.join(run, WORK)
    os.makedirs(path, mode=0o700, exist_ok=True)
    return path


def _prctl(option: int, value: int) -> None:
    """Linux's ``prctl``; elsewhere nothing happens and the run goes without."""
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import ctypes

        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _environment(order: Mapping[str, Any]) -> Mapping[str, str]:
    """What the command gets: ours and the request's, or what was put together for one that is kept apart."""
    sandbox = order.get("sandbox")
    given: Mapping[str, str] = order["run"]["environment"]
    return {**sandbox["environment"], **given} if sandbox else {**os.environ, **given}


def _before_start(parent: int, order: Mapping[str, Any]) -> None:
    """In the new process, before it becomes the command."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked
        os._exit(1)
    if isolation := order["run"].get("isolation"):
        _restrict(isolation["limits"], order["command"][0])


def _restrict(limits: Mapping[str, Any], program: str) -> None:
    """What the kernel itself holds: a backstop for the moments between two looks of ``_Watch``."""
    wanted = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_CPU: int(limits["cpu_seconds"]) + 2,
        resource.RLIMIT_FSIZE: limits["output_bytes"],
        resource.RLIMIT_NOFILE: _MOST_DESCRIPTORS,
    }
    for which, most in wanted.items():
        hard = resource.getrlimit(which)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(which, (most, most))
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")  # when the machine runs out of memory, this run goes first
    # Where users may not make namespaces an older bubblewrap is set-uid. It drops its privileges itself.
    if not os.path.exists(program) or not os.stat(program).st_mode & stat.S_ISUID:
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)


class _Watch:
    """Looks at what all processes of a run take. This binds root too, whom the kernel's limits spare.

    Args:
        limits: The most it may take; the fields of ``Limits``.
        directories: Where what it keeps is counted.
    """

    def __init__(self, limits: Mapping[str, Any], directories: Sequence[str]) -> None:
        self._limits = limits
        self._directories = directories
        self._next = self._next_disk = 0.0

    def excess(self, printed: int) -> str:
        """Say which limit is passed, in words; empty when none is, or it is too early to look again.

        Args:
            printed: Bytes that the run has printed.
        """
        began, busy = time.monotonic(), time.process_time()
        if began < self._next:
            return ""
        found = self._printed(printed) or self._processes(_descendants(dead=True))
        if not found and began >= self._next_disk:
            self._next_disk = began + _DISK_SECONDS
            found = self._disk()
        # On a machine with many processes a look takes long: at most a tenth of one processor goes into it.
        self._next = began + max(_POLL_SECONDS / 2, 10 * (time.process_time() - busy))
        return found

    def _printed(self, printed: int) -> str:
        most = self._limits["output_bytes"]
        return f"printed more than its limit of {_size(most)}" if printed > most else ""

    def _processes(self, family: list[_Process]) -> str:
        tasks, most = sum(process.threads or 1 for process in family), self._limits["processes"]
        if tasks > most:
            return f"ran {tasks} processes and threads; its limit is {most}"
        waited = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = sum(process.ticks for process in family) / os.sysconf("SC_CLK_TCK")
        if seconds + waited.ru_utime + waited.ru_stime > self._limits["cpu_seconds"]:
            return f"used more processor time than its limit of {self._limits['cpu_seconds']:g} s"
        return self._memory(family)

    def _memory(self, family: list[_Process]) -> str:
        used, most = (
            sum(process.pages for process in family) * resource.getpagesize(),
            self._limits["memory_bytes"],
        )
        if used > most:  # what processes share was counted for each: ask again, exactly
            used = sum(_own_memory(process) for process in family)
        return f"used {_size(used)} of memory; its limit is {_size(most)}" if used > most else ""

    def _disk(self) -> str:
        most, used = self._limits["output_bytes"], 0
        for count, found in enumerate(_files(self._directories)):
            if count == _MOST_FILES:
                return f"wrote more than {_MOST_FILES} files"
            used += found.st_blocks * 512
        used += sum(_removed(_descendants()).values())
        return f"keeps {_size(used)} on the disk; its limit is {_size(most)}" if used > most else ""


def _size(number: float) -> str:
    return f"{number / (1 << 20):.0f} MiB"


def _own_memory(process: _Process) -> int:
    """Memory of a process, with its share of what it has in common with others."""
    try:
        with open(f"/proc/{process.pid}/smaps_rollup", "rb") as file:
            return next((int(line.split()[1]) << 10 for line in file if line.startswith(b"Pss:")), 0)
    except OSError:  # it has ended, or may not be asked
        now = _process(process.pid)
        return now.pages * resource.getpagesize() if now else 0


def _files(directories: Sequence[str]) -> Iterator[os.stat_result]:
    """Everything below some directories, without following links."""
    open_ones = list(directories)
    while open_ones:
        with contextlib.suppress(OSError), os.scandir(open_ones.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    yield entry.stat(follow_symlinks=False)
                    if entry.is_dir(follow_symlinks=False):
                        open_ones.append(entry.path)


def _removed(family: list[_Process]) -> dict[tuple[int, int], int]:
    """Bytes in open files that have no name any more, ``memfd`` among them, by device and number."""
    found = {}
    for process in family:
        with contextlib.suppress(OSError):
            for name in os.listdir(f"/proc/{process.pid}/fd"):
                with contextlib.suppress(OSError):
                    file = os.stat(f"/proc/{process.pid}/fd/{name}")
                    if stat.S_ISREG(file.st_mode) and file.st_nlink == 0:
                        found[file.st_dev, file.st_ino] = file.st_blocks * 512
    return found


class _Ending(NamedTuple):
    """Why a run ended: the state to record, and the reason in words."""

    state: str
    reason: str = ""


_CANCELLED = _Ending("failed", "cancelled")
_STOPPED = _Ending("lost", "the machine or the service manager ended the run's supervisor (SIGTERM)")


def _ending_of(code: int) -> _Ending:
    if code == 0:
        return _Ending("succeeded")
    if code > 0:
        return _Ending("failed", f"exited with status {code}")
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return _Ending("failed", f"killed by {name}" + (" (out of memory?)" if -code == signal.SIGKILL else ""))


class _Supervisor:
    """One run from its slot to its status."""

    def __init__(self, run: str) -> None:
        order = read_record(os.path.join(run, REQUEST))
        if order is None:
            raise FileNotFoundError(os.path.join(run, REQUEST))
        self._run = run
        self._order = order
        self._stopped = False
        # Handlers, not SIG_IGN: the command must start with the default actions.
        signal.signal(signal.SIGTERM, self._stop)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

    def _stop(self, *_: object) -> None:
        self._stopped = True

    def supervise(self) -> None:
        """Wait for a slot, run the command, record its end."""
        slot = self._wait_for_slot()
        if slot is not None:
            self._record(self._execute())
        elif not self._stopped:  # stopped before the start: nothing happened, submitting again starts it
            self._record({"state": _CANCELLED.state, "reason": _CANCELLED.reason})

    def _wait_for_slot(self) -> int | None:
        """Hold one of the slots, by a descriptor; ``None`` when the run is to end before it began."""
        pause = 0.02
        while not self._interrupted():
            for path in self._order["slots"]:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
                if try_lock(descriptor):
                    return descriptor
                os.close(descriptor)
            time.sleep(pause)
            pause = min(pause * 1.5, _SLOT_POLL_SECONDS)
        return None

    def _interrupted(self) -> _Ending | None:
        if self._stopped:
            return _STOPPED
        return _CANCELLED if os.path.exists(os.path.join(self._run, CANCEL)) else None

    def _execute(self) -> dict[str, object]:
        token = os.urandom(16).hex()
        began = time.monotonic()
        write_record(os.path.join(self._run, STARTED), {"token": token, "monotonic": began})
        try:
            command = _Command(self._order, self._run, token)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            return {"state": "failed", "reason": _why_not_started(self._order, error)}
        ending = self._watch(command, began)
        code = _code(command.end(self._order["grace_seconds"]), self._order)
        state, reason = ending or _ending_of(code)
        seconds = time.monotonic() - began
        # 128 + signal, as shells and containers report it
        return {
            "state": state,
            "reason": reason,
            "exit_code": code if code >= 0 else 128 - code,
            "seconds": seconds,
        }

    def _watch(self, command: _Command, began: float) -> _Ending | None:
        """Wait for the end; return why it has to be brought about, ``None`` when it came by itself."""
        limit = self._order["run"]["deadline_seconds"]
        isolation = self._order["run"].get("isolation")
        watch = _Watch(isolation["limits"], self._order["sandbox"]["writable"]) if isolation else None
        while not command.exited():
            if ending := self._interrupted():
                return ending
            if watch and (excess := watch.excess(command.printed)):
                return _Ending("failed", excess)
            left = began + limit - time.monotonic()
            if left <= 0:
                return _Ending("failed", f"took longer than {limit:g} s: ended by the deadline")
            command.pump(min(_POLL_SECONDS, left))
        return None

    def _record(self, status: Mapping[str, object]) -> None:
        write_in_the_end(os.path.join(self._run, STATUS), status)


def _code(code: int, order: Mapping[str, Any]) -> int:
    """The exit status of the command itself: of a signal n, a sandbox makes 128 + n, as shells do."""
    return 128 - code if order.get("sandbox") and 128 < code <= 128 + 64 else code


def _why_not_started(order: Mapping[str, Any], error: Exception) -> str:
    program, directory = order["command"][0], order["directory"]
    if directory and not os.path.isdir(directory):
        return f"cannot start {program}: the working directory {directory} does not exist"
    if isinstance(error, FileNotFoundError):
        return f"cannot start {program}: no such program (or its interpreter is missing)"
    if isinstance(error, PermissionError):
        return f"cannot start {program}: not executable, or its directory may not be entered"
    return f"cannot start {program}: {getattr(error, 'strerror', None) or error}"


def try_lock(descriptor: int) -> bool:
    """Lock an open file unless somebody holds it.

    Args:
        descriptor: The open file; the lock lives until its last copy is closed.

    Returns:
        Whether it is ours now.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def main(run: str) -> None:
    """Supervise one run.

    Args:
        run: Directory of the run, absolute.
    """
    os.chdir("/")
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    _Supervisor(run).supervise()
    os._exit(0)  # nothing to tidy up: whoever reads the status finds us gone


if __name__ == "__main__":
    main(*sys.argv[1:])
