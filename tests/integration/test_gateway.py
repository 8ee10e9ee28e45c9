"""HTTPRoutes under a split, on a real API server with the Gateway API's own schema."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli_project import until
from kubernetes_server import KubernetesServer, programs, running_kubernetes

from autoretrain.adapters.gateway_route import GatewayPlaces
from autoretrain.adapters.kubernetes_client import Cluster
from autoretrain.adapters.kubernetes_manifest import OWNER
from autoretrain.adapters.router_gateway import PERMISSIONS, SPLIT, GatewayRouter
from autoretrain.entrypoints.testing.router import FIRST, SECOND, SHADOW, TrafficRouterContract
from autoretrain.ports.errors import Permanent, SplitMoved, Temporary
from autoretrain.ports.traffic import TrafficRouter

from services import ROOT

pytestmark = [pytest.mark.service, pytest.mark.xdist_group("kubernetes")]

_folders = count(1)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubernetesServer]:
    with running_kubernetes(tmp_path_factory.mktemp("kubernetes")) as server:
        install_gateway_api(server)
        for name in ("boiler", "boiler-4", "boiler-5", "pump", "pump-4"):
            spec = {"ports": [{"port": 8080}], "selector": {"app": name}}
            service = {"apiVersion": "v1", "kind": "Service", "metadata": _named(name), "spec": spec}
            server.apply(service)
        yield server


def install_gateway_api(server: KubernetesServer) -> None:
    """Make HTTPRoutes known to a cluster."""
    [file] = programs().glob("gateway-*/*_httproutes.yaml")
    server.apply(yaml.safe_load(file.read_text()))

    def is_served() -> bool:
        with server.client() as client:
            return client.get("/apis/gateway.networking.k8s.io/v1/httproutes").status_code == 200

    until(is_served)


def _named(name: str) -> dict[str, str]:
    return {"name": name, "namespace": "default"}


PATH = "/apis/gateway.networking.k8s.io/v1/namespaces/default/httproutes"
RULES: list[dict[str, Any]] = [
    {
        "matches": [{"path": {"type": "PathPrefix", "value": "/predict"}}],
        "filters": [
            {
                "type": "RequestHeaderModifier",
                "requestHeaderModifier": {"set": [{"name": "x-team", "value": "heat"}]},
            }
        ],
        "backendRefs": [{"name": "boiler", "port": 8080}],
    },
    {
        "matches": [{"path": {"type": "PathPrefix", "value": "/docs"}}],
        "backendRefs": [{"name": "pages", "port": 80}],
    },
]


class Route:
    """An HTTPRoute of its own for a model, by the administrator's hand."""

    def __init__(
        self, server: KubernetesServer, model: str, rules: list[dict[str, Any]] | None = None
    ) -> None:
        self.server, self.name = server, f"{model}-{next(_folders)}"
        rules = rules or json.loads(json.dumps(RULES).replace('"boiler"', f'"{model}"'))
        body = {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {**_named(self.name), "labels": {"team": "heat"}},
            "spec": {"parentRefs": [{"name": "front"}], "rules": rules},
        }
        with server.client() as client:
            client.post(PATH, json=body).raise_for_status()

    def read(self) -> dict[str, Any]:
        with self.server.client() as client:
            found: dict[str, Any] = client.get(f"{PATH}/{self.name}").raise_for_status().json()
        return found

    def rule(self, number: int = 0) -> dict[str, Any]:
        found: dict[str, Any] = self.read()["spec"]["rules"][number]
        return found

    def shares(self, number: int = 0) -> dict[str, int]:
        """Weights by Service."""
        return {ref["name"]: ref["weight"] for ref in self.rule(number)["backendRefs"]}

    def put(self, changed: dict[str, Any]) -> None:
        with self.server.client() as client:
            client.put(f"{PATH}/{self.name}", json=changed).raise_for_status()

    def router(self, owner: str = "autoretrain", token: str | None = None) -> GatewayRouter:
        model = self.name.partition("-")[0]
        places = {model: GatewayPlaces("default", self.name, model, f"{model}-{{version}}")}
        file = self.server.kubeconfig(token, "kubeconfig-of-account" if token else "kubeconfig")
        return GatewayRouter(Cluster(file), places, owner=owner)


@pytest.fixture
def route(cluster: KubernetesServer) -> Route:
    return Route(cluster, "boiler")


class TestGatewayRouter(TrafficRouterContract):
    routes: dict[Path, dict[str, Route]]

    @pytest.fixture(autouse=True)
    def _cluster(self, cluster: KubernetesServer) -> None:
        self.cluster, self.routes = cluster, {}

    def make_router(self, directory: Path, models: Sequence[str]) -> TrafficRouter:
        routes = self.routes.setdefault(directory, {model: Route(self.cluster, model) for model in models})
        places = {
            model: GatewayPlaces("default", route.name, model, f"{model}-{{version}}")
            for model, route in routes.items()
        }
        return GatewayRouter(Cluster(self.cluster.kubeconfig()), places)

    def meddle(self, directory: Path, model: str) -> None:
        route = self.routes[directory][model]
        changed = route.read()
        changed["spec"]["rules"][0]["backendRefs"][1]["weight"] = 600
        route.put(changed)

    def unreachable(self, directory: Path) -> TrafficRouter:
        file = directory / "kubeconfig"
        file.write_text(self.cluster.kubeconfig().read_text().replace(str(self.cluster.port), "9"))
        return GatewayRouter(
            Cluster(file), {"boiler": GatewayPlaces("default", "x", "boiler", "b-{version}")}
        )


