"""What the controller sees of the world. Nothing here records, decides or acts."""

from __future__ import annotations

import logging
import traceback
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from ..ports.agenda import Agenda
from ..ports.compute import Compute, RunState
from ..ports.credentials import without_credentials
from ..ports.data import DataSource, Snapshot, SnapshotRequest
from ..ports.drift import DriftDetector
from ..ports.errors import AutoRetrainError, LeaseLost, Overtaken, SplitMoved, Temporary
from ..ports.inspector import Inspector
from ..ports.ledger import Ledger
from ..ports.limits import Limits
from ..ports.metrics import MetricQuery, MetricSource, MetricWindow
from ..ports.notifier import Notifier
from ..ports.observations import Observations
from ..ports.outbox import Outbox
from ..ports.predictor import Predictor
from ..ports.registry import ModelRegistry, ModelVersion
from ..ports.scorer import Scorer
from ..ports.telemetry import EndedJob, Telemetry
from ..ports.tracking import ExperimentTracker
from ..ports.traffic import TrafficRouter
from ..ports.values import Pending, TimeWindow
from .asking import Crew, InTurn, Question
from .canary import is_stopped
from .canary_state import Canary
from .decide import TRAFFIC, is_cancelled_at_rest
from .idle import settle_champion, situation_of
from .jobs import RetrainingJob
from .limits import Ration, exhausted
from .log_context import about, about_model
from .plan import (
    RETRY,
    ChampionSeen,
    DataSeen,
    IdleSeen,
    NothingSeen,
    Phase,
    RunSeen,
    ScoresSeen,
    Seen,
    TrafficSeen,
    Trouble,
    WatchSeen,
    phase_of,
)
from .spec import ModelSpec
from .state import ModelState
from .superseding import may_be_superseded
from .triggers import CustomAnswer, CustomQuery, DriftQuery, Missing, Observation, Query, Rule
from .watch_looks import WatchLooks

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_WATCHED = frozenset({Phase.DATA, Phase.TRAINING, Phase.VALIDATION, Phase.APPROVAL, Phase.CANARY})
"""Phases of an open job in which nothing else looks at the champion alias."""

CustomTrigger = Callable[[str], tuple[bool, str]]
"""A trigger of the user's own: called with a model's name, it says whether to retrain it, and why."""


@dataclass(frozen=True)
class Ports:
    """Everything the controller asks of the world."""

    ledger: Ledger
    agenda: Agenda
    limits: Limits
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
    inspector: Inspector
    router: TrafficRouter | None = None


def router_of(ports: Ports) -> TrafficRouter:
    """The traffic router.

    Raises:
        Temporary: There is none. A canary that goes on may still have its split in force somewhere.
    """
    if ports.router is None:
        raise Temporary("no traffic router is set up; set traffic.router in the settings")
    return ports.router


@dataclass
class Tally:
    """Counts of one tick, for telemetry.

    Attributes:
        verdicts: By (trigger, answer).
        events: Entries by (model, kind).
        jobs: Those that ended.
        errors: By part of the world.
        metrics: Latest value by (model, metric).
    """

    verdicts: Counter[tuple[str, str]] = field(default_factory=Counter)
    events: Counter[tuple[str, str]] = field(default_factory=Counter)
    jobs: list[EndedJob] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    metrics: dict[tuple[str, str], float] = field(default_factory=dict)


