"""What deploy/kubernetes holds, on a real API server: it is accepted, and its role is enough and no more."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli_project import until
from kubernetes_node import Node
from kubernetes_server import KubernetesServer, programs, running_kubernetes

from autoretrain.adapters.compute_kubernetes import PERMISSIONS, KubernetesCompute
from autoretrain.adapters.kubernetes_client import Cluster
from autoretrain.adapters.kubernetes_manifest import PodTemplate
from autoretrain.entrypoints.settings import parse_settings
from autoretrain.entrypoints.settings_file import read_toml
from autoretrain.ports.compute import RunRequest, RunState
from autoretrain.ports.errors import AutoRetrainError

from services import ROOT

pytestmark = [pytest.mark.service, pytest.mark.xdist_group("kubernetes")]

BASE = ROOT / "deploy" / "kubernetes"
TEMPLATE = PodTemplate(image="autoretrain:test", namespace="autoretrain", user=65532)


def objects(folder: Path = BASE) -> Iterator[dict[str, Any]]:
    """What ``kubectl apply -k`` sends."""
    built = subprocess.run([programs() / "kubectl", "kustomize", folder], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    yield from yaml.safe_load_all(built.stdout)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubernetesServer]:
    with running_kubernetes(tmp_path_factory.mktemp("kubernetes")) as server:
        server.apply(*(one for one in objects() if one["kind"] == "Namespace"))
        yield server


@pytest.fixture(scope="module")
def applied(cluster: KubernetesServer) -> KubernetesServer:
    cluster.apply(*(one for one in objects() if one["kind"] != "Namespace"))
    return cluster


def test_every_object_is_accepted_as_it_stands(cluster: KubernetesServer) -> None:
    found = list(objects())
    assert {one["kind"] for one in found} >= {"Deployment", "Role", "NetworkPolicy", "PodDisruptionBudget"}
    for one in found:
        if one["kind"] != "Namespace":
            cluster.apply(one, dry_run=True)


@pytest.fixture(scope="module")
def with_operator(cluster: KubernetesServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An overlay with the component, and the Prometheus operator's own schemas in the cluster."""
    schemas = [yaml.safe_load(file.read_text()) for file in (programs() / "schemas").glob("*.yaml")]
    assert {one["spec"]["names"]["kind"] for one in schemas} == {"ServiceMonitor", "PrometheusRule"}
    cluster.apply(*schemas)
    for one in schemas:
        until(lambda one=one: is_served(cluster, one))  # type: ignore[misc]
    overlay = tmp_path_factory.mktemp("overlay")
    base = os.path.relpath(BASE, overlay)
    (overlay / "kustomization.yaml").write_text(f"resources: [{base}]\ncomponents: [{base}/monitoring]\n")
    return overlay


def is_served(cluster: KubernetesServer, schema: dict[str, Any]) -> bool:
    group, names = schema["spec"]["group"], schema["spec"]["names"]
    with cluster.client() as client:
        return client.get(f"/apis/{group}/v1/{names['plural']}").status_code == 200


def test_the_component_is_what_the_operator_knows(cluster: KubernetesServer, with_operator: Path) -> None:
    found = {one["kind"]: one for one in objects(with_operator)}
    assert found.keys() - {one["kind"] for one in objects()} == {"ServiceMonitor", "PrometheusRule"}
    for kind in ("ServiceMonitor", "PrometheusRule"):
        cluster.apply(found[kind], dry_run=True)
    found["ServiceMonitor"]["spec"]["endpoints"][0]["intervall"] = "30s"
    with pytest.raises(AssertionError, match="intervall"):
        cluster.apply(found["ServiceMonitor"], dry_run=True)


def test_the_monitor_finds_the_controllers_and_calls_them_one_job(with_operator: Path) -> None:
    """The operator takes the Service's name for the job, unless ``jobLabel`` says otherwise."""
    found = {one["kind"]: one for one in objects(with_operator)}
    monitor, service = found["ServiceMonitor"]["spec"], found["Service"]
    assert "jobLabel" not in monitor
    assert service["metadata"]["name"] == "autoretrain"
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert found["ServiceMonitor"]["metadata"]["namespace"] == service["metadata"]["namespace"]
    [endpoint], [port] = monitor["endpoints"], service["spec"]["ports"]
    assert endpoint["port"] == port["name"]


