"""What every ``TrafficRouter`` must do, as a suite to be run over an implementation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ...ports.errors import SplitMoved, Temporary
from ...ports.traffic import Split, TrafficRouter

FIRST = Split("boiler", champion="3", candidate="4", weight=0.05, salt="a1")
SECOND = replace(FIRST, weight=0.25)
SHADOW = replace(FIRST, weight=1.0, shadow=True)


class TrafficRouterContract:
    """Subclass it as ``Test…`` and override the methods that raise ``NotImplementedError``."""

    def make_router(self, directory: Path, models: Sequence[str]) -> TrafficRouter:
        """Return the adapter under test, set up for these models and with all requests at the champion.

        Args:
            directory: This test's own; given again, the router is another one of the same traffic.
            models: Names of the models.
        """
        raise NotImplementedError

    def meddle(self, directory: Path, model: str) -> None:
        """Change how a model's requests are shared, as somebody would who does not know of us."""
        raise NotImplementedError

    def unreachable(self, directory: Path) -> TrafficRouter:
        """Return a router that is away."""
        pytest.skip("nothing to be away")

    @pytest.fixture
    def router(self, tmp_path: Path) -> TrafficRouter:
        return self.make_router(tmp_path, ["boiler", "pump"])

    def test_at_first_everything_is_the_champions(self, router: TrafficRouter) -> None:
        assert router.in_force("boiler") is None

    @pytest.mark.parametrize("weight", [0.0, 0.0001, 0.05, 0.3333, 0.5, 0.9999, 1.0])
    @pytest.mark.parametrize("shadow", [False, True])
    def test_what_was_applied_is_in_force(self, router: TrafficRouter, weight: float, shadow: bool) -> None:
        split = replace(FIRST, weight=weight, shadow=shadow)

        router.apply(split, None)

        assert router.in_force("boiler") == split

    def test_steps_follow_one_another_until_it_is_cleared(self, router: TrafficRouter) -> None:
        before = None
        for split in (SHADOW, FIRST, SECOND, replace(SECOND, weight=1.0)):
            router.apply(split, before)
            assert router.in_force("boiler") == split
            before = split
        assert before is not None
        router.clear("boiler", before)

        assert router.in_force("boiler") is None

    def test_applying_again_changes_nothing_whatever_was_expected(self, router: TrafficRouter) -> None:
        router.apply(FIRST, None)
        router.apply(FIRST, None)
        router.apply(FIRST, SECOND)

        assert router.in_force("boiler") == FIRST

    def test_clearing_again_changes_nothing(self, router: TrafficRouter) -> None:
        router.clear("boiler", FIRST)
        router.apply(FIRST, None)
        router.clear("boiler", FIRST)
        router.clear("boiler", FIRST)

        assert router.in_force("boiler") is None

    @pytest.mark.parametrize(
        "expected", [None, SECOND, replace(FIRST, salt="a2"), replace(FIRST, candidate="5")]
    )
    def test_nothing_is_written_over_what_was_not_expected(
        self, router: TrafficRouter, expected: Split | None
    ) -> None:
        router.apply(FIRST, None)

        with pytest.raises(SplitMoved) as caught:
            router.apply(replace(FIRST, weight=0.5), expected)

        assert router.in_force("boiler") == FIRST
        assert (caught.value.model, caught.value.found) == ("boiler", str(FIRST))

    def test_nothing_is_cleared_but_what_was_expected(self, router: TrafficRouter) -> None:
        router.apply(SECOND, None)

        with pytest.raises(SplitMoved):
            router.clear("boiler", FIRST)

        assert router.in_force("boiler") == SECOND

    def test_a_split_that_is_gone_was_moved(self, router: TrafficRouter) -> None:
        with pytest.raises(SplitMoved, match="no split"):
            router.apply(SECOND, FIRST)

        assert router.in_force("boiler") is None

    def test_one_model_leaves_another_alone(self, router: TrafficRouter) -> None:
        router.apply(FIRST, None)
        router.apply(replace(SECOND, model="pump"), None)
        router.clear("boiler", FIRST)

        assert router.in_force("boiler") is None
        assert router.in_force("pump") == replace(SECOND, model="pump")

    def test_a_split_outlives_who_applied_it(self, router: TrafficRouter, tmp_path: Path) -> None:
        router.apply(FIRST, None)
        another = self.make_router(tmp_path, ["boiler", "pump"])

        assert another.in_force("boiler") == FIRST
        another.clear("boiler", FIRST)
        assert router.in_force("boiler") is None

    def test_what_somebody_else_changed_is_found_and_left(
        self, router: TrafficRouter, tmp_path: Path
    ) -> None:
        router.apply(FIRST, None)
        self.meddle(tmp_path, "boiler")

        with pytest.raises(SplitMoved):
            router.apply(SECOND, FIRST)
        with pytest.raises(SplitMoved):
            router.clear("boiler", FIRST)
        assert _seen(router, "boiler") not in (FIRST, SECOND, None)

    def test_a_person_can_end_whatever_is_in_force(self, router: TrafficRouter, tmp_path: Path) -> None:
        router.reset("boiler")
        router.apply(FIRST, None)
        router.reset("boiler")
        assert router.in_force("boiler") is None
        router.apply(FIRST, None)
        self.meddle(tmp_path, "boiler")
        router.reset("boiler")

        assert router.in_force("boiler") is None
        router.apply(SECOND, None)
        assert router.in_force("boiler") == SECOND

    def test_one_that_is_away_says_so(self, tmp_path: Path) -> None:
        router = self.unreachable(tmp_path)

        with pytest.raises(Temporary):
            router.in_force("boiler")
        with pytest.raises(Temporary):
            router.apply(FIRST, None)
        with pytest.raises(Temporary):
            router.clear("boiler", FIRST)
        with pytest.raises(Temporary):
            router.reset("boiler")


def _seen(router: TrafficRouter, model: str) -> Split | str | None:
    """The split in force, or in words what is there instead."""
    try:
        return router.in_force(model)
    except SplitMoved as moved:
        return moved.found
