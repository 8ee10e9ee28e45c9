import json
import logging
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from local_http import LocalServer, Reply, local_server

from autoretrain.adapters.memory import MemoryNotifier
from autoretrain.adapters.notifier_log import LogNotifier
from autoretrain.adapters.notifier_slack import SlackNotifier
from autoretrain.adapters.retry_after import retry_after
from autoretrain.entrypoints.testing.notifier import NOTICE, NotifierContract, digest_of_many
from autoretrain.ports.errors import MissingExtra, Permanent, Temporary
from autoretrain.ports.notifier import DigestLine, Notice, Notifier

SECRET = "/services/T0/B0/s3cr3t"


@pytest.fixture
def slack() -> Iterator[LocalServer]:
    with local_server() as server:
        server.reply(200, "ok")
        yield server


class TestSlackNotifier(NotifierContract):
    @pytest.fixture(autouse=True)
    def _server(self, slack: LocalServer) -> None:
        self.slack = slack

    def notifier(self) -> Notifier:
        return SlackNotifier(self.slack.url + SECRET, timeout=2)

    def received(self) -> Sequence[str]:
        return [shown(request.body) for request in self.slack.requests]

    def unreachable(self) -> Notifier:
        self.slack.answer = lambda request: Reply(closes=True)
        return self.notifier()

    def refused(self) -> Notifier:
        self.slack.reply(404, "no_service")
        return self.notifier()


def shown(body: bytes) -> str:
    """All text of the blocks, as a reader of the channel sees it."""
    texts: list[str] = []
    for block in json.loads(body)["blocks"]:
        parts = [block.get("text"), *block.get("fields", []), *block.get("elements", [])]
        texts.extend(part["text"] for part in parts if part)
    return "\n".join(texts)


def test_slack_is_asked_to_wait_no_longer_than_it_says(slack: LocalServer) -> None:
    slack.reply(429, "rate_limited", Retry_After="30")
    with pytest.raises(Temporary) as caught:
        SlackNotifier(slack.url + SECRET).send(NOTICE)
    assert caught.value.retry_after == 30.0
    assert len(slack.requests) == 1


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "Wed, 04 Mar 2026 12:00:30 GMT"}, 30.0),
        ({"Retry-After": "Wed, 04 Mar 2026 12:00:30 GMT", "Date": "Wed, 04 Mar 2026 11:59:00 GMT"}, 90.0),
        ({"retry-after": "Wed, 04 Mar 2026 11:00:00 GMT"}, 0.0),
        ({"RETRY-AFTER": " 7 "}, 7.0),
        ({"Retry-After": "9" * 400}, 999999999999.0),
        ({"Retry-After": "1.5"}, None),
        ({"Retry-After": "-3"}, None),
        ({"Retry-After": "\u0663"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "Wed, 99 Mar 2026 12:00:30 GMT"}, None),
        ({"Retry-After": "Wed, 04 Mar 2026 12:00:30 GMT", "Date": "today"}, 30.0),
        ({}, None),
    ],
)
def test_the_wait_is_read_as_seconds_or_as_a_date(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, datetime(2026, 3, 4, 12, tzinfo=UTC)) == seconds


def test_slack_may_say_a_date(slack: LocalServer) -> None:
    slack.reply(503, "", Date="Wed, 04 Mar 2026 12:00:00 GMT", Retry_After="Wed, 04 Mar 2026 12:02:00 GMT")
    with pytest.raises(Temporary) as caught:
        SlackNotifier(slack.url + SECRET).send(NOTICE)
    assert caught.value.retry_after == 120.0


@pytest.mark.parametrize("status", [500, 502, 503])
def test_a_failing_slack_is_temporary_and_asked_once(slack: LocalServer, status: int) -> None:
    slack.reply(status, "server_error")
    with pytest.raises(Temporary, match=str(status)):
        SlackNotifier(slack.url + SECRET).send(NOTICE)
    assert len(slack.requests) == 1


@pytest.mark.parametrize(
    ("status", "said"),
    [(400, "invalid_payload"), (403, "action_prohibited"), (404, "no_service"), (410, "channel_is_archived")],
)
def test_a_refusing_slack_is_permanent_with_its_word(slack: LocalServer, status: int, said: str) -> None:
    slack.reply(status, said)
    with pytest.raises(Permanent, match=f"{status}: {said}"):
        SlackNotifier(slack.url + SECRET).send(NOTICE)


def test_a_slow_slack_is_temporary(slack: LocalServer) -> None:
    slack.answer = lambda request: Reply(hangs=True)
    with pytest.raises(Temporary, match="in time"):
        SlackNotifier(slack.url + SECRET, timeout=0.2).send(NOTICE)


def test_a_slack_that_sends_byte_by_byte_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = threading.Event()

        def trickle() -> None:
            connection, _ = server.accept()
            with connection, suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                while not done.wait(0.05):
                    connection.sendall(b".")  # each byte begins the socket's time limit anew

        thread = threading.Thread(target=trickle)
        thread.start()
        begun = time.monotonic()
        try:
            with pytest.raises(Temporary, match="in time"):
                SlackNotifier(f"http://127.0.0.1:{server.getsockname()[1]}/", timeout=0.3).send(NOTICE)
            assert time.monotonic() - begun < 3
        finally:
            done.set()
            thread.join()


