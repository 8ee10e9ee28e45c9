"""A queue in front of the cluster, as Kueue is one: it holds Jobs back, lets them go, and takes nodes back.

Kueue itself is not here. What it does to a Job is done by hand; the Job controller that follows is real.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes_node import Node
from kubernetes_server import KubernetesServer, running_kubernetes

from autoretrain.adapters.compute_kubernetes import KubernetesCompute
from autoretrain.adapters.kubernetes_client import Cluster
from autoretrain.adapters.kubernetes_manifest import Nodes, PodTemplate, name_of
from autoretrain.ports.compute import RunRequest, RunState, RunStatus

pytestmark = [pytest.mark.service, pytest.mark.slow, pytest.mark.xdist_group("kubernetes")]

ENDED = (RunState.SUCCEEDED, RunState.FAILED, RunState.LOST)
PENDING_SECONDS = 3.0
TEXT = """
import pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
with (folder / "log").open("a") as log:
    log.write("begun\\n")
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
while not (folder / "end").exists():
    time.sleep(0.02)
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubernetesServer]:
    with (
        running_kubernetes(tmp_path_factory.mktemp("kubernetes")) as server,
        Node(server, tmp_path_factory.mktemp("node")),
    ):
        yield server


class Queue:
    """A run in a queue, and what the queue does to its Job."""

    def __init__(self, cluster: KubernetesServer, folder: Path) -> None:
        template = PodTemplate(
            image="python:3.11", user=1000, queue="gpus", nodes=(Nodes("spot", price=3600.0),)
        )
        self.folder, self.owner = folder, f"test-{hash(folder) & 0xFFFFFFFF:x}"
        self.compute = KubernetesCompute(
            Cluster(cluster.kubeconfig()),
            lambda _: template,
            template,
            namespaces=["default"],
            owner=self.owner,
            pending_seconds=PENDING_SECONDS,
            relist_seconds=1.0,
        )
        self._client = cluster.client()
        self._path = f"/apis/batch/v1/namespaces/default/jobs/{name_of('run', self.owner)}"

    def submit(self) -> None:
        command = ("python", "-c", TEXT, str(self.folder))
        self.compute.submit(RunRequest("run", command, deadline_seconds=60))

    def job(self) -> dict[str, Any]:
        return dict(self._client.get(self._path).raise_for_status().json())

    def pods(self) -> list[dict[str, Any]]:
        selector = f"job-name={name_of('run', self.owner)}"
        pods = self._client.get(f"/api/v1/namespaces/default/pods?labelSelector={selector}")
        return list(pods.json()["items"])

    def suspend(self, suspended: bool) -> None:
        headers = {"Content-Type": "application/merge-patch+json"}
        body = json.dumps({"spec": {"suspend": suspended}})
        self._client.patch(self._path, content=body, headers=headers).raise_for_status()

    def begun(self) -> int:
        log = self.folder / "log"
        return len(log.read_text().splitlines()) if log.exists() else 0

    def until(self, *states: RunState, seconds: float = 20.0) -> RunStatus:
        deadline = time.monotonic() + seconds
        while (status := self.compute.observe("run")).state not in states:
            assert time.monotonic() < deadline, status
            time.sleep(0.05)
        return status

    def stays(self, state: RunState, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self.compute.observe("run").state is state
            time.sleep(0.05)

    def close(self) -> None:
        self.compute.close()
        self._client.close()


@pytest.fixture
def queue(cluster: KubernetesServer, tmp_path: Path) -> Iterator[Queue]:
    queue = Queue(cluster, tmp_path)
    queue.submit()
    yield queue
    queue.close()


def test_a_run_waits_for_its_queue_as_long_as_it_takes_and_then_runs(queue: Queue) -> None:
    job = queue.job()
    assert job["spec"]["suspend"] is True
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    queue.stays(RunState.PENDING, PENDING_SECONDS + 2)
    queue.submit()  # a controller that has come back finds it there
    assert (queue.pods(), queue.begun()) == ([], 0)

    queue.suspend(False)
    queue.until(RunState.RUNNING)
    (queue.folder / "end").touch()
    status = queue.until(*ENDED)
    assert (status.state, queue.begun()) == (RunState.SUCCEEDED, 1)
    assert status.cost == status.seconds  # the time in the queue costs nothing


def test_nodes_that_the_queue_takes_back_are_no_failure(queue: Queue) -> None:
    queue.suspend(False)
    queue.until(RunState.RUNNING)
    while queue.begun() == 0:
        time.sleep(0.05)

    queue.suspend(True)
    queue.until(RunState.PENDING)
    queue.stays(RunState.PENDING, PENDING_SECONDS + 2)

    queue.suspend(False)
    queue.until(RunState.RUNNING)
    (queue.folder / "end").touch()
    assert queue.until(*ENDED).state is RunState.SUCCEEDED
    assert queue.begun() == 2


def test_a_cancelled_run_never_starts_when_its_queue_lets_it_go(queue: Queue) -> None:
    queue.until(RunState.PENDING)
    queue.compute.cancel("run")
    status = queue.until(*ENDED)
    assert (status.state, status.reason, status.cost) == (RunState.FAILED, "cancelled", 0.0)

    queue.suspend(False)
    deadline = time.monotonic() + 20
    while not any(one["type"] == "Failed" for one in queue.job()["status"].get("conditions") or ()):
        assert time.monotonic() < deadline
        assert queue.pods() == []
        time.sleep(0.1)
    assert (queue.begun(), queue.compute.observe("run").reason) == (0, "cancelled")
