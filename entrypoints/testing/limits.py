"""What every ``Limits`` must do, as a suite to be run over an implementation; ``store`` says how."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from ...ports.errors import LimitReached
from ...ports.ledger import Append
from ...ports.limits import Unit
from .store import NOW, LedgerStore, StoreContract, notice, sealed_entries

TODAY = Unit("jobs of the fleet", "2026-01-31", 2)
IN_USE = Unit("trainings of the fleet", "", 1)


class LimitsContract(StoreContract):
    """Behaviour of :class:`autoretrain.ports.limits.Limits`, and of ``Append.takes`` and ``gives_back``."""

    def test_nothing_is_taken_at_first(self, store: LedgerStore) -> None:
        assert list(store.used([TODAY, IN_USE])) == [0, 0]
        assert list(store.used([])) == []

    def test_units_are_taken_up_to_the_limit(self, store: LedgerStore) -> None:
        self._take(store, "a", TODAY)
        self._take(store, "b", TODAY)

        with pytest.raises(LimitReached) as reached:
            self._take(store, "c", TODAY)

        assert (reached.value.scope, reached.value.limit) == ("jobs of the fleet", 2)
        assert list(store.used([TODAY])) == [2]

    def test_what_a_limit_refuses_leaves_nothing_behind(self, store: LedgerStore) -> None:
        self._take(store, "a", IN_USE)

        with pytest.raises(LimitReached):
            store.append(
                Append("b", sealed_entries("b", 1), None, NOW, (notice("n"),), (TODAY, IN_USE), owner="b")
            )

        assert list(store.read("b")) == []
        assert list(store.used([TODAY, IN_USE])) == [0, 1]
        assert list(store.due(NOW)) == []

    def test_an_owner_takes_a_unit_once(self, store: LedgerStore) -> None:
        self._take(store, "a", IN_USE)
        self._take(store, "a", IN_USE)

        assert list(store.used([IN_USE])) == [1]

    def test_a_unit_in_use_is_given_back(self, store: LedgerStore) -> None:
        self._take(store, "a", IN_USE)
        self._take(store, "a", gives_back=True)
        self._take(store, "b", IN_USE)

        assert list(store.used([IN_USE])) == [1]

    def test_giving_back_comes_before_taking(self, store: LedgerStore) -> None:
        self._take(store, "a", IN_USE)
        self._take(store, "a", IN_USE, gives_back=True)

        assert list(store.used([IN_USE])) == [1]

    def test_nobody_gives_back_the_unit_of_another(self, store: LedgerStore) -> None:
        self._take(store, "a", IN_USE)
        self._take(store, "b", gives_back=True)

        assert list(store.used([IN_USE])) == [1]

    def test_what_a_period_has_spent_is_not_given_back(self, store: LedgerStore) -> None:
        self._take(store, "a", TODAY)
        self._take(store, "a", gives_back=True)

        assert list(store.used([TODAY])) == [1]

    def test_each_period_counts_by_itself(self, store: LedgerStore) -> None:
        tomorrow = Unit(TODAY.scope, "2026-02-01", 1)
        for owner in "ab":
            self._take(store, owner, TODAY)

        self._take(store, "c", tomorrow)

        assert list(store.used([TODAY, tomorrow])) == [2, 1]

    def test_a_freed_place_is_taken_again(self, store: LedgerStore) -> None:
        three = Unit("trainings of the fleet", "", 3)
        for owner in "abc":
            self._take(store, owner, three)
        self._take(store, "b", gives_back=True)

        self._take(store, "d", three)
        with pytest.raises(LimitReached):
            self._take(store, "e", three)

    def test_a_limit_that_was_lowered_holds_at_once(self, store: LedgerStore) -> None:
        for owner in "abc":
            self._take(store, owner, Unit("trainings", "", 3))
        self._take(store, "a", gives_back=True)

        with pytest.raises(LimitReached):
            self._take(store, "d", Unit("trainings", "", 2))

    def test_of_threads_that_race_only_as_many_as_there_are_units_win(self, store: LedgerStore) -> None:
        def race(owner: str) -> bool:
            try:
                self._take(store, owner, Unit("race", "2026-01-31", 3))
            except LimitReached:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(race, [f"racer-{n}" for n in range(12)]))

        assert sum(won) == 3
        assert list(store.used([Unit("race", "2026-01-31", 3)])) == [3]

    def test_what_takes_more_than_one_is_given_while_anything_is_left(self, store: LedgerStore) -> None:
        self._take(store, "a", self._budget(60))
        self._take(store, "b", self._budget(60))

        with pytest.raises(LimitReached):
            self._take(store, "c", self._budget(1))

        assert list(store.used([self._budget(0)])) == [120]

    def test_what_is_settled_for_less_leaves_room_and_keeps_its_amount(self, store: LedgerStore) -> None:
        self._take(store, "a", self._budget(100))
        for _ in range(2):  # told twice, it counts once
            self._take(store, "a", settles=(self._budget(30),))
        self._take(store, "a", gives_back=True)

        self._take(store, "b", self._budget(100))

        assert list(store.used([self._budget(0)])) == [130]

    def test_nobody_settles_what_another_has_or_nobody_took(self, store: LedgerStore) -> None:
        self._take(store, "a", self._budget(40))
        self._take(store, "b", settles=(self._budget(1), Unit("cost", "2026-02-01", 100, 7)))

        assert list(store.used([self._budget(0), Unit("cost", "2026-02-01", 100)])) == [40, 0]

    def test_what_has_no_limit_is_counted_and_never_refused(self, store: LedgerStore) -> None:
        self._take(store, "a", self._budget(100))
        self._take(store, "b", Unit("cost", "2026-01-31", None, 50))

        assert list(store.used([self._budget(0)])) == [150]

    def test_of_threads_that_race_for_a_budget_no_two_get_the_last_of_it(self, store: LedgerStore) -> None:
        def race(owner: str) -> bool:
            try:
                self._take(store, owner, self._budget(40))
            except LimitReached:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(race, [f"racer-{n}" for n in range(12)]))

        assert sum(won) == 3
        assert list(store.used([self._budget(0)])) == [120]

    @staticmethod
    def _budget(amount: int) -> Unit:
        return Unit("cost", "2026-01-31", 100, amount)

    @staticmethod
    def _take(
        store: LedgerStore, owner: str, *units: Unit, settles: tuple[Unit, ...] = (), gives_back: bool = False
    ) -> None:
        """Append an entry to the stream of the owner's own name."""
        stream = store.read(owner)
        entries = sealed_entries(owner, 1, after=stream[-1] if stream else None)
        store.append(
            Append(owner, entries, None, takes=units, settles=settles, gives_back=gives_back, owner=owner)
        )
