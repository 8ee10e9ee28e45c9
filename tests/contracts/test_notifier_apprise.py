"""Notices through apprise: the contract over SMTP, Teams and PagerDuty, and what is apprise's own."""

import json
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from local_http import LocalServer, Reply, local_server
from local_smtp import SmtpServer, local_smtp

from autoretrain.adapters.notifier_apprise import AppriseNotifier, apprise_notifier
from autoretrain.entrypoints.testing.notifier import NOTICE, NotifierContract, digest_of_many
from autoretrain.ports.errors import MissingExtra, Temporary
from autoretrain.ports.notifier import Notifier, Severity

pytest.importorskip("apprise")

USER, PASSWORD = "mailbox77", "pa55-w0rd%21"


@pytest.fixture
def smtp() -> Iterator[SmtpServer]:
    with local_smtp() as server:
        yield server


@pytest.fixture
def http() -> Iterator[LocalServer]:
    with local_server() as server:
        server.reply(202, "{}")
        yield server


def mail_to(server: SmtpServer, more: str = "") -> str:
    who = "from=retrain%40plant.example&to=ops%40plant.example"
    return f"mailto://{USER}:{PASSWORD}@127.0.0.1:{server.port}/?{who}{more}"


def mailed(server: SmtpServer, timeout: float = 5, more: str = "") -> AppriseNotifier:
    return apprise_notifier(mail_to(server, more), timeout=timeout)


class TestMail(NotifierContract):
    @pytest.fixture(autouse=True)
    def _server(self, smtp: SmtpServer) -> None:
        self.smtp = smtp

    def notifier(self) -> Notifier:
        return mailed(self.smtp, more="&format=text")

    def received(self) -> Sequence[str]:
        return [mail.text for mail in self.smtp.mails]

    def unreachable(self) -> Notifier:
        self.smtp.answers["EHLO"] = self.smtp.answers["HELO"] = "421 not now"
        return self.notifier()

    def test_html_is_text_and_has_the_id(self) -> None:
        mailed(self.smtp, more="&format=html").send(replace(NOTICE, body="<script>alert(1)</script> & more"))
        (mail,) = self.smtp.mails
        body = mail.message.get_body(("html",))
        assert body is not None
        assert "&lt;script&gt;" in body.get_content()
        assert NOTICE.id in body.get_content()


