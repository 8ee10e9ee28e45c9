"""Runs as Jobs of a real Kubernetes: API server, controllers, and a node that runs processes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kubernetes_node import Node
from kubernetes_server import KubernetesServer, running_kubernetes

from autoretrain.adapters.compute_kubernetes import KubernetesCompute
from autoretrain.adapters.kubernetes_client import Cluster
from autoretrain.adapters.kubernetes_manifest import Nodes, PodTemplate
from autoretrain.entrypoints.settings_kubernetes import NodeSettings
from autoretrain.entrypoints.testing.compute import ExecutingComputeContract
from autoretrain.ports.compute import Compute, Isolation, RunRequest, RunState, RunStatus
from autoretrain.ports.errors import Permanent, Temporary

pytestmark = [pytest.mark.service, pytest.mark.xdist_group("kubernetes")]

TEMPLATE = PodTemplate(image="python:3.11", user=1000)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubernetesServer]:
    with running_kubernetes(tmp_path_factory.mktemp("kubernetes")) as server:
        yield server


@pytest.fixture(scope="module")
def node(cluster: KubernetesServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with Node(cluster, tmp_path_factory.mktemp("node")) as node:
        yield node


class TestKubernetesCompute(ExecutingComputeContract):
    readable = ()
    settle_seconds = 30.0
    poll_seconds = 0.05

    @pytest.fixture(autouse=True)
    def _cluster(self, cluster: KubernetesServer, node: Node) -> Iterator[None]:
        self.kubeconfig, self.computes = cluster.kubeconfig(), list[KubernetesCompute]()
        yield
        for compute in self.computes:
            compute.close()

    def make_compute(self, directory: Path) -> Compute:
        owner = f"test-{hash(directory) & 0xFFFFFFFF:x}"
        compute = KubernetesCompute(
            Cluster(self.kubeconfig), lambda _: TEMPLATE, TEMPLATE, namespaces=["default"], owner=owner
        )
        self.computes.append(compute)
        return compute


Make = Callable[..., KubernetesCompute]


@pytest.fixture
def make(cluster: KubernetesServer, node: Node, tmp_path: Path) -> Iterator[Make]:
    """Make adapters that share an installation of the test's own."""
    made: list[KubernetesCompute] = []

    def compute(template: PodTemplate = TEMPLATE, **more: Any) -> KubernetesCompute:
        given: dict[str, Any] = {
            "namespaces": ["default"],
            "owner": f"test-{hash(tmp_path) & 0xFFFFFFFF:x}",
            "relist_seconds": 2.0,
            **more,
        }
        made.append(KubernetesCompute(Cluster(cluster.kubeconfig()), lambda _: template, template, **given))
        return made[-1]

    yield compute
    for one in made:
        one.close()


def program(key: str, text: str, *arguments: str, **labels: str) -> RunRequest:
    return RunRequest(key, ("python", "-c", text, *arguments), deadline_seconds=60, labels=labels)


SLEEP = "import time; print('begun', flush=True); time.sleep(60)"


def until(compute: Compute, key: str, *states: RunState, seconds: float = 30.0) -> RunStatus:
    """Wait until a run is in one of these states; an API server that is away is waited for."""
    deadline, status = time.monotonic() + seconds, RunStatus(RunState.ABSENT)
    while time.monotonic() < deadline:
        try:
            status = compute.observe(key)
        except Temporary:
            time.sleep(0.1)
            continue
        if status.state in states:
            return status
        time.sleep(0.05)
    raise AssertionError(f"run {key} is still {status} after {seconds} s")


ENDED = (RunState.SUCCEEDED, RunState.FAILED, RunState.LOST)


