"""Delivery over the in-memory outbox: order, digests, waits, and what a bad receiver may cost."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoretrain.adapters.memory import MemoryLedger, MemoryNotifier
from autoretrain.domain.delivery import (
    DIGEST_SIZE,
    FEW,
    LONGEST_ASKED,
    LONGEST_PAUSE,
    LONGEST_WAIT,
    MOST_SENDS,
    Delivered,
    Deliveries,
    Delivery,
    back_off,
    presentable,
)
from autoretrain.domain.digest import digest_of
from autoretrain.domain.plan import Trouble
from autoretrain.domain.sealing import Draft, Head, seal
from autoretrain.ports.errors import AutoRetrainError, Permanent, Temporary
from autoretrain.ports.ledger import Append
from autoretrain.ports.notifier import Digest, Notice, Notifier, Severity
from autoretrain.ports.outbox import Backlog
from autoretrain.ports.values import Pending

NOW = datetime(2026, 3, 4, 3, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def notice(name: str, severity: Severity = "info", minutes: float = 0.0, model: str = "m") -> Notice:
    return Notice(name, model, "started", severity, f"{name} happened", "because", NOW + minutes * MINUTE)


class Receiver(MemoryNotifier):
    """Takes what it is not told to refuse, and remembers every try."""

    def __init__(self) -> None:
        super().__init__()
        self.refuses: Callable[[list[Notice]], Exception | None] = lambda notices: None
        self.tries: list[list[str]] = []
        self.takes_seconds = 0.0
        self.clock = 0.0

    def send(self, notice: Notice) -> None:
        self._take([notice])
        super().send(notice)

    def send_digest(self, digest: Digest) -> None:
        self._take([notice for line in digest.lines for notice in line.notices])
        super().send_digest(digest)

    def _take(self, notices: list[Notice]) -> None:
        self.tries.append([notice.id for notice in notices])
        self.clock += self.takes_seconds
        if error := self.refuses(notices):
            raise error


class OneByOne:
    """A receiver without digests."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def send(self, notice: Notice) -> None:
        self.sent.append(notice.id)


@dataclass
class Post:
    """An outbox, a receiver, and a delivery between them."""

    receiver: Receiver = field(default_factory=Receiver)
    outbox: MemoryLedger = field(default_factory=MemoryLedger)

    def __post_init__(self) -> None:
        self.head = Head()
        self.delivery = self.restarted()

    def restarted(self, notifier: Notifier | None = None) -> Delivery:
        """Another process over the same outbox."""
        return Delivery(
            self.outbox, notifier or self.receiver, self.ask, monotonic=lambda: self.receiver.clock
        )

    def ask(self, part: str, key: Hashable, question: Callable[[], Any]) -> Any:
        try:
            return question()
        except AutoRetrainError as error:
            after = getattr(error, "retry_after", None)
            return Trouble(str(error), isinstance(error, Temporary), after)

    def write(self, *notices: Notice) -> None:
        entries = seal("m", self.head, (Draft("model.enrolled"),), NOW)
        self.head = Head(entries[-1].chain, entries[-1].seq, entries[-1].hash)
        self.outbox.append(Append("m", entries, None, None, notices))

    def deliver(self, minutes: float = 0.0) -> Delivered:
        return self.delivery.deliver(NOW + minutes * MINUTE)

    @property
    def arrived(self) -> list[str]:
        return [notice.id for notice in self.receiver.sent]


@pytest.fixture
def post() -> Post:
    return Post()


