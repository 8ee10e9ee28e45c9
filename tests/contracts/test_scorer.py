"""Scorers: the contract over each, and what only the scikit-learn one does."""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from sklearn import metrics

from autoretrain.adapters.memory import MemoryDataSource, MemoryPredictor, MemoryRegistry
from autoretrain.adapters.memory import Row as MemoryRow
from autoretrain.adapters.memory_scorer import MemoryScorer
from autoretrain.adapters.scorer_calibration import ece_of
from autoretrain.adapters.scorer_classes import truth_of
from autoretrain.adapters.scorer_sklearn import SklearnScorer
from autoretrain.entrypoints.testing.scorer import (
    CLASSES,
    NUMBERS,
    START,
    FullScorerContract,
    ScorerContract,
    snapshot_of,
)
from autoretrain.ports.data import Snapshot
from autoretrain.ports.errors import MissingExtra, Permanent
from autoretrain.ports.predictor import Predictions
from autoretrain.ports.scorer import Scorer

SCORE_MEASURES = ("roc_auc", "log_loss", "brier", "ece")
# The folder is the test's; every example writes files of its own into it.
on_files = settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
bits = st.integers(0, 1)
finite = st.floats(-1e6, 1e6)


class TestMemoryScorer(ScorerContract):
    def make_scorer(self) -> Scorer:
        self.data = MemoryDataSource()
        self.predictor = MemoryPredictor(MemoryRegistry(), self.data)
        return MemoryScorer(self.data, self.predictor)

    def make_snapshot(self, labels: Sequence[Any]) -> Snapshot:
        self.data.taken["rows"] = tuple(
            MemoryRow(START + timedelta(hours=hour), {}, label) for hour, label in enumerate(labels)
        )
        return snapshot_of(labels, "memory:rows", "rows")

    def make_predictions(
        self, values: Sequence[Any], scores: Mapping[str, Sequence[float]] | None = None
    ) -> Predictions:
        name = str(len(self.predictor.made))
        self.predictor.made[name] = tuple(values)
        return Predictions(f"memory:{name}", name, len(values))