def test_weights_are_shares_and_everything_else_of_the_route_stays(route: Route) -> None:
    before, router = route.read(), route.router()
    router.apply(FIRST, None)
    assert route.shares() == {"boiler": 9500, "boiler-4": 500}
    assert route.shares(1) == {"pages": 1}
    assert route.rule()["filters"] == before["spec"]["rules"][0]["filters"]
    assert route.read()["metadata"]["labels"] == {"team": "heat", OWNER: "autoretrain"}
    router.apply(SECOND, FIRST)
    assert route.shares() == {"boiler": 7500, "boiler-4": 2500}
    router.clear("boiler", SECOND)
    after = route.read()
    assert after["spec"] == before["spec"]
    assert after["metadata"]["labels"] == {"team": "heat"}
    assert SPLIT not in after["metadata"].get("annotations", {})


@pytest.mark.parametrize(
    ("weight", "share"), [(1.0, {}), (0.25, {"fraction": {"numerator": 2500, "denominator": 10_000}})]
)
def test_a_shadow_is_a_filter_that_copies(route: Route, weight: float, share: dict[str, Any]) -> None:
    before, split = route.read(), replace(SHADOW, weight=weight)
    route.router().apply(split, None)
    place = {"group": "", "kind": "Service", "name": "boiler-4", "port": 8080}
    copying = {"type": "RequestMirror", "requestMirror": {"backendRef": place, **share}}
    assert route.rule()["filters"] == [*before["spec"]["rules"][0]["filters"], copying]
    assert route.shares() == {"boiler": 1}
    route.router().clear("boiler", split)
    assert route.read()["spec"] == before["spec"]


def test_every_rule_of_the_champion_is_under_the_split(cluster: KubernetesServer) -> None:
    second = {**RULES[0], "matches": [{"path": {"type": "PathPrefix", "value": "/v2"}}]}
    route = Route(cluster, "boiler", [RULES[0], RULES[1], second])
    route.router().apply(FIRST, None)
    assert route.shares(0) == route.shares(2) == {"boiler": 9500, "boiler-4": 500}


def test_a_copy_of_the_users_own_stays(cluster: KubernetesServer) -> None:
    place = {"group": "", "kind": "Service", "name": "recorder", "port": 80}
    own = {"type": "RequestMirror", "requestMirror": {"backendRef": place}}
    route = Route(cluster, "boiler", [{**RULES[0], "filters": [own]}])
    router = route.router()
    router.apply(SHADOW, None)
    assert len(route.rule()["filters"]) == 2
    router.reset("boiler")
    assert route.rule()["filters"] == [own]


@pytest.mark.parametrize("change", ["weight", "service", "filter", "annotation", "other"])
def test_what_somebody_changed_by_hand_is_found(route: Route, change: str) -> None:
    router = route.router()
    router.apply(FIRST, None)
    changed = route.read()
    rule = changed["spec"]["rules"][0]
    if change == "weight":
        rule["backendRefs"][0]["weight"] = 0
    elif change == "service":
        rule["backendRefs"].append({"name": "boiler-5", "port": 8080, "weight": 1})
    elif change == "filter":
        place = {"name": "boiler-5", "port": 8080}
        rule["filters"].append({"type": "RequestMirror", "requestMirror": {"backendRef": place}})
    elif change == "annotation":
        changed["metadata"]["annotations"][SPLIT] = "{}"
    else:
        changed["metadata"]["annotations"][SPLIT] = changed["metadata"]["annotations"][SPLIT].replace(
            '"boiler"', '"pump"'
        )
    route.put(changed)
    with pytest.raises(SplitMoved):
        router.in_force("boiler")
    with pytest.raises(SplitMoved):
        router.clear("boiler", FIRST)
    router.reset("boiler")
    assert router.in_force("boiler") is None
    assert route.shares() == {"boiler": 1}


def test_a_share_that_somebody_else_gives_is_not_written_over(cluster: KubernetesServer) -> None:
    refs = [{"name": "boiler", "port": 8080, "weight": 9}, {"name": "blue", "port": 8080, "weight": 1}]
    route = Route(cluster, "boiler", [{"backendRefs": refs}])
    with pytest.raises(SplitMoved, match="somebody changed"):
        route.router().apply(FIRST, None)
    assert route.shares() == {"boiler": 9, "blue": 1}


