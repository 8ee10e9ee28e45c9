"""The text that combines triggers."""

from itertools import product

import pytest
from domain_world import NOW

from autoretrain.domain.trigger_types import TriggerType
from autoretrain.domain.triggers import (
    CustomAnswer,
    CustomQuery,
    CustomRule,
    Missing,
    Observation,
    Observations,
    Situation,
    parse_rule,
)
from autoretrain.domain.verdict import Answer, Verdict

SITUATION = Situation("m", NOW, NOW)
RULES = {name: CustomRule(name, TriggerType.CUSTOM) for name in "abc"}
SEEN: dict[Answer, Observation] = {
    Answer.YES: CustomAnswer(True, ""),
    Answer.NO: CustomAnswer(False, ""),
    Answer.UNKNOWN: Missing("away"),
}


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("a", lambda a, b, c: a),
        ("  ~a ", lambda a, b, c: ~a),
        ("a | b & c", lambda a, b, c: a | (b & c)),
        ("(a | b) & c", lambda a, b, c: (a | b) & c),
        ("a & ~b | c", lambda a, b, c: (a & ~b) | c),
        ("~(a | b)", lambda a, b, c: ~(a | b)),
        ("~~a", lambda a, b, c: a),
    ],
)
def test_text_means_what_the_operators_mean(text: str, meaning: object) -> None:
    rule = parse_rule(text, RULES)
    for answers in product(Answer, repeat=3):
        seen: Observations = {CustomQuery("m", n): SEEN[x] for n, x in zip("abc", answers, strict=True)}
        expected: Verdict = meaning(*(Verdict(x, "") for x in answers))  # type: ignore[operator]
        assert rule.judge(seen, SITUATION).answer is expected.answer, (text, answers)


def test_an_unknown_name_is_told_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="no trigger named 'd'; there are a, b, c"):
        parse_rule("a | d", RULES)


@pytest.mark.parametrize("text", ["", "a |", "a b", "(a", "a & & b", "a | # b\n c"])
def test_what_cannot_be_read_is_told_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"write for example \"a \| b \| c\""):
        parse_rule(text, RULES)


@pytest.mark.parametrize(
    "text", ["a and b", "not a", "a + b", "-a", "a()", "1", "a.b", "a if b else c", "a < b", "'a'"]
)
def test_nothing_but_names_and_operators_is_executed_or_read(text: str) -> None:
    with pytest.raises(ValueError, match="only names"):
        parse_rule(text, RULES)
