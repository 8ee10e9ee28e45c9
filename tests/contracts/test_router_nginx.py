"""The router of a real nginx: the shares that it serves, and what is refused before it takes effect."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from cli_project import environment
from nginx_server import Nginx

from autoretrain.adapters.nginx_split import NginxPlaces, rendered
from autoretrain.entrypoints.testing.router import FIRST, SHADOW, TrafficRouterContract
from autoretrain.ports.errors import Permanent, SplitMoved, Temporary
from autoretrain.ports.traffic import TrafficRouter

pytestmark = pytest.mark.service

USERS = [f"user-{number}" for number in range(500)]


class TestNginxRouter(TrafficRouterContract):
    started: dict[Path, Nginx]

    @pytest.fixture(autouse=True)
    def _servers(self) -> Iterator[None]:
        self.started = {}
        yield
        for server in self.started.values():
            server.stop()

    def make_router(self, directory: Path, models: Sequence[str]) -> TrafficRouter:
        if directory not in self.started:
            self.started[directory] = Nginx(directory, models)
            self.started[directory].start()
        return self.started[directory].router()

    def meddle(self, directory: Path, model: str) -> None:
        path = self.started[directory].router().path(model)
        path.write_text(path.read_text().replace("5.00%", "6.00%"))


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[Nginx]:
    server = Nginx(tmp_path)
    server.start()
    yield server
    server.stop()


def until_served(nginx: Nginx, user: str, by: str) -> None:
    """Wait until the workers of the new configuration answer."""
    deadline = time.monotonic() + 10
    while nginx.ask(user) != by:
        assert time.monotonic() < deadline, f"{user} is not answered by the {by}"
        time.sleep(0.01)


def chosen(nginx: Nginx) -> set[str]:
    """Users that the candidate answers."""
    return {user for user, arm in nginx.answers(USERS).items() if arm == "candidate"}


def test_shares_are_the_weights_and_a_raise_takes_nobody_back(nginx: Nginx) -> None:
    router, before, earlier = nginx.router(), None, set[str]()
    for weight in (0.05, 0.25, 0.6):
        split = replace(FIRST, weight=weight)
        with nginx.other_workers():
            router.apply(split, before)
        now = chosen(nginx)
        spread = math.sqrt(len(USERS) * weight * (1 - weight))
        assert abs(len(now) - len(USERS) * weight) <= 4 * spread
        assert now == {user for user in USERS if place(user, split.salt) < weight}
        assert earlier < now
        before, earlier = split, now
    assert chosen(nginx) == earlier  # asked again, everybody has the same answer
    assert before is not None
    with nginx.other_workers():
        router.clear("boiler", before)
    assert chosen(nginx) == set()


def place(user: str, salt: str) -> float:
    """Where nginx sees a user: MurmurHash2 of the key, over all 32-bit numbers."""
    places = NginxPlaces("boiler", "boiler-{version}", "", "x")
    text = rendered(places, replace(FIRST, salt=salt)).split('split_clients "')[1].split('"')[0] + user
    return murmur2(text.encode()) / 2**32


def murmur2(data: bytes) -> int:
    """MurmurHash2 with seed 0, by its author's description."""
    prime, size = 0x5BD1E995, len(data)
    total = size
    while len(data) >= 4:
        word = int.from_bytes(data[:4], "little") * prime % 2**32
        word = (word ^ word >> 24) * prime % 2**32
        total = total * prime % 2**32 ^ word
        data = data[4:]
    if data:
        total = (total ^ int.from_bytes(data, "little")) * prime % 2**32
    total = (total ^ total >> 13) * prime % 2**32
    return total ^ total >> 15


def test_everybody_means_everybody(nginx: Nginx) -> None:
    with nginx.other_workers():
        nginx.router().apply(replace(FIRST, weight=1.0), None)
    assert chosen(nginx) == set(USERS)
    nginx.stop()  # an answer is logged after it was given
    assert nginx.lines("front.log")["/predict candidate"] == len(USERS)


def test_a_shadow_gets_copies_and_answers_nobody(nginx: Nginx) -> None:
    with nginx.other_workers():
        nginx.router().apply(replace(SHADOW, weight=0.5), None)
    assert set(nginx.answers(USERS).values()) == {"champion"}
    copied = sum(place(user, SHADOW.salt) < 0.5 for user in USERS)
    assert abs(copied - len(USERS) / 2) < 4 * math.sqrt(len(USERS)) / 2
    deadline = time.monotonic() + 10
    while nginx.lines("candidate.log").total() < copied:  # a copy may still be on its way
        assert time.monotonic() < deadline, "copies are missing"
        time.sleep(0.02)
    nginx.stop()
    assert {line.split()[0] for line in nginx.lines("candidate.log")} == {"/predict"}
    assert nginx.lines("candidate.log").total() == copied