class TestSklearnScorer(FullScorerContract):
    def make_scorer(self) -> Scorer:
        return SklearnScorer()

    # --- the measures are scikit-learn's

    @on_files
    @given(st.lists(st.tuples(bits, bits, st.floats(0, 1)), min_size=2, max_size=40))
    def test_binary_measures_are_scikit_learns(self, rows: list[tuple[int, int, float]]) -> None:
        labels, predicted, chance = (list(column) for column in zip(*rows, strict=True))
        assume(len(set(labels)) == 2)
        both = {"0": [1 - p for p in chance], "1": chance}
        measured = self._score(CLASSES, labels, predicted, scores=both).candidate

        assert measured["accuracy"] == pytest.approx(metrics.accuracy_score(labels, predicted))
        assert measured["recall"] == pytest.approx(metrics.recall_score(labels, predicted))
        assert measured["f1"] == pytest.approx(metrics.f1_score(labels, predicted, zero_division=0))
        assert measured["roc_auc"] == pytest.approx(metrics.roc_auc_score(labels, chance))
        assert measured["brier"] == pytest.approx(metrics.brier_score_loss(labels, chance))
        assert measured["log_loss"] == pytest.approx(metrics.log_loss(labels, np.c_[both["0"], both["1"]]))
        if any(predicted):
            assert measured["precision"] == pytest.approx(metrics.precision_score(labels, predicted))
        else:
            assert measured["precision"] is None

    @on_files
    @given(
        st.lists(st.tuples(*[st.sampled_from("abc")] * 2), min_size=3, max_size=40),
        st.sampled_from(["macro", "weighted", "micro"]),
        st.randoms(use_true_random=False),
    )
    def test_averages_are_scikit_learns(self, rows: list[tuple[str, str]], average: Any, random: Any) -> None:
        labels, predicted = (list(column) for column in zip(*rows, strict=True))
        assume(set(labels) == set(predicted) == set("abc"))
        chances = np.array([[random.random() + 0.01 for _ in "abc"] for _ in labels])
        chances /= chances.sum(axis=1, keepdims=True)
        scores = {name: chances[:, i].tolist() for i, name in enumerate("abc")}
        measured = self._score(replace(CLASSES, average=average), labels, predicted, scores=scores).candidate

        expected = metrics.precision_recall_fscore_support(labels, predicted, average=average)[:3]
        assert [measured[name] for name in ("precision", "recall", "f1")] == pytest.approx(list(expected))
        assert measured["log_loss"] == pytest.approx(metrics.log_loss(labels, chances))
        assert measured["brier"] == pytest.approx(metrics.brier_score_loss(labels, chances))
        assert measured["roc_auc"] == pytest.approx(
            metrics.roc_auc_score(labels, chances, multi_class="ovr", average=average)
        )

    @on_files
    @given(st.lists(st.tuples(finite, finite), min_size=2, max_size=40))
    def test_errors_are_scikit_learns(self, rows: list[tuple[float, float]]) -> None:
        labels, predicted = (list(column) for column in zip(*rows, strict=True))
        measured = self._score(NUMBERS, labels, predicted).candidate

        assert measured["mae"] == pytest.approx(metrics.mean_absolute_error(labels, predicted))
        assert measured["rmse"] == pytest.approx(metrics.root_mean_squared_error(labels, predicted))
        if len(set(labels)) > 1:
            r2 = metrics.r2_score(labels, predicted)
            assert measured["r2"] == (pytest.approx(r2) if math.isfinite(r2) else None)
        else:
            assert measured["r2"] is None

    @on_files
    @given(st.lists(st.tuples(*[st.sampled_from([1, 2, 3])] * 3), min_size=1, max_size=30))
    def test_both_versions_are_compared_row_by_row(self, rows: list[tuple[int, int, int]]) -> None:
        labels, candidate, champion = (list(column) for column in zip(*rows, strict=True))
        scores = self._score(CLASSES, labels, candidate, champion)

        gained = sum(c == y != o for y, c, o in rows)
        lost = sum(o == y != c for y, c, o in rows)
        assert scores.discordant == (gained, lost)
        assert scores.identical == (candidate == champion)
        assert sum(scores.labels.values()) == scores.rows == len(rows)

    # --- values are compared, not types

    @pytest.mark.parametrize(
        "predicted",
        [[1, 0, 1], [1.0, 0.0, 1.0], [True, False, True], [Decimal(1), Decimal(0), Decimal(1)]],
        ids=["int", "float", "bool", "decimal"],
    )
    @pytest.mark.parametrize(
        "labels", [[1, 0, 1], [1.0, -0.0, 1.0], [True, False, True]], ids=["int", "float", "bool"]
    )
    @pytest.mark.parametrize("positive", [None, "1", "1.0", "True", "true"])
    def test_equal_values_are_one_class(self, labels: list[Any], predicted: list[Any], positive: str) -> None:
        scores = self._score(replace(CLASSES, positive=positive), labels, predicted)

        assert (scores.candidate["accuracy"], scores.candidate["f1"]) == (1.0, 1.0)

    def test_negative_zero_and_zero_are_identical_predictions(self) -> None:
        assert self._score(NUMBERS, [1.0, 2.0], [0.0, 1.0], [-0.0, 1.0]).identical is True

    def test_class_names_are_those_a_person_would_write(self) -> None:
        assert self._score(CLASSES, [True, False], [True, True]).labels == {"True": 1, "False": 1}
        assert self._score(CLASSES, [1.0, 2.5], [1.0, 1.0]).labels == {"1": 1, "2.5": 1}

    @pytest.mark.parametrize("names", [("0", "1"), ("0.0", "1.0"), ("False", "True")])
    def test_class_scores_are_found_by_value(self, names: tuple[str, str]) -> None:
        scores = self._score(CLASSES, [0, 1], [0, 1], scores={names[0]: [0.8, 0.3], names[1]: [0.2, 0.7]})

        assert scores.candidate["roc_auc"] == 1.0

    def test_at_most_fifty_classes_are_counted(self) -> None:
        labels = [*range(60), *range(10, 60)]

        assert len(self._score(CLASSES, labels, labels).labels) == 50
        assert "5" not in self._score(CLASSES, labels, labels).labels

    def test_rows_without_a_label_are_left_out(self) -> None:
        classes = self._score(CLASSES, [1, None, 0], [1, 0, 1])
        numbers = self._score(NUMBERS, [1.0, math.nan, None], [2.0, 0.0, 0.0])

        assert (classes.rows, classes.candidate["accuracy"]) == (2, 0.5)
        assert (numbers.rows, numbers.candidate["mae"]) == (1, 1.0)

    # --- unknown, with the reason

    @pytest.mark.parametrize("labels", [[], [math.nan, math.nan]])
    def test_without_labelled_rows_everything_is_unknown(self, labels: list[float]) -> None:
        scores = self._score(NUMBERS, labels, [1.0] * len(labels))

        assert scores.rows == 0
        assert set(scores.candidate.values()) == {None}
        assert set(scores.unknown.values()) == {"the holdout has no labelled rows"}

    def test_precision_of_a_class_that_is_never_predicted_is_unknown_and_its_f1_zero(self) -> None:
        scores = self._score(CLASSES, [0, 1, 1], [0, 0, 0])

        assert scores.candidate["precision"] is None
        assert (scores.candidate["recall"], scores.candidate["f1"]) == (0, 0)
        assert scores.unknown["precision"] == "class 1 is never predicted"

    def test_the_reason_says_whose_measure_is_unknown(self) -> None:
        scores = self._score(CLASSES, [0, 1, 1], [0, 1, 0], champion=[0, 0, 0])

        assert scores.candidate["precision"] == 1.0
        assert scores.unknown["precision"] == "champion: class 1 is never predicted"

    def test_a_class_without_scores_leaves_their_measures_unknown(self) -> None:
        scores = self._score(CLASSES, ["a", "b"], ["a", "b"], scores={"a": [0.7, 0.1]})

        assert {scores.unknown[name] for name in SCORE_MEASURES} == {"the model gives no scores for class b"}

    def test_margins_rank_but_are_no_probabilities(self) -> None:
        margins = {"0": [3.0, -1.0], "1": [-3.0, 1.0]}
        scores = self._score(CLASSES, [0, 1], [0, 1], scores=margins)

        assert scores.candidate["roc_auc"] == 1.0
        assert scores.candidate["brier"] is scores.candidate["log_loss"] is None
        assert "not probabilities" in scores.unknown["brier"]

    def test_a_single_class_still_has_its_losses(self) -> None:
        scores = self._score(CLASSES, [0, 0], [0, 0], scores={"0": [0.9, 0.7], "1": [0.1, 0.3]})

        assert scores.candidate["brier"] == pytest.approx(0.05)
        assert scores.candidate["log_loss"] == pytest.approx(-math.log(0.9 * 0.7) / 2)
        assert scores.candidate["roc_auc"] is None
        reasons = {scores.unknown[name] for name in ("precision", "recall", "f1", "roc_auc")}
        assert reasons == {"the holdout has a single class: 0"}

    def test_the_average_over_a_missing_positive_class_names_those_there_are(self) -> None:
        chances = {"a": [0.5, 0.5], "b": [0.5, 0.5]}
        scores = self._score(replace(CLASSES, positive="c"), ["a", "b"], ["a", "b"], scores=chances)

        reason = "no row has the positive class 'c'; classes: a, b"
        assert {scores.unknown[name] for name in ("precision", "recall", "f1", "roc_auc", "brier")} == {
            reason
        }
        assert scores.candidate["log_loss"] == pytest.approx(math.log(2))

    def test_an_error_too_large_for_a_number_is_unknown(self) -> None:
        scores = self._score(NUMBERS, [1e300, -1e300], [-1e300, 1e300])

        assert scores.candidate["rmse"] is None
        assert scores.unknown["rmse"] == "the result is not finite"

    def test_scores_that_differ_are_not_identical(self) -> None:
        snapshot = self.make_snapshot([0, 1])
        versions = [self.make_predictions([0, 1], {"0": [p, 0.1], "1": [1 - p, 0.9]}) for p in (0.8, 0.9)]
        bare = self.make_predictions([0, 1])
        scorer = self.make_scorer()

        assert scorer.score(CLASSES, snapshot, versions[0], versions[1]).identical is False
        assert scorer.score(CLASSES, snapshot, versions[0], versions[0]).identical is True
        assert scorer.score(CLASSES, snapshot, versions[0], bare).identical is True

    # --- refused

    @pytest.mark.parametrize(
        ("labels", "predicted", "message"),
        [
            (["a", "b"], [0, 1], "labels are string, the candidate predicts int64"),
            ([0, 1], ["0", "1"], "labels are int64, the candidate predicts string"),
            ([0, 1], [0, None], "'prediction' is missing, NaN or infinite in 1 rows"),
            (["a", "b"], ["a", None], "'prediction' is missing, NaN or infinite in 1 rows"),
            ([0, 1], [math.nan, math.inf], "'prediction' is missing, NaN or infinite in 2 rows"),
            ([0.0, math.inf], [0, 1], "label 'y' of boiler is infinite"),
            ([date(2026, 1, 1), date(2026, 1, 2)], [0, 1], "column 'y' is date32"),
            ([2**53 + 1, 1], [0, 1], "cannot be read"),
        ],
        ids=[
            "text labels",
            "text answers",
            "null",
            "null text",
            "not finite",
            "infinite",
            "dates",
            "too large",
        ],
    )
    def test_values_that_cannot_be_judged_are_refused(
        self, labels: list[Any], predicted: list[Any], message: str
    ) -> None:
        with pytest.raises(Permanent, match=message):
            self._score(CLASSES, labels, predicted)

    @pytest.mark.parametrize("wrong", [[0.5, math.nan], ["much", "little"]])
    def test_class_scores_that_are_no_numbers_are_refused(self, wrong: list[Any]) -> None:
        with pytest.raises(Permanent, match="'score:1'"):
            self._score(CLASSES, [0, 1], [0, 1], scores={"0": [0.5, 0.5], "1": wrong})

    @pytest.mark.parametrize("whose", ["snapshot", "predictions"])
    @pytest.mark.parametrize(
        ("harm", "message"),
        [
            (lambda file: file.write_bytes(file.read_bytes() + b"x"), "damaged"),
            (lambda file: file.unlink(), "No such file"),
        ],
        ids=["changed", "gone"],
    )
    def test_a_file_that_is_not_what_was_written_is_refused(
        self, whose: str, harm: Callable[[Path], Any], message: str
    ) -> None:
        snapshot, predictions = self.make_snapshot([0, 1]), self.make_predictions([0, 1])
        harm(Path(snapshot.uri if whose == "snapshot" else predictions.uri))

        with pytest.raises(Permanent, match=message):
            self.make_scorer().score(CLASSES, snapshot, predictions)

    def test_a_file_with_other_rows_than_its_handle_says_is_refused(self) -> None:
        short = replace(self.make_predictions([0]), rows=2)

        with pytest.raises(Permanent, match="has 1 rows, not 2"):
            self.make_scorer().score(CLASSES, self.make_snapshot([0, 1]), short)

    def test_a_column_that_is_missing_is_named_with_those_there_are(self) -> None:
        snapshot = replace(self.make_snapshot([0, 1]), label="z")

        with pytest.raises(Permanent, match="no column 'z'; it has: ts, x, y"):
            self.make_scorer().score(CLASSES, snapshot, self.make_predictions([0, 1]))

    def test_a_file_that_is_no_table_is_refused(self) -> None:
        snapshot, uri = self.make_snapshot([0, 1]), self.folder / "text"
        uri.write_text("no table")
        digest = hashlib.sha256(uri.read_bytes()).hexdigest()
        predictions = replace(self.make_predictions([0, 1]), uri=str(uri), sha256=digest)

        with pytest.raises(Permanent, match="the candidate's predictions cannot be read"):
            self.make_scorer().score(CLASSES, snapshot, predictions)

    def test_a_missing_library_names_its_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        given = (self.make_snapshot([0, 1]), self.make_predictions([0, 1]))
        monkeypatch.setitem(sys.modules, "sklearn", None)

        with pytest.raises(MissingExtra, match=r"sklearn is not installed: .*autoretrain\[scoring\]"):
            self.make_scorer().score(CLASSES, *given)


