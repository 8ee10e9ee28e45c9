"""What a check of the doctor says, and how one is run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ...ports.errors import AutoRetrainError
from ..pipeline import AutoRetrainPipeline


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        about: The part that was looked at.
        status: ``problem`` keeps something from working, ``warning`` may.
        text: What was found.
        fix: What to do; empty when nothing is to be done.
    """

    about: str
    status: Literal["ok", "warning", "problem"]
    text: str
    fix: str = ""


FEW = 3
"""Models of one trouble, each of which gets a line of its own."""

Check = Callable[[AutoRetrainPipeline], Iterator[Finding]]


class Unusable(Exception):
    """Ends a check: what was found keeps all that depends on this part from being looked at."""


def ok(about: str, text: str) -> Finding:
    """Return the finding of something that works."""
    return Finding(about, "ok", text)


def names_of(models: Sequence[str]) -> str:
    """Name the first of many models, and count the others."""
    return f"{', '.join(models[:FEW])} and {len(models) - FEW} more"


def run(about: str, check: Check, pipeline: AutoRetrainPipeline) -> Iterator[Finding]:
    """Run a check; what it raises is a finding, too."""
    try:
        yield from check(pipeline)
    except AutoRetrainError as error:
        yield Finding(about, "problem", str(error))
