"""What this machine can do to keep a run apart whose code is not trusted, and the command that does it.

bubblewrap builds a file system that holds nothing but what is named; ``unshare`` of util-linux takes away
the network and the sight of other processes, and leaves the files. Both need user namespaces, or root. That
a program is installed says little (containers and AppArmor often forbid what it does), so each is tried
before it is used.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from ..ports.compute import Isolation, SandboxChoice
from ..ports.errors import Permanent

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store")
_CONFIGURATION = (
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/alternatives",
    "/etc/localtime",
)
"""All of /etc that programs need to find libraries and the time zone."""

_SMALL_BYTES = 64 << 20
"""Size of ``/tmp`` and ``/dev/shm``, which are memory that belongs to no process."""

_NETWORK, _FILES, _PROCESSES = "the network", "other files", "other processes"
_PROBE_SECONDS = 20.0

REMEDY = "install bubblewrap (apt-get install bubblewrap), and let this user create user namespaces"
"""What to do where the sandbox is not complete."""

_TELL_PATHS = """
import json, os, site, sys
prefixes = [sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix]
libraries = [path for path in sys.path if os.path.basename(path) in ("site-packages", "dist-packages")]
user = site.getuserbase() if site.ENABLE_USER_SITE and site.getusersitepackages() in libraries else ""
print(json.dumps({"paths": prefixes + libraries, "user": user}))
"""


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A way to keep runs apart.

    Attributes:
        tool: What does it.
        program: Path of the tool; empty for ``none``.
        reason: Why there is nothing better, in words; empty for bubblewrap.
    """

    tool: Literal["bubblewrap", "unshare", "none"]
    program: str = ""
    reason: str = ""

    @property
    def denied(self) -> tuple[str, ...]:
        """What a run is kept from."""
        return {"bubblewrap": (_NETWORK, _FILES, _PROCESSES), "unshare": (_NETWORK, _PROCESSES), "none": ()}[
            self.tool
        ]

    @property
    def open(self) -> tuple[str, ...]:
        """What a run is not kept from."""
        return tuple(what for what in (_NETWORK, _FILES, _PROCESSES) if what not in self.denied)

    @property
    def words(self) -> str:
        """What is and what is not done, for people."""
        done = f"{self.tool} keeps them from {_listed(self.denied)}" if self.denied else ""
        undone = f"nothing keeps them from {_listed(self.open)} ({self.reason})" if self.open else ""
        return "; ".join(part for part in (done, undone) if part)

    def wrapped(self, command: Sequence[str], isolation: Isolation, directory: str) -> list[str]:
        """The command that runs another one kept apart.

        Args:
            command: Program and arguments.
            isolation: What it may reach.
            directory: Where it works, absolute; writable.

        Returns:
            Program and arguments; the command itself where nothing can be done.
        """
        if self.tool == "none":
            return list(command)
        build = _bubblewrap if self.tool == "bubblewrap" else _unshare
        return [self.program, *build(isolation, directory), "--", *command]


def find_sandbox(wanted: SandboxChoice = "auto", best: Sandbox | None = None) -> Sandbox:
    """What keeps a run apart.

    Args:
        wanted: As in ``Isolation.sandbox``; bubblewrap alone is all that can be required.
        best: The best that there is; ``None`` finds it by trying, once a process.

    Raises:
        Permanent: It is required and cannot be had; says why and what to do.
    """
    if wanted == "none":
        return Sandbox("none", reason="it is switched off")
    found = best or _best()
    if wanted == "required" and found.open:
        raise Permanent(f"a sandbox is required, and {found.reason}: {REMEDY}")
    return found


