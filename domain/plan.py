"""What passes between looking, deciding and doing: things seen, entries to record, acts to perform."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum

from ..ports.compute import RunStatus
from ..ports.data import Snapshot
from ..ports.inspector import Inspection
from ..ports.predictor import Effort
from ..ports.registry import ModelVersion
from ..ports.scorer import Scores
from ..ports.values import Pending
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
    DEPLOYMENT = "deployment"
    ROLLBACK = "rollback"


def phase_of(state: ModelState) -> Phase:
    """The phase a model is in.

    A promotion that was intended is settled before anything else, so that a rollback always knows which
    version serves.
    """
    job = state.open_job
    status = job.status.value if job else ""
    if status == "deploying":
        return Phase.DEPLOYMENT
    if state.rollback is not None:
        return Phase.ROLLBACK
    if job is None:
        return Phase.IDLE
    if status == "validation" and job.awaiting_until is not None:
        return Phase.APPROVAL
    return {"pending": Phase.DATA, "running": Phase.TRAINING}.get(status, Phase.VALIDATION)


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
    """

    champion: ModelVersion | None
    observations: Observations = field(default_factory=dict)
    exhausted: str = ""


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
    """

    scores: Scores | Pending
    inspection: Inspection | None = None
    effort: Effort | None = None
    champion_effort: Effort | None = None


@dataclass(frozen=True, slots=True)
class ChampionSeen:
    """Which version the alias points at."""

    champion: ModelVersion | None


@dataclass(frozen=True, slots=True)
class NothingSeen:
    """A phase in which only people and the clock matter."""


@dataclass(frozen=True, slots=True)
class WatchSeen:
    """The next batch of a watch, seen when it has something to record; in place of what the phase needs."""

    answers: Observations = field(default_factory=dict)


Seen = IdleSeen | DataSeen | RunSeen | ScoresSeen | ChampionSeen | WatchSeen | NothingSeen | Trouble


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


Act = SubmitTraining | CancelRun | SetChampion


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
