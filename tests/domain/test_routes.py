"""Who gets which notice."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from autoretrain.domain.routes import Route, addressed
from autoretrain.entrypoints.testing.notifier import NOTICE
from autoretrain.ports.notifier import SEVERITIES, Notice, Severity


def ids(routes: list[Route], notice: Notice = NOTICE, owner: str | None = None) -> list[str]:
    return [each.id.removeprefix(NOTICE.id) for each in addressed([notice], routes, owner)]


def to(*targets: str, **only: object) -> Route:
    return Route.model_validate({"targets": targets, **only})


def test_without_routes_everything_goes_to_the_default_notifier() -> None:
    assert addressed([NOTICE], [], "energy") == (NOTICE,)


def test_every_target_gets_a_notice_of_its_own() -> None:
    first, second = addressed([NOTICE], [to("pager", "mail")], None)
    assert (first.id, first.target) == (f"{NOTICE.id}.pager", "pager")
    assert replace(second, id=NOTICE.id, target="") == NOTICE


def test_every_route_counts_and_a_target_gets_a_notice_once() -> None:
    assert ids([to("pager", "mail"), to("mail", "chat")]) == [".pager", ".mail", ".chat"]


def test_what_no_route_takes_goes_to_the_default_notifier() -> None:
    assert ids([to("pager", severity="critical")]) == [""]
    assert ids([to("pager", models=["cool*"]), to("mail", owners=["energy"])]) == [""]


def test_a_route_may_name_the_default_notifier() -> None:
    assert ids([to("pager", "default")]) == [".pager", ""]


@pytest.mark.parametrize(
    ("least", "taken"),
    [("critical", ["critical"]), ("warning", ["critical", "warning"]), ("info", list(SEVERITIES))],
)
def test_a_route_takes_what_is_severe_enough(least: Severity, taken: list[Severity]) -> None:
    route = to("pager", severity=least)
    assert [each for each in SEVERITIES if route.takes(replace(NOTICE, severity=each), None)] == taken


@pytest.mark.parametrize(
    ("patterns", "fits"),
    [
        (["heat"], True),
        (["he*"], True),
        (["h?at"], True),
        (["HEAT"], False),
        (["cool", "*t"], True),
        (["hea"], False),
    ],
)
def test_models_are_named_by_patterns(patterns: list[str], fits: bool) -> None:
    assert to("pager", models=patterns).takes(NOTICE, None) is fits


def test_owners_are_named_exactly() -> None:
    route = to("pager", owners=["energy", "water"])
    assert [owner for owner in ("energy", "water", "Energy", "", None) if route.takes(NOTICE, owner)] == [
        "energy",
        "water",
    ]


def test_all_that_is_stated_must_fit() -> None:
    route = to("pager", severity="info", models=["heat"], owners=["energy"])
    assert route.takes(NOTICE, "energy")
    assert not route.takes(NOTICE, "water")
    assert not route.takes(replace(NOTICE, model="cool"), "energy")


@pytest.mark.parametrize(
    "wrong", [{"targets": []}, {"targets": [""]}, {"targets": ["a"], "severity": "high"}]
)
def test_a_route_that_says_nothing_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Route.model_validate(wrong)


@given(st.lists(st.builds(to, st.sampled_from(["a", "b", "default"]), severity=st.sampled_from(SEVERITIES))))
def test_nothing_is_lost_and_nobody_is_told_twice(routes: list[Route]) -> None:
    for severity in SEVERITIES:
        told = addressed([replace(NOTICE, severity=severity)], routes, None)
        assert told
        assert len({each.id for each in told}) == len({each.target for each in told}) == len(told)
