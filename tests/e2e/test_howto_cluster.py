"""docs/howto_cluster.md, run as it stands: from ``pip install`` to two controllers on a real API server.

The page is the only source of what is run. ``addresses`` says what stands for the reader's servers; nothing
else is replaced, but for Prometheus's way to find pods. The pods run in the virtual environment that the
page's own ``pip install`` has filled.
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from cli_project import until
from kubernetes_image import Image
from kubernetes_node import Node
from kubernetes_server import KubernetesServer, programs, running_kubernetes
from mlflow_server import running_mlflow
from postgres_server import PASSWORD, Postgres, free_port, running_postgres
from prometheus_server import serving

from checkout import copy_tree
from services import ROOT, require

pytestmark = [
    pytest.mark.slow,
    pytest.mark.minutes,
    pytest.mark.service,
    pytest.mark.xdist_group("kubernetes"),
]

PAGE = ROOT / "docs" / "howto_cluster.md"
CONTROLLERS = ("deployment-controller", "replicaset-controller", "persistentvolume-binder-controller")
_SECONDS = 240.0
_END = "the end of "
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"(Write|Add to) `([^`]+)`:\n\n\Z")


@dataclass(frozen=True)
class Block:
    """A block of the page: commands, or a file that is written or added to."""

    kind: str
    text: str
    file: str | None = None
    append: bool = False

    @property
    def commands(self) -> list[tuple[str, list[str]]]:
        """Each command, and the lines that its output must have."""
        found: list[tuple[str, list[str]]] = []
        for line in self.text.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
        return found


def blocks(page: str) -> Iterator[Block]:
    """The blocks of a page that are run or written; ``sh`` and ``text`` are neither."""
    for found in _BLOCK.finditer(page):
        named = _FILE.search(page, 0, found.start())
        kind, text = found[1], found[2]
        if kind == "console":
            yield Block(kind, text)
        elif kind not in ("sh", "text"):
            assert named, f"nothing says which file this is:\n{text}"
            yield Block(kind, text, named[2], named[1] == "Add to")


class Shell:
    """One shell for all commands, as somebody has it who follows the page."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=directory,
            env={**environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self._count = 0

    def run(self, command: str) -> str:
        """Run a command, which must succeed; gives what it printed."""
        self._count, began = self._count + 1, time.monotonic()
        end = f"{_END}{self._count}: "
        assert self._process.stdin is not None
        self._process.stdin.write(f'{command}\necho; echo "{end}$?"\n')
        self._process.stdin.flush()
        said: list[str] = []
        while True:
            try:
                line = self._lines.get(timeout=_SECONDS)
            except queue.Empty:
                pytest.fail(f"$ {command}\ndoes not end; it said:\n{''.join(said)}")
            if line.startswith(end):
                break
            said.append(line)
        print(f"{time.monotonic() - began:6.1f} s  $ {command}")
        assert line == f"{end}0\n", f"$ {command}\n{''.join(said)}{line}"
        return "".join(said)

    @property
    def directory(self) -> Path:
        return Path(self.run("pwd").strip())

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)

    def end(self) -> None:
        """End it, and what it left running."""
        import signal

        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def check(command: str, said: str, wanted: list[str]) -> None:
    """Every line that the page shows is a line of the output; ``…`` stands for anything."""
    for line in wanted:
        pattern = ".*".join(map(re.escape, line.split("…")))
        assert re.search(rf"^{pattern}$", said, re.MULTILINE), f"$ {command}\n{said}\nhas no line {line!r}"


@dataclass(frozen=True)
class World:
    """The servers that the page speaks of, and where its reader begins."""

    home: Path
    postgres: Postgres
    mlflow: str
    kubernetes: KubernetesServer

    @property
    def export(self) -> Path:
        return self.home / "export"

    def addresses(self) -> dict[str, str]:
        """What stands for what: all that is replaced in the page."""
        return {
            "host=db.example": f"host=127.0.0.1 port={self.postgres.port}",
            "user=autoretrain": "user=ann",
            "change-me": PASSWORD,
            "http://mlflow.example:5000": self.mlflow,
            "/mnt/autoretrain": str(self.export),
            "127.0.0.1:9464": f"127.0.0.1:{free_port()}",
            "127.0.0.1:9465": f"127.0.0.1:{free_port()}",
            # All pods share this machine's network; each has an address of its own that leads there.
            "0.0.0.0:9464": "127.0.0.1:0",
        }

    def environment(self) -> dict[str, str]:
        """The reader's."""
        paths = [str(programs()), str(Path(sys.executable).parent), os.environ["PATH"]]
        kubectl = {
            "KUBECONFIG": str(self.kubernetes.kubeconfig()),
            "KUBECACHEDIR": str(self.home / "kubectl"),
        }
        return {**os.environ, **QUIET, **kubectl, "PATH": os.pathsep.join(paths)}


QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    require("curl", "apt-get install curl")
    for name in ("export", "mlflow", "kubernetes"):
        (tmp_path / name).mkdir()
    (tmp_path / "export").chmod(0o777)  # of the export, everybody is the user of the pods
    copy_tree(tmp_path / "autoretrain")
    with (
        running_postgres() as postgres,
        running_mlflow(tmp_path / "mlflow") as mlflow,
        running_kubernetes(tmp_path / "kubernetes", CONTROLLERS) as kubernetes,
    ):
        yield World(tmp_path, postgres, mlflow.uri, kubernetes)


