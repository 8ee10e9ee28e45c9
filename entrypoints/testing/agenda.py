"""What every ``Agenda`` must do, as a suite to be run over an implementation; ``store`` says how."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from ...ports.ledger import Append
from .store import LEASE_SECONDS, NOW, LedgerStore, ManualClock, StoreContract, request, sealed_entries


class AgendaContract(StoreContract):
    """Behaviour of :class:`autoretrain.ports.agenda.Agenda`."""

    def test_an_empty_agenda_has_nothing_due(self, store: LedgerStore) -> None:
        claim = store.claim(NOW, "A", LEASE_SECONDS)

        assert claim.epoch is not None
        assert (claim.holder, claim.due, claim.next_due) == ("A", (), None)

    def test_a_model_is_due_from_its_time_on(self, store: LedgerStore) -> None:
        store.append(request(sealed_entries("m", 1), NOW))

        before = store.claim(NOW - timedelta(microseconds=1), "A", LEASE_SECONDS)
        then = store.claim(NOW, "A", LEASE_SECONDS)

        assert (before.due, before.next_due) == ((), NOW)
        assert (then.due, then.next_due) == (("m",), None)

    def test_due_is_judged_by_the_argument_alone(self, store: LedgerStore, clock: ManualClock) -> None:
        store.append(request(sealed_entries("m", 1), NOW))
        clock.seconds = NOW.timestamp() + 1e6

        assert store.claim(NOW - timedelta(days=1), "A", LEASE_SECONDS).due == ()

    def test_the_most_overdue_come_first_up_to_the_limit(self, store: LedgerStore) -> None:
        for model, minutes in (("a", -1), ("b", -3), ("c", 5), ("d", -2)):
            store.append(request(sealed_entries(model, 1), NOW + timedelta(minutes=minutes)))

        every = store.claim(NOW, "A", LEASE_SECONDS)
        some = store.claim(NOW, "A", LEASE_SECONDS, limit=2)

        assert (every.due, every.next_due) == (("b", "d", "a"), NOW + timedelta(minutes=5))
        assert (some.due, some.next_due) == (("b", "d"), NOW - timedelta(minutes=1))
        assert every.due_since == some.due_since == NOW - timedelta(minutes=3)

    def test_nothing_due_is_due_since_never(self, store: LedgerStore) -> None:
        store.append(request(sealed_entries("m", 1), NOW + timedelta(minutes=1)))

        assert store.claim(NOW, "A", LEASE_SECONDS).due_since is None
        assert store.claim(NOW + timedelta(hours=1), "B", LEASE_SECONDS).due_since is None

    def test_an_append_without_a_time_leaves_it(self, store: LedgerStore) -> None:
        entries = sealed_entries("m", 2)
        store.append(request(entries[:1], NOW))
        store.append(request(entries[1:]))

        assert store.claim(NOW, "A", LEASE_SECONDS).due == ("m",)

    def test_a_request_only_makes_a_look_earlier(self, store: LedgerStore) -> None:
        entries = sealed_entries("m", 3)
        for entry, minutes in zip(entries, (5, 1, 9), strict=True):
            store.append(request((entry,), NOW + timedelta(minutes=minutes)))

        assert store.claim(NOW, "A", LEASE_SECONDS).next_due == NOW + timedelta(minutes=1)

    def test_the_controller_sets_the_look_to_any_time(self, store: LedgerStore) -> None:
        epoch = store.claim(NOW, "A", LEASE_SECONDS).epoch
        entries = sealed_entries("m", 2)
        for entry, minutes in zip(entries, (1, 9), strict=True):
            store.append(Append("m", (entry,), epoch, NOW + timedelta(minutes=minutes)))

        assert store.claim(NOW, "A", LEASE_SECONDS).next_due == NOW + timedelta(minutes=9)

    def test_another_learns_who_holds_the_lease(self, store: LedgerStore) -> None:
        store.append(request(sealed_entries("m", 1), NOW))
        store.claim(NOW, "A", LEASE_SECONDS)

        other = store.claim(NOW, "B", LEASE_SECONDS)

        assert (other.epoch, other.holder, other.due) == (None, "A", ())

    def test_a_holder_keeps_its_epoch_by_renewing(self, store: LedgerStore, clock: ManualClock) -> None:
        first = store.claim(NOW, "A", LEASE_SECONDS).epoch
        for _ in range(5):
            clock.seconds += 0.5 * LEASE_SECONDS
            assert store.claim(NOW, "A", LEASE_SECONDS).epoch == first

        assert store.claim(NOW, "B", LEASE_SECONDS).epoch is None

    def test_the_first_third_of_a_life_is_not_renewed(self, store: LedgerStore, clock: ManualClock) -> None:
        store.claim(NOW, "A", LEASE_SECONDS)
        clock.seconds += 0.2 * LEASE_SECONDS
        store.claim(NOW, "A", LEASE_SECONDS)
        clock.seconds += 0.9 * LEASE_SECONDS

        assert store.claim(NOW, "B", LEASE_SECONDS).epoch is not None

    def test_an_expired_lease_goes_to_whoever_asks(self, store: LedgerStore, clock: ManualClock) -> None:
        epochs = []
        for holder in ("A", "B", "A"):
            epoch = store.claim(NOW, holder, LEASE_SECONDS).epoch
            assert epoch is not None
            epochs.append(epoch)
            clock.seconds += 1.1 * LEASE_SECONDS

        assert epochs == sorted(set(epochs))

    def test_a_holder_that_was_replaced_gets_nothing(self, store: LedgerStore, clock: ManualClock) -> None:
        store.claim(NOW, "A", LEASE_SECONDS)
        clock.seconds += 1.1 * LEASE_SECONDS
        store.claim(NOW, "B", LEASE_SECONDS)

        stale = store.claim(NOW, "A", LEASE_SECONDS)

        assert (stale.epoch, stale.holder) == (None, "B")

    def test_a_lease_that_was_left_to_expire_is_taken_anew(
        self, store: LedgerStore, clock: ManualClock
    ) -> None:
        before = store.claim(NOW, "A", LEASE_SECONDS).epoch
        clock.seconds += 1.1 * LEASE_SECONDS
        after = store.claim(NOW, "A", LEASE_SECONDS).epoch

        assert before is not None
        assert after is not None
        assert after > before

    def test_a_released_lease_is_free_at_once(self, store: LedgerStore) -> None:
        before = store.claim(NOW, "A", LEASE_SECONDS).epoch
        store.release("A")
        store.release("A")
        after = store.claim(NOW, "B", LEASE_SECONDS).epoch

        assert before is not None
        assert after is not None
        assert after > before

    def test_nobody_releases_the_lease_of_another(self, store: LedgerStore) -> None:
        store.claim(NOW, "A", LEASE_SECONDS)
        store.release("B")

        assert store.claim(NOW, "B", LEASE_SECONDS).holder == "A"

    def test_of_threads_that_claim_one_gets_the_lease(self, store: LedgerStore) -> None:
        with ThreadPoolExecutor(4) as pool:
            claims = list(pool.map(lambda holder: store.claim(NOW, holder, LEASE_SECONDS), "ABCD"))

        winners = [claim.holder for claim in claims if claim.epoch is not None]
        assert len(winners) == 1
        assert {claim.holder for claim in claims} == set(winners)

    def test_the_next_look_is_set(self, store: LedgerStore) -> None:
        epoch = self._begin(store)

        for minutes in (7, 2, 2, 4):
            at = NOW + timedelta(minutes=minutes)
            store.set_next_look("m", 1, at, epoch)
            assert store.claim(NOW, "A", LEASE_SECONDS).next_due == at

    def test_the_next_look_of_a_model_without_entries_is_set(self, store: LedgerStore) -> None:
        epoch = self._begin(store)

        store.set_next_look("new", 0, NOW, epoch)

        assert store.claim(NOW, "A", LEASE_SECONDS).due == ("m", "new")

    @pytest.mark.parametrize(("seq", "newer"), [(0, 0), (2, 0), (1, 1)])
    def test_the_next_look_is_left_when_the_head_is_another(
        self, store: LedgerStore, seq: int, newer: int
    ) -> None:
        epoch = self._begin(store)

        store.set_next_look("m", seq, NOW + timedelta(days=1), epoch + newer)

        assert store.claim(NOW, "A", LEASE_SECONDS).due == ("m",)

    def test_a_request_in_between_stays_due(self, store: LedgerStore) -> None:
        epoch = self._begin(store)
        store.append(request(sealed_entries("m", 1, after=store.read("m")[-1]), NOW))

        store.set_next_look("m", 1, NOW + timedelta(days=1), epoch)

        assert store.claim(NOW, "A", LEASE_SECONDS).due == ("m",)

    def test_the_next_look_is_left_by_who_lost_the_lease(self, store: LedgerStore) -> None:
        epoch = self._begin(store)
        store.release("A")
        store.set_next_look("m", 1, NOW + timedelta(days=1), epoch)

        assert store.claim(NOW, "B", LEASE_SECONDS).due == ("m",)

    def _begin(self, store: LedgerStore) -> int:
        """Let ``A`` hold the lease, and ``m`` have one entry and be due at ``NOW``."""
        epoch = store.claim(NOW, "A", LEASE_SECONDS).epoch
        assert epoch is not None
        store.append(Append("m", sealed_entries("m", 1), epoch, NOW))
        return epoch
