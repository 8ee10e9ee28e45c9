"""What can lie between a controller and its API server: a proxy that forwards everything, or not quite."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl, urlencode, urlsplit

from kubernetes_server import KubernetesServer

Weather = Literal["clear", "silent", "repeating", "expired", "ending", "busy", "slow", "trickling", "lost"]
"""Beside a clear sky: watches that say nothing, repeat what they said, ask for a version that is too old, or
end at once; a server that wants to be left alone for a second, takes a second to answer, sends a byte now
and then, or is another one altogether, which has never heard of the path."""


@dataclass
class Proxy:
    """A proxy in front of an API server.

    Attributes:
        server: The API server.
        weather: What it makes of what passes, from the next answer or event on.
        watches: Requests to watch that came in.
        lists: Requests for lists that came in.
    """

    server: KubernetesServer
    port: int = 0
    weather: Weather = "clear"
    watches: int = 0
    lists: int = 0
    stopping: threading.Event = field(default_factory=threading.Event)
    connections: set[socket.socket] = field(default_factory=set)
    _frozen: int = 0

    def freeze(self) -> None:
        """Never forward anything again on the connections that there are, and leave them open."""
        self._frozen += 1

    def cut(self) -> None:
        """End the connections that there are."""
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def is_frozen(self, since: int) -> bool:
        """Whether a connection that was opened then has been frozen."""
        return since < self._frozen

    @property
    def opened(self) -> int:
        """What a connection that is opened now has to keep, for ``is_frozen``."""
        return self._frozen

    def kubeconfig(self) -> Path:
        """A file with which somebody reaches the server through it."""
        path = self.server.kubeconfig(name=f"kubeconfig-{self.port}")
        config = json.loads(path.read_text())
        config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{self.port}"
        path.write_text(json.dumps(config))
        return path


class _Front(ThreadingHTTPServer):
    """The side of a proxy that its clients see."""

    daemon_threads = True

    def __init__(self, proxy: Proxy) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.proxy = proxy
        self.trust = ssl.create_default_context(cafile=proxy.server.certificate)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(proxy.server.certificate, proxy.server.certificate_key)
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)


class _Handler(BaseHTTPRequestHandler):
    """One connection of a client, and one to the server for each of its requests."""

    protocol_version = "HTTP/1.1"
    server: _Front

    def setup(self) -> None:
        super().setup()
        self.proxy, self.opened = self.server.proxy, self.server.proxy.opened
        self.proxy.connections.add(self.connection)

    def finish(self) -> None:
        self.proxy.connections.discard(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def do_GET(self) -> None:
        query = dict(parse_qsl(urlsplit(self.path).query))
        watches, path = query.get("watch") == "true", self.path
        self.proxy.watches += watches
        self.proxy.lists += self.command == "GET" and "limit" in query
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self._spoils(watches):
            return
        if watches and self.proxy.weather == "expired":
            path = f"{urlsplit(path).path}?{urlencode({**query, 'resourceVersion': '1'})}"
        try:
            self._forward(path, watches)
        except (OSError, http.client.HTTPException):  # one of the two sides has gone
            self.close_connection = True

    do_POST = do_PATCH = do_DELETE = do_GET

    def _spoils(self, watches: bool) -> bool:
        """Whether the weather leaves nothing of a request."""
        if self.proxy.is_frozen(self.opened):
            self.close_connection = self.proxy.stopping.wait()
        elif self.proxy.weather == "busy":
            self._say(429, b'{"kind": "Status", "message": "too many requests"}', {"Retry-After": "1"})
        elif self.proxy.weather == "lost":
            self._say(404, b"default backend - 404", {})
        elif watches and self.proxy.weather == "ending":
            self._say(200, b"", {})
        else:
            return self.proxy.weather == "slow" and self.proxy.stopping.wait(1.0)
        return True

    def _forward(self, path: str, watches: bool) -> None:
        behind = http.client.HTTPSConnection(
            "127.0.0.1", self.proxy.server.port, context=self.server.trust, timeout=90.0
        )
        kept = {"authorization", "accept", "content-type"}
        headers = {name: value for name, value in self.headers.items() if name.lower() in kept}
        try:
            behind.request(self.command, path, self.body or None, headers)
            answer = behind.getresponse()
            if watches and answer.status == 200:
                self._stream(answer)
            else:
                self._say(answer.status, answer.read(), {})
        finally:
            behind.close()

    def _stream(self, answer: http.client.HTTPResponse) -> None:
        """Pass on what a watch says, as long as the client listens and the weather lets it."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for line in iter(answer.readline, b""):
            while not self.proxy.stopping.is_set():
                if not (self.proxy.is_frozen(self.opened) or self.proxy.weather == "silent"):
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                if self.proxy.weather != "repeating":
                    break
                time.sleep(0.01)
        self.wfile.write(b"0\r\n\r\n")

    def _say(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        slowly = self.proxy.weather == "trickling"
        for part in (bytes([one]) for one in body) if slowly else (body,):
            self.wfile.write(part)
            if slowly and self.proxy.stopping.wait(0.2):
                return

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def proxy_to(server: KubernetesServer) -> Iterator[Proxy]:
    """A proxy, for the length of a block."""
    proxy = Proxy(server)
    front = _Front(proxy)
    proxy.port = front.server_address[1]
    thread = threading.Thread(target=front.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.stopping.set()
        front.shutdown()
        front.server_close()
        thread.join()