class TestOrder:
    def test_a_few_are_sent_one_by_one_as_they_happened(self, post: Post) -> None:
        post.write(notice("started"), notice("deployed"), notice("completed"))
        post.write(notice("conflict", "critical", 1), notice("later", minutes=2))

        assert post.deliver(5) == Delivered(5, Backlog(0, 0))
        assert post.arrived == ["started", "deployed", "completed", "conflict", "later"]
        assert post.receiver.digests == []

    def test_a_backlog_is_one_message_the_newest_critical_first(self, post: Post) -> None:
        old = [notice(f"old-{n}", minutes=n, model=f"m{n}") for n in range(40)]
        post.write(*old, notice("first", "critical", 3), notice("warned", "warning", 60))
        post.write(notice("second", "critical", 50, model="other"))

        assert post.deliver(90).sent == 43
        (digest,) = post.receiver.digests
        assert digest.title == "43 notices: 2 critical, 1 warning, 40 info"
        assert digest.severity == "critical"
        assert [line.newest.id for line in digest.lines][:4] == ["second", "first", "warned", "old-39"]
        assert (digest.since, digest.until) == (NOW, NOW + 60 * MINUTE)
        assert sorted(post.arrived) == sorted(notice_id for line in digest.lines for notice_id in line.ids)

    def test_hundreds_are_few_messages_with_all_critical_ones_in_the_first(self, post: Post) -> None:
        post.write(*(notice(f"n{n}", "critical" if n % 100 == 7 else "info", n) for n in range(450)))

        assert post.deliver().sent == 450
        assert [len(tried) for tried in post.receiver.tries] == [DIGEST_SIZE] * 4 + [50]
        assert post.receiver.tries[0][:5] == ["n407", "n307", "n207", "n107", "n7"]
        assert len(set(post.arrived)) == len(post.arrived) == 450

    def test_a_burst_of_one_event_is_one_line(self) -> None:
        digest = digest_of([notice(f"n{n}", minutes=n) for n in range(12)] + [notice("o", model="other")])

        assert [(line.newest.id, len(line.ids)) for line in digest.lines] == [("n11", 12), ("o", 1)]

    def test_the_same_notices_make_the_same_digest(self) -> None:
        notices = [notice(f"n{n}", minutes=n % 3) for n in range(9)]

        assert digest_of(notices) == digest_of(notices[::-1])
        assert digest_of(notices).id != digest_of(notices[1:]).id

    def test_a_receiver_without_digests_gets_one_by_one(self, post: Post) -> None:
        post.write(*(notice(f"n{n}", minutes=n) for n in range(30)))
        receiver = OneByOne()
        delivery = post.restarted(receiver)

        assert delivery.deliver(NOW) == Delivered(MOST_SENDS, Backlog(10, 0, oldest_waiting=NOW))
        assert delivery.deliver(NOW).sent == 10
        assert receiver.sent == [f"n{n}" for n in (*range(10, 30), *range(10))]


