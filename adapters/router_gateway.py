"""Splits as weights of HTTPRoutes: any gateway that implements the Kubernetes Gateway API serves them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from ..ports.errors import Permanent, SplitMoved
from ..ports.traffic import Split
from .gateway_route import GatewayPlaces, Rule, is_same, shared
from .kubernetes_client import Cluster, KubernetesClient, Object
from .kubernetes_manifest import OWNER, PREFIX
from .split_text import split_of, text_of

SPLIT = f"{PREFIX}/split"
"""Annotation of a route that is under a split."""

PERMISSIONS = (
    *((verb, "gateway.networking.k8s.io", "httproutes") for verb in ("get", "patch")),
    ("get", "", "services"),
)
"""Verb, API group and resource of everything that is asked of a namespace."""


class GatewayRouter:
    """Implements TrafficRouter. A gateway shares requests by chance: the share holds, a key is not kept.

    The split stands in an annotation of the route, under a label that says whose it is; the rules must say
    the same. A change carries the version of the route that it was decided upon, and the API server refuses
    it for any other.

    Args:
        cluster: Which API server.
        places: Where requests go, by model.
        owner: Name of this installation; no other one changes its splits.
    """

    def __init__(
        self, cluster: Cluster, places: Mapping[str, GatewayPlaces], *, owner: str = "autoretrain"
    ) -> None:
        self._cluster = cluster
        self._places = dict(places)
        self._owner = owner

    def in_force(self, model: str) -> Split | None:
        """Read the split of a model."""
        return self._read(model, self._route(model))

    def apply(self, split: Split, expected: Split | None) -> None:
        """Put a split in force, if the expected one still is and the candidate has its Service."""
        places, route = self._of(split.model), self._route(split.model)
        found = self._read(split.model, route)
        if found == split:
            return
        if found != expected:
            raise SplitMoved(split.model, expected, found)
        if not self._client.has_service(places.namespace, service := places.of(split)):
            raise Permanent(f"there is no Service {places.namespace}/{service} for version {split.candidate}")
        self._write(split.model, route, split)

    def clear(self, model: str, expected: Split) -> None:
        """Send all requests of a model to the champion, if the expected split still is in force."""
        route = self._route(model)
        found = self._read(model, route)
        if found is None:
            return
        if found != expected:
            raise SplitMoved(model, expected, found)
        self._write(model, route, None)

    def reset(self, model: str) -> None:
        """Send all requests of a model to the champion, whatever is in force and whoever put it there."""
        self._write(model, self._route(model), None)

    def examine(self, model: str) -> None:
        """See whether everything that a split takes is permitted.

        Raises:
            Temporary: The cluster cannot be reached.
            Permanent: Something is not permitted; each is named.
        """
        places = self._of(model)
        missing = [
            f"{verb} {resource}"
            for verb, group, resource in PERMISSIONS
            if not self._client.may(
                places.namespace, verb, group, resource, name=places.route if resource == "httproutes" else ""
            )
        ]
        if missing:
            raise Permanent(f"not permitted in the namespace {places.namespace}: {', '.join(missing)}")

    @cached_property
    def _client(self) -> KubernetesClient:
        return KubernetesClient(self._cluster)

    def _of(self, model: str) -> GatewayPlaces:
        if model not in self._places:
            raise Permanent(f"traffic.models.{model}: say which HTTPRoute has the requests of this model")
        return self._places[model]

    def _route(self, model: str) -> Object:
        places = self._of(model)
        return self._client.http_route(places.namespace, places.route)

    def _read(self, model: str, route: Object) -> Split | None:
        """The split of a route, when annotation, owner and rules agree."""
        places, metadata = self._of(model), route["metadata"]
        where = f"HTTPRoute {places.namespace}/{places.route}"
        text = metadata.get("annotations", {}).get(SPLIT)
        owner = metadata.get("labels", {}).get(OWNER)
        if text is not None and owner != self._owner:
            raise SplitMoved(model, "a split of ours", f"one of the installation {owner}, in {where}")
        try:
            split = split_of(text) if text is not None else None
        except ValueError as error:
            raise SplitMoved(model, "a split", f"{where} as somebody left it: {error}") from None
        if split is not None and split.model != model:
            raise SplitMoved(model, "a split", f"that of {split.model}, in {where}")
        rules = _rules(route)
        if not is_same(rules, shared(rules, places, split), places):
            meant = split or "no split"
            raise SplitMoved(model, meant, f"{where}, whose weights or filters somebody changed")
        return split

    def _write(self, model: str, route: Object, split: Split | None) -> None:
        places = self._of(model)
        metadata = {
            "resourceVersion": route["metadata"]["resourceVersion"],
            "annotations": {SPLIT: text_of(split) if split else None},
            "labels": {OWNER: self._owner if split else None},
        }
        rules = shared(_rules(route), places, split)
        patch: dict[str, Any] = {"metadata": metadata, "spec": {"rules": rules}}
        self._client.change_http_route(places.namespace, places.route, patch)


def _rules(route: Object) -> Sequence[Rule]:
    rules: Sequence[Rule] = route["spec"].get("rules", ())
    return rules
