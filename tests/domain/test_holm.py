"""Holm's procedure: by hand, and against what it promises."""

from hypothesis import given
from hypothesis import strategies as st

from autoretrain.domain.holm import holm


def test_by_hand() -> None:
    assert holm({"a": 0.02, "b": 0.001, "c": 0.04, "d": 0.5}, 0.05) == ("b",)
    assert holm({"a": 0.016, "b": 0.001, "c": 0.024, "d": 0.05}, 0.05) == ("b", "a", "c", "d")
    assert holm({"a": 0.0126}, 0.05) == ("a",)
    assert holm({}, 0.05) == ()


@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1), max_size=8), st.floats(0.001, 0.4))
def test_between_bonferroni_and_none(p_values: dict[str, float], alpha: float) -> None:
    rejected = set(holm(p_values, alpha))
    surely = {name for name, p in p_values.items() if p <= alpha / max(len(p_values), 1)}
    assert surely <= rejected <= {name for name, p in p_values.items() if p <= alpha}
