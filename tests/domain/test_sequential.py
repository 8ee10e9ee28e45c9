"""The sequential test for harm: against the formula it comes from, and against simulated chance."""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import integrate, stats

from autoretrain.domain.sequential import Harm, HarmTest, Moments

Floats = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Floats]

ALPHA = 0.05
TEST = HarmTest(tolerance=0.0, alpha=ALPHA)

numbers = st.floats(-100, 100).map(lambda value: round(value, 3))


def moments(samples: list[float] | Floats) -> Moments:
    seen = Moments()
    for sample in samples:
        seen = seen.after(float(sample))
    return seen


@given(st.lists(numbers, min_size=1, max_size=30))
def test_moments_are_those_of_all_samples(samples: list[float]) -> None:
    seen = moments(samples)
    assert seen.count == len(samples)
    assert seen.mean == pytest.approx(np.mean(samples), abs=1e-9)
    assert seen.squares == pytest.approx(np.var(samples) * len(samples), abs=1e-6)


@pytest.mark.parametrize("sample", [math.nan, math.inf, -math.inf])
def test_what_is_not_known_is_no_sample(sample: float) -> None:
    with pytest.raises(ValueError, match="not a number that can be tested"):
        Moments().after(sample)


@pytest.mark.parametrize("samples", [[0.3, 0.8, 0.1], [1.0, -0.4, 0.2, 0.9, 0.5], [-1.0, -2.0, 0.5]])
def test_the_e_value_is_the_mixture_of_likelihood_ratios(samples: list[float]) -> None:
    """The density of t at mean/sd = d against d = 0, integrated over a half-normal prior of d."""
    n = len(samples)
    t = math.sqrt(n) * np.mean(samples) / np.std(samples, ddof=1)

    def ratio(d: float) -> float:
        return float(
            stats.nct.pdf(t, n - 1, math.sqrt(n) * d) / stats.t.pdf(t, n - 1) * 2 * stats.norm.pdf(d)
        )

    expected, _ = integrate.quad(ratio, 0, 10)
    assert TEST.read(moments(samples)).e_value == pytest.approx(expected, rel=1e-5)


@given(st.lists(numbers, min_size=1, max_size=12), st.floats(0.01, 1000), st.floats(-10, 10))
def test_neither_unit_nor_origin_matters(samples: list[float], unit: float, origin: float) -> None:
    plain = TEST.read(moments(samples))
    moved = HarmTest(origin * unit, ALPHA).read(moments([(each + origin) * unit for each in samples]))
    if np.std(samples) > 0.01:
        assert moved.e_value == pytest.approx(plain.e_value, rel=1e-4)


@given(st.lists(numbers, min_size=1, max_size=12), st.floats(0, 50))
def test_a_worse_mean_is_never_less_evidence(samples: list[float], worse: float) -> None:
    before, after = (TEST.read(moments([each + more for each in samples])) for more in (0.0, worse))
    assert after.e_value >= before.e_value * (1 - 1e-6)


@given(st.lists(numbers, max_size=30))
def test_the_interval_agrees_with_the_verdict(samples: list[float]) -> None:
    reading = TEST.read(moments(samples))
    if reading.harm is Harm.SHOWN:
        assert reading.interval is not None
        assert reading.interval[0] > 0
    if reading.harm is Harm.EXCLUDED:
        assert reading.interval is not None
        assert reading.interval[1] < 0


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
@example(1.6201187181981861e-162, 0.0)
def test_three_samples_show_nothing_however_bad(sample: float, other: float) -> None:
    assert TEST.read(moments([sample, other, sample])).harm is Harm.OPEN


def test_no_samples_and_samples_at_the_tolerance_say_nothing() -> None:
    for seen in (Moments(), moments([0.0] * 50)):
        reading = TEST.read(seen)
        assert (reading.harm, reading.e_value, reading.e_safe) == (Harm.OPEN, 1.0, 1.0)


def test_very_long_and_very_bad_is_still_a_number() -> None:
    reading = TEST.read(moments([1.0, 1.001] * 2000))
    assert reading.harm is Harm.SHOWN
    assert math.isfinite(reading.e_value)
    assert reading.e_safe < 1e-9


