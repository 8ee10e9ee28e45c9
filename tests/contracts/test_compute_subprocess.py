"""What runs on this machine promise beyond the port: nothing lost, nothing left over, no stranger hit."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest

from autoretrain.adapters import compute_supervisor
from autoretrain.adapters.compute_subprocess import SubprocessCompute
from autoretrain.ports.compute import RunRequest, RunState, RunStatus
from autoretrain.ports.errors import Permanent, Temporary

T = TypeVar("T")


def wait_for(look: Callable[[], T], what: str) -> T:
    """The first true answer."""
    until = time.monotonic() + 15
    while not (found := look()):
        assert time.monotonic() < until, f"waited in vain: {what}"
        time.sleep(0.01)
    return found


def settle(compute: SubprocessCompute, key: str = "run") -> RunStatus:
    wait_for(lambda: compute.observe(key).state.ended, f"{key} ends")
    return compute.observe(key)


def python(text: str, *arguments: object, key: str = "run", **options: Any) -> RunRequest:
    return RunRequest(key, (sys.executable, "-S", "-c", text, *map(str, arguments)), **options)


def number_in(path: Path) -> int:
    """A process id that a run writes, once it is there."""
    return int(wait_for(lambda: path.exists() and path.read_text().strip(), f"a number in {path.name}"))


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def end(*processes: subprocess.Popen[bytes]) -> None:
    for process in processes:
        process.kill()
        process.wait()


def start_with_number(number: int) -> subprocess.Popen[bytes]:
    """Start a process that leads its own group under a given, free number."""
    for _ in range(50):
        try:
            Path("/proc/sys/kernel/ns_last_pid").write_text(str(number - 1))
        except OSError:
            pytest.skip("only root on Linux can choose the number of a process")
        process = subprocess.Popen(SLEEP, start_new_session=True)
        if process.pid == number:
            return process
        end(process)
    pytest.skip(f"the number {number} was taken by others")


def await_supervisors(directory: Path) -> None:
    """A status is there a moment before the supervisor that wrote it has gone."""
    for path in directory.glob("*/lock"):
        with path.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "runs"
    yield path
    await_supervisors(path)


@pytest.fixture
def compute(directory: Path) -> SubprocessCompute:
    return SubprocessCompute(directory, grace_seconds=0.2)


SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
SUPERVISOR_AND_SLEEP = """
import os, pathlib, sys, time
pathlib.Path(sys.argv[1]).write_text(str(os.getppid()))
time.sleep(60)
"""
# Starts a grandchild that ignores SIGTERM, keeps the pipe open, and is in a group of its own when asked.
STUBBORN_FAMILY = '''
import pathlib, signal, subprocess, sys, time
path, session, stays = sys.argv[1:]
text = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(os.getpid(), flush=True)
time.sleep(60)
"""
command = [sys.executable, "-c", text]
subprocess.Popen(command, start_new_session=session == "own", stdout=open(path, "w"), stderr=None)
while not pathlib.Path(path).read_text().strip():
    time.sleep(0.01)