@pytest.mark.parametrize(
    "page", [Reply(200, b"<html>please log in</html>"), Reply(200, b"\xff\xfe"), Reply(200, b"")]
)
def test_only_slacks_own_ok_counts_as_delivered(slack: LocalServer, page: Reply) -> None:
    slack.answer = lambda request: page
    with pytest.raises(Temporary, match="not Slack"):
        SlackNotifier(slack.url + SECRET).send(NOTICE)


def test_a_redirect_is_not_a_delivery(slack: LocalServer) -> None:
    elsewhere = Reply(302, b"", {"Location": slack.url + "/login"})
    slack.answer = lambda request: elsewhere if request.path == SECRET else Reply(200, b"<html></html>")
    with pytest.raises(Temporary, match="not Slack"):
        SlackNotifier(slack.url + SECRET).send(NOTICE)


def test_an_unusable_address_is_permanent_and_not_repeated() -> None:
    with pytest.raises(Permanent) as caught:
        SlackNotifier("http://127.0.0.1:1/\ns3cr3t").send(NOTICE)
    assert "s3cr3t" not in str(caught.value)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "slack_sdk.webhook", None)
    with pytest.raises(MissingExtra, match=r"autoretrain\[slack\]"):
        SlackNotifier("http://127.0.0.1:1/").send(NOTICE)


def test_an_address_without_http_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="starts with") as caught:
        SlackNotifier("hooks.example/T0/s3cr3t")
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("status", [200, 302, 404, 429, 500])
def test_the_address_is_a_secret(slack: LocalServer, caplog: pytest.LogCaptureFixture, status: int) -> None:
    notifier = SlackNotifier(slack.url + SECRET)
    slack.reply(status, "what", Location=slack.url + SECRET)
    with caplog.at_level(logging.DEBUG), pytest.raises((Temporary, Permanent)) as caught:
        notifier.send(NOTICE)
    assert "s3cr3t" not in f"{caught.value!r} {caught.value} {notifier!r} {caplog.text}"


def test_text_cannot_call_the_channel_or_pose_as_a_link(slack: LocalServer) -> None:
    SlackNotifier(slack.url + SECRET).send(replace(NOTICE, body="<!channel> <http://a|b> & more"))
    text = shown(slack.requests[0].body)
    assert "&lt;!channel&gt; &lt;http://a|b&gt; &amp; more" in text


def test_a_long_notice_keeps_within_what_slack_takes(slack: LocalServer) -> None:
    facts = {f"measure {number}": "<&>" * 2000 for number in range(150)}
    SlackNotifier(slack.url + SECRET).send(replace(NOTICE, title="t" * 500, body="&" * 9000, facts=facts))
    blocks = json.loads(slack.requests[0].body)["blocks"]
    sections = [block for block in blocks if block["type"] == "section"]
    fields = [field["text"] for section in sections for field in section.get("fields", [])]
    assert len(blocks) <= 50
    assert len(blocks[0]["text"]["text"]) <= 150
    assert len(sections[0]["text"]["text"]) <= 3000
    assert all(len(section.get("fields", [])) <= 10 for section in sections)
    assert all(len(text) <= 2000 for text in fields)
    assert "&am…" not in sections[0]["text"]["text"]


def test_a_digest_keeps_within_what_slack_takes(slack: LocalServer) -> None:
    digest = digest_of_many()
    long = [
        DigestLine(tuple(replace(each, title="<&>" * 500, body="&" * 9000) for each in line.notices))
        for line in digest.lines
    ]
    SlackNotifier(slack.url + SECRET).send_digest(replace(digest, lines=tuple(long)))
    blocks = json.loads(slack.requests[0].body)["blocks"]
    texts = [block["text"]["text"] for block in blocks if block["type"] == "section"]
    assert len(blocks) <= 50
    assert all(0 < len(text) <= 3000 for text in texts)
    assert "&am…" not in "".join(texts)


class TestLogNotifier(NotifierContract):
    @pytest.fixture(autouse=True)
    def _log(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, logger="autoretrain.notices")
        self.log = caplog

    def notifier(self) -> Notifier:
        return LogNotifier()

    def received(self) -> Sequence[str]:
        return [record.getMessage() for record in self.log.records if record.name == "autoretrain.notices"]

    @pytest.mark.parametrize("severity", ["info", "warning", "critical"])
    def test_one_line_a_notice_at_its_level(self, severity: str) -> None:
        self.notifier().send(replace(NOTICE, severity=severity, body="two\nlines"))  # type: ignore[arg-type]
        (record,) = self.log.records
        assert record.levelname == severity.upper()
        assert "\n" not in record.getMessage()


class TestMemoryNotifier(NotifierContract):
    def notifier(self) -> Notifier:
        self.memory = MemoryNotifier()
        return self.memory

    def received(self) -> Sequence[str]:
        digests = [[n for line in digest.lines for n in line.notices] for digest in self.memory.digests]
        together = {notice.id for notices in digests for notice in notices}
        alone = [[sent] for sent in self.memory.sent if sent.id not in together]
        return ["\n".join(map(self.text, message)) for message in (*alone, *digests)]

    @staticmethod
    def text(sent: Notice) -> str:
        return "\n".join((sent.id, sent.model, sent.title, sent.body, *sent.facts, *sent.facts.values()))