class TestWhatAClusterDoes:
    def test_a_job_that_somebody_deletes_is_lost(self, make: Make, cluster: KubernetesServer) -> None:
        compute = make()
        compute.submit(program("gone", SLEEP))
        until(compute, "gone", RunState.RUNNING)
        delete_jobs(cluster, "gone")
        status = until(compute, "gone", *ENDED)
        assert (status.state, "deleted" in status.reason) == (RunState.LOST, True)

    def test_a_pod_that_is_taken_from_its_node_is_a_loss_and_no_failure(
        self, make: Make, node: Node, cluster: KubernetesServer
    ) -> None:
        compute = make()
        compute.submit(program("evicted", SLEEP))
        until(compute, "evicted", RunState.RUNNING)
        node.evict(pod_of(cluster, "evicted"))
        status = until(compute, "evicted", *ENDED)
        assert status.state is RunState.LOST
        assert status.reason.startswith("its pod was taken from its node")

    @pytest.mark.slow
    def test_a_node_that_dies_takes_its_runs_with_it(
        self, make: Make, cluster: KubernetesServer, tmp_path: Path
    ) -> None:
        patch = {"spec": {"terminationGracePeriodSeconds": 1}}
        dying = (Nodes("dying", {"pool": "dying"}),)
        compute = make(replace(TEMPLATE, nodes=dying, node_lost_seconds=2, pod_patch=patch))
        with Node(cluster, tmp_path, "node-2", {"pool": "dying"}) as node:
            compute.submit(program("left-behind", SLEEP))
            until(compute, "left-behind", RunState.RUNNING)
            node.kill()
            status = until(compute, "left-behind", *ENDED, seconds=90)
        assert status.state is RunState.LOST
        assert "does not answer" in status.reason or "taken from its node" in status.reason
        assert make().observe("left-behind").state is RunState.LOST

    def test_what_cannot_start_fails_in_the_words_of_the_cluster(self, make: Make) -> None:
        priced = (Nodes("dear", price=1000.0),)
        missing = make(replace(TEMPLATE, image="missing:1", nodes=priced), pending_seconds=3)
        missing.submit(program("no-image", SLEEP))
        status = until(missing, "no-image", *ENDED)
        assert status.state is RunState.FAILED
        assert 'ImagePullBackOff: Back-off pulling image "missing:1"' in status.reason
        assert status.cost == 0.0
        assert make().observe("no-image") == status  # and every other controller reads the same

        crowded = make(replace(TEMPLATE, limits={"nvidia.com/gpu": "1"}), pending_seconds=3)
        crowded.submit(program("no-node", SLEEP))
        assert "Insufficient nvidia.com/gpu" in until(crowded, "no-node", *ENDED).reason

    def test_a_full_quota_fails_in_the_words_of_the_cluster(
        self, make: Make, cluster: KubernetesServer
    ) -> None:
        quota = {"hard": {"pods": "0"}}
        cluster.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "full"}},
            {
                "apiVersion": "v1",
                "kind": "ResourceQuota",
                "metadata": {"name": "none", "namespace": "full"},
                "spec": quota,
            },
        )
        compute = make(replace(TEMPLATE, namespace="full"), namespaces=["full"], pending_seconds=4)
        compute.submit(program("no-room", SLEEP))
        assert "exceeded quota" in until(compute, "no-room", *ENDED).reason

    def test_a_namespace_that_is_not_there_is_said(self, make: Make) -> None:
        compute = make(replace(TEMPLATE, namespace="nowhere"), namespaces=["nowhere"])
        with pytest.raises(Permanent, match="nowhere"):
            compute.submit(program("lost", SLEEP))

    def test_a_job_of_somebody_else_is_left_alone(self, make: Make, cluster: KubernetesServer) -> None:
        compute = make()
        compute.submit(program("shared", "print(1)"))
        until(compute, "shared", RunState.SUCCEEDED)
        name = job_named(cluster, "shared")["metadata"]["name"]
        with cluster.client() as client:
            path = f"/apis/batch/v1/namespaces/default/jobs/{name}"
            labels = {"metadata": {"labels": {"autoretrain.dev/installation": "another"}}}
            headers = {"Content-Type": "application/merge-patch+json"}
            client.patch(path, content=json.dumps(labels), headers=headers).raise_for_status()
        with pytest.raises(Permanent, match="is not ours"):
            make().submit(program("shared", "print(1)"))

    def test_an_api_server_that_is_away_costs_nothing(self, make: Make, cluster: KubernetesServer) -> None:
        compute = make()
        compute.submit(program("on-its-own", "import time; time.sleep(2); print('done')"))
        until(compute, "on-its-own", RunState.RUNNING)
        cluster.stop_api_server()
        try:
            time.sleep(2.1)  # a list is believed for so long
            with pytest.raises(Temporary):
                compute.observe("on-its-own")
            with pytest.raises(Temporary):
                compute.submit(program("later", "print(1)"))
        finally:
            cluster.start_api_server()
        assert until(compute, "on-its-own", *ENDED).state is RunState.SUCCEEDED
        assert compute.log_tail("on-its-own") == "done"
        compute.submit(program("later", "print(1)"))
        assert until(compute, "later", *ENDED).state is RunState.SUCCEEDED

    def test_secrets_come_by_reference_and_only_to_what_is_trusted(
        self, make: Make, cluster: KubernetesServer
    ) -> None:
        secret = {"metadata": {"name": "login", "namespace": "default"}, "stringData": {"token": "hush"}}
        cluster.apply({"apiVersion": "v1", "kind": "Secret", **secret})
        compute = make(replace(TEMPLATE, secrets={"TOKEN": "login/token"}))
        text = "import os; print(len(os.environ.get('TOKEN', '')))"
        compute.submit(program("trusted", text))
        compute.submit(replace(program("apart", text), isolation=Isolation()))
        assert until(compute, "trusted", *ENDED).state is RunState.SUCCEEDED
        assert until(compute, "apart", *ENDED).state is RunState.SUCCEEDED
        assert (compute.log_tail("trusted"), compute.log_tail("apart")) == ("4", "0")
        assert "hush" not in json.dumps(job_named(cluster, "trusted"))

    def test_nodes_have_their_price(self, make: Make) -> None:
        nodes = (Nodes("spot", price=3600.0), Nodes("on-demand", price=36_000.0))
        compute = make(replace(TEMPLATE, nodes=nodes, interruptions=1))
        compute.submit(program("first", "import time; time.sleep(1.5)", attempt="1"))
        compute.submit(program("second", "import time; time.sleep(1.5)", attempt="2"))
        first, second = until(compute, "first", *ENDED), until(compute, "second", *ENDED)
        assert (first.nodes, second.nodes) == ("spot", "on-demand")
        assert (first.cost, second.cost) == (first.seconds, 10 * (second.seconds or 0))


