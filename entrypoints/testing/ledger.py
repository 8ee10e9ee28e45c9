"""What every store of streams, agenda and outbox must do.

Subclass the three contracts over your store and let pytest run them::

    class TestMyLedger(LedgerContract, AgendaContract, OutboxContract):
        def make_store(self, folder, clock):
            return closing(MyLedger(folder / "ledger", clock=clock))
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import pytest

from ...domain.sealing import Draft, Head, seal, verify
from ...ports.agenda import Agenda
from ...ports.errors import DuplicateKey, LeaseLost, Overtaken
from ...ports.ledger import Append, Entry, Ledger
from ...ports.notifier import Notice
from ...ports.outbox import Outbox, Outgoing

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
LEASE_SECONDS = 60.0


class LedgerStore(Ledger, Agenda, Outbox, Protocol):
    """The three ports that share transactions, and therefore an implementation."""


@dataclass
class ManualClock:
    """A clock of seconds that a test moves by hand.

    Attributes:
        seconds: The time it shows.
    """

    seconds: float = 1_000_000.0

    def __call__(self) -> float:
        """Return the time it shows."""
        return self.seconds


def sealed_entries(
    model: str, count: int, after: Entry | None = None, keys: Sequence[str | None] = ()
) -> tuple[Entry, ...]:
    """Return entries that continue a stream, sealed as the domain seals them.

    Args:
        model: Name of the model.
        count: How many.
        after: The head they follow; ``None`` to begin a stream.
        keys: Keys of the first entries; the others have none.

    Returns:
        The entries, in order.
    """
    head = Head() if after is None else Head(after.chain, after.seq, after.hash)
    padded = [*keys, *[None] * (count - len(keys))]
    drafts = [Draft("look.noted", {"n": head.seq + n, "text": "ü €"}, key) for n, key in enumerate(padded, 1)]
    return seal(model, head, drafts, NOW)


def request(entries: tuple[Entry, ...], next_look: datetime | None = None, *notices: Notice) -> Append:
    """Return the append of a person, who holds no lease."""
    return Append(entries[0].model, entries, None, next_look, notices)


def notice(name: str, minutes: int = 0) -> Notice:
    """Return a notice about the model ``m``, some minutes after ``NOW``."""
    at = NOW + timedelta(minutes=minutes)
    return Notice(name, "m", "started", "info", "Begun", "Why:\nü €", at, {"psi": "0.3", "b": "ü"})


class StoreContract(ABC):
    """Gives the contracts below a new store for each test."""

    @abstractmethod
    def make_store(self, folder: Path, clock: Callable[[], float]) -> AbstractContextManager[LedgerStore]:
        """Return a context that opens a new, empty store and closes it at the end.

        Args:
            folder: An empty folder that the store may use.
            clock: The store's own clock, in seconds, by which leases run.
        """

    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture
    def store(self, tmp_path: Path, clock: ManualClock) -> Iterator[LedgerStore]:
        with self.make_store(tmp_path, clock) as store:
            yield store


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

        store.append(Append("m", entries, claim.epoch))

        assert tuple(store.read("m")) == entries

    def test_a_stale_epoch_is_refused(self, store: LedgerStore, clock: ManualClock) -> None:
        stale = store.claim(NOW, "A", LEASE_SECONDS)
        clock.seconds += 2 * LEASE_SECONDS
        current = store.claim(NOW, "B", LEASE_SECONDS)
        entries = sealed_entries("m", 1)

        with pytest.raises(LeaseLost):
            store.append(Append("m", entries, stale.epoch))
        store.append(Append("m", entries, current.epoch))

        assert tuple(store.read("m")) == entries

    def test_a_released_epoch_is_refused(self, store: LedgerStore) -> None:
        claim = store.claim(NOW, "A", LEASE_SECONDS)
        store.release("A")

        with pytest.raises(LeaseLost):
            store.append(Append("m", sealed_entries("m", 1), claim.epoch))

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
        assert some.due == ("b", "d")

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
