"""What triggers read: live metrics, comparisons of rows, and triggers of the user's own."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..ports.data import Snapshot, SnapshotRequest
from ..ports.metrics import MetricQuery, MetricWindow
from ..ports.values import TimeWindow
from .asking import Question
from .log_context import about_model
from .plan import Trouble
from .state import ModelState
from .triggers import CustomAnswer, CustomQuery, DriftQuery, Missing, Observation, Query
from .world import AWAITED, World, key_of

CustomTrigger = Callable[[str], tuple[bool, str]]
"""A trigger of the user's own: called with a model's name, it says whether to retrain it, and why."""


class TriggerLooks:
    """Looks at what triggers read.

    Args:
        world: What is asked.
        triggers: The user's own triggers by name.
    """

    def __init__(self, world: World, triggers: Mapping[str, CustomTrigger]) -> None:
        self._world = world
        self._ports = world.ports
        self._triggers = triggers

    def observed(
        self, states: Sequence[ModelState], needs: Mapping[str, tuple[Query, ...]]
    ) -> dict[Query, Observation]:
        """Read all metrics in one call, and comparisons and own triggers side by side.

        Args:
            states: States of different models.
            needs: What to read, by model.

        Returns:
            Observations by query.
        """
        keys = {query: _query_key(query, state) for state in states for query in needs[state.model]}
        metrics = {query: key for query, key in keys.items() if isinstance(query, MetricQuery)}
        questions = [self.metrics_question(metrics)] if metrics else []
        questions += [
            self._question(query, key) for query, key in keys.items() if not isinstance(query, MetricQuery)
        ]
        answers = self._world.put(questions)
        return {query: self._observation(query, answers.get(key, AWAITED)) for query, key in keys.items()}

    def metrics_question(self, keys: Mapping[MetricQuery, Hashable]) -> Question:
        """Ask for many metrics at once, each under the key that is given with it."""
        queries = {key: query for query, key in keys.items()}

        def ask(keys: tuple[Hashable, ...]) -> Mapping[Hashable, Any]:
            windows = self._ports.metrics.read([queries[key] for key in keys])
            return dict(zip(keys, windows, strict=True))

        return Question("metrics", tuple(queries), ask)

    def _observation(self, query: Query, answer: Any) -> Observation:
        if isinstance(answer, Trouble):
            return Missing(answer.reason)
        if isinstance(query, MetricQuery) and isinstance(answer, MetricWindow):
            if answer.value is not None:
                self._world.tally.metrics[query.model, query.metric] = answer.value
            return replace(answer, query=query)  # one that came late was asked a moment earlier
        observation: Observation = answer
        return observation

    def _question(self, query: DriftQuery | CustomQuery, key: Hashable) -> Question:
        def ask(keys: tuple[Hashable, ...]) -> Mapping[Hashable, Observation]:
            with about_model(query.model):
                asked = self._asked(query) if isinstance(query, CustomQuery) else self._compare(query)
                return {key: asked}

        return Question(query.name if isinstance(query, CustomQuery) else "drift", (key,), ask)

    def _asked(self, query: CustomQuery) -> CustomAnswer:
        fired, reason = self._triggers[query.name](query.model)
        return CustomAnswer(bool(fired), str(reason))

    def _compare(self, query: DriftQuery) -> Observation:
        reference = self._rows(query.model, query.reference)
        current = self._rows(query.model, query.current)
        for name, snapshot in (("reference", reference), ("current", current)):
            if snapshot.rows == 0:
                return Missing(f"the {name} window has no rows")
        return self._ports.drift.compare(reference, current)

    def _rows(self, model: str, window: TimeWindow) -> Snapshot:
        return self._ports.data.snapshot(SnapshotRequest(model, window, labelled=False))


def _query_key(query: Query, state: ModelState) -> Hashable:
    match query:
        case MetricQuery():
            return key_of("metric", state, query.metric)
        case DriftQuery():
            return key_of("drift", state)
        case CustomQuery():
            return key_of("own", state, query.name)
