"""Notices as signed JSON: the contract, and what is the webhook's own."""

import hashlib
import hmac
import json
import logging
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from local_http import LocalServer, Reply, local_server, raw_server

from autoretrain.adapters.notifier_webhook import WebhookNotifier, body_of, signature
from autoretrain.entrypoints.testing.notifier import NOTICE, NotifierContract
from autoretrain.ports.errors import Permanent, Temporary
from autoretrain.ports.notifier import Notifier

from services import require

PATH = "/hooks/s3cr3t?token=t0k3n"
KEY = "k" * 16 + "0123456789abcdef"


@pytest.fixture
def receiver() -> Iterator[LocalServer]:
    with local_server() as server:
        server.reply(204)
        yield server


def webhook(server: LocalServer, timeout: float = 2) -> WebhookNotifier:
    return WebhookNotifier(server.url + PATH, KEY, timeout=timeout, clock=lambda: 1700000000.9)


class TestWebhookNotifier(NotifierContract):
    @pytest.fixture(autouse=True)
    def _server(self, receiver: LocalServer) -> None:
        self.receiver = receiver

    def notifier(self) -> Notifier:
        return webhook(self.receiver)

    def received(self) -> Sequence[str]:
        return [_shown(json.loads(request.body)) for request in self.receiver.requests]

    def unreachable(self) -> Notifier:
        self.receiver.answer = lambda request: Reply(closes=True)
        return self.notifier()

    def refused(self) -> Notifier:
        self.receiver.reply(410)
        return self.notifier()


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return "\n".join(_shown(part) for pair in value.items() for part in pair)
    return str(value)


def test_the_body_is_as_the_docs_say(receiver: LocalServer) -> None:
    paris = timezone(timedelta(hours=2))
    notice = replace(NOTICE, at=datetime(2026, 5, 4, 5, 2, 1, 7, paris), facts={"job": "j-1", "n": "ü"})
    webhook(receiver).send(notice)
    (request,) = receiver.requests
    assert (request.method, request.path) == ("POST", PATH)
    assert request.headers["Content-Type"] == "application/json"
    assert json.loads(request.body) == {
        "version": 1,
        "id": "heat-7-deployed",
        "kind": "deployed",
        "severity": "info",
        "model": "heat",
        "job": "j-1",
        "title": "heat 12 was promoted",
        "text": "F1 went from 0.91 to 0.95 on 4,000 rows.",
        "at": "2026-05-04T03:02:01.000007Z",
        "facts": {"job": "j-1", "n": "ü"},
    }


def test_a_notice_without_a_job_says_so() -> None:
    assert body_of(NOTICE)["job"] is None


def test_the_body_and_the_time_are_signed(receiver: LocalServer) -> None:
    webhook(receiver).send(NOTICE)
    (request,) = receiver.requests
    signed = hmac.new(KEY.encode(), b"1700000000." + request.body, hashlib.sha256).hexdigest()
    headers = {name.lower(): value for name, value in request.headers.items()}
    assert headers["x-autoretrain-signature"] == f"t=1700000000,v1={signed}"


def test_another_time_body_or_key_is_another_signature() -> None:
    signed = signature(b"a" * 32, b"{}", 1)
    others = [signature(b"b" * 32, b"{}", 1), signature(b"a" * 32, b"[]", 1), signature(b"a" * 32, b"{}", 2)]
    assert len({each.partition("v1=")[2] for each in (signed, *others)}) == 4
    # printf '1.{}' | openssl dgst -sha256 -hmac aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
    assert signed == "t=1,v1=955e333fbaa7c120d642e795608c65126b04e269a5661d1db40a8bffdf3cae34"


def test_a_repeat_can_be_told(receiver: LocalServer) -> None:
    receiver.reply(503)
    for _ in range(2):
        with pytest.raises(Temporary):
            webhook(receiver).send(NOTICE)
    assert [request.headers["Idempotency-Key"] for request in receiver.requests] == [NOTICE.id] * 2


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_any_success_is_a_delivery(receiver: LocalServer, status: int) -> None:
    receiver.reply(status, "" if status == 204 else "<html>whatever</html>")
    webhook(receiver).send(NOTICE)
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504, 599])
def test_what_may_pass_is_temporary_and_asked_once(receiver: LocalServer, status: int) -> None:
    receiver.reply(status, Retry_After="30")
    with pytest.raises(Temporary, match=str(status)) as caught:
        webhook(receiver).send(NOTICE)
    assert caught.value.retry_after == 30
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 413, 422])
def test_a_refusal_is_permanent(receiver: LocalServer, status: int) -> None:
    receiver.reply(status, "secret details")
    with pytest.raises(Permanent, match=str(status)):
        webhook(receiver).send(NOTICE)
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 304])
def test_a_redirect_is_not_followed(receiver: LocalServer, status: int) -> None:
    receiver.reply(status, Location=receiver.url + "/elsewhere")
    with pytest.raises(Temporary, match=f"{status}: redirects are not followed"):
        webhook(receiver).send(NOTICE)
    assert [request.path for request in receiver.requests] == [PATH]


