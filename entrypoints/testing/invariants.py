"""The rules that never bend, as functions over what a world holds afterwards.

Each takes a model's ``History`` (its stream, replayed) and the ``Record`` of what took effect outside the
ledger, and raises ``AssertionError`` naming the rule that was broken. They are written against entries and
effects, not against the decisions' own code, so that they can contradict it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from ...domain.fold import fold
from ...domain.idle import champion_label
from ...domain.jobs import TRANSITIONS, RetrainingJob
from ...domain.notices import notices_of
from ...domain.schedule import count_slots
from ...domain.sealing import load, verify
from ...domain.spec import ModelSpec
from ...domain.state import ModelState
from ...ports.ledger import Entry
from ...ports.notifier import Notice
from ...ports.outbox import Outbox
from ...ports.registry import ModelVersion
from ...ports.traffic import Split


@dataclass(frozen=True)
class Step:
    """One entry, with its text read and the state on both sides of it."""

    entry: Entry
    data: Mapping[str, Any]
    before: ModelState
    after: ModelState

    @property
    def job(self) -> RetrainingJob:
        """The job it is about, as it was before."""
        return self.before.jobs[self.data["job_id"]]


@dataclass(frozen=True)
class History:
    """A model's stream, replayed entry by entry.

    Attributes:
        spec: The model's settings.
        steps: All entries, oldest first.
    """

    spec: ModelSpec
    steps: tuple[Step, ...]

    @classmethod
    def of(cls, spec: ModelSpec, entries: Sequence[Entry]) -> History:
        """Replay a stream.

        Raises:
            IllegalTransition: It moves a job against the table.
        """
        state, steps = ModelState(spec.name), []
        for entry in entries:
            after = fold(spec.name, [entry], state)
            steps.append(Step(entry, load(entry.data), state, after))
            state = after
        return cls(spec, tuple(steps))

    def of_kind(self, *kinds: str) -> Iterator[Step]:
        """Steps of these kinds, oldest first."""
        return (step for step in self.steps if step.entry.kind in kinds)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The stream itself."""
        return tuple(step.entry for step in self.steps)

    @property
    def state(self) -> ModelState:
        """What the whole stream says."""
        return self.steps[-1].after if self.steps else ModelState(self.spec.name)


@dataclass(frozen=True)
class Move:
    """The champion alias went from one version to another.

    Attributes:
        model: Name of the model.
        before: Version label it left; ``None`` for none.
        after: Version label it came to; ``None`` for none.
        ours: Whether a controller moved it, and not somebody else.
        late: Whether that controller had lost its lease by then. Registries know no leases: such a move
            cannot be prevented, and must be reported as a conflict.
    """

    model: str
    before: str | None
    after: str | None
    ours: bool
    late: bool = False


@dataclass(frozen=True)
class Scoring:
    """One call of the scorer: SHA-256 of the rows and of both predictions (``None`` without a champion)."""

    rows: str
    candidate: str
    champion: str | None


@dataclass(frozen=True)
class Share:
    """A controller changed the split of a model's traffic.

    Attributes:
        model: Name of the model.
        before: What was in force; ``None`` for nothing.
        after: What is since; ``None`` for nothing.
        late: Whether that controller had lost its lease by then, or has died: such a change cannot be
            prevented, and must be taken back.
    """

    model: str
    before: Split | None
    after: Split | None
    late: bool = False


@dataclass
class Record:
    """What took effect outside the ledger's streams.

    Attributes:
        started: How often each run was started, by key.
        moves: Moves of champion aliases, oldest first.
        notices: Notices put into the outbox, oldest first.
        delivered: How often each notice was delivered, by id.
        predicted: Artefact and snapshot digest by digest of the predictions.
        scorings: Calls of the scorer.
        shares: Changes of the traffic by controllers, oldest first.
    """

    started: Counter[str] = field(default_factory=Counter)
    moves: list[Move] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    delivered: Counter[str] = field(default_factory=Counter)
    predicted: dict[str, tuple[str, str]] = field(default_factory=dict)
    scorings: list[Scoring] = field(default_factory=list)
    shares: list[Share] = field(default_factory=list)


def check_world(histories: Sequence[History], record: Record, outbox: Outbox) -> None:
    """Check every rule.

    Raises:
        AssertionError: One is broken; names it.
    """
    for history in histories:
        one_open_job(history)
        one_promotion_a_job(history)
        moves_are_intended(history, record)
        slots_are_used_once(history)
        moves_along_the_table(history)
        only_proven_promotions(history)
        enough_people_approved(history)
        alarms_of_the_floor_alternate(history)
        same_rows(history, record)
        unknown_never_passes(history)
        withdrawn_stays_away(history)
        foreign_champions_are_respected(history)
        chain_holds(history)
        slots_are_settled_once(history)
        moves_are_accounted_for(history)
        shares_are_intended(history, record)
        canaries_come_first(history)
        canaries_are_cleared(history)
    runs_start_once(record)
    notices_arrive(histories, record, outbox)


