"""Runs that are not trusted: what each way to keep them apart holds and what not, and that nothing is left.

Every program here does on a small scale what a hostile one would do without end.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from autoretrain.adapters import sandbox as sandbox_module
from autoretrain.adapters.compute_subprocess import SubprocessCompute
from autoretrain.adapters.sandbox import Sandbox, find_sandbox, interpreter_needs
from autoretrain.ports.compute import Isolation, Limits, RunRequest, RunState, RunStatus
from autoretrain.ports.errors import Permanent

from services import require

MIB = 1 << 20
LIMITS = Limits(memory_bytes=128 * MIB, cpu_seconds=30.0, processes=40, output_bytes=8 * MIB)


def sandbox_named(tool: str) -> Sandbox:
    """One of the ways, as this machine has it."""
    if tool == "bubblewrap":
        return Sandbox("bubblewrap", require("bwrap", "apt-get install bubblewrap"))
    if tool == "unshare":
        return Sandbox(
            "unshare", require("unshare", "apt-get install util-linux"), "bubblewrap was not asked"
        )
    return Sandbox("none", reason="nothing was asked")


@pytest.fixture(params=["bubblewrap", "unshare", "none"])
def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    return sandbox_named(request.param)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "runs"
    yield path
    for lock in path.glob("*/lock"):  # a status is there a moment before its supervisor has gone
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX)


@pytest.fixture
def compute(directory: Path, sandbox: Sandbox) -> SubprocessCompute:
    return SubprocessCompute(directory, sandbox=sandbox)


def hostile(text: str, *arguments: object, limits: Limits = LIMITS, **options: Any) -> RunRequest:
    """A run of a program that is not trusted; ``readable`` and ``hidden`` are parts of its isolation."""
    readable, hidden = (tuple(map(str, options.pop(name, ()))) for name in ("readable", "hidden"))
    isolation = Isolation(limits, (*interpreter_needs(sys.executable)[0], *readable), hidden=hidden)
    isolation = replace(isolation, sandbox=options.pop("sandbox", "auto"))
    command = (sys.executable, "-S", "-c", text, *map(str, arguments))
    return RunRequest("run", command, isolation=isolation, **options)


def settle(compute: SubprocessCompute) -> RunStatus:
    until = time.monotonic() + 30
    while not (status := compute.observe("run")).state.ended:
        assert time.monotonic() < until, "waited in vain for the run's end"
        time.sleep(0.02)
    return status


def told(compute: SubprocessCompute, run: RunRequest) -> Any:
    """What a run that succeeds prints, as JSON."""
    compute.submit(run)
    assert settle(compute).state is RunState.SUCCEEDED, compute.log_tail("run")
    return json.loads(compute.log_tail("run", 1))


def started_by(mark: str) -> list[psutil.Process]:
    """Live processes with a word of their own in their command line."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        if mark in (process.info["cmdline"] or ()) and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


