"""The behaviour promised by the port, over every router; then what is each one's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from autoretrain.adapters.memory import MemoryRouter
from autoretrain.entrypoints.testing.router import SECOND, TrafficRouterContract
from autoretrain.ports.traffic import Split, TrafficRouter


class TestMemoryRouter(TrafficRouterContract):
    places: dict[Path, MemoryRouter]

    @pytest.fixture(autouse=True)
    def _places(self) -> None:
        self.places = {}

    def make_router(self, directory: Path, models: Sequence[str]) -> TrafficRouter:
        return self.places.setdefault(directory, MemoryRouter())

    def meddle(self, directory: Path, model: str) -> None:
        self.places[directory].splits[model] = replace(SECOND, weight=0.9)


class TestSplit:
    @pytest.mark.parametrize("weight", [-0.0001, 1.0001, 0.00005, float("nan"), float("inf")])
    def test_a_weight_that_no_router_can_hold_is_refused(self, weight: float) -> None:
        with pytest.raises(ValueError, match="steps of"):
            Split("boiler", "3", "4", weight)

    @pytest.mark.parametrize(("champion", "candidate"), [("3", "3"), ("", "4"), ("3", "")])
    def test_it_is_between_two_versions(self, champion: str, candidate: str) -> None:
        with pytest.raises(ValueError, match="two versions"):
            Split("boiler", champion, candidate, 0.1)

    def test_weights_are_compared_as_they_are_applied(self) -> None:
        assert Split("boiler", "3", "4", 0.1 + 0.2) == Split("boiler", "3", "4", 0.3)