# -- rule 1 -------------------------------------------------------------------------------------------------


def one_open_job(history: History) -> None:
    """At most one open job a model, by the entries alone."""
    is_open: set[str] = set()
    for step in history.of_kind("job.opened", "job.closed"):
        job_id = step.data["job_id"]
        if step.entry.kind == "job.closed":
            is_open.remove(job_id)
            continue
        assert not is_open, f"rule 1: job {job_id} was opened while {is_open} was open"
        is_open.add(job_id)


def one_promotion_a_job(history: History) -> None:
    """A job is promoted at most once, after it was intended, and one run of it is accepted at most."""
    seen: Counter[tuple[str, str]] = Counter()
    for step in history.of_kind("candidate.found", "job.decided", "promotion.intended", "promotion.done"):
        kind, job_id = step.entry.kind, step.data["job_id"]
        seen[kind, job_id] += 1
        assert seen[kind, job_id] == 1, f"rule 1: {kind} twice for job {job_id}"
        if kind == "promotion.done":
            assert seen["promotion.intended", job_id], f"rule 1: job {job_id} was promoted unintended"


def moves_are_intended(history: History, record: Record) -> None:
    """Every move of the alias by a controller is one that the ledger intends, and happens once.

    Somebody else may move the alias back in between; it cannot be told from a move that never happened.
    """
    intents: list[tuple[str | None, str]] = [
        (step.data["expected"], step.data.get("version", step.data.get("target"))["version"])
        for step in history.of_kind("promotion.intended", "rollback.intended")
    ]
    used: list[tuple[str | None, str | None]] = []
    for move in (move for move in record.moves if move.model == history.spec.name):
        intent = (move.before, move.after)
        assert intent in intents or not move.ours, f"rule 1: {move} was never intended"
        if not move.ours or move.late:
            used = [intent for intent in used if intent[0] != move.after]
            continue
        assert used.count(intent) < intents.count((move.before, str(move.after))), f"rule 1: {move} twice"
        used.append(intent)


def slots_are_used_once(history: History) -> None:
    """No cron slot leads to two jobs, and none after a later one, whatever the clock does."""
    last = ""
    for slot in (step.data["slot"] for step in history.of_kind("job.opened")):
        assert slot is None or slot > last, f"the slot {slot} led to a job after that of {last}"
        last = slot or last


def runs_start_once(record: Record) -> None:
    """A compute backend starts every key once, whoever asks however often."""
    twice = {key: times for key, times in record.started.items() if times > 1}
    assert not twice, f"rule 1: runs were started more than once: {twice}"


# -- rule 2 -------------------------------------------------------------------------------------------------


def moves_along_the_table(history: History) -> None:
    """A job moves only along the table; after its end only a rollback is noted on it."""
    for step in history.steps:
        for job_id, before in step.before.jobs.items():
            after = step.after.jobs[job_id]
            if after.status is not before.status:
                legal = after.status in TRANSITIONS[before.status]
                assert legal, f"rule 2: job {job_id} went from {before.status} to {after.status}"
            elif before.status.final:
                kept = replace(after, rolled_back_at=before.rolled_back_at)
                assert kept == before, f"rule 2: entry {step.entry.seq} changed the ended job {job_id}"


# -- rule 3 -------------------------------------------------------------------------------------------------


def only_proven_promotions(history: History) -> None:
    """Nothing below the floor, unvalidated, or judged on rows that it was trained on is promoted."""
    floor = max(history.spec.floor, 0.85 if history.spec.task == "classification" else 0.0)
    for step in history.of_kind("promotion.intended"):
        job, name = step.job, f"rule 3: job {step.data['job_id']}"
        assert job.validation is not None, f"{name} was not validated"
        value = job.validation.metrics[history.spec.floor_measure]
        assert value is not None, f"{name}: its measure is unknown"
        assert floor <= value <= 1.0, f"{name}: {value} is below {floor}"
        assert job.validation.rows >= history.spec.min_holdout_rows, f"{name}: too few rows"
        _check_unseen(job, name)