def test_a_champion_that_is_alone_may_have_any_weight(cluster: KubernetesServer) -> None:
    route = Route(cluster, "boiler", [{"backendRefs": [{"name": "boiler", "port": 8080, "weight": 7}]}])
    assert route.router().in_force("boiler") is None
    route.router().apply(FIRST, None)
    assert route.shares() == {"boiler": 9500, "boiler-4": 500}


def test_the_split_of_another_installation_is_left_alone(route: Route) -> None:
    route.router("blue").apply(FIRST, None)
    with pytest.raises(SplitMoved, match="installation blue"):
        route.router("green").apply(SECOND, FIRST)
    with pytest.raises(SplitMoved, match="installation blue"):
        route.router("green").clear("boiler", FIRST)
    assert route.router("blue").in_force("boiler") == FIRST


def test_a_candidate_without_a_service_is_refused(route: Route) -> None:
    with pytest.raises(Permanent, match=r"no Service default/boiler-9"):
        route.router().apply(replace(FIRST, candidate="9"), None)
    with pytest.raises(Permanent, match="cannot be part of the name"):
        route.router().apply(replace(FIRST, candidate="9/../x"), None)
    assert route.router().in_force("boiler") is None


def test_a_route_that_is_not_there_or_does_not_know_the_champion_is_permanent(
    cluster: KubernetesServer,
) -> None:
    route = Route(cluster, "boiler", [RULES[1]])
    with pytest.raises(Permanent, match="no rule sends anything to the Service boiler"):
        route.router().in_force("boiler")
    route.name = "boiler-none"
    with pytest.raises(Permanent, match="not found"):
        route.router().in_force("boiler")
    with pytest.raises(Permanent, match=r"traffic\.models\.valve"):
        route.router().in_force("valve")


def test_what_changed_between_looking_and_writing_is_not_written_over(
    route: Route, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody labels the route after we have read it: the API server refuses our version of it."""
    router = route.router()
    has_service = router._client.has_service

    def labelled_meanwhile(namespace: str, name: str) -> bool:
        changed = route.read()
        changed["metadata"]["labels"]["team"] = "cold"
        route.put(changed)
        return has_service(namespace, name)

    monkeypatch.setattr(router._client, "has_service", labelled_meanwhile)
    with pytest.raises(Temporary, match="modified"):
        router.apply(FIRST, None)
    assert route.shares() == {"boiler": 1}
    monkeypatch.undo()
    router.apply(FIRST, None)
    assert route.shares() == {"boiler": 9500, "boiler-4": 500}
    assert route.read()["metadata"]["labels"]["team"] == "cold"


def of_deploy(route: Route) -> Iterator[dict[str, Any]]:
    """The role of the component, by an overlay for one route."""
    for one in yaml.safe_load_all((ROOT / "deploy" / "kubernetes" / "traffic" / "role.yaml").read_text()):
        one["metadata"]["namespace"] = "default"
        for rule in one.get("rules", ()):
            if "resourceNames" in rule:
                assert rule["resourceNames"] == ["boiler"]
                rule["resourceNames"] = [route.name]
        yield one


def test_the_role_that_comes_with_us_is_enough_and_no_more(cluster: KubernetesServer, route: Route) -> None:
    role, binding = of_deploy(route)
    given = {
        (verb, rule["apiGroups"][0], rule["resources"][0]) for rule in role["rules"] for verb in rule["verbs"]
    }
    assert given == set(PERMISSIONS)
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "autoretrain"}}
    account = {"name": "autoretrain", "namespace": "autoretrain"}
    cluster.apply(space, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account}, role, binding)
    token = cluster.account_token(**account)
    router = route.router(token=token)
    until(lambda: cluster_allows(router))
    router.apply(FIRST, None)
    router.clear("boiler", FIRST)
    with pytest.raises(Temporary, match="forbidden"):
        Route(cluster, "boiler").router(token=token).in_force("boiler")


def cluster_allows(router: GatewayRouter) -> bool:
    """Whether the server has heard of the role, which it does through a watch."""
    try:
        router.examine("boiler")
    except Permanent:
        return False
    return True


def test_the_component_can_be_put_into_an_overlay(tmp_path: Path) -> None:
    base = os.path.relpath(ROOT / "deploy" / "kubernetes", tmp_path)
    (tmp_path / "kustomization.yaml").write_text(f"resources: [{base}]\ncomponents: [{base}/traffic]\n")
    command = [str(programs() / "kubectl"), "kustomize", str(tmp_path)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    names = [(one["kind"], one["metadata"]["name"]) for one in yaml.safe_load_all(built.stdout)]
    assert {("Role", "autoretrain-traffic"), ("RoleBinding", "autoretrain-traffic")} <= set(names)


def test_without_permission_it_is_temporary_and_the_missing_ones_are_named(
    cluster: KubernetesServer, route: Route
) -> None:
    router = route.router(token=cluster.account_token("default"))
    with pytest.raises(Temporary, match="forbidden"):
        router.in_force("boiler")
    with pytest.raises(Permanent, match=r"default: get httproutes, patch httproutes, get services$"):
        router.examine("boiler")
    route.router().examine("boiler")
