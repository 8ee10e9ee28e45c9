"""Student's t distribution by the standard library, so that a recorded decision can be worked out again."""

from __future__ import annotations

import math

_TINY = 1e-300
_MOST_TERMS = 1000


def upper_tail(t: float, df: float) -> float:
    """Probability that a variable of Student's t is above ``t``.

    Half the regularised incomplete beta function ``I_x(df/2, 1/2)`` with ``x = df / (df + t²)``, for t of 0
    or more (Abramowitz and Stegun 1964, 26.7.1).

    Args:
        t: Any number; infinite is allowed.
        df: Degrees of freedom, above 0.
    """
    if t < 0:
        return 1.0 - upper_tail(-t, df)
    if math.isinf(t):
        return 0.0
    square = t * t
    if math.isinf(square):
        return 0.0
    return 0.5 * _incomplete_beta(df / (df + square), square / (df + square), df / 2, 0.5)


def critical(alpha: float, df: float) -> float:
    """The value that a variable of Student's t is above with probability ``alpha``; exact for small ones.

    Args:
        alpha: Between 0 and 1, both excluded.
        df: Degrees of freedom, above 0.
    """
    return _upper_quantile(alpha, df) if alpha <= 0.5 else -_upper_quantile(1 - alpha, df)


def _upper_quantile(alpha: float, df: float) -> float:
    """Bisection, for ``alpha`` of at most a half: the tail falls, and a hundred halvings leave no doubt."""
    low, high = 0.0, 1.0
    while upper_tail(high, df) > alpha:
        low, high = high, high * 2
    for _ in range(100):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if upper_tail(middle, df) > alpha else (low, middle)
    return (low + high) / 2


def _incomplete_beta(x: float, rest: float, a: float, b: float) -> float:
    """``I_x(a, b)``; ``rest`` is ``1 - x``, given apart since it may be too small to subtract."""
    if x <= 0 or rest <= 0:
        return 0.0 if x <= 0 else 1.0
    scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front = math.exp(scale + a * math.log(x) + b * math.log(rest))
    if x < (a + 1) / (a + b + 2):
        return front * _continued_fraction(x, a, b) / a
    return 1.0 - front * _continued_fraction(rest, b, a) / b


def _continued_fraction(x: float, a: float, b: float) -> float:
    """The fraction of the incomplete beta function (DLMF 8.17.22), by Lentz's method."""
    c, d = 1.0, 1.0 / _not_zero(1.0 - (a + b) * x / (a + 1.0))
    result = d
    for m in range(1, _MOST_TERMS):
        before = result
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1.0 / _not_zero(1.0 + term * d)
            c = _not_zero(1.0 + term / c)
            result *= c * d
        if math.isclose(result, before, rel_tol=1e-15):
            break
    return result


def _not_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
