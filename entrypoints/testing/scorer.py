"""What every scorer must do.

Subclass the contract over your scorer and let pytest run it. A scorer that reads the files of snapshots and
predictions needs one method::

    class TestMyScorer(FullScorerContract):
        def make_scorer(self):
            return MyScorer()
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ...ports.data import Snapshot
from ...ports.errors import Permanent
from ...ports.predictor import Predictions
from ...ports.scorer import Scorer, Scores, ScoringTask, Units
from ...ports.values import TimeWindow

CLASSES = ScoringTask("classification")
NUMBERS = ScoringTask("regression")
START = datetime(2026, 1, 1, tzinfo=UTC)


def snapshot_of(labels: Sequence[Any], uri: str, sha256: str) -> Snapshot:
    """Return the handle of a snapshot with the label column ``y``, one row an hour."""
    times = [START + timedelta(hours=hour) for hour in range(len(labels))]
    return Snapshot(
        model="boiler",
        window=TimeWindow(START, START + timedelta(hours=len(labels))),
        uri=uri,
        rows=len(labels),
        sha256=sha256,
        features=("x",),
        label="y",
        time="ts",
        first_at=times[0] if times else None,
        last_at=times[-1] if times else None,
    )


class ScorerContract(ABC):
    """Behaviour of :class:`autoretrain.ports.scorer.Scorer` for two classes, 0 and 1, and for numbers.

    Every test calls ``make_scorer`` before it makes what is to be scored.
    """

    @abstractmethod
    def make_scorer(self) -> Scorer:
        """Return the scorer under test."""

    def make_snapshot(self, labels: Sequence[Any]) -> Snapshot:
        """Keep rows with these labels, in this order, where the scorer finds them.

        This one writes Parquet, as ``make_predictions`` does; a scorer that reads elsewhere overrides both.

        Args:
            labels: One a row.
        """
        times = [START + timedelta(hours=hour) for hour in range(len(labels))]
        return snapshot_of(labels, *self._keep({"ts": times, "x": [0.5] * len(labels), "y": labels}))

    def make_predictions(
        self, values: Sequence[Any], scores: Mapping[str, Sequence[float]] | None = None
    ) -> Predictions:
        """Keep predictions where the scorer finds them.

        Args:
            values: One a row.
            scores: Class scores by the name of the class.
        """
        named = {f"score:{name}": column for name, column in (scores or {}).items()}
        uri, sha256 = self._keep({"prediction": values, **named})
        return Predictions(uri, sha256, rows=len(values), scored=scores is not None)

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def _keep(self, columns: Mapping[str, Sequence[Any]]) -> tuple[str, str]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        file = self.folder / f"{len(list(self.folder.iterdir()))}.parquet"
        pq.write_table(pa.table({name: list(values) for name, values in columns.items()}), file)
        return str(file), hashlib.sha256(file.read_bytes()).hexdigest()

    def _score(
        self,
        task: ScoringTask,
        labels: Sequence[Any],
        candidate: Sequence[Any],
        champion: Sequence[Any] | None = None,
        scores: Mapping[str, Sequence[float]] | None = None,
    ) -> Scores:
        return self.make_scorer().score(
            task,
            self.make_snapshot(labels),
            self.make_predictions(candidate, scores),
            None if champion is None else self.make_predictions(champion),
        )

    def test_classes_are_measured(self) -> None:
        scores = self._score(CLASSES, [1, 1, 1, 0, 0, 0, 0, 0], [1, 1, 0, 1, 0, 0, 0, 0])

        assert scores.rows == 8
        assert scores.candidate["accuracy"] == pytest.approx(6 / 8)
        assert scores.candidate["precision"] == pytest.approx(2 / 3)
        assert scores.candidate["recall"] == pytest.approx(2 / 3)
        assert scores.candidate["f1"] == pytest.approx(2 / 3)
        assert scores.labels == {"0": 5, "1": 3}

    def test_one_version_alone_is_compared_with_none(self) -> None:
        scores = self._score(CLASSES, [0, 1], [0, 1])

        assert (scores.champion, scores.identical, scores.discordant) == (None, False, None)

    def test_numbers_are_measured(self) -> None:
        scores = self._score(NUMBERS, [1.0, 2.0, 4.0], [2.0, 2.0, 2.0])

        assert scores.candidate["mae"] == pytest.approx(1.0)
        assert scores.candidate["rmse"] == pytest.approx(math.sqrt(5 / 3))
        assert scores.candidate["r2"] == pytest.approx(1 - 5 / (14 / 3))
        assert (scores.labels, scores.discordant) == ({}, None)

    def test_both_versions_are_measured_on_the_same_rows(self) -> None:
        scores = self._score(CLASSES, [0, 0, 1, 1, 1], [0, 0, 0, 1, 1], [1, 0, 1, 1, 0])

        assert scores.champion is not None
        assert scores.candidate["accuracy"] == pytest.approx(4 / 5)
        assert scores.champion["accuracy"] == pytest.approx(3 / 5)
        assert scores.discordant == (2, 1)
        assert scores.identical is False

    def test_equal_predictions_are_identical(self) -> None:
        assert self._score(CLASSES, [0, 1, 1], [0, 0, 1], [0, 0, 1]).identical is True
        assert self._score(NUMBERS, [1.0, 2.0], [1.5, 2.5], [1.5, 2.5]).identical is True
        assert self._score(NUMBERS, [1.0, 2.0], [1.5, 2.5], [1.5, 2.5000001]).identical is False

    def test_a_single_class_leaves_only_the_accuracy_known(self) -> None:
        scores = self._score(CLASSES, [0, 0, 0], [0, 1, 0])

        assert scores.candidate["accuracy"] == pytest.approx(2 / 3)
        for name in ("precision", "recall", "f1"):
            assert scores.candidate[name] is None
            assert scores.unknown[name]

    def test_r2_of_equal_labels_is_unknown(self) -> None:
        scores = self._score(NUMBERS, [2.0, 2.0], [1.0, 2.0])

        assert scores.candidate["r2"] is None
        assert scores.unknown["r2"]
        assert scores.candidate["mae"] == pytest.approx(0.5)

    def test_every_unknown_measure_has_a_reason_and_no_other_has_one(self) -> None:
        scores = self._score(CLASSES, [0, 1, 1], [0, 0, 0], [0, 1, 1])

        assert scores.champion is not None
        measured = [scores.candidate, scores.champion]
        missing = {name for name in scores.candidate if any(version[name] is None for version in measured)}
        assert set(scores.unknown) == missing

    def test_repeating_it_gives_the_same_numbers(self) -> None:
        scorer = self.make_scorer()
        given = (self.make_snapshot([0, 1, 1, 0]), self.make_predictions([0, 1, 0, 1]))

        assert scorer.score(CLASSES, *given) == scorer.score(CLASSES, *given)

    def test_a_difference_is_told_with_its_uncertainty(self) -> None:
        labels, candidate, champion = self._ten_days()
        scores = self._score(replace(CLASSES, compared="accuracy"), labels, candidate, champion)

        pair = scores.paired
        assert pair is not None
        assert (pair.measure, pair.rows, pair.units) == ("accuracy", 240, 10)
        assert scores.champion is not None
        assert (pair.candidate, pair.champion) == (scores.candidate["accuracy"], scores.champion["accuracy"])
        assert pair.effects["absolute"].value == pytest.approx(0.05)
        assert pair.effects["relative"].value == pytest.approx(0.05 / 0.85)
        assert pair.effects["error-reduction"].value == pytest.approx(0.05 / 0.15)
        for effect in pair.effects.values():
            assert effect.error > 0
            assert min(effect.low, effect.high) >= 1

    def test_the_better_version_has_the_positive_effect(self) -> None:
        labels, candidate, champion = self._ten_days()
        task = replace(CLASSES, compared="accuracy")

        assert self._score(task, labels, champion, candidate).paired.effects["absolute"].value < 0  # type: ignore[union-attr]
        truth = [float(hour % 7) for hour in range(240)]
        close = [value + 0.1 * (-1) ** hour for hour, value in enumerate(truth)]
        far = [value + 0.3 + 0.1 * (hour % 3) for hour, value in enumerate(truth)]
        mae = self._score(replace(NUMBERS, compared="mae"), truth, close, far).paired
        assert mae is not None
        assert mae.effects["relative"].value > 0

    def test_without_a_question_or_a_champion_there_is_no_difference(self) -> None:
        labels, candidate, champion = self._ten_days()

        assert self._score(CLASSES, labels, candidate, champion).paired is None
        assert self._score(replace(CLASSES, compared="accuracy"), labels, candidate).paired is None

    def test_too_few_blocks_tell_no_difference(self) -> None:
        labels, candidate, champion = (values[:72] for values in self._ten_days())
        scores = self._score(replace(CLASSES, compared="accuracy"), labels, candidate, champion)

        assert scores.paired is None
        assert "only 3 blocks" in scores.unpaired

    def test_a_measure_that_is_not_known_has_no_difference(self) -> None:
        labels = [0] * 240
        scores = self._score(replace(CLASSES, compared="f1"), labels, labels, [1, *labels[1:]])

        assert scores.paired is None
        assert scores.unpaired

    def test_independent_rows_are_units_of_their_own(self) -> None:
        labels, candidate, champion = (values[:72] for values in self._ten_days())
        task = replace(CLASSES, compared="accuracy", units=Units(independent=True))
        pair = self._score(task, labels, candidate, champion).paired

        assert pair is not None
        assert pair.units == 72

    @staticmethod
    def _ten_days() -> tuple[list[int], list[int], list[int]]:
        """Hourly labels, and two versions: the champion is wrong 36 times, the candidate at 24 of them."""
        labels = [hour % 2 for hour in range(240)]
        wrong = [hour for hour in range(240) if hour * 7919 % 20 < 3]
        right_again = wrong[::3]
        champion = [1 - y if hour in wrong else y for hour, y in enumerate(labels)]
        candidate = [y if hour in right_again else champion[hour] for hour, y in enumerate(labels)]
        return labels, candidate, champion

    def test_counts_that_differ_are_refused(self) -> None:
        with pytest.raises(Permanent):
            self._score(CLASSES, [0, 1, 1], [0, 1])
        with pytest.raises(Permanent):
            self._score(CLASSES, [0, 1, 1], [0, 1, 0], champion=[0, 1])


class FullScorerContract(ScorerContract):
    """All the measures of the port: any classes, averages, class scores; and the checks of what is scored.

    The scorer in memory, which knows only the classes 0 and 1, meets :class:`ScorerContract` alone.
    """

    def test_the_positive_class_can_be_named(self) -> None:
        task = replace(CLASSES, positive="bad")
        scores = self._score(task, ["bad", "good", "good", "bad"], ["bad", "bad", "good", "bad"])

        assert scores.candidate["precision"] == pytest.approx(2 / 3)
        assert scores.candidate["recall"] == pytest.approx(1.0)
        assert scores.candidate["f1"] == pytest.approx(0.8)

    def test_without_a_positive_class_they_are_averaged(self) -> None:
        labels, predicted = ["a", "b", "c", "c"], ["a", "b", "b", "c"]

        macro = self._score(CLASSES, labels, predicted).candidate
        weighted = self._score(replace(CLASSES, average="weighted"), labels, predicted).candidate
        micro = self._score(replace(CLASSES, average="micro"), labels, predicted).candidate

        assert macro["recall"] == pytest.approx((1 + 1 + 0.5) / 3)
        assert macro["precision"] == pytest.approx((1 + 0.5 + 1) / 3)
        assert weighted["precision"] == pytest.approx((1 + 0.5 + 2) / 4)
        assert micro["f1"] == pytest.approx(0.75)

    def test_rows_without_times_are_scored_and_not_compared(self) -> None:
        labels, candidate, champion = self._ten_days()
        for times in ({}, {"ts": ["some day"] * len(labels)}):
            uri, sha256 = self._keep({**times, "x": [0.5] * len(labels), "y": labels})
            task = replace(CLASSES, compared="accuracy")
            given = self.make_predictions(candidate), self.make_predictions(champion)
            scores = self.make_scorer().score(task, snapshot_of(labels, uri, sha256), *given)

            assert scores.candidate["accuracy"] == pytest.approx(0.9)
            assert scores.paired is None
            assert "no times" in scores.unpaired

    def test_segments_are_compared_by_themselves(self) -> None:
        labels, candidate, champion = self._ten_days()
        sites = ["south" if hour % 5 == 1 else "north" for hour in range(240)]
        worse = [
            1 - y if site == "south" else new for y, new, site in zip(labels, candidate, sites, strict=True)
        ]
        scores = self._score_sites(sites, labels, worse, champion)

        assert scores.untold == {}
        assert set(scores.segments) == {"site=north", "site=south"}
        south, north = scores.segments["site=south"], scores.segments["site=north"]
        assert (south.rows, north.rows) == (48, 192)
        assert south.candidate == 0
        assert north.effects["absolute"].value > 0

    def test_a_segment_that_cannot_be_told_says_why(self) -> None:
        labels, candidate, champion = self._ten_days()
        sites = ["new" if hour > 200 else "old" for hour in range(240)]
        scores = self._score_sites(sites, labels, candidate, champion)

        assert set(scores.segments) == {"site=old"}
        assert "only 2 blocks" in scores.untold["site=new"]

    def _score_sites(
        self, sites: Sequence[str], labels: Sequence[int], candidate: Sequence[int], champion: Sequence[int]
    ) -> Scores:
        times = [START + timedelta(hours=hour) for hour in range(len(labels))]
        uri, sha256 = self._keep({"ts": times, "x": [0.5] * len(labels), "y": labels, "site": sites})
        return self.make_scorer().score(
            replace(CLASSES, compared="accuracy", segments=("site",)),
            snapshot_of(labels, uri, sha256),
            self.make_predictions(candidate),
            self.make_predictions(champion),
        )

    def test_class_scores_are_measured(self) -> None:
        given = {"0": [0.9, 0.6, 0.65, 0.2], "1": [0.1, 0.4, 0.35, 0.8]}
        candidate = self._score(CLASSES, [0, 0, 1, 1], [0, 0, 0, 1], scores=given).candidate

        assert candidate["roc_auc"] == pytest.approx(0.75)
        assert candidate["brier"] == pytest.approx((0.01 + 0.16 + 0.4225 + 0.04) / 4)
        assert candidate["log_loss"] == pytest.approx(-math.log(0.9 * 0.6 * 0.35 * 0.8) / 4)

    def test_further_measures_are_compared_beside_the_one_that_is_claimed(self) -> None:
        labels, candidate, champion = self._ten_days()
        task = replace(CLASSES, compared="accuracy", guarded=("f1", "brier"))
        scores = self._score(task, labels, candidate, champion)

        assert scores.guarded["f1"].effects["absolute"].value > 0
        assert set(scores.guarded) == {"f1"}
        assert "class scores" in scores.unguarded["brier"]

    def test_the_calibration_error_is_between_score_and_what_came_true(self) -> None:
        labels = [int(row % 10 < 7) for row in range(4000)]
        far, fit = [0.9] * 4000, [0.7] * 4000
        for chances, error in ((far, 0.2), (fit, 0.0)):
            given = {"0": [1 - chance for chance in chances], "1": chances}
            candidate = self._score(CLASSES, labels, [1] * 4000, scores=given).candidate

            assert candidate["ece"] == pytest.approx(error, abs=0.01)

    def test_without_class_scores_their_measures_are_unknown(self) -> None:
        scores = self._score(CLASSES, [0, 1, 1], [0, 0, 1])

        for name in ("roc_auc", "log_loss", "brier", "ece"):
            assert scores.candidate[name] is None
            assert scores.unknown[name]

    def test_a_positive_class_without_rows_is_unknown(self) -> None:
        scores = self._score(replace(CLASSES, positive="2"), [0, 1, 1], [0, 1, 0])

        assert scores.candidate["f1"] is None
        assert "2" in scores.unknown["f1"]

    def test_mape_is_relative_to_the_label(self) -> None:
        scores = self._score(NUMBERS, [1.0, 2.0, 4.0], [2.0, 2.0, 2.0])

        assert scores.candidate["mape"] == pytest.approx(0.5)

    def test_mape_with_a_label_of_zero_is_unknown(self) -> None:
        scores = self._score(NUMBERS, [0.0, 2.0], [1.0, 2.0])

        assert scores.candidate["mape"] is None
        assert scores.unknown["mape"]

    def test_labels_and_predictions_of_different_types_are_refused(self) -> None:
        with pytest.raises(Permanent):
            self._score(CLASSES, ["a", "b"], [0, 1])
        with pytest.raises(Permanent):
            self._score(NUMBERS, ["a", "b"], ["a", "b"])

    @pytest.mark.parametrize("wrong", [math.nan, math.inf])
    def test_predictions_that_are_not_finite_are_refused(self, wrong: float) -> None:
        with pytest.raises(Permanent):
            self._score(NUMBERS, [1.0, 2.0], [1.0, wrong])

    def test_a_snapshot_without_labels_is_refused(self) -> None:
        snapshot = replace(self.make_snapshot([0, 1]), label=None)

        with pytest.raises(Permanent):
            self.make_scorer().score(CLASSES, snapshot, self.make_predictions([0, 1]))