class TestWaiting:
    def test_every_failure_doubles_the_wait_up_to_the_longest(self, post: Post) -> None:
        post.receiver.refuses = lambda notices: Temporary("away")
        post.write(notice("n"))
        now, waits = NOW, []
        for _ in range(12):
            post.delivery.deliver(now)
            (outgoing,) = post.outbox.due(now + timedelta(days=1))
            assert outgoing.next_try is not None
            waits.append((outgoing.next_try - now).total_seconds())
            now = outgoing.next_try

        assert len(post.receiver.tries) == 12
        for failures, wait in enumerate(waits):
            whole = min(5.0 * 2**failures, LONGEST_WAIT)
            assert whole / 2 <= wait <= whole

    @given(st.integers(0, 10**6), st.text(), st.text())
    def test_the_wait_depends_on_the_notice_and_nothing_else(self, failures: int, one: str, two: str) -> None:
        assert back_off(failures, one) == back_off(failures, one)
        assert 2.5 <= back_off(failures, two) <= LONGEST_WAIT

    def test_notices_do_not_come_back_at_the_same_moment(self) -> None:
        waits = sorted(back_off(3, f"notice {n}") for n in range(200))

        assert waits[0] < 22 < 38 < waits[-1]
        assert max(b - a for a, b in pairwise(waits)) < 2

    @pytest.mark.parametrize(
        ("asked", "kept"),
        [(300.0, 300.0), (1.0, 1.0), (1e9, LONGEST_ASKED), (float("inf"), LONGEST_ASKED)],
    )
    def test_the_receivers_own_time_is_kept_up_to_a_limit(
        self, post: Post, asked: float, kept: float
    ) -> None:
        post.receiver.refuses = lambda notices: Temporary("slow down", retry_after=asked)
        post.write(notice("n"), notice("o"))
        post.deliver()
        post.deliver((kept - 0.01) / 60)
        assert len(post.receiver.tries) == 1

        post.receiver.refuses = lambda notices: None
        assert post.deliver(kept / 60).sent == 2

    @pytest.mark.parametrize("asked", [0.0, -5.0, float("nan")])
    def test_a_time_that_is_none_is_not_kept(self, post: Post, asked: float) -> None:
        post.receiver.refuses = lambda notices: Temporary("slow down", retry_after=asked)
        post.write(notice("n"))
        post.deliver()

        assert not post.outbox.due(NOW + timedelta(seconds=2.4))
        assert post.outbox.due(NOW + timedelta(seconds=5))

    def test_a_clock_that_was_set_back_ends_the_pause(self, post: Post) -> None:
        post.receiver.refuses = lambda notices: Temporary("slow down", retry_after=3600)
        post.write(notice("n"))
        post.deliver()
        post.receiver.refuses = lambda notices: None
        post.write(notice("new"))

        assert post.deliver(-60).sent == 1


class TestBadReceivers:
    def test_one_that_is_away_is_asked_once_and_seldom(self, post: Post) -> None:
        post.receiver.refuses = lambda notices: Temporary("away")
        post.write(*(notice(f"n{n}", minutes=n) for n in range(40)))
        for second in range(0, 3600, 2):
            post.deliver(second / 60)
        assert len(post.receiver.tries) < 3600 / LONGEST_PAUSE * 2 + 10

    def test_while_it_is_away_it_is_asked_with_the_least_urgent(self, post: Post) -> None:
        post.receiver.refuses = lambda notices: Temporary("away")
        post.write(notice("gone", "info"))
        post.deliver()
        post.write(
            *(notice(f"i{n}", "info", 1) for n in range(3)),
            *(notice(f"c{n}", "critical", 2) for n in range(4)),
        )
        post.deliver(5)
        post.receiver.refuses = lambda notices: None

        assert post.deliver(7).sent == 8
        assert [len(tried) for tried in post.receiver.tries] == [1, 1, 1, 7]
        assert post.receiver.tries[3][:4] == ["c3", "c2", "c1", "c0"]

    def test_a_slow_one_does_not_hold_up_the_loop(self, post: Post) -> None:
        post.receiver.takes_seconds = 4.0
        post.write(*(notice(f"n{n}", minutes=n) for n in range(FEW)))

        assert post.deliver().sent == 3
        assert post.deliver().sent == 2

    def test_a_refused_notice_is_a_dead_letter_and_stops_no_other(self, post: Post) -> None:
        post.receiver.refuses = lambda notices: Permanent("no") if notices[0].id == "bad" else None
        post.write(notice("bad"), notice("good"))

        assert post.deliver() == Delivered(1, Backlog(0, 1, oldest_dead=NOW))
        assert post.arrived == ["good"]
        assert post.deliver(60).sent == 0

    def test_a_refused_digest_loses_only_what_is_refused_alone(self, post: Post) -> None:
        def refuses(notices: list[Notice]) -> Exception | None:
            return Permanent("invalid_blocks") if any(n.id == "n3" for n in notices) else None

        post.receiver.refuses = refuses
        post.write(*(notice(f"n{n}", minutes=n) for n in range(30)))
        for _ in range(3):
            post.deliver()

        assert [dead.notice.id for dead in post.outbox.dead_letters()] == ["n3"]
        assert sorted(post.arrived) == sorted(f"n{n}" for n in range(30) if n != 3)

    def test_a_revoked_address_costs_a_bounded_number_of_tries_a_tick(self, post: Post) -> None:
        post.receiver.refuses = lambda notices: Permanent("no_service")
        post.write(*(notice(f"n{n}", minutes=n) for n in range(100)))
        ticks = 0
        while post.outbox.counts().waiting:
            before = len(post.receiver.tries)
            post.deliver()
            ticks += 1
            assert len(post.receiver.tries) - before <= MOST_SENDS
        assert ticks <= 6
        assert post.outbox.counts().dead == 100

        post.receiver.refuses = lambda notices: None
        ids = [dead.notice.id for dead in post.outbox.dead_letters()]
        assert post.outbox.resend(ids, NOW) == 100
        assert post.deliver(1) == Delivered(100, Backlog(0, 0))
        assert len(post.receiver.digests) == 1

    def test_a_restarted_process_goes_on(self, post: Post) -> None:
        post.receiver.refuses = lambda notices: Temporary("away")
        post.write(notice("n"))
        post.deliver()
        post.receiver.refuses = lambda notices: None

        again = post.restarted()
        assert again.deliver(NOW).sent == 0
        assert again.deliver(NOW + MINUTE).sent == 1