def _check_unseen(job: RetrainingJob, name: str) -> None:
    candidate, holdout, training = job.candidate, job.holdout, job.training
    assert candidate is not None, f"{name} has no candidate"
    assert holdout is not None, f"{name} has no holdout"
    assert training is not None, f"{name} has no training rows"
    assert candidate.data_sha256 == training.sha256, f"{name}: it was trained on other rows"
    for version in filter(None, (candidate, job.champion)):
        seen = version.trained_on
        assert seen is None or not seen.overlaps(holdout.window), f"{name}: version {version.version} saw it"
    if training.last_at and holdout.first_at:
        assert training.last_at < holdout.first_at, f"{name}: the holdout is not later than the training rows"


def enough_people_approved(history: History) -> None:
    """What waited for people serves only if as many different ones approved as it needed."""
    for step in history.of_kind("promotion.intended"):
        job = step.job
        if job.awaiting_since is None:
            continue
        people = {approval.actor for approval in job.approvals}
        assert len(people) >= job.approvals_needed, f"job {job.job_id} was approved by {people} alone"


def alarms_of_the_floor_alternate(history: History) -> None:
    """A champion below the floor is told of once, and its end only after that."""
    for step in history.of_kind("champion.below_floor", "champion.above_floor"):
        begins, goes_on = step.entry.kind == "champion.below_floor", step.before.below_floor is not None
        assert begins != goes_on, f"entry {step.entry.seq}: {step.entry.kind} out of turn"
        assert (step.data["value"] < step.data["floor"]) == begins, f"entry {step.entry.seq}: {step.data}"


# -- rule 4 -------------------------------------------------------------------------------------------------


def same_rows(history: History, record: Record) -> None:
    """Both versions are scored on the same rows, and identical ones are no improvement."""
    for step in history.of_kind("job.validated"):
        job = step.job
        assert job.holdout is not None, f"rule 4: job {job.job_id} was scored without a holdout"
        judged = (_digest(job.candidate), _digest(job.champion), job.holdout.sha256)
        assert judged in _scored(record), f"rule 4: job {job.job_id} was scored on something else"
    for step in history.of_kind("promotion.intended"):
        _check_replaced(step)


def _check_replaced(step: Step) -> None:
    job, serving = step.job, step.before.champion
    name = f"rule 4: job {job.job_id}"
    assert job.validation is not None, f"{name} was not scored"
    assert not job.validation.identical, f"{name} changes nothing"
    assert serving is None or serving.version.digest != _digest(job.candidate), f"{name} changes nothing"
    judged = job.champion.version if job.champion else None
    overridden = job.approval is not None and job.approval.override
    assert overridden or judged == champion_label(serving), (
        f"{name} was judged against version {judged}, and replaces {champion_label(serving)}"
    )


def _scored(record: Record) -> set[tuple[str | None, str | None, str]]:
    scored: set[tuple[str | None, str | None, str]] = set()
    for scoring in record.scorings:
        new, rows = record.predicted[scoring.candidate]
        old, same = record.predicted[scoring.champion] if scoring.champion else (None, rows)
        assert rows == same == scoring.rows, f"rule 4: predictions of other rows were scored: {scoring}"
        scored.add((new, old, rows))
    return scored


def _digest(version: ModelVersion | None) -> str | None:
    return version.digest if version else None


# -- rule 5 -------------------------------------------------------------------------------------------------


def unknown_never_passes(history: History) -> None:
    """No job is opened without the number that fired, and nothing promoted on an unknown verdict."""
    asked = {step.data["job_id"]: step for step in history.of_kind("request.start")}
    for step in history.of_kind("job.opened"):
        fired = step.data["job_id"] in asked or _has_fired(step.data["trigger_type"], step.data["evidence"])
        assert fired, f"rule 5: job {step.data['job_id']} was opened for no known reason: {step.data}"
    for step in history.of_kind("promotion.intended"):
        job = step.job
        assert job.validation is not None, f"rule 5: job {job.job_id} was not validated"
        assert job.validation.verdict.is_yes, f"rule 5: job {job.job_id} was promoted without a proven pass"


def _has_fired(trigger: str, evidence: Mapping[str, Any]) -> bool:
    if trigger == "performance_degradation":
        value = evidence["value"]
        return value is not None and math.isfinite(value) and value != evidence["threshold"]
    if trigger == "data_drift":
        measures = [column["psi"] for column in evidence["columns"].values()]
        return any(psi is not None and psi > evidence["threshold"] for psi in measures)
    return trigger == "custom" or "slot" in evidence


# -- rule 6 -------------------------------------------------------------------------------------------------