def test_a_reload_loses_no_request(nginx: Nginx) -> None:
    router, done, lost = nginx.router(), threading.Event(), list[Exception]()
    asked = [0, 0]

    def use(number: int) -> None:
        while not done.is_set():
            try:
                nginx.ask(USERS[asked[number] % len(USERS)])
                asked[number] += 1
            except (OSError, AssertionError) as error:
                lost.append(error)

    clients = [threading.Thread(target=use, args=[number]) for number in range(2)]
    for client in clients:
        client.start()
    before = None
    for step in range(10):
        split = replace(FIRST, weight=(step + 1) / 10)
        router.apply(split, before)
        before = split
    done.set()
    for client in clients:
        client.join()
    assert lost == []
    assert sum(asked) > 50


def test_a_version_that_has_no_upstream_is_refused_and_the_split_stays(nginx: Nginx) -> None:
    router = nginx.router()
    router.apply(FIRST, None)
    text = router.path("boiler").read_text()
    with pytest.raises(Permanent, match="no upstream boiler-9"):
        router.apply(replace(FIRST, candidate="9"), FIRST)
    assert router.path("boiler").read_text() == text
    assert router.in_force("boiler") == FIRST


@pytest.mark.parametrize("version", ["4;", "4 5", "$host", "4}", '"', "..\n"])
def test_a_version_cannot_write_nginx_directives(nginx: Nginx, version: str) -> None:
    router = nginx.router()
    with pytest.raises(Permanent, match="cannot be part of the name"):
        router.apply(replace(FIRST, candidate=version), None)
    assert router.in_force("boiler") is None


def test_a_salt_cannot_write_nginx_directives(nginx: Nginx) -> None:
    split = replace(FIRST, salt='"; } server { $host\n', weight=1.0)
    nginx.router().apply(split, None)
    until_served(nginx, "anybody", "candidate")
    assert nginx.router().in_force("boiler") == split


def test_what_nginx_refuses_is_taken_back(nginx: Nginx) -> None:
    """The key names a variable that nginx does not have: only nginx itself can tell."""
    router = nginx.router()
    router.apply(FIRST, None)
    text = router.path("boiler").read_text()
    with pytest.raises(Permanent, match="no_such_variable"):
        nginx.router(key="$no_such_variable").reset("boiler")
    assert router.path("boiler").read_text() == text
    until_served(nginx, next(user for user in USERS if place(user, "a1") < 0.05), "candidate")


def test_what_others_broke_is_no_fault_of_the_split(nginx: Nginx) -> None:
    router, config = nginx.router(), nginx.config.read_text()
    nginx.config.write_text(f"{config}\nnonsense;")
    with pytest.raises(Temporary, match="without our change, too"):
        router.apply(FIRST, None)
    assert router.in_force("boiler") is None
    nginx.config.write_text(config)
    router.apply(FIRST, None)
    assert router.in_force("boiler") == FIRST


@pytest.mark.parametrize(
    ("used", "instead", "complaint"),
    [
        ("include {folder}/splits/*.conf;", "include {folder}/splits/autoretrain_pump.conf;", "boiler"),
        ("proxy_pass http://$autoretrain_boiler;", "proxy_pass http://boiler; # $autoretrain_boiler", None),
        ("upstream boiler ", "upstream boilers ", "no upstream boiler"),
    ],
)
def test_a_split_that_would_have_no_effect_is_refused(
    nginx: Nginx, used: str, instead: str, complaint: str | None
) -> None:
    config = nginx.config.read_text()
    used, instead = (text.replace("{folder}", str(nginx.folder)) for text in (used, instead))
    assert used in config
    nginx.config.write_text(config.replace(used, instead))
    router = nginx.router()
    with pytest.raises((Permanent, Temporary), match=complaint or "nothing in nginx's configuration uses"):
        router.apply(FIRST, None)
    with pytest.raises((Permanent, Temporary)):
        router.examine("boiler")


def test_a_shadow_that_nothing_copies_to_is_refused(nginx: Nginx) -> None:
    config = nginx.config.read_text()
    nginx.config.write_text(config.replace("$autoretrain_boiler_copy", "$autoretrain_pump_copy"))
    router = nginx.router()
    with pytest.raises(Permanent, match=r"nothing .* uses \$autoretrain_boiler_copy"):
        router.apply(SHADOW, None)
    router.apply(FIRST, None)


