"""Do the arms get the shares that were intended? Asking at every look does not raise the error rate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from .verdict import Verdict, no, unknown, yes

_STRENGTH = 100.0
"""Units that the prior around the intended shares is worth: it looks for shares off by some hundredths."""

_MOST = 690.0


@dataclass(frozen=True, slots=True)
class SampleRatio:
    """How well the counts fit the intended shares.

    Attributes:
        e_value: Evidence against them; where they are true it ever reaches ``1/alpha`` with a probability of
            at most ``alpha``. At most 1e299.
        verdict: Yes where the arms are off their shares, no where nothing says so, unknown without counts.
    """

    e_value: float
    verdict: Verdict


def sample_ratio(counts: Mapping[str, int], shares: Mapping[str, float], alpha: float) -> SampleRatio:
    """Compare what each arm got with what it was to get.

    The Bayes factor of a Dirichlet-multinomial around the intended shares against those shares, which is a
    non-negative martingale where they are true (Lindon and Malek 2022, "Anytime-valid inference for
    multinomial count data"). It depends on the totals alone, so nothing need be kept between looks. Units
    must be assigned independently: count users, say, not the requests of each.

    Args:
        counts: Units by arm since the split began; it never changed since. An arm left out has none.
        shares: Intended share by arm, above 0, which sum to 1.
        alpha: Chance that a true split is ever called off.

    Returns:
        E-value and verdict.

    Raises:
        ValueError: A share is not above 0 or they do not sum to 1, a count is negative, or of no arm.
    """
    _check(counts, shares)
    total = sum(counts.values())
    if total == 0:
        return SampleRatio(1.0, unknown("no arm has had a unit yet"))
    log_e = math.lgamma(_STRENGTH) - math.lgamma(_STRENGTH + total)
    for arm, share in shares.items():
        prior, got = _STRENGTH * share, counts.get(arm, 0)
        log_e += math.lgamma(prior + got) - math.lgamma(prior) - got * math.log(share)
    e_value = math.exp(min(log_e, _MOST))
    told = ", ".join(
        f"{arm} {counts.get(arm, 0) / total:.2%} of {share:.2%}" for arm, share in shares.items()
    )
    text = f"of {total} units got {told}; e-value {e_value:.3g}, {1 / alpha:g} would show a mismatch"
    answer = yes if log_e >= -math.log(alpha) else no
    return SampleRatio(e_value, answer(text, counts=dict(counts), shares=dict(shares), e_value=e_value))


def _check(counts: Mapping[str, int], shares: Mapping[str, float]) -> None:
    problems = [f"the share of {arm} is {each:g}, not above 0" for arm, each in shares.items() if each <= 0]
    if not math.isclose(sum(shares.values()), 1.0, rel_tol=1e-9):
        problems.append(f"the shares sum to {sum(shares.values()):g}, not to 1")
    problems += [f"{arm} has a count of {count}" for arm, count in counts.items() if count < 0]
    problems += [f"{arm} is no arm; there are {', '.join(shares)}" for arm in counts if arm not in shares]
    if problems:
        raise ValueError("; ".join(problems))
