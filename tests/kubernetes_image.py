"""What a container sees in the tests' Kubernetes, by bubblewrap: an image's files, and its volumes.

The image is a virtual environment on this machine's system. Its root is read-only, there is a ``/tmp`` only
where a volume is mounted, and it runs as the user that its pod names. Network and processes are the
machine's.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from autoretrain.adapters.sandbox import interpreter_needs

from services import require

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_ETC = (
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "alternatives",
    "localtime",
    "hosts",
    "nsswitch.conf",
    "ssl",
)


@dataclass(frozen=True)
class Mount:
    """A file or directory of this machine at a path of the container.

    Attributes:
        source: Here.
        path: There.
        read_only: Whether the container may only read it.
    """

    source: Path
    path: str
    read_only: bool = True


@dataclass(frozen=True)
class Image:
    """An image.

    Attributes:
        environment: The virtual environment whose programs come first.
        files: What was copied into it: paths of the container, and where the files are here.
        variables: Variables that it sets.
    """

    environment: Path
    files: Mapping[str, Path] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """The variable ``PATH`` of its containers."""
        return f"{self.environment / 'bin'}:/usr/local/bin:/usr/bin:/bin"

    def command(
        self, words: Sequence[str], volumes: Iterable[Mount], user: int, directory: str | None = None
    ) -> list[str]:
        """The command line that runs something in a container.

        Args:
            words: Program and arguments.
            volumes: What is mounted.
            user: Who runs it.
            directory: Where; the root unless it is said.
        """
        inside = [require("bwrap", "apt-get install bubblewrap"), "--dev", "/dev", "--proc", "/proc"]
        inside += ["--perms", "1777", "--tmpfs", "/dev/shm"]
        for mount in [*volumes, *self._system()]:  # the environment may lie below /tmp
            inside += [*_parents(mount.path), "--ro-bind" if mount.read_only else "--bind"]
            inside += [str(mount.source), mount.path]
        inside += ["--remount-ro", "/", "--chdir", directory or "/"]
        return [*inside, *_as_user(user), *words]

    def _system(self) -> list[Mount]:
        python = self.environment / "bin" / "python"
        places = [*_SYSTEM, *(f"/etc/{name}" for name in _ETC), *interpreter_needs(str(python))[0]]
        shared = [Mount(Path(place), place) for place in dict.fromkeys(places) if Path(place).exists()]
        return [*shared, *(Mount(source, path) for path, source in self.files.items())]


def _parents(path: str) -> list[str]:
    """bubblewrap would make directories that only their owner may enter."""
    above = [str(parent) for parent in reversed(PurePosixPath(path).parents)][1:]
    return [word for parent in above for word in ("--perms", "0755", "--dir", parent)]


def _as_user(user: int) -> list[str]:
    if os.getuid() != 0:
        return ["--unshare-user", "--uid", str(user), "--gid", str(user), "--"]
    drop = ["--reuid", str(user), "--regid", str(user), "--clear-groups", "--no-new-privs"]
    return ["--", "setpriv", *drop, "--inh-caps=-all", "--bounding-set=-all", "--"]