def test_a_check_that_prints_nothing_is_taken_at_its_word(nginx: Nginx) -> None:
    router = nginx.router(check=[*nginx.command, "-t"])
    router.apply(replace(FIRST, weight=1.0), None)
    until_served(nginx, "anybody", "candidate")


def test_where_nginx_does_not_run_nothing_is_changed_and_it_is_temporary(nginx: Nginx) -> None:
    nginx.stop()
    with pytest.raises(Temporary, match="says no"):
        nginx.router().apply(FIRST, None)
    assert nginx.router().in_force("boiler") is None
    assert nginx.router(reload=["true"]).in_force("boiler") is None


@pytest.mark.parametrize("part", ["check", "reload"])
def test_commands_that_hang_or_are_not_there(nginx: Nginx, part: str) -> None:
    def router(*command: str) -> TrafficRouter:
        if part == "check":
            return nginx.router(check=command, timeout=0.3)
        return nginx.router(reload=command, timeout=0.3)

    with pytest.raises(Temporary, match="took longer"):
        router("sh", "-c", "sleep 60 & wait").apply(FIRST, None)
    with pytest.raises(Permanent, match="no-such-program cannot be run"):
        router("no-such-program").apply(FIRST, None)
    assert nginx.router().in_force("boiler") is None


DIES = """
import os, sys
from pathlib import Path
from autoretrain.adapters.nginx_split import NginxPlaces
from autoretrain.adapters.router_nginx import NginxRouter
from autoretrain.entrypoints.testing.router import FIRST

folder, died_in, *command = sys.argv[1:]
kill = ["kill", "-KILL", str(os.getpid())]
places = {"boiler": NginxPlaces("boiler", "boiler-{version}", "$http_x_user", "autoretrain_boiler")}
check = kill if died_in == "check" else [*command, "-T"]
NginxRouter(folder, places, check=check, reload=kill).apply(FIRST, None)
"""


def die_in(nginx: Nginx, part: str) -> None:
    """Let a process apply the first split, and be killed halfway."""
    command = [sys.executable, "-c", DIES, str(nginx.folder / "splits"), part, *nginx.command]
    assert subprocess.run(command, env=environment()).returncode == -signal.SIGKILL


@pytest.mark.parametrize("died_in", ["check", "reload"])
def test_a_call_that_died_halfway_is_completed_by_the_next(nginx: Nginx, died_in: str) -> None:
    router, chosen = nginx.router(), next(user for user in USERS if place(user, FIRST.salt) < 0.05)
    die_in(nginx, died_in)
    assert nginx.ask(chosen) == "champion"
    router.apply(FIRST, None)
    until_served(nginx, chosen, "candidate")
    assert [file.name for file in (nginx.folder / "splits").glob("*boiler*")] == ["autoretrain_boiler.conf"]


def test_what_a_dead_call_left_is_not_what_a_refusal_goes_back_to(nginx: Nginx) -> None:
    router = nginx.router()
    die_in(nginx, "check")
    assert router.in_force("boiler") == FIRST  # written, and never read by nginx
    with pytest.raises(Permanent, match="no upstream"):
        router.apply(replace(FIRST, candidate="9"), FIRST)
    assert router.in_force("boiler") is None


def test_a_model_that_is_not_set_up_is_permanent(nginx: Nginx) -> None:
    router = nginx.router()
    with pytest.raises(Permanent, match=r"traffic\.models\.valve"):
        router.in_force("valve")
    with pytest.raises(Permanent, match=r"traffic\.models\.valve"):
        router.apply(replace(FIRST, model="valve"), None)
    with pytest.raises(Permanent, match=r"traffic\.models\.valve"):
        router.reset("valve")


def test_the_file_of_another_model_is_none_of_this_one(nginx: Nginx) -> None:
    router = nginx.router()
    router.apply(FIRST, None)
    path = router.path("boiler")
    path.write_text(path.read_text().replace('"model": "boiler"', '"model": "pump"'))
    with pytest.raises(SplitMoved, match="that of pump"):
        router.in_force("boiler")


def test_the_examination_finds_a_file_that_is_missing(nginx: Nginx) -> None:
    nginx.router().examine("boiler")
    nginx.router().path("boiler").unlink()
    with pytest.raises(Permanent, match="is not there yet"):
        nginx.router().examine("boiler")