time.sleep(60 if stays == "stays" else 0)
'''


class TestTheEnd:
    """However a run ends, nothing of it is left, and the reason is in words."""

    @pytest.mark.parametrize("session", ["same", "own"])
    @pytest.mark.parametrize(
        ("stays", "deadline", "state"),
        [("leaves", 60.0, RunState.SUCCEEDED), ("stays", 0.6, RunState.FAILED)],
    )
    def test_grandchildren_that_ignore_sigterm_end_too(
        self,
        compute: SubprocessCompute,
        tmp_path: Path,
        session: str,
        stays: str,
        deadline: float,
        state: RunState,
    ) -> None:
        path = tmp_path / "pid"
        compute.submit(python(STUBBORN_FAMILY, path, session, stays, deadline_seconds=deadline))
        assert settle(compute).state is state
        assert is_gone(number_in(path))

    def test_the_command_may_clean_up_within_its_grace(self, directory: Path) -> None:
        compute = SubprocessCompute(directory, grace_seconds=10)
        text = """
import signal, sys, time
def stop(*_):
    time.sleep(0.1); print("cleaned up"); sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
time.sleep(60)
"""
        compute.submit(python(text))
        wait_for(lambda: compute.log_tail("run"), "the handler is set")
        compute.cancel("run")
        status = settle(compute)
        assert (status.state, status.reason, status.exit_code) == (RunState.FAILED, "cancelled", 0)
        assert compute.log_tail("run") == "ready\ncleaned up"

    def test_what_ignores_sigterm_is_killed_after_the_grace(self, compute: SubprocessCompute) -> None:
        compute.submit(
            python(
                "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)",
                deadline_seconds=0.3,
            )
        )
        status = settle(compute)
        assert status.reason == "took longer than 0.3 s: ended by the deadline"
        assert status.exit_code == 128 + signal.SIGKILL
        assert status.seconds is not None
        assert 0.5 <= status.seconds < 5

    def test_the_deadline_counts_from_the_start_not_from_the_submission(self, directory: Path) -> None:
        compute = SubprocessCompute(directory, max_parallel=1)
        compute.submit(python("import time; time.sleep(0.6)", key="first"))
        compute.submit(python("pass", key="second", deadline_seconds=0.5))
        assert settle(compute, "second").state is RunState.SUCCEEDED

    @pytest.mark.parametrize(
        ("name", "reason"),
        [("SIGKILL", "killed by SIGKILL (out of memory?)"), ("SIGSEGV", "killed by SIGSEGV")],
    )
    def test_a_signal_is_named(self, compute: SubprocessCompute, name: str, reason: str) -> None:
        compute.submit(python(f"import os, signal; os.kill(os.getpid(), signal.{name})"))
        status = settle(compute)
        assert (status.state, status.reason) == (RunState.FAILED, reason)
        assert status.exit_code == 128 + getattr(signal, name)

    def test_what_cannot_be_started_has_failed_and_is_named(
        self, compute: SubprocessCompute, tmp_path: Path
    ) -> None:
        (tmp_path / "plain.txt").write_text("no program")
        requests = {
            "no-such-program": RunRequest("missing", ("no-such-program",)),
            "plain.txt": RunRequest("plain", (str(tmp_path / "plain.txt"),)),
            "no-such-directory": RunRequest(
                "nowhere", ("true",), directory=str(tmp_path / "no-such-directory")
            ),
            "null byte": RunRequest("nul", ("true", "a\0b")),
        }
        for run in requests.values():
            compute.submit(run)
        for named, run in requests.items():
            status = settle(compute, run.key)
            assert (status.state, status.exit_code) == (RunState.FAILED, None)
            assert status.reason.startswith("cannot start ")
            assert named in status.reason

    @pytest.mark.parametrize(
        "run", [RunRequest("run", ()), RunRequest("run", ("true",), deadline_seconds=float("nan"))]
    )
    def test_a_request_without_sense_is_refused(self, compute: SubprocessCompute, run: RunRequest) -> None:
        with pytest.raises(Permanent):
            compute.submit(run)
        assert compute.observe("run").state is RunState.ABSENT


class TestTheController:
    """Whatever happens to the controller does not touch the run."""

    CONTROLLER = """
import sys, time
from pathlib import Path
from autoretrain.adapters.compute_subprocess import SubprocessCompute
from autoretrain.ports.compute import RunRequest
compute = SubprocessCompute(Path(sys.argv[1]))
compute.submit(RunRequest("run", (sys.executable, "-c", sys.argv[2])))
print("submitted", flush=True)
time.sleep(60)
"""

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGHUP])
    def test_its_end_leaves_the_run_alone(self, directory: Path, number: signal.Signals) -> None:
        text = "import time; time.sleep(0.5); print('done'); raise SystemExit(7)"
        controller = subprocess.Popen(
            [sys.executable, "-c", self.CONTROLLER, directory, text],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        with controller:
            assert controller.stdout is not None
            assert controller.stdout.readline() == b"submitted\n"
            os.killpg(controller.pid, number)
        later = SubprocessCompute(directory)
        assert later.observe("run").state in (RunState.PENDING, RunState.RUNNING)
        status = settle(later)
        assert (status.state, status.exit_code) == (RunState.FAILED, 7)
        assert later.log_tail("run") == "done"

    def test_two_that_submit_at_once_start_it_once(self, directory: Path, tmp_path: Path) -> None:
        count, gate = tmp_path / "count", tmp_path / "gate"
        text = """
import sys, time
from pathlib import Path
from autoretrain.adapters.compute_subprocess import SubprocessCompute
from autoretrain.ports.compute import RunRequest
directory, gate, append, count = sys.argv[1:]
compute = SubprocessCompute(Path(directory))
print("ready", flush=True)
while not Path(gate).exists():
    pass
for number in range(5):
    compute.submit(RunRequest(str(number), (sys.executable, "-S", "-c", append, count, str(number))))
"""
        append = "import sys; open(sys.argv[1], 'a').write(sys.argv[2])"
        command: list[str | Path] = [sys.executable, "-c", text, directory, gate, append, count]
        racers = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(3)]
        for racer in racers:
            assert racer.stdout is not None
            racer.stdout.readline()
        gate.touch()
        for racer in racers:
            racer.communicate()
            assert racer.returncode == 0
        compute = SubprocessCompute(directory)
        assert {settle(compute, str(number)).state for number in range(5)} == {RunState.SUCCEEDED}
        assert sorted(count.read_text()) == list("01234")

    def test_it_keeps_no_zombie_and_the_run_no_descriptor_of_it(
        self, compute: SubprocessCompute, tmp_path: Path
    ) -> None:
        with open(tmp_path / "ours", "w") as ours:
            os.set_inheritable(ours.fileno(), True)
            compute.submit(python("import os; print(*sorted(os.listdir('/proc/self/fd')))"))
            settle(compute)
        # Standard streams, and the one that lists them.
        assert compute.log_tail("run") == "0 1 2 3"
        assert not [child for child in psutil.Process().children() if child.status() == psutil.STATUS_ZOMBIE]

    def test_a_death_between_the_request_and_the_start_is_healed(self, directory: Path) -> None:
        dying = SubprocessCompute(directory, python="/bin/false")
        with pytest.raises(Temporary):
            dying.submit(python("print('started')"))
        assert list(directory.glob("*/request.json"))
        compute = SubprocessCompute(directory)
        assert compute.observe("run") == RunStatus(RunState.ABSENT)
        compute.submit(python("print('started')"))
        assert settle(compute).state is RunState.SUCCEEDED
        assert compute.log_tail("run") == "started"

    def test_no_interpreter_for_the_supervisor(self, directory: Path, tmp_path: Path) -> None:
        missing = str(tmp_path / "no-python")
        with pytest.raises(Permanent, match="no-python"):
            SubprocessCompute(directory, python=missing).submit(python("pass"))


class TestTheSupervisor:
    """Its death is noticed, ends the command, and hits nobody else."""

    def test_a_killed_one_loses_the_run_and_leaves_no_orphan(
        self, compute: SubprocessCompute, tmp_path: Path
    ) -> None:
        text = """
import os, pathlib, sys, time
supervisor = os.getppid()
if os.fork() == 0:
    os.setsid()
    pathlib.Path(sys.argv[2]).write_text(str(os.getpid()))
    time.sleep(60)
pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))
pathlib.Path(sys.argv[3]).write_text(str(supervisor))
time.sleep(60)
"""
        leader, orphan, parent = (tmp_path / name for name in ("leader", "orphan", "parent"))
        compute.submit(python(text, leader, orphan, parent))
        orphaned = number_in(orphan)
        os.kill(number_in(parent), signal.SIGKILL)
        wait_for(lambda: is_gone(number_in(leader)), "the command goes with its supervisor")
        assert not is_gone(orphaned)
        status = settle(compute)
        assert status.state is RunState.LOST
        assert "supervisor" in status.reason
        wait_for(lambda: is_gone(orphaned), "the orphan ends")
        compute.submit(python(text, leader, orphan, parent))
        assert compute.observe("run") == status, "a lost run must not be started again"

    def test_who_does_not_carry_the_token_survives(
        self, compute: SubprocessCompute, directory: Path, tmp_path: Path
    ) -> None:
        path = tmp_path / "supervisor"
        compute.submit(python(SUPERVISOR_AND_SLEEP, path))
        supervisor = number_in(path)
        (started,) = directory.glob("*/started.json")
        token = json.loads(started.read_text())["token"]
        lookalikes = [
            {compute_supervisor.TOKEN: "0" * len(token)},
            {compute_supervisor.TOKEN: token + "0"},
            {"OTHER": f"{compute_supervisor.TOKEN}={token}"},
        ]
        strangers = [subprocess.Popen(SLEEP, env={**os.environ, **other}) for other in lookalikes]
        try:
            os.kill(supervisor, signal.SIGKILL)
            assert settle(compute).state is RunState.LOST
            assert [stranger.poll() for stranger in strangers] == [None] * len(strangers)
        finally:
            end(*strangers)

    def test_a_stranger_with_the_commands_old_number_survives(
        self, compute: SubprocessCompute, tmp_path: Path
    ) -> None:
        text = """
import os, pathlib, sys, time
pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))
pathlib.Path(sys.argv[2]).write_text(str(os.getppid()))
time.sleep(60)
"""
        leader, supervisor = tmp_path / "leader", tmp_path / "supervisor"
        compute.submit(python(text, leader, supervisor))
        number = number_in(leader)
        os.kill(number_in(supervisor), signal.SIGKILL)
        wait_for(lambda: not psutil.pid_exists(number), "the command is gone")
        stranger = start_with_number(number)
        try:
            compute.submit(
                python(text, leader, supervisor)
            )  # lost, though nobody has looked yet: not started
            assert settle(compute).state is RunState.LOST
            assert stranger.poll() is None
        finally:
            end(stranger)

    def test_one_that_is_told_to_stop_ends_the_command_in_order(
        self, compute: SubprocessCompute, tmp_path: Path
    ) -> None:
        path = tmp_path / "supervisor"
        compute.submit(python(SUPERVISOR_AND_SLEEP, path))
        os.kill(number_in(path), signal.SIGTERM)
        status = settle(compute)
        assert status.state is RunState.LOST
        assert "SIGTERM" in status.reason

    def test_the_status_waits_for_room_on_a_full_disk(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        refusals = [errno.ENOSPC, errno.EDQUOT]
        sync = os.fsync

        def full_at_first(descriptor: int) -> None:
            if refusals:
                raise OSError(refusals.pop(), "full")
            sync(descriptor)

        monkeypatch.setattr(os, "fsync", full_at_first)
        path = str(tmp_path / "status.json")
        compute_supervisor.write_in_the_end(path, {"state": "succeeded"}, pause=0.001)
        assert compute_supervisor.read_record(path) == {"v": 1, "state": "succeeded"}
        assert refusals == []


class TestSlots:
    """So many at once, over all instances; the others wait and can be cancelled."""

    def test_they_bound_what_runs_at_once(self, directory: Path, tmp_path: Path) -> None:
        text = """
import sys, time
began = time.monotonic(); time.sleep(0.15)
open(sys.argv[1], "a").write(f"{began} {time.monotonic()}\\n")
"""
        path = tmp_path / "times"
        for number in range(6):
            compute = SubprocessCompute(directory, max_parallel=2)
            compute.submit(python(text, path, key=str(number)))
        for number in range(6):
            assert settle(compute, str(number)).state is RunState.SUCCEEDED
        spans = [tuple(map(float, line.split())) for line in path.read_text().splitlines()]
        assert len(spans) == 6
        at_once = max(sum(began <= start < ended for began, ended in spans) for start, _ in spans)
        assert at_once == 2

    def test_a_waiting_run_is_pending_and_never_starts_once_cancelled(
        self, directory: Path, tmp_path: Path
    ) -> None:
        compute = SubprocessCompute(directory, max_parallel=1, grace_seconds=0.2)
        compute.submit(python(SUPERVISOR_AND_SLEEP, tmp_path / "first", key="first"))
        number_in(tmp_path / "first")
        compute.submit(python(SUPERVISOR_AND_SLEEP, tmp_path / "second", key="second"))
        assert compute.observe("second") == RunStatus(RunState.PENDING)
        compute.cancel("second")
        assert settle(compute, "second") == RunStatus(RunState.FAILED, "cancelled")
        assert not (tmp_path / "second").exists()
        assert compute.observe("first").state is RunState.RUNNING
        compute.cancel("first")
        settle(compute, "first")


class TestOutput:
    """Bounded, whatever is printed."""

    def test_the_newest_is_kept_and_the_loss_is_marked(self, directory: Path) -> None:
        compute = SubprocessCompute(directory, log_bytes=10_000)
        compute.submit(python("for n in range(100_000): print('line', n)"))
        settle(compute)
        (log,) = directory.glob("*/log")
        assert 10_000 <= log.stat().st_size <= 20_000 + len(compute_supervisor.DROPPED)
        assert log.read_bytes().startswith(compute_supervisor.DROPPED)
        assert compute.log_tail("run", 2) == "line 99998\nline 99999"

    def test_it_can_be_read_while_the_run_goes_on(self, compute: SubprocessCompute) -> None:
        compute.submit(python("import time; print('epoch 1', flush=True); time.sleep(60)"))
        assert wait_for(lambda: compute.log_tail("run"), "some output") == "epoch 1"
        compute.cancel("run")
        settle(compute)

    @pytest.mark.parametrize(
        ("text", "tail"),
        [
            ("print('no newline', end='')", "no newline"),
            ("import sys; print('out', flush=True); print('err', file=sys.stderr)", "out\nerr"),
            ("import os; os.write(1, b'\\xff\\x00bin\\n')", "\ufffd\0bin"),
        ],
    )
    def test_any_bytes(self, compute: SubprocessCompute, text: str, tail: str) -> None:
        compute.submit(python(text))
        assert settle(compute).state is RunState.SUCCEEDED
        assert compute.log_tail("run") == tail

    def test_waiting_costs_nothing_once_the_output_is_closed(
        self, compute: SubprocessCompute, tmp_path: Path
    ) -> None:
        path = tmp_path / "supervisor"
        compute.submit(python("import os; os.close(1); os.close(2)\n" + SUPERVISOR_AND_SLEEP, path))
        supervisor = psutil.Process(number_in(path))
        before = supervisor.cpu_times().user
        time.sleep(0.3)
        assert supervisor.cpu_times().user - before < 0.1
        compute.cancel("run")
        settle(compute)


class TestSurroundings:
    """What the command finds around it, and who may read its request."""

    SHOW = "import json, os; print(json.dumps(dict(os.environ)))"

    def _environment(self, compute: SubprocessCompute, **options: Any) -> dict[str, str]:
        compute.submit(python(self.SHOW, environment={"GIVEN": "1"}, **options))
        settle(compute)
        found: dict[str, str] = json.loads(compute.log_tail("run"))
        return found

    def test_the_controllers_environment_is_inherited(
        self, compute: SubprocessCompute, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DATABASE_HOST", "sesame")
        found = self._environment(compute)
        assert (found["DATABASE_HOST"], found["GIVEN"]) == ("sesame", "1")

    def test_what_is_withheld_is_never_inherited(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("WEBHOOK", "secret")
        assert "WEBHOOK" not in self._environment(SubprocessCompute(tmp_path, withheld=["WEBHOOK"]))

    def test_it_is_not_inherited_when_not_wanted(
        self, compute: SubprocessCompute, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DATABASE_HOST", "sesame")
        found = self._environment(compute, inherit_environment=False)
        assert "DATABASE_PASSWORD" not in found
        assert (found["PATH"], found["GIVEN"]) == (os.environ["PATH"], "1")

    def test_the_working_directory(self, directory: Path, tmp_path: Path) -> None:
        (tmp_path / "project").mkdir()
        compute = SubprocessCompute(directory, base=tmp_path)
        show = "import os; print(os.getcwd())"
        compute.submit(python(show, key="named", directory="project"))
        compute.submit(python(show, key="own"))
        settle(compute, "named")
        settle(compute, "own")
        assert compute.log_tail("named") == str(tmp_path / "project")
        own = Path(compute.log_tail("own"))
        assert (own.name, own.parent.parent) == ("work", tmp_path / "runs")

    def test_only_the_owner_can_read_a_run(self, compute: SubprocessCompute, directory: Path) -> None:
        previous = os.umask(0)
        try:
            compute.submit(python("print('x')", environment={"SLACK_TOKEN": "secret"}))
            settle(compute)
            compute.cancel("run")
        finally:
            os.umask(previous)
        for path in [directory, *directory.rglob("*")]:
            allowed = 0o700 if path.is_dir() else 0o600
            assert stat.S_IMODE(path.stat().st_mode) == allowed, path


class TestTrouble:
    """A disk or a file that fails is an error of the port."""

    @pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, Temporary), (errno.EROFS, Permanent)])
    def test_a_disk_that_refuses(
        self, compute: SubprocessCompute, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception]
    ) -> None:
        def refuse(_: int) -> None:
            raise OSError(number, os.strerror(number))

        with monkeypatch.context() as broken:
            broken.setattr(os, "fsync", refuse)
            with pytest.raises(kind, match=os.strerror(number)):
                compute.submit(python("pass"))
        assert compute.observe("run").state is RunState.ABSENT
        compute.submit(python("pass"))
        assert settle(compute).state is RunState.SUCCEEDED

    def test_a_damaged_status_is_no_verdict(self, compute: SubprocessCompute, directory: Path) -> None:
        compute.submit(python("pass"))
        settle(compute)
        (path,) = directory.glob("*/status.json")
        path.write_text('{"state": "succ')
        with pytest.raises(Temporary, match="damaged"):
            compute.observe("run")
