"""A user's own measure: compared as ours are, or unknown with its reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from null_candidates import HOUR, SETTINGS, Setting, World
from promotion_rules import FIRST, IMPROVED, SUPERIOR
from scipy import stats

from autoretrain.adapters.scorer_classes import truth_of
from autoretrain.adapters.scorer_columns import Column
from autoretrain.adapters.scorer_own import Function, OwnMeasure, own_value, rule_of_own
from autoretrain.adapters.scorer_paired import Rows, Unpaired, compare
from autoretrain.adapters.scorer_sklearn import SklearnScorer
from autoretrain.adapters.scorer_sums import class_sums, number_sums
from autoretrain.domain.claims import Claim, judge_claim
from autoretrain.domain.promotion import Outcome
from autoretrain.entrypoints.testing.scorer import FullScorerContract
from autoretrain.ports.scorer import OwnMetric, Paired, Scorer, Scores, ScoringTask, Units

Floats = npt.NDArray[np.float64]
COST = OwnMetric("cost", "costs:cost", "down", best=0.0)
SHARE = OwnMetric("share", "costs:share", "up", best=1.0)
TASK = ScoringTask("classification", compared="cost", own=(COST,))
HOURS = 30 * 24


def cost_of(missed: float, false_alarm: float) -> Function:
    """The mean cost of a row."""

    def cost(labels: Floats, predictions: Floats, weights: Floats) -> float:
        costs = np.where(labels > predictions, missed, np.where(labels < predictions, false_alarm, 0.0))
        return float(np.average(costs, weights=weights))

    return cost


def share(labels: Floats, predictions: Floats, weights: Floats) -> float:
    """Accuracy, written by somebody who does not know of ours."""
    return float(np.average(labels == predictions, weights=weights))


def f1(labels: Floats, predictions: Floats, weights: Floats) -> float:
    """F1 of class 1."""
    hits = weights[(labels == 1) & (predictions == 1)].sum()
    return float(2 * hits / (weights[labels == 1].sum() + weights[predictions == 1].sum()))


def middle_error(labels: Floats, predictions: Floats, weights: Floats) -> float:
    """The weighted median of absolute errors."""
    errors = np.abs(labels - predictions)
    order = np.argsort(errors, kind="stable")
    reached = np.cumsum(weights[order])
    return float(errors[order][np.searchsorted(reached, reached[-1] / 2)])


def mean_error(labels: Floats, predictions: Floats, weights: Floats) -> float:
    """MAE."""
    return float(np.average(np.abs(labels - predictions), weights=weights))


def column(values: Sequence[Any] | Floats) -> Column:
    """As it is read from a file."""
    return Column(pa.array(values), "int64")


def classes(seed: int, wrong: float, count: int = HOURS) -> tuple[list[int], list[int]]:
    """Labels, and predictions so many of which are wrong."""
    random = np.random.default_rng(seed)
    labels = np.random.default_rng(0).integers(0, 2, count)
    return labels.tolist(), np.where(random.random(count) < wrong, 1 - labels, labels).tolist()


class Kit(FullScorerContract):
    """Rows and predictions in files, and a scorer with measures of a user."""

    functions: dict[str, Function]

    def make_scorer(self) -> Scorer:
        return SklearnScorer(self.functions)

    def compared(self, function: Function, task: ScoringTask = TASK) -> Scores:
        """Two versions on a month of hours."""
        self.functions = {own.function: function for own in task.own}
        labels, new = classes(1, 0.1)
        return self._score(task, labels, new, classes(2, 0.2)[1])

    def scored(self, *given: Any) -> Scores:
        """Scores of task, labels, candidate and champion."""
        return self._score(*given)

    def kept(self, columns: dict[str, Any]) -> tuple[str, str]:
        """A file of these columns, and its digest."""
        return self._keep(columns)


@pytest.fixture
def kit(tmp_path: Path) -> Kit:
    """With two measures."""
    made = Kit()
    made.folder = tmp_path
    made.functions = {"costs:cost": cost_of(5, 1), "costs:share": share}
    return made


def test_it_is_a_measure_beside_ours(kit: Kit) -> None:
    scores = kit.compared(cost_of(5, 1))
    labels, new = (np.array(each, dtype=float) for each in classes(1, 0.1))
    assert scores.candidate["cost"] == pytest.approx(cost_of(5, 1)(labels, new, np.ones(HOURS)))
    assert "accuracy" in scores.candidate
    assert scores.paired is not None
    assert set(scores.paired.effects) == {"absolute", "relative", "error-reduction"}


def test_with_equal_costs_its_interval_is_that_of_accuracy(kit: Kit) -> None:
    task = replace(TASK, compared="accuracy", own=())
    ours, cost = kit.compared(share, task).paired, kit.compared(cost_of(1, 1)).paired
    assert ours is not None
    assert cost is not None
    assert cost.candidate == pytest.approx(1 - ours.candidate)
    assert (cost.units, cost.unit) == (ours.units, ours.unit)
    assert cost.dependence == pytest.approx(ours.dependence, rel=1e-3)
    assert_alike(cost, ours, ("absolute", "error-reduction"))


def test_as_accuracy_it_agrees_on_every_scale(kit: Kit) -> None:
    task = replace(TASK, compared="share", own=(SHARE,))
    ours, own = (
        kit.compared(share, replace(task, compared="accuracy")).paired,
        kit.compared(share, task),
    )
    assert ours is not None
    assert own.paired is not None
    assert_alike(own.paired, ours, ("absolute", "relative", "error-reduction"))


def assert_alike(one: Paired, other: Paired, scales: Sequence[Any]) -> None:
    for scale in scales:
        found, expected = one.effects[scale], other.effects[scale]
        for name in ("value", "error", "low", "high", "base_error", "shared"):
            assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-3, abs=1e-9), name


def test_without_a_best_value_there_is_no_share_of_the_way_to_it(kit: Kit) -> None:
    paired = kit.compared(cost_of(5, 1), replace(TASK, own=(replace(COST, best=None),))).paired
    assert paired is not None
    assert set(paired.effects) == {"absolute", "relative"}


def test_text_is_told_as_text(kit: Kit) -> None:
    seen: set[str] = set()

    def noted(labels: Any, predictions: Any, weights: Floats) -> float:
        seen.update(labels.tolist())
        return share(labels, predictions, weights)

    kit.functions = {"costs:cost": noted}
    kit.scored(TASK, ["hot", "cold"] * 4, ["hot"] * 8)
    assert seen == {"hot", "cold"}


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda *_: np.nan, "returned nan"),
        (lambda *_: "0.3", "returned '0.3', and not a finite number"),
        (lambda *_: None, "returned None"),
        (lambda *_: True, "returned True"),
        (lambda labels, *_: labels["x"], "raised IndexError"),
        (lambda labels, predictions, _: float((labels == predictions).mean()), "does not take weights"),
        (lambda labels, *_: float(labels[0] + len(labels) * 0), "order of rows must not matter"),
    ],
)
def test_what_is_no_measure_is_unknown_with_its_reason(kit: Kit, function: Function, says: str) -> None:
    kit.functions = {"costs:cost": function}
    labels = [1, *classes(1, 0.1)[0]]
    scores = kit.scored(TASK, labels, [0, *classes(1, 0.1)[1]], [1, *classes(2, 0.2)[1]])
    assert scores.candidate["cost"] is None
    assert scores.champion is not None
    assert scores.champion["cost"] is None
    assert scores.paired is None
    assert says in scores.unpaired
    assert says in scores.unknown["cost"]
    assert scores.candidate["accuracy"] is not None


def test_a_function_that_changes_its_arguments_is_stopped(kit: Kit) -> None:
    def spoils(labels: Floats, predictions: Floats, weights: Floats) -> float:
        labels[:] = predictions
        return share(labels, predictions, weights)

    assert "read-only" in kit.compared(spoils).unpaired


def test_rounded_values_have_no_interval(kit: Kit) -> None:
    def rounded(labels: Floats, predictions: Floats, weights: Floats) -> float:
        return round(cost_of(5, 1)(labels, predictions, weights), 1)  # type: ignore[call-overload,no-any-return]

    scores = kit.compared(rounded)
    assert scores.candidate["cost"] is not None
    assert scores.paired is None
    assert "does not change smoothly" in scores.unpaired


def test_a_scorer_that_was_not_given_the_function_says_so(kit: Kit) -> None:
    kit.functions = {}
    scores = kit.scored(TASK, *classes(1, 0.1))
    assert "not given to the scorer" in scores.unknown["cost"]


def test_without_labels_it_is_unknown(kit: Kit) -> None:
    assert "no labelled rows" in kit.scored(TASK, [], []).unknown["cost"]


def test_segments_are_compared_by_it(kit: Kit) -> None:
    labels, new = classes(1, 0.1)
    sites = ["north" if hour % 3 else "south" for hour in range(HOURS)]
    snapshot = kit.make_snapshot(labels)
    uri, sha256 = kit.kept(
        {"ts": pa.parquet.read_table(snapshot.uri)["ts"].to_pylist(), "site": sites, "y": labels}
    )
    given = (kit.make_predictions(new), kit.make_predictions(classes(2, 0.2)[1]))
    task = replace(TASK, segments=("site",))
    scores = kit.make_scorer().score(task, replace(snapshot, uri=uri, sha256=sha256), *given)
    assert {pair.measure for pair in scores.segments.values()} == {"cost"}
    assert set(scores.segments) == {"site=north", "site=south"}


# --- weights ------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1), st.integers(0, 3)), min_size=6, max_size=40),
    st.sampled_from([cost_of(5, 1), cost_of(1, 1), share, mean_error]),
)
def test_weights_are_repeated_rows(rows: list[tuple[int, int, int]], function: Function) -> None:
    """A unit of weight n counts as if its rows stood there n times; of weight 0 as if they did not."""
    weights = np.array([weight for *_, weight in rows], dtype=float)
    if not weights.any():
        return
    labels, predictions = ([float(row[place]) for row in rows] for place in (0, 1))
    measure = OwnMeasure(function, column(labels), column(predictions))
    values, _ = measure.by_unit(np.arange(len(rows)), len(rows))(weights[None])
    again = np.repeat(np.arange(len(rows)), weights.astype(int))
    told = [np.array(each)[again] for each in (labels, predictions)]
    assert values[0] == pytest.approx(function(*told, np.ones(len(again))))


@pytest.mark.parametrize("name", ["balanced_accuracy_score", "matthews_corrcoef", "mean_squared_error"])
def test_measures_of_scikit_learn_take_weights(name: str) -> None:
    from sklearn import metrics

    function = getattr(metrics, name)
    labels, new = classes(1, 0.1)
    value = own_value(lambda a, b, w: function(a, b, sample_weight=w), column(labels), column(new))
    assert value == pytest.approx(function(labels, new))


# --- the difference -----------------------------------------------------------------------------------


def paired_of(
    function: Function, own: OwnMetric, kind: str, values: Sequence[Floats], rows: Rows, units: Units
) -> Paired:
    labels, new, old = (column(each) for each in values)
    candidate, champion = (OwnMeasure(function, labels, each) for each in (new, old))
    rule = rule_of_own(own, (candidate, champion), kind)
    return compare(own.name, candidate, champion, rows, units, rule=rule)


def numbers(seed: int, setting: Setting, better: float) -> tuple[World, list[Floats]]:
    """A world, its labels, and what a candidate and the champion predict."""
    world = World.of(setting, seed)
    champion = world.version("mae")
    candidate = world.version("mae", better)
    truth = 20 + 3 * world.labels
    return world, [truth, truth + candidate.luck, truth + champion.luck]


def test_of_numbers_it_is_the_interval_of_ours() -> None:
    _, values = numbers(3, SETTINGS[1], 0.0)
    rows = Rows(len(values[0]), np.arange(len(values[0])) * HOUR, 0, None, 7)
    own = paired_of(mean_error, replace(COST, name="mine"), "regression", values, rows, Units())
    champion, candidate = (number_sums("mae", values[0], values[place]) for place in (2, 1))
    ours = compare("mae", candidate, champion, rows, Units())
    assert own.dependence == pytest.approx(ours.dependence, rel=0.2)
    assert own.units == ours.units
    for scale in ("absolute", "relative"):  # the dependence, by which they are widened, is measured on cells
        assert own.effects[scale].error == pytest.approx(ours.effects[scale].error, rel=0.05)


def test_a_ratio_is_as_sure_as_ours() -> None:
    labels, new = classes(1, 0.1)
    old = classes(2, 0.2)[1]
    values = [np.array(each, dtype=float) for each in (labels, new, old)]
    rows = Rows(HOURS, np.arange(HOURS) * HOUR, 0, None, 7)
    own = paired_of(f1, replace(SHARE, name="mine"), "classification", values, rows, Units())
    task = ScoringTask("classification", compared="f1")
    codes = [each.astype(int) for each in values]
    truth = truth_of(task, codes[0], [0.0, 1.0], "int64")
    candidate, champion = (class_sums("f1", "macro", truth, each, {}) for each in codes[1:])
    ours = compare("f1", candidate, champion, rows, Units())
    for scale in ("absolute", "relative", "error-reduction"):
        found, expected = own.effects[scale], ours.effects[scale]
        assert found.value == pytest.approx(expected.value)
        assert found.error == pytest.approx(expected.error, rel=0.01)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=0.1)


def classified(seed: int, setting: Setting, better: float) -> tuple[World, list[Floats]]:
    """The same of classes."""
    world = World.of(setting, seed)
    champion = world.version("accuracy")
    candidate = world.version("accuracy", better)
    truth = (world.labels > 0).astype(float)
    return world, [truth, *(np.where(each.luck > 0, truth, 1 - truth) for each in (candidate, champion))]


Draw = Callable[[int, Setting, float], tuple[World, list[Floats]]]


def pairs(function: Function, setting: Setting, draw: Draw, count: int, better: float = 0.0) -> list[Paired]:
    """Comparisons of so many candidates, as far as they can be told."""
    kind, found = "regression" if draw is numbers else "classification", []
    for seed in range(count):
        world, values = draw(seed, setting, better)
        with suppress(Unpaired):
            found.append(paired_of(function, COST, kind, values, world.rows(), setting.units))
    return found


def promoted(claim: Claim, compared: Sequence[Paired]) -> int:
    """How many are promoted at a quarter's first decision."""
    return sum(judge_claim(claim, pair, FIRST).outcome is Outcome.PROMOTE for pair in compared)


@pytest.mark.slow
@pytest.mark.parametrize("function", [mean_error, middle_error])
@pytest.mark.parametrize("setting", SETTINGS[1::2], ids=lambda setting: setting.name)
def test_numbers_keep_their_level(setting: Setting, function: Function) -> None:
    compared = pairs(function, setting, numbers, 30)
    assert len(compared) > 20
    for claim in (IMPROVED, SUPERIOR):
        assert promoted(claim, compared) <= stats.binom.ppf(0.999, len(compared), FIRST)


@pytest.mark.parametrize("setting", SETTINGS[1::2], ids=lambda setting: setting.name)
def test_null_candidates_are_promoted_no_more_often_than_said(setting: Setting) -> None:
    compared = pairs(cost_of(5, 1), setting, classified, 8)
    assert len(compared) == 8
    assert promoted(IMPROVED, compared) <= stats.binom.ppf(0.999, 8, FIRST)


def test_better_candidates_are_promoted() -> None:
    assert promoted(IMPROVED, pairs(cost_of(5, 1), SETTINGS[3], classified, 3, better=0.7)) >= 2
