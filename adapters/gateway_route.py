"""A split as rules of an HTTPRoute of the Kubernetes Gateway API. Values only; nothing here calls anybody.

Shares are the weights of a rule's ``backendRefs``, copies its ``RequestMirror`` filters
(https://gateway-api.sigs.k8s.io/reference/spec/).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..ports.errors import Permanent
from ..ports.traffic import Split

SERVICE = r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?"
"""Name of a Service (RFC 1035)."""
_WHOLE = 10_000

Rule = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class GatewayPlaces:
    """Where an HTTPRoute sends the requests of one model.

    Attributes:
        namespace: Of the route and both Services.
        route: Name of the HTTPRoute.
        champion: Service of what serves the champion alias.
        candidate: The same for the candidate; ``{version}`` stands for its version.
    """

    namespace: str
    route: str
    champion: str
    candidate: str

    def of(self, split: Split) -> str:
        """The candidate's Service.

        Raises:
            Permanent: Its version cannot stand in a name.
        """
        name = self.candidate.replace("{version}", split.candidate)
        if not re.fullmatch(SERVICE, name):
            raise Permanent(f"version {split.candidate!r} cannot be part of the name of a Service: {name!r}")
        return name

    def may_be_candidate(self, name: str) -> bool:
        """Whether a Service may be a candidate's, of whatever version."""
        pattern = re.escape(self.candidate).replace(re.escape("{version}"), ".+")
        return name != self.champion and re.fullmatch(pattern, name) is not None


def shared(rules: Sequence[Rule], places: GatewayPlaces, split: Split | None) -> list[Rule]:
    """Put a split into rules, whatever was in them before.

    Args:
        rules: Rules as the API server gives them, with its defaults.
        places: Where requests go.
        split: The split; ``None`` sends all to the champion.

    Returns:
        The rules. Those that send nothing to the champion are left alone.

    Raises:
        Permanent: No rule sends anything to the champion, or the version cannot stand in a name.
    """
    ours = [_is_ours(rule, places) for rule in rules]
    if not any(ours):
        where = f"HTTPRoute {places.namespace}/{places.route}"
        raise Permanent(f"{where}: no rule sends anything to the Service {places.champion}")
    return [
        _with(_at_rest(rule, places), places, split) if is_ours else rule
        for rule, is_ours in zip(rules, ours, strict=True)
    ]


def _is_ours(rule: Rule, places: GatewayPlaces) -> bool:
    return any(ref["name"] == places.champion for ref in rule.get("backendRefs", ()))


def _at_rest(rule: Rule, places: GatewayPlaces) -> dict[str, Any]:
    """A rule that sends everything to the champion, with nothing copied to a candidate."""
    champion = next(ref for ref in rule["backendRefs"] if ref["name"] == places.champion)
    filters = [one for one in rule.get("filters", ()) if not _copies_to_candidate(one, places)]
    rest = {name: value for name, value in rule.items() if name != "filters"}
    return {**rest, "backendRefs": [{**champion, "weight": 1}], **({"filters": filters} if filters else {})}


def _copies_to_candidate(one: Mapping[str, Any], places: GatewayPlaces) -> bool:
    return one["type"] == "RequestMirror" and places.may_be_candidate(
        one["requestMirror"]["backendRef"]["name"]
    )


def _with(rule: dict[str, Any], places: GatewayPlaces, split: Split | None) -> Rule:
    """A rule at rest, with a split."""
    if split is None:
        return rule
    [champion] = rule["backendRefs"]
    name = places.of(split)
    if split.shadow:
        return {**rule, "filters": [*rule.get("filters", ()), _copying(champion, name, split.parts)]}
    refs = [
        {**champion, "weight": _WHOLE - split.parts},
        {**champion, "name": name, "weight": split.parts},
    ]
    return {**rule, "backendRefs": refs}


def _copying(champion: Mapping[str, Any], name: str, parts: int) -> Rule:
    """A filter that copies a share of requests. Not every gateway knows shares: what copies all has none."""
    place = {key: champion[key] for key in ("group", "kind", "namespace", "port") if key in champion}
    share = {} if parts == _WHOLE else {"fraction": {"numerator": parts, "denominator": _WHOLE}}
    return {"type": "RequestMirror", "requestMirror": {"backendRef": {**place, "name": name}, **share}}


def is_same(rules: Sequence[Rule], others: Iterable[Rule], places: GatewayPlaces) -> bool:
    """Whether two lists of rules share requests in the same way.

    A champion that is alone has all requests at any weight above 0.
    """
    return [_weighed(rule, places) for rule in rules] == [_weighed(rule, places) for rule in others]


def _weighed(rule: Rule, places: GatewayPlaces) -> Rule:
    refs = rule.get("backendRefs", ())
    is_alone = len(refs) == 1 and refs[0]["name"] == places.champion and refs[0].get("weight", 1) > 0
    return {**rule, "backendRefs": [{**refs[0], "weight": 1}]} if is_alone else rule
