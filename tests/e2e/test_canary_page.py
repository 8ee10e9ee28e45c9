"""docs/canary.md, part by part as it stands: its settings, its program, and its nginx."""

from __future__ import annotations

import json
import re
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from nginx_server import Nginx

from autoretrain import AutoRetrainPipeline
from autoretrain.adapters.request_router import Route
from autoretrain.adapters.router_gateway import GatewayRouter
from autoretrain.adapters.router_hash import HashRouter
from autoretrain.adapters.router_nginx import NginxRouter
from autoretrain.entrypoints.cli.context import Invocation
from autoretrain.entrypoints.cli.main import cli
from autoretrain.entrypoints.doctor.finding import Finding, run
from autoretrain.entrypoints.doctor.traffic import traffic
from autoretrain.entrypoints.routers import build_router
from autoretrain.entrypoints.settings import parse_settings
from autoretrain.ports.traffic import Split

from services import ROOT

PAGE = (ROOT / "docs" / "canary.md").read_text(encoding="utf-8")
MODELS = {"boiler": {"training": {"command": ["true"]}}}
HALF = Split("boiler", "3", "4", 0.5, salt="a1")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, flags=re.DOTALL)


def test_its_settings_name_every_router(tmp_path: Path) -> None:
    values = [tomllib.loads(block) for block in blocks("toml")]
    routed = [one for one in values if "router" in one.get("traffic", {})]
    built = [build_router(parse_settings({"models": MODELS, **one}, tmp_path)) for one in routed]
    assert [type(router) for router in built] == [HashRouter, NginxRouter, GatewayRouter]


def test_its_program_answers_by_the_split(tmp_path: Path) -> None:
    [block] = [one for one in blocks("python") if "RequestRouter" in one]
    names: dict[str, Any] = {}
    exec(block.replace("/var/lib/autoretrain/traffic", str(tmp_path)), names)
    router, copies = HashRouter(tmp_path), list[tuple[str, str]]()

    class Models:
        def later(self, version: str, features: str) -> None:
            copies.append((version, features))

        def predict(self, version: str | None, features: str) -> str:
            return f"{version} {features}"

    def arms() -> set[tuple[str, str]]:
        return {names["answer"](f"user-{number}", "hot", Models()) for number in range(100)}

    assert arms() == {("champion", "None hot")}
    router.apply(HALF, None)
    assert arms() == {("champion", "3 hot"), ("candidate", "4 hot")}
    router.reset("boiler")
    router.apply(Split("boiler", "3", "4", 1.0, shadow=True), None)
    assert arms() == {("champion", "3 hot")}
    assert copies == [("4", "hot")] * 100
    assert names["requests"].version_for("anybody") == Route(version="3", copy_to="4")


class PageNginx(Nginx):
    """An nginx that is configured as the page says, at other places.

    It starts with a server that knows of nothing, as the reader's does.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, [])
        self._frame, _, _ = self.config.read_text().partition("    log_format")
        self.config.write_text(
            f"{self._frame}server {{ listen 127.0.0.1:{self.port}; return 200 old; }}\n}}\n"
        )

    def configure(self) -> None:
        """Write what the page shows, and two servers to send to."""
        [block] = blocks("nginx")
        ports = {"8000": self.port, "8001": self.champion, "8002": self.candidate}
        for written, port in ports.items():
            block = block.replace(f"127.0.0.1:{written}", f"127.0.0.1:{port}")
        block = block.replace("/etc/nginx/autoretrain", f"{self.folder}/splits")
        block = block.replace("/var/log/nginx", str(self.folder))
        servers = "".join(
            f"server {{ listen 127.0.0.1:{ports[port]}; access_log {self.folder}/{arm}.log; "
            f"location / {{ return 200 {arm}; }} }}\n"
            for port, arm in (("8001", "champion"), ("8002", "candidate"))
        )
        self.config.write_text(f"{self._frame}{block}{servers}}}\n")

    def settings(self) -> Path:
        """The page's settings, without sudo and at other places."""
        [block] = [one for one in blocks("toml") if 'router = "nginx"' in one]
        block = block.replace("/etc/nginx/autoretrain", f"{self.folder}/splits").replace(
            "$cookie_user", "$http_x_user"
        )
        for ending in ("-T", '-s", "reload'):
            words = ", ".join(json.dumps(word) for word in self.command)
            block = block.replace(f'"sudo", "-n", "nginx", "{ending}"', f'{words}, "{ending}"')
        file = self.folder / "autoretrain.toml"
        file.write_text(f'{block}\n[models.boiler.training]\ncommand = ["true"]\n')
        return file


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[PageNginx]:
    server = PageNginx(tmp_path)
    yield server
    server.stop()


def command(settings: Path, *words: str) -> str:
    result = CliRunner().invoke(cli, ["--settings", str(settings), *words], obj=Invocation())
    if result.exception:
        raise result.exception
    return result.output


@pytest.mark.service
def test_its_nginx_shares_copies_and_goes_back(nginx: PageNginx) -> None:
    settings = nginx.settings()
    before = found(settings)
    assert (before.status, "is not there yet" in before.text) == ("problem", True)
    nginx.start()
    nginx.configure()
    assert command(settings, "traffic", "reset", "boiler") == "all requests of boiler go to the champion\n"
    router = build_router(parse_settings(tomllib.loads(settings.read_text()), nginx.folder))
    assert router is not None
    until_arms(nginx, {"champion"})
    router.apply(HALF, None)
    told = "50.00% sent to version 4, beside version 3"
    assert command(settings, "traffic", "show").splitlines()[1] == f"boiler  {told}"
    shown = json.loads(command(settings, "traffic", "show", "--json"))
    assert shown["splits"]["boiler"]["weight"] == 0.5
    finding = found(settings)
    assert finding.text == f"nginx shares requests of boiler ({told})"
    until_arms(nginx, {"champion", "candidate"})
    assert any(line.endswith(" candidate") for line in nginx.lines("boiler.log"))
    router.path("boiler").write_text("# mine\n")  # type: ignore[union-attr]
    finding = found(settings)
    assert (finding.status, "as somebody left it" in finding.text) == ("problem", True)
    assert "as somebody left it" in command(settings, "traffic", "show")
    command(settings, "traffic", "reset", "boiler")
    router.apply(Split("boiler", "3", "4", 1.0, shadow=True), None)
    until_arms(nginx, {"champion"})
    deadline = time.monotonic() + 10
    asked = nginx.lines("candidate.log").total()
    while nginx.lines("candidate.log").total() == asked:
        assert nginx.ask("anybody") == "champion"
        assert time.monotonic() < deadline, "nothing was copied"


def found(settings: Path) -> Finding:
    """What the doctor says of the router."""
    [finding] = run("traffic", traffic, AutoRetrainPipeline(settings=settings))
    return finding


def until_arms(nginx: Nginx, arms: set[str]) -> None:
    """Wait until forty users are answered by these arms."""
    deadline = time.monotonic() + 10
    while set(nginx.answers(f"user-{number}" for number in range(40)).values()) != arms:
        assert time.monotonic() < deadline, f"not answered by {arms}"