def with_label(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


@pytest.mark.slow
class TestWhereARunGoes:
    def test_nodes_that_it_needs_are_waited_for_and_those_that_it_prefers_taken(
        self, make: Make, cluster: KubernetesServer, tmp_path: Path
    ) -> None:
        needs, prefers = with_label("cores", "Gt", "8"), with_label("zone", "In", "b", "c")
        settings = {"name": "large", "required": [needs], "preferred": [{"weight": 9, "preference": prefers}]}
        nodes = (NodeSettings.model_validate(settings).nodes(),)
        compute = make(replace(TEMPLATE, nodes=nodes), pending_seconds=4)
        compute.submit(program("no-such-node", "print(1)"))
        assert "didn't match Pod's node affinity/selector" in until(compute, "no-such-node", *ENDED).reason

        (tmp_path / "near").mkdir()
        with (
            Node(cluster, tmp_path, "far", {"cores": "16", "zone": "a"}) as far,
            Node(cluster, tmp_path / "near", "near", {"cores": "16", "zone": "b"}) as near,
        ):
            compute.submit(program("in-zone-b", "print(1)"))
            assert until(compute, "in-zone-b", *ENDED).state is RunState.SUCCEEDED
            assert (far.started, near.started) == (0, 1)

    def test_a_full_node_lets_it_wait_until_there_is_room(
        self, make: Make, cluster: KubernetesServer, tmp_path: Path
    ) -> None:
        small = (Nodes("small", {"pool": "small"}),)
        compute = make(replace(TEMPLATE, nodes=small, requests={"cpu": "1500m"}))
        crowded = make(replace(TEMPLATE, nodes=small, requests={"cpu": "600m"}), pending_seconds=3)
        with Node(cluster, tmp_path, "small-1", {"pool": "small"}, capacity={"cpu": "2"}):
            compute.submit(program("big", SLEEP))
            until(compute, "big", RunState.RUNNING)
            crowded.submit(program("in-vain", "print(1)"))
            assert "Insufficient cpu" in until(crowded, "in-vain", *ENDED).reason

            compute.submit(program("next", "print(1)"))
            time.sleep(1.0)
            assert compute.observe("next").state is RunState.PENDING
            compute.cancel("big")
            assert until(compute, "next", *ENDED).state is RunState.SUCCEEDED

    def test_variables_come_from_a_config_map_too(self, make: Make, cluster: KubernetesServer) -> None:
        metadata = {"name": "regions", "namespace": "default"}
        cluster.apply(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"REGION": "eu"}}
        )
        source = {"envFrom": [{"configMapRef": {"name": "regions"}}]}
        compute = make(replace(TEMPLATE, container_patch=source))
        compute.submit(program("region", "import os; print(os.environ['REGION'])"))
        assert until(compute, "region", *ENDED).state is RunState.SUCCEEDED
        assert compute.log_tail("region") == "eu"


def job_named(cluster: KubernetesServer, word: str) -> dict[str, Any]:
    with cluster.client() as client:
        jobs = client.get("/apis/batch/v1/namespaces/default/jobs").raise_for_status().json()["items"]
    [found] = [job for job in jobs if job["metadata"]["name"].startswith(f"{word}-")]
    return dict(found)


def pod_of(cluster: KubernetesServer, word: str) -> str:
    selector = f"job-name={job_named(cluster, word)['metadata']['name']}"
    with cluster.client() as client:
        pods = client.get(f"/api/v1/namespaces/default/pods?labelSelector={selector}").json()["items"]
    name: str = pods[0]["metadata"]["name"]
    return name


def delete_jobs(cluster: KubernetesServer, word: str) -> None:
    name = job_named(cluster, word)["metadata"]["name"]
    with cluster.client() as client:
        path = f"/apis/batch/v1/namespaces/default/jobs/{name}"
        client.request("DELETE", path, json={"propagationPolicy": "Background"}).raise_for_status()
