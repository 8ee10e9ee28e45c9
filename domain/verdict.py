"""Three-valued answers: yes, no or unknown, each with a reason and its evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Answer(Enum):
    """The three values of Kleene's logic."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Verdict:
    """An answer that a person can read and a program can combine.

    Combines by Kleene's strong logic: ``unknown | yes`` is yes, ``unknown & no`` is no, otherwise unknown
    stays unknown; ``~unknown`` is unknown.

    Attributes:
        answer: Yes, no or unknown.
        reason: Why, in words.
        evidence: Numbers, windows and sample counts behind it, as JSON values.
    """

    answer: Answer
    reason: str
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Refuse to be a boolean, since ``not unknown`` would read as good.

        Raises:
            TypeError: Always. Compare ``answer``, or use ``is_yes``.
        """
        raise TypeError("a Verdict is yes, no or unknown: ask .is_yes, .is_no or .is_unknown")

    @property
    def is_yes(self) -> bool:
        """Whether the answer is a proven yes."""
        return self.answer is Answer.YES

    @property
    def is_no(self) -> bool:
        """Whether the answer is a proven no."""
        return self.answer is Answer.NO

    @property
    def is_unknown(self) -> bool:
        """Whether there is no answer."""
        return self.answer is Answer.UNKNOWN

    def __or__(self, other: Verdict) -> Verdict:
        return _combine(self, other, decisive=Answer.YES, otherwise=Answer.NO)

    def __and__(self, other: Verdict) -> Verdict:
        return _combine(self, other, decisive=Answer.NO, otherwise=Answer.YES)

    def __invert__(self) -> Verdict:
        swapped = {Answer.YES: Answer.NO, Answer.NO: Answer.YES, Answer.UNKNOWN: Answer.UNKNOWN}
        return Verdict(swapped[self.answer], f"not: {self.reason}", self.evidence)


def yes(reason: str, **evidence: Any) -> Verdict:
    """Make a yes."""
    return Verdict(Answer.YES, reason, evidence)


def no(reason: str, **evidence: Any) -> Verdict:
    """Make a no."""
    return Verdict(Answer.NO, reason, evidence)


def unknown(reason: str, **evidence: Any) -> Verdict:
    """Make an unknown."""
    return Verdict(Answer.UNKNOWN, reason, evidence)


def _combine(a: Verdict, b: Verdict, decisive: Answer, otherwise: Answer) -> Verdict:
    """Combine two verdicts; the result is explained by the verdicts that made it so."""
    for answer in (decisive, Answer.UNKNOWN, otherwise):
        behind = [verdict for verdict in (a, b) if verdict.answer is answer]
        if behind:
            evidence = {key: value for verdict in behind for key, value in verdict.evidence.items()}
            return Verdict(answer, "; ".join(verdict.reason for verdict in behind), evidence)
    raise AssertionError("unreachable: one of the three answers is there")
