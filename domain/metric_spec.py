"""What a user says of a measure of their own."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from ..ports.scorer import DIRECTIONS, OwnMetric

_FUNCTION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
_NAME = re.compile(r"[^\W\d]\w*")


class OwnMetricSpec(BaseModel):
    """A measure of your own, on which models can be compared and watched.

    Attributes:
        function: Where it is, as ``module:function``: a file beside the settings that stands by itself, or an
            installed module. It takes labels, predictions and weights, and returns a number.
        direction: Which way it is better.
        best: Its value for a perfect model, where there is one; only the scale ``error-reduction`` needs
            it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    function: str
    direction: Literal["up", "down"]
    best: float | None = Field(default=None, allow_inf_nan=False)

    @field_validator("function")
    @classmethod
    def _named(cls, value: str) -> str:
        if not _FUNCTION.fullmatch(value):
            raise ValueError('write it as "module:function", for example "costs:cost"')
        return value

    def named(self, name: str) -> OwnMetric:
        """The same under its name, for the scorer."""
        return OwnMetric(name, self.function, self.direction, self.best)


def name_flaw(name: str) -> str:
    """What is wrong with the name of such a measure; empty when it may be called so."""
    if name in DIRECTIONS:
        return "is computed already; give yours another name"
    if not _NAME.fullmatch(name):
        return "name it with letters, digits and underscores, beginning with a letter"
    return ""