def test_the_settings_are_settings(tmp_path: Path) -> None:
    [settings] = [one for one in objects() if one["kind"] == "ConfigMap"]
    file = tmp_path / "autoretrain.toml"
    file.write_text(settings["data"]["autoretrain.toml"])
    checked = parse_settings(read_toml(file), tmp_path)
    assert checked.kubernetes.namespaces() == ("autoretrain", "autoretrain-predictions")


def test_the_role_names_what_is_asked_for_and_nothing_else() -> None:
    for role in (one for one in objects() if one["kind"] == "Role"):
        given = {
            (verb, group, resource)
            for rule in role["rules"]
            for verb in rule["verbs"]
            for group in rule["apiGroups"]
            for resource in rule["resources"]
        }
        assert given == set(PERMISSIONS)


def compute_of(cluster: KubernetesServer, owner: str) -> KubernetesCompute:
    token = cluster.account_token("autoretrain", "autoretrain")
    return KubernetesCompute(
        Cluster(cluster.kubeconfig(token, "account")),
        lambda _: TEMPLATE,
        TEMPLATE,
        namespaces=["autoretrain"],
        owner=owner,
        pending_seconds=3.0,
        relist_seconds=60.0,  # so that only the watch tells in time
    )


def ways_of_a_run(compute: KubernetesCompute) -> list[str]:
    """Everything that is asked of a cluster; says what did not come out."""
    faults = []

    def does(what: str, holds: Any) -> None:
        try:
            deadline = time.monotonic() + 10.0
            while not holds():
                if time.monotonic() > deadline:
                    faults.append(what)
                    return
                time.sleep(0.1)
        except AutoRetrainError as error:
            faults.append(f"{what}: {error}")

    def submitted(key: str, text: str) -> bool:
        compute.submit(RunRequest(key, ("python", "-c", text)))
        return True

    def cancelled(key: str) -> bool:
        compute.cancel(key)
        return True

    def state(key: str) -> RunState:
        return compute.observe(key).state

    does("submit", lambda: submitted("short", "import time; time.sleep(1); print('here')"))
    does("end", lambda: state("short") is RunState.SUCCEEDED)
    does("log", lambda: compute.log_tail("short") == "here")
    does("again", lambda: submitted("short", "import time; time.sleep(1); print('here')"))
    does("submit", lambda: submitted("fails", "raise SystemExit(3)"))
    does("why", lambda: compute.observe("fails").exit_code == 3)
    does("submit", lambda: submitted("long", "import time; time.sleep(60)"))
    does("cancel", lambda: cancelled("long"))
    does("cancelled", lambda: state("long") is RunState.FAILED)
    return faults


def with_rules(cluster: KubernetesServer, rules: list[dict[str, Any]]) -> None:
    path = "/apis/rbac.authorization.k8s.io/v1/namespaces/autoretrain/roles/autoretrain-runs"
    with cluster.client() as client:
        headers = {"Content-Type": "application/merge-patch+json"}
        client.patch(path, content=json.dumps({"rules": rules}), headers=headers).raise_for_status()


def test_the_role_is_enough(applied: KubernetesServer, tmp_path: Path) -> None:
    compute = compute_of(applied, "enough")
    with Node(applied, tmp_path):
        assert ways_of_a_run(compute) == []
    assert compute.not_permitted() == []
    compute.close()


@pytest.mark.slow
@pytest.mark.parametrize("left_out", PERMISSIONS, ids=lambda one: f"{one[0]}-{one[2].replace('/', '-')}")
def test_each_verb_is_needed(
    applied: KubernetesServer, left_out: tuple[str, str, str], tmp_path: Path
) -> None:
    rules = [
        {"apiGroups": [group], "resources": [resource], "verbs": [verb]}
        for verb, group, resource in PERMISSIONS
    ]
    verb, _, resource = left_out
    compute = compute_of(applied, f"without-{verb}-{resource.replace('/', '-')}")
    with_rules(applied, [rule for rule, one in zip(rules, PERMISSIONS, strict=True) if one != left_out])
    try:
        time.sleep(1.0)  # the server hears of its roles through a watch
        assert compute.not_permitted() == [f"{verb} {resource} in the namespace autoretrain"]
        if resource == "events":
            compute.submit(RunRequest("unseen", ("true",)))
            deadline = time.monotonic() + 20.0
            while compute.observe("unseen").state is not RunState.FAILED:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            assert compute.observe("unseen").reason.endswith("the cluster does not say why")
        elif verb != "watch":  # without a watch there are more lists
            with Node(applied, tmp_path):
                assert ways_of_a_run(compute) != []
    finally:
        with_rules(applied, rules)
        compute.close()