class World:
    """Reads, through the ports, what a model's state needs to be decided upon.

    Args:
        ports: The world.
        fleet: Settings by model name.
        rules: Combined trigger by model name.
        rations: What the limits across models allow, by model name.
        triggers: The user's own triggers by name.
        crew: Puts the questions.
    """

    def __init__(
        self,
        ports: Ports,
        fleet: Mapping[str, ModelSpec],
        rules: Mapping[str, Rule],
        rations: Mapping[str, Ration],
        triggers: Mapping[str, CustomTrigger],
        crew: Crew | None = None,
    ) -> None:
        self._ports = ports
        self._fleet = fleet
        self._rules = rules
        self._rations = rations
        self._triggers = triggers
        self._crew = crew or InTurn()
        self._looks = WatchLooks(fleet)
        self._watch_from: datetime | None = None  # where the registry was away when we last watched
        self.tally = Tally()

    # -- putting questions --------------------------------------------------------------------------------

    def ask(self, part: str, question: Callable[[], _T]) -> _T | Trouble:
        """Put a quick question to the world; what goes wrong is an answer, too.

        Args:
            part: The part of the world, for counting errors.
            question: The call.

        Returns:
            What the call returned, or the trouble it met.

        Raises:
            Overtaken: Passed on, since they are about the ledger and not about the world.
            LeaseLost: Likewise.
        """
        answer = _guarded(part, question)
        if isinstance(answer, Trouble):
            self.tally.errors[part] += 1
        return answer

    def put(self, questions: Sequence[Question]) -> Mapping[Hashable, Any]:
        """Put questions that may take long, side by side, and count the troubles that they met.

        Returns:
            Answers by key; a key is absent as long as its answer is on the way.
        """
        answers = self._crew.put([replace(each, ask=partial(_answered, each)) for each in questions])
        for question in questions:
            met = {id(found) for key in question.keys if isinstance(found := answers.get(key), Trouble)}
            if met:
                self.tally.errors[question.part] += len(met)
        return answers

    def ask_in_time(self, part: str, key: Hashable, question: Callable[[], _T]) -> _T | Trouble | Pending:
        """Put a question that may take long; ``Pending`` as long as its answer is on the way."""
        answers = self.put([Question(part, (key,), lambda _: {key: question()})])
        answer: _T | Trouble | Pending = answers.get(key, _AWAITED)
        return answer

    # -- looking ------------------------------------------------------------------------------------------

    def look(
        self, states: Iterable[ModelState], now: datetime, watch: bool = True, triggers: bool = True
    ) -> dict[str, Seen | Pending]:
        """Look at the world as each state needs it; idle models are read together.

        Args:
            states: States of different models.
            now: Time of the look.
            watch: Whether to look at the aliases of models with an open job, too: a move is seen then, in
                place of what the job waits for.
            triggers: Whether a trigger may open a job in place of one that waits for a person.

        Returns:
            What was seen, by model; ``Pending`` where the world takes its time.
        """
        states = list(states)
        idle = [state for state in states if phase_of(state) is Phase.IDLE]
        busy = [state for state in states if phase_of(state) is not Phase.IDLE]
        pending, others = self._giving_way(busy, now) if triggers else ([], busy)
        watched = self._watched(others, now) if watch else []
        beside = [*idle, *pending, *watched]
        batches = self._looks.queries(beside, now)
        questions = [*self._champions_question(beside), *(self._job_question(state, now) for state in busy)]
        questions += self._splits_questions(idle)
        questions += [self._metrics_question(batches)] if batches else []
        answers = self.put(questions)
        seen = {state.model: answers.get(_key("job", state), _AWAITED) for state in busy}
        strays = self._strays(watched, answers, now)
        watching = self._watches(beside, answers, now)
        resting = [state for state in (*idle, *pending) if state.model not in watching]
        looked = self._look_at_idle(resting, answers, now, self._own_rules(resting))
        for state in pending:
            if isinstance(looked.get(state.model), Trouble):
                del looked[state.model]  # nobody can say who serves: the job waits on, for people alone
        return {**seen, **strays, **looked, **watching}

    def _giving_way(
        self, states: list[ModelState], now: datetime
    ) -> tuple[list[ModelState], list[ModelState]]:
        """Models whose waiting job a trigger may end, and the others."""
        gives_way = [may_be_superseded(self._fleet[state.model], state, now) for state in states]
        pairs = list(zip(states, gives_way, strict=True))
        return [state for state, gives in pairs if gives], [state for state, gives in pairs if not gives]

    def _watched(self, states: list[ModelState], now: datetime) -> list[ModelState]:
        """Models with an open job whose alias is looked at as well.

        A job needs no registry while it trains: one that is away is left alone for a while.
        """
        resting = self._watch_from is not None and now < self._watch_from
        return [] if resting else [state for state in states if phase_of(state) in _WATCHED]

    def _strays(
        self, states: list[ModelState], answers: Mapping[Hashable, Any], now: datetime
    ) -> dict[str, ChampionSeen]:
        """Aliases of models with an open job that are not where the ledger has them."""
        found = {state.model: answers.get(_key("champion", state), _AWAITED) for state in states}
        away = any(isinstance(answer, Trouble) and answer.temporary for answer in found.values())
        self._watch_from = now + RETRY if away else self._watch_from
        known = [state for state in states if not isinstance(found[state.model], Trouble | Pending)]
        return {
            state.model: ChampionSeen(found[state.model])
            for state in known
            if settle_champion(self._fleet[state.model], state, found[state.model])
        }

    def _watches(
        self, states: list[ModelState], answers: Mapping[Hashable, Any], now: datetime
    ) -> dict[str, WatchSeen | Pending]:
        """Watches that have something to record, where it is known that their version serves."""
        found = {state.model: answers.get(_key("champion", state), _AWAITED) for state in states}
        seen = {
            state.model: self._looks.seen(state, answers, now)
            for state in states
            if not isinstance(found[state.model], Trouble | Pending)
            and not settle_champion(self._fleet[state.model], state, found[state.model])
        }
        return {model: each for model, each in seen.items() if each is not None}

    def look_at_idle(
        self, states: list[ModelState], now: datetime, rules: Mapping[str, Rule]
    ) -> dict[str, IdleSeen | Trouble | Pending]:
        """Read champions, metrics and drift of idle models: one call a port where the port takes many.

        Args:
            states: States of different models.
            now: Time of the look.
            rules: What to read for, by model.

        Returns:
            What was seen, by model.
        """
        asked = [*self._champions_question(states), *self._splits_questions(states)]
        return self._look_at_idle(states, self.put(asked), now, rules)

    def _own_rules(self, states: list[ModelState]) -> Mapping[str, Rule]:
        """Rules to read for; none where a person has asked for a job, since no trigger matters then."""
        return {state.model: self._rules[state.model] for state in states if state.start is None}

    def _look_at_idle(
        self,
        states: list[ModelState],
        answers: Mapping[Hashable, Any],
        now: datetime,
        rules: Mapping[str, Rule],
    ) -> dict[str, IdleSeen | Trouble | Pending]:
        who = {state.model: answers.get(_key("champion", state), _AWAITED) for state in states}
        blind = {model: answer for model, answer in who.items() if isinstance(answer, Trouble | Pending)}
        states = [state for state in states if state.model not in blind]
        needs = {
            state.model: rules[state.model].needs(situation_of(state, who[state.model], now))
            if state.model in rules
            else ()
            for state in states
        }
        observed = self._observed(states, needs)
        spent = self.exhausted(states, now)
        splits = {state.model: answers.get(_key("split", state)) for state in states}
        looked = {
            model: IdleSeen(
                who[model],
                {query: observed[query] for query in queries},
                spent.get(model, ""),
                split.split if isinstance(split := splits[model], TrafficSeen) else None,
            )
            for model, queries in needs.items()
        }
        return {**looked, **blind}

    def exhausted(self, states: list[ModelState], now: datetime) -> dict[str, str]:
        """Which limit across models leaves no job today, by model; empty where none does.

        Args:
            states: States of different models.
            now: Time of the look.
        """
        units = {
            state.model: self._rations[state.model].of_a_day(now) for state in states if state.start is None
        }
        every = list(dict.fromkeys(unit for each in units.values() for unit in each))
        if not every:
            return {}
        used = dict(zip(every, self._ports.limits.used(every), strict=True))
        return {model: exhausted(each, [used[unit] for unit in each]) for model, each in units.items()}

    # -- champions ----------------------------------------------------------------------------------------

    def _champions_question(self, states: Sequence[ModelState]) -> list[Question]:
        models = {_key("champion", state): state.model for state in states}
        if not models:
            return []

        def ask(keys: tuple[Hashable, ...]) -> Mapping[Hashable, Any]:
            found = self._champions([models[key] for key in keys])
            return {key: found.get(models[key]) for key in keys}

        return [Question("registry", tuple(models), ask)]

    def _champions(self, names: list[str]) -> Mapping[str, ModelVersion | Trouble]:
        """Who serves, by model; one that cannot be read for good must not cost the others their look."""
        found = _guarded("registry", lambda: self._ports.registry.champions(names))
        if not isinstance(found, Trouble):
            return found
        if found.temporary or len(names) == 1:
            return {name: found for name in names}  # noqa: C420  (mypy cannot infer fromkeys here)
        return {name: answer for each in names for name, answer in self._champions([each]).items()}

    # -- traffic ------------------------------------------------------------------------------------------

    def _splits_questions(self, states: Sequence[ModelState]) -> list[Question]:
        """What the requests of models with canaries are under; one that cannot be read holds up nothing."""
        return [
            self._split_question(_key("split", state), state.model)
            for state in states
            if self._fleet[state.model].canary.steps
        ]

    def _split_question(self, key: Hashable, model: str) -> Question:
        return Question("traffic", (key,), lambda _: {key: self._in_force(model)})

    # -- open jobs ----------------------------------------------------------------------------------------

    def _job_question(self, state: ModelState, now: datetime) -> Question:
        key = _key("job", state)

        def ask(keys: tuple[Hashable, ...]) -> Mapping[Hashable, Seen | Pending]:
            with about(state):
                return {key: self._job(state, now)}

        return Question(phase_of(state).value, (key,), ask)

    def _job(self, state: ModelState, now: datetime) -> Seen | Pending:
        phase, job = phase_of(state), state.open_job
        if phase in (Phase.ROLLBACK, Phase.DEPLOYMENT):
            return ChampionSeen(self._ports.registry.champions([state.model]).get(state.model))
        if job is None or phase is Phase.APPROVAL or is_cancelled_at_rest(state):
            return NothingSeen()
        if phase in TRAFFIC:
            return self._traffic(state, job, now)
        if phase is Phase.DATA:
            return DataSeen(
                self._rows(job.model_name, job.training_window, labelled=True),
                self._rows(job.model_name, job.holdout_window, labelled=True),
            )
        return self._run(job) if phase is Phase.TRAINING else self._scores(job)

    def _traffic(self, state: ModelState, job: RetrainingJob, now: datetime) -> Seen | Pending:
        """What the requests are under, and what both arms got since the last look."""
        goes_on = phase_of(state) is Phase.CANARY
        if goes_on and is_stopped(state):
            return NothingSeen()
        seen, canary = self._in_force(state.model), job.canary
        if canary is None or not goes_on or seen.foreign or seen.split != canary.split:
            return seen
        answers = self.ask("metrics", lambda: self._arms(job, canary, now))
        if isinstance(answers, Trouble):
            return replace(seen, unread=answers.reason)
        if any(answer.pending for answer in answers):
            return Pending("the arms are being measured")
        return replace(seen, batches=tuple(zip(answers[::2], answers[1::2], strict=True)))

    def _arms(self, job: RetrainingJob, canary: Canary, now: datetime) -> Sequence[MetricWindow]:
        """Candidate's and champion's arm by turns, over each batch that is due."""
        arms = ((canary.plan.candidate, job.candidate), (canary.plan.baseline, job.champion))
        queries = [
            MetricQuery(job.model_name, metric, window, version)
            for window in canary.due_batches(now)
            for metric, version in arms
        ]
        return self._ports.metrics.read(queries) if queries else ()

    def _in_force(self, model: str) -> TrafficSeen:
        """The split in force, or in words what somebody else put there that is none."""
        try:
            return TrafficSeen(router_of(self._ports).in_force(model))
        except SplitMoved as moved:
            return TrafficSeen(None, moved.found)

    def _run(self, job: RetrainingJob) -> RunSeen:
        status = self._ports.compute.observe(job.run_key)
        if not status.state.ended:
            return RunSeen(status)
        succeeded = status.state is RunState.SUCCEEDED and not job.cancelled_by
        candidate = self._ports.registry.candidate(job.model_name, job.job_id) if succeeded else None
        return RunSeen(status, candidate, self._ports.compute.log_tail(job.run_key))

    def _scores(self, job: RetrainingJob) -> ScoresSeen:
        candidate, training, holdout = job.candidate, job.training, job.holdout
        assert candidate is not None and training is not None and holdout is not None  # noqa: S101, PT018  (validation follows them)
        # Both are asked for before either is waited for, so that they are computed side by side.
        new = self._ports.predictor.predict(candidate, holdout)
        old = self._ports.predictor.predict(job.champion, holdout) if job.champion else None
        if isinstance(new, Pending) or isinstance(old, Pending):
            return ScoresSeen(Pending("predictions are being computed"))
        spec = self._fleet[job.model_name]
        scores = self._ports.scorer.score(spec.scoring, holdout, new, old)
        inspection = self._ports.inspector.inspect(spec.inspection, training, holdout, new, old)
        metrics = {name: value for name, value in scores.candidate.items() if value is not None}
        self._ports.tracker.annotate(candidate, metrics, {"autoretrain.holdout_sha256": holdout.sha256})
        return ScoresSeen(scores, inspection, new.effort, old.effort if old else None)

    # -- observations -------------------------------------------------------------------------------------

    def _observed(
        self, states: Sequence[ModelState], needs: Mapping[str, tuple[Query, ...]]
    ) -> dict[Query, Observation]:
        """Observations by query: all metrics in one call, comparisons and own triggers side by side."""
        keys = {query: _query_key(query, state) for state in states for query in needs[state.model]}
        metrics = {query: key for query, key in keys.items() if isinstance(query, MetricQuery)}
        questions = [self._metrics_question(metrics)] if metrics else []
        questions += [
            self._question(query, key) for query, key in keys.items() if not isinstance(query, MetricQuery)
        ]
        answers = self.put(questions)
        return {query: self._observation(query, answers.get(key, _AWAITED)) for query, key in keys.items()}

    def _observation(self, query: Query, answer: Any) -> Observation:
        if isinstance(answer, Trouble):
            return Missing(answer.reason)
        if isinstance(query, MetricQuery) and isinstance(answer, MetricWindow):
            if answer.value is not None:
                self.tally.metrics[query.model, query.metric] = answer.value
            return replace(answer, query=query)  # one that came late was asked a moment earlier
        observation: Observation = answer
        return observation

    def _metrics_question(self, keys: Mapping[MetricQuery, Hashable]) -> Question:
        queries = {key: query for query, key in keys.items()}

        def ask(keys: tuple[Hashable, ...]) -> Mapping[Hashable, Any]:
            windows = self._ports.metrics.read([queries[key] for key in keys])
            return dict(zip(keys, windows, strict=True))

        return Question("metrics", tuple(queries), ask)

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
        reference = self._rows(query.model, query.reference, labelled=False)
        current = self._rows(query.model, query.current, labelled=False)
        for name, snapshot in (("reference", reference), ("current", current)):
            if snapshot.rows == 0:
                return Missing(f"the {name} window has no rows")
        return self._ports.drift.compare(reference, current)

    def _rows(self, model: str, window: TimeWindow, labelled: bool) -> Snapshot:
        return self._ports.data.snapshot(SnapshotRequest(model, window, labelled))


