"""What a split is written as: one that is read again, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoretrain.adapters.gateway_route import GatewayPlaces, is_same, shared
from autoretrain.adapters.nginx_split import NginxPlaces, read, rendered, unused
from autoretrain.adapters.split_text import split_of, text_of
from autoretrain.entrypoints.testing.router import FIRST, SHADOW
from autoretrain.entrypoints.testing.strategies import splits
from autoretrain.ports.errors import Permanent
from autoretrain.ports.traffic import Split

NGINX = NginxPlaces("m", "m-{version}", "$cookie_user", "autoretrain_m")
GATEWAY = GatewayPlaces("default", "m", "m", "m-{version}")


@given(splits())
def test_the_text_of_a_split_is_that_split(split: Split) -> None:
    text = text_of(split)
    assert split_of(text) == split
    assert len(text.splitlines()) == 1


@given(st.none() | splits())
def test_the_file_of_nginx_is_that_split(split: Split | None) -> None:
    assert read(NGINX, rendered(NGINX, split)) == split


@given(splits(), st.data())
def test_no_line_of_it_can_be_taken_away_or_put_twice(split: Split, data: st.DataObject) -> None:
    lines = rendered(NGINX, split).splitlines(keepends=True)
    number = data.draw(st.integers(0, len(lines) - 1))
    for changed in (lines[:number] + lines[number + 1 :], lines[: number + 1] + lines[number:]):
        with pytest.raises(ValueError, match=r"changed by hand|a split has"):
            read(NGINX, "".join(changed))


@given(splits())
def test_the_buckets_of_a_file_are_the_weight(split: Split) -> None:
    where, arm, copy = rendered(NGINX, split).split("split_clients ")[1:]
    share = f"    {split.weight:.2%} " if split.weight else None
    for block, has_share in ((where, not split.shadow), (arm, not split.shadow), (copy, split.shadow)):
        assert ("%" in block) == (has_share and share is not None)
        assert share is None or not has_share or share in block


def ref(name: str, weight: int = 1) -> dict[str, Any]:
    return {"group": "", "kind": "Service", "name": name, "port": 8080, "weight": weight}


RULES: list[dict[str, Any]] = [
    {"backendRefs": [ref("m")], "filters": [{"type": "URLRewrite", "urlRewrite": {"hostname": "x"}}]},
    {"backendRefs": [ref("other")]},
    {"backendRefs": [ref("m-1")]},  # a way of its own to one version, for a tester
    {"filters": [{"type": "RequestRedirect", "requestRedirect": {"scheme": "https"}}]},
]


@given(splits(), splits())
def test_rules_hold_the_last_split_alone(split: Split, another: Split) -> None:
    once = shared(RULES, GATEWAY, split)
    assert once[1:] == RULES[1:]
    assert sum(one["weight"] for one in once[0]["backendRefs"]) == (1 if split.shadow else 10_000)
    assert shared(once, GATEWAY, split) == once
    assert shared(once, GATEWAY, another) == shared(RULES, GATEWAY, another)
    assert shared(once, GATEWAY, None) == RULES


@given(splits(), splits())
def test_rules_of_different_splits_differ(split: Split, another: Split) -> None:
    told = [(one.candidate, one.parts, one.shadow) for one in (split, another)]
    same = is_same(shared(RULES, GATEWAY, split), shared(RULES, GATEWAY, another), GATEWAY)
    assert same == (told[0] == told[1])


def test_a_champion_without_weight_is_not_at_rest() -> None:
    assert not is_same([{"backendRefs": [ref("m", 0)]}], [{"backendRefs": [ref("m")]}], GATEWAY)
    assert is_same([{"backendRefs": [ref("m", 7)]}], [{"backendRefs": [ref("m")]}], GATEWAY)


CONFIGURATION = """
upstream m { server 127.0.0.1:1; }
upstream m-4 { server 127.0.0.1:2; }
server { location / { proxy_pass http://$autoretrain_m; # and so on
  mirror /copy; }
  location = /copy { proxy_pass http://${autoretrain_m_copy}$request_uri; } }
"""


@pytest.mark.parametrize(
    ("taken", "put", "split", "missing"),
    [
        ("", "", None, None),
        ("", "", FIRST, None),
        ("", "", SHADOW, None),
        ("proxy_pass http://$autoretrain_m;", "return 200;#$autoretrain_m", None, r"uses $autoretrain_m"),
        ("$autoretrain_m;", "$autoretrain_my;", None, "uses $autoretrain_m"),
        ("${autoretrain_m_copy}", "m-4", SHADOW, "uses $autoretrain_m_copy"),
        ("${autoretrain_m_copy}", "m-4", FIRST, None),
        ("upstream m-4 ", "upstream m-40 ", FIRST, "no upstream m-4"),
        ("upstream m-4 ", "# upstream m-4 ", FIRST, "no upstream m-4"),
        ("upstream m-4 ", "upstream m-40 ", None, None),
    ],
)
def test_what_a_configuration_lacks(taken: str, put: str, split: Split | None, missing: str | None) -> None:
    assert taken in CONFIGURATION
    found = unused(NGINX, split, CONFIGURATION.replace(taken, put, 1) if taken else CONFIGURATION)
    assert (found is None) == (missing is None)
    assert missing is None or missing in (found or "")


@pytest.mark.parametrize("address", ["127.0.0.1:8004", "[::1]:8004"])
def test_an_address_needs_no_upstream(address: str) -> None:
    places = NginxPlaces("m", address.replace("4", "{version}"), "$remote_addr", "autoretrain_m")
    assert unused(places, FIRST, CONFIGURATION) is None
    assert f"{address};" in rendered(places, FIRST)
    with pytest.raises(Permanent, match="cannot be part"):
        rendered(places, Split("m", "3", "4 5", 0.1))