class TestPagerDuty(NotifierContract):
    """Its messages are short, so a backlog comes one by one, an incident each."""

    @pytest.fixture(autouse=True)
    def _server(self, http: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
        from apprise.plugins.pagerduty import PAGERDUTY_API_LOOKUP

        monkeypatch.setitem(PAGERDUTY_API_LOOKUP, "us", http.url + "/v2/enqueue")
        self.http = http

    def notifier(self) -> Notifier:
        return apprise_notifier("pagerduty://r0ut1ngk3y@ap1t0k3n", timeout=5)

    def received(self) -> Sequence[str]:
        return [json.loads(request.body)["payload"]["summary"] for request in self.http.requests]

    def unreachable(self) -> Notifier:
        self.http.answer = lambda request: Reply(closes=True)
        return self.notifier()

    def test_a_notice_of_any_length_is_sent(self) -> None:
        super().test_a_notice_of_any_length_is_sent()
        assert [len(summary) <= 1024 for summary in self.received()] == [True]  # what PagerDuty takes

    def test_the_id_is_the_deduplication_key(self) -> None:
        notifier = self.notifier()
        for notice in (NOTICE, NOTICE, replace(NOTICE, id="another")):
            notifier.send(notice)
        events = [json.loads(request.body) for request in self.http.requests]
        assert [event["dedup_key"] for event in events] == [NOTICE.id, NOTICE.id, "another"]
        assert {event["event_action"] for event in events} == {"trigger"}
        assert {event["routing_key"] for event in events} == {"r0ut1ngk3y"}

    def test_a_key_in_the_address_wins(self) -> None:
        apprise_notifier("pagerduty://r0ut1ngk3y@ap1t0k3n?dedup=fleet").send(NOTICE)
        assert json.loads(self.http.requests[0].body)["dedup_key"] == "fleet"

    @pytest.mark.parametrize("severity", ["info", "warning", "critical"])
    def test_severities_are_pagerdutys(self, severity: Severity) -> None:
        self.notifier().send(replace(NOTICE, severity=severity))
        assert json.loads(self.http.requests[0].body)["payload"]["severity"] == severity

    def test_no_picture_is_fetched_from_elsewhere(self) -> None:
        self.notifier().send(NOTICE)
        assert b"github" not in self.http.requests[0].body

    def test_the_status_is_told_and_no_key(self) -> None:
        self.http.reply(400, "bad r0ut1ngk3y")
        with pytest.raises(Temporary, match=r"Pager Duty: Failed to send .*error=400") as caught:
            self.notifier().send(NOTICE)
        assert "r0ut1ngk3y" not in str(caught.value)

    def test_a_redirect_takes_no_key_elsewhere(self) -> None:
        self.http.reply(307, Location=self.http.url + "/elsewhere")
        with pytest.raises(Temporary):
            self.notifier().send(NOTICE)
        assert [request.path for request in self.http.requests] == ["/v2/enqueue"]


class TestTeams(NotifierContract):
    @pytest.fixture(autouse=True)
    def _server(self, http: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
        import requests

        real = requests.post

        def post(url: str, **more: object) -> object:  # the plugin knows https alone
            return real(url.replace("https://", "http://"), **more)  # type: ignore[arg-type]

        monkeypatch.setattr(requests, "post", post)
        self.http = http

    def notifier(self) -> Notifier:
        place = self.http.url.removeprefix("http://")
        return apprise_notifier(f"workflows://{place}/w0rkfl0w/s1gnatur3/", timeout=5)

    def received(self) -> Sequence[str]:
        cards = [json.loads(request.body)["attachments"][0]["content"] for request in self.http.requests]
        return ["\n".join(_plain(part.get("text", "")) for part in card["body"]) for card in cards]

    def unreachable(self) -> Notifier:
        self.http.answer = lambda request: Reply(closes=True)
        return self.notifier()

    def test_text_cannot_call_anybody(self) -> None:
        self.notifier().send(
            replace(NOTICE, body="ask <at>boss</at> or <AT>all</AT>", facts={"a": "<at>b</at>"})
        )
        card = json.loads(self.http.requests[0].body)["attachments"][0]["content"]
        assert card["msteams"] == {"width": "full"}
        assert "boss" in self.received()[0]


def _plain(text: str) -> str:
    """Markdown as it is read: escaped characters are themselves."""
    for character in "\\`*_{}[]()#+-.!|<>~&=:;,/'\"?@%$^":
        text = text.replace(f"\\{character}", character)
    return text


def test_a_mail_is_from_whom_and_to_whom_the_address_says(smtp: SmtpServer) -> None:
    mailed(smtp).send(NOTICE)
    (mail,) = smtp.mails
    assert (mail.sender, mail.recipients) == ("retrain@plant.example", ["ops@plant.example"])
    assert mail.message["Subject"] == NOTICE.title
    assert smtp.logins == [f"\0{USER}\0pa55-w0rd!"]


def test_a_title_of_several_lines_is_no_header_of_its_own(smtp: SmtpServer) -> None:
    mailed(smtp).send(replace(NOTICE, title="Heat\r\nBcc: all@plant.example"))
    (mail,) = smtp.mails
    assert mail.message["Subject"] == "Heat Bcc: all@plant.example"
    assert mail.message["Bcc"] is None


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ({"AUTH": "535 wrong password pa55-w0rd!"}, "E-Mail: "),
        ({"RCPT": "550 no such user ops@plant.example"}, "E-Mail: "),
        ({".": "452 mailbox full"}, "E-Mail: "),
    ],
)
def test_a_mail_that_is_refused_is_temporary(smtp: SmtpServer, answers: dict[str, str], says: str) -> None:
    smtp.answers.update(answers)
    with pytest.raises(Temporary, match=says) as caught:
        mailed(smtp).send(NOTICE)
    assert not smtp.mails
    for secret in (USER, PASSWORD, "pa55-w0rd", "ops"):
        assert secret not in str(caught.value)