def withdrawn_stays_away(history: History) -> None:
    """What was rolled back does not come back without a person's override."""
    withdrawn: dict[str, str] = {}
    for step in history.of_kind(
        "rollback.intended",
        "rollback.done",
        "canary.ended",
        "request.override",
        "promotion.intended",
        "champion.adopted",
    ):
        serving = step.before.champion
        match step.entry.kind:
            case "rollback.intended":
                assert step.data["target"]["digest"] not in withdrawn, "rule 6: back to a withdrawn version"
            case "canary.ended" if step.data["withdraws"] and (tried := step.job.candidate):
                withdrawn[tried.digest] = tried.version
            case "rollback.done" if serving:
                withdrawn[serving.version.digest] = serving.version.version
            case "request.override" if step.data["what"] == "release":
                withdrawn = {d: label for d, label in withdrawn.items() if label != step.data["version"]}
            case "promotion.intended":
                _check_not_withdrawn(step, withdrawn)
            case "champion.adopted" if step.data["version"]["digest"] in withdrawn:
                assert step.before.adopt, (
                    "rule 6: a withdrawn version was adopted, and nobody had asked for it"
                )


def _check_not_withdrawn(step: Step, withdrawn: Mapping[str, str]) -> None:
    job = step.job
    if job.approval is not None and job.approval.override:
        return
    assert _digest(job.candidate) not in withdrawn, f"rule 6: job {job.job_id} brings back what was withdrawn"
    since = step.before.withdrawn_at
    assert since is None or job.holdout_window.end > since, f"rule 6: the data of job {job.job_id} is older"


def foreign_champions_are_respected(history: History) -> None:
    """A foreign champion is taken over only by policy, or as the very version that a person accepted."""
    accepted: str | None = None
    for step in history.of_kind(
        "champion.adopted", "champion.conflict", "champion.restored", "request.override"
    ):
        kind = step.entry.kind
        if kind == "request.override":
            accepted = step.data["version"] if step.data["what"] == "adopt" else accepted
            continue
        if kind == "champion.adopted":
            by_policy = step.before.champion is None or history.spec.promotion.on_conflict == "adopt"
            label = step.data["version"]["version"]
            assert by_policy or label == accepted, f"version {label} was adopted, {accepted} was accepted"
        accepted = None


# -- rule 7 -------------------------------------------------------------------------------------------------


def notices_arrive(histories: Sequence[History], record: Record, outbox: Outbox) -> None:
    """Every notice has a stable id of its own, and has arrived, waits, or is a dead letter."""
    due = [
        n for history in histories for step in history.steps for n in notices_of(step.before, [step.entry])
    ]
    assert len({notice.id for notice in due}) == len(due), "rule 7: two events share a notice's id"
    ids = Counter(notice.id for notice in record.notices)
    assert ids == Counter(notice.id for notice in due), "rule 7: the outbox got others than the ledger tells"
    far = max((notice.at for notice in due), default=None)
    if far is None:
        return
    waiting = {outgoing.notice.id for outgoing in outbox.due(far.replace(year=far.year + 100), limit=10**6)}
    dead = {outgoing.notice.id for outgoing in outbox.dead_letters()}
    lost = [n for n in due if n.id not in waiting | dead and not record.delivered[n.id]]
    assert not lost, f"rule 7: lost: {lost}"


# -- rule 8 -------------------------------------------------------------------------------------------------


def chain_holds(history: History) -> None:
    """An untouched stream has no fault."""
    fault = verify(history.spec.name, history.entries)
    assert fault is None, f"rule 8: {fault}"


def moves_are_accounted_for(history: History) -> None:
    """Every promotion and rollback says who, why, which version served before, and under which policy."""
    for step in history.of_kind("promotion.intended", "promotion.done", "rollback.intended", "rollback.done"):
        name = f"rule 8: entry {step.entry.seq} ({step.entry.kind})"
        assert step.data["who"], f"{name} names nobody"
        assert isinstance(step.data["why"], str), f"{name} gives no reason"
        assert len(step.data["policy"]) == 64, f"{name} names no policy"
        assert step.data["before"] == champion_label(step.before.champion), f"{name} names another champion"


def check_tampering(
    model: str, entries: Sequence[Entry], at: int, how: Literal["edit", "remove", "reorder"]
) -> None:
    """Damage a copy of a stream, and see that the first bad entry is named.

    Args:
        model: Name of the model.
        entries: The stream; at least two entries.
        at: Index of the entry to damage, below the last for a removal or a swap.
        how: Edit it, remove it, or swap it with the next one.

    Raises:
        AssertionError: The damage was not found, or another entry named.
    """
    damaged = list(entries)
    match how:
        case "edit":
            damaged[at] = replace(damaged[at], data=damaged[at].data + " ")
            first = damaged[at]
        case "remove":
            del damaged[at]
            first = damaged[at]
        case "reorder":
            damaged[at], damaged[at + 1] = damaged[at + 1], damaged[at]
            first = damaged[at]
    fault = verify(model, damaged)
    assert fault is not None, f"rule 8: {how} at {at} was not found"
    assert fault.seq == first.seq, f"rule 8: {how} at {at}: entry {fault.seq} was named, not {first.seq}"


