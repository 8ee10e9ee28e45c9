"""What the controller sees of the world. Nothing here records, decides or acts."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import TypeVar

from ..ports.agenda import Agenda
from ..ports.compute import Compute, RunState
from ..ports.data import DataSource, Snapshot, SnapshotRequest
from ..ports.drift import DriftDetector
from ..ports.errors import AutoRetrainError, LeaseLost, Overtaken, Temporary
from ..ports.ledger import Ledger
from ..ports.metrics import MetricQuery, MetricSource
from ..ports.notifier import Notifier
from ..ports.observations import Observations
from ..ports.outbox import Outbox
from ..ports.predictor import Predictor
from ..ports.registry import ModelRegistry, ModelVersion
from ..ports.scorer import Scorer
from ..ports.telemetry import Telemetry
from ..ports.tracking import ExperimentTracker
from ..ports.values import Pending, TimeWindow
from .decide import is_cancelled_at_rest
from .idle import situation_of
from .jobs import RetrainingJob
from .log_context import about, about_model
from .plan import (
    ChampionSeen,
    DataSeen,
    IdleSeen,
    NothingSeen,
    Phase,
    RunSeen,
    ScoresSeen,
    Seen,
    Trouble,
    phase_of,
)
from .spec import ModelSpec
from .state import ModelState
from .triggers import CustomAnswer, CustomQuery, DriftQuery, Missing, Observation, Query, Rule

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

CustomTrigger = Callable[[str], tuple[bool, str]]
"""A trigger of the user's own: called with a model's name, it says whether to retrain it, and why."""


@dataclass(frozen=True)
class Ports:
    """Everything the controller asks of the world."""

    ledger: Ledger
    agenda: Agenda
    outbox: Outbox
    observations: Observations
    metrics: MetricSource
    drift: DriftDetector
    data: DataSource
    compute: Compute
    registry: ModelRegistry
    tracker: ExperimentTracker
    predictor: Predictor
    scorer: Scorer
    notifier: Notifier
    telemetry: Telemetry


@dataclass
class Tally:
    """Counts of one tick, for telemetry.

    Attributes:
        verdicts: By (trigger, answer).
        events: Entries by (model, kind).
        errors: By part of the world.
        metrics: Latest value by (model, metric).
    """

    verdicts: Counter[tuple[str, str]] = field(default_factory=Counter)
    events: Counter[tuple[str, str]] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    metrics: dict[tuple[str, str], float] = field(default_factory=dict)


class World:
    """Reads, through the ports, what a model's state needs to be decided upon.

    Args:
        ports: The world.
        fleet: Settings by model name.
        rules: Combined trigger by model name.
        triggers: The user's own triggers by name.
    """

    def __init__(
        self,
        ports: Ports,
        fleet: Mapping[str, ModelSpec],
        rules: Mapping[str, Rule],
        triggers: Mapping[str, CustomTrigger],
    ) -> None:
        self._ports = ports
        self._fleet = fleet
        self._rules = rules
        self._triggers = triggers
        self.tally = Tally()

    def ask(self, part: str, question: Callable[[], _T]) -> _T | Trouble:
        """Put a question to the world; what goes wrong is an answer, too.

        Args:
            part: The part of the world, for counting errors.
            question: The call.

        Returns:
            What the call returned, or the trouble it met.

        Raises:
            Overtaken: Passed on, since they are about the ledger and not about the world.
            LeaseLost: Likewise.
        """
        try:
            return question()
        except (Overtaken, LeaseLost):
            raise
        except AutoRetrainError as error:
            self.tally.errors[part] += 1
            return Trouble(str(error), isinstance(error, Temporary), getattr(error, "retry_after", None))
        except Exception as error:  # one adapter's fault must not stop the other models
            _log.exception("unexpected error (%s)", part)
            self.tally.errors[part] += 1
            return Trouble(f"unexpected {type(error).__name__}: {error}", temporary=True)

    def look(self, states: Iterable[ModelState], now: datetime) -> dict[str, Seen]:
        """Look at the world as each state needs it; idle models are read together.

        Args:
            states: States of different models.
            now: Time of the look.

        Returns:
            What was seen, by model.
        """
        seen: dict[str, Seen] = {}
        idle = []
        for state in states:
            if phase_of(state) is Phase.IDLE:
                idle.append(state)
            else:
                with about(state):
                    seen[state.model] = self.ask(phase_of(state).value, partial(self._job, state))
        return {**seen, **self.look_at_idle(idle, now)}

    def look_at_idle(
        self, states: list[ModelState], now: datetime, rules: Mapping[str, Rule] | None = None
    ) -> dict[str, IdleSeen | Trouble]:
        """Read champions, metrics and drift of idle models: one call a port where the port takes many.

        Args:
            states: States of different models.
            now: Time of the look.
            rules: What to read for, by model; ``None`` takes each model's own rule.

        Returns:
            What was seen, by model.
        """
        if not states:
            return {}
        names = [state.model for state in states]
        answered = self._champions(names)
        blind = {name: answer for name, answer in answered.items() if isinstance(answer, Trouble)}
        champions = {name: answer for name, answer in answered.items() if not isinstance(answer, Trouble)}
        states = [state for state in states if state.model not in blind]
        asked = rules or {s.model: self._rules[s.model] for s in states if s.start is None}
        needs = {s.model: _needs(asked.get(s.model), s, champions.get(s.model), now) for s in states}
        every = [query for queries in needs.values() for query in queries]
        metrics = self._read_metrics([query for query in every if isinstance(query, MetricQuery)])
        answers: dict[Query, Observation] = {
            query: metrics[query] if isinstance(query, MetricQuery) else self._observe(query)
            for query in every
        }
        looked = {
            model: IdleSeen(champions.get(model), {query: answers[query] for query in queries})
            for model, queries in needs.items()
        }
        return {**looked, **blind}

    def _champions(self, names: list[str]) -> Mapping[str, ModelVersion | Trouble]:
        """Who serves, by model; one that cannot be read for good must not cost the others their look."""
        found = self.ask("registry", lambda: self._ports.registry.champions(names))
        if not isinstance(found, Trouble):
            return found
        if found.temporary or len(names) == 1:
            return {name: found for name in names}  # noqa: C420  (mypy cannot infer fromkeys here)
        return {name: answer for each in names for name, answer in self._champions([each]).items()}

    def _job(self, state: ModelState) -> Seen:
        phase, job = phase_of(state), state.open_job
        if phase in (Phase.ROLLBACK, Phase.DEPLOYMENT):
            return ChampionSeen(self._ports.registry.champions([state.model]).get(state.model))
        if job is None or phase is Phase.APPROVAL or is_cancelled_at_rest(state):
            return NothingSeen()
        if phase is Phase.DATA:
            return DataSeen(
                self._rows(job.model_name, job.training_window, labelled=True),
                self._rows(job.model_name, job.holdout_window, labelled=True),
            )
        return self._run(job) if phase is Phase.TRAINING else self._scores(job)

    def _run(self, job: RetrainingJob) -> RunSeen:
        status = self._ports.compute.observe(job.run_key)
        if not status.state.ended:
            return RunSeen(status)
        succeeded = status.state is RunState.SUCCEEDED and not job.cancelled_by
        candidate = self._ports.registry.candidate(job.model_name, job.job_id) if succeeded else None
        return RunSeen(status, candidate, self._ports.compute.log_tail(job.run_key))

    def _scores(self, job: RetrainingJob) -> ScoresSeen:
        candidate, holdout = job.candidate, job.holdout
        assert candidate is not None and holdout is not None  # noqa: S101, PT018  (validation follows both)
        # Both are asked for before either is waited for, so that they are computed side by side.
        new = self._ports.predictor.predict(candidate, holdout)
        old = self._ports.predictor.predict(job.champion, holdout) if job.champion else None
        if isinstance(new, Pending) or isinstance(old, Pending):
            return ScoresSeen(Pending("predictions are being computed"))
        scores = self._ports.scorer.score(self._fleet[job.model_name].scoring, holdout, new, old)
        metrics = {name: value for name, value in scores.candidate.items() if value is not None}
        self._ports.tracker.annotate(candidate, metrics, {"autoretrain.holdout_sha256": holdout.sha256})
        return ScoresSeen(scores)

    def _read_metrics(self, queries: list[MetricQuery]) -> Mapping[MetricQuery, Observation]:
        if not queries:
            return {}
        answers = self.ask(
            "metrics", lambda: dict(zip(queries, self._ports.metrics.read(queries), strict=True))
        )
        if isinstance(answers, Trouble):
            return {query: Missing(answers.reason) for query in queries}
        for query, answer in answers.items():
            if answer.value is not None:
                self.tally.metrics[query.model, query.metric] = answer.value
        return dict(answers.items())

    def _observe(self, query: DriftQuery | CustomQuery) -> Observation:
        with about_model(query.model):
            return self._observed(query)

    def _observed(self, query: DriftQuery | CustomQuery) -> Observation:
        if isinstance(query, CustomQuery):
            said = self.ask(query.name, lambda: self._asked(query))
            return Missing(said.reason) if isinstance(said, Trouble) else said
        compared = self.ask("drift", lambda: self._compare(query))
        return Missing(compared.reason) if isinstance(compared, Trouble) else compared

    def _asked(self, query: CustomQuery) -> CustomAnswer:
        fired, reason = self._triggers[query.name](query.model)
        return CustomAnswer(bool(fired), str(reason))

    def _compare(self, query: DriftQuery) -> Observation:
        reference = self._rows(query.model, query.reference, labelled=False)
        current = self._rows(query.model, query.current, labelled=False)
        for name, snapshot in (("reference", reference), ("current", current)):
            if snapshot.rows == 0:
                return Missing(f"the {name} window has no rows")
        return self._ports.drift.compare(reference, current)

    def _rows(self, model: str, window: TimeWindow, labelled: bool) -> Snapshot:
        return self._ports.data.snapshot(SnapshotRequest(model, window, labelled))


def _needs(
    rule: Rule | None, state: ModelState, champion: ModelVersion | None, now: datetime
) -> tuple[Query, ...]:
    """What to read; nothing where a person has asked for a job, since no trigger matters then."""
    return () if rule is None else rule.needs(situation_of(state, champion, now))
