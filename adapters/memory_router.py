"""The traffic router in memory, with what people do to it."""

from __future__ import annotations

from ..ports.errors import SplitMoved
from ..ports.traffic import Split


class MemoryRouter:
    """Implements TrafficRouter.

    Attributes:
        splits: What is in force, by model; people may change it.
        history: Every change that a call made, in order: the model, and its split since (``None`` for none).
    """

    def __init__(self) -> None:
        self.splits: dict[str, Split] = {}
        self.history: list[tuple[str, Split | None]] = []

    def in_force(self, model: str) -> Split | None:
        """Read the split of a model."""
        return self.splits.get(model)

    def apply(self, split: Split, expected: Split | None) -> None:
        """Put a split in force, if the expected one still is."""
        found = self.splits.get(split.model)
        if found == split:
            return
        if found != expected:
            raise SplitMoved(split.model, expected, found)
        self.splits[split.model] = split
        self.history.append((split.model, split))

    def clear(self, model: str, expected: Split) -> None:
        """Send all requests of a model to the champion, if the expected split still is in force."""
        found = self.splits.get(model)
        if found is None:
            return
        if found != expected:
            raise SplitMoved(model, expected, found)
        del self.splits[model]
        self.history.append((model, None))

    def reset(self, model: str) -> None:
        """Send all requests of a model to the champion, whatever is in force."""
        if self.splits.pop(model, None) is not None:
            self.history.append((model, None))
