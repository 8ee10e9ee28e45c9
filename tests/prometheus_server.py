"""A real Prometheus on 127.0.0.1, over a database that a test has filled."""

import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from services import require

HINT = "apt-get install prometheus"


@dataclass
class Server:
    url: str
    process: subprocess.Popen[bytes]

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=20)


def backfill(folder: Path, history: str) -> Path:
    """Write a database from OpenMetrics text with times; returns its folder."""
    promtool = require("promtool", HINT)
    (folder / "history.om").write_text(history)
    command = [promtool, "tsdb", "create-blocks-from", "openmetrics", "history.om", "data"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "data"


@contextmanager
def serving(
    data: Path, *arguments: str, tls: ssl.SSLContext | None = None, settings: str = "global: {}\n"
) -> Iterator[Server]:
    """Run a server over a database; its lock allows one at a time.

    Args:
        data: Folder of the database.
        arguments: More options of the program, such as ``--web.config.file=…``.
        tls: How it is reached, where that file asks for TLS.
        settings: Its configuration file; paths in it begin where the database lies.
    """
    prometheus = require("prometheus", HINT)
    config = data.parent / "prometheus.yml"
    config.write_text(settings)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [
        prometheus,
        f"--config.file={config}",
        f"--storage.tsdb.path={data}",
        "--storage.tsdb.retention.time=50y",
        f"--web.listen-address={address}",
        *arguments,
    ]
    with (data.parent / "prometheus.log").open("wb") as log:
        url = f"{'https' if tls else 'http'}://{address}"
        server = Server(url, subprocess.Popen(command, stdout=log, stderr=log))
        try:
            _wait_until_ready(server, tls)
            yield server
        finally:
            server.stop()


def _wait_until_ready(server: Server, tls: ssl.SSLContext | None) -> None:
    deadline = time.monotonic() + 30
    with httpx.Client(verify=tls or True, timeout=5) as client:
        while time.monotonic() < deadline:
            assert server.process.poll() is None, "prometheus has ended"
            try:
                if client.get(f"{server.url}/-/ready").status_code in (200, 401):
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
    raise AssertionError("prometheus is not ready after 30 s")
