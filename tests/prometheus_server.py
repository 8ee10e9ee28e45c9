"""A real Prometheus on 127.0.0.1, over a database that a test has filled, or over what it scrapes itself."""

import json
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from services import require

HINT = "apt-get install prometheus"
_SCRAPE = "500ms"


@dataclass
class Server:
    url: str
    process: subprocess.Popen[bytes]

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=20)

    def value(self, query: str) -> float | None:
        """The only value that a query has now; ``None`` when it has none."""
        found = self._ask("query", query)["result"]
        assert len(found) <= 1, f"{query} has several series: {found}"
        return float(found[0]["value"][1]) if found else None

    def exemplars(self, query: str) -> list[dict[str, str]]:
        """Labels of the exemplars of a query's series in the last hour, oldest first."""
        now = time.time()
        series = self._ask("query_exemplars", query, start=now - 3600, end=now)
        return [one["labels"] for found in series for one in found["exemplars"]]

    def _ask(self, what: str, query: str, **more: float) -> Any:
        answer = httpx.get(f"{self.url}/api/v1/{what}", params={"query": query, **more}, timeout=5)
        return answer.raise_for_status().json()["data"]


def backfill(folder: Path, history: str) -> Path:
    """Write a database from OpenMetrics text with times; returns its folder."""
    promtool = require("promtool", HINT)
    (folder / "history.om").write_text(history)
    command = [promtool, "tsdb", "create-blocks-from", "openmetrics", "history.om", "data"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "data"


@contextmanager
def serving(
    data: Path,
    *arguments: str,
    tls: ssl.SSLContext | None = None,
    targets: Mapping[str, str] | None = None,
    settings: str | None = None,
) -> Iterator[Server]:
    """Run a server over a database; its lock allows one at a time.

    Args:
        data: Folder of the database.
        arguments: More options of the program, such as ``--web.config.file=…``.
        tls: How it is reached, where that file asks for TLS.
        targets: ``host:port`` of what it scrapes twice a second, by the name of the job.
        settings: Its configuration file in place of that; paths in it begin where the database lies.
    """
    prometheus = require("prometheus", HINT)
    config = data.parent / "prometheus.yml"
    config.write_text(_scraping(targets or {}) if settings is None else settings)
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


def _scraping(targets: Mapping[str, str]) -> str:
    """A configuration file; JSON is YAML."""
    jobs = [{"job_name": job, "static_configs": [{"targets": [target]}]} for job, target in targets.items()]
    often = {"scrape_interval": _SCRAPE, "scrape_timeout": _SCRAPE}
    return json.dumps({"global": often, "scrape_configs": jobs})


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
