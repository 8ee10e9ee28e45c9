"""A pod's address: one of its own on the loopback, which leads to where its program really listens.

All pods of the tests share this machine's network, so a program takes a free port (port 0). What Kubernetes
and Prometheus know is the address and the port that the pod declares.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
import socketserver
import threading
import urllib.request
from typing import Any

import psutil

_SECONDS = 2.0


class Published:
    """The declared port of a running pod, until it is closed.

    Args:
        pid: Process whose descendants listen.
        address: The pod's.
        port: That it declares.
        probe: Path that says whether it is ready.
    """

    def __init__(self, pid: int, address: str, port: int, probe: str | None) -> None:
        self.address, self._port, self._probe, self._pid = address, port, probe, pid
        self._server = _relay(self)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @classmethod
    def of(cls, pid: int, container: dict[str, Any], uid: str) -> Published:
        """Publish the first port of a container."""
        one, two, three = hashlib.sha256(uid.encode()).digest()[:3]
        probe = (container.get("readinessProbe") or {}).get("httpGet") or {}
        port = container["ports"][0]["containerPort"]
        return cls(pid, f"127.{100 + one % 100}.{two}.{1 + three % 250}", port, probe.get("path"))

    def is_ready(self) -> bool:
        """Whether its readiness probe succeeds; without one it is."""
        if self._probe is None:
            return True
        with contextlib.suppress(OSError):
            url = f"http://{self.address}:{self._port}{self._probe}"
            with urllib.request.urlopen(url, timeout=_SECONDS) as answer:
                return bool(answer.status == 200)
        return False

    def target(self) -> tuple[str, int] | None:
        """Where the program listens by now."""
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self._pid)
            for one in (process, *process.children(recursive=True)):
                for connection in one.net_connections("tcp"):
                    if connection.status == psutil.CONN_LISTEN:
                        return connection.laddr.ip, connection.laddr.port
        return None

    def close(self) -> None:
        """Take the address away."""
        self._server.shutdown()
        self._server.server_close()


class _Relays(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


def _relay(published: Published) -> _Relays:
    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            target = published.target()
            if target is None:
                return
            with contextlib.suppress(OSError), socket.create_connection(target, _SECONDS) as other:
                back = threading.Thread(target=_copy, args=(other, self.request), daemon=True)
                back.start()
                _copy(self.request, other)
                back.join(_SECONDS)

    return _Relays((published.address, published._port), Handler)


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
