"""What every ``Agenda`` must do, as a suite to be run over an implementation; ``store`` says how."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from ...ports.agenda import Claim, shard_of
from ...ports.errors import LeaseLost
from ...ports.ledger import Append
from .store import (
    LEASE_SECONDS,
    NOW,
    LedgerStore,
    ManualClock,
    StoreContract,
    notice,
    request,
    sealed_entries,
)


class AgendaContract(StoreContract):
    """Behaviour of :class:`autoretrain.ports.agenda.Agenda`."""

    def test_an_empty_agenda_has_nothing_due(self, store: LedgerStore) -> None:
        claim = store.claim(NOW, "A", LEASE_SECONDS)

        assert claim.epoch_of("m") is not None
        assert (claim.holder_of("m"), claim.due, claim.next_due) == ("A", (), None)

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
        epoch = store.claim(NOW, "A", LEASE_SECONDS).epoch_of("m")
        entries = sealed_entries("m", 2)
        for entry, minutes in zip(entries, (1, 9), strict=True):
            store.append(Append("m", (entry,), epoch, NOW + timedelta(minutes=minutes)))

        assert store.claim(NOW, "A", LEASE_SECONDS).next_due == NOW + timedelta(minutes=9)

    def test_another_learns_who_holds_the_lease(self, store: LedgerStore) -> None:
        store.append(request(sealed_entries("m", 1), NOW))
        store.claim(NOW, "A", LEASE_SECONDS)

        other = store.claim(NOW, "B", LEASE_SECONDS)

        assert (other.leases, other.holder_of("m"), other.due) == ({}, "A", ())

    def test_a_holder_keeps_its_epoch_by_renewing(self, store: LedgerStore, clock: ManualClock) -> None:
        first = store.claim(NOW, "A", LEASE_SECONDS).epoch_of("m")
        for _ in range(5):
            clock.seconds += 0.5 * LEASE_SECONDS
            assert store.claim(NOW, "A", LEASE_SECONDS).epoch_of("m") == first

        assert store.claim(NOW, "B", LEASE_SECONDS).epoch_of("m") is None

    def test_the_first_third_of_a_life_is_not_renewed(self, store: LedgerStore, clock: ManualClock) -> None:
        store.claim(NOW, "A", LEASE_SECONDS)
        clock.seconds += 0.2 * LEASE_SECONDS
        store.claim(NOW, "A", LEASE_SECONDS)
        clock.seconds += 0.9 * LEASE_SECONDS

        assert store.claim(NOW, "B", LEASE_SECONDS).epoch_of("m") is not None

    def test_an_expired_lease_goes_to_whoever_asks(self, store: LedgerStore, clock: ManualClock) -> None:
        epochs = []
        for holder in ("A", "B", "A"):
            epoch = store.claim(NOW, holder, LEASE_SECONDS).epoch_of("m")
            assert epoch is not None
            epochs.append(epoch)
            clock.seconds += 1.1 * LEASE_SECONDS

        assert epochs == sorted(set(epochs))

    def test_a_holder_that_was_replaced_gets_nothing(self, store: LedgerStore, clock: ManualClock) -> None:
        store.claim(NOW, "A", LEASE_SECONDS)
        clock.seconds += 1.1 * LEASE_SECONDS
        store.claim(NOW, "B", LEASE_SECONDS)

        stale = store.claim(NOW, "A", LEASE_SECONDS)

        assert (stale.leases, stale.holder_of("m")) == ({}, "B")

    def test_a_lease_that_was_left_to_expire_is_taken_anew(
        self, store: LedgerStore, clock: ManualClock
    ) -> None:
        before = store.claim(NOW, "A", LEASE_SECONDS).epoch_of("m")
        clock.seconds += 1.1 * LEASE_SECONDS
        after = store.claim(NOW, "A", LEASE_SECONDS).epoch_of("m")

        assert before is not None
        assert after is not None
        assert after > before

    def test_a_released_lease_is_free_at_once(self, store: LedgerStore) -> None:
        before = store.claim(NOW, "A", LEASE_SECONDS).epoch_of("m")
        store.release("A")
        store.release("A")
        after = store.claim(NOW, "B", LEASE_SECONDS).epoch_of("m")

        assert before is not None
        assert after is not None
        assert after > before

    def test_nobody_releases_the_lease_of_another(self, store: LedgerStore) -> None:
        store.claim(NOW, "A", LEASE_SECONDS)
        store.release("B")

        assert store.claim(NOW, "B", LEASE_SECONDS).holder_of("m") == "A"

    def test_of_threads_that_claim_one_gets_the_lease(self, store: LedgerStore) -> None:
        with ThreadPoolExecutor(4) as pool:
            claims = list(pool.map(lambda holder: store.claim(NOW, holder, LEASE_SECONDS, model="m"), "ABCD"))

        winners = {holder for holder, claim in zip("ABCD", claims, strict=True) if claim.epoch_of("m")}
        assert len(winners) == 1
        assert {claim.holder_of("m") for claim in claims} == winners

    def test_a_call_claims_the_shard_of_one_model_and_nothing_due(self, store: LedgerStore) -> None:
        store.append(request(sealed_entries("m", 1), NOW))

        claim = store.claim(NOW, "A", LEASE_SECONDS, model="m")

        assert list(claim.leases) == [shard_of("m", claim.shards)]
        assert claim.due == ()

    def test_a_call_leaves_a_shard_to_who_has_it(self, store: LedgerStore) -> None:
        store.claim(NOW, "A", LEASE_SECONDS)

        claim = store.claim(NOW, "B", LEASE_SECONDS, model="m")

        assert (claim.leases, claim.holder_of("m")) == ({}, "A")

    def test_a_clock_set_back_does_not_prolong_a_lease(self, store: LedgerStore, clock: ManualClock) -> None:
        """Its holder may have died: nobody waits for an hour that comes twice."""
        before = store.claim(NOW, "A", LEASE_SECONDS).epoch_of("m")
        clock.seconds -= 3600

        after = store.claim(NOW, "B", LEASE_SECONDS).epoch_of("m")

        assert before is not None
        assert after is not None
        assert after > before

    @pytest.mark.parametrize("back", [timedelta(hours=1), timedelta(days=1)])
    def test_after_a_clock_was_set_back_nobody_waits_for_what_lies_ahead(
        self, store: LedgerStore, clock: ManualClock, back: timedelta
    ) -> None:
        epoch = self._begin(store)
        store.set_next_look("m", 1, NOW + timedelta(minutes=5), epoch)
        assert store.claim(NOW, "A", LEASE_SECONDS).due == ()
        clock.seconds -= back.total_seconds()

        claim = store.claim(NOW - back, "A", LEASE_SECONDS)
        assert claim.due == ("m",)
        assert claim.epoch_of("m") == epoch
        store.set_next_look("m", 1, NOW - back + timedelta(minutes=5), epoch)
        assert store.claim(NOW - back, "A", LEASE_SECONDS).due == ()

    def test_a_clock_that_is_a_little_behind_anothers_makes_nothing_due(self, store: LedgerStore) -> None:
        epoch = self._begin(store)
        store.set_next_look("m", 1, NOW + timedelta(minutes=5), epoch)
        store.release("A")

        assert store.claim(NOW - timedelta(seconds=30), "B", LEASE_SECONDS).due == ()

    def test_a_clock_that_ran_ahead_and_was_set_right_is_told_by_the_next_holder(
        self, store: LedgerStore
    ) -> None:
        ahead = NOW + timedelta(days=1)
        epoch = store.claim(ahead, "A", LEASE_SECONDS).epoch_of("m")
        store.append(Append("m", sealed_entries("m", 1), epoch, ahead + timedelta(hours=1)))
        store.release("A")

        assert store.claim(NOW, "B", LEASE_SECONDS).due == ("m",)

    def test_whether_a_lease_is_still_held_can_be_asked(self, store: LedgerStore, clock: ManualClock) -> None:
        epoch = store.claim(NOW, "A", LEASE_SECONDS).epoch_of("m")
        assert epoch is not None
        assert store.holds("m", epoch)
        assert not store.holds("m", epoch + 1)

        clock.seconds += 2 * LEASE_SECONDS
        assert store.holds("m", epoch)  # as long as nobody else has it
        store.claim(NOW, "B", LEASE_SECONDS)
        assert not store.holds("m", epoch)

    def test_a_released_lease_is_not_held(self, store: LedgerStore) -> None:
        epoch = store.claim(NOW, "A", LEASE_SECONDS).epoch_of("m")
        assert epoch is not None
        store.release("A")

        assert not store.holds("m", epoch)

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
        epoch = store.claim(NOW, "A", LEASE_SECONDS).epoch_of("m")
        assert epoch is not None
        store.append(Append("m", sealed_entries("m", 1), epoch, NOW))
        return epoch


class ShardedAgendaContract(StoreContract):
    """Behaviour of an ``Agenda`` with several shards: they are shared fairly, and each has one holder."""

    def test_a_controller_alone_holds_all(self, store: LedgerStore) -> None:
        claim = store.claim(NOW, "A", LEASE_SECONDS)

        assert claim.shards > 1
        assert set(claim.leases) == set(range(claim.shards))

    def test_a_second_gets_its_share_as_soon_as_the_first_has_seen_it(self, store: LedgerStore) -> None:
        store.claim(NOW, "A", LEASE_SECONDS)
        assert store.claim(NOW, "B", LEASE_SECONDS).leases == {}

        first = store.claim(NOW, "A", LEASE_SECONDS)
        second = store.claim(NOW, "B", LEASE_SECONDS)

        assert not set(first.leases) & set(second.leases)
        assert set(first.leases) | set(second.leases) == set(range(first.shards))
        assert abs(len(first.leases) - len(second.leases)) <= 1

    def test_what_is_kept_keeps_its_epoch_when_another_comes(self, store: LedgerStore) -> None:
        before = store.claim(NOW, "A", LEASE_SECONDS).leases
        store.claim(NOW, "B", LEASE_SECONDS)

        kept = store.claim(NOW, "A", LEASE_SECONDS).leases

        assert kept.items() <= before.items()

    def test_the_share_of_a_dead_controller_goes_to_the_living(
        self, store: LedgerStore, clock: ManualClock
    ) -> None:
        self._both(store)
        clock.seconds += 0.6 * LEASE_SECONDS
        store.claim(NOW, "A", LEASE_SECONDS)
        clock.seconds += 0.6 * LEASE_SECONDS

        claim = store.claim(NOW, "A", LEASE_SECONDS)

        assert set(claim.leases) == set(range(claim.shards))

    def test_a_controller_that_leaves_hands_over_at_once(self, store: LedgerStore) -> None:
        self._both(store)
        store.release("B")

        claim = store.claim(NOW, "A", LEASE_SECONDS)

        assert set(claim.leases) == set(range(claim.shards))

    def test_a_given_back_epoch_is_refused(self, store: LedgerStore) -> None:
        before = store.claim(NOW, "A", LEASE_SECONDS).leases
        after = self._both(store).leases
        lost = next(shard for shard in before if shard not in after)
        model = self._model_in(lost, len(before))

        with pytest.raises(LeaseLost):
            store.append(Append(model, sealed_entries(model, 1), before[lost]))

    def test_an_epoch_counts_for_its_own_shard_only(self, store: LedgerStore) -> None:
        claim = store.claim(NOW, "A", LEASE_SECONDS)
        mine, other = self._model_in(0, claim.shards), self._model_in(1, claim.shards)
        store.release("A")
        store.claim(NOW, "B", LEASE_SECONDS, model=mine)
        epoch = store.claim(NOW, "B", LEASE_SECONDS, model=mine).epoch_of(mine)

        assert epoch is not None
        with pytest.raises(LeaseLost):
            store.append(Append(other, sealed_entries(other, 1), epoch))

    def test_only_models_of_held_shards_are_due(self, store: LedgerStore) -> None:
        models = [f"model-{n}" for n in range(40)]
        for model in models:
            store.append(request(sealed_entries(model, 1), NOW))
        self._both(store)

        first, second = store.claim(NOW, "A", LEASE_SECONDS), store.claim(NOW, "B", LEASE_SECONDS)

        assert set(first.due) | set(second.due) == set(models)
        assert not set(first.due) & set(second.due)
        assert all(first.epoch_of(model) for model in first.due)

    def test_a_call_does_not_count_as_a_controller(self, store: LedgerStore) -> None:
        store.claim(NOW, "library", LEASE_SECONDS, model="m")

        claim = store.claim(NOW, "A", LEASE_SECONDS)

        assert len(claim.leases) == claim.shards - 1
        assert claim.epoch_of("m") is None

    def test_notices_are_sent_by_the_holder_of_their_shard(self, store: LedgerStore) -> None:
        store.append(request(sealed_entries("m", 1), None, notice("n")))
        claims = [self._both(store), store.claim(NOW, "B", LEASE_SECONDS)]
        senders = [holder for holder, claim in zip("AB", claims, strict=True) if claim.epoch_of("m")]

        told = {holder: [each.notice.id for each in store.due(NOW, holder=holder)] for holder in "AB"}

        assert told == {holder: ["n"] if holder in senders else [] for holder in "AB"}

    def _both(self, store: LedgerStore) -> Claim:
        """Let ``A`` and ``B`` share the shards; returns the claim of ``A``."""
        store.claim(NOW, "A", LEASE_SECONDS)
        store.claim(NOW, "B", LEASE_SECONDS)
        claim = store.claim(NOW, "A", LEASE_SECONDS)
        store.claim(NOW, "B", LEASE_SECONDS)
        return claim

    @staticmethod
    def _model_in(shard: int, shards: int) -> str:
        return next(name for n in range(10_000) if shard_of(name := f"model-{n}", shards) == shard)