# -- traffic ------------------------------------------------------------------------------------------------


def shares_are_intended(history: History, record: Record) -> None:
    """A controller gives a candidate only shares that the ledger intends, each from the one before."""
    intents = [
        (Split(**before) if (before := step.data.get("before")) else None, Split(**step.data["split"]))
        for step in history.of_kind("canary.began", "canary.step")
    ]
    for share in (share for share in record.shares if share.model == history.spec.name):
        if share.after is None or share.late:
            continue  # to take traffic back is always safe
        assert (share.before, share.after) in intents, f"traffic: {share} was never intended"


def canaries_come_first(history: History) -> None:
    """Nothing is promoted without the whole of its canary, where the model has one and a champion serves."""
    for step in history.of_kind("promotion.intended"):
        job, serving = step.job, step.before.champion
        if not history.spec.canary.steps or serving is None:
            continue
        name = f"traffic: job {job.job_id}"
        assert job.canary is not None, f"{name} was promoted without a canary"
        assert job.canary.passed, f"{name} was promoted before the end of its canary"
        for number, planned in enumerate(job.canary.plan.steps):
            _check_gone_through(
                history, job.job_id, number, timedelta(minutes=planned.minutes), planned.samples
            )


def _check_gone_through(history: History, job_id: str, number: int, least: timedelta, samples: int) -> None:
    """A step was in force for its time, since it was last put in force, with its rows in either arm."""
    name = f"traffic: step {number} of job {job_id}"
    about = [s for s in history.steps if s.data.get("job_id") == job_id and s.data.get("number") == number]
    since = [s for s in about if s.entry.kind == "canary.applied"]
    assert since, f"{name} was never in force"
    later = [s for s in history.of_kind("canary.step", "canary.passed") if s.entry.seq > since[-1].entry.seq]
    ended = next(s for s in later if s.data["job_id"] == job_id)
    lasted = datetime.fromisoformat(ended.entry.at) - datetime.fromisoformat(since[-1].entry.at)
    assert lasted >= least, f"{name} lasted for {lasted}, not {least}"
    batches = [s.data for s in about if s.entry.kind == "canary.batch" and s.entry.seq > since[-1].entry.seq]
    for arm in ("candidate", "baseline"):
        rows = sum(data[arm]["rows"] for data in batches if data["worse"] is not None)
        assert rows >= samples, f"{name} had {rows} rows of its {arm}, not {samples}"
    harm = [data["worse"] for data in batches if data["worse"] is not None]
    assert all(map(math.isfinite, harm)), f"{name} was judged by {harm}"


def canaries_are_cleared(history: History) -> None:
    """A job ends only after its split was seen to be taken back."""
    began = {step.data["job_id"] for step in history.of_kind("canary.began")}
    for step in history.of_kind("canary.cleared", "job.closed"):
        if step.entry.kind == "canary.cleared":
            began.discard(step.data["job_id"])
        else:
            assert step.data["job_id"] not in began, f"traffic: {step.data} with its split in force"


# -- time ---------------------------------------------------------------------------------------------------


def slots_are_settled_once(history: History) -> None:
    """Every cron slot since the enrolment has one job or is counted as missed, in order.

    So that none comes twice and none is forgotten, whatever the clocks did. Under the settings as they are.
    """
    trigger, settled = history.spec.trigger, None
    for step in history.of_kind("model.enrolled", "slots.missed", "job.opened"):
        data = step.data
        if step.entry.kind == "model.enrolled":
            settled = datetime.fromisoformat(step.entry.at)
            continue
        slot = data["slot"] if step.entry.kind == "job.opened" else data["last"]
        if slot is None:
            continue
        until, begin = datetime.fromisoformat(slot), datetime.fromisoformat(data.get("first", slot))
        assert settled is not None, "time: a slot before the enrolment"
        assert settled < begin, f"time: the slot of {begin} comes twice"
        number = count_slots(trigger.schedule_expression, trigger.time_zone, settled, until)
        assert number == data.get("count", 1), f"time: {number} slots up to {until}, settled by {data}"
        settled = until
