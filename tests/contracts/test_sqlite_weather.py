"""A ledger on a network, on a full disk, on a read-only one, beside a busy writer: atomic, or refused.

Where the tests run as root, the disk is a small one of its own, mounted for the test.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from project_kit import Project

from autoretrain.adapters import file_system
from autoretrain.adapters.file_system import file_system_of
from autoretrain.adapters.ledger_sqlite import SqliteLedger
from autoretrain.adapters.observations_sqlite import SqliteObservations
from autoretrain.domain.controller import Controller
from autoretrain.domain.requests import ask_start
from autoretrain.domain.sealing import verify
from autoretrain.entrypoints.cli.main import run
from autoretrain.entrypoints.testing.simulated_world import World
from autoretrain.entrypoints.testing.store import NOW as AT
from autoretrain.entrypoints.testing.store import notice, request, sealed_entries
from autoretrain.ports.errors import Permanent, Temporary
from autoretrain.ports.observations import Look

MODEL = "churn"

# -- network ------------------------------------------------------------------------------------------------

TABLE = """\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 27 0:21 / /proc rw,relatime - proc proc rw
40 27 0:41 / /home rw,relatime shared:1 - nfs4 filer:/home rw,vers=4.2
41 40 259:1 / /home/ann/local rw,relatime shared:2 master:3 - xfs /dev/nvme0n1 rw
42 27 0:42 / /mnt/my\\040share rw - cifs //filer/share rw
43 27 0:43 / /mnt/c rw - 9p drvfs rw
44 27 0:44 / /mnt/ssh rw - fuse.sshfs ann@host:/ rw
45 27 0:45 / /mnt/gl rw - fuse.glusterfs host:/vol rw
46 27 0:46 / /mnt/ceph rw - ceph 10.0.0.1:/ rw
47 27 0:47 / /mnt/twice rw - nfs filer:/a rw
48 47 259:2 / /mnt/twice rw - ext4 /dev/sdb rw
49 27 0:49 / /mnt/ntfs rw - fuseblk /dev/sdc rw
not a mount at all
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/ledger.db", "ext4"),
        ("/home/ann/ledger.db", "nfs4"),
        ("/home/ann/local/ledger.db", "xfs"),
        ("/home/ann/locality/ledger.db", "nfs4"),
        ("/homely/ledger.db", "ext4"),
        ("/mnt/my share/ledger.db", "cifs"),
        ("/mnt/twice/ledger.db", "ext4"),
    ],
)
def test_the_mount_that_holds_a_file(path: str, kind: str) -> None:
    assert file_system_of(Path(path), TABLE) == kind


def test_no_mount_holds_it() -> None:
    assert file_system_of(Path("/x"), "") == ""


@pytest.fixture
def mounted_as(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, str], None]:
    """Let the system say that a directory is on a file system of some type."""

    def mount(directory: Path, kind: str) -> None:
        table = tmp_path / "mountinfo"
        point = str(directory).replace(" ", "\\040")
        table.write_text(f"1 0 8:1 / / rw - ext4 /dev/sda rw\n2 1 0:9 / {point} rw - {kind} there rw\n")
        monkeypatch.setattr(file_system, "MOUNTS", table)

    return mount


@pytest.mark.parametrize(
    "kind",
    ["nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "fuse.ceph-fuse", "fuse.sshfs", "fuse.glusterfs", "lustre"],
)
def test_a_network_file_system_is_refused_and_nothing_made(
    tmp_path: Path, mounted_as: Callable[[Path, str], None], kind: str
) -> None:
    mounted_as(tmp_path, kind)
    for adapter in (SqliteLedger(tmp_path / "ledger.db"), SqliteObservations(tmp_path / "observations.db")):
        with closing(adapter), pytest.raises(Permanent, match="network file system") as caught:
            adapter.models() if isinstance(adapter, SqliteLedger) else adapter.recent("m")
        for part in (str(tmp_path), f"({kind})", "set 'state' in autoretrain.toml", "PostgreSQL"):
            assert part in str(caught.value)
    assert not list(tmp_path.glob("*.db*"))


def test_a_link_to_a_network_is_seen_through(tmp_path: Path, mounted_as: Callable[[Path, str], None]) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "near").symlink_to(tmp_path / "far")
    mounted_as(tmp_path / "far", "nfs4")
    with pytest.raises(Permanent, match="nfs4"):
        SqliteLedger(tmp_path / "near" / "ledger.db").models()


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "overlay", "tmpfs", "zfs", "fuseblk", "virtiofs"])
def test_a_local_file_system_is_used(
    tmp_path: Path, mounted_as: Callable[[Path, str], None], kind: str
) -> None:
    mounted_as(tmp_path, kind)
    with closing(SqliteLedger(tmp_path / "ledger.db")) as ledger:
        ledger.append(request(sealed_entries("m", 1)))
        assert len(ledger.read("m")) == 1


def test_a_system_that_lists_no_mounts_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_system, "MOUNTS", tmp_path / "absent")
    with closing(SqliteLedger(tmp_path / "ledger.db")) as ledger:
        assert list(ledger.models()) == []


