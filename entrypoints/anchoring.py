"""Anchors made: by hand, by the library, and regularly beside the loop."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from ..adapters.signing_ed25519 import Ed25519Signer
from ..domain.anchors import Anchor, AnchoredHead, anchor_of, head_of, unsigned
from ..ports.anchors import AnchorKeeper
from ..ports.errors import AutoRetrainError, Overtaken, Permanent, Refused, Temporary
from ..ports.ledger import Ledger

_log = logging.getLogger(__name__)

_MOST_TRIES = 5
_FIRST_BACK_OFF, _LONGEST_BACK_OFF = 60.0, 3600.0
_LONGEST_WAIT = 600.0  # the clock may be set meanwhile
_LAST_WAIT = 10.0


class Anchoring:
    """Makes anchors over a ledger. Not thread-safe by itself.

    Args:
        ledger: The ledger.
        keeper: Where anchors go.
        signer: Signs them.
    """

    def __init__(self, ledger: Ledger, keeper: AnchorKeeper, signer: Ed25519Signer) -> None:
        self._ledger = ledger
        self._keeper = keeper
        self._signer = signer
        self._heads: dict[str, AnchoredHead] = {}
        self._unsure: Anchor | None = None

    def make(self, now: datetime) -> Anchor:
        """Sign the heads as they are, and keep that.

        An anchor whose keeping failed before is tried again instead, as it was: it may have arrived.

        Raises:
            Refused: The ledger has no entry yet.
            Temporary: Ledger or keeper are away.
            Permanent: The keeper refuses, or its latest anchor is damaged.
        """
        for _ in range(_MOST_TRIES):
            self._unsure = anchor = self._unsure or self._next(now)
            try:
                self._keeper.keep(anchor.number, anchor.text)
            except Overtaken:
                self._unsure = None  # another process has just made one
                continue
            self._unsure = None
            return anchor
        raise Temporary("other processes make anchors at the same time")

    def settle(self) -> None:
        """Keep the latest anchor once more: a keeper that could not pass it on before its end does so now."""
        latest = latest_anchor(self._keeper)
        if latest is not None:
            self._keeper.keep(latest.number, latest.text)

    def due_in(self, every: timedelta, now: datetime) -> timedelta:
        """How long until the next anchor is due; zero or less when it is."""
        latest = None if self._unsure else latest_anchor(self._keeper)
        if latest is None:
            return timedelta(0)
        return every - abs(now - datetime.fromisoformat(latest.at))  # a clock that was set back hides none

    def _next(self, now: datetime) -> Anchor:
        before = latest_anchor(self._keeper)
        anchor = unsigned(before, self._read_heads(), now, self._signer.key)
        return anchor.signed(self._signer.sign(anchor.statement))

    def _read_heads(self) -> list[AnchoredHead]:
        """The ends of all streams, of which only what is new is read."""
        for model in self._ledger.models():
            known = self._heads.get(model)
            for entry in self._ledger.read(model, known.seq if known else 0)[-1:]:
                self._heads[model] = head_of(entry)
        if not self._heads:
            raise Refused("the ledger has no entry yet, so there is nothing to anchor")
        return list(self._heads.values())


def latest_anchor(keeper: AnchorKeeper) -> Anchor | None:
    """The latest anchor that is kept; ``None`` when there is none.

    Raises:
        Permanent: It cannot be read.
    """
    text = keeper.latest()
    try:
        return None if text is None else anchor_of(text)
    except ValueError as error:
        raise Permanent(f"the latest anchor that is kept cannot be used: {error}") from None


class RegularAnchors:
    """Makes an anchor every so many hours, in a thread of its own. A context manager.

    Neither a slow keeper nor one that fails delays the loop. An anchor that is being made at the end has ten
    seconds more; what a keeper has not passed on by then, it does at the next start.

    Args:
        build: Makes the ``Anchoring``; called in the thread, and again until it succeeds.
        every: Time between two anchors.
        clock: The time.
    """

    def __init__(
        self,
        build: Callable[[], Anchoring],
        every: timedelta,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._build = build
        self._every = every
        self._clock = clock
        self._anchoring: Anchoring | None = None
        self._failures = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="anchors", daemon=True)
        self.trouble = ""
        """Why the last anchor could not be made; empty when nothing is wrong."""

    def __enter__(self) -> RegularAnchors:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(_LAST_WAIT)

    def _run(self) -> None:
        while not self._stop.wait(self.turn()):
            pass

    def turn(self) -> float:
        """Make an anchor if it is due.

        Returns:
            Seconds until the next turn.
        """
        try:
            left = self._make_if_due().total_seconds()
        except Refused:
            return _FIRST_BACK_OFF
        except Exception as error:
            return self._failed(error)
        self._failures, self.trouble = 0, ""
        return min(left, _LONGEST_WAIT)

    def _make_if_due(self) -> timedelta:
        if self._anchoring is None:
            anchoring = self._build()
            anchoring.settle()
            self._anchoring = anchoring
        now = self._clock()
        left = self._anchoring.due_in(self._every, now)
        if left > timedelta(0):
            return left
        anchor = self._anchoring.make(now)
        _log.info("anchor %d over %d streams is kept", anchor.number, len(anchor.heads))
        return timedelta(0)

    def _failed(self, error: Exception) -> float:
        self._failures += 1
        expected = isinstance(error, AutoRetrainError)
        self.trouble = str(error) if expected else f"unexpected {type(error).__name__}: {error}"
        _log.warning("no anchor could be made (%d in a row): %s", self._failures, self.trouble)
        back_off = _FIRST_BACK_OFF * 2.0 ** min(self._failures - 1, 10)
        return min(max(back_off, getattr(error, "retry_after", None) or 0.0), _LONGEST_BACK_OFF)
