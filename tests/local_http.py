"""A real HTTP server on 127.0.0.1 that plays whatever a test wants of the other side."""

import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Event, Thread


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Reply:
    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    hangs: bool = False
    """Sends nothing until the server stops."""
    closes: bool = False
    """Closes the connection without an answer."""


@dataclass
class LocalServer:
    url: str
    answer: Callable[[Request], Reply]
    requests: list[Request] = field(default_factory=list)
    stopping: Event = field(default_factory=Event)

    def reply(self, status: int, body: str | bytes = b"", **headers: str) -> None:
        """Answer the same to every request from now on (``Retry_After="3"`` is a header)."""
        content = body.encode() if isinstance(body, str) else body
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answer = lambda request: Reply(status, content, named)


def _handler(server: LocalServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            request = Request(self.command, self.path, dict(self.headers), self.rfile.read(length))
            server.requests.append(request)
            reply = server.answer(request)
            if reply.hangs:
                server.stopping.wait(30)
            if reply.hangs or reply.closes:
                self.close_connection = True
                return
            self.send_response(reply.status)
            for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.body)

        do_GET = do_PUT = do_POST

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


@contextmanager
def local_server() -> Iterator[LocalServer]:
    """Run a server that answers 200 with nothing until told otherwise."""
    server = LocalServer("", lambda request: Reply())
    http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(server))
    http.daemon_threads = True
    server.url = f"http://127.0.0.1:{http.server_address[1]}"
    thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.stopping.set()
        http.shutdown()
        http.server_close()
        thread.join()


@dataclass
class RawServer:
    url: str
    sends: Callable[[], Iterable[bytes]]
    """What is sent after the first request of a connection, piece by piece; then it is closed."""
    pause: float = 0.0
    """Seconds between two pieces."""
    sent: int = 0
    """Bytes that clients have let it send."""
    stopping: Event = field(default_factory=Event)


def _raw_handler(server: RawServer) -> type[BaseRequestHandler]:
    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            connection: socket.socket = self.request
            with suppress(OSError):  # the client has had enough
                connection.recv(65536)
                for piece in server.sends():
                    connection.sendall(piece)
                    server.sent += len(piece)
                    if server.stopping.wait(server.pause) if server.pause else server.stopping.is_set():
                        return

    return Handler


@contextmanager
def raw_server(sends: Callable[[], Iterable[bytes]], pause: float = 0.0) -> Iterator[RawServer]:
    """Run a server that answers every connection with these bytes, whatever HTTP makes of them."""
    server = RawServer("", sends, pause)
    with ThreadingTCPServer(("127.0.0.1", 0), _raw_handler(server)) as tcp:
        tcp.daemon_threads = True
        server.url = f"http://127.0.0.1:{tcp.server_address[1]}"
        thread = Thread(target=tcp.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.stopping.set()
            tcp.shutdown()
            thread.join()