class TestLimits:
    """Held everywhere, with a reason in words, and nothing goes on afterwards."""

    BOMBS = {  # noqa: RUF012 - never changed
        "many": "for _ in range(150): os.fork() or time.sleep(60)",
        "doubling": "for _ in range(8): os.fork()",
        "escaping": "for _ in range(150): os.fork() or (os.setsid(), os.execve(*sleeper))",
        "threads": "for _ in range(150): threading.Thread(target=time.sleep, args=(60,)).start()",
        "never waited for": "for _ in range(150): os.fork() or os._exit(0)",
    }

    @pytest.mark.parametrize("bomb", BOMBS)
    def test_too_many_processes(self, compute: SubprocessCompute, tmp_path: Path, bomb: str) -> None:
        mark = str(tmp_path)
        words = "[sys.executable, '-Sc', 'import time; time.sleep(60)', *sys.argv[1:]]"
        text = f"""
import os, sys, threading, time
sleeper = sys.executable, {words}, {{}}
{self.BOMBS[bomb]}
time.sleep(60)
"""
        compute.submit(hostile(text, mark))
        status = settle(compute)
        assert status.state is RunState.FAILED
        assert status.reason.endswith("processes and threads; its limit is 40")
        assert not started_by(mark)

    @pytest.mark.parametrize("processes", [1, 4])
    def test_too_much_memory(self, compute: SubprocessCompute, processes: int) -> None:
        text = """
import os, sys, time
for _ in range(int(sys.argv[1]) - 1):
    if not os.fork():
        break
kept = []
for _ in range(40):
    kept.append(b"x" * (8 << 20)); time.sleep(0.03)
time.sleep(60)
"""
        compute.submit(hostile(text, processes))
        status = settle(compute)
        assert status.state is RunState.FAILED
        assert status.reason.endswith("MiB of memory; its limit is 128 MiB")

    def test_memory_that_processes_share_counts_once(self, compute: SubprocessCompute) -> None:
        text = """
import os, time
kept = b"x" * (48 << 20)
children = [os.fork() for _ in range(2)]
if all(children):
    for child in children:
        os.waitpid(child, 0)
else:
    time.sleep(0.5)
    os._exit(0)
"""
        compute.submit(hostile(text))
        assert settle(compute).state is RunState.SUCCEEDED

    def test_too_much_processor_time(self, compute: SubprocessCompute) -> None:
        limits = replace(LIMITS, cpu_seconds=1.0)
        compute.submit(hostile("import os; os.fork()\nwhile True: pass", limits=limits))
        status = settle(compute)
        assert (status.state, status.reason) == (
            RunState.FAILED,
            "used more processor time than its limit of 1 s",
        )

    def test_output_without_end(self, compute: SubprocessCompute, directory: Path) -> None:
        compute.submit(hostile("while True: print('x' * 1000)"))
        status = settle(compute)
        assert (status.state, status.reason) == (RunState.FAILED, "printed more than its limit of 8 MiB")
        (log,) = directory.glob("*/log")
        assert log.stat().st_size < 3 * MIB

    FILES = {  # noqa: RUF012 - never changed
        "named": "open(str(n), 'wb')",
        "removed": "(open('f', 'wb'), os.unlink('f'))[0]",
        "in memory": "os.fdopen(os.memfd_create('f'), 'wb')",
    }

    @pytest.mark.parametrize("kind", FILES)
    def test_too_much_on_the_disk(self, compute: SubprocessCompute, kind: str) -> None:
        text = f"""
import os, time
kept = []
for n in range(12):
    file = {self.FILES[kind]}
    file.write(b"x" * (1 << 20)); file.flush(); kept.append(file)
time.sleep(60)
"""
        compute.submit(hostile(text))
        status = settle(compute)
        assert status.state is RunState.FAILED
        assert status.reason.endswith("on the disk; its limit is 8 MiB")

    def test_one_large_file_is_refused_by_the_system(self, compute: SubprocessCompute) -> None:
        compute.submit(hostile("open('f', 'wb').write(bytes(9 << 20))"))
        assert settle(compute).state is RunState.FAILED
        assert "File too large" in compute.log_tail("run")

    def test_the_deadline_grants_no_grace(self, compute: SubprocessCompute) -> None:
        text = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
        compute.submit(hostile(text, deadline_seconds=0.5))
        status = settle(compute)
        assert status.reason == "took longer than 0.5 s: ended by the deadline"
        assert status.seconds is not None
        assert status.seconds < 5

    @pytest.mark.parametrize(
        ("text", "status"),
        [
            ("raise SystemExit(3)", (3, "exited with status 3")),
            (
                "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
                (137, "killed by SIGKILL (out of memory?)"),
            ),
        ],
    )
    def test_its_own_end_is_told_as_ever(self, directory: Path, text: str, status: tuple[int, str]) -> None:
        compute = SubprocessCompute(directory, sandbox=sandbox_named("bubblewrap"))
        compute.submit(hostile(text))
        ended = settle(compute)
        assert (ended.exit_code, ended.reason) == status