def test_the_program_says_what_to_do(
    tmp_path: Path, mounted_as: Callable[[Path, str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    project = Project.create(tmp_path / "project")
    mounted_as(project.directory, "nfs4")
    for arguments in (["run", "--once"], ["start", "boiler"]):
        assert run(["--settings", str(project.directory), *arguments]) == 2
        said = capsys.readouterr().err
        assert "ledger.db is on a network file system (nfs4)" in said
        assert "Traceback" not in said
    assert run(["--settings", str(project.directory), "doctor"]) == 2
    assert "network file system (nfs4)" in capsys.readouterr().out


# -- disk ---------------------------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of two megabytes."""
    point = tmp_path / "disk"
    point.mkdir()
    if os.geteuid() != 0 or _mount("-t", "tmpfs", "-o", "size=2m", "tmpfs", str(point)):
        pytest.skip("only root can mount a small disk; a limit on the size of files stands in elsewhere")
    try:
        yield point
    finally:
        subprocess.run(["umount", "-l", str(point)], check=True)


def _mount(*arguments: str) -> bool:
    """Whether mounting failed."""
    return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode != 0


def fill(disk: Path) -> Path:
    """Leave no byte free."""
    ballast = disk / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(b"\0" * 4096):
            pass
    return ballast


def test_a_full_disk_refuses_whole_appends_and_goes_on_when_there_is_room(disk: Path) -> None:
    with closing(SqliteLedger(disk / "ledger.db")) as ledger:
        ledger.append(request(sealed_entries("m", 1), AT, notice("n0")))
        ballast = fill(disk)
        appended, refused = 1, ""
        while not refused and appended < 2000:  # what was set aside in the log is used up first
            entries = sealed_entries("m", 2, after=ledger.read("m")[-1])
            try:
                ledger.append(request(entries, AT, notice(f"n{appended}")))
            except Temporary as error:
                refused = str(error)
            else:
                appended += 2
        assert str(disk / "ledger.db") in refused
        assert "nothing was written" in refused
        kept = ledger.read("m")
        assert (len(kept), verify("m", kept)) == (appended, None)
        assert len(ledger.due(AT, limit=10_000)) == 1 + (appended - 1) // 2
        with pytest.raises(Temporary, match="nothing was written"):
            ledger.append(request(sealed_entries("m", 50, after=kept[-1]), AT))
        ballast.unlink()
        ledger.append(request(sealed_entries("m", 50, after=kept[-1]), AT))
        assert verify("m", ledger.read("m")) is None
        assert len(ledger.read("m")) == appended + 50
    with closing(SqliteLedger(disk / "ledger.db")) as again:
        assert len(again.read("m")) == appended + 50


def test_a_full_disk_from_the_start_makes_no_half_a_ledger(disk: Path) -> None:
    ballast = fill(disk)
    with closing(SqliteLedger(disk / "ledger.db")) as ledger, pytest.raises(Temporary):
        ledger.append(request(sealed_entries("m", 1)))
    with closing(SqliteObservations(disk / "observations.db")) as observations, pytest.raises(Temporary):
        observations.record([Look("m", AT, {})])
    ballast.unlink()
    with closing(SqliteLedger(disk / "ledger.db")) as ledger:
        ledger.append(request(sealed_entries("m", 1)))
        assert verify("m", ledger.read("m")) is None
    with closing(SqliteObservations(disk / "observations.db")) as observations:
        observations.record([Look("m", AT, {})])
        assert len(observations.recent("m")) == 1


def test_a_disk_that_becomes_read_only_can_be_read_and_goes_on_when_it_is_not(disk: Path) -> None:
    entries = sealed_entries("m", 4)
    with closing(SqliteLedger(disk / "ledger.db")) as ledger:
        ledger.append(request(entries[:1]))
        ledger.close()  # a file that is open for writing cannot be made read-only
        assert not _mount("-o", "remount,ro", str(disk))
        with pytest.raises(Temporary, match="nothing was written"):
            ledger.append(request(entries[1:]))
        assert not _mount("-o", "remount,rw", str(disk))
        ledger.append(request(entries[1:]))
        assert tuple(ledger.read("m")) == entries
        assert verify("m", ledger.read("m")) is None


# -- a transition -------------------------------------------------------------------------------------------


def busy(place: Path, ledger: SqliteLedger) -> Callable[[], object]:
    other = sqlite3.connect(place / "ledger.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    return other.close


def full(place: Path, ledger: SqliteLedger) -> Callable[[], object]:
    ledger.close()  # which folds the log into the file, so that the next append needs room
    return fill(place).unlink


def read_only(place: Path, ledger: SqliteLedger) -> Callable[[], object]:
    ledger.close()
    assert not _mount("-o", "remount,ro", str(place))
    return lambda: _mount("-o", "remount,rw", str(place))


@pytest.mark.parametrize("fault", [busy, full, read_only], ids=["busy", "full", "read-only"])
def test_a_job_waits_for_a_ledger_that_refuses_and_is_opened_once(
    tmp_path: Path,
    fault: Callable[[Path, SqliteLedger], Callable[[], object]],
    request: pytest.FixtureRequest,
) -> None:
    place = tmp_path if fault is busy else request.getfixturevalue("disk")
    world = World()
    with closing(SqliteLedger(place / "ledger.db", busy_seconds=0.05)) as ledger:
        ports = replace(world.ports(), ledger=ledger, agenda=ledger, outbox=ledger)
        controller = Controller(ports, world.fleet, "main", monotonic=world.clock)
        controller.enrol([MODEL], world.now)
        asked = controller.request(MODEL, lambda state: ask_start(state, "ann", {}, ""), world.now)
        before = ledger.read(MODEL)
        undo = fault(place, ledger)
        with pytest.raises(Temporary):
            controller.tick(world.now)
        undo()
        assert ledger.read(MODEL) == before
        assert not world.compute.started
        controller.tick(world.now)
        kinds = [entry.kind for entry in ledger.read(MODEL)]
        assert (kinds.count("job.opened"), kinds.count("candidate.found")) == (1, 1)
        assert world.compute.started == {f"{asked.data['job_id']}/train/1": 1}
        assert verify(MODEL, ledger.read(MODEL)) is None
