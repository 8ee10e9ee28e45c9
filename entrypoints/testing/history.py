"""What a world holds afterwards: each model's stream, replayed, and what took effect outside the ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...domain.fold import fold
from ...domain.jobs import RetrainingJob
from ...domain.sealing import load
from ...domain.spec import ModelSpec
from ...domain.state import ModelState
from ...ports.ledger import Entry
from ...ports.notifier import Notice
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
