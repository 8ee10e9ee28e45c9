"""What every ``Ledger`` must do, as a suite to be run over an implementation; ``store`` says how."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from ...domain.sealing import verify
from ...ports.errors import DuplicateKey, LeaseLost, Overtaken
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


class LedgerContract(StoreContract):
    """Behaviour of :class:`autoretrain.ports.ledger.Ledger`."""

    def test_an_unknown_model_reads_empty(self, store: LedgerStore) -> None:
        assert list(store.read("m")) == []
        assert list(store.models()) == []

    def test_entries_come_back_unchanged_and_in_order(self, store: LedgerStore) -> None:
        entries = sealed_entries("m", 3, keys=["a", None, "c"])

        store.append(request(entries))

        assert tuple(store.read("m")) == entries
        assert verify("m", store.read("m")) is None

    @pytest.mark.parametrize("model", ["GL-001", "a/b c", "naïve-模型-🔥", "x' OR 1=1 --", "%_", "A", "a"])
    def test_any_name_is_a_stream_of_its_own(self, store: LedgerStore, model: str) -> None:
        other = sealed_entries("other", 1)
        entries = sealed_entries(model, 1)

        store.append(request(other))
        store.append(request(entries))

        assert tuple(store.read(model)) == entries
        assert tuple(store.read("other")) == other

    def test_only_later_entries_are_read(self, store: LedgerStore) -> None:
        entries = sealed_entries("m", 3)
        store.append(request(entries))

        assert tuple(store.read("m", after=1)) == entries[1:]
        assert list(store.read("m", after=3)) == []

    def test_models_are_sorted(self, store: LedgerStore) -> None:
        for model in ("b", "a", "C", "ä"):
            store.append(request(sealed_entries(model, 2)))

        assert list(store.models()) == ["C", "a", "b", "ä"]

    def test_a_stream_begins_at_one(self, store: LedgerStore) -> None:
        with pytest.raises(Overtaken):
            store.append(request(sealed_entries("m", 2)[1:]))

        assert list(store.models()) == []

    def test_of_two_entries_for_one_place_the_first_stays(self, store: LedgerStore) -> None:
        first, second = sealed_entries("m", 1), sealed_entries("m", 1, keys=["another"])
        store.append(request(first))

        with pytest.raises(Overtaken):
            store.append(request(second))

        assert tuple(store.read("m")) == first

    def test_a_gap_is_refused(self, store: LedgerStore) -> None:
        entries = sealed_entries("m", 3)
        store.append(request(entries[:1]))

        with pytest.raises(Overtaken):
            store.append(request(entries[2:]))

        assert tuple(store.read("m")) == entries[:1]

    def test_the_right_place_with_the_wrong_past_is_refused(self, store: LedgerStore) -> None:
        foreign = sealed_entries("m", 1, keys=["another past"])[0]
        entries = sealed_entries("m", 1)
        store.append(request(entries))

        with pytest.raises(Overtaken):
            store.append(request(sealed_entries("m", 1, after=foreign)))

        assert tuple(store.read("m")) == entries

    def test_a_key_is_used_once(self, store: LedgerStore) -> None:
        entries = sealed_entries("m", 1, keys=["slot"])
        store.append(request(entries))

        with pytest.raises(DuplicateKey):
            store.append(request(sealed_entries("m", 2, after=entries[0], keys=[None, "slot"])))

        assert tuple(store.read("m")) == entries

    def test_a_key_is_used_once_within_an_append(self, store: LedgerStore) -> None:
        with pytest.raises(DuplicateKey):
            store.append(request(sealed_entries("m", 2, keys=["slot", "slot"])))

        assert list(store.read("m")) == []

    def test_models_do_not_share_keys(self, store: LedgerStore) -> None:
        store.append(request(sealed_entries("m", 1, keys=["slot"])))
        store.append(request(sealed_entries("n", 1, keys=["slot"])))

        assert [entry.key for entry in store.read("n")] == ["slot"]

    def test_an_append_whose_answer_was_lost_is_overtaken_when_repeated(self, store: LedgerStore) -> None:
        batch = request(sealed_entries("m", 1, keys=["slot"]))
        store.append(batch)

        with pytest.raises(Overtaken):
            store.append(batch)

    @pytest.mark.parametrize(
        ("keys", "epoch", "refusal"),
        [(["slot"], None, DuplicateKey), (["new"], 99, LeaseLost)],
    )
    def test_a_refused_append_leaves_nothing_behind(
        self, store: LedgerStore, keys: list[str | None], epoch: int | None, refusal: type[Exception]
    ) -> None:
        entries = sealed_entries("m", 1, keys=["slot"])
        store.append(request(entries))
        following = sealed_entries("m", 1, after=entries[0], keys=keys)

        with pytest.raises(refusal):
            store.append(Append("m", following, epoch, NOW, (notice("n"),)))

        assert tuple(store.read("m")) == entries
        assert list(store.due(NOW)) == []
        assert store.claim(NOW, "A", LEASE_SECONDS).due == ()

    def test_the_holder_of_the_lease_appends(self, store: LedgerStore) -> None:
        entries = sealed_entries("m", 1)
        claim = store.claim(NOW, "A", LEASE_SECONDS)

        store.append(Append("m", entries, claim.epoch_of("m")))

        assert tuple(store.read("m")) == entries

    def test_a_stale_epoch_is_refused(self, store: LedgerStore, clock: ManualClock) -> None:
        stale = store.claim(NOW, "A", LEASE_SECONDS)
        clock.seconds += 2 * LEASE_SECONDS
        current = store.claim(NOW, "B", LEASE_SECONDS)
        entries = sealed_entries("m", 1)

        with pytest.raises(LeaseLost):
            store.append(Append("m", entries, stale.epoch_of("m")))
        store.append(Append("m", entries, current.epoch_of("m")))

        assert tuple(store.read("m")) == entries

    def test_an_expired_epoch_serves_until_another_takes_the_lease(
        self, store: LedgerStore, clock: ManualClock
    ) -> None:
        """A long tick must not lose its work to a lease that nobody else wanted."""
        claim = store.claim(NOW, "A", LEASE_SECONDS)
        clock.seconds += 2 * LEASE_SECONDS

        store.append(Append("m", sealed_entries("m", 1), claim.epoch_of("m")))

        assert len(store.read("m")) == 1

    def test_a_released_epoch_is_refused(self, store: LedgerStore) -> None:
        claim = store.claim(NOW, "A", LEASE_SECONDS)
        store.release("A")

        with pytest.raises(LeaseLost):
            store.append(Append("m", sealed_entries("m", 1), claim.epoch_of("m")))

    def test_an_epoch_that_nobody_was_given_is_refused(self, store: LedgerStore) -> None:
        for epoch in (0, 1):
            with pytest.raises(LeaseLost):
                store.append(Append("m", sealed_entries("m", 1), epoch))

    def test_a_request_needs_no_lease(self, store: LedgerStore) -> None:
        store.claim(NOW, "A", LEASE_SECONDS)

        store.append(request(sealed_entries("m", 1)))

        assert len(store.read("m")) == 1

    def test_of_threads_that_race_one_wins_each_place(self, store: LedgerStore) -> None:
        def race(name: str) -> int:
            won, head = 0, None
            for _ in range(20):
                try:
                    entries = sealed_entries("m", 1, after=head, keys=[f"{name}-{won}"])
                    store.append(request(entries))
                    won += 1
                except Overtaken:
                    pass
                head = store.read("m")[-1]
            return won

        with ThreadPoolExecutor(4) as pool:
            won = sum(pool.map(race, "abcd"))

        assert verify("m", store.read("m")) is None
        assert len(store.read("m")) == won