def test_a_server_that_hangs_is_not_waited_for(smtp: SmtpServer) -> None:
    smtp.hangs = True
    begun = time.monotonic()
    with pytest.raises(Temporary, match="E-Mail: no answer in time"):
        mailed(smtp, timeout=0.3).send(NOTICE)
    assert time.monotonic() - begun < 3


def test_messages_in_a_row_do_not_wait_for_one_another(smtp: SmtpServer) -> None:
    notifier, begun = mailed(smtp), time.monotonic()
    for _ in range(3):
        notifier.send(NOTICE)  # apprise rests 5.5 s between two messages of one service
    assert len(smtp.mails) == 3
    assert time.monotonic() - begun < 4


@pytest.mark.parametrize(
    "url",
    [
        "",
        "s3cr3t",
        "nosuch://s3cr3t@host",
        "pagerduty://s3cr3t",
        "mailto://s3cr3t@",
        "workflows://host/s3cr3t!!/s3cr3t!!/",
        "mailto://s3cr3t:pw-s3cr3t@host.example/?to=a@b.example&mode=s3cr3t",
        "https://s3cr3t",
    ],
)
def test_an_unusable_address_is_refused_at_once_and_not_repeated(
    url: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with (
        caplog.at_level(1),
        pytest.raises(ValueError, match=r"apprise cannot use the address: \w.+") as caught,
    ):
        apprise_notifier(url)
    printed = capfd.readouterr()
    assert "s3cr3t" not in f"{caught.value} {caplog.text} {printed.out} {printed.err}"


def test_an_address_that_would_hide_failures_is_refused(smtp: SmtpServer) -> None:
    with pytest.raises(ValueError, match="optional=yes"):
        mailed(smtp, more="&optional=yes")


@pytest.mark.parametrize("fails", [False, True])
def test_the_address_is_in_no_log(
    smtp: SmtpServer, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], fails: bool
) -> None:
    if fails:
        smtp.answers["RCPT"] = "550 no"
    with caplog.at_level(1), caplog.at_level(1, "apprise"):
        notifier, said = mailed(smtp), ""
        try:
            notifier.send(NOTICE)
        except Temporary as error:
            said = f"{error!r} {error}"
    printed = capfd.readouterr()
    for secret in (USER, "pa55", "ops@", "retrain@"):
        assert secret not in f"{said} {notifier!r} {caplog.text} {printed.out} {printed.err}"


def test_who_else_uses_apprise_keeps_its_log(smtp: SmtpServer, caplog: pytest.LogCaptureFixture) -> None:
    import apprise

    mailed(smtp).send(NOTICE)
    with caplog.at_level(logging.WARNING):
        apprise.Apprise.instantiate("nosuch://host")
    assert "nosuch" in caplog.text


def test_short_messages_get_no_digests(smtp: SmtpServer) -> None:
    assert hasattr(mailed(smtp), "send_digest")
    assert not hasattr(apprise_notifier("pagerduty://r0ut1ngk3y@ap1t0k3n"), "send_digest")


def test_a_digest_of_routed_notices_fits(smtp: SmtpServer) -> None:
    digest = digest_of_many()
    ids = {f"{'f' * 32}.{'t' * 40}-{number}": line for number, line in enumerate(digest.lines)}
    lines = tuple(
        replace(line, notices=tuple(replace(each, id=f"{name}-{n}") for n, each in enumerate(line.notices)))
        for name, line in ids.items()
    )
    mailed(smtp, more="&format=text").send_digest(replace(digest, lines=lines))  # type: ignore[attr-defined]
    (mail,) = smtp.mails
    assert len(mail.text) < 32768
    assert all(notice.id in mail.text for line in lines for notice in line.notices)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(MissingExtra, match=r"autoretrain\[apprise\]"):
        apprise_notifier("mailto://127.0.0.1")
