"""The router in files, and what a serving program makes of them."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from cli_project import environment
from hypothesis import given
from hypothesis import strategies as st

from autoretrain import RequestRouter
from autoretrain.adapters.request_router import Route, place_of
from autoretrain.adapters.router_hash import HashRouter
from autoretrain.entrypoints.testing.router import FIRST, SECOND, SHADOW, TrafficRouterContract
from autoretrain.ports.errors import Permanent, SplitMoved
from autoretrain.ports.traffic import TrafficRouter

KEYS = [f"user-{number}" for number in range(20_000)]

RACE = """
import sys
from dataclasses import replace
from autoretrain.adapters.router_hash import HashRouter
from autoretrain.entrypoints.testing.router import FIRST
from autoretrain.ports.errors import SplitMoved

router, won = HashRouter(sys.argv[1]), 0
for _ in range(60):
    found = router.in_force("boiler")
    try:
        router.apply(replace(found, candidate=sys.argv[2], weight=found.weight + 0.0001), found)
        won += 1
    except SplitMoved:
        pass
print(won)
"""


class TestHashRouter(TrafficRouterContract):
    def make_router(self, directory: Path, models: Sequence[str]) -> TrafficRouter:
        return HashRouter(directory / "splits")

    def meddle(self, directory: Path, model: str) -> None:
        path = HashRouter(directory / "splits").path(model)
        path.write_text(path.read_text().replace('"weight": 0.05', '"weight": 0.06'))


@pytest.fixture
def router(tmp_path: Path) -> HashRouter:
    return HashRouter(tmp_path)


@pytest.mark.parametrize("model", ["heat predictor 2", "模型", "..", ".hidden", "a%2Eb"])
def test_any_name_is_one_file_of_the_folder(router: HashRouter, tmp_path: Path, model: str) -> None:
    split = replace(FIRST, model=model)
    router.apply(split, None)
    assert router.path(model).parent == tmp_path
    assert router.in_force(model) == split
    assert RequestRouter(router.path(model)).version_for("x") != Route()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", "[" * 100_000, '{"weight": 0.1}', "\0", '{"weight": NaN}']
)
def test_a_file_that_is_no_split_is_told_of_and_left(router: HashRouter, text: str) -> None:
    path = router.path("boiler")
    path.write_text(text)
    with pytest.raises(SplitMoved, match="as somebody left it"):
        router.in_force("boiler")
    with pytest.raises(SplitMoved, match="as somebody left it"):
        router.apply(FIRST, None)
    assert path.read_text() == text
    assert RequestRouter(path).version_for("anybody") == Route()


@pytest.mark.parametrize(
    ("field", "value"),
    [("weight", 2), ("weight", True), ("weight", "0.1"), ("shadow", 1), ("candidate", 4), ("candidate", "3")],
)
def test_a_field_that_no_split_has_is_named(router: HashRouter, field: str, value: object) -> None:
    router.apply(FIRST, None)
    path = router.path("boiler")
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    with pytest.raises(SplitMoved, match="as somebody left it"):
        router.in_force("boiler")
    assert RequestRouter(path).version_for("anybody") == Route()


def test_the_split_of_another_model_is_none_of_this_one(router: HashRouter) -> None:
    router.apply(replace(FIRST, model="pump"), None)
    router.path("pump").rename(router.path("boiler"))
    with pytest.raises(SplitMoved, match="that of pump"):
        router.in_force("boiler")


def test_a_folder_that_cannot_be_is_permanent(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    router = HashRouter(tmp_path / "file")
    with pytest.raises(Permanent, match="cannot be"):
        router.apply(FIRST, None)
    with pytest.raises(Permanent, match="cannot be read"):
        router.in_force("boiler")
    with pytest.raises(Permanent, match="cannot be"):
        router.examine("boiler")


def test_of_several_processes_one_at_a_time_changes_it(router: HashRouter, tmp_path: Path) -> None:
    router.apply(replace(FIRST, weight=0.0), None)
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, tmp_path, name], stdout=subprocess.PIPE, env=environment()
        )
        for name in ("4", "5")
    ]
    won = sum(int(racer.communicate(timeout=60)[0]) for racer in racers)
    found = router.in_force("boiler")
    assert found is not None
    assert found.parts == won  # no change was lost, and none counted twice
    assert won >= 60


def chosen(router: HashRouter) -> set[str]:
    """Keys that the candidate answers."""
    requests = RequestRouter(router.path("boiler"))
    return {key for key in KEYS if requests.version_for(key).arm == "candidate"}


@pytest.mark.parametrize("weight", [0.0, 0.0001, 0.01, 0.25, 0.5, 1.0])
def test_the_share_is_the_weight(router: HashRouter, weight: float) -> None:
    router.apply(replace(FIRST, weight=weight), None)
    spread = math.sqrt(len(KEYS) * weight * (1 - weight))
    assert abs(len(chosen(router)) - len(KEYS) * weight) <= 4 * spread


def test_a_raised_weight_takes_nobody_back(router: HashRouter) -> None:
    before, earlier = None, set[str]()
    for weight in (0.01, 0.05, 0.25, 0.5, 1.0):
        split = replace(FIRST, weight=weight)
        router.apply(split, before)
        now = chosen(router)
        assert earlier < now
        before, earlier = split, now


def test_another_salt_is_another_choice(router: HashRouter) -> None:
    router.apply(SECOND, None)
    one = chosen(router)
    router.reset("boiler")
    router.apply(replace(SECOND, salt="b2"), None)
    both = len(one & chosen(router)) / len(KEYS)
    assert abs(both - 0.25**2) < 0.01  # independent of each other


def test_in_a_shadow_everybody_is_answered_by_the_champion(router: HashRouter) -> None:
    router.apply(replace(SHADOW, weight=0.25), None)
    requests = RequestRouter(router.path("boiler"))
    routes = [requests.version_for(key) for key in KEYS]
    assert {(route.arm, route.version) for route in routes} == {("champion", "3")}
    assert {route.copy_to for route in routes} == {None, "4"}
    copied = sum(route.copy_to is not None for route in routes) / len(KEYS)
    assert abs(copied - 0.25) < 0.02


def test_the_place_of_a_key_is_what_the_page_says() -> None:
    said = subprocess.run(["sha256sum"], input=b"a1\nuser-1", capture_output=True, check=True).stdout
    assert place_of("a1", "user-1") == int(said[:16], 16) * 10_000 // 2**64


@given(st.text(), st.text())
def test_any_key_has_a_place(salt: str, key: str) -> None:
    assert 0 <= place_of(salt, key) < 10_000


def test_a_change_counts_from_the_next_request_on(router: HashRouter) -> None:
    requests = RequestRouter(router.path("boiler"))
    assert requests.version_for("anybody") == Route()
    everybody = replace(FIRST, weight=1.0)
    router.apply(everybody, None)
    assert requests.version_for("anybody") == Route("candidate", "4")
    router.apply(replace(FIRST, weight=0.0), everybody)
    assert requests.version_for("anybody") == Route("champion", "3")
    router.reset("boiler")
    assert requests.version_for("anybody") == Route()


def test_a_file_that_breaks_leaves_everybody_to_the_champion_and_is_told_once(
    router: HashRouter, caplog: pytest.LogCaptureFixture
) -> None:
    router.apply(replace(FIRST, weight=1.0), None)
    path = router.path("boiler")
    requests = RequestRouter(path)
    assert requests.version_for("anybody").arm == "candidate"
    path.write_text("half a fi")
    assert {requests.version_for(key) for key in KEYS[:100]} == {Route()}
    assert len(caplog.records) == 1


def test_a_reader_never_sees_half_a_file(router: HashRouter, caplog: pytest.LogCaptureFixture) -> None:
    router.apply(FIRST, None)
    requests, done = RequestRouter(router.path("boiler")), threading.Event()
    seen = set[Route]()

    def read() -> None:
        while not done.is_set():
            seen.add(requests.version_for("anybody"))

    reader = threading.Thread(target=read)
    reader.start()
    before = FIRST
    for step in range(50):
        split = replace(FIRST, weight=step % 2)
        router.apply(split, before)
        before = split
    done.set()
    reader.join()
    assert Route() not in seen
    assert not caplog.records


def test_asking_costs_no_read(router: HashRouter, monkeypatch: pytest.MonkeyPatch) -> None:
    router.apply(FIRST, None)
    requests = RequestRouter(router.path("boiler"))
    requests.version_for("anybody")
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: pytest.fail("the file was read again"))
    for key in KEYS[:100]:
        requests.version_for(key)


def test_others_may_read_what_is_written(router: HashRouter) -> None:
    router.apply(FIRST, None)
    umask = os.umask(0)
    os.umask(umask)
    assert router.path("boiler").stat().st_mode & 0o777 == 0o666 & ~umask
