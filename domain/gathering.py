"""What the controller sees of the world at a look. Nothing here records, decides or acts."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from ..ports.registry import ModelVersion
from ..ports.values import Pending
from .asking import Question
from .idle import settle_champion, situation_of
from .job_looks import JobLooks
from .limits import Ration, exhausted
from .plan import RETRY, ChampionSeen, IdleSeen, Phase, Seen, TrafficSeen, Trouble, WatchSeen, phase_of
from .spec import ModelSpec
from .state import ModelState
from .superseding import may_be_superseded
from .trigger_looks import CustomTrigger, TriggerLooks
from .triggers import Rule
from .watch_looks import WatchLooks
from .world import AWAITED, World, guarded, key_of

_WATCHED = frozenset({Phase.DATA, Phase.TRAINING, Phase.VALIDATION, Phase.APPROVAL, Phase.CANARY})
"""Phases of an open job in which nothing else looks at the champion alias."""


class Gathering:
    """Gathers, in few questions, what the states of many models need to be decided upon.

    Args:
        world: What is asked.
        fleet: Settings by model name.
        rules: Combined trigger by model name.
        rations: What the limits across models allow, by model name.
        triggers: The user's own triggers by name.
    """

    def __init__(
        self,
        world: World,
        fleet: Mapping[str, ModelSpec],
        rules: Mapping[str, Rule],
        rations: Mapping[str, Ration],
        triggers: Mapping[str, CustomTrigger],
    ) -> None:
        self._world = world
        self._ports = world.ports
        self._fleet = fleet
        self._rules = rules
        self._rations = rations
        self._jobs = JobLooks(world, fleet)
        self._triggers = TriggerLooks(world, triggers)
        self._watching = WatchLooks(fleet)
        self._watch_from: datetime | None = None  # where the registry was away when we last watched

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
        batches = self._watching.queries(beside, now)
        questions = [*self._champions_question(beside), *(self._jobs.question(state, now) for state in busy)]
        questions += self._splits_questions(idle)
        questions += [self._triggers.metrics_question(batches)] if batches else []
        answers = self._world.put(questions)
        seen = {state.model: answers.get(key_of("job", state), AWAITED) for state in busy}
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
        found = {state.model: answers.get(key_of("champion", state), AWAITED) for state in states}
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
        found = {state.model: answers.get(key_of("champion", state), AWAITED) for state in states}
        seen = {
            state.model: self._watching.seen(state, answers, now)
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
        return self._look_at_idle(states, self._world.put(asked), now, rules)

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
        who = {state.model: answers.get(key_of("champion", state), AWAITED) for state in states}
        blind = {model: answer for model, answer in who.items() if isinstance(answer, Trouble | Pending)}
        states = [state for state in states if state.model not in blind]
        needs = {
            state.model: rules[state.model].needs(situation_of(state, who[state.model], now))
            if state.model in rules
            else ()
            for state in states
        }
        observed = self._triggers.observed(states, needs)
        spent = self.exhausted(states, now)
        splits = {state.model: answers.get(key_of("split", state)) for state in states}
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

    # -- champions and splits -----------------------------------------------------------------------------

    def _champions_question(self, states: Sequence[ModelState]) -> list[Question]:
        models = {key_of("champion", state): state.model for state in states}
        if not models:
            return []

        def ask(keys: tuple[Hashable, ...]) -> Mapping[Hashable, Any]:
            found = self._champions([models[key] for key in keys])
            return {key: found.get(models[key]) for key in keys}

        return [Question("registry", tuple(models), ask)]

    def _champions(self, names: list[str]) -> Mapping[str, ModelVersion | Trouble]:
        """Who serves, by model; one that cannot be read for good must not cost the others their look."""
        found = guarded("registry", lambda: self._ports.registry.champions(names))
        if not isinstance(found, Trouble):
            return found
        if found.temporary or len(names) == 1:
            return {name: found for name in names}  # noqa: C420  (mypy cannot infer fromkeys here)
        return {name: answer for each in names for name, answer in self._champions([each]).items()}

    def _splits_questions(self, states: Sequence[ModelState]) -> list[Question]:
        """What the requests of models with canaries are under; one that cannot be read holds up nothing."""
        return [self._jobs.split_question(state) for state in states if self._fleet[state.model].canary.steps]