@pytest.fixture
def shell(world: World) -> Iterator[Shell]:
    shell = Shell(world.home, world.environment())
    try:
        yield shell
    finally:
        shell.end()


@contextmanager
def node(world: World, copied: Mapping[str, Path]) -> Iterator[Node]:
    """A node whose image is the reader's environment and what the reader's Containerfile copies."""
    (world.home / "node").mkdir()
    installed = libraries()
    image = Image(world.home / "venv", {**copied, str(installed): installed}, QUIET)
    with Node(
        world.kubernetes, world.home / "node", claims={"autoretrain": world.export}, image=image
    ) as one:
        yield one


def libraries() -> Path:
    """Where the libraries of this environment are."""
    return Path(pytest.__file__).parent.parent


def lend_libraries(environment: Path) -> None:
    """Let pip find what is installed here, lest it fetch a gigabyte; it builds and installs AutoRetrain."""
    [packages] = (environment / "lib").glob("python*/site-packages")
    (packages / "lent.pth").write_text(f"{libraries()}\n")


def copied(containerfile: str, directory: Path) -> dict[str, Path]:
    """What a Containerfile copies: where to, and from where."""
    found = re.findall(r"^COPY (\S+) (\S+/)$", containerfile, re.MULTILINE)
    assert found
    return {f"{target}{name}": directory / name for name, target in found}


def test_every_block_of_the_page_runs_in_order(world: World, shell: Shell) -> None:
    addresses, page = world.addresses(), PAGE.read_text(encoding="utf-8")
    assert not [text for text in addresses if text not in page], "the page no longer says it"
    told = list(blocks(page))
    assert len(told) > 15
    with contextlib.ExitStack() as stack:
        for block in told:
            text = replaced(block.text, addresses)
            if block.file is not None:
                write(shell.directory / block.file, text, append=block.append)
                if block.file == "Containerfile":
                    stack.enter_context(node(world, copied(text, shell.directory)))
                continue
            for command, wanted in Block("console", text).commands:
                check(command, shell.run(command), wanted)
            if (world.home / "venv").is_dir() and not list(world.home.glob("venv/lib/*/*/lent.pth")):
                lend_libraries(world.home / "venv")
        everything_is_scraped(shell.directory, world.kubernetes)


def replaced(text: str, addresses: Mapping[str, str]) -> str:
    for one, other in addresses.items():
        text = text.replace(one, other)
    return text


def write(file: Path, text: str, *, append: bool) -> None:
    before = file.read_text() if append else ""
    file.write_text(f"{before}\n{text}" if append else text)


def discovered(kubernetes: KubernetesServer, discovery: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What Prometheus finds in a cluster by ``role: pod``; Debian's is built without that."""
    assert discovery["role"] == "pod"
    [namespace] = discovery["namespaces"]["names"]
    with kubernetes.client() as client:
        pods = client.get(f"/api/v1/namespaces/{namespace}/pods").raise_for_status().json()["items"]
    found = []
    for pod in pods:
        address = pod["status"].get("podIP", "127.0.0.1")
        ports = [port["containerPort"] for port in pod["spec"]["containers"][0].get("ports", [])]
        labels = {re.sub(r"\W", "_", name): value for name, value in pod["metadata"]["labels"].items()}
        meta = {f"__meta_kubernetes_pod_label_{name}": value for name, value in labels.items()}
        meta["__meta_kubernetes_pod_name"] = pod["metadata"]["name"]
        found.append({"targets": [f"{address}:{port}" for port in ports] or [address], "labels": meta})
    return found


def everything_is_scraped(directory: Path, kubernetes: KubernetesServer) -> None:
    """The page's Prometheus finds both controllers, as one job, and its alerts know them."""
    settings = yaml.safe_load((directory / "prometheus.yml").read_text())
    settings["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    [scrape] = settings["scrape_configs"]
    [discovery] = scrape.pop("kubernetes_sd_configs")
    scrape["static_configs"] = discovered(kubernetes, discovery)
    assert len(scrape["static_configs"]) > 2  # the pod of a training as well
    (directory / "metrics").mkdir()
    with serving(directory / "metrics", settings=yaml.safe_dump(settings)) as prometheus:

        def ask(query: str) -> list[dict[str, Any]]:
            answer = httpx.get(f"{prometheus.url}/api/v1/query", params={"query": query})
            found: list[dict[str, Any]] = answer.json()["data"]["result"]
            return found

        def both() -> bool:
            found = ask("count by (job) (autoretrain_loop_age_seconds)")
            return [(one["metric"], one["value"][1]) for one in found] == [({"job": "autoretrain"}, "2")]

        until(both)
        [jobs] = ask("sum by (job) (autoretrain_jobs_total{outcome='deployed'})")
        assert jobs["value"][1] == "1"
        rules = httpx.get(f"{prometheus.url}/api/v1/rules").json()["data"]["groups"][0]["rules"]
        assert {rule["health"] for rule in rules} <= {"ok", "unknown"}
        assert ask("ALERTS{alertstate='firing'}") == []
