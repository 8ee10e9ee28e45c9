"""What every ``Outbox`` must do, as a suite to be run over an implementation; ``store`` says how."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from ...ports.outbox import Outgoing
from .store import NOW, LedgerStore, StoreContract, notice, request, sealed_entries


class OutboxContract(StoreContract):
    """Behaviour of :class:`autoretrain.ports.outbox.Outbox`."""

    def test_a_notice_comes_with_the_entry_it_tells_of(self, store: LedgerStore) -> None:
        store.append(request(sealed_entries("m", 1), None, notice("n")))

        assert list(store.due(NOW)) == [Outgoing(notice("n"), 0)]
        assert list(store.dead_letters()) == []

    def test_the_oldest_come_first_up_to_the_limit(self, store: LedgerStore) -> None:
        entries = sealed_entries("m", 2)
        store.append(request(entries[:1], None, notice("z", 0), notice("a", 1)))
        store.append(request(entries[1:], None, notice("m", 2)))
        later = NOW + timedelta(hours=1)

        assert [waiting.notice.id for waiting in store.due(later)] == ["z", "a", "m"]
        assert [waiting.notice.id for waiting in store.due(later, limit=2)] == ["z", "a"]

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
        assert list(store.due(second)) == [Outgoing(notice("n"), 2, "away again")]
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

    def test_an_unknown_notice_is_nothing(self, store: LedgerStore) -> None:
        store.delivered("unknown", NOW)
        store.postpone("unknown", None, "away")

        assert list(store.due(NOW)) == []
        assert list(store.dead_letters()) == []
