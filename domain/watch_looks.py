"""Which batches of watches are read at a look, and what the answers to them say."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from ..ports.metrics import MetricQuery
from ..ports.values import Pending
from .plan import Phase, Trouble, WatchSeen, phase_of
from .spec import ModelSpec
from .state import ModelState
from .triggers import Missing, Observation, Query, is_pending
from .watch import Watch
from .watching import batch_queries, decide_watch

_AWAITED = Pending("a batch of the watch is being read")


class WatchLooks:
    """Looks at watches. A batch that just stayed unknown is left alone until the next regular look.

    Args:
        fleet: Settings by model name.
    """

    def __init__(self, fleet: Mapping[str, ModelSpec]) -> None:
        self._fleet = fleet
        self._rests: dict[str, tuple[Hashable, datetime]] = {}

    def queries(self, states: Iterable[ModelState], now: datetime) -> dict[MetricQuery, Hashable]:
        """What is to be read, with the identity of each question."""
        return {
            query: _key(state, query)
            for state in states
            if not self._rests_now(state, now)
            for query in batch_queries(state, now)
        }

    def seen(
        self, state: ModelState, answers: Mapping[Hashable, Any], now: datetime
    ) -> WatchSeen | Pending | None:
        """What a watch sees of its next batch.

        Args:
            state: What the ledger knows of the model; its champion is known to serve.
            answers: Answers by the identity of their question.
            now: Time of the look.

        Returns:
            What it has to record; ``Pending`` where that is being computed and nothing else waits for it;
            ``None`` where there is nothing to record.
        """
        if self._rests_now(state, now):
            return None
        read: dict[Query, Observation] = {
            query: _told(answers.get(_key(state, query), _AWAITED)) for query in batch_queries(state, now)
        }
        if is_pending(tuple(read), read):
            idle = phase_of(state) is Phase.IDLE and state.start is None
            return _AWAITED if idle else None
        spec = self._fleet[state.model]
        if decide_watch(spec, state, read, now):
            return WatchSeen(read)
        if read and state.watch is not None:
            again = now + timedelta(seconds=spec.check_every_seconds)
            self._rests[state.model] = (_batch(state.watch), again)
        return None

    def _rests_now(self, state: ModelState, now: datetime) -> bool:
        watch = state.watch
        if watch is None or now >= min(watch.gives_up_at, watch.until):
            return False  # the last chance to know it
        batch, until = self._rests.get(state.model, (None, now))
        return batch == _batch(watch) and now < until


def _batch(watch: Watch) -> Hashable:
    return (watch.job_id, watch.number)


def _key(state: ModelState, query: MetricQuery) -> Hashable:
    version = query.champion.version if query.champion else None
    return ("watch", state.model, state.head.seq, version)


def _told(answer: Any) -> Observation:
    observation: Observation = Missing(answer.reason) if isinstance(answer, Trouble) else answer
    return observation
