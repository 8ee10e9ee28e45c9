"""A real MLflow server, for as long as a test or a benchmark lasts."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlflow_store import sqlite_store

_START_SECONDS = 90.0


@dataclass(frozen=True)
class MlflowServer:
    """A running ``mlflow server``."""

    uri: str
    process: subprocess.Popen[bytes]

    def stop(self) -> None:
        """End the server and its workers; does nothing when it has ended."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


ADMIN = ("admin", "open-sesame-of-the-test")
_LOGIN = """
[mlflow]
default_permission = READ
database_uri = sqlite:///{directory}/logins.db
admin_username = admin
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = 3600
"""


def start_mlflow(
    directory: Path, port: int | None = None, *, guarded: bool = False, artefacts: Path | None = None
) -> MlflowServer:
    """Start a server with its database and artefacts in a directory, and wait until it answers.

    Args:
        directory: Its place; one that is started there again knows what it knew.
        port: Where it listens; ``None`` takes a free one.
        guarded: Whether it asks for a password; ``ADMIN`` makes the other users.
        artefacts: Where it keeps artefacts; ``None`` takes a directory of its own.
    """
    if port is None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
    address = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    stores = [
        "--backend-store-uri",
        sqlite_store(directory),
        "--artifacts-destination",
        str(artefacts or directory / "artefacts"),
    ]
    stores += ["--app-name", "basic-auth"] if guarded else []
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    if guarded:
        (directory / "login.ini").write_text(_LOGIN.format(directory=directory))
        quiet |= {
            "MLFLOW_AUTH_CONFIG_PATH": str(directory / "login.ini"),
            "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN[1],
            "MLFLOW_FLASK_SERVER_SECRET_KEY": "key-of-the-test",
        }
    with (directory / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *address, *stores],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **quiet},
            start_new_session=True,
        )
    server = MlflowServer(f"http://127.0.0.1:{port}", process)
    until = time.monotonic() + _START_SECONDS
    while not _answers(server):
        if process.poll() is not None or time.monotonic() > until:
            server.stop()
            raise AssertionError(
                f"mlflow server did not start:\n{(directory / 'server.log').read_text()[-3000:]}"
            )
        time.sleep(0.1)
    return server


def _answers(server: MlflowServer) -> bool:
    try:
        with urllib.request.urlopen(f"{server.uri}/health", timeout=1.0) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@contextmanager
def running_mlflow(directory: Path) -> Iterator[MlflowServer]:
    """Run a server while the block runs."""
    server = start_mlflow(directory)
    try:
        yield server
    finally:
        server.stop()
