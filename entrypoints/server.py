"""``/metrics``, ``/healthz`` and ``/readyz`` of a running controller, by a server of the standard library."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ..ports.errors import ConfigurationError, Problem
from .health import Health

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Page:
    """What is answered to one path.

    Attributes:
        status: HTTP status.
        content_type: Value of the header.
        body: The bytes.
    """

    status: HTTPStatus
    content_type: str
    body: bytes


def health_page(health: Health) -> Page:
    """Return 200 where all is well, else 503; with the reasons as JSON."""
    status = HTTPStatus.OK if health.ok else HTTPStatus.SERVICE_UNAVAILABLE
    return Page(status, "application/json", json.dumps(asdict(health)).encode())


class StatusServer:
    """Serves pages by path, in threads of its own, until it is closed. A context manager.

    Args:
        address: ``host:port``; port 0 takes a free one.
        pages: What answers each path, given the client's ``Accept`` header; called in a thread of the
            server.

    Raises:
        ConfigurationError: The address cannot be read, or cannot be listened on.
    """

    def __init__(self, address: str, pages: dict[str, Callable[[str], Page]]) -> None:
        host, port = _parsed(address)
        try:
            self._server = _Server((host, port), _handler(pages))
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or str(error)
            fix = f"cannot listen there ({why}); choose another with --listen, or '' for none"
            raise ConfigurationError([Problem("controller.listen", repr(address), fix)]) from None
        self._thread = threading.Thread(target=self._server.serve_forever, name="status", daemon=True)

    @property
    def url(self) -> str:
        """Address of the server, with the port that was chosen."""
        host, port = self._server.server_address[:2]
        return f"http://{host if isinstance(host, str) else host.decode()}:{port}"

    def __enter__(self) -> StatusServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what a request met; a client that went away is no news."""
        _log.debug("request of %s failed", client_address, exc_info=True)


def _handler(pages: dict[str, Callable[[str], Page]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10  # seconds; a silent client must not keep a thread

        def do_GET(self) -> None:
            page = self._page()
            self.send_response(page.status)
            self.send_header("Content-Type", page.content_type)
            self.send_header("Content-Length", str(len(page.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(page.body)

        do_HEAD = do_GET

        def _page(self) -> Page:
            make = pages.get(self.path.partition("?")[0])
            if make is not None:
                return make(self.headers.get("Accept", ""))
            known = f"there is {' and '.join(pages)}\n".encode()
            return Page(HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", known)

        def log_message(self, format: str, *args: Any) -> None:
            _log.debug(format, *args)

    return Handler


def _parsed(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal():
        fix = "write host:port, such as 127.0.0.1:9464; port 0 takes a free one"
        raise ConfigurationError([Problem("controller.listen", repr(address), fix)])
    return host.strip("[]"), int(port)
