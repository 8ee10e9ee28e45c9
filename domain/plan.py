"""What passes between looking, deciding and doing: things seen, entries to record, acts to perform."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum

from ..ports.compute import RunStatus
from ..ports.data import Snapshot
from ..ports.inspector import Inspection
from ..ports.metrics import MetricWindow
from ..ports.predictor import Effort
from ..ports.registry import ModelVersion
from ..ports.scorer import Scores
from ..ports.traffic import Split
from ..ports.values import Pending
from .canary_state import Canary
from .sealing import Draft
from .state import ModelState
from .triggers import Observations

POLL = timedelta(seconds=1)
"""How soon to look again at something that is being computed."""

RETRY = timedelta(seconds=5)
"""How soon to ask again a part of the world that was away, when it did not say itself."""


class Phase(Enum):
    """What a model's state needs next."""

    IDLE = "idle"
    DATA = "data"
    TRAINING = "training"
    VALIDATION = "validation"
    APPROVAL = "approval"
    CANARY = "canary"
    CLEARING = "clearing"
    DEPLOYMENT = "deployment"
    ROLLBACK = "rollback"


def phase_of(state: ModelState) -> Phase:
    """The phase a model is in.

    A promotion that was intended is settled before anything else, so that a rollback always knows which
    version serves; so is a canary, so that it knows who gets the traffic.
    """
    job = state.open_job
    status = job.status.value if job else ""
    if job and status == "deploying":
        return _deploying(job.canary)
    if state.rollback is not None:
        return Phase.ROLLBACK
    if job is None:
        return Phase.IDLE
    if status == "validation" and job.awaiting_until is not None:
        return Phase.APPROVAL
    return {"pending": Phase.DATA, "running": Phase.TRAINING}.get(status, Phase.VALIDATION)


def _deploying(canary: Canary | None) -> Phase:
    """A candidate is tried first, if it is, then promoted, and at last its split is cleared."""
    if canary is None:
        return Phase.DEPLOYMENT
    if canary.ending is not None:
        return Phase.CLEARING
    return Phase.DEPLOYMENT if canary.passed else Phase.CANARY


@dataclass(frozen=True, slots=True)
class Trouble:
    """A port could not answer.

    Attributes:
        reason: Why, in words.
        temporary: Whether asking again may help.
        retry_after: Seconds to wait at least; ``None`` when nobody said.
        acting: Whether it was met while acting, and not while looking.
    """

    reason: str
    temporary: bool
    retry_after: float | None = None
    acting: bool = False


@dataclass(frozen=True, slots=True)
class IdleSeen:
    """What was seen of an idle model.

    Attributes:
        champion: Who serves; ``None`` when nobody does.
        observations: What its rule asked for.
        exhausted: Which limit across models leaves no job for it; empty when none does.
        split: The split in force where the model has canaries; ``None`` for none, and where nobody can say.
    """

    champion: ModelVersion | None
    observations: Observations = field(default_factory=dict)
    exhausted: str = ""
    split: Split | None = None


@dataclass(frozen=True, slots=True)
class DataSeen:
    """The snapshots a job is made from."""

    training: Snapshot
    holdout: Snapshot


@dataclass(frozen=True, slots=True)
class RunSeen:
    """How the training run stands, and what it produced if it succeeded."""

    status: RunStatus
    candidate: ModelVersion | None = None
    log_tail: str = ""


@dataclass(frozen=True, slots=True)
class ScoresSeen:
    """Scores of both versions, or that they are still being computed.

    Attributes:
        scores: Their measures.
        inspection: What else was found in rows and predictions; ``None`` while they are computed.
        effort: What the candidate's predictions took; ``None`` when nobody measured it.
        champion_effort: What the champion's took.
        unscored: Why the champion cannot predict these rows; empty when it does, and without one.
    """

    scores: Scores | Pending
    inspection: Inspection | None = None
    effort: Effort | None = None
    champion_effort: Effort | None = None
    unscored: str = ""


@dataclass(frozen=True, slots=True)
class ChampionSeen:
    """Which version the alias points at."""

    champion: ModelVersion | None


@dataclass(frozen=True, slots=True)
class TrafficSeen:
    """What a model's requests are under, and what both arms of a canary got.

    Attributes:
        split: What is in force; ``None`` when all go to the champion.
        foreign: What somebody else put there that is no split, in words; empty when nobody did.
        batches: Candidate's and champion's arm over each batch that is due, oldest first.
        unread: Why the arms could not be read; empty when they were.
        sure: Whether what the state calls for was done by this process, and not only seen.
    """

    split: Split | None
    foreign: str = ""
    batches: tuple[tuple[MetricWindow, MetricWindow], ...] = ()
    unread: str = ""
    sure: bool = False

    @property
    def text(self) -> str:
        """What is in force, in words."""
        return self.foreign or ("no split" if self.split is None else str(self.split))


@dataclass(frozen=True, slots=True)
class NothingSeen:
    """A phase in which only people and the clock matter."""


@dataclass(frozen=True, slots=True)
class WatchSeen:
    """The next batch of a watch, seen when it has something to record; in place of what the phase needs."""

    answers: Observations = field(default_factory=dict)


Seen = (
    IdleSeen
    | DataSeen
    | RunSeen
    | ScoresSeen
    | ChampionSeen
    | TrafficSeen
    | WatchSeen
    | NothingSeen
    | Trouble
)


@dataclass(frozen=True, slots=True)
class SubmitTraining:
    """Start the current training attempt of the open job."""

    job_id: str


@dataclass(frozen=True, slots=True)
class CancelRun:
    """End a run."""

    key: str


@dataclass(frozen=True, slots=True)
class SetChampion:
    """Move the alias."""

    version: ModelVersion
    expected: str | None


@dataclass(frozen=True, slots=True)
class ApplySplit:
    """Give a candidate its share of the traffic."""

    split: Split
    expected: Split | None


@dataclass(frozen=True, slots=True)
class ClearSplit:
    """Send all requests to the champion."""

    expected: Split


Act = SubmitTraining | CancelRun | SetChampion | ApplySplit | ClearSplit


@dataclass(frozen=True, slots=True)
class Plan:
    """What follows from a look.

    Attributes:
        drafts: What to record, before anything is done.
        act: What to do then; idempotent, since a crash may repeat it.
        look_at: When to look again; ``None`` looks again at once.
        verdicts: Verdicts of a completed look, for the rolling record; ``None`` when there was none.
        suppressed: Why that look did nothing though its rule said yes.
    """

    drafts: tuple[Draft, ...] = ()
    act: Act | None = None
    look_at: datetime | None = None
    verdicts: Mapping[str, Mapping[str, object]] | None = None
    suppressed: str = ""
