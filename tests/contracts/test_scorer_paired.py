"""Differences between two versions on the same rows: their units, and how often they are taken for real."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from null_candidates import CLASSES, HOUR, NUMBERS, SETTINGS, Setting, Trial, Version, World
from scipy import stats

from autoretrain.adapters.scorer_measured import Sums
from autoretrain.adapters.scorer_paired import Rows, Unpaired, compare
from autoretrain.adapters.scorer_sums import number_sums
from autoretrain.ports.scorer import Paired, Units

DAYS = 60
Groups = npt.NDArray[np.int64]


def rows(count: int = DAYS * 24, groups: Groups | None = None) -> Rows:
    """Hourly rows."""
    return Rows(count, np.arange(count) * HOUR, 0, groups, 7)


def absolute_errors(values: np.ndarray) -> Sums:
    """Mean absolute errors of these sizes."""
    return number_sums("mae", np.zeros(len(values)), values)


def difference(gain: np.ndarray, units: Units | None = None, groups: Groups | None = None) -> Paired:
    """A candidate whose absolute error at each row is smaller by ``gain``."""
    champion = np.full(len(gain), 5.0)
    given = rows(len(gain), groups)
    candidate = absolute_errors(champion - gain)
    return compare("mae", candidate, absolute_errors(champion), given, units or Units())


def noise(count: int = DAYS * 24, rho: float = 0.0, seed: int = 1) -> np.ndarray:
    """Autocorrelated noise of variance 1."""
    own = np.random.default_rng(seed).standard_normal(count)
    for place in range(1, count):
        own[place] = rho * own[place - 1] + np.sqrt(1 - rho**2) * own[place]
    return own


def test_of_independent_rows_it_is_the_paired_t_test() -> None:
    gain = 0.1 + noise()
    effect = difference(gain, Units(independent=True)).effects["absolute"]
    expected = stats.ttest_1samp(gain, 0)
    assert effect.value == pytest.approx(gain.mean())
    assert effect.value / effect.error == pytest.approx(expected.statistic, rel=0.05)


def test_of_days_it_is_the_t_test_of_their_means() -> None:
    gain = 0.1 + noise()
    pair = difference(gain)
    expected = stats.ttest_1samp(gain.reshape(DAYS, 24).mean(axis=1), 0)
    assert (pair.units, pair.unit) == (DAYS, "blocks of 1 day")
    effect = pair.effects["absolute"]
    assert effect.value / effect.error == pytest.approx(expected.statistic, rel=0.06)  # widened a little


def test_dependence_is_measured_in_rows() -> None:
    for rho in (0.0, 0.5, 0.8):
        found = difference(noise(20_000, rho)).dependence
        assert found == pytest.approx((1 + rho) / (1 - rho), rel=0.25)


def test_blocks_grow_with_the_dependence_of_rows() -> None:
    assert difference(noise(rho=0.5)).unit == "blocks of 1 day"
    grown = difference(noise(rho=0.9))
    assert grown.unit.endswith("days")
    assert grown.units < DAYS / 2


def test_a_block_is_never_shorter_than_asked_for() -> None:
    assert difference(noise(), Units(timedelta(days=5))).units == 12
    assert difference(noise(), Units(timedelta(hours=12))).units == 120


def test_dependence_over_most_of_the_rows_leaves_nothing_to_say() -> None:
    with pytest.raises(Unpaired, match=r"only \d blocks of .* since rows depend on one another over"):
        difference(np.cumsum(noise()))


def test_the_seam_of_fewest_units() -> None:
    with pytest.raises(Unpaired, match="only 5 blocks of 1 day; 6 are needed"):
        difference(noise(5 * 24))
    assert difference(noise(6 * 24)).units == 6
    with pytest.raises(Unpaired, match="only 5 rows"):
        difference(noise(5), Units(independent=True))


def test_groups_keep_their_rows_together() -> None:
    groups = np.random.default_rng(2).permutation(1440) % 40
    apart = difference(noise(40)[groups], Units(group="machine"), groups)
    assert (apart.units, apart.unit) == (40, "groups by machine")
    assert apart.effects["absolute"].error == pytest.approx(noise(40).std(ddof=1) / np.sqrt(40), rel=0.01)


def test_of_days_and_groups_the_one_that_leaves_more_doubt_is_taken() -> None:
    groups = np.arange(1440) % 24
    by_hour = np.tile(noise(24), DAYS)
    assert difference(by_hour, Units(group="hour"), groups).unit == "groups by hour"
    by_day = np.repeat(noise(DAYS), 24)
    assert difference(by_day, Units(group="hour"), groups).unit.startswith("blocks of")


def test_many_units_are_put_together() -> None:
    pair = difference(noise(30_000), Units(independent=True))
    assert pair.units == 400
    groups = np.arange(6000) // 2
    assert difference(noise(6000), Units(group="pair"), groups).unit in (
        "groups by pair, in bundles", "blocks of 1 day",
    )  # fmt: skip


def test_the_same_rows_give_the_same_numbers() -> None:
    assert difference(noise()) == difference(noise())


def test_no_row_in_which_classifiers_differ_is_no_proof_of_none() -> None:
    world = World.of(SETTINGS[0], 1)
    champion = world.sums("accuracy")
    pair = compare("accuracy", champion, champion, world.rows(), Units())
    effect = pair.effects["absolute"]
    assert effect.value == 0
    assert effect.error == pytest.approx(2 / 1440)
    assert pair.effects["error-reduction"].error == pytest.approx(2 / 1440 / (1 - pair.champion))


def test_a_few_large_differences_stretch_the_interval() -> None:
    gain = np.zeros(DAYS * 24)
    gain[::480] = 1.0  # three days of sixty
    effect = difference(gain).effects["absolute"]
    assert (effect.low, effect.high) == (1, 10)
    assert difference(-gain).effects["absolute"].low == 10


def test_a_base_of_zero_has_no_fraction() -> None:
    gain = noise()
    champion = absolute_errors(np.zeros(len(gain)))
    effects = compare("mae", absolute_errors(gain), champion, rows(), Units()).effects
    assert set(effects) == {"absolute"}


@settings(deadline=None, max_examples=20)
@given(st.sampled_from(NUMBERS), st.floats(0.05, 0.5))
def test_turning_both_round_turns_the_difference_round(measure: str, better: float) -> None:
    world = World.of(SETTINGS[0], 3)
    one, other = world.sums(measure), world.sums(measure, better)
    forth, back = (compare(measure, a, b, rows(), Units()) for a, b in ((one, other), (other, one)))
    assert forth.effects["absolute"].value == pytest.approx(-back.effects["absolute"].value)
    assert forth.effects["absolute"].error == pytest.approx(back.effects["absolute"].error, rel=1e-6)


@pytest.mark.parametrize("measure", ["f1", "mae", "r2"])
def test_no_fraction_is_surer_that_there_is_a_difference_than_the_difference_itself(measure: str) -> None:
    world = World.of(SETTINGS[2], 4)
    effects = compare(measure, world.sums(measure), world.sums(measure), rows(2160), Units()).effects
    plain = effects["absolute"]
    for scale in ("relative", "error-reduction"):
        effect = effects[scale]
        assert effect.value / effect.error_at(0) == pytest.approx(plain.value / plain.error, rel=1e-6)
        assert (effect.low, effect.high) == (plain.low, plain.high)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("measure", CLASSES)
@pytest.mark.parametrize("negatives", [0, 1])
@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_rows_that_lack_a_class_are_no_warning_on_the_terminal(
    setting: Setting, negatives: int, measure: str
) -> None:
    world = World.of(setting, 1)
    labels = np.where(np.arange(setting.rows) < negatives, -1.0, 1.0)
    new, old = (Version(measure, labels, world.version(measure).luck) for _ in range(2))
    pair = Trial(new, old, world.rows(), setting.units).paired
    assert (pair is None) is (measure == "roc_auc" and not negatives)
