"""What every notifier has to do; subclass ``NotifierContract`` and run it with pytest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ...ports.errors import Permanent, Temporary
from ...ports.notifier import Digest, DigestLine, Notice, Notifier

NOTICE = Notice(
    id="heat-7-deployed",
    model="heat",
    event="deployed",
    severity="info",
    title="heat 12 was promoted",
    body="F1 went from 0.91 to 0.95 on 4,000 rows.",
    at=datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC),
    facts={"champion": "12", "before": "11"},
)


def digest_of_many(count: int = 100) -> Digest:
    """A digest of so many notices: critical ones of several models first, and one that happened often."""
    alone = [
        replace(
            NOTICE, id=f"alone-{n}-of-many", model=f"model-{n}", severity="critical", title=f"Conflict {n}"
        )
        for n in range(count // 2)
    ]
    often = [
        replace(NOTICE, id=f"often-{n}-of-many", at=NOTICE.at - timedelta(minutes=n))
        for n in range(count - len(alone))
    ]
    lines = (*(DigestLine((notice,)) for notice in alone), DigestLine(tuple(often)))
    title = f"{count} notices: {len(alone)} critical, {len(often)} info"
    return Digest("digest-of-many", "critical", title, often[-1].at, NOTICE.at, lines)


class NotifierContract:
    """Behaviour of a ``Notifier``; of a ``DigestNotifier``, too, where it has ``send_digest``.

    Override ``notifier`` and ``received``; and, where the receiver can be made to fail, ``unreachable`` and
    ``refused``::

        class TestPager(NotifierContract):
            def notifier(self): ...
            def received(self): ...
    """

    def notifier(self) -> Notifier:
        """A notifier whose receiver takes everything."""
        raise NotImplementedError

    def received(self) -> Sequence[str]:
        """What has arrived since ``notifier`` was called: one text a message, in order."""
        raise NotImplementedError

    def unreachable(self) -> Notifier:
        """A notifier whose receiver is away."""
        pytest.skip("no receiver to be away")

    def refused(self) -> Notifier:
        """A notifier whose receiver will never accept anything."""
        pytest.skip("no receiver to refuse")

    def test_a_notice_arrives_whole(self) -> None:
        self.notifier().send(NOTICE)
        (message,) = self.received()
        facts = (*NOTICE.facts.keys(), *NOTICE.facts.values())
        for part in (NOTICE.id, NOTICE.model, NOTICE.title, NOTICE.body, *facts):
            assert part in message

    def test_a_repeat_is_sent_again_under_its_id(self) -> None:
        notifier = self.notifier()
        notifier.send(NOTICE)
        notifier.send(NOTICE)
        messages = self.received()
        assert messages
        assert all(NOTICE.id in message for message in messages)

    def test_notices_of_every_severity_arrive_in_order(self) -> None:
        notifier = self.notifier()
        notices = [
            replace(NOTICE, id="a-1", severity="info"),
            replace(NOTICE, id="b-2", severity="warning"),
            replace(NOTICE, id="c-3", severity="critical"),
        ]
        for notice in notices:
            notifier.send(notice)
        messages = self.received()
        assert len(messages) == len(notices)
        assert all(notice.id in message for notice, message in zip(notices, messages, strict=True))

    def test_a_notice_of_any_length_is_sent(self) -> None:
        facts = {f"measure {number}": "0.123456789 " * 300 for number in range(150)}
        self.notifier().send(replace(NOTICE, title="t" * 1000, body="<b> & \n" * 5000, facts=facts))
        (message,) = self.received()
        assert NOTICE.id in message

    def test_a_notice_without_body_and_facts_is_sent(self) -> None:
        self.notifier().send(replace(NOTICE, body="", facts={}))
        (message,) = self.received()
        assert NOTICE.title in message

    def test_a_receiver_that_is_away_is_temporary(self) -> None:
        notifier = self.unreachable()
        with pytest.raises(Temporary) as caught:
            notifier.send(NOTICE)
        assert str(caught.value)

    def test_a_receiver_that_refuses_is_permanent(self) -> None:
        notifier = self.refused()
        with pytest.raises(Permanent) as caught:
            notifier.send(NOTICE)
        assert str(caught.value)

    def test_a_digest_arrives_as_one_message_with_every_id(self) -> None:
        digest = digest_of_many()
        self._digests(self.notifier())(digest)
        (message,) = self.received()
        for line in digest.lines:
            assert line.newest.title in message
            for notice_id in line.ids:
                assert notice_id in message
        assert message.index("alone-0-of-many") < message.index("often-0-of-many")

    def test_a_digest_of_any_length_is_sent(self) -> None:
        digest = digest_of_many()
        long = [
            DigestLine(tuple(replace(each, title="<t>" * 500, body="&\n" * 5000) for each in line.notices))
            for line in digest.lines
        ]
        self._digests(self.notifier())(replace(digest, title="t" * 1000, lines=tuple(long)))
        (message,) = self.received()
        assert all(notice_id in message for line in digest.lines for notice_id in line.ids)

    def test_a_digest_that_cannot_be_sent_is_temporary(self) -> None:
        with pytest.raises(Temporary):
            self._digests(self.unreachable())(digest_of_many())

    def test_a_digest_that_is_refused_is_permanent(self) -> None:
        with pytest.raises(Permanent):
            self._digests(self.refused())(digest_of_many())

    @staticmethod
    def _digests(notifier: Notifier) -> Callable[[Digest], None]:
        send: Callable[[Digest], None] | None = getattr(notifier, "send_digest", None)
        return send or pytest.skip("it takes notices one by one")