@lru_cache
def interpreter_needs(python: str) -> tuple[tuple[str, ...], Mapping[str, str]]:
    """What a Python interpreter has to reach to find its libraries.

    Directories that are on its path through a ``.pth`` file (an editable install of a project) are left out:
    beside modules they hold a project's data.

    Args:
        python: The interpreter.

    Returns:
        Directories, and variables that it must be given; nothing for a program that is missing or no Python.
    """
    try:
        told = subprocess.run(
            [python, "-P", "-c", _TELL_PATHS], capture_output=True, timeout=_PROBE_SECONDS, check=True
        )
        found = json.loads(told.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return (), {}
    paths = dict.fromkeys(path for path in found["paths"] if path != "/")
    return tuple(paths), {"PYTHONUSERBASE": found["user"]} if found["user"] else {}


@lru_cache
def _best() -> Sandbox:
    reasons: list[str] = []
    for tool, name in (("bubblewrap", "bwrap"), ("unshare", "unshare")):
        program = shutil.which(name)
        sandbox = Sandbox(tool, program or "", "; ".join(reasons))  # type: ignore[arg-type]
        fault = _fault(sandbox) if program else "is not installed"
        if not fault:
            return sandbox
        reasons.append(f"{tool} {fault}")
    return Sandbox("none", reason="; ".join(reasons))


def _fault(sandbox: Sandbox) -> str:
    """Why a sandbox does not work here; empty when it does."""
    with tempfile.TemporaryDirectory() as directory:
        isolation = Isolation(readable=interpreter_needs(sys.executable)[0], writable=(directory,))
        command = sandbox.wrapped((sys.executable, "-I", "-S", "-c", ""), isolation, directory)
        try:
            tried = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PROBE_SECONDS, check=False
            )
        except (OSError, subprocess.SubprocessError) as error:
            return f"does not work here ({error})"
    if tried.returncode == 0:
        return ""
    said = tried.stderr.decode(errors="replace").strip().splitlines() or [f"status {tried.returncode}"]
    return f"does not work here ({said[-1]})"


def _bubblewrap(isolation: Isolation, directory: str) -> list[str]:
    """Arguments for a file system of named parts, and namespaces of its own for all else."""
    seen, masked = _mounts(isolation)
    return [
        "--unshare-all",
        *(("--share-net",) if isolation.network else ()),
        "--die-with-parent",
        *("--cap-drop", "ALL"),
        *("--proc", "/proc", "--dev", "/dev"),
        *("--size", str(_SMALL_BYTES), "--tmpfs", "/dev/shm"),  # noqa: S108 - a mount within the sandbox
        *("--size", str(_SMALL_BYTES), "--tmpfs", "/tmp"),  # noqa: S108
        *seen,
        # /proc/sys belongs to root, which the run may be; and an empty directory is still memory to fill.
        *(word for path in ("/proc", "/dev", *masked, "/") for word in ("--remount-ro", path)),
        *("--chdir", directory),
    ]


def _mounts(isolation: Isolation) -> tuple[list[str], list[str]]:
    """The mounts, outer ones first since a later one covers an earlier; and the directories laid over."""
    bound = [*isolation.readable, *_library_path(), *isolation.writable]
    how = {path: _as_it_is(path) for path in (*_SYSTEM, *_CONFIGURATION)}
    for path in isolation.hidden:
        for name in _names(path):
            if _within(name, (*_SYSTEM, *bound)):
                how[name] = ["--size", "4096", "--tmpfs", name]
    for path in bound:
        bind = "--bind" if path in isolation.writable else "--ro-bind-try"
        for name in _names(path):
            how[name] = [bind, path, name]
    outer_first = sorted(filter(os.path.lexists, how), key=lambda name: name.count("/"))
    masked = [name for name in outer_first if "--tmpfs" in how[name]]
    return [word for name in outer_first for word in how[name]], masked


def _as_it_is(path: str) -> list[str]:
    """A part of the system: /bin is often a link to /usr/bin."""
    if os.path.islink(path) and path in _SYSTEM:
        return ["--symlink", os.readlink(path), path]
    return ["--ro-bind-try", path, path]


def _names(path: str) -> set[str]:
    """The names under which a path is looked for: its own, and the one without symbolic links."""
    return {os.path.normpath(path), os.path.realpath(path)}


def _library_path() -> list[str]:
    return [path for path in os.environ.get("LD_LIBRARY_PATH", "").split(":") if os.path.isabs(path)]


def _within(path: str, others: Sequence[str]) -> bool:
    return any(Path(path).is_relative_to(name) for other in others for name in _names(other))


def _unshare(isolation: Isolation, directory: str) -> list[str]:
    """Arguments for namespaces without a file system of its own, and no capabilities within them."""
    setpriv = shutil.which("setpriv")
    drop = [setpriv, "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"] if setpriv else []
    return [
        *("--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc", "--ipc"),
        *(() if isolation.network else ("--net",)),
        *(["--", *drop] if drop else []),
    ]


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
