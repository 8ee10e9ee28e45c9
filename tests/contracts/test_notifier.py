import json
import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from local_http import LocalServer, Reply, local_server

from autoretrain.adapters.memory import MemoryNotifier
from autoretrain.adapters.notifier_log import LogNotifier
from autoretrain.adapters.notifier_slack import SlackNotifier
from autoretrain.entrypoints.testing.notifier import NOTICE, NotifierContract
from autoretrain.ports.errors import MissingExtra, Permanent, Temporary
from autoretrain.ports.notifier import Notifier

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
        return [
            "\n".join((sent.id, sent.model, sent.title, sent.body, *sent.facts, *sent.facts.values()))
            for sent in self.memory.sent
        ]
