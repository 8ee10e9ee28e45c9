"""Where anchors of the ledger are kept: away from it, so that one hand cannot change both."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol


class AnchorKeeper(Protocol):
    """Keeps anchors, numbered from 1 without gaps: lines of signed text (``domain.anchors``)."""

    def keep(self, number: int, text: str) -> None:
        """Keep one anchor, durably before it returns.

        Repeating the same number and text changes nothing, so that a lost answer may be asked for again.

        Args:
            number: Its number; one more than the latest that is kept.
            text: Its text, of any length, in one line.

        Raises:
            Overtaken: Another anchor of this number, or a later one, is kept; nothing was written.
            Temporary: The place is away; nothing was kept, unless the answer was lost.
            Permanent: The place refuses, or is not usable.
        """
        ...

    def latest(self) -> str | None:
        """The anchor of the highest number; ``None`` when none is kept.

        Raises:
            Temporary: The place is away.
            Permanent: The place refuses, or is not usable.
        """
        ...

    def kept(self) -> Iterable[str]:
        """All anchors, oldest first; empty when none is kept. What somebody damaged is returned as it is.

        A place that cannot be read from (a command) gives back the copies that were made beside it.

        Raises:
            Temporary: The place is away.
            Permanent: The place refuses, or is not usable.
        """
        ...