class TestErrors:
    @pytest.mark.parametrize(
        ("error", "shown"),
        [
            ("Slack answers 500", "Slack answers 500"),
            ("POST https://hooks.slack.com/T0/s3cr3t failed", "POST https://hooks.slack.com/… failed"),
            ("no route to amqp://ann:s3cr3t@queue:5672/notices", "no route to amqp://queue/…"),
            ("HTTPSConnectionPool(url='https://h/s3cr3t')", "HTTPSConnectionPool(url='https://h/…')"),
            ("http://[s3cr3t/ is no address", "… is no address"),
            ("two\n  lines", "two lines"),
        ],
    )  # fmt: skip
    def test_addresses_lose_all_but_their_host(self, error: str, shown: str) -> None:
        assert presentable(error) == shown

    def test_they_are_short(self) -> None:
        assert len(presentable("x" * 10_000)) == 300

    @pytest.mark.parametrize("error", [Temporary, Permanent])
    def test_the_outbox_keeps_no_secret(self, post: Post, error: type[Exception]) -> None:
        post.receiver.refuses = lambda notices: error("https://hooks.example/s3cr3t is away")
        post.write(notice("n"))
        post.deliver()
        (outgoing,) = (*post.outbox.due(NOW + MINUTE), *post.outbox.dead_letters())

        assert outgoing.error == "https://hooks.example/… is away"


@given(
    severities=st.lists(st.sampled_from(["info", "warning", "critical"]), max_size=40),
    fates=st.lists(st.sampled_from(["ok", "away", "no", "asks"]), max_size=60),
    restarts=st.sets(st.integers(0, 60)),
)
def test_whatever_the_receiver_does_every_notice_arrives_or_is_a_dead_letter(
    severities: list[Severity], fates: list[str], restarts: set[int]
) -> None:
    post = Post()
    said = iter(fates)
    errors: dict[str, Exception] = {
        "away": Temporary("away"),
        "no": Permanent("no"),
        "asks": Temporary("later", retry_after=90),
    }
    post.receiver.refuses = lambda notices: errors.get(next(said, "ok"))
    ids = [f"n{n}" for n in range(len(severities))]
    for n, severity in enumerate(severities):
        post.write(replace(notice(ids[n], severity, n), model=f"m{n % 3}"))
        if n in restarts:
            post.delivery = post.restarted()
        post.deliver(n)
    for minutes in range(60, 1000, 6):
        post.deliver(minutes)

    dead = [letter.notice.id for letter in post.outbox.dead_letters()]
    assert sorted([*post.arrived, *dead]) == sorted(ids)
    assert post.outbox.counts().waiting == 0


