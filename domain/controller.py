"""The controller: claims what is due, lets the pure functions decide, records the intent, acts, looks again.

Every act is idempotent by its key, and its outcome is read from the world rather than taken from the call, so
that a crash between any two steps is repaired by the next tick.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from ..ports.agenda import Claim
from ..ports.errors import (
    DuplicateKey,
    LeaseLost,
    LimitReached,
    Overtaken,
    Permanent,
    Refused,
    UnknownModel,
)
from ..ports.ledger import Append, Entry
from ..ports.notifier import Notice, Notifier
from ..ports.observations import Look
from ..ports.telemetry import TickReport
from ..ports.values import Pending
from .acting import Acts
from .asking import Crew
from .decide import decide
from .delivery import DEFAULT, Delivered, Deliveries
from .fold import RECENT_JOBS, fold
from .gathering import Gathering
from .idle import situation_of
from .limits import LimitSettings, Ration, gives_back, owner_of
from .log_context import about, about_model, log_recorded
from .looks import since_last_change
from .notices import notices_of
from .plan import (
    POLL,
    RETRY,
    Phase,
    Plan,
    Seen,
    TrafficSeen,
    Trouble,
    phase_of,
)
from .routes import Route, addressed
from .sealing import Draft, plain, seal
from .spec import ModelSpec
from .state import ModelState
from .tally import LeaseWatch, Standing, ended_jobs, report_of
from .trigger_looks import CustomTrigger
from .trigger_types import TriggerType
from .triggers import Rule, is_pending
from .verdict import Verdict, unknown
from .world import Ports, Tally, World

_log = logging.getLogger(__name__)

_MOST_ROUNDS = 50
"""Looks at one model in a tick; a full job takes about ten. More is a fault, and waits for the next tick."""


class Controller:
    """Runs the loop over a fleet. Not thread-safe by itself: one thread at a time.

    Args:
        ports: The world.
        fleet: Settings by model name.
        holder: Identity of this process for its leases.
        monotonic: Stopwatch in seconds, for telemetry.
        lease_seconds: Life of a lease; it is renewed at a third.
        limits: What holds across models; none unless given.
        backend: Name of the compute backend, for its limits.
        prices: The highest price of an hour at which a model trains, by its name, for limits of cost.
        crew: Puts questions and acts; one after another unless given.
        triggers: The user's own triggers by name: called with a model's name, they say whether it should be
            retrained and why.
        trigger_types: What kind of trigger each of them is; custom unless said.
        routes: Which notices go to which target; all to ``ports.notifier`` unless given.
        targets: The targets of the routes, by name.
    """

    def __init__(
        self,
        ports: Ports,
        fleet: Mapping[str, ModelSpec],
        holder: str,
        *,
        monotonic: Callable[[], float],
        lease_seconds: float = 20.0,
        limits: LimitSettings | None = None,
        backend: str = "subprocess",
        prices: Mapping[str, float] | None = None,
        crew: Crew | None = None,
        triggers: Mapping[str, CustomTrigger] | None = None,
        trigger_types: Mapping[str, TriggerType] | None = None,
        routes: Sequence[Route] = (),
        targets: Mapping[str, Notifier] | None = None,
    ) -> None:
        self.ports = ports
        self.fleet = dict(fleet)
        self.holder = holder
        self._monotonic = monotonic
        self._lease_seconds = lease_seconds
        own = dict(triggers or {})
        self._kinds = {name: (trigger_types or {}).get(name, TriggerType.CUSTOM) for name in own}
        self._rules: dict[str, Rule] = {
            name: spec.combined_rule(self._kinds) for name, spec in self.fleet.items()
        }
        self._rations = {
            name: Ration.of(limits or LimitSettings(), spec, backend, (prices or {}).get(name, 0.0))
            for name, spec in self.fleet.items()
        }
        self._world = World(ports, crew)
        self._gathering = Gathering(self._world, self.fleet, self._rules, self._rations, own)
        self._routes = tuple(routes)
        self._delivery = Deliveries(
            ports.outbox,
            {**(targets or {}), DEFAULT: ports.notifier},
            self._world.ask_in_time,
            holder=holder,
            monotonic=monotonic,
        )
        self._standing, self._leases = Standing(), LeaseWatch(holder)
        self._states: dict[str, ModelState] = {}
        self._acts = Acts(ports, self.fleet, self._world.put)

    # -- what is known ------------------------------------------------------------------------------------

    def state(self, model: str) -> ModelState:
        """What the ledger knows of a model now, with the latest ``RECENT_JOBS`` jobs.

        Raises:
            Temporary: The ledger cannot be read.
        """
        known = self._states.get(model, ModelState(model))
        entries = self.ports.ledger.read(model, known.head.seq)
        return self._know(self._folded(known, entries))

    def _folded(self, state: ModelState, entries: Iterable[Entry]) -> ModelState:
        """A state with entries added; of its jobs, those that a decision may still be about."""
        spec = self.fleet.get(state.model)
        budget = spec.max_jobs_a_day if spec and spec.max_jobs_a_day else 0
        return fold(state.model, entries, state, keep_jobs=max(RECENT_JOBS, budget))

    def history(self, model: str) -> ModelState:
        """What the ledger knows of a model, with all its jobs; read anew and not remembered.

        Raises:
            Temporary: The ledger cannot be read.
        """
        return fold(model, self.ports.ledger.read(model))

    def _know(self, state: ModelState) -> ModelState:
        """Remember a state."""
        if self._states.get(state.model) is not state:
            self._states[state.model] = state
            if state.model in self.fleet:
                self._standing.note(state)
        return state

    def spec(self, model: str) -> ModelSpec:
        """Settings of a model.

        Raises:
            UnknownModel: It is not in the fleet.
        """
        if model not in self.fleet:
            known = ", ".join(sorted(self.fleet)) or "none"
            raise UnknownModel(f"there is no model {model!r} in the settings; there are: {known}")
        return self.fleet[model]

    def judge(self, model: str, now: datetime, trigger: str | None = None) -> Verdict | Pending:
        """What the triggers say of a model now. Records nothing and starts no job.

        Args:
            model: Name of the model.
            now: Time of the look.
            trigger: Name of a single trigger; ``None`` asks the model's combined rule.

        Returns:
            The verdict; ``Pending`` while an observation is being computed.

        Raises:
            UnknownModel: It is not in the fleet.
            Refused: There is no such trigger.
        """
        spec, state = self.spec(model), self.state(model)
        rule = self._rules[model] if trigger is None else spec.rules(self._kinds).get(trigger)
        if rule is None:
            known = ", ".join(spec.rules(self._kinds))
            raise Refused(f"there is no trigger named {trigger!r}; there are {known}")
        seen = self._gathering.look_at_idle([state], now, {model: rule})[model]
        if isinstance(seen, Trouble):
            return unknown(seen.reason)
        if isinstance(seen, Pending):
            return seen
        situation = situation_of(state, seen.champion, now)
        verdict = rule.judge(seen.observations, situation)
        if not verdict.is_yes and is_pending(rule.needs(situation), seen.observations):
            return Pending("an observation is being computed")
        return verdict

    def exhausted(self, model: str, now: datetime) -> str:
        """Which limit across models leaves a model no job today; empty when none does."""
        return self._gathering.exhausted([self.state(model)], now).get(model, "")

    # -- what people ask ----------------------------------------------------------------------------------

    def enrol(self, models: Iterable[str], now: datetime) -> None:
        """Begin the stream of every model that has none, and make it due.

        Raises:
            UnknownModel: One is not in the fleet.
        """
        for model in models:
            self.spec(model)
            state = self.state(model)
            if state.head.seq == 0:
                try:
                    self._append(state, (Draft("model.enrolled"),), None, now, now)
                except Overtaken:
                    continue  # somebody else has just done it

    def request(self, model: str, ask: Callable[[ModelState], Draft], now: datetime) -> Draft:
        """Append a person's request; needs no lease, and makes the model due.

        Args:
            model: Name of the model.
            ask: Makes the entry from the state, or refuses. Called again when the append was overtaken.
            now: When it is asked.

        Returns:
            The entry that was appended.

        Raises:
            UnknownModel: It is not in the fleet.
            Refused: The rules do not allow it now (and the other errors of ``domain.requests``).
        """
        self.enrol([model], now)
        while True:
            state = self.state(model)
            draft = ask(state)
            try:
                self._append(state, (draft,), None, now, now)
            except Overtaken:
                continue
            return draft

    # -- the loop -----------------------------------------------------------------------------------------

    def tick(self, now: datetime) -> TickReport:
        """Look at everything that is due, and send the notices that wait.

        Args:
            now: Time of the tick.

        Returns:
            What was done; ``holds_lease`` is False when other controllers hold every lease, and nothing was.

        Raises:
            Temporary: The ledger cannot be reached.
        """
        started = self._monotonic()
        tally = self._world.tally = Tally()
        claim = self.ports.agenda.claim(now, self.holder, self._lease_seconds)
        self._leases.claimed(claim)
        for model in self.fleet if self._leases.changed else ():
            if claim.epoch_of(model) is None:
                self._standing.forget(model)  # another controller speaks for it from now on
        delivered = Delivered()
        if claim.leases:
            self._turn(claim.due, claim, now)
            delivered = self._delivery.deliver(now)
        seconds = self._monotonic() - started
        report = report_of(now, seconds, claim, tally, self._standing, self._leases, delivered)
        self.ports.telemetry.report(report)
        return report

    def advance(self, model: str, now: datetime) -> bool:
        """Take one model's open job, or a person's request, as far as it goes now; open nothing by trigger.

        Args:
            model: Name of the model; looked at whether it is due or not.
            now: Time of the step.

        Returns:
            Whether this process may act; False when a controller holds the lease.
        """
        self.state(model)  # a stream that cannot be read is the caller's trouble here
        claim = self.ports.agenda.claim(now, self.holder, self._lease_seconds, model=model)
        if claim.epoch_of(model) is None:
            return False
        self._turn([model], claim, now, only_jobs=True)
        self._delivery.deliver(now)
        return True

    def _turn(self, models: Iterable[str], claim: Claim, now: datetime, only_jobs: bool = False) -> None:
        """Gather, decide, record and act, round by round, until no model has more to do now."""
        epochs = {model: epoch for model in models if (epoch := claim.epoch_of(model)) is not None}
        active = self._ours(epochs, now)
        self._acts.wait(active)
        for round_ in range(_MOST_ROUNDS):
            states = self._readable(active)
            if only_jobs:
                states = [state for state in states if phase_of(state) is not Phase.IDLE or state.start]
            if not states:
                return
            seen = self._gather(states, now, watch=round_ == 0, triggers=not only_jobs)
            active = [
                state.model
                for state in states
                if self._step_if_ours(state, seen[state.model], epochs[state.model], now)
            ]
            self._acts.wait([state.model for state in states])
        for model in active:
            with about_model(model):
                _log.error(
                    "%s did not settle within %d looks; it waits for the next tick", model, _MOST_ROUNDS
                )
            self.ports.agenda.set_next_look(model, self.state(model).head.seq, now + RETRY, epochs[model])

    def _ours(self, epochs: Mapping[str, int], now: datetime) -> list[str]:
        """Models of the fleet. One that has a stream but no settings any more rests."""
        for state in self._readable(model for model in epochs if model not in self.fleet):
            tomorrow = now + timedelta(days=1)
            self.ports.agenda.set_next_look(state.model, state.head.seq, tomorrow, epochs[state.model])
        return [model for model in epochs if model in self.fleet]

    def _readable(self, models: Iterable[str]) -> list[ModelState]:
        """States of models; one whose stream is damaged or of a newer version is left alone, and told of."""
        states = []
        for model in models:
            try:
                states.append(self.state(model))
            except Permanent as error:
                self._world.tally.errors["ledger"] += 1
                with about_model(model):
                    _log.error("%s is left alone: %s", model, error)
        return states

    def _gather(
        self, states: list[ModelState], now: datetime, watch: bool, triggers: bool
    ) -> dict[str, Seen | Pending]:
        """What each state needs; an act that goes on, or trouble that one met, is seen first."""
        met = {state.model: seen for state in states if (seen := self._acts.seen(state)) is not None}
        rest = [state for state in states if state.model not in met]
        looked = self._gathering.look(rest, now, watch, triggers)
        sure = {
            state.model: replace(found, sure=self._acts.did(state))
            for state in rest
            if isinstance(found := looked[state.model], TrafficSeen)
        }
        return {**met, **looked, **sure}

    def _step_if_ours(self, state: ModelState, seen: Seen | Pending, epoch: int, now: datetime) -> bool:
        """Make a step of one model; what is another's now, or was done already, is left alone."""
        with about(state):
            try:
                return self._step(state, seen, epoch, now)
            except LeaseLost as lost:
                _log.warning("%s is left to another controller: %s", state.model, lost)
                self._world.tally.errors["lease"] += 1
                self._leases.lost(state.model)
            except DuplicateKey as done:  # as of a slot that was answered: nothing is to be done
                _log.warning("%s", done)
                rest = timedelta(seconds=self.fleet[state.model].check_every_seconds)
                self.ports.agenda.set_next_look(state.model, state.head.seq, now + rest, epoch)
        return False

    def _step(self, state: ModelState, seen: Seen | Pending, epoch: int, now: datetime) -> bool:
        """Decide, record and act for one model; say whether to look at it again at once.

        Raises:
            LeaseLost: Another controller has the model now.
        """
        if isinstance(seen, Pending):
            self.ports.agenda.set_next_look(state.model, state.head.seq, now + POLL, epoch)
            return False
        plan = decide(self.fleet[state.model], self._rules[state.model], state, seen, now)
        if plan.verdicts is not None:
            self._note_look(state, plan, now)
        if plan.drafts and not self._record(state, plan, epoch, now):
            return True
        if plan.act is not None:
            if not plan.drafts and not self.ports.agenda.holds(state.model, epoch):
                raise LeaseLost(f"epoch {epoch} is over")  # registries know no leases: asked late
            self._acts.begin(self._states[state.model], plan.act)
        if plan.look_at is not None and not plan.drafts:
            self.ports.agenda.set_next_look(state.model, state.head.seq, plan.look_at, epoch)
        return plan.look_at is None

    def _record(self, state: ModelState, plan: Plan, epoch: int, now: datetime) -> bool:
        """Append what a plan says; False when something stood against it, so that it must be decided anew."""
        try:
            drafts = self._with_looks(state, plan.drafts, now)
            self._append(state, drafts, epoch, plan.look_at or now, now)
        except Overtaken:
            return False
        except LimitReached as reached:
            if state.open_job is not None:  # it waits for its turn; an idle model sees the limit
                self._acts.meet(state, Trouble(str(reached), temporary=True))
            return False
        return True

    def _append(
        self,
        state: ModelState,
        drafts: tuple[Draft, ...],
        epoch: int | None,
        look_at: datetime,
        now: datetime,
    ) -> None:
        entries = seal(state.model, state.head, drafts, now)
        after = self._folded(state, entries)
        batch = Append(
            state.model,
            entries,
            epoch,
            look_at,
            self._notices(state, entries),
            takes=self._rations[state.model].taken_by(drafts, now),
            settles=self._rations[state.model].settled_by(drafts, after),
            gives_back=gives_back(drafts),
            owner=owner_of(drafts),
        )
        try:
            self.ports.ledger.append(batch)
        except Overtaken:  # also when it was delivered twice, or its answer lost: then it is done
            if tuple(self.ports.ledger.read(state.model, state.head.seq))[: len(entries)] != entries:
                raise
        self._know(after)
        log_recorded(after, entries)
        self._world.tally.events.update((state.model, draft.kind) for draft in drafts)
        self._world.tally.jobs += ended_jobs(after, drafts)

    def _notices(self, state: ModelState, entries: tuple[Entry, ...]) -> tuple[Notice, ...]:
        return addressed(notices_of(state, entries), self._routes, self.fleet[state.model].owner)

    # -- looks --------------------------------------------------------------------------------------------

    def _note_look(self, state: ModelState, plan: Plan, now: datetime) -> None:
        verdicts = plan.verdicts or {}
        self._world.tally.verdicts.update(
            (name, str(verdict["answer"])) for name, verdict in verdicts.items()
        )
        look = Look(state.model, now, plain({"verdicts": verdicts, "suppressed": plan.suppressed}))
        self._world.ask("observations", lambda: self.ports.observations.record([look]))

    def _with_looks(self, state: ModelState, drafts: tuple[Draft, ...], now: datetime) -> tuple[Draft, ...]:
        """Say in a changed look how many looks there were since the last one, with their digest."""
        if not any(draft.kind == "look.changed" for draft in drafts):
            return drafts
        since = state.looked_at - timedelta(microseconds=1) if state.looked_at else None
        recent = partial(self.ports.observations.recent, state.model, since)
        looks = self._world.ask("observations", recent)
        told = since_last_change(() if isinstance(looks, Trouble) else looks, state, now)
        return tuple(
            replace(draft, data={**draft.data, **told}) if draft.kind == "look.changed" else draft
            for draft in drafts
        )
