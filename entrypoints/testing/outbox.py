"""What every ``Outbox`` must do, as a suite to be run over an implementation; ``store`` says how."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

from ...ports.notifier import Severity
from ...ports.outbox import Backlog, Outgoing
from .store import NOW, LedgerStore, StoreContract, notice, request, sealed_entries


class OutboxContract(StoreContract):
    """Behaviour of :class:`autoretrain.ports.outbox.Outbox`."""

    def test_a_notice_comes_with_the_entry_it_tells_of(self, store: LedgerStore) -> None:
        store.append(request(sealed_entries("m", 1), None, notice("n")))

        assert list(store.due(NOW)) == [Outgoing(notice("n"), 0)]
        assert list(store.dead_letters()) == []

    def test_the_latest_come_first_up_to_the_limit(self, store: LedgerStore) -> None:
        entries = sealed_entries("m", 2)
        store.append(request(entries[:1], None, notice("z", 0), notice("a", 1)))
        store.append(request(entries[1:], None, notice("m", 2)))
        later = NOW + timedelta(hours=1)

        assert _ids(store.due(later)) == ["m", "a", "z"]
        assert _ids(store.due(later, limit=2)) == ["m", "a"]

    def test_the_most_severe_come_before_the_latest(self, store: LedgerStore) -> None:
        severities: tuple[Severity, ...] = ("warning", "critical", "info", "warning", "critical", "info")
        told = [
            replace(notice(f"{number}-{severity}"), severity=severity)
            for number, severity in enumerate(severities)
        ]
        store.append(request(sealed_entries("m", 1), None, *told))
        store.postpone("1-critical", NOW, "away")

        urgent = ["4-critical", "1-critical", "3-warning", "0-warning"]
        assert _ids(store.due(NOW)) == [*urgent, "5-info", "2-info"]
        assert _ids(store.due(NOW, limit=4)) == urgent

    def test_a_new_notice_is_due_whatever_the_clock_says(self, store: LedgerStore) -> None:
        store.append(request(sealed_entries("m", 1), None, notice("n")))

        assert _ids(store.due(NOW - timedelta(days=1))) == ["n"]  # the clock was set back

    def test_a_delivered_notice_is_done_with(self, store: LedgerStore) -> None:
        store.append(request(sealed_entries("m", 1), None, notice("n"), notice("o", 1)))

        store.delivered("n", NOW)
        store.delivered("n", NOW + timedelta(hours=1))

        assert [waiting.notice.id for waiting in store.due(NOW + timedelta(days=1))] == ["o"]

    def test_a_failed_notice_waits_for_its_time(self, store: LedgerStore) -> None:
        store.append(request(sealed_entries("m", 1), None, notice("n")))
        first, second = NOW + timedelta(minutes=1), NOW + timedelta(minutes=3)

        store.postpone("n", first, "away")
        store.postpone("n", second, "away again")

        assert list(store.due(second - timedelta(microseconds=1))) == []
        assert list(store.due(second)) == [Outgoing(notice("n"), 2, "away again", next_try=second)]
        assert list(store.dead_letters()) == []

    def test_a_notice_that_was_given_up_is_a_dead_letter(self, store: LedgerStore) -> None:
        store.append(request(sealed_entries("m", 1), None, notice("n"), notice("o", 1)))

        store.postpone("n", None, "revoked")
        store.postpone("o", None, "revoked too")

        assert list(store.due(NOW + timedelta(days=365))) == []
        assert list(store.dead_letters()) == [
            Outgoing(notice("n"), 1, "revoked", dead=True),
            Outgoing(notice("o", 1), 1, "revoked too", dead=True),
        ]

    def test_a_late_failure_does_not_wake_a_dead_letter(self, store: LedgerStore) -> None:
        store.append(request(sealed_entries("m", 1), None, notice("n")))
        store.postpone("n", None, "revoked")

        store.postpone("n", NOW, "away")

        assert list(store.due(NOW + timedelta(days=1))) == []
        assert list(store.dead_letters()) == [Outgoing(notice("n"), 2, "away", dead=True)]

    def test_a_dead_letter_may_still_arrive(self, store: LedgerStore) -> None:
        store.append(request(sealed_entries("m", 1), None, notice("n")))
        store.postpone("n", None, "revoked")

        store.delivered("n", NOW)

        assert list(store.dead_letters()) == []

    def test_what_has_arrived_does_not_fail_afterwards(self, store: LedgerStore) -> None:
        store.append(request(sealed_entries("m", 1), None, notice("n")))
        store.delivered("n", NOW)

        store.postpone("n", NOW, "late answer")
        store.postpone("n", None, "late answer")

        assert list(store.due(NOW + timedelta(days=1))) == []
        assert list(store.dead_letters()) == []

    def test_one_event_is_told_once(self, store: LedgerStore) -> None:
        entries = sealed_entries("m", 3)
        told = replace(notice("n"), title="First")
        store.append(request(entries[:1], None, told))
        store.append(request(entries[1:2], None, notice("n")))

        assert [waiting.notice for waiting in store.due(NOW)] == [told]

        store.delivered("n", NOW)
        store.append(request(entries[2:], None, notice("n")))

        assert list(store.due(NOW)) == []

    def test_a_dead_letter_is_sent_again_by_request(self, store: LedgerStore) -> None:
        store.append(request(sealed_entries("m", 1), None, notice("n"), notice("o", 1)))
        store.postpone("n", None, "revoked")
        store.postpone("o", None, "revoked")
        later = NOW + timedelta(hours=1)

        assert store.resend(["n", "n"], later) == 1

        assert list(store.due(later - timedelta(microseconds=1))) == []
        assert list(store.due(later)) == [Outgoing(notice("n"), 0, "revoked", next_try=later)]
        assert [letter.notice.id for letter in store.dead_letters()] == ["o"]
        store.delivered("n", later)
        assert store.resend(["n"], later) == 0
        assert list(store.due(later)) == []

    def test_a_waiting_notice_is_sent_at_once_by_request(self, store: LedgerStore) -> None:
        store.append(request(sealed_entries("m", 1), None, notice("n"), notice("o")))
        for _ in range(3):
            store.postpone("n", NOW + timedelta(hours=1), "away")

        assert store.resend(["n", "o"], NOW) == 2

        assert {outgoing.notice.id: outgoing.attempts for outgoing in store.due(NOW)} == {"n": 0, "o": 0}

    def test_what_is_not_there_is_not_sent_again(self, store: LedgerStore) -> None:
        assert store.resend([], NOW) == 0
        assert store.resend(["unknown"], NOW) == 0

    def test_what_has_not_arrived_is_counted(self, store: LedgerStore) -> None:
        assert store.counts() == Backlog(0, 0)

        told = [notice(name, minutes) for name, minutes in (("a", 3), ("b", 1), ("c", 2), ("d", 0))]
        store.append(request(sealed_entries("m", 1), None, *told))
        assert store.counts() == Backlog(4, 0, oldest_waiting=NOW)

        store.delivered("d", NOW)
        store.postpone("c", None, "revoked")
        store.postpone("a", NOW + timedelta(days=1), "away")
        minute = timedelta(minutes=1)
        assert store.counts() == Backlog(2, 1, oldest_waiting=NOW + minute, oldest_dead=NOW + 2 * minute)

        store.resend(["c"], NOW)
        assert store.counts() == Backlog(3, 0, oldest_waiting=NOW + minute)

    def test_notices_of_one_target_are_told_from_the_others(self, store: LedgerStore) -> None:
        pager = replace(notice("n.pager"), target="pager")
        store.append(request(sealed_entries("m", 1), None, notice("n"), pager))

        assert list(store.due(NOW, target="pager")) == [Outgoing(pager, 0)]
        assert list(store.due(NOW, target="")) == [Outgoing(notice("n"), 0)]
        assert list(store.due(NOW, target="mail")) == []
        assert sorted(_ids(store.due(NOW))) == ["n", "n.pager"]

    def test_the_limit_is_of_one_target(self, store: LedgerStore) -> None:
        many = [replace(notice(f"{number}.pager"), target="pager") for number in range(30)]
        store.append(request(sealed_entries("m", 1), None, notice("n"), *many))

        assert _ids(store.due(NOW, limit=1, target="")) == ["n"]  # though it is the oldest of all

    def test_one_target_says_nothing_of_another(self, store: LedgerStore) -> None:
        pager = replace(notice("n.pager"), target="pager")
        store.append(request(sealed_entries("m", 1), None, notice("n"), pager))

        store.postpone("n.pager", None, "revoked")
        store.delivered("n", NOW)

        assert list(store.dead_letters()) == [Outgoing(pager, 1, "revoked", dead=True)]

    def test_it_is_known_whom_notices_wait_for(self, store: LedgerStore) -> None:
        told = [replace(notice(f"n.{name}"), target=name) for name in ("pager", "mail", "chat", "Größe, 2")]
        more = replace(notice("o.mail"), target="mail")
        store.append(request(sealed_entries("m", 1), None, notice("n"), *told, more))
        store.delivered("n.pager", NOW)
        store.postpone("n.chat", None, "revoked")

        assert store.counts().targets == ("Größe, 2", "mail")

    def test_a_notice_may_be_sent_to_another_target(self, store: LedgerStore) -> None:
        pager = replace(notice("n.pager"), target="pager")
        store.append(request(sealed_entries("m", 1), None, pager))
        store.postpone("n.pager", None, "there is no such target")

        assert store.resend(["n.pager"], NOW, "mail") == 1

        moved = replace(pager, target="mail")
        assert list(store.due(NOW, target="mail")) == [
            Outgoing(moved, 0, "there is no such target", next_try=NOW)
        ]
        assert store.resend(["n.pager"], NOW) == 1
        assert store.resend(["n.pager"], NOW, "") == 1
        assert _ids(store.due(NOW, target="")) == ["n.pager"]

    def test_an_unknown_notice_is_nothing(self, store: LedgerStore) -> None:
        store.delivered("unknown", NOW)
        store.postpone("unknown", None, "away")

        assert list(store.due(NOW)) == []
        assert list(store.dead_letters()) == []


def _ids(outgoing: Iterable[Outgoing]) -> list[str]:
    return [waiting.notice.id for waiting in outgoing]