class TestTargets:
    def test_each_gets_its_own(self, post: Post) -> None:
        pager, both = Receiver(), [notice("n"), for_target("pager", "n")]
        post.write(*both)

        assert deliveries(post, pager=pager).deliver(NOW) == Delivered(2, Backlog(0, 0))

        assert (post.arrived, [each.id for each in pager.sent]) == (["n"], ["n.pager"])

    def test_one_that_is_away_holds_back_none_but_its_own_and_repeats_no_others(self, post: Post) -> None:
        pager, mail = Receiver(), Receiver()
        mail.refuses = lambda notices: Temporary("away")
        names = [f"n{number}" for number in range(3 * DIGEST_SIZE)]
        post.write(*(for_target("mail", name) for name in names))
        both = deliveries(post, pager=pager, mail=mail)
        for minute in range(30):
            told = f"told-{minute}"
            post.write(notice(told), for_target("pager", told), for_target("mail", told))
            both.deliver(NOW + minute * MINUTE)

        once = [f"told-{minute}" for minute in range(30)]
        assert post.arrived == once
        assert [each.id for each in pager.sent] == [f"{name}.pager" for name in once]
        assert not mail.sent
        assert 10 < len(mail.tries) <= 31

        mail.refuses = lambda notices: None
        for minute in range(30, 40):
            both.deliver(NOW + minute * MINUTE)
        assert {each.id for each in mail.sent} == {f"{name}.mail" for name in (*names, *once)}
        assert len(pager.sent) == len(post.arrived) == 30

    def test_one_that_hangs_delays_itself_alone(self, post: Post) -> None:
        pager, asked = Receiver(), []

        def ask(part: str, key: Hashable, question: Callable[[], Any]) -> Any:
            asked.append(part)
            return Pending("on the way") if part == "notifier mail" else question()

        post.write(for_target("mail", "n"), for_target("pager", "n"))
        both = deliveries(post, ask, mail=Receiver(), pager=pager)
        assert both.deliver(NOW).sent == 1
        assert both.deliver(NOW).sent == 0
        assert asked == ["notifier mail", "notifier pager", "notifier mail"]

    def test_one_that_refuses_makes_dead_letters_of_its_own(self, post: Post) -> None:
        mail = Receiver()
        mail.refuses = lambda notices: Permanent("revoked")
        post.write(notice("n"), for_target("mail", "n"))

        assert deliveries(post, mail=mail).deliver(NOW).backlog == Backlog(0, 1, oldest_dead=NOW)

        assert post.arrived == ["n"]
        assert [letter.notice.id for letter in post.outbox.dead_letters()] == ["n.mail"]

    def test_what_is_for_a_target_that_is_no_more_becomes_a_dead_letter(self, post: Post) -> None:
        post.write(notice("n"), for_target("gone", "n"), for_target("gone", "o"))
        post.outbox.postpone("o.gone", NOW + 60 * MINUTE, "away")

        assert deliveries(post).deliver(NOW) == Delivered(1, Backlog(0, 2, oldest_dead=NOW))

        (letter, _) = post.outbox.dead_letters()
        assert "gone: the settings have no such target" in letter.error
        assert "resend --all --to" in letter.error
        post.outbox.resend(["n.gone", "o.gone"], NOW, "")
        assert deliveries(post).deliver(NOW).sent == 2
        assert post.arrived == ["n", "n.gone", "o.gone"]


def for_target(target: str, name: str) -> Notice:
    return replace(notice(name), id=f"{name}.{target}", target=target)


def deliveries(post: Post, ask: Callable[..., Any] | None = None, **targets: Notifier) -> Deliveries:
    notifiers = {**targets, "": post.receiver}
    return Deliveries(post.outbox, notifiers, ask or post.ask, monotonic=lambda: post.receiver.clock)
