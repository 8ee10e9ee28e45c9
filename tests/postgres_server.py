"""A real PostgreSQL server, and PgBouncer before it, for as long as a test run or a test lasts.

PostgreSQL refuses to run as root: there it runs as the user ``postgres`` of Debian's package. Both listen on
free ports of 127.0.0.1 only, and what they keep goes with them.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from services import require

PASSWORD = "open sesame"
_START_SECONDS = 30.0
_ROOM = 1 << 30

_HBA = """
local all all trust
host all postgres 127.0.0.1/32 trust
host all guest 127.0.0.1/32 trust
host all ann 127.0.0.1/32 scram-sha-256
host replication postgres 127.0.0.1/32 trust
"""
_PGBOUNCER = f"""
[databases]
autoretrain = host=127.0.0.1 port={{server}} dbname=autoretrain user=ann password='{PASSWORD}'
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {{port}}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {{folder}}/users.txt
pool_mode = transaction
default_pool_size = 4
server_reset_query =
"""
_QUICK = {"fsync": "off", "full_page_writes": "off"}  # for tests that pull no plug


def programs() -> Path:
    """Folder of the server's programs; the test is skipped where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))
    return found[-1] if found else Path(require("initdb", "apt-get install postgresql")).parent


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def as_server(command: Sequence[str | Path]) -> list[str]:
    """The command line that runs a program as a user who is not root."""
    words = [str(word) for word in command]
    if os.getuid() != 0:
        return words
    return ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups", "--", *words]


def give_to_server(path: Path) -> None:
    if os.getuid() == 0:
        owner = pwd.getpwnam("postgres")
        os.chown(path, owner.pw_uid, owner.pw_gid)


@dataclass
class Postgres:
    """A server in a folder of its own."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def create(self, **settings: str) -> None:
        """Make a cluster with the database ``autoretrain``, which the role ``ann`` owns, and start it."""
        make: list[str | Path] = [
            programs() / "initdb",
            "-D",
            self.data,
            "-U",
            "postgres",
            "--auth=trust",
            "-E",
            "UTF8",
        ]
        subprocess.run(
            as_server([*make, "--locale=C", "--no-sync"]), check=True, capture_output=True, cwd="/"
        )
        (self.data / "pg_hba.conf").write_text(_HBA)
        self.start(**settings)
        self.sql(f"CREATE ROLE ann LOGIN PASSWORD '{PASSWORD}'")
        self.sql("CREATE DATABASE autoretrain OWNER ann")
        self.sql("CREATE ROLE guest LOGIN")  # without a right to anything

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def dsn(self, **parameters: Any) -> str:
        """A connection string, for ``ann`` and ``autoretrain`` unless said otherwise."""
        values = {
            "host": "127.0.0.1",
            "port": self.port,
            "user": "ann",
            "password": PASSWORD,
            "dbname": "autoretrain",
        }
        return " ".join(
            f"{name}='{value}'" for name, value in {**values, **parameters}.items() if value != ""
        )

    def sql(self, statement: str, dbname: str = "postgres") -> list[tuple[Any, ...]]:
        """Run a statement as superuser."""
        with psycopg.connect(self.dsn(user="postgres", dbname=dbname), autocommit=True) as session:
            cursor = session.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def start(self, **settings: str) -> None:
        """Start the server, and wait until it answers."""
        values = {"port": str(self.port), "listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
        # Recovery would else begin by a flush of every single file.
        values |= {"max_connections": "60", "shared_buffers": "16MB", "recovery_init_sync_method": "syncfs"}
        values |= settings
        options = [word for name, value in values.items() for word in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                as_server([programs() / "postgres", "-D", self.data, *options]),
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )
        until = time.monotonic() + _START_SECONDS
        while not self.answers():
            assert self.process.poll() is None, self.log
            assert time.monotonic() < until, self.log
            time.sleep(0.02)

    def answers(self) -> bool:
        try:
            self.sql("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def stop(self) -> None:
        """End it in good order, without waiting for its clients."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End it and all its processes at once, as a machine that dies does."""
        assert self.process is not None
        postmaster = psutil.Process(self.process.pid)
        postmaster.suspend()  # lest it mourn its children, or bear others
        for child in postmaster.children():
            child.kill()
        postmaster.kill()
        self.process.wait()
        self.process = None

    def _end(self, number: int) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(_START_SECONDS)
            self.process = None


def unused_schema() -> str:
    """Name of a schema that no other test uses: a store of its own costs its tables, not a server."""
    return f"test_{uuid.uuid4().hex}"


@contextmanager
def folder_of_server() -> Iterator[Path]:
    """An empty folder that the server's user can reach, unlike pytest's own; in memory where there is room.

    What is killed there loses no more than on a disk: only a machine that dies does.
    """
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > _ROOM
    folder = Path(tempfile.mkdtemp(prefix="autoretrain-server-", dir=memory if roomy else None))
    give_to_server(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def small_disk() -> Iterator[Path]:
    """A disk with room for a server and little more; only root can mount one."""
    with folder_of_server() as folder:
        mount = ["mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", str(folder)]
        if os.getuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
            pytest.skip("only root can mount a small disk")
        give_to_server(folder)
        try:
            yield folder
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def running_postgres(
    *, durable: bool = False, on: AbstractContextManager[Path] | None = None, **settings: str
) -> Iterator[Postgres]:
    """Run a server while the block runs.

    Args:
        durable: Whether commits wait for the disk.
        on: The folder of its data; ``None`` takes a new one.
        **settings: Of ``postgresql.conf``.
    """
    with on or folder_of_server() as folder:
        server = Postgres(folder)
        try:
            server.create(**({} if durable else _QUICK), **settings)
            yield server
        finally:
            if server.process is not None:
                server.kill()


@contextmanager
def running_standby(primary: Postgres) -> Iterator[Postgres]:
    """Run a hot standby of a server, which follows it until it is promoted (``SELECT pg_promote()``)."""
    with folder_of_server() as folder:
        standby = Postgres(folder)
        copy: list[str | Path] = [
            programs() / "pg_basebackup",
            "-D",
            standby.data,
            "-R",
            "-c",
            "fast",
            "--no-sync",
        ]
        copy += ["-d", primary.dsn(user="postgres", password="", dbname="")]
        subprocess.run(as_server(copy), check=True, capture_output=True, cwd="/")
        try:
            standby.start()
            yield standby
        finally:
            if standby.process is not None:
                standby.kill()


@contextmanager
def running_pgbouncer(server: Postgres) -> Iterator[int]:
    """Run PgBouncer in transaction mode before a server; gives its port."""
    program = require("pgbouncer", "apt-get install pgbouncer")
    port = free_port()
    with folder_of_server() as folder:
        (folder / "users.txt").write_text(f'"ann" "{PASSWORD}"\n')
        (folder / "pgbouncer.ini").write_text(_PGBOUNCER.format(port=port, server=server.port, folder=folder))
        command = as_server([program, folder / "pgbouncer.ini"])
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", start_new_session=True)
        try:
            _wait_for(port, process, folder / "log")
            yield port
        finally:
            process.kill()
            process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _START_SECONDS
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.02)