# --- chance: 1,000 lives of 40 batches, looked at after each ----------------------------------------------


def normal(random: np.random.Generator, lives: int) -> Floats:
    return random.normal(0, 3.7, (lives, 40))


def skewed(random: np.random.Generator, lives: int) -> Floats:
    """Means of 40 exponential rows, with the long tail on the side of harm or the other."""
    side = random.choice([-1, 1], (lives, 1))
    means: Floats = random.exponential(1, (lives, 40, 40)).mean(2)
    harm: Floats = side * (means - 1)
    return harm


def bounded(random: np.random.Generator, lives: int) -> Floats:
    """Losses of accuracy of a model that is right on 95 of 100 rows, by batches of 50."""
    return 0.95 - random.binomial(50, 0.95, (lives, 40)) / 50


def better(random: np.random.Generator, lives: int) -> Floats:
    """A mean well on the good side must not find harm more often than one at the tolerance."""
    return normal(random, lives) - 1


@pytest.mark.parametrize("draw", [normal, skewed, bounded, better])
def test_looking_after_every_batch_finds_harm_that_is_not_there_as_seldom_as_stated(draw: Draw) -> None:
    lives = 1000
    found = sum(_ever(life, Harm.SHOWN) for life in draw(np.random.default_rng(7), lives))
    # 3.1 standard errors: of a rate that is alpha, one run in a thousand has more.
    assert found / lives <= ALPHA + 3.1 * math.sqrt(ALPHA * (1 - ALPHA) / lives)


def test_a_t_test_at_every_look_would_not() -> None:
    """The lives above are a trial that a test which does not count its looks fails."""
    lives = normal(np.random.default_rng(7), 1000)
    looks = [stats.ttest_1samp(lives[:, :n], 0, axis=1, alternative="greater").pvalue for n in range(2, 41)]
    assert np.mean(np.min(looks, axis=0) < ALPHA) > 3 * ALPHA


@pytest.mark.parametrize("batches", [2, 5, 10])
def test_the_mean_of_the_e_value_is_one_where_there_is_no_harm(batches: int) -> None:
    lives = np.random.default_rng(3).normal(0, 0.2, (4000, batches))
    mean = np.mean([min(TEST.read(moments(life)).e_value, 1e6) for life in lives])
    assert mean == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize(("shift", "power", "delay"), [(1.0, 0.97, 12), (2.0, 1.0, 7)])
def test_harm_is_found_and_soon(shift: float, power: float, delay: int) -> None:
    """A shift in standard deviations of a batch; the median delay in batches, over 40 of them."""
    lives = np.random.default_rng(5).normal(shift, 1, (300, 40))
    firsts = [first for life in lives if (first := _first(life, Harm.SHOWN)) is not None]
    assert len(firsts) / len(lives) >= power
    assert np.median(firsts) <= delay


def test_no_harm_is_found_too() -> None:
    lives = np.random.default_rng(5).normal(-1, 1, (300, 40))
    assert sum(_ever(life, Harm.EXCLUDED) for life in lives) / len(lives) >= 0.97


def test_the_interval_holds_at_all_times_together() -> None:
    lives = np.random.default_rng(11).normal(0.4, 2, (600, 30))
    missed = 0
    for life in lives:
        seen, out = Moments(), False
        for sample in life:
            seen = seen.after(float(sample))
            interval = TEST.read(seen).interval
            out |= interval is not None and not interval[0] <= 0.4 <= interval[1]
        missed += out
    assert missed / len(lives) <= 2 * ALPHA + 3.1 * math.sqrt(2 * ALPHA * (1 - 2 * ALPHA) / len(lives))


def _first(life: Floats, what: Harm) -> int | None:
    seen = Moments()
    for number, sample in enumerate(life, start=1):
        seen = seen.after(float(sample))
        if TEST.read(seen).harm is what:
            return number
    return None


def _ever(life: Floats, what: Harm) -> bool:
    return _first(life, what) is not None
