"""What every rolling record of looks must do.

Subclass the contract over your record and let pytest run it::

    class TestMyObservations(ObservationsContract):
        def make_observations(self, folder, keep):
            return closing(MyObservations(folder / "looks", keep=keep))
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ...ports.observations import Look, Observations

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
KEEP = 5


def look(minutes: int, model: str = "m", note: str = "") -> Look:
    """Return a look some minutes after ``NOW``."""
    return Look(model, NOW + timedelta(minutes=minutes), {"minutes": minutes, "note": note})


class ObservationsContract(ABC):
    """Behaviour of :class:`autoretrain.ports.observations.Observations`."""

    @abstractmethod
    def make_observations(self, folder: Path, keep: int) -> AbstractContextManager[Observations]:
        """Return a context that opens a new, empty record and closes it at the end.

        Args:
            folder: An empty folder that the record may use.
            keep: Its bound: how many looks of each model it keeps.
        """

    @pytest.fixture
    def observations(self, tmp_path: Path) -> Iterator[Observations]:
        with self.make_observations(tmp_path, KEEP) as observations:
            yield observations

    def test_an_unknown_model_has_no_looks(self, observations: Observations) -> None:
        observations.record([])

        assert list(observations.recent("m")) == []

    def test_looks_come_back_unchanged(self, observations: Observations) -> None:
        data = {"drift": {"answer": "unknown", "psi": None, "n": [1, 0.1, True]}, "text": "ü 模型 \n '"}
        precise = Look("m", NOW + timedelta(microseconds=1), data)

        observations.record([precise])

        assert list(observations.recent("m")) == [precise]

    def test_looks_are_in_order_of_their_time(self, observations: Observations) -> None:
        observations.record([look(2), look(1)])
        observations.record([look(0)])

        assert list(observations.recent("m")) == [look(0), look(1), look(2)]

    def test_only_later_looks_are_returned(self, observations: Observations) -> None:
        observations.record([look(0), look(1), look(2)])

        assert list(observations.recent("m", after=look(1).at)) == [look(2)]

    def test_models_are_kept_apart(self, observations: Observations) -> None:
        observations.record([look(0, "m"), look(0, "n")])

        assert list(observations.recent("n")) == [look(0, "n")]

    def test_a_second_look_at_the_same_time_replaces_the_first(self, observations: Observations) -> None:
        observations.record([look(0, note="first"), look(1)])
        observations.record([look(0, note="second")])

        assert list(observations.recent("m")) == [look(0, note="second"), look(1)]

    def test_the_latest_are_kept_up_to_the_bound(self, observations: Observations) -> None:
        observations.record([look(0, "n")])
        for minutes in range(KEEP + 2):
            observations.record([look(minutes)])

        assert list(observations.recent("m")) == [look(minutes) for minutes in range(2, KEEP + 2)]
        assert list(observations.recent("n")) == [look(0, "n")]

    def test_the_bound_holds_within_one_call(self, observations: Observations) -> None:
        observations.record([look(minutes) for minutes in range(3 * KEEP)])

        assert list(observations.recent("m")) == [look(minutes) for minutes in range(2 * KEEP, 3 * KEEP)]

    def test_a_replacement_pushes_nothing_out(self, observations: Observations) -> None:
        observations.record([look(minutes) for minutes in range(KEEP)])
        for _ in range(3):
            observations.record([look(KEEP - 1)])

        assert list(observations.recent("m")) == [look(minutes) for minutes in range(KEEP)]
