"""What the controller does in the world: begun once it is recorded, and awaited side by side."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from ..ports.compute import RunRequest
from ..ports.data import Snapshot
from ..ports.errors import ChampionMoved, SplitMoved
from ..ports.registry import ModelVersion
from ..ports.tracking import TrainingContext
from ..ports.traffic import Split
from ..ports.values import Pending
from .asking import Question
from .jobs import RetrainingJob
from .log_context import about
from .plan import Act, ApplySplit, CancelRun, ClearSplit, SetChampion, SubmitTraining, Trouble
from .sealing import canonical
from .spec import ModelSpec
from .state import ModelState
from .world import Ports, router_of

_log = logging.getLogger(__name__)

Put = Callable[[Sequence[Question]], Mapping[Hashable, Any]]
"""``World.put``."""


class Acts:
    """Acts of the models, each under a key that makes doing it twice doing it once.

    An act's outcome is never taken from its call: the next look reads it from the world. Only the trouble
    that it met is kept, for the state that it was begun in.

    Args:
        ports: The world.
        fleet: Settings by model name.
        put: Puts acts side by side, and waits as long as the crew does.
    """

    def __init__(self, ports: Ports, fleet: Mapping[str, ModelSpec], put: Put) -> None:
        self._ports = ports
        self._fleet = fleet
        self._put = put
        self._going: dict[str, tuple[int, Question]] = {}  # with the head of the stream it belongs to
        self._trouble: dict[str, tuple[int, Trouble]] = {}
        self._done: dict[str, int] = {}  # the head of the stream that the last act belonged to

    def begin(self, state: ModelState, act: Act) -> None:
        """Take an act on; it is put with the next ``wait``."""
        do: Callable[[], object]
        match act:
            case SubmitTraining(job_id):
                part, do = "compute", partial(self._submit, state.jobs[job_id])
            case CancelRun(run):
                part, do = "compute", partial(self._ports.compute.cancel, run)
            case SetChampion(version, expected):
                part, do = "registry", partial(self._set_champion, version, expected)
            case ApplySplit(split, before):
                part, do = "traffic", partial(self._apply, split, before)
            case ClearSplit(split):
                part, do = "traffic", partial(self._clear, split)
        key = ("act", state.model, state.head.seq)

        def ask(keys: tuple[Hashable, ...]) -> Mapping[Hashable, object]:
            with about(state):
                return {key: do()}

        self._going[state.model] = (state.head.seq, Question(part, (key,), ask))

    def wait(self, models: Iterable[str]) -> None:
        """Let the acts of these models go on, and see which have ended."""
        going = {model: self._going[model] for model in models if model in self._going}
        answers = self._put([act for _, act in going.values()])
        for model, (head, act) in going.items():
            [key] = act.keys
            if key in answers:
                del self._going[model]
                if isinstance(answers[key], Trouble):
                    self._trouble[model] = (head, replace(answers[key], acting=True))
                elif answers[key] is not False:
                    self._done[model] = head

    def meet(self, state: ModelState, trouble: Trouble) -> None:
        """Keep trouble that stands in the way of what a state calls for."""
        self._trouble[state.model] = (state.head.seq, trouble)

    def seen(self, state: ModelState) -> Pending | Trouble | None:
        """What is to be seen before the world is looked at.

        Returns:
            ``Pending`` while an act of the model goes on; the trouble that one met, once; ``None`` when there
            is neither, or somebody has gone on since.
        """
        seq, trouble = self._trouble.pop(state.model, (0, None))
        if state.model in self._going:
            return Pending("an act goes on")
        return trouble if seq == state.head.seq else None

    def did(self, state: ModelState) -> bool:
        """Whether this process did what the state called for: what is seen may be half of it otherwise."""
        return self._done.get(state.model) == state.head.seq

    def _apply(self, split: Split, expected: Split | None) -> bool:
        return _unless_moved(lambda: router_of(self._ports).apply(split, expected))

    def _clear(self, split: Split) -> bool:
        return _unless_moved(lambda: router_of(self._ports).clear(split.model, split))

    def _set_champion(self, version: ModelVersion, expected: str | None) -> None:
        try:
            self._ports.registry.set_champion(version, expected)
        except ChampionMoved as moved:
            _log.warning("%s", moved)  # the next look sees where the alias is, and decides

    def _submit(self, job: RetrainingJob) -> None:
        spec, data = self._fleet[job.model_name].training, job.training
        assert data is not None  # noqa: S101  (run.intended recorded it)
        champion = job.champion.version if job.champion else None
        context = TrainingContext(job.model_name, job.job_id, job.attempt, job.parameters, data, champion)
        tracked = self._ports.tracker.open_run(context)
        run = RunRequest(
            key=job.run_key,
            command=spec.command,
            environment={**tracked, **training_environment(job, data)},
            directory=spec.directory,
            deadline_seconds=spec.deadline_seconds,
            labels={"model": job.model_name, "job": job.job_id, "attempt": str(job.attempt)},
        )
        self._ports.compute.submit(run)


def _unless_moved(change: Callable[[], None]) -> bool:
    """Whether the traffic was changed; where somebody else did, the next look sees it, and decides."""
    try:
        change()
    except SplitMoved as moved:
        _log.warning("%s", moved)
        return False
    return True


def training_environment(job: RetrainingJob, data: Snapshot) -> dict[str, str]:
    """The training contract: what a training command finds in its environment, beside the tracked run."""
    return {
        "AUTORETRAIN_MODEL_NAME": job.model_name,
        "AUTORETRAIN_JOB_ID": job.job_id,
        "AUTORETRAIN_ATTEMPT": str(job.attempt),
        "AUTORETRAIN_TRAINING_CONFIG": canonical(job.parameters),
        "AUTORETRAIN_DATA": data.uri,
        "AUTORETRAIN_DATA_SHA256": data.sha256,
        "AUTORETRAIN_LABEL": data.label or "",
        "AUTORETRAIN_TIME": data.time,
        "AUTORETRAIN_FEATURES": canonical(data.features),
    }