_AWAITED = Pending("the answer is on its way")


def _key(what: str, state: ModelState, *more: str) -> Hashable:
    """Identity of a question about a state, so that no answer is used for another state."""
    return (what, state.model, state.head.seq, *more)


def _query_key(query: Query, state: ModelState) -> Hashable:
    match query:
        case MetricQuery():
            return _key("metric", state, query.metric)
        case DriftQuery():
            return _key("drift", state)
        case CustomQuery():
            return _key("own", state, query.name)


def _answered(question: Question, keys: tuple[Hashable, ...]) -> Mapping[Hashable, Any]:
    """Answers of a question; trouble that it met is the answer to all of its keys."""
    answers = _guarded(question.part, lambda: question.ask(keys))
    return {key: answers for key in keys} if isinstance(answers, Trouble) else answers  # noqa: C420


def _guarded(part: str, question: Callable[[], _T]) -> _T | Trouble:
    try:
        return question()
    except (Overtaken, LeaseLost):
        raise
    except AutoRetrainError as error:
        return Trouble(str(error), isinstance(error, Temporary), getattr(error, "retry_after", None))
    except Exception as error:  # one adapter's fault must not stop the other models
        _log.error("unexpected error (%s)\n%s", part, without_credentials(traceback.format_exc()))
        text = without_credentials(f"unexpected {type(error).__name__}: {error}")
        return Trouble(text, temporary=True)
