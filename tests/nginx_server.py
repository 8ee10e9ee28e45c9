"""A real nginx in front of two serving versions, as this user, in a folder of its own."""

from __future__ import annotations

import http.client
import os
import pwd
import shlex
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
from postgres_server import free_port

from autoretrain.adapters.nginx_split import NginxPlaces
from autoretrain.adapters.router_nginx import NginxRouter

from services import require

_MAIN = """
user {user};
worker_processes 2;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    log_format arms '$request_uri $autoretrain_boiler_arm';
    include {folder}/splits/*.conf;
    upstream boiler {{ server 127.0.0.1:{champion}; }}
    upstream boiler-4 {{ server 127.0.0.1:{candidate}; }}
    upstream boiler-5 {{ server 127.0.0.1:{candidate}; }}
    upstream pump {{ server 127.0.0.1:{champion}; }}
    upstream pump-4 {{ server 127.0.0.1:{candidate}; }}
    server {{
        listen 127.0.0.1:{port};
        access_log {folder}/front.log arms;
        location / {{
            proxy_pass http://$autoretrain_boiler;
            mirror /copy;
        }}
        location = /copy {{
            internal;
            if ($autoretrain_boiler_copy = "") {{ return 204; }}
            proxy_pass http://$autoretrain_boiler_copy$request_uri;
        }}
        location /pump {{ proxy_pass http://${{autoretrain_pump}}; mirror /pump-copy; }}
        location = /pump-copy {{
            internal;
            if ($autoretrain_pump_copy = "") {{ return 204; }}
            proxy_pass http://$autoretrain_pump_copy$request_uri;
        }}
    }}
    server {{ listen 127.0.0.1:{champion}; location / {{ return 200 champion; }} }}
    server {{
        listen 127.0.0.1:{candidate};
        access_log {folder}/candidate.log arms;
        location / {{ return 200 candidate; }}
    }}
}}
"""


class Nginx:
    """An nginx that sends requests on by what ``NginxRouter`` wrote, and is the two versions, too.

    Args:
        folder: Where it keeps everything; exists.
        models: What is set up for the router.
    """

    def __init__(self, folder: Path, models: Sequence[str] = ("boiler", "pump")) -> None:
        self.program = require("nginx", "apt-get install nginx")
        self.folder = folder
        self.port, self.champion, self.candidate = _free_ports(3)
        self.config = folder / "nginx.conf"
        self.config.write_text(
            _MAIN.format(
                user=pwd.getpwuid(os.geteuid()).pw_name,
                folder=folder,
                port=self.port,
                champion=self.champion,
                candidate=self.candidate,
            )
        )
        self.command = [self.program, "-p", str(folder), "-e", f"{folder}/start.log", "-c", str(self.config)]
        self._models = tuple(models)
        self._process: subprocess.Popen[bytes] | None = None

    def router(
        self,
        check: Sequence[str] = (),
        reload: Sequence[str] = (),
        timeout: float = 30,
        key: str = "$http_x_user",
    ) -> NginxRouter:
        """A router that writes its files."""
        places = {
            model: NginxPlaces(model, f"{model}-{{version}}", key, f"autoretrain_{model}")
            for model in self._models
        }
        return NginxRouter(
            self.folder / "splits",
            places,
            check=check or [*self.command, "-T"],
            reload=reload or [*self.command, "-s", "reload"],
            timeout=timeout,
        )

    def start(self) -> None:
        """Write the files of a router at rest, and start; returns when it answers."""
        resting = self.router(check=["true"], reload=["true"])
        for model in self._models:
            resting.reset(model)
        self._process = subprocess.Popen([*self.command, "-g", "daemon off;"], stderr=subprocess.DEVNULL)
        try:
            self._wait_until_it_answers(self._process)
        except BaseException:
            self.stop()
            raise

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + 20
        while True:
            try:
                self.ask("first")
                return
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    said = "".join(file.read_text() for file in self.folder.glob("*.log"))
                    raise RuntimeError(f"nginx did not start: {said}") from None
                time.sleep(0.02)

    def reload_that_waits(self) -> list[str]:
        """A command that reloads it, and ends when nobody answers by the file before any more."""
        script = self.folder / "reload.sh"
        script.write_text(
            f"""master=$(cat {self.folder}/nginx.pid)
before=$(cat /proc/$master/task/$master/children)
{shlex.join(self.command)} -s reload || exit 1
for worker in $before; do
    while kill -0 $worker 2>/dev/null; do sleep 0.02; done
done
"""
        )
        return ["sh", str(script)]

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=20)
            self._process = None

    @contextmanager
    def other_workers(self) -> Iterator[None]:
        """Wait at the end of a block until all who answer have been started in it."""
        assert self._process is not None
        master = psutil.Process(self._process.pid)
        before = set(master.children())
        yield
        deadline = time.monotonic() + 20
        while before & set(master.children()):
            assert time.monotonic() < deadline, "nginx was not reloaded"
            time.sleep(0.01)

    def ask(self, user: str, path: str = "/predict") -> str:
        """Who answered this user: over a connection of its own, as a new client has it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path, headers={"X-User": user})
            answer = connection.getresponse()
            assert answer.status == 200, answer.status
            return answer.read().decode()
        finally:
            connection.close()

    def answers(self, users: Iterable[str]) -> dict[str, str]:
        """Who answers each user."""
        return {user: self.ask(user) for user in users}

    def lines(self, log: str) -> Counter[str]:
        """The lines of an access log."""
        return Counter((self.folder / log).read_text().splitlines())


def _free_ports(number: int) -> list[int]:
    """Ports that are free and differ: asked one after another, the system may give one twice."""
    ports: list[int] = []
    while len(ports) < number:
        port = free_port()
        if port not in ports:
            ports.append(port)
    return ports