class TestCalibrationError:
    """The error of scores that are known to be right, or wrong by a known distance."""

    @staticmethod
    def error(labels: Any, scores: Mapping[Any, Any], **task: Any) -> float:
        codes, classes = np.asarray(labels), sorted(set(labels))
        found = np.searchsorted(classes, codes)
        truth = truth_of(replace(CLASSES, **task), found, classes, str(codes.dtype))
        return ece_of(truth, {name: np.asarray(column) for name, column in scores.items()})

    @pytest.mark.parametrize("rows", [60, 1000, 20_000])
    def test_a_calibrated_model_is_hardly_blamed_for_chance(self, rows: int) -> None:
        random = np.random.default_rng(rows)
        errors = []
        for _ in range(40):
            chance = random.uniform(0, 1, rows)
            labels = (random.uniform(0, 1, rows) < chance).astype(float)
            errors.append(self.error(labels, {0.0: 1 - chance, 1.0: chance}))
        bins = min(10, rows // 20)
        plain = math.sqrt(2 / math.pi / 6 * bins / rows)  # what chance adds where nothing is taken off
        assert np.mean(errors) < 0.75 * plain

    @pytest.mark.parametrize("off", [0.05, 0.2])
    def test_a_known_distance_is_found(self, off: float) -> None:
        random = np.random.default_rng(5)
        chance = random.uniform(0, 1 - off, 50_000)
        labels = (random.uniform(0, 1, 50_000) < chance).astype(float)
        said = chance + off
        assert self.error(labels, {0.0: 1 - said, 1.0: said}) == pytest.approx(off, abs=0.005)

    def test_of_several_classes_the_likeliest_counts(self) -> None:
        labels = ["a", "b", "c", "a"] * 500
        scores = {name: [share] * 2000 for name, share in zip("abc", (0.8, 0.1, 0.1), strict=True)}
        assert self.error(labels, scores) == pytest.approx(0.3, abs=0.01)  # a is right half of the time

    def test_a_class_without_labels_was_never_right(self) -> None:
        scores = {"a": [0.1] * 400, "b": [0.2] * 400, "z": [0.7] * 400}
        assert self.error(["a", "b"] * 200, scores) == pytest.approx(0.7, abs=0.01)

    def test_equal_scores_share_a_bin_whatever_the_order_of_rows(self) -> None:
        random = np.random.default_rng(1)
        chance = random.choice([0.2, 0.5, 0.9], 900)
        labels = (random.uniform(0, 1, 900) < chance).astype(float)
        order = random.permutation(900)
        there, back = (
            self.error(labels[place], {0.0: 1 - chance[place], 1.0: chance[place]})
            for place in (np.arange(900), order)
        )
        assert there == pytest.approx(back)
