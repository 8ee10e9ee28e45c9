"""What every keeper of anchors must do.

Subclass the contract over your keeper and let pytest run it::

    class TestMyAnchors(AnchorKeeperContract):
        def make_keeper(self, folder):
            return MyAnchors(folder / "anchors")
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from pathlib import Path

import pytest

from ...ports.anchors import AnchorKeeper
from ...ports.errors import Overtaken, Permanent, Temporary


def anchor(number: int, note: str = "") -> str:
    """Return a line that a keeper can take for an anchor: what it says is none of a keeper's business."""
    return json.dumps({"note": note, "number": number}, ensure_ascii=False, separators=(",", ":"))


class AnchorKeeperContract(ABC):
    """Behaviour of :class:`autoretrain.ports.anchors.AnchorKeeper`."""

    @abstractmethod
    def make_keeper(self, folder: Path) -> AnchorKeeper:
        """Return a keeper of the place in this folder; called again, another one of the same place."""

    def make_unreachable(self, folder: Path) -> AnchorKeeper:
        """Return a keeper whose place is away."""
        pytest.skip("no place to be away")

    @pytest.fixture
    def keeper(self, tmp_path: Path) -> AnchorKeeper:
        return self.make_keeper(tmp_path)

    def test_an_empty_place_has_none(self, keeper: AnchorKeeper) -> None:
        assert keeper.latest() is None
        assert list(keeper.kept()) == []

    def test_anchors_come_back_unchanged_and_in_order(self, keeper: AnchorKeeper) -> None:
        lines = [anchor(1, "naïve 模型 🔥 \\ \" '"), *(anchor(number) for number in range(2, 13))]
        for number, line in enumerate(lines, start=1):
            keeper.keep(number, line)
            assert keeper.latest() == line

        assert list(keeper.kept()) == lines

    def test_a_long_one_comes_back_whole(self, keeper: AnchorKeeper) -> None:
        line = anchor(1, "0123456789ä" * 60_000)

        keeper.keep(1, line)

        assert keeper.latest() == line
        assert list(keeper.kept()) == [line]

    def test_repeating_one_changes_nothing(self, keeper: AnchorKeeper) -> None:
        keeper.keep(1, anchor(1))
        keeper.keep(2, anchor(2))
        keeper.keep(2, anchor(2))

        assert list(keeper.kept()) == [anchor(1), anchor(2)]

    @pytest.mark.parametrize("number", [1, 2, 4])
    def test_only_the_next_number_is_taken(self, keeper: AnchorKeeper, number: int) -> None:
        keeper.keep(1, anchor(1))
        keeper.keep(2, anchor(2))

        with pytest.raises(Overtaken):
            keeper.keep(number, anchor(number, "another"))

        assert list(keeper.kept()) == [anchor(1), anchor(2)]

    def test_the_first_is_number_one(self, keeper: AnchorKeeper) -> None:
        with pytest.raises(Overtaken):
            keeper.keep(2, anchor(2))

        assert keeper.latest() is None

    def test_the_place_outlives_its_keeper(self, keeper: AnchorKeeper, tmp_path: Path) -> None:
        keeper.keep(1, anchor(1))
        another = self.make_keeper(tmp_path)
        another.keep(2, anchor(2))

        assert list(keeper.kept()) == list(another.kept()) == [anchor(1), anchor(2)]

    def test_a_place_that_is_away_says_so(self, tmp_path: Path) -> None:
        keeper = self.make_unreachable(tmp_path)

        with pytest.raises((Temporary, Permanent)):
            keeper.keep(1, anchor(1))