class TestWhatItFinds:
    """What a run reaches: by the sandbox, all that is promised of it."""

    def test_no_environment_and_no_descriptor(
        self, compute: SubprocessCompute, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DATABASE_PASSWORD", "secret")
        held = os.open("/dev/null", os.O_RDONLY)
        os.set_inheritable(held, True)
        text = "import json, os; print(json.dumps([dict(os.environ), os.listdir('/proc/self/fd')]))"
        try:
            variables, descriptors = told(compute, hostile(text, environment={"GIVEN": "1"}))
        finally:
            os.close(held)
        assert not [
            name for name, value in variables.items() if "secret" in value or name == "DATABASE_PASSWORD"
        ]
        assert variables["GIVEN"] == "1"
        assert variables["HOME"] == variables["TMPDIR"] != os.environ["HOME"]
        assert descriptors == ["0", "1", "2", "3"]  # the last one is the listing itself

    def test_the_network(self, compute: SubprocessCompute, sandbox: Sandbox) -> None:
        text = """
import json, socket, sys
def reached(kind, address):
    try:
        with socket.socket(kind) as s:
            s.settimeout(2); s.connect(address)
        return True
    except OSError:
        return False
print(json.dumps([reached(socket.AF_INET, ("127.0.0.1", int(sys.argv[1]))),
                  reached(socket.AF_UNIX, "\\0" + sys.argv[2])]))
"""
        name = f"autoretrain-{os.getpid()}-{time.monotonic_ns()}"
        with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as local:
            local.bind("\0" + name)
            local.listen()
            reached = told(compute, hostile(text, server.getsockname()[1], name))
        assert reached == [sandbox.tool == "none"] * 2

    def test_files_of_others(self, compute: SubprocessCompute, sandbox: Sandbox, tmp_path: Path) -> None:
        (tmp_path / "labels.csv").write_text("hot\n1\n")
        (tmp_path / "features").mkdir()
        (tmp_path / "features" / "rows").write_text("load\n3.0\n")
        text = """
import json, sys
found = {}
for path, mode in (("labels.csv", "r"), ("planted", "w"), ("features/rows", "r"), ("features/rows", "a")):
    try:
        open(f"{sys.argv[1]}/{path}", mode).close()
        found[f"{path} {mode}"] = True
    except OSError:
        found[f"{path} {mode}"] = False
print(json.dumps(found))
"""
        found = told(compute, hostile(text, tmp_path, readable=[tmp_path / "features"]))
        seen = sandbox.tool != "bubblewrap"
        del found["planted w"]  # where /tmp is its own it writes there, and nobody finds it
        assert found == {"labels.csv r": seen, "features/rows r": True, "features/rows a": seen}
        assert (tmp_path / "planted").exists() is seen

    def test_what_is_hidden_within_what_it_may_read(self, directory: Path, tmp_path: Path) -> None:
        for path in ("library/module", "library/state/ledger.db", "library/state/mine/features"):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text("content")
        compute = SubprocessCompute(directory, sandbox=sandbox_named("bubblewrap"))
        text = """
import json, os, sys
base = sys.argv[1]
print(json.dumps(sorted(os.path.join(top, name) for top, _, names in os.walk(base) for name in names)))
"""
        library = tmp_path / "library"
        run = hostile(
            text, library, readable=[library, library / "state" / "mine"], hidden=[library / "state"]
        )
        assert told(compute, run) == [str(library / "module"), str(library / "state" / "mine" / "features")]

    def test_only_its_own_directory_can_be_written(self, directory: Path) -> None:
        compute = SubprocessCompute(directory, sandbox=sandbox_named("bubblewrap"))
        text = """
import json, os
def writable(path):
    try:
        with open(path, "a"):
            return True
    except OSError:
        return False
here = os.getcwd()
places = ["/x", "/usr/x", "/etc/x", "/dev/x", "/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger"]
found = [path for path in places if writable(path)]
print(json.dumps([found, writable(here + "/x"), oct(os.stat(here).st_mode)]))
"""
        assert told(compute, hostile(text)) == [[], True, oct(0o40700)]

    def test_other_processes(self, compute: SubprocessCompute, sandbox: Sandbox) -> None:
        text = """
import json, os, sys
try:
    os.kill(int(sys.argv[1]), 0); hit = True
except OSError:
    hit = False
seen = [name for name in os.listdir("/proc") if name.isdecimal()]
print(json.dumps([hit, len(seen) < 5]))
"""
        alone = sandbox.tool != "none"
        # A number of ours may be taken in its own numbering, but that starts at 1.
        assert told(compute, hostile(text, os.getpid())) == [not alone, alone]

    def test_no_privileges(self, compute: SubprocessCompute, sandbox: Sandbox) -> None:
        text = """
import json
lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps([int(lines["NoNewPrivs"]), int(lines["CapEff"], 16)]))
"""
        no_new, capabilities = told(compute, hostile(text))
        assert no_new == 1
        assert capabilities == 0 or sandbox.tool == "none"

    @pytest.mark.parametrize("tool", ["bubblewrap", "unshare"])
    def test_it_dies_with_its_supervisor_whatever_it_calls_itself(
        self, directory: Path, tmp_path: Path, tool: str
    ) -> None:
        compute = SubprocessCompute(directory, sandbox=sandbox_named(tool))
        text = """
import os, sys
if not os.fork():
    os.setsid()
os.execve(sys.executable, [sys.executable, "-Sc", "import time; time.sleep(60)", *sys.argv[1:]], {})
"""
        mark = str(tmp_path)
        compute.submit(hostile(text, mark))
        until = time.monotonic() + 15
        while len(ours := [p for p in started_by(mark) if "import time; time.sleep(60)" in p.cmdline()]) < 2:
            assert time.monotonic() < until
            time.sleep(0.02)
        supervisor = next(
            p for p in ours[0].parents() if any("compute_supervisor" in word for word in p.cmdline())
        )
        os.kill(supervisor.pid, signal.SIGKILL)
        psutil.wait_procs(ours, timeout=10)
        assert not started_by(mark)
        assert settle(compute).state is RunState.LOST


class TestWhatThisMachineCan:
    """Found by trying, and said plainly."""

    @pytest.fixture(autouse=True)
    def _afresh(self) -> Iterator[None]:
        sandbox_module._best.cache_clear()
        yield
        sandbox_module._best.cache_clear()

    @pytest.fixture
    def programs(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """The only directory with programs."""
        path = tmp_path / "bin"
        path.mkdir()
        monkeypatch.setenv("PATH", str(path))
        return path

    def test_the_best_is_taken(self) -> None:
        require("bwrap", "apt-get install bubblewrap")
        found = find_sandbox()
        assert (found.tool, found.open) == ("bubblewrap", ())
        assert found.words == "bubblewrap keeps them from the network, other files and other processes"

    def test_without_bubblewrap(self, programs: Path) -> None:
        (programs / "unshare").symlink_to("/usr/bin/unshare")
        found = find_sandbox()
        assert (found.tool, found.open) == ("unshare", ("other files",))
        assert found.words == (
            "unshare keeps them from the network and other processes; "
            "nothing keeps them from other files (bubblewrap is not installed)"
        )

    def test_with_a_bubblewrap_that_may_not(self, programs: Path) -> None:
        (programs / "bwrap").write_text(
            "#!/bin/sh\necho 'setting up uid map: Permission denied' >&2\nexit 1\n"
        )
        (programs / "bwrap").chmod(0o755)
        found = find_sandbox()
        assert found.tool == "none"
        assert found.reason == (
            "bubblewrap does not work here (setting up uid map: Permission denied); unshare is not installed"
        )

    def test_required_and_not_there(self, programs: Path, directory: Path) -> None:
        compute = SubprocessCompute(directory)
        with pytest.raises(Permanent, match=r"sandbox is required, and bubblewrap is not installed.*apt-get"):
            compute.submit(hostile("pass", sandbox="required"))
        assert compute.observe("run").state is RunState.ABSENT

    def test_what_is_not_done_is_logged_once_and_recorded(
        self, directory: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        compute = SubprocessCompute(directory)
        with caplog.at_level(logging.WARNING):
            for key in ("run", "again"):
                compute.submit(replace(hostile("pass", sandbox="none"), key=key))
        settle(compute)
        (line,) = [record.getMessage() for record in caplog.records]
        assert line == (
            "runs that are not trusted: nothing keeps them from the network, other files and other processes "
            "(it is switched off)"
        )
        for path in directory.glob("*/request.json"):
            record = json.loads(path.read_text())["sandbox"]
            assert (record["tool"], record["denied"]) == ("none", [])
            assert record["open"] == ["the network", "other files", "other processes"]

    def test_a_trusted_run_is_started_as_before(self, directory: Path) -> None:
        compute = SubprocessCompute(directory)
        compute.submit(RunRequest("run", (sys.executable, "-S", "-c", "print('free')")))
        assert settle(compute).state is RunState.SUCCEEDED
        (path,) = directory.glob("*/request.json")
        request = json.loads(path.read_text())
        assert "sandbox" not in request
        assert "isolation" not in request["run"]