def test_a_slow_receiver_is_temporary(receiver: LocalServer) -> None:
    receiver.answer = lambda request: Reply(hangs=True)
    with pytest.raises(Temporary, match="in time"):
        webhook(receiver, timeout=0.2).send(NOTICE)


def test_a_receiver_that_sends_byte_by_byte_is_not_waited_for() -> None:
    def trickle() -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nX-Endless: "
        while True:
            yield b"."  # each byte begins the socket's time limit anew

    with raw_server(trickle, pause=0.05) as server:
        begun = time.monotonic()
        with pytest.raises(Temporary, match="in time"):
            WebhookNotifier(server.url, KEY, timeout=0.3).send(NOTICE)
        assert time.monotonic() - begun < 3


def test_an_endless_body_is_not_read() -> None:
    def endless() -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\n\r\n"
        while True:
            yield b"." * 65536

    with raw_server(endless) as server:
        WebhookNotifier(server.url, KEY, timeout=5).send(NOTICE)
        assert server.sent < 50 << 20


@pytest.mark.parametrize("nonsense", [b"SSH-2.0-OpenSSH\r\n", b"", b"HTTP/1.1 abc\r\n\r\n", b"\x00" * 70000])
def test_what_is_no_http_is_temporary(nonsense: bytes) -> None:
    with raw_server(lambda: [nonsense]) as server, pytest.raises(Temporary):
        WebhookNotifier(server.url, KEY, timeout=2).send(NOTICE)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://hooks.example/s3cr3t", "https://"),
        ("http://10.0.0.1/s3cr3t", "https://"),
        ("http://localhost.evil.example/s3cr3t", "https://"),
        ("ftp://hooks.example/s3cr3t", "https://"),
        ("file:///etc/s3cr3t", "https://"),
        ("hooks.example/s3cr3t", "https://"),
        ("https:///s3cr3t", "https://"),
        ("", "https://"),
        ("https://hooks.example/s3cr3t\r\nX: y", "line ends"),
        ("https://ann:s3cr3t@hooks.example/", "no user and password"),
    ],
)
def test_an_unusable_address_is_refused_at_once_and_not_repeated(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        WebhookNotifier(url, KEY)
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("url", ["https://hooks.example/a", "http://[::1]:8080/", "http://127.9.9.9/"])
def test_a_usable_address_is_taken(url: str) -> None:
    WebhookNotifier(url, KEY)


@pytest.mark.parametrize("key", ["", "sesame", "k" * 31])
def test_a_key_that_can_be_guessed_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match=r"32 characters.*openssl rand -hex 32"):
        WebhookNotifier("https://hooks.example/", key)


@pytest.mark.parametrize("status", [200, 302, 404, 429, 500])
def test_address_and_key_are_secrets(
    receiver: LocalServer, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], status: int
) -> None:
    receiver.reply(status, f"{PATH} {KEY}", Location=receiver.url + PATH)
    notifier, said = webhook(receiver), ""
    with caplog.at_level(logging.DEBUG):
        try:
            notifier.send(NOTICE)
        except (Temporary, Permanent) as error:
            said = f"{error!r} {error} {error.__cause__}"
    printed = capfd.readouterr()
    for secret in ("s3cr3t", "t0k3n", KEY):
        assert secret not in f"{said} {notifier!r} {caplog.text} {printed.out} {printed.err}"


def test_nobody_at_home_is_temporary() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(Temporary, match="cannot be reached: ConnectionRefusedError"):
        WebhookNotifier(f"http://127.0.0.1:{port}/s3cr3t", KEY).send(NOTICE)


def test_a_certificate_that_nobody_signed_is_named(tmp_path: Path) -> None:
    with TlsServer(tmp_path) as port:
        notifier = WebhookNotifier(f"https://127.0.0.1:{port}/s3cr3t", KEY, timeout=5)
        for ask in (lambda: notifier.send(NOTICE), notifier.check):
            with pytest.raises(Temporary, match=r"certificate is not trusted: self.signed certificate"):
                ask()


class TlsServer:
    """A server whose certificate is its own."""

    def __init__(self, folder: Path) -> None:
        key, certificate = folder / "key.pem", folder / "cert.pem"
        openssl = require("openssl", "apt-get install openssl")
        made = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        made += ["-nodes", "-days", "1", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
        subprocess.run([*made, "-keyout", key, "-out", certificate], check=True, capture_output=True)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)

    def __enter__(self) -> int:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        port: int = self._socket.getsockname()[1]
        return port

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            try:
                self._context.wrap_socket(connection, server_side=True).close()
            except OSError:
                connection.close()


class TestCheck:
    def test_any_answer_will_do_and_nothing_is_sent(self, receiver: LocalServer) -> None:
        seen: list[str] = []
        with raw_server(lambda: seen.append("asked") or [b"HTTP/1.1 405 No\r\n\r\n"]) as server:  # type: ignore[func-returns-value]
            assert WebhookNotifier(server.url, KEY).check() == "answers (405 to HEAD)"
        assert seen == ["asked"]

    def test_one_that_is_away_is_told(self, receiver: LocalServer) -> None:
        receiver.answer = lambda request: Reply(closes=True)
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        with pytest.raises(Temporary, match="cannot be reached"):
            WebhookNotifier(f"http://127.0.0.1:{port}/", KEY).check()
