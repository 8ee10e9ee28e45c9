"""Questions to the world, so put that a slow answer holds up nobody else's."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Question:
    """Something to be asked of, or done in, the world.

    Attributes:
        part: The part of the world it is put to. Parts do not wait for one another.
        keys: Identities of what is asked. The same key is the same question, also in a later turn.
        ask: Called with those keys that nobody is asking for already; returns an answer for each of them.
    """

    part: str
    keys: tuple[Hashable, ...]
    ask: Callable[[tuple[Hashable, ...]], Mapping[Hashable, Any]]


class Crew(Protocol):
    """Puts questions, and does not wait for ever."""

    def put(self, questions: Sequence[Question]) -> Mapping[Hashable, Any]:
        """Put questions side by side.

        Args:
            questions: What to ask. What is being asked since an earlier call is not asked again.

        Returns:
            Answers by key. A key is absent while its answer takes too long; the answer is kept for the next
            call that asks for it.
        """
        ...


class InTurn:
    """Puts one question after another and waits for each: for calls that want an answer."""

    def put(self, questions: Sequence[Question]) -> Mapping[Hashable, Any]:
        """Put questions one by one; every key has its answer."""
        return {key: answer for question in questions for key, answer in question.ask(question.keys).items()}
