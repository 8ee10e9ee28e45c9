"""What every metric source has to do; subclass a contract and run it with pytest.

``WindowedMetricSourceContract`` is for sources that hold samples with their times, which is what a source in
production does. ``MetricSourceContract`` is the part that also holds where values are set by hand.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from ...ports.errors import Temporary
from ...ports.metrics import MetricQuery, MetricSource, MetricWindow
from ...ports.registry import ModelVersion
from ...ports.values import TimeWindow

METRIC = "accuracy"
START = datetime(2026, 5, 4, tzinfo=UTC)
STEP = timedelta(minutes=5)

Samples = Mapping[str, Sequence[float]]
"""By model: the samples at ``START``, ``START + STEP`` and so on."""


def window(first: int, end: int) -> TimeWindow:
    """The window that holds the samples ``first`` to ``end - 1``."""
    return TimeWindow(START + first * STEP, START + end * STEP)


def query(model: str, first: int, end: int, metric: str = METRIC) -> MetricQuery:
    """A question about some samples of a model; the model has a champion."""
    champion = ModelVersion(model, "1", "d" * 64, f"models:/{model}/1")
    return MetricQuery(model, metric, window(first, end), champion)


class MetricSourceContract:
    """Behaviour of any ``MetricSource``.

    Override ``source`` and, where the source can be away, ``unreachable``. All samples are 0 or 1, so that
    a source that scores rows can take each sample for a row predicted wrong or right.

    Attributes:
        patience: Seconds to wait for pending answers.
    """

    patience: float = 30.0

    def source(self, samples: Samples) -> MetricSource:
        """A source that holds exactly these samples of the metric ``METRIC``."""
        raise NotImplementedError

    def unreachable(self) -> MetricSource:
        """A source whose server is away."""
        pytest.skip("no server to be away")

    def read(self, source: MetricSource, queries: Sequence[MetricQuery]) -> Sequence[MetricWindow]:
        """Read until nothing is pending, and check what holds for every answer."""
        deadline = time.monotonic() + self.patience
        answers = source.read(queries)
        while any(answer.pending for answer in answers) and time.monotonic() < deadline:
            time.sleep(0.05)
            answers = source.read(queries)
        assert [answer.query for answer in answers] == list(queries)
        for answer in answers:
            check(answer)
        return answers

    def test_answers_each_model_in_order(self) -> None:
        source = self.source({"heat": [1, 1, 0, 0], "steam": [0, 0, 0, 1]})
        queries = [query("steam", 0, 4), query("heat", 0, 4), query("steam", 0, 4)]
        values = [answer.value for answer in self.read(source, queries)]
        assert values == pytest.approx([0.25, 0.5, 0.25])

    def test_no_question_has_no_answer(self) -> None:
        assert list(self.source({"heat": [1]}).read([])) == []

    def test_a_model_without_an_answer_costs_the_others_nothing(self) -> None:
        source = self.source({"heat": [1, 0], "steam": [1, 1]})
        queries = [query("heat", 0, 2), query("unheard-of", 0, 2), query("steam", 0, 2)]
        values = [answer.value for answer in self.read(source, queries)]
        assert values == [0.5, None, 1.0]

    def test_an_unheard_of_metric_costs_the_others_nothing(self) -> None:
        source = self.source({"heat": [1, 0]})
        queries = [query("heat", 0, 2, metric="unheard-of"), query("heat", 0, 2)]
        unknown, known = self.read(source, queries)
        assert unknown.value is None
        assert known.value == 0.5

    def test_names_are_taken_literally(self) -> None:
        source = self.source({"a.b": [1, 1], "aXb": [0, 0], "a|b": [1, 0]})
        queries = [query(name, 0, 2) for name in ("a.b", "aXb", "a|b", "a.*")]
        assert [answer.value for answer in self.read(source, queries)] == [1.0, 0.0, 0.5, None]

    def test_reading_changes_nothing(self) -> None:
        source = self.source({"heat": [1, 0, 1]})
        queries = [query("heat", 0, 3), query("heat", 0, 3)]
        first = self.read(source, queries)
        assert first[0] == first[1]
        assert list(self.read(source, queries)) == list(first)

    def test_a_server_that_is_away_is_temporary(self) -> None:
        source = self.unreachable()
        with pytest.raises(Temporary) as caught:
            source.read([query("heat", 0, 3)])
        assert str(caught.value)


class WindowedMetricSourceContract(MetricSourceContract):
    """Behaviour of a ``MetricSource`` that holds samples with their times."""

    def test_answers_each_model_and_window_in_order(self) -> None:
        source = self.source({"heat": [1, 1, 1, 0, 0, 0, 0, 0], "steam": [0, 1, 0, 1, 0, 1, 1, 1]})
        queries = [query("steam", 4, 8), query("heat", 0, 8), query("steam", 0, 8), query("heat", 2, 6)]
        values = [answer.value for answer in self.read(source, queries)]
        assert values == pytest.approx([0.75, 0.375, 0.625, 0.25])

    def test_a_window_holds_its_start_and_not_its_end(self) -> None:
        source = self.source({"heat": [0, 1, 1, 0]})
        (answer,) = self.read(source, [query("heat", 1, 3)])
        assert answer.value == 1.0
        assert answer.points == 2

    def test_tells_how_much_and_how_recent(self) -> None:
        source = self.source({"heat": [0, 1, 1, 0, 1]})
        (answer,) = self.read(source, [query("heat", 0, 4)])
        assert answer.points == 4
        assert answer.last_at is not None
        assert START + 3 * STEP <= answer.last_at < START + 4 * STEP

    def test_a_window_without_samples_is_empty(self) -> None:
        source = self.source({"heat": [1, 1]})
        (answer,) = self.read(source, [query("heat", 20, 30)])
        assert answer.empty
        assert answer.value is None
        assert answer.points == 0


def check(answer: MetricWindow) -> None:
    """Assert what holds for every answer of every source."""
    if answer.value is None:
        assert answer.reason
    else:
        assert math.isfinite(answer.value)
        assert not answer.reason
        assert not answer.empty
        assert not answer.pending
    if answer.last_at is not None:
        assert answer.last_at.utcoffset() == timedelta(0)
