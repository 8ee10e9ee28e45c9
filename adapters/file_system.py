"""What kind of file system a file is on: some are shared by machines, and SQLite's locks are not (Linux)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
"""Where Linux lists what is mounted; absent elsewhere."""

_NETWORK = frozenset(
    {
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "coda",
        "davfs",
        "gfs2",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "ocfs2",
        "orangefs",
        "smb2",
        "smb3",
        "smbfs",
        "vboxsf",
        "vmhgfs",
        # in user space, as their names begin after "fuse."
        "blobfuse",
        "curlftpfs",
        "gcsfuse",
        "goofys",
        "grpcfuse",
        "juicefs",
        "moosefs",
        "mountpoint-s3",
        "rclone",
        "s3fs",
        "sshfs",
    }
)


def network_file_system(path: Path) -> str | None:
    """Say over which kind of network file system a file is reached.

    Args:
        path: The file; it need not exist yet.

    Returns:
        Its type (``nfs4``, ``cifs``, ``fuse.sshfs``); ``None`` for a local one, and where nobody can tell.
    """
    try:
        table = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    kind = file_system_of(Path(os.path.realpath(path)), table)
    bare = kind.removeprefix("fuse.")
    known = bare in _NETWORK or any(bare.startswith(name) for name in ("ceph", "glusterfs", "blobfuse"))
    return kind if known else None


def file_system_of(path: Path, table: str) -> str:
    """Find the type of the file system that a file is on.

    Args:
        path: Absolute, without links.
        table: The mounts, in the format of ``/proc/self/mountinfo`` (proc(5)).

    Returns:
        The type; empty when no mount holds the path.
    """
    best, kind = -1, ""
    for point, found in _mounts(table):
        depth = len(Path(point).parts)
        if depth >= best and path.is_relative_to(point):  # of two on one place, the later hides the earlier
            best, kind = depth, found
    return kind


def _mounts(table: str) -> Iterator[tuple[str, str]]:
    """Mount points and types; lines that are none are left out."""
    for line in table.splitlines():
        fields, separator, about = line.partition(" - ")
        parts = fields.split(" ")
        if separator and len(parts) > 4 and about:
            point = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), parts[4])
            yield point, about.split(" ")[0]
