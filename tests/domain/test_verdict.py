"""Three values and how they combine."""

import itertools

import pytest
from hypothesis import given

from autoretrain.domain.verdict import Answer, Verdict, no, unknown, yes
from autoretrain.entrypoints.testing.strategies import verdicts

Y, N, U = Answer.YES, Answer.NO, Answer.UNKNOWN
OR = {(Y, Y): Y, (Y, N): Y, (Y, U): Y, (N, Y): Y, (N, N): N, (N, U): U, (U, Y): Y, (U, N): U, (U, U): U}
AND = {(Y, Y): Y, (Y, N): N, (Y, U): U, (N, Y): N, (N, N): N, (N, U): N, (U, Y): U, (U, N): N, (U, U): U}
NOT = {Y: N, N: Y, U: U}


@pytest.mark.parametrize(("a", "b"), list(itertools.product(Answer, Answer)))
def test_kleene_tables(a: Answer, b: Answer) -> None:
    one, other = Verdict(a, "one"), Verdict(b, "other")
    assert (one | other).answer is OR[a, b]
    assert (one & other).answer is AND[a, b]
    assert (~one).answer is NOT[a]


@given(verdicts(), verdicts())
def test_commutes(a: Verdict, b: Verdict) -> None:
    assert (a | b).answer is (b | a).answer
    assert (a & b).answer is (b & a).answer


@given(verdicts(), verdicts(), verdicts())
def test_associates(a: Verdict, b: Verdict, c: Verdict) -> None:
    assert ((a | b) | c).answer is (a | (b | c)).answer
    assert ((a & b) & c).answer is (a & (b & c)).answer


@given(verdicts(), verdicts())
def test_de_morgan(a: Verdict, b: Verdict) -> None:
    assert (~(a | b)).answer is (~a & ~b).answer
    assert (~(a & b)).answer is (~a | ~b).answer


@given(verdicts())
def test_twice_not_is_itself(a: Verdict) -> None:
    assert (~~a).answer is a.answer


@given(verdicts())
def test_is_never_a_boolean(verdict: Verdict) -> None:
    with pytest.raises(TypeError, match="is_unknown"):
        bool(verdict)


def test_is_explained_by_what_decided_it() -> None:
    both = yes("drifted", psi=0.4) & yes("accuracy is low", value=0.8)
    assert (both.reason, both.evidence) == ("drifted; accuracy is low", {"psi": 0.4, "value": 0.8})
    assert (unknown("server away", tries=3) & no("accuracy is fine", value=0.9)).reason == "accuracy is fine"
    assert (unknown("server away", tries=3) | no("fine", value=0.9)).evidence == {"tries": 3}
    assert (~no("fine", value=0.9)) == Verdict(Answer.YES, "not: fine", {"value": 0.9})


@pytest.mark.parametrize(
    ("verdict", "asked"), [(yes("a"), "is_yes"), (no("a"), "is_no"), (unknown("a"), "is_unknown")]
)
def test_says_which_it_is(verdict: Verdict, asked: str) -> None:
    assert [name for name in ("is_yes", "is_no", "is_unknown") if getattr(verdict, name)] == [asked]
