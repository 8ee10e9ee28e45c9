"""The record of a replay's looks: counted all, kept as many as the controller itself asks for."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ...ports.observations import Look

_KEPT = 1000


@dataclass
class Looks:
    """What the looks at one model came to.

    Attributes:
        count: How many there were.
        fired: How often each trigger said yes.
        unknown: How often each trigger could not say.
        held: How often a yes of the rule started nothing, by reason.
    """

    count: int = 0
    fired: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    held: Counter[str] = field(default_factory=Counter)


class Tape:
    """Implements Observations: counts every look, and keeps the latest of each model."""

    def __init__(self) -> None:
        self.looks: dict[str, Looks] = defaultdict(Looks)
        self._kept: dict[str, deque[Look]] = defaultdict(lambda: deque(maxlen=_KEPT))

    def record(self, looks: Sequence[Look]) -> None:
        """Count looks; a second one at the same time replaces the first and is another look."""
        for look in looks:
            kept = self._kept[look.model]
            if kept and kept[-1].at == look.at:
                kept.pop()
            kept.append(look)
            self._count(self.looks[look.model], look.data)

    def repeat(self, model: str, times: int) -> None:
        """Count looks that say again what the last one did."""
        kept = self._kept[model]
        if kept and times > 0:
            self._count(self.looks[model], kept[-1].data, times)

    def _count(self, looks: Looks, data: Any, times: int = 1) -> None:
        looks.count += times
        for name, verdict in data["verdicts"].items():
            if verdict["answer"] == "yes":
                looks.fired[name] += times
            elif verdict["answer"] == "unknown":
                looks.unknown[name] += times
        if data["suppressed"]:
            looks.held[data["suppressed"]] += times

    def recent(self, model: str, after: datetime | None = None) -> Sequence[Look]:
        """Looks of a model, oldest first."""
        return tuple(look for look in self._kept[model] if after is None or look.at > after)
