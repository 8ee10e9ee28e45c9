"""The world as the controller has it: its parts, and how questions are put to them."""

from __future__ import annotations

import logging
import traceback
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from ..ports.agenda import Agenda
from ..ports.compute import Compute
from ..ports.credentials import without_credentials
from ..ports.data import DataSource
from ..ports.drift import DriftDetector
from ..ports.errors import AutoRetrainError, LeaseLost, Overtaken, Temporary
from ..ports.inspector import Inspector
from ..ports.ledger import Ledger
from ..ports.limits import Limits
from ..ports.metrics import MetricSource
from ..ports.notifier import Notifier
from ..ports.observations import Observations
from ..ports.outbox import Outbox
from ..ports.predictor import Predictor
from ..ports.registry import ModelRegistry
from ..ports.scorer import Scorer
from ..ports.telemetry import EndedJob, Telemetry
from ..ports.tracking import ExperimentTracker
from ..ports.traffic import TrafficRouter
from ..ports.values import Pending
from .asking import Crew, InTurn, Question
from .plan import Trouble
from .state import ModelState

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

AWAITED = Pending("the answer is on its way")
"""In place of an answer that takes longer than the crew waits."""


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
    """Puts questions to the world, and counts what goes wrong.

    Args:
        ports: The world.
        crew: Puts the questions.
    """

    def __init__(self, ports: Ports, crew: Crew | None = None) -> None:
        self.ports = ports
        self.tally = Tally()
        self._crew = crew or InTurn()

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
        answer = guarded(part, question)
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
        answer: _T | Trouble | Pending = answers.get(key, AWAITED)
        return answer


def key_of(what: str, state: ModelState, *more: str) -> Hashable:
    """Identity of a question about a state, so that no answer is used for another state."""
    return (what, state.model, state.head.seq, *more)


def _answered(question: Question, keys: tuple[Hashable, ...]) -> Mapping[Hashable, Any]:
    """Answers of a question; trouble that it met is the answer to all of its keys."""
    answers = guarded(question.part, lambda: question.ask(keys))
    return {key: answers for key in keys} if isinstance(answers, Trouble) else answers  # noqa: C420


def guarded(part: str, question: Callable[[], _T]) -> _T | Trouble:
    """What a call returns, or the trouble that it meets.

    Args:
        part: The part of the world that is called.
        question: The call.

    Raises:
        Overtaken: Passed on, since they are about the ledger and not about the world.
        LeaseLost: Likewise.
    """
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
